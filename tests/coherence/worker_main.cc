// A process that does what a test tells it, line by line: file operations and locks on a mount, each answered
// with one line
// ("ok ...", or "err N" with the errno). It is this process, not the test, that holds files open and locks,
// and that is killed.
//
//   open NAME PATH FLAGS      r, w, c(reate), x, t(runcate), a(ppend)
//   close NAME
//   lock NAME r|w|u START LENGTH try|wait posix|ofd
//   flock NAME sh|ex|un try|wait
//   getlk NAME r|w START LENGTH        "ok free", or "ok TYPE START LENGTH PID"
//   read NAME OFFSET LENGTH / write NAME OFFSET TEXT / append NAME TEXT / size NAME / fsync NAME
//   stat PATH                 "ok SIZE", or err
//   rename FROM TO / unlink PATH / create PATH (O_EXCL)
//   map NAME LENGTH / peek OFFSET LENGTH / poke OFFSET TEXT / msync / unmap
//   mkdir, rmdir, chmod, truncate, symlink, setxattr, getxattr, statfs, ls, each with a PATH
//   alarm MS                  a handled signal, without SA_RESTART
//   fork                      "ok PID" of a child that shares everything and sleeps
//   pid
#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/time.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <iostream>
#include <map>
#include <sstream>
#include <string>

