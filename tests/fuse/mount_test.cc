// The mount's life, its errors, interruption, and the kernel's caches.
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <thread>

#include "fuse/mountpoint.h"
#include "tests/fuse/mounted_test.h"

namespace cairn::fuse {
namespace {

using MountTest = MountedTest;
using cairn::testing::FakeClient;

constexpr int64_t kAMinute = 60 * kNanosPerSecond;

std::string Attribute(const std::string& path, const char* name) {
  char text[512];
  const ssize_t size = getxattr(path.c_str(), name, text, sizeof text);
  return size < 0 ? std::string() : std::string(text, static_cast<size_t>(size));
}

// Runs `body` in a child process; returns its pid.
template <typename Function>
pid_t InChild(Function body) {
  const pid_t pid = fork();
  if (pid == 0) _exit(body());
  return pid;
}

TEST_F(MountTest, TheMountTableNamesTheCluster) {
  const auto info = FindMount(mountpoint_);
  ASSERT_TRUE(info.has_value());
  EXPECT_EQ(info->type, kMountType);
  EXPECT_EQ(info->source, "cairn://localhost:1");
  EXPECT_EQ(*ProbeMount(mountpoint_, 5000), MountState::kAlive);
}

TEST_F(MountTest, AFailedCloseReachesTheProgramAndTheFileNamesTheReason) {
  const int fd = open(Path("file").c_str(), O_WRONLY | O_CREAT, 0644);
  ASSERT_GE(fd, 0);
  ASSERT_EQ(write(fd, "x", 1), 1);
  cluster_->Fail("flush", {StatusCode::kNoQuorum, "write refused: 1 of 2 confirmations (cs3 timed out)"});
  EXPECT_EQ(close(fd), -1);
  EXPECT_EQ(errno, EIO);
  EXPECT_EQ(Attribute(Path("file"), "user.cairn.error"),
            "close: no_quorum: write refused: 1 of 2 confirmations (cs3 timed out)");
}

TEST_F(MountTest, AFailedUnlinkLeavesTheFileAndItsReason) {
  WriteFile("file", "x");
  cluster_->Fail("unlink", {StatusCode::kNoQuorum, "delete refused: cs1 and cs2 did not confirm"});
  EXPECT_EQ(unlink(Path("file").c_str()), -1);
  EXPECT_EQ(errno, EIO);
  EXPECT_EQ(ReadFile("file"), "x");
  EXPECT_NE(Attribute(Path("file"), "user.cairn.error").find("cs1 and cs2"), std::string::npos);
}

TEST_F(MountTest, AFailedWriteAndFsyncReachTheProgram) {
  const int fd = open(Path("file").c_str(), O_WRONLY | O_CREAT, 0644);
  ASSERT_GE(fd, 0);
  cluster_->Fail("write", {StatusCode::kNoSpace, "full"});
  EXPECT_EQ(write(fd, "x", 1), -1);
  EXPECT_EQ(errno, ENOSPC);
  cluster_->Fail("fsync", {StatusCode::kIoError, "disk"});
  EXPECT_EQ(fsync(fd), -1);
  EXPECT_EQ(errno, EIO);
  EXPECT_EQ(fsync(fd), 0);
  EXPECT_EQ(Attribute(Path("file"), "user.cairn.error"), "");
  close(fd);
}

TEST_F(MountTest, ABlockedProcessCanBeKilled) {
  WriteFile("file", "content");
  cluster_->Hold("read");
  const std::string path = Path("file");
  const pid_t pid = InChild([&path] {
    char byte = 0;
    const int fd = open(path.c_str(), O_RDONLY | O_DIRECT);
    return read(fd, &byte, 1) == 1 ? 0 : 1;
  });
  cluster_->AwaitHeld("read");
  ASSERT_EQ(kill(pid, SIGKILL), 0);
  int status = 0;
  ASSERT_EQ(waitpid(pid, &status, 0), pid);  // would hang if the wait were not given up
  EXPECT_TRUE(WIFSIGNALED(status));
  cluster_->Release("read");
}

TEST_F(MountTest, ASignalThatIsHandledInterruptsNothing) {
  WriteFile("file", "content");
  cluster_->Hold("read");
  const std::string path = Path("file");
  const pid_t pid = InChild([&path] {
    struct sigaction action {};
    action.sa_handler = [](int) {};
    sigaction(SIGUSR2, &action, nullptr);
    char byte = 0;
    const int fd = open(path.c_str(), O_RDONLY | O_DIRECT);
    return read(fd, &byte, 1) == 1 && byte == 'c' ? 0 : errno;
  });
  cluster_->AwaitHeld("read");
  ASSERT_EQ(kill(pid, SIGUSR2), 0);
  cluster_->Release("read");
  int status = 0;
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST_F(MountTest, BlockedOperationsDoNotStarveOthers) {
  WriteFile("file", "content");
  WriteFile("other", "x");
  cluster_->Hold("read");
  std::vector<std::thread> blocked;
  for (int i = 0; i < 40; ++i) {
    blocked.emplace_back([this] {
      char byte = 0;
      const int fd = open(Path("file").c_str(), O_RDONLY | O_DIRECT);
      EXPECT_EQ(read(fd, &byte, 1), 1);
      close(fd);
    });
  }
  cluster_->AwaitHeld("read");
  WriteFile("other", "written meanwhile");
  struct stat info {};
  EXPECT_EQ(stat(Path("other").c_str(), &info), 0);
  EXPECT_EQ(info.st_size, 17);
  cluster_->Release("read");
  for (std::thread& thread : blocked) thread.join();
}

// A lock that somebody waits for is granted by another thread than the one that took the request. There are more waiters than the
// mount has threads, and half of them are killed.
TEST_F(MountTest, WaitersForALockHoldUpNobody) {
  MountWith("threads=4");
  WriteFile("file", "content");
  const std::string path = Path("file");
  const int holder = open(path.c_str(), O_RDONLY);
  ASSERT_EQ(flock(holder, LOCK_EX), 0);
  std::vector<pid_t> waiters;
  for (int i = 0; i < 40; ++i) {
    waiters.push_back(InChild([&path] {
      const int fd = open(path.c_str(), O_RDONLY);
      return flock(fd, LOCK_EX) == 0 ? 0 : errno;
    }));
  }
  while (client_->WaitingLocks() < waiters.size()) std::this_thread::yield();
  WriteFile("other", "written meanwhile");
  EXPECT_EQ(ReadFile("other"), "written meanwhile");
  for (size_t i = 0; i < waiters.size(); i += 2) {
    ASSERT_EQ(kill(waiters[i], SIGKILL), 0);
    int status = 0;
    ASSERT_EQ(waitpid(waiters[i], &status, 0), waiters[i]);
    EXPECT_TRUE(WIFSIGNALED(status));
  }
  EXPECT_EQ(flock(holder, LOCK_UN), 0);
  for (size_t i = 1; i < waiters.size(); i += 2) {
    int status = 0;
    ASSERT_EQ(waitpid(waiters[i], &status, 0), waiters[i]);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  }
  close(holder);
}

// Two programs, or two threads of a database, that write past the page cache into one file.
TEST_F(MountTest, DirectWritersOfOneFileDoNotTakeTurns) {
  WriteFile("file", std::string(4 * 4096, 'a'));
  const int cached = open(Path("file").c_str(), O_RDONLY);
  std::string got(4096, '\0');
  ASSERT_EQ(pread(cached, got.data(), got.size(), 4096), 4096);  // its page is in the kernel's cache now
  close(cached);
  const int fd = open(Path("file").c_str(), O_WRONLY | O_DIRECT);
  ASSERT_GE(fd, 0);
  cluster_->Hold("write");
  std::vector<std::thread> writers;
  for (int i = 0; i < 2; ++i) {
    writers.emplace_back([fd, i] {
      alignas(4096) char block[4096];
      std::memset(block, 'b' + i, sizeof block);
      EXPECT_EQ(pwrite(fd, block, sizeof block, (i + 1) * 4096), 4096);
    });
  }
  EXPECT_TRUE(cluster_->AwaitHeldTogether("write", 2)) << "the second writer waited for the first";
  cluster_->Release("write");
  for (std::thread& writer : writers) writer.join();
  close(fd);
  EXPECT_TRUE(ReadFile("file") ==
              std::string(4096, 'a') + std::string(4096, 'b') + std::string(4096, 'c') + std::string(4096, 'a'));
}

TEST_F(MountTest, CachedNamesAndAttributesGoWhenTheLeaseGoes) {
  if (!cache_.name_timeouts()) GTEST_SKIP() << "this kernel cannot drop all names at once";
  cluster_->valid_ns = cluster_->negative_ns = kAMinute;
  FakeClient other(cluster_);
  EXPECT_NE(access(Path("new").c_str(), F_OK), 0);
  const int lookups = cluster_->Calls("lookup");
  EXPECT_NE(access(Path("new").c_str(), F_OK), 0);
  EXPECT_EQ(cluster_->Calls("lookup"), lookups) << "the kernel did not cache that the name is absent";
  const auto made = other.Mknod({}, kRootInode, "new", client::FileType::kRegular, 0644, 0);
  ASSERT_TRUE(made.ok());
  cache_.InvalidateNames(kRootInode);
  EXPECT_EQ(access(Path("new").c_str(), F_OK), 0);

  struct stat info {};
  ASSERT_EQ(stat(Path("new").c_str(), &info), 0);
  const int calls = cluster_->Calls("lookup") + cluster_->Calls("getattr");
  ASSERT_EQ(stat(Path("new").c_str(), &info), 0);
  EXPECT_EQ(cluster_->Calls("lookup") + cluster_->Calls("getattr"), calls) << "attributes were not cached";
  client::SetAttributes change;
  change.size = 777;
  ASSERT_TRUE(other.SetAttr({}, made->attr.inode, change).ok());
  cache_.InvalidateInode(made->attr.inode, true);
  ASSERT_EQ(stat(Path("new").c_str(), &info), 0);
  EXPECT_EQ(info.st_size, 777);
}

TEST_F(MountTest, CachedPagesGoWhenTheLeaseGoes) {
  cluster_->valid_ns = kAMinute;
  WriteFile("file", "old");
  const int fd = open(Path("file").c_str(), O_RDONLY);
  ASSERT_GE(fd, 0);
  char got[4] = "";
  ASSERT_EQ(pread(fd, got, 3, 0), 3);
  FakeClient other(cluster_);
  const auto entry = other.Lookup({}, kRootInode, "file");
  const auto handle = other.Open({}, entry->attr.inode, {.write = true});
  ASSERT_TRUE(other.Write(*handle, 0, std::as_bytes(std::span<const char>("new", 3))).ok());
  const int reads = cluster_->Calls("read");
  ASSERT_EQ(pread(fd, got, 3, 0), 3);
  EXPECT_EQ(cluster_->Calls("read"), reads) << "the page was not cached";
  cache_.InvalidateInode(entry->attr.inode, true);
  ASSERT_EQ(pread(fd, got, 3, 0), 3);
  EXPECT_STREQ(got, "new");
  close(fd);
}

// Two directories' locks would be taken crosswise by notifications that drop single names; see
// kernel_cache.h.
TEST_F(MountTest, NamesAreInvalidatedWhileTheirDirectoryIsLocked) {
  cluster_->valid_ns = kAMinute;
  cluster_->Hold("mkdir");
  std::thread maker([this] { EXPECT_EQ(mkdir(Path("dir").c_str(), 0755), 0); });
  cluster_->AwaitHeld("mkdir");  // the kernel holds the lock of the parent directory now
  cache_.InvalidateNames(kRootInode);
  cache_.InvalidateInode(kRootInode, true);
  cluster_->Release("mkdir");
  maker.join();
}

TEST_F(MountTest, UncachedNamesAreLookedUpEachTime) {
  MountWith("names=uncached");
  cluster_->valid_ns = cluster_->negative_ns = kAMinute;
  EXPECT_NE(access(Path("new").c_str(), F_OK), 0);
  FakeClient other(cluster_);
  ASSERT_TRUE(other.Mknod({}, kRootInode, "new", client::FileType::kRegular, 0644, 0).ok());
  EXPECT_EQ(access(Path("new").c_str(), F_OK), 0);
}

TEST_F(MountTest, StopSyncsAndDetachesAMountInUse) {
  const int fd = open(Path("file").c_str(), O_WRONLY | O_CREAT, 0644);
  ASSERT_GE(fd, 0);
  ASSERT_EQ(write(fd, "x", 1), 1);
  mount_->Stop();
  EXPECT_GE(cluster_->Calls("sync_all"), 1);
  EXPECT_FALSE(FindMount(mountpoint_).has_value());
  EXPECT_EQ(write(fd, "x", 1), -1);
  EXPECT_EQ(errno, ENOTCONN);
  close(fd);
}

TEST_F(MountTest, AnUnmountFromOutsideEndsTheSession) {
  ASSERT_TRUE(fuse::Unmount(mountpoint_, {}).ok());
  while (ended_.load() == 0) std::this_thread::yield();  // ctest's time limit is the guard
  EXPECT_EQ(*ProbeMount(mountpoint_, 5000), MountState::kNotMounted);
}

TEST_F(MountTest, ASecondMountAtTheSamePlaceIsRefused) {
  KernelCache cache;
  FileSystem fs(*client_, cache, {}, SystemClock::Get());
  MountOptions options;
  options.mountpoint = mountpoint_;
  ASSERT_TRUE(ParseSource("localhost:2", options).ok());
  const auto second = MountSession::Mount(fs, cache, options, nullptr);
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.code(), StatusCode::kBusy);
}

TEST_F(MountTest, ADeadMountIsRecognisedAndTakenAway) {
  Unmount();
  // A process that mounts and is killed leaves a dead mount behind.
  const std::string path = mountpoint_;
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t pid = fork();
  if (pid == 0) {
    const auto cluster = std::make_shared<cairn::testing::FakeCluster>();
    FakeClient client(cluster);
    KernelCache cache;
    FileSystem fs(client, cache, {}, SystemClock::Get());
    MountOptions options;
    options.mountpoint = path;
    if (!ParseSource("localhost:1", options).ok()) _exit(1);
    const auto mount = MountSession::Mount(fs, cache, options, nullptr);
    if (!mount.ok() || write(ready[1], "r", 1) != 1) _exit(1);
    pause();
    _exit(0);
  }
  close(ready[1]);
  char byte = 0;
  ASSERT_EQ(read(ready[0], &byte, 1), 1);
  close(ready[0]);
  kill(pid, SIGKILL);
  waitpid(pid, nullptr, 0);
  EXPECT_EQ(*ProbeMount(path, 5000), MountState::kDead);
  EXPECT_TRUE(CleanUpDeadMount(path).ok());
  EXPECT_EQ(*ProbeMount(path, 5000), MountState::kNotMounted);
}

}  // namespace
}  // namespace cairn::fuse
