// read, write, truncate, append, offsets, sparse files.
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>

#include <csignal>
#include <limits>
#include <random>

#include "tests/posix/posix_test.h"

namespace cairn::posix {
namespace {

constexpr off_t kMaxOffset = std::numeric_limits<off_t>::max();

class DataTest : public PosixTest {
 protected:
  // The largest size that this file system takes.
  off_t LargestSize() {
    MakeFile("probe");
    off_t good = 0;
    for (off_t step = off_t{1} << 62; step != 0; step >>= 1) {
      if (good <= kMaxOffset - step && truncate(P("probe"), good + step) == 0) good += step;
    }
    unlink(P("probe"));
    // Near 2^63 the kernel refuses reads whose end it cannot express.
    return std::min(good, kMaxOffset - 65'536);
  }
};

TEST_F(DataTest, WhatIsWrittenIsReadBackAtAllSizes) {
  for (const size_t size : {0u, 1u, 511u, 4095u, 4096u, 4097u, 65'536u, 131'073u, 1'048'575u, 5'000'001u}) {
    SCOPED_TRACE(size);
    const std::string content = Pattern(size, size);
    MakeFile("f", content);
    IS(static_cast<off_t>(size), Stat("f").st_size);
    HOLDS(Content("f") == content);
  }
}

TEST_F(DataTest, ReadsEndAtTheEnd) {
  MakeFile("f", "0123456789");
  const int fd = Open("f", O_RDWR);
  char text[32];
  IS(10, read(fd, text, sizeof text));
  IS(0, read(fd, text, sizeof text));
  IS(3, pread(fd, text, 3, 7));
  IS(2, pread(fd, text, 30, 8));
  IS(0, pread(fd, text, 30, 10));
  IS(0, pread(fd, text, 30, 1'000'000));
  IS(0, read(fd, text, 0));
  FAILS(EINVAL, pread(fd, text, 1, -1));
  FAILS(EINVAL, pwrite(fd, text, 1, -1));
}

TEST_F(DataTest, Seeking) {
  MakeFile("f", "0123456789");
  const int fd = Open("f", O_RDWR);
  IS(5, lseek(fd, 5, SEEK_SET));
  IS(7, lseek(fd, 2, SEEK_CUR));
  IS(9, lseek(fd, -1, SEEK_END));
  IS(110, lseek(fd, 100, SEEK_END));
  IS(10, Stat("f").st_size);
  FAILS(EINVAL, lseek(fd, -1, SEEK_SET));
  FAILS(EINVAL, lseek(fd, -1000, SEEK_CUR));
  FAILS(EINVAL, lseek(fd, 0, 99));
  FAILS(EBADF, lseek(987654, 0, SEEK_SET));
  FAILS_EITHER(EINVAL, EOVERFLOW, lseek(fd, kMaxOffset, SEEK_END));
  OK(mkfifo(P("p"), 0600));
  const int fifo = Open("p", O_RDWR);
  FAILS(ESPIPE, lseek(fifo, 0, SEEK_SET));
}

TEST_F(DataTest, OverwritesHitTheirRange) {
  std::string expected = Pattern(2, 300'000);
  MakeFile("f", expected);
  const int fd = Open("f", O_RDWR);
  std::mt19937 random(7);
  for (int i = 0; i < 60; ++i) {
    const size_t at = random() % 310'000;
    const std::string patch = Pattern(1000 + i, 1 + random() % 9'000);
    IS(static_cast<ssize_t>(patch.size()), pwrite(fd, patch.data(), patch.size(), static_cast<off_t>(at)));
    if (expected.size() < at + patch.size()) expected.resize(at + patch.size());
    expected.replace(at, patch.size(), patch);
  }
  HOLDS(Content("f") == expected);
}

TEST_F(DataTest, AppendIgnoresTheOffset) {
  MakeFile("f", "one");
  const int fd = Open("f", O_RDWR | O_APPEND);
  OK(lseek(fd, 0, SEEK_SET));
  IS(3, write(fd, "two", 3));
  IS(6, lseek(fd, 0, SEEK_CUR));
  char text[4] = "";
  IS(3, pread(fd, text, 3, 0));
  const int other = Open("f", O_WRONLY | O_APPEND);
  IS(5, write(other, "three", 5));
  IS(4, write(fd, "four", 4));
  IS("onetwothreefour", Content("f"));
  // Linux: pwrite on such a descriptor appends.
  IS(1, pwrite(fd, "!", 1, 0));
  IS("onetwothreefour!", Content("f"));
  // O_APPEND switched on and off.
  const int plain = Open("f", O_RDWR);
  OK(fcntl(plain, F_SETFL, O_APPEND));
  IS(1, write(plain, "?", 1));
  OK(fcntl(plain, F_SETFL, 0));
  IS(1, pwrite(plain, "X", 1, 0));
  IS("Xnetwothreefour!?", Content("f"));
  const int appending = Open("f", O_WRONLY | O_APPEND);
  OK(fcntl(appending, F_SETFL, 0));
  IS(1, pwrite(appending, "Y", 1, 1));
  IS("XYetwothreefour!?", Content("f"));
  OK(fcntl(appending, F_SETFL, O_APPEND));
  IS(1, pwrite(appending, "Z", 1, 0));
  IS("XYetwothreefour!?Z", Content("f"));
}

TEST_F(DataTest, TruncateShrinksGrowsAndZeroes) {
  const std::string content = Pattern(5, 20'000);
  MakeFile("f", content);
  for (const off_t size : {19'999, 8'192, 8'191, 4'097, 4'096, 4'095, 1, 0}) {
    OK(truncate(P("f"), size));
    IS(size, Stat("f").st_size);
    HOLDS(Content("f") == content.substr(0, size));
  }
  MakeFile("f", content);
  OK(truncate(P("f"), 5'000));
  OK(truncate(P("f"), 15'000));
  HOLDS(Content("f") == content.substr(0, 5'000) + std::string(10'000, '\0'));
  const int fd = Open("f", O_RDWR);
  OK(ftruncate(fd, 6'000));
  IS(3, pwrite(fd, "end", 3, 9'000));
  HOLDS(Content("f") == content.substr(0, 5'000) + std::string(4'000, '\0') + "end");
  OK(ftruncate(fd, 9'003));
}

TEST_F(DataTest, TruncateErrors) {
  MakeFile("f", "x", 0644);
  OK(mkdir(P("d"), 0755));
  OK(mkfifo(P("p"), 0600));
  FAILS(EISDIR, truncate(P("d"), 0));
  FAILS(EINVAL, truncate(P("f"), -1));
  FAILS(EINVAL, truncate(P("p"), 0));
  FAILS(ENOENT, truncate(P("absent"), 0));
  const int reader = Open("f", O_RDONLY);
  FAILS(EINVAL, ftruncate(reader, 0));
  FAILS(EBADF, ftruncate(987654, 0));
  const int fd = Open("f", O_RDWR);
  FAILS(EINVAL, ftruncate(fd, -1));
  As(kAlice, [&] { FAILS(EACCES, truncate(P("f"), 0)); });
  IS("x", Content("f"));
}

TEST_F(DataTest, HolesReadAsZerosAndTakeNoSpace) {
  const int fd = Open("f", O_RDWR | O_CREAT);
  IS(4, pwrite(fd, "tail", 4, 200'000'000));
  OK(fsync(fd));
  IS(200'000'004, Stat("f").st_size);
  HOLDS(Stat("f").st_blocks <= 64);
  std::string text(100'000, 'x');
  IS(100'000, pread(fd, text.data(), text.size(), 100'000'000));
  HOLDS(text == std::string(100'000, '\0'));
  IS(4, pwrite(fd, "head", 4, 0));
  OK(fsync(fd));
  HOLDS(Stat("f").st_blocks <= 64);
  OK(ftruncate(fd, 0));
  OK(fsync(fd));
  IS(0, Stat("f").st_blocks);
}

TEST_F(DataTest, BlocksFollowTheData) {
  const std::string data = Pattern(1, 1 << 20);
  MakeFile("f", data);
  OK(fsync(Open("f", O_RDWR)));
  // An extent tree may take a block of its own.
  HOLDS(Stat("f").st_blocks >= 2048);
  HOLDS(Stat("f").st_blocks <= 2048 + 64);
  OK(truncate(P("f"), 1 << 19));
  OK(fsync(Open("f", O_RDWR)));
  HOLDS(Stat("f").st_blocks >= 1024);
  HOLDS(Stat("f").st_blocks <= 1024 + 64);
  MakeFile("small", "x");
  OK(fsync(Open("small", O_RDWR)));
  HOLDS(Stat("small").st_blocks <= 16);
}

TEST_F(DataTest, HugeOffsetsCostOnlyTheirData) {
  const off_t largest = LargestSize();
  HOLDS(largest >= (off_t{1} << 43));
  const int fd = Open("f", O_RDWR | O_CREAT);
  OK(ftruncate(fd, largest));
  IS(largest, Stat("f").st_size);
  IS(0, Stat("f").st_blocks);
  char text[8] = "";
  IS(0, pread(fd, text, 8, largest));
  IS(5, pread(fd, text, 8, largest - 5));
  IS(5, pwrite(fd, "abcde", 5, largest - 5));
  IS(5, pread(fd, text, 8, largest - 5));
  HOLDS(std::memcmp(text, "abcde", 5) == 0);
  OK(fsync(fd));
  HOLDS(Stat("f").st_blocks <= 128);
  for (int shift = 12; (off_t{1} << shift) < largest - 8 && shift < 62; shift += 7) {
    IS(3, pwrite(fd, "mid", 3, off_t{1} << shift));
    IS(3, pread(fd, text, 3, off_t{1} << shift));
    HOLDS(std::memcmp(text, "mid", 3) == 0);
  }
  OK(ftruncate(fd, 10));
  OK(ftruncate(fd, 0));
}

TEST_F(DataTest, BeyondTheLargestSizeIsEFBIG) {
  const off_t largest = LargestSize();
  const int fd = Open("f", O_RDWR | O_CREAT);
  if (largest < kMaxOffset - 65'536) {
    FAILS(EFBIG, ftruncate(fd, largest + 1));
    FAILS(EFBIG, pwrite(fd, "x", 1, largest));
    FAILS(EFBIG, pwrite(fd, "x", 1, kMaxOffset - 1));
    FAILS(EFBIG, fallocate(fd, 0, largest, 10));
    IS(2, pwrite(fd, "abcdef", 6, largest - 2));  // short at the limit
  }
  FAILS_EITHER(EFBIG, EINVAL, pwrite(fd, "x", 1, kMaxOffset));
  FAILS_EITHER(EFBIG, EINVAL, fallocate(fd, 0, kMaxOffset - 1, 10));
  HOLDS(Stat("f").st_size <= largest);
}

TEST_F(DataTest, FallocateAndPunchOfAHugeHoleCostNothing) {
  const off_t largest = LargestSize();
  const int fd = Open("f", O_RDWR | O_CREAT);
  OK(ftruncate(fd, largest));
  IS(4, pwrite(fd, "data", 4, largest / 2));
  OK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, largest - 8192));
  char text[5] = "xxxx";
  IS(4, pread(fd, text, 4, largest / 2));
  HOLDS(std::memcmp(text, "\0\0\0\0", 4) == 0);
  OK(fsync(fd));
  OK(ftruncate(fd, 0));
}

TEST_F(DataTest, TheLimitOfTheProcessIsEFBIG) {
  MakeFile("f");
  struct sigaction ignore {
  }, old{};
  ignore.sa_handler = SIG_IGN;
  sigaction(SIGXFSZ, &ignore, &old);
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  const rlimit limited{10'000, before.rlim_max};
  const int fd = Open("f", O_RDWR);
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limited), 0);
  std::string data(8'000, 'x');
  IS(8'000, write(fd, data.data(), data.size()));
  IS(2'000, write(fd, data.data(), data.size()));
  FAILS(EFBIG, write(fd, data.data(), data.size()));
  FAILS(EFBIG, ftruncate(fd, 20'000));
  setrlimit(RLIMIT_FSIZE, &before);
  sigaction(SIGXFSZ, &old, nullptr);
  IS(10'000, Stat("f").st_size);
}

TEST_F(DataTest, ManySmallWritesMakeOneFile) {
  const int fd = Open("f", O_RDWR | O_CREAT);
  std::string expected;
  for (int i = 0; i < 2'000; ++i) {
    const std::string line = "line " + std::to_string(i) + "\n";
    ASSERT_EQ(write(fd, line.data(), line.size()), static_cast<ssize_t>(line.size()));
    expected += line;
  }
  HOLDS(Content("f") == expected);
}

TEST_F(DataTest, ReadersSeeWritesAtOnce) {
  const int writer = Open("f", O_RDWR | O_CREAT);
  const int reader = Open("f", O_RDONLY);
  for (int i = 0; i < 50; ++i) {
    const std::string text = std::to_string(i * 1'000'003);
    IS(static_cast<ssize_t>(text.size()), pwrite(writer, text.data(), text.size(), i * 5'000));
    std::string got(text.size(), '\0');
    IS(static_cast<ssize_t>(text.size()), pread(reader, got.data(), got.size(), i * 5'000));
    IS(text, got);
    IS(i * 5'000 + static_cast<off_t>(text.size()), Stat("f").st_size);
  }
}

TEST_F(DataTest, BadBuffersChangeNothing) {
  MakeFile("f", "content");
  const int fd = Open("f", O_RDWR);
  FAILS(EFAULT, write(fd, BadAddress(), 10));
  FAILS(EFAULT, pwrite(fd, BadAddress(), 10, 3));
  IS("content", Content("f"));
  FAILS(EBADF, read(987654, nullptr, 0));
  FAILS(EBADF, fsync(987654));
  FAILS(EBADF, fdatasync(987654));
}

TEST_F(DataTest, SyncCallsSucceed) {
  MakeFile("f", "content");
  const int fd = Open("f", O_RDWR);
  OK(fsync(fd));
  OK(fdatasync(fd));
  OK(syncfs(fd));
  OK(sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE));
  OK(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED));
  OK(readahead(fd, 0, 4096));
  IS("content", Content("f"));
}

TEST_F(DataTest, StatvfsAddsUp) {
  struct statvfs info {};
  OK(statvfs(P(""), &info));
  HOLDS(info.f_blocks > 0);
  HOLDS(info.f_bfree <= info.f_blocks);
  HOLDS(info.f_bavail <= info.f_bfree);
  HOLDS(info.f_frsize >= 512);
  HOLDS(info.f_files >= info.f_ffree);
  IS(255u, info.f_namemax);
  HOLDS((info.f_flag & ST_RDONLY) == 0);
  const int fd = Open("f", O_RDWR | O_CREAT);
  struct statvfs same {};
  OK(fstatvfs(fd, &same));
  IS(info.f_blocks, same.f_blocks);
  IS(info.f_bsize, same.f_bsize);
  FAILS(EBADF, fstatvfs(987654, &same));
}

TEST_F(DataTest, Sendfile) {
  const std::string content = Pattern(9, 300'000);
  MakeFile("a", content);
  const int in = Open("a", O_RDONLY);
  const int out = Open("b", O_RDWR | O_CREAT);
  off_t at = 0;
  while (at < 300'000) {
    const int64_t n = syscall(SYS_sendfile, out, in, &at, 300'000);
    ASSERT_GT(n, 0) << std::strerror(errno);
  }
  HOLDS(Content("b") == content);
  FAILS(EBADF, syscall(SYS_sendfile, out, Open("b", O_WRONLY), nullptr, 1));
  FAILS(EBADF, syscall(SYS_sendfile, in, in, nullptr, 1));
  FAILS(EINVAL, syscall(SYS_sendfile, Open("a", O_WRONLY | O_APPEND), in, nullptr, 1));
}

}  // namespace
}  // namespace cairn::posix