namespace {

std::map<std::string, int> files;
char* mapping = nullptr;
size_t mapped = 0;

void OnAlarm(int) {}

std::string Error() { return "err " + std::to_string(errno); }
std::string Outcome(bool ok) { return ok ? "ok" : Error(); }

std::string Open(std::istringstream& in) {
  std::string name, path, letters;
  in >> name >> path >> letters;
  const auto has = [&](char letter) { return letters.find(letter) != std::string::npos; };
  int flags = O_CLOEXEC | (has('r') && has('w') ? O_RDWR : has('w') ? O_WRONLY : O_RDONLY);
  flags |= (has('c') ? O_CREAT : 0) | (has('x') ? O_CREAT | O_EXCL : 0) | (has('t') ? O_TRUNC : 0) |
           (has('a') ? O_APPEND : 0);
  const int fd = open(path.c_str(), flags, 0666);
  if (fd < 0) return Error();
  files[name] = fd;
  return "ok";
}

std::string Lock(std::istringstream& in) {
  std::string name, type, how, kind;
  struct flock lock {};
  in >> name >> type >> lock.l_start >> lock.l_len >> how >> kind;
  lock.l_type = type == "w" ? F_WRLCK : type == "r" ? F_RDLCK : F_UNLCK;
  lock.l_whence = SEEK_SET;
  const bool wait = how == "wait";
  const int command = kind == "ofd" ? (wait ? F_OFD_SETLKW : F_OFD_SETLK) : (wait ? F_SETLKW : F_SETLK);
  return Outcome(fcntl(files[name], command, &lock) == 0);
}

std::string GetLock(std::istringstream& in) {
  std::string name, type;
  struct flock lock {};
  in >> name >> type >> lock.l_start >> lock.l_len;
  lock.l_type = type == "w" ? F_WRLCK : F_RDLCK;
  lock.l_whence = SEEK_SET;
  if (fcntl(files[name], F_GETLK, &lock) != 0) return Error();
  if (lock.l_type == F_UNLCK) return "ok free";
  std::ostringstream out;
  out << "ok " << (lock.l_type == F_WRLCK ? "w" : "r") << " " << lock.l_start << " " << lock.l_len << " "
      << lock.l_pid;
  return out.str();
}

std::string Flock(std::istringstream& in) {
  std::string name, type, how;
  in >> name >> type >> how;
  const int operation = type == "ex" ? LOCK_EX : type == "sh" ? LOCK_SH : LOCK_UN;
  return Outcome(flock(files[name], operation | (how == "try" ? LOCK_NB : 0)) == 0);
}

std::string Rest(std::istringstream& in) {
  std::string text;
  in.get();
  std::getline(in, text);
  return text;
}

std::string Handle(const std::string& line) {
  std::istringstream in(line);
  std::string command, name;
  in >> command;
  if (command == "open") return Open(in);
  if (command == "lock") return Lock(in);
  if (command == "flock") return Flock(in);
  if (command == "getlk") return GetLock(in);
  if (command == "pid") return "ok " + std::to_string(getpid());
  if (command == "alarm") {
    int64_t ms = 0;
    in >> ms;
    struct sigaction action {};
    action.sa_handler = OnAlarm;
    sigaction(SIGALRM, &action, nullptr);
    itimerval timer{};
    timer.it_value = {ms / 1000, ms % 1000 * 1000};
    return Outcome(setitimer(ITIMER_REAL, &timer, nullptr) == 0);
  }
  if (command == "fork") {
    const pid_t child = fork();
    if (child == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      while (true) pause();
    }
    return child < 0 ? Error() : "ok " + std::to_string(child);
  }
  if (command == "stat") {
    in >> name;
    struct stat info {};
    return stat(name.c_str(), &info) == 0 ? "ok " + std::to_string(info.st_size) : Error();
  }
  if (command == "rename") {
    std::string to;
    in >> name >> to;
    return Outcome(rename(name.c_str(), to.c_str()) == 0);
  }
  if (command == "mkdir" || command == "rmdir" || command == "statfs" || command == "truncate" ||
      command == "setxattr" || command == "chmod" || command == "ls" || command == "getxattr" ||
      command == "symlink") {
    in >> name;
    if (command == "mkdir") return Outcome(mkdir(name.c_str(), 0777) == 0);
    if (command == "rmdir") return Outcome(rmdir(name.c_str()) == 0);
    if (command == "chmod") return Outcome(chmod(name.c_str(), 0640) == 0);
    if (command == "truncate") return Outcome(truncate(name.c_str(), 3) == 0);
    if (command == "symlink") return Outcome(symlink("target", name.c_str()) == 0);
    if (command == "setxattr") return Outcome(setxattr(name.c_str(), "user.a", "b", 1, 0) == 0);
    char value[16];
    if (command == "getxattr") return Outcome(getxattr(name.c_str(), "user.a", value, sizeof value) >= 0);
    struct statvfs space {};
    if (command == "statfs") return Outcome(statvfs(name.c_str(), &space) == 0);
    DIR* directory = opendir(name.c_str());
    if (directory == nullptr) return Error();
    int entries = 0;
    while (readdir(directory) != nullptr) ++entries;
    closedir(directory);
    return "ok " + std::to_string(entries);
  }
  if (command == "unlink" || command == "create") {
    in >> name;
    if (command == "unlink") return Outcome(unlink(name.c_str()) == 0);
    const int fd = open(name.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0666);
    if (fd < 0) return Error();
    close(fd);
    return "ok";
  }
  if (command == "peek" || command == "poke") {
    size_t offset = 0;
    in >> offset;
    if (command == "peek") {
      size_t length = 0;
      in >> length;
      return "ok " + std::string(mapping + offset, length);
    }
    const std::string text = Rest(in);
    std::memcpy(mapping + offset, text.data(), text.size());
    return "ok";
  }
  if (command == "msync") return Outcome(msync(mapping, mapped, MS_SYNC) == 0);
  if (command == "unmap") return Outcome(munmap(mapping, mapped) == 0);
  in >> name;
  const int fd = files.contains(name) ? files[name] : -1;
  if (command == "close") {
    files.erase(name);
    return Outcome(close(fd) == 0);
  }
  if (command == "map") {
    in >> mapped;
    void* at = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED) return Error();
    mapping = static_cast<char*>(at);
    return "ok";
  }
  if (command == "read") {
    off_t offset = 0;
    size_t length = 0;
    in >> offset >> length;
    std::string data(length, '\0');
    const ssize_t got = pread(fd, data.data(), length, offset);
    return got < 0 ? Error() : "ok " + data.substr(0, static_cast<size_t>(got));
  }
  if (command == "write" || command == "append") {
    off_t offset = 0;
    if (command == "write") in >> offset;
    std::string text = Rest(in);
    if (command == "append") text += '\n';
    const ssize_t put = command == "append" ? write(fd, text.data(), text.size())
                                            : pwrite(fd, text.data(), text.size(), offset);
    return Outcome(put == static_cast<ssize_t>(text.size()));
  }
  if (command == "size") {
    struct stat info {};
    return fstat(fd, &info) == 0 ? "ok " + std::to_string(info.st_size) : Error();
  }
  if (command == "fsync") return Outcome(fsync(fd) == 0);
  return "err 0 unknown command " + command;
}

}  // namespace

int main() {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  std::string line;
  while (std::getline(std::cin, line)) std::cout << Handle(line) << std::endl;
}
