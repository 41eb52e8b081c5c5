// copy_file_range(2).
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <random>
#include <tuple>

#include "tests/posix/posix_test.h"

namespace cairn::posix {
namespace {

class CopyRangeTest : public PosixTest {
 protected:
  // Copies everything, however little at a time.
  void CopyAll(int in, off_t from, int out, off_t to, size_t length) {
    while (length > 0) {
      const ssize_t n = copy_file_range(in, &from, out, &to, length, 0);
      ++checks;
      ASSERT_GT(n, 0) << std::strerror(errno);
      length -= static_cast<size_t>(n);
    }
  }
};

TEST_F(CopyRangeTest, CopiesAnyRange) {
  const std::string content = Pattern(6, 500'000);
  MakeFile("a", content);
  const int in = Open("a", O_RDONLY);
  for (const auto& [from, to, length] : {std::tuple<off_t, off_t, size_t>{0, 0, 500'000},
                                         {1, 7, 4'096},
                                         {4'096, 8'192, 65'536},
                                         {123'457, 3, 300'001},
                                         {499'999, 0, 1},
                                         {0, 2'000'000, 100'000}}) {
    SCOPED_TRACE(from);
    MakeFile("b", "");
    const int out = Open("b", O_RDWR);
    CopyAll(in, from, out, to, length);
    std::string expected(static_cast<size_t>(to), '\0');
    expected += content.substr(static_cast<size_t>(from), length);
    HOLDS(Content("b") == expected);
  }
}

TEST_F(CopyRangeTest, EndsAtTheEndAndMovesOffsets) {
  MakeFile("a", "0123456789");
  const int in = Open("a", O_RDONLY);
  const int out = Open("b", O_RDWR | O_CREAT);
  OK(lseek(in, 4, SEEK_SET));
  IS(6, copy_file_range(in, nullptr, out, nullptr, 100, 0));
  IS(10, lseek(in, 0, SEEK_CUR));
  IS(6, lseek(out, 0, SEEK_CUR));
  IS(0, copy_file_range(in, nullptr, out, nullptr, 100, 0));
  IS("456789", Content("b"));
}

TEST_F(CopyRangeTest, WithinOneFile) {
  const std::string content = Pattern(6, 100'000);
  MakeFile("a", content);
  const int fd = Open("a", O_RDWR);
  CopyAll(fd, 0, fd, 200'000, 100'000);
  HOLDS(Content("a") == content + std::string(100'000, '\0') + content);
  off_t from = 0, to = 50;
  FAILS(EINVAL, copy_file_range(fd, &from, fd, &to, 100, 0));  // overlap
}

TEST_F(CopyRangeTest, Errors) {
  MakeFile("a", "content");
  MakeFile("b");
  OK(mkdir(P("d"), 0755));
  const int a = Open("a", O_RDONLY), b = Open("b", O_RDWR);
  FAILS(EBADF, copy_file_range(b, nullptr, a, nullptr, 5, 0));
  FAILS(EBADF, copy_file_range(a, nullptr, Open("b", O_WRONLY | O_APPEND), nullptr, 5, 0));
  FAILS(EBADF, copy_file_range(Open("b", O_WRONLY), nullptr, b, nullptr, 5, 0));
  FAILS(EISDIR, copy_file_range(Open("d", O_RDONLY), nullptr, b, nullptr, 5, 0));
  FAILS(EINVAL, copy_file_range(a, nullptr, b, nullptr, 5, 1));
  FAILS(EBADF, copy_file_range(987654, nullptr, b, nullptr, 5, 0));
}

TEST_F(CopyRangeTest, RandomRangesComeOutAsInTheModel) {
  const std::string source = Pattern(7, 3'000'000);
  MakeFile("a", source);
  const int in = Open("a", O_RDONLY), out = Open("b", O_RDWR | O_CREAT);
  std::string model;
  std::mt19937_64 random(20261130);
  for (int round = 0; round < 40; ++round) {
    const size_t length = 1 + random() % (round % 5 == 0 ? 1'500'000 : 20'000);
    const size_t from = random() % (source.size() - length), to = random() % 2'000'000;
    CopyAll(in, static_cast<off_t>(from), out, static_cast<off_t>(to), length);
    if (model.size() < to + length) model.resize(to + length);
    model.replace(to, length, source, from, length);
    if (round % 3 == 0) {  // and what write() buffered, in the middle of it
      const size_t at = random() % model.size();
      const std::string text = Pattern(random(), 1 + random() % 5'000);
      IS(static_cast<ssize_t>(text.size()), pwrite(out, text.data(), text.size(), static_cast<off_t>(at)));
      if (model.size() < at + text.size()) model.resize(at + text.size());
      model.replace(at, text.size(), text);
    }
    if (round % 8 == 7) HOLDS(Content("b") == model);
  }
  HOLDS(Content("b") == model);
}

TEST_F(CopyRangeTest, WhatIsInPagesOfEitherFileIsTakenAlong) {
  MakeFile("a", Pattern(8, 50'000));
  MakeFile("b", Pattern(9, 50'000));
  const int in = Open("a", O_RDWR), out = Open("b", O_RDWR);
  auto* source = static_cast<char*>(mmap(nullptr, 50'000, PROT_READ | PROT_WRITE, MAP_SHARED, in, 0));
  auto* target = static_cast<char*>(mmap(nullptr, 50'000, PROT_READ | PROT_WRITE, MAP_SHARED, out, 0));
  ASSERT_NE(source, MAP_FAILED);
  ASSERT_NE(target, MAP_FAILED);
  std::memset(source + 10'000, 's', 5'000);
  std::memset(target + 40'000, 't', 5'000);
  CopyAll(in, 0, out, 0, 30'000);
  HOLDS(std::memcmp(source, target, 30'000) == 0);  // pages of the old bytes are gone
  std::string expected = Pattern(8, 50'000).substr(0, 30'000) + Pattern(9, 50'000).substr(30'000);
  expected.replace(10'000, 5'000, 5'000, 's');
  expected.replace(40'000, 5'000, 5'000, 't');
  HOLDS(Content("b") == expected);
  OK(munmap(source, 50'000));
  OK(munmap(target, 50'000));
}

TEST_F(CopyRangeTest, ChangesTimesAndSetIdBitsAsAWriteDoes) {
  MakeFile("a", "content");
  MakeFile("b", "");
  OpenToAll();
  OK(chmod(P("a"), 0666));
  OK(chmod(P("b"), 06777));
  const timespec old[2] = {{1000, 0}, {1000, 0}};
  OK(utimensat(AT_FDCWD, P("b"), old, 0));
  const struct stat before = Stat("b");
  As(kAlice, [&] {
    const int in = Open("a", O_RDONLY), out = Open("b", O_WRONLY);
    IS(7, copy_file_range(in, nullptr, out, nullptr, 7, 0));
  });
  const struct stat after = Stat("b");
  IS(7, after.st_size);
  HOLDS(after.st_mtim.tv_sec > 1000);
  HOLDS(after.st_ctim.tv_sec > before.st_ctim.tv_sec || after.st_ctim.tv_nsec != before.st_ctim.tv_nsec);
  IS(mode_t{0777}, after.st_mode & 07777);
  // Nothing copied, nothing changed.
  OK(utimensat(AT_FDCWD, P("b"), old, 0));
  const int in = Open("a", O_RDONLY), out = Open("b", O_WRONLY);
  off_t end = 7;
  IS(0, copy_file_range(in, &end, out, nullptr, 10, 0));
  IS(1000, Stat("b").st_mtim.tv_sec);
}

TEST_F(CopyRangeTest, TheLimitOfTheProcessCutsTheCopy) {
  MakeFile("a", Pattern(1, 100'000));
  const int in = Open("a", O_RDONLY), out = Open("b", O_RDWR | O_CREAT);
  rlimit old{};
  OK(getrlimit(RLIMIT_FSIZE, &old));
  const auto handler = signal(SIGXFSZ, SIG_IGN);
  const rlimit small{50'000, old.rlim_max};
  OK(setrlimit(RLIMIT_FSIZE, &small));
  off_t from = 0, to = 20'000;
  IS(30'000, copy_file_range(in, &from, out, &to, 100'000, 0));
  to = 50'000;
  FAILS(EFBIG, copy_file_range(in, &from, out, &to, 100'000, 0));
  OK(setrlimit(RLIMIT_FSIZE, &old));
  signal(SIGXFSZ, handler);
  IS(50'000, Stat("b").st_size);
}

TEST_F(CopyRangeTest, HolesReadAsZerosOverWhateverWasThere) {
  // Data, a hole, data, and a hole to the end.
  const int in = Open("a", O_RDWR | O_CREAT);
  const std::string data = Pattern(2, 100'000);
  IS(100'000, pwrite(in, data.data(), data.size(), 0));
  IS(100'000, pwrite(in, data.data(), data.size(), 1'000'000));
  OK(ftruncate(in, 3'000'000));
  const std::string expected = Content("a");
  for (const off_t to : {0, 4'096, 12'345}) {
    SCOPED_TRACE(to);
    MakeFile("b", Pattern(3, 3'500'000));
    const int out = Open("b", O_RDWR);
    CopyAll(in, 0, out, to, 3'000'000);
    std::string target = Pattern(3, 3'500'000);
    target.replace(static_cast<size_t>(to), 3'000'000, expected);
    HOLDS(Content("b") == target);
  }
  if (TheTarget().local) return;  // the kernel copies page by page there, or shares extents, as the file system can
  const int fresh = Open("c", O_RDWR | O_CREAT);
  CopyAll(in, 0, fresh, 0, 3'000'000);
  IS(3'000'000, Stat("c").st_size);
  OK(fsync(fresh));
  HOLDS(Stat("c").st_blocks * 512 < 400'000);
  IS(102'400, lseek(fresh, 0, SEEK_HOLE));
  HOLDS(lseek(fresh, 102'400, SEEK_DATA) >= 999'424);
}

TEST_F(CopyRangeTest, SparseSourcesReadAsZeros) {
  const int in = Open("a", O_RDWR | O_CREAT);
  IS(3, pwrite(in, "end", 3, 3'000'000));
  MakeFile("b", Pattern(1, 3'000'003));
  const int out = Open("b", O_RDWR);
  CopyAll(in, 0, out, 0, 3'000'003);
  HOLDS(Content("b") == std::string(3'000'000, '\0') + "end");
}

}  // namespace
}  // namespace cairn::posix
