// fallocate(2) in all modes, lseek(SEEK_DATA, SEEK_HOLE).
#include <linux/falloc.h>
#include <sys/syscall.h>

#include "tests/posix/posix_test.h"

namespace cairn::posix {
namespace {

constexpr int kPunch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;

class FallocateTest : public PosixTest {
 protected:
  // For modes that a file system may lack: succeeded, or says cleanly that it is not supported.
  bool Supported(int64_t result) {
    ++checks;
    if (result == 0) return true;
    EXPECT_EQ(ErrnoName(errno), ErrnoName(EOPNOTSUPP));
    return false;
  }
};

TEST_F(FallocateTest, AllocateExtendsAndKeepsData) {
  MakeFile("f", "content");
  const int fd = Open("f", O_RDWR);
  OK(fallocate(fd, 0, 0, 100'000));
  IS(100'000, Stat("f").st_size);
  HOLDS(Content("f") == "content" + std::string(99'993, '\0'));
  OK(fallocate(fd, 0, 0, 10));
  IS(100'000, Stat("f").st_size);
  OK(fallocate(fd, 0, 150'000, 10'000));
  IS(160'000, Stat("f").st_size);
  OK(posix_fallocate(fd, 0, 170'000));
  IS(170'000, Stat("f").st_size);
}

TEST_F(FallocateTest, KeepSizeKeepsTheSize) {
  MakeFile("f", "content");
  const int fd = Open("f", O_RDWR);
  OK(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 1'000'000));
  IS(7, Stat("f").st_size);
  IS("content", Content("f"));
  IS(1, pwrite(fd, "x", 1, 500'000));
  IS(500'001, Stat("f").st_size);
}

TEST_F(FallocateTest, PunchMakesZeros) {
  for (const auto& [from, length] : {std::pair<off_t, off_t>{0, 4'096},
                                     {4'096, 8'192},
                                     {100, 50},
                                     {1'000, 20'000},
                                     {65'000, 2'000},
                                     {199'990, 10},
                                     {199'990, 100'000},
                                     {0, 1'000'000}}) {
    SCOPED_TRACE(from);
    const std::string content = Pattern(4, 200'000);
    MakeFile("f", content);
    const int fd = Open("f", O_RDWR);
    OK(fallocate(fd, kPunch, from, length));
    std::string expected = content;
    const size_t end = std::min<size_t>(200'000, static_cast<size_t>(from + length));
    for (size_t i = static_cast<size_t>(from); i < end; ++i) expected[i] = '\0';
    HOLDS(Content("f") == expected);
    IS(200'000, Stat("f").st_size);
  }
}

TEST_F(FallocateTest, PunchGivesSpaceBack) {
  MakeFile("f", Pattern(4, 1 << 20));
  const int fd = Open("f", O_RDWR);
  OK(fsync(fd));
  const blkcnt_t before = Stat("f").st_blocks;
  OK(fallocate(fd, kPunch, 0, 1 << 19));
  OK(fsync(fd));
  HOLDS(Stat("f").st_blocks <= before - 900);
  OK(fallocate(fd, kPunch, 0, 1 << 20));
  OK(fsync(fd));
  HOLDS(Stat("f").st_blocks <= 16);
}

TEST_F(FallocateTest, ZeroRange) {
  const std::string content = Pattern(4, 50'000);
  MakeFile("f", content);
  const int fd = Open("f", O_RDWR);
  if (!Supported(fallocate(fd, FALLOC_FL_ZERO_RANGE, 1'000, 10'000))) return;
  std::string expected = content;
  std::fill_n(expected.begin() + 1'000, 10'000, '\0');
  HOLDS(Content("f") == expected);
  OK(fallocate(fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 40'000, 100'000));
  IS(50'000, Stat("f").st_size);
  std::fill(expected.begin() + 40'000, expected.end(), '\0');
  HOLDS(Content("f") == expected);
  OK(fallocate(fd, FALLOC_FL_ZERO_RANGE, 45'000, 15'000));
  IS(60'000, Stat("f").st_size);
  expected.resize(60'000, '\0');
  HOLDS(Content("f") == expected);
}

TEST_F(FallocateTest, CollapseAndInsertWorkOrAreRefusedCleanly) {
  const std::string content = Pattern(4, 16'384);
  MakeFile("f", content);
  const int fd = Open("f", O_RDWR);
  if (Supported(fallocate(fd, FALLOC_FL_COLLAPSE_RANGE, 4'096, 4'096))) {
    HOLDS(Content("f") == content.substr(0, 4'096) + content.substr(8'192));
  } else {
    HOLDS(Content("f") == content);
  }
  MakeFile("f", content);
  if (Supported(fallocate(fd, FALLOC_FL_INSERT_RANGE, 4'096, 4'096))) {
    HOLDS(Content("f") == content.substr(0, 4'096) + std::string(4'096, '\0') + content.substr(4'096));
  } else {
    HOLDS(Content("f") == content);
  }
}

TEST_F(FallocateTest, Errors) {
  MakeFile("f", "content");
  OK(mkdir(P("d"), 0755));
  OK(mkfifo(P("p"), 0600));
  const int fd = Open("f", O_RDWR);
  FAILS(EINVAL, fallocate(fd, 0, 0, 0));
  FAILS(EINVAL, fallocate(fd, 0, -1, 10));
  FAILS(EINVAL, fallocate(fd, 0, 0, -1));
  FAILS(EOPNOTSUPP, fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, 10));
  FAILS(EOPNOTSUPP, fallocate(fd, 0x4000, 0, 10));
  FAILS(EBADF, fallocate(987654, 0, 0, 10));
  FAILS(EBADF, fallocate(Open("f", O_RDONLY), 0, 0, 10));
  FAILS(ESPIPE, fallocate(Open("p", O_RDWR), 0, 0, 10));
  FAILS_EITHER(EBADF, EISDIR, fallocate(Open("d", O_RDONLY), 0, 0, 10));
  IS("content", Content("f"));
}

TEST_F(FallocateTest, AppendOnlyDescriptorsAllocateToo) {
  MakeFile("f", "content");
  OK(fallocate(Open("f", O_WRONLY | O_APPEND), 0, 0, 100));
  IS(100, Stat("f").st_size);
}

class SeekTest : public PosixTest {};

TEST_F(SeekTest, WithoutHolesTheEndIsTheHole) {
  MakeFile("f", Pattern(1, 100'000));
  const int fd = Open("f", O_RDONLY);
  IS(0, lseek(fd, 0, SEEK_DATA));
  IS(50'000, lseek(fd, 50'000, SEEK_DATA));
  IS(100'000, lseek(fd, 0, SEEK_HOLE));
  IS(100'000, lseek(fd, 99'999, SEEK_HOLE));
}

TEST_F(SeekTest, BeyondTheEndIsENXIO) {
  MakeFile("f", "content");
  MakeFile("empty");
  const int fd = Open("f", O_RDONLY);
  FAILS(ENXIO, lseek(fd, 7, SEEK_DATA));
  FAILS(ENXIO, lseek(fd, 7, SEEK_HOLE));
  FAILS(ENXIO, lseek(fd, 100, SEEK_DATA));
  FAILS(ENXIO, lseek(fd, -1, SEEK_DATA));
  FAILS(ENXIO, lseek(fd, -1, SEEK_HOLE));
  FAILS(ENXIO, lseek(Open("empty", O_RDONLY), 0, SEEK_DATA));
}

TEST_F(SeekTest, FindsDataBetweenHoles) {
  const int fd = Open("f", O_RDWR | O_CREAT);
  const std::string data = Pattern(2, 65'536);
  constexpr off_t kFirst = 1 << 20, kSecond = 300 << 20, kSize = 1 << 30;
  IS(65'536, pwrite(fd, data.data(), data.size(), kFirst));
  IS(65'536, pwrite(fd, data.data(), data.size(), kSecond));
  OK(ftruncate(fd, kSize));
  IS(kFirst, lseek(fd, 0, SEEK_DATA));
  IS(0, lseek(fd, 0, SEEK_HOLE));
  IS(kFirst + 65'536, lseek(fd, kFirst, SEEK_HOLE));
  IS(kFirst + 100, lseek(fd, kFirst + 100, SEEK_DATA));
  IS(kSecond, lseek(fd, kFirst + 65'536, SEEK_DATA));
  IS(kSecond + 65'536, lseek(fd, kSecond + 5, SEEK_HOLE));
  FAILS(ENXIO, lseek(fd, kSecond + 65'536, SEEK_DATA));
  IS(kSize - 1, lseek(fd, kSize - 1, SEEK_HOLE));
  // The same from what is on disk.
  OK(fsync(fd));
  const int again = Open("f", O_RDONLY);
  IS(kFirst, lseek(again, 0, SEEK_DATA));
  IS(kSecond, lseek(again, kFirst + 65'536, SEEK_DATA));
  IS(kFirst + 65'536, lseek(again, kFirst, SEEK_HOLE));
}

// Data that ends within a block, and the file goes on: the hole begins with the file's last written byte or
// with the block behind it, and looking for it comes to an end wherever it begins.
TEST_F(SeekTest, DataThatEndsWithinABlock) {
  const int fd = Open("f", O_RDWR | O_CREAT);
  constexpr off_t kAt = 50'000'000, kSize = 100 << 20;
  OK(ftruncate(fd, kSize));
  IS(4, pwrite(fd, "data", 4, kAt));
  for (const bool synced : {false, true}) {
    if (synced) OK(fsync(fd));
    const off_t data = lseek(fd, 0, SEEK_DATA);
    HOLDS(data <= kAt && data > kAt - 65'536);
    const off_t hole = lseek(fd, kAt, SEEK_HOLE);
    HOLDS(hole >= kAt + 4 && hole <= kAt + 65'536);
    IS(hole, lseek(fd, hole, SEEK_HOLE));
    IS(kAt + 5'000'000, lseek(fd, kAt + 5'000'000, SEEK_HOLE));
    if (hole > kAt + 4) continue;  // whole blocks
    IS(kAt + 4, lseek(fd, kAt + 4, SEEK_HOLE));
    FAILS(ENXIO, lseek(fd, kAt + 4, SEEK_DATA));
  }
}

TEST_F(SeekTest, SeesPunchedHoles) {
  MakeFile("f", Pattern(2, 1 << 20));
  const int fd = Open("f", O_RDWR);
  OK(fallocate(fd, kPunch, 256 << 10, 256 << 10));
  OK(fsync(fd));
  IS(256 << 10, lseek(fd, 0, SEEK_HOLE));
  IS(512 << 10, lseek(fd, 256 << 10, SEEK_DATA));
  IS(1 << 20, lseek(fd, 512 << 10, SEEK_HOLE));
}

// Nothing is ever skipped that holds bytes: a copy by SEEK_DATA and SEEK_HOLE is the file.
TEST_F(SeekTest, ACopyByExtentsIsTheFile) {
  const int fd = Open("f", O_RDWR | O_CREAT);
  for (int i = 0; i < 40; ++i) {
    const std::string data = Pattern(i, 1 + i * 731);
    IS(static_cast<ssize_t>(data.size()), pwrite(fd, data.data(), data.size(), off_t{i} * i * 40'009));
  }
  OK(fallocate(fd, kPunch, 1'000'000, 5'000'000));
  for (const bool synced : {false, true}) {
    if (synced) OK(fsync(fd));
    const off_t size = Stat("f").st_size;
    std::string copy(static_cast<size_t>(size), '\0');
    for (off_t at = 0; at < size;) {
      const off_t data = lseek(fd, at, SEEK_DATA);
      if (data < 0) break;
      const off_t hole = lseek(fd, data, SEEK_HOLE);
      ASSERT_GT(hole, data);
      HOLDS(pread(fd, copy.data() + data, static_cast<size_t>(hole - data), data) == hole - data);
      at = hole;
    }
    HOLDS(copy == Content("f"));
  }
}

}  // namespace
}  // namespace cairn::posix
