// Which lock requests have to look for shared mappings of the caller, and what they find.
#include "fuse/shared_mappings.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <thread>

namespace cairn::fuse {
namespace {

class MappedFile {
 public:
  MappedFile() {
    char name[] = "/var/tmp/cairn-mapped-XXXXXX";
    fd_ = mkstemp(name);
    unlink(name);
    EXPECT_EQ(ftruncate(fd_, 8192), 0);
    struct stat info {};
    fstat(fd_, &info);
    device = fmt::format("{}:{}", major(info.st_dev), minor(info.st_dev));
    inode = info.st_ino;
  }
  ~MappedFile() { close(fd_); }
  void* Map(int protection, int flags) { return mmap(nullptr, 8192, protection, flags, fd_, 0); }

  std::string device;
  uint64_t inode = 0;

 private:
  int fd_ = -1;
};

// What the kernel is asked for and what its text says are the same.
TEST(SharedMappingsTest, OnlyAWritableSharedMappingOfTheFileCounts) {
  MappedFile file, other;
  const auto found = [&](const MappedFile& of) {
    const Mapped asked = LookForSharedMapping(gettid(), of.device, of.inode);
    EXPECT_EQ(asked, LookInMapsText(gettid(), of.device, of.inode));
    return asked;
  };
  EXPECT_EQ(found(file), Mapped::kNo);
  void* const private_one = file.Map(PROT_READ | PROT_WRITE, MAP_PRIVATE);
  void* const readable = file.Map(PROT_READ, MAP_SHARED);
  EXPECT_EQ(found(file), Mapped::kNo);
  void* const of_other = other.Map(PROT_READ | PROT_WRITE, MAP_SHARED);
  EXPECT_EQ(found(file), Mapped::kNo);
  EXPECT_EQ(found(other), Mapped::kYes);
  void* const writable = file.Map(PROT_READ | PROT_WRITE, MAP_SHARED);
  EXPECT_EQ(found(file), Mapped::kYes) << "also behind one of another file";
  EXPECT_EQ(found(other), Mapped::kYes);
  for (void* map : {private_one, readable, of_other, writable}) munmap(map, 8192);
  EXPECT_EQ(found(file), Mapped::kNo);
  EXPECT_EQ(LookForSharedMapping(0, file.device, file.inode), Mapped::kUnknown)
      << "there is no process 0 to look into";
  EXPECT_EQ(LookForSharedMapping(gettid(), "", file.inode), Mapped::kUnknown);
}

// Counts what was done before a lock: without a device known every look finds "unknown", so pages are dropped
// in another thread.
TEST(SharedMappingsTest, NobodyIsLookedIntoWhileNobodyCanMapTheFile) {
  KernelCache cache;
  SharedMappings mappings(cache);
  const InodeId file(7);
  const auto at_once = [&](InodeId inode) {
    bool now = false;
    bool done = false;
    std::mutex mu;
    std::condition_variable changed;
    const auto caller = std::this_thread::get_id();
    mappings.Before(inode, inode.value(), gettid(), [&] {
      std::lock_guard lock(mu);
      now = std::this_thread::get_id() == caller;
      done = true;
      changed.notify_all();
    });
    std::unique_lock lock(mu);
    changed.wait(lock, [&] { return done; });
    return now;
  };
  EXPECT_TRUE(at_once(file));
  mappings.Opened(file, 1);
  mappings.Opened(file, 2);
  EXPECT_FALSE(at_once(file));
  EXPECT_TRUE(at_once(InodeId(8)));
  mappings.Released(1);
  mappings.Released(1);  // of which nothing is known any more
  EXPECT_FALSE(at_once(file));
  mappings.Released(2);
  EXPECT_TRUE(at_once(file));
}

}  // namespace
}  // namespace cairn::fuse
