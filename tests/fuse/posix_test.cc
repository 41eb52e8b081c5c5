// What programs see of a mounted file system, through the real kernel.
#include <dirent.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <map>
#include <random>
#include <set>

#include "tests/fuse/mounted_test.h"

namespace cairn::fuse {
namespace {

using PosixTest = MountedTest;

std::string RandomBytes(size_t size, unsigned seed) {
  std::mt19937 random(seed);
  std::string text(size, '\0');
  for (char& c : text) c = static_cast<char>(random());
  return text;
}

TEST_F(PosixTest, WhatIsWrittenIsReadBack) {
  const std::string content = RandomBytes(5'000'123, 1);
  WriteFile("file", content);
  EXPECT_TRUE(ReadFile("file") == content);
  struct stat info {};
  ASSERT_EQ(stat(Path("file").c_str(), &info), 0);
  EXPECT_EQ(static_cast<size_t>(info.st_size), content.size());
  EXPECT_TRUE(S_ISREG(info.st_mode));
  EXPECT_EQ(info.st_nlink, 1U);
  EXPECT_EQ(info.st_uid, getuid());
}

TEST_F(PosixTest, UnalignedReadsAndWritesHitTheirRange) {
  std::string expected = RandomBytes(300'000, 2);
  WriteFile("file", expected);
  const int fd = open(Path("file").c_str(), O_RDWR);
  ASSERT_GE(fd, 0);
  const std::string patch = RandomBytes(70'001, 3);
  ASSERT_EQ(pwrite(fd, patch.data(), patch.size(), 12'345), static_cast<ssize_t>(patch.size()));
  expected.replace(12'345, patch.size(), patch);
  std::string got(100'000, '\0');
  ASSERT_EQ(pread(fd, got.data(), got.size(), 4'097), static_cast<ssize_t>(got.size()));
  EXPECT_TRUE(got == expected.substr(4'097, 100'000));
  EXPECT_EQ(pread(fd, got.data(), got.size(), 299'990), 10);
  EXPECT_EQ(pread(fd, got.data(), got.size(), 300'000), 0);
  close(fd);
  EXPECT_TRUE(ReadFile("file") == expected);
}

// The kernel asks for security.capability before each write (the client answers without the master); nothing else may be added.
TEST_F(PosixTest, ARowOfWritesAsksForNoNamesOrAttributes) {
  const int fd = open(Path("file").c_str(), O_RDWR | O_CREAT, 0644);
  ASSERT_GE(fd, 0);
  const std::string block(4096, 'x');
  ASSERT_EQ(write(fd, block.data(), block.size()), 4096);
  const int before = cluster_->Calls("getattr") + cluster_->Calls("lookup");
  const int xattrs = cluster_->Calls("getxattr");
  for (int i = 0; i < 100; ++i) ASSERT_EQ(write(fd, block.data(), block.size()), 4096);
  EXPECT_EQ(cluster_->Calls("write"), 101);
  EXPECT_EQ(cluster_->Calls("getattr") + cluster_->Calls("lookup"), before);
  EXPECT_LE(cluster_->Calls("getxattr") - xattrs, 100);
  close(fd);
}

TEST_F(PosixTest, AHoleReadsAsZerosAndTakesNoSpace) {
  const int fd = open(Path("sparse").c_str(), O_RDWR | O_CREAT, 0644);
  ASSERT_GE(fd, 0);
  ASSERT_EQ(pwrite(fd, "end", 3, 1 << 20), 3);
  std::string got(4096, 'x');
  ASSERT_EQ(pread(fd, got.data(), got.size(), 0), 4096);
  EXPECT_EQ(got, std::string(4096, '\0'));
  close(fd);
  struct stat info {};
  ASSERT_EQ(stat(Path("sparse").c_str(), &info), 0);
  EXPECT_EQ(info.st_size, (1 << 20) + 3);
  EXPECT_EQ(info.st_blocks, 8);
}

TEST_F(PosixTest, AppendGoesToTheEndWhateverTheOffset) {
  WriteFile("log", "one");
  const int fd = open(Path("log").c_str(), O_WRONLY | O_APPEND);
  ASSERT_GE(fd, 0);
  ASSERT_EQ(lseek(fd, 0, SEEK_SET), 0);
  ASSERT_EQ(write(fd, "two", 3), 3);
  // Another session appends behind the kernel's back: the kernel's idea of the end is old, the client's is
  // not.
  const auto other = std::make_unique<cairn::testing::FakeClient>(cluster_);
  const auto entry = other->Lookup({}, kRootInode, "log");
  ASSERT_TRUE(entry.ok());
  const auto handle = other->Open({}, entry->attr.inode, {.write = true, .append = true});
  ASSERT_TRUE(handle.ok());
  ASSERT_TRUE(other->Write(*handle, 0, std::as_bytes(std::span<const char>("three", 5))).ok());
  ASSERT_TRUE(other->Close(*handle).ok());
  ASSERT_EQ(write(fd, "four", 4), 4);
  close(fd);
  EXPECT_EQ(ReadFile("log"), "onetwothreefour");
}

// The kernel puts what is appended into its pages where it believes the end to be.
TEST_F(PosixTest, WhatIsAppendedBehindAnotherSessionIsReadWhereItIs) {
  for (const int mode : {O_WRONLY, O_RDWR}) {
    const std::string name = "log" + std::to_string(mode);
    WriteFile(name, std::string(4096, 'a'));
    const int fd = open(Path(name).c_str(), mode | O_APPEND);
    const int reader = open(Path(name).c_str(), O_RDONLY);
    ASSERT_GE(fd, 0);
    ASSERT_GE(reader, 0);
    const auto other = std::make_unique<cairn::testing::FakeClient>(cluster_);
    const auto entry = other->Lookup({}, kRootInode, name);
    ASSERT_TRUE(entry.ok());
    const auto handle = other->Open({}, entry->attr.inode, {.write = true, .append = true});
    ASSERT_TRUE(handle.ok());
    const std::string theirs(4096, 'b');
    ASSERT_TRUE(other->Write(*handle, 0, std::as_bytes(std::span(theirs))).ok());
    ASSERT_TRUE(other->Close(*handle).ok());
    ASSERT_EQ(write(fd, std::string(4096, 'c').data(), 4096), 4096);
    std::string got(3 * 4096, 'x');
    EXPECT_EQ(pread(reader, got.data(), got.size(), 0), static_cast<ssize_t>(got.size()));
    EXPECT_TRUE(got == std::string(4096, 'a') + theirs + std::string(4096, 'c')) << name;
    close(fd);
    close(reader);
  }
}

// fcntl(F_SETFL) is not told, but every write carries the flags as they are.
TEST_F(PosixTest, AppendingMayBeSwitchedOnAndOffWhileOpen) {
  WriteFile("log", "one");
  const int fd = open(Path("log").c_str(), O_WRONLY);
  const int appending = open(Path("log").c_str(), O_WRONLY | O_APPEND);
  ASSERT_GE(fd, 0);
  ASSERT_GE(appending, 0);
  const auto other = std::make_unique<cairn::testing::FakeClient>(cluster_);
  const auto entry = other->Lookup({}, kRootInode, "log");
  const auto handle = other->Open({}, entry->attr.inode, {.write = true, .append = true});
  ASSERT_TRUE(handle.ok());
  ASSERT_TRUE(other->Write(*handle, 0, std::as_bytes(std::span<const char>("two", 3))).ok());
  ASSERT_EQ(fcntl(fd, F_SETFL, O_APPEND), 0);
  ASSERT_EQ(write(fd, "three", 5), 5);
  ASSERT_EQ(fcntl(appending, F_SETFL, 0), 0);
  ASSERT_EQ(pwrite(appending, "O", 1, 0), 1);
  std::string got(100, '\0');
  const auto reader = other->Open({}, entry->attr.inode, {});
  got.resize(*other->Read(*reader, 0, std::as_writable_bytes(std::span(got))));
  EXPECT_EQ(got, "Onetwothree");
  close(fd);
  close(appending);
}

TEST_F(PosixTest, ExclusiveCreateRefusesAnExistingName) {
  WriteFile("file", "x");
  EXPECT_LT(open(Path("file").c_str(), O_WRONLY | O_CREAT | O_EXCL, 0644), 0);
  EXPECT_EQ(errno, EEXIST);
}

TEST_F(PosixTest, TruncateShrinksAndGrows) {
  WriteFile("file", std::string(10'000, 'a'));
  ASSERT_EQ(truncate(Path("file").c_str(), 5'000), 0);
  ASSERT_EQ(truncate(Path("file").c_str(), 9'000), 0);
  EXPECT_EQ(ReadFile("file"), std::string(5'000, 'a') + std::string(4'000, '\0'));
  const int fd = open(Path("file").c_str(), O_WRONLY | O_TRUNC);
  ASSERT_GE(fd, 0);
  close(fd);
  EXPECT_EQ(ReadFile("file"), "");
}

TEST_F(PosixTest, AHandleMayWriteAndTruncateAReadOnlyFileItCreated) {
  const int fd = open(Path("file").c_str(), O_RDWR | O_CREAT | O_EXCL, 0444);
  ASSERT_GE(fd, 0);
  EXPECT_EQ(write(fd, "hello", 5), 5);
  EXPECT_EQ(ftruncate(fd, 2), 0);
  close(fd);
  EXPECT_EQ(ReadFile("file"), "he");
}

TEST_F(PosixTest, AnUnlinkedFileLivesUntilItsLastClose) {
  WriteFile("file", "content");
  const size_t before = cluster_->inodes();
  const int fd = open(Path("file").c_str(), O_RDONLY);
  ASSERT_GE(fd, 0);
  ASSERT_EQ(unlink(Path("file").c_str()), 0);
  EXPECT_NE(access(Path("file").c_str(), F_OK), 0);
  EXPECT_EQ(cluster_->inodes(), before);
  char got[8] = "";
  EXPECT_EQ(read(fd, got, 7), 7);
  EXPECT_STREQ(got, "content");
  struct stat info {};
  ASSERT_EQ(fstat(fd, &info), 0);
  EXPECT_EQ(info.st_nlink, 0U);
  close(fd);
  Unmount();  // the release is asynchronous; after the unmount it has arrived
  EXPECT_EQ(cluster_->inodes(), before - 1);
}

TEST_F(PosixTest, RenameReplacesExchangesAndRefuses) {
  WriteFile("a", "A");
  WriteFile("b", "B");
  ASSERT_EQ(renameat2(AT_FDCWD, Path("a").c_str(), AT_FDCWD, Path("b").c_str(), RENAME_NOREPLACE), -1);
  EXPECT_EQ(errno, EEXIST);
  ASSERT_EQ(renameat2(AT_FDCWD, Path("a").c_str(), AT_FDCWD, Path("b").c_str(), RENAME_EXCHANGE), 0);
  EXPECT_EQ(ReadFile("a"), "B");
  EXPECT_EQ(ReadFile("b"), "A");
  ASSERT_EQ(mkdir(Path("dir").c_str(), 0755), 0);
  ASSERT_EQ(rename(Path("a").c_str(), Path("dir/c").c_str()), 0);
  ASSERT_EQ(rename(Path("b").c_str(), Path("dir/c").c_str()), 0);
  EXPECT_EQ(ReadFile("dir/c"), "A");
  EXPECT_NE(access(Path("b").c_str(), F_OK), 0);
  EXPECT_EQ(rename(Path("dir").c_str(), Path("dir/sub").c_str()), -1);
  EXPECT_EQ(errno, EINVAL);
}

TEST_F(PosixTest, DirectoriesAreMadeListedAndRemoved) {
  ASSERT_EQ(mkdir(Path("dir").c_str(), 0750), 0);
  struct stat info {};
  ASSERT_EQ(stat(Path("dir").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode, S_IFDIR | 0750U);
  EXPECT_EQ(info.st_nlink, 2U);
  WriteFile("dir/file", "x");
  EXPECT_EQ(rmdir(Path("dir").c_str()), -1);
  EXPECT_EQ(errno, ENOTEMPTY);
  EXPECT_EQ(unlink(Path("dir").c_str()), -1);
  EXPECT_EQ(errno, EISDIR);
  ASSERT_EQ(unlink(Path("dir/file").c_str()), 0);
  EXPECT_EQ(rmdir(Path("dir").c_str()), 0);
  EXPECT_EQ(rmdir(Path("dir").c_str()), -1);
  EXPECT_EQ(errno, ENOENT);
}

TEST_F(PosixTest, ALargeDirectoryListsEveryNameOnceAndCanBeSought) {
  ASSERT_EQ(mkdir(Path("dir").c_str(), 0755), 0);
  constexpr int kFiles = 3000;
  std::set<std::string> expected{".", ".."};
  const auto directory = client_->Lookup({}, kRootInode, "dir");
  for (int i = 0; i < kFiles; ++i) {
    const std::string name = "file-with-a-longer-name-" + std::to_string(i);
    ASSERT_TRUE(client_->Mknod({}, directory->attr.inode, name, client::FileType::kRegular, 0644, 0).ok());
    expected.insert(name);
  }
  DIR* dir = opendir(Path("dir").c_str());
  ASSERT_NE(dir, nullptr);
  std::multiset<std::string> seen;
  std::map<std::string, long> position_after;
  std::string previous;
  while (const dirent* entry = readdir(dir)) {
    seen.insert(entry->d_name);
    position_after[entry->d_name] = telldir(dir);
    if (entry->d_name == std::string("file-with-a-longer-name-1500")) previous = entry->d_name;
  }
  EXPECT_EQ(seen.size(), expected.size());
  EXPECT_TRUE(std::equal(seen.begin(), seen.end(), expected.begin(), expected.end()));
  seekdir(dir, position_after.at(previous));
  const dirent* next = readdir(dir);
  ASSERT_NE(next, nullptr);
  EXPECT_STREQ(next->d_name, "file-with-a-longer-name-1501");
  rewinddir(dir);
  next = readdir(dir);
  ASSERT_NE(next, nullptr);
  EXPECT_STREQ(next->d_name, ".");
  closedir(dir);
  size_t regular = 0;
  for (const auto& entry : std::filesystem::directory_iterator(Path("dir")))
    regular += entry.is_regular_file() ? 1 : 0;
  EXPECT_EQ(regular, static_cast<size_t>(kFiles));
}

TEST_F(PosixTest, AListingWithoutAttributesStillShowsEveryName) {
  cluster_->attributes_in_listings = false;
  WriteFile("file", "content");
  uintmax_t size = 0;
  for (const auto& entry : std::filesystem::directory_iterator(mountpoint_)) size += entry.file_size();
  EXPECT_EQ(size, 7U);
}

TEST_F(PosixTest, LinksAndSymbolicLinks) {
  WriteFile("file", "x");
  ASSERT_EQ(link(Path("file").c_str(), Path("hard").c_str()), 0);
  struct stat one {
  }, two{};
  ASSERT_EQ(stat(Path("file").c_str(), &one), 0);
  ASSERT_EQ(stat(Path("hard").c_str(), &two), 0);
  EXPECT_EQ(one.st_ino, two.st_ino);
  EXPECT_EQ(one.st_nlink, 2U);
  const std::string target = "some/where/\xff odd name";
  ASSERT_EQ(symlink(target.c_str(), Path("soft").c_str()), 0);
  char got[256] = "";
  ASSERT_EQ(readlink(Path("soft").c_str(), got, sizeof got), static_cast<ssize_t>(target.size()));
  EXPECT_EQ(std::string(got), target);
  ASSERT_EQ(symlink("file", Path("to-file").c_str()), 0);
  EXPECT_EQ(ReadFile("to-file"), "x");
}

TEST_F(PosixTest, ModesOwnersTimesAndSpecialFiles) {
  WriteFile("file", "x");
  ASSERT_EQ(chmod(Path("file").c_str(), 0640), 0);
  const timespec times[2] = {{.tv_sec = 1'000'000'001, .tv_nsec = 123'456'789},
                             {.tv_sec = -5, .tv_nsec = 987'654'321}};
  ASSERT_EQ(utimensat(AT_FDCWD, Path("file").c_str(), times, 0), 0);
  struct stat info {};
  ASSERT_EQ(stat(Path("file").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0640U);
  EXPECT_EQ(info.st_atim.tv_sec, 1'000'000'001);
  EXPECT_EQ(info.st_atim.tv_nsec, 123'456'789);
  EXPECT_EQ(info.st_mtim.tv_sec, -5);
  EXPECT_EQ(info.st_mtim.tv_nsec, 987'654'321);
  ASSERT_EQ(mkfifo(Path("fifo").c_str(), 0600), 0);
  ASSERT_EQ(stat(Path("fifo").c_str(), &info), 0);
  EXPECT_TRUE(S_ISFIFO(info.st_mode));
  if (getuid() == 0) {
    ASSERT_EQ(chown(Path("file").c_str(), 1234, 5678), 0);
    ASSERT_EQ(stat(Path("file").c_str(), &info), 0);
    EXPECT_EQ(info.st_uid, 1234U);
    EXPECT_EQ(info.st_gid, 5678U);
  }
}

TEST_F(PosixTest, ExtendedAttributes) {
  WriteFile("file", "x");
  const std::string path = Path("file");
  ASSERT_EQ(setxattr(path.c_str(), "user.one", "value", 5, XATTR_CREATE), 0);
  EXPECT_EQ(setxattr(path.c_str(), "user.one", "again", 5, XATTR_CREATE), -1);
  EXPECT_EQ(errno, EEXIST);
  EXPECT_EQ(getxattr(path.c_str(), "user.one", nullptr, 0), 5);
  char got[16] = "";
  EXPECT_EQ(getxattr(path.c_str(), "user.one", got, 2), -1);
  EXPECT_EQ(errno, ERANGE);
  EXPECT_EQ(getxattr(path.c_str(), "user.one", got, sizeof got), 5);
  EXPECT_STREQ(got, "value");
  ASSERT_EQ(setxattr(path.c_str(), "user.two", "", 0, 0), 0);
  char list[64];
  EXPECT_EQ(std::string(list, static_cast<size_t>(listxattr(path.c_str(), list, sizeof list))),
            std::string("user.one\0user.two\0", 18));
  ASSERT_EQ(removexattr(path.c_str(), "user.one"), 0);
  EXPECT_EQ(getxattr(path.c_str(), "user.one", got, sizeof got), -1);
  EXPECT_EQ(errno, ENODATA);
}

TEST_F(PosixTest, FallocatePunchesZeroesAndGrows) {
  WriteFile("file", std::string(20'000, 'a'));
  const int fd = open(Path("file").c_str(), O_RDWR);
  ASSERT_GE(fd, 0);
  ASSERT_EQ(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4'000, 10'000), 0);
  ASSERT_EQ(fallocate(fd, 0, 0, 30'000), 0);
  ASSERT_EQ(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 50'000), 0);
  ASSERT_EQ(fallocate(fd, FALLOC_FL_ZERO_RANGE, 29'000, 2'000), 0);
  EXPECT_EQ(fallocate(fd, FALLOC_FL_COLLAPSE_RANGE, 0, 4096), -1);
  EXPECT_EQ(errno, EOPNOTSUPP);
  close(fd);
  EXPECT_TRUE(ReadFile("file") == std::string(4'000, 'a') + std::string(10'000, '\0') +
                                      std::string(6'000, 'a') + std::string(11'000, '\0'));
}

TEST_F(PosixTest, ASharedMappingIsWrittenBack) {
  WriteFile("file", std::string(8192, 'a'));
  const int fd = open(Path("file").c_str(), O_RDWR);
  ASSERT_GE(fd, 0);
  void* memory = mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  ASSERT_NE(memory, MAP_FAILED);
  static_cast<char*>(memory)[5000] = 'b';
  ASSERT_EQ(msync(memory, 8192, MS_SYNC), 0);
  munmap(memory, 8192);
  close(fd);
  std::string expected(8192, 'a');
  expected[5000] = 'b';
  EXPECT_TRUE(ReadFile("file") == expected);
}

TEST_F(PosixTest, CopyFileRangeAndSeekDataFallBack) {
  const std::string content = RandomBytes(100'000, 4);
  WriteFile("from", content);
  const int from = open(Path("from").c_str(), O_RDONLY);
  const int to = open(Path("to").c_str(), O_WRONLY | O_CREAT, 0644);
  ASSERT_GE(from, 0);
  ASSERT_GE(to, 0);
  size_t left = content.size();
  while (left > 0) {
    const ssize_t copied = copy_file_range(from, nullptr, to, nullptr, left, 0);
    ASSERT_GT(copied, 0);
    left -= static_cast<size_t>(copied);
  }
  EXPECT_EQ(lseek(from, 0, SEEK_HOLE), 100'000);
  EXPECT_EQ(lseek(from, 10, SEEK_DATA), 10);
  close(from);
  close(to);
  EXPECT_TRUE(ReadFile("to") == content);
}

TEST_F(PosixTest, DirectIoWorksAlsoUnaligned) {
  const int fd = open(Path("file").c_str(), O_RDWR | O_CREAT | O_DIRECT, 0644);
  ASSERT_GE(fd, 0);
  const std::string content = RandomBytes(2'000'001, 5);
  ASSERT_EQ(pwrite(fd, content.data(), content.size(), 0), static_cast<ssize_t>(content.size()));
  std::string got(content.size(), '\0');
  ASSERT_EQ(pread(fd, got.data(), got.size(), 0), static_cast<ssize_t>(got.size()));
  EXPECT_TRUE(got == content);
  close(fd);
}

TEST_F(PosixTest, StatfsShowsUsableSpace) {
  struct statvfs info {};
  ASSERT_EQ(statvfs(mountpoint_.c_str(), &info), 0);
  EXPECT_EQ(info.f_blocks * info.f_frsize, 1ull << 40);
  EXPECT_EQ(info.f_bavail * info.f_frsize, 1ull << 38);
  EXPECT_EQ(info.f_namemax, 255U);
}

TEST_F(PosixTest, TooLongNamesAreRefused) {
  EXPECT_LT(open(Path(std::string(256, 'n')).c_str(), O_CREAT | O_WRONLY, 0644), 0);
  EXPECT_EQ(errno, ENAMETOOLONG);
  WriteFile(std::string(255, 'n'), "x");
  EXPECT_EQ(ReadFile(std::string(255, 'n')), "x");
}

TEST_F(PosixTest, ASubdirectoryIsShownAsTheRoot) {
  ASSERT_EQ(mkdir(Path("sub").c_str(), 0755), 0);
  ASSERT_EQ(mkdir(Path("sub/deep").c_str(), 0755), 0);
  WriteFile("sub/file", "inside");
  WriteFile("outside", "x");
  const auto sub = client_->Lookup({}, kRootInode, "sub");
  ASSERT_TRUE(sub.ok());
  MountWith("", sub->attr.inode);
  EXPECT_EQ(ReadFile("file"), "inside");
  EXPECT_EQ(ReadFile("deep/../file"), "inside");
  EXPECT_NE(access(Path("outside").c_str(), F_OK), 0);
  struct stat root {};
  ASSERT_EQ(stat(mountpoint_.c_str(), &root), 0);
  EXPECT_EQ(root.st_ino, 1U);
  for (const auto& entry : std::filesystem::directory_iterator(mountpoint_)) EXPECT_TRUE(entry.exists());
}

TEST_F(PosixTest, AReadOnlyMountRefusesChanges) {
  WriteFile("file", "x");
  MountWith("ro,noatime,_netdev,x-systemd.automount");
  EXPECT_EQ(ReadFile("file"), "x");
  EXPECT_LT(open(Path("file").c_str(), O_WRONLY), 0);
  EXPECT_EQ(errno, EROFS);
}

}  // namespace
}  // namespace cairn::fuse
