// flock(2) and fcntl(2) locks between the processes and open files of one machine: who excludes whom, and every error. What
// several mounts do to each other: tests/coherence.
#include <sys/file.h>
#include <sys/wait.h>

#include <csignal>
#include <cstdlib>

#include "tests/posix/posix_test.h"

namespace cairn::posix {
namespace {

struct flock Range(short type, off_t start, off_t length, short whence = SEEK_SET) {
  struct flock lock {};
  lock.l_type = type;
  lock.l_whence = whence;
  lock.l_start = start;
  lock.l_len = length;
  return lock;
}

class LockTest : public PosixTest {
 protected:
  int Set(int fd, short type, off_t start, off_t length, int command = F_SETLK) {
    struct flock lock = Range(type, start, length);
    return fcntl(fd, command, &lock);
  }
  // The errno of a lock in another process, 0 when it got it (and gave it back by ending).
  int InAnotherProcess(const std::function<int()>& lock) {
    const pid_t pid = fork();
    if (pid == 0) _exit(lock() == 0 ? 0 : errno);
    int status = -1;
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
  // Of a record lock by another process.
  int Probe(const std::string& name, short type, off_t start, off_t length) {
    const std::string path = P(name);
    return InAnotherProcess([&] {
      const int fd = open(path.c_str(), O_RDWR);
      return fd < 0 ? -1 : Set(fd, type, start, length);
    });
  }
  // Runs `wait`, which waits, in a process that a signal interrupts; its errno.
  int Interrupted(const std::function<int()>& wait) {
    return InAnotherProcess([&] {
      struct sigaction action {};
      action.sa_handler = [](int) {};
      sigaction(SIGALRM, &action, nullptr);
      // Again and again: one may come before it waits.
      const itimerval timer = {{0, 50'000}, {0, 200'000}};
      setitimer(ITIMER_REAL, &timer, nullptr);
      return wait();
    });
  }
};

TEST_F(LockTest, WriteLocksExcludeAndReadLocksShare) {
  MakeFile("f", "0123456789");
  const int fd = Open("f", O_RDWR);
  OK(Set(fd, F_WRLCK, 2, 3));
  IS(EAGAIN, Probe("f", F_WRLCK, 0, 3));
  IS(EAGAIN, Probe("f", F_RDLCK, 4, 1));
  IS(0, Probe("f", F_WRLCK, 5, 0));
  IS(0, Probe("f", F_WRLCK, 0, 2));
  OK(Set(fd, F_RDLCK, 2, 3));  // lowered
  IS(0, Probe("f", F_RDLCK, 0, 0));
  IS(EAGAIN, Probe("f", F_WRLCK, 0, 0));
  OK(Set(fd, F_UNLCK, 3, 1));  // a hole in the middle
  IS(0, Probe("f", F_WRLCK, 3, 1));
  IS(EAGAIN, Probe("f", F_WRLCK, 2, 1));
  IS(EAGAIN, Probe("f", F_WRLCK, 4, 1));
  OK(Set(fd, F_UNLCK, 0, 0));
  IS(0, Probe("f", F_WRLCK, 0, 0));
}

TEST_F(LockTest, WhoHoldsALockIsTold) {
  MakeFile("f", "0123456789");
  const int fd = Open("f", O_RDWR);
  OK(Set(fd, F_WRLCK, 2, 3));
  const pid_t holder = getpid();
  const std::string path = P("f");
  IS(0, InAnotherProcess([&] {
       const int other = open(path.c_str(), O_RDWR);
       struct flock lock = Range(F_RDLCK, 0, 0);
       if (fcntl(other, F_GETLK, &lock) != 0) return -1;
       errno = ERANGE;
       return lock.l_type == F_WRLCK && lock.l_start == 2 && lock.l_len == 3 && lock.l_pid == holder ? 0 : -1;
     }));
  struct flock own = Range(F_WRLCK, 0, 0);
  OK(fcntl(fd, F_GETLK, &own));
  IS(F_UNLCK, own.l_type);  // one's own are in nobody's way
}

TEST_F(LockTest, RangesAreTakenFromAnyPlace) {
  MakeFile("f", "0123456789");
  const int fd = Open("f", O_RDWR);
  struct flock before_end = Range(F_WRLCK, -4, 2, SEEK_END);
  OK(fcntl(fd, F_SETLK, &before_end));
  IS(EAGAIN, Probe("f", F_WRLCK, 7, 1));
  IS(0, Probe("f", F_WRLCK, 8, 1));
  OK(Set(fd, F_UNLCK, 0, 0));
  OK(lseek(fd, 5, SEEK_SET));
  struct flock backwards = Range(F_WRLCK, 0, -2, SEEK_CUR);
  OK(fcntl(fd, F_SETLK, &backwards));
  IS(EAGAIN, Probe("f", F_WRLCK, 3, 2));
  IS(0, Probe("f", F_WRLCK, 5, 1));
  OK(Set(fd, F_UNLCK, 0, 0));
  // To the largest offset, and behind it.
  OK(Set(fd, F_WRLCK, INT64_MAX, 1));
  IS(EAGAIN, Probe("f", F_WRLCK, 0, 0));
  IS(0, Probe("f", F_WRLCK, 0, INT64_MAX));
  FAILS(EOVERFLOW, Set(fd, F_WRLCK, INT64_MAX, 2));
}

TEST_F(LockTest, ErrorsOfRecordLocks) {
  MakeFile("f");
  const int fd = Open("f", O_RDWR);
  FAILS(EBADF, Set(Open("f", O_RDONLY), F_WRLCK, 0, 0));
  FAILS(EBADF, Set(Open("f", O_WRONLY), F_RDLCK, 0, 0));
  FAILS(EBADF, Set(-1, F_RDLCK, 0, 0));
  FAILS(EINVAL, Set(fd, 77, 0, 0));
  FAILS(EINVAL, Set(fd, F_RDLCK, -1, 1));
  FAILS(EINVAL, Set(fd, F_RDLCK, 1, -2));
  struct flock whence = Range(F_RDLCK, 0, 0, 77);
  FAILS(EINVAL, fcntl(fd, F_SETLK, &whence));
  FAILS(EFAULT, fcntl(fd, F_SETLK, BadAddress()));
  struct flock pid = Range(F_RDLCK, 0, 0);
  pid.l_pid = 1;
  FAILS(EINVAL, fcntl(fd, F_OFD_SETLK, &pid));
}

TEST_F(LockTest, AWaitInACircleIsEDEADLK) {
  MakeFile("f", "0123456789");
  const int fd = Open("f", O_RDWR);
  OK(Set(fd, F_WRLCK, 0, 1));
  int pipes[2];
  OK(pipe(pipes));
  const std::string path = P("f");
  const pid_t other = fork();
  if (other == 0) {
    const int its = open(path.c_str(), O_RDWR);
    if (its < 0 || Set(its, F_WRLCK, 1, 1) != 0 || write(pipes[1], "x", 1) != 1) _exit(1);
    _exit(Set(its, F_WRLCK, 0, 1, F_SETLKW) == 0 ? 0 : errno);  // waits for this process
  }
  char byte;
  IS(1, read(pipes[0], &byte, 1));
  // Either of the two that make the circle is refused; whoever asks last.
  const bool got = Set(fd, F_WRLCK, 1, 1, F_SETLKW) == 0;
  if (!got) IS(EDEADLK, errno);
  OK(Set(fd, F_UNLCK, 0, 0));
  int status = -1;
  IS(other, waitpid(other, &status, 0));
  IS(got ? EDEADLK : 0, WEXITSTATUS(status));
  close(pipes[0]);
  close(pipes[1]);
}

TEST_F(LockTest, ASignalEndsAWaitWithEINTR) {
  MakeFile("f");
  const int fd = Open("f", O_RDWR);
  const std::string path = P("f");
  OK(Set(fd, F_WRLCK, 0, 0));
  IS(EINTR, Interrupted([&] { return Set(open(path.c_str(), O_RDWR), F_WRLCK, 0, 0, F_SETLKW); }));
  IS(EINTR, Interrupted([&] { return Set(open(path.c_str(), O_RDWR), F_WRLCK, 0, 0, F_OFD_SETLKW); }));
  OK(Set(fd, F_UNLCK, 0, 0));
  OK(flock(fd, LOCK_EX));
  IS(EINTR, Interrupted([&] { return flock(open(path.c_str(), O_RDWR), LOCK_EX); }));
}

TEST_F(LockTest, AnyCloseOfTheFileReleasesRecordLocksAndForkPassesNoneOn) {
  MakeFile("f");
  const int fd = Open("f", O_RDWR);
  OK(Set(fd, F_WRLCK, 0, 0));
  IS(EAGAIN, InAnotherProcess([&] { return Set(fd, F_WRLCK, 0, 0); }));
  close(open(P("f"), O_RDONLY));
  IS(0, Probe("f", F_WRLCK, 0, 0));
}

TEST_F(LockTest, OpenFileDescriptionLocksBelongToTheOpenFile) {
  MakeFile("f");
  const int fd = Open("f", O_RDWR);
  const int other = Open("f", O_RDWR);
  OK(Set(fd, F_WRLCK, 0, 4, F_OFD_SETLK));
  FAILS(EAGAIN, Set(other, F_RDLCK, 3, 1, F_OFD_SETLK));
  FAILS(EAGAIN, Set(other, F_WRLCK, 0, 0));  // and a record lock of the same process
  OK(Set(other, F_WRLCK, 4, 1, F_OFD_SETLK));
  struct flock lock = Range(F_RDLCK, 0, 0);
  OK(fcntl(other, F_OFD_GETLK, &lock));
  IS(F_WRLCK, lock.l_type);
  IS(-1, lock.l_pid);
  close(open(P("f"), O_RDONLY));
  FAILS(EAGAIN, Set(other, F_RDLCK, 3, 1, F_OFD_SETLK));
  IS(0, InAnotherProcess([&] { return Set(fd, F_WRLCK, 0, 4, F_OFD_SETLK); }));  // the same open file
}

TEST_F(LockTest, FlockBelongsToTheOpenFile) {
  MakeFile("f");
  const int fd = Open("f", O_RDONLY);  // any mode will do
  const int other = Open("f", O_WRONLY);
  OK(flock(fd, LOCK_SH));
  OK(flock(other, LOCK_SH | LOCK_NB));
  FAILS(EWOULDBLOCK, flock(fd, LOCK_EX | LOCK_NB));
  OK(flock(other, LOCK_UN));
  OK(flock(fd, LOCK_EX | LOCK_NB));
  FAILS(EWOULDBLOCK, flock(other, LOCK_SH | LOCK_NB));
  IS(0, InAnotherProcess([&] { return flock(fd, LOCK_EX | LOCK_NB); }));
  const int copy = dup(fd);
  OK(flock(copy, LOCK_UN));
  OK(flock(other, LOCK_EX | LOCK_NB));
  close(copy);
  // flock and record locks have nothing to do with each other.
  OK(Set(other, F_WRLCK, 0, 0));
  FAILS(EINVAL, flock(fd, 0));
  FAILS(EINVAL, flock(fd, LOCK_SH | LOCK_EX));
  FAILS(EBADF, flock(-1, LOCK_SH));
}

TEST_F(LockTest, FlockOfADirectory) {
  OK(mkdir(P("d"), 0755));
  const int fd = Open("d", O_RDONLY | O_DIRECTORY);
  const int other = Open("d", O_RDONLY | O_DIRECTORY);
  OK(flock(fd, LOCK_EX));
  FAILS(EWOULDBLOCK, flock(other, LOCK_SH | LOCK_NB));
  OK(flock(fd, LOCK_UN));
  OK(flock(other, LOCK_SH | LOCK_NB));
}

}  // namespace
}  // namespace cairn::posix
