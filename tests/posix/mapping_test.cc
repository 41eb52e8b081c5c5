// mmap(2) shared and private, msync, writable mappings beside read and write.
#include <sys/mman.h>

#include <csetjmp>
#include <csignal>

#include "tests/posix/posix_test.h"

namespace cairn::posix {
namespace {

class MappingTest : public PosixTest {
 protected:
  char* Map(int fd, size_t bytes, int protection, int flags) {
    void* at = mmap(nullptr, bytes, protection, flags, fd, 0);
    ++checks;
    EXPECT_NE(at, MAP_FAILED) << std::strerror(errno);
    if (at == MAP_FAILED) return nullptr;
    mappings_.emplace_back(at, bytes);
    return static_cast<char*>(at);
  }
  void TearDown() override {
    for (const auto& [at, bytes] : mappings_) munmap(at, bytes);
    PosixTest::TearDown();
  }

 private:
  std::vector<std::pair<void*, size_t>> mappings_;
};

TEST_F(MappingTest, SharedMappingsShowTheFile) {
  const std::string content = Pattern(1, 200'000);
  MakeFile("f", content);
  const int fd = Open("f", O_RDONLY);
  const char* at = Map(fd, content.size(), PROT_READ, MAP_SHARED);
  ASSERT_NE(at, nullptr);
  HOLDS(std::memcmp(at, content.data(), content.size()) == 0);
  const int writer = Open("f", O_WRONLY);
  IS(5, pwrite(writer, "HELLO", 5, 100'000));
  HOLDS(std::memcmp(at + 100'000, "HELLO", 5) == 0);
}

TEST_F(MappingTest, WritesThroughASharedMappingReachTheFile) {
  MakeFile("f", std::string(100'000, 'a'));
  const int fd = Open("f", O_RDWR);
  char* at = Map(fd, 100'000, PROT_READ | PROT_WRITE, MAP_SHARED);
  ASSERT_NE(at, nullptr);
  std::memcpy(at + 50'000, "mapped", 6);
  char text[7] = "";
  IS(6, pread(fd, text, 6, 50'000));  // one page cache
  IS(std::string("mapped"), std::string(text));
  OK(msync(at, 100'000, MS_SYNC));
  std::string expected(100'000, 'a');
  expected.replace(50'000, 6, "mapped");
  HOLDS(Content("f") == expected);
  at[0] = 'Z';
  OK(munmap(at, 100'000));
  close(dup(fd));
  OK(fsync(fd));
  expected[0] = 'Z';
  HOLDS(Content("f") == expected);
}

TEST_F(MappingTest, AMappingOutlivesItsDescriptorAndName) {
  MakeFile("f", std::string(10'000, 'a'));
  const int fd = open(P("f"), O_RDWR);
  ASSERT_GE(fd, 0);
  char* at = Map(fd, 10'000, PROT_READ | PROT_WRITE, MAP_SHARED);
  ASSERT_NE(at, nullptr);
  close(fd);
  at[5'000] = 'x';
  OK(msync(at, 10'000, MS_SYNC));
  IS('x', Content("f")[5'000]);
  OK(unlink(P("f")));
  IS('x', at[5'000]);
  at[1] = 'y';
  OK(msync(at, 10'000, MS_SYNC));
}

TEST_F(MappingTest, PrivateMappingsKeepTheirWrites) {
  MakeFile("f", "content");
  const int fd = Open("f", O_RDONLY);
  char* at = Map(fd, 7, PROT_READ | PROT_WRITE, MAP_PRIVATE);
  ASSERT_NE(at, nullptr);
  at[0] = 'X';
  IS("content", Content("f"));
  IS('X', at[0]);
  OK(msync(at, 7, MS_SYNC));
  IS("content", Content("f"));
}

TEST_F(MappingTest, TheRestOfTheLastPageIsZeroAndStaysOutside) {
  MakeFile("f", "12345");
  const int fd = Open("f", O_RDWR);
  char* at = Map(fd, 4096, PROT_READ | PROT_WRITE, MAP_SHARED);
  ASSERT_NE(at, nullptr);
  for (int i = 5; i < 4096; ++i) {
    if (at[i] != 0) {
      ADD_FAILURE() << "byte " << i;
      break;
    }
  }
  at[100] = 'x';
  OK(msync(at, 4096, MS_SYNC));
  IS(5, Stat("f").st_size);
  IS("12345", Content("f"));
}

TEST_F(MappingTest, GrowthBecomesVisible) {
  MakeFile("f", std::string(4096, 'a'));
  const int fd = Open("f", O_RDWR);
  char* at = Map(fd, 3 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED);
  ASSERT_NE(at, nullptr);
  OK(ftruncate(fd, 3 * 4096));
  IS(0, at[2 * 4096]);
  at[2 * 4096] = 'b';
  OK(msync(at, 3 * 4096, MS_SYNC));
  IS('b', Content("f")[2 * 4096]);
}

sigjmp_buf g_bus;
TEST_F(MappingTest, BeyondTheEndIsSIGBUS) {
  MakeFile("f", "x");
  const int fd = Open("f", O_RDWR);
  volatile char* at = Map(fd, 3 * 4096, PROT_READ, MAP_SHARED);
  ASSERT_NE(at, nullptr);
  struct sigaction action {
  }, old{};
  action.sa_handler = [](int) { siglongjmp(g_bus, 1); };
  sigaction(SIGBUS, &action, &old);
  bool signalled = false;
  if (sigsetjmp(g_bus, 1) == 0) {
    (void)at[2 * 4096];
  } else {
    signalled = true;
  }
  sigaction(SIGBUS, &old, nullptr);
  HOLDS(signalled);
}

TEST_F(MappingTest, TruncationTakesPagesAway) {
  MakeFile("f", std::string(8192, 'a'));
  const int fd = Open("f", O_RDWR);
  char* at = Map(fd, 8192, PROT_READ | PROT_WRITE, MAP_SHARED);
  ASSERT_NE(at, nullptr);
  at[100] = 'b';
  OK(ftruncate(fd, 50));
  OK(ftruncate(fd, 8192));
  IS('a', at[49]);
  IS(0, at[50]);
  IS(0, at[100]);
  IS(0, at[5000]);
}

TEST_F(MappingTest, Errors) {
  MakeFile("f", "x");
  OK(mkdir(P("d"), 0755));
  const int reader = Open("f", O_RDONLY), writer = Open("f", O_WRONLY);
  FAILS(EACCES, mmap(nullptr, 1, PROT_READ | PROT_WRITE, MAP_SHARED, reader, 0));
  FAILS(EACCES, mmap(nullptr, 1, PROT_READ, MAP_SHARED, writer, 0));
  FAILS(EACCES, mmap(nullptr, 1, PROT_READ, MAP_PRIVATE, writer, 0));
  FAILS(ENODEV, mmap(nullptr, 1, PROT_READ, MAP_SHARED, Open("d", O_RDONLY), 0));
  FAILS(EINVAL, mmap(nullptr, 1, PROT_READ, MAP_SHARED, reader, 1));
  FAILS(EINVAL, mmap(nullptr, 0, PROT_READ, MAP_SHARED, reader, 0));
  FAILS(EBADF, mmap(nullptr, 1, PROT_READ, MAP_SHARED, 987654, 0));
  FAILS(EBADF, mmap(nullptr, 1, PROT_READ, MAP_SHARED, Open("f", O_PATH), 0));
}

TEST_F(MappingTest, MixedWithWritesEveryByteStays) {
  constexpr size_t kBytes = 1 << 20;
  MakeFile("f", std::string(kBytes, '\0'));
  const int fd = Open("f", O_RDWR);
  char* at = Map(fd, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED);
  ASSERT_NE(at, nullptr);
  std::string expected(kBytes, '\0');
  for (size_t i = 0; i < 400; ++i) {
    const size_t offset = i * 2'503 % (kBytes - 10);
    const char value = static_cast<char>('a' + i % 26);
    if (i % 2 == 0) {
      at[offset] = value;
    } else {
      IS(1, pwrite(fd, &value, 1, static_cast<off_t>(offset)));
    }
    expected[offset] = value;
  }
  HOLDS(std::memcmp(at, expected.data(), kBytes) == 0);
  OK(msync(at, kBytes, MS_SYNC));
  HOLDS(Content("f") == expected);
}

}  // namespace
}  // namespace cairn::posix
