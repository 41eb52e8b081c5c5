// A read-only mount: every call that would change something answers EROFS, for root and for others; reading
// works.
#include <linux/falloc.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/xattr.h>

#include "tests/posix/posix_test.h"

namespace cairn::posix {
namespace {

struct Change {
  const char* name;
  int64_t (*call)(const std::string& dir);  // "file", "empty" (a directory), "link" exist in it
};

int64_t CloseAgain(int fd) {
  if (fd >= 0) close(fd);
  return fd;
}

const Change kChanges[] = {
    {"open_write",
     [](const std::string& d) -> int64_t { return CloseAgain(open((d + "file").c_str(), O_WRONLY)); }},
    {"open_read_write",
     [](const std::string& d) -> int64_t { return CloseAgain(open((d + "file").c_str(), O_RDWR)); }},
    {"open_truncate",
     [](const std::string& d) -> int64_t {
       return CloseAgain(open((d + "file").c_str(), O_RDONLY | O_TRUNC));
     }},
    {"open_create",
     [](const std::string& d) -> int64_t {
       return CloseAgain(open((d + "new").c_str(), O_RDONLY | O_CREAT, 0600));
     }},
    {"mkdir", [](const std::string& d) -> int64_t { return mkdir((d + "new").c_str(), 0700); }},
    {"rmdir", [](const std::string& d) -> int64_t { return rmdir((d + "empty").c_str()); }},
    {"mknod", [](const std::string& d) -> int64_t { return mknod((d + "new").c_str(), S_IFREG | 0600, 0); }},
    {"mkfifo", [](const std::string& d) -> int64_t { return mkfifo((d + "new").c_str(), 0600); }},
    {"unlink", [](const std::string& d) -> int64_t { return unlink((d + "file").c_str()); }},
    {"link", [](const std::string& d) -> int64_t { return link((d + "file").c_str(), (d + "new").c_str()); }},
    {"symlink", [](const std::string& d) -> int64_t { return symlink("x", (d + "new").c_str()); }},
    {"rename",
     [](const std::string& d) -> int64_t { return rename((d + "file").c_str(), (d + "new").c_str()); }},
    {"exchange",
     [](const std::string& d) -> int64_t {
       return renameat2(AT_FDCWD, (d + "file").c_str(), AT_FDCWD, (d + "empty").c_str(), RENAME_EXCHANGE);
     }},
    {"chmod", [](const std::string& d) -> int64_t { return chmod((d + "file").c_str(), 0600); }},
    {"chown", [](const std::string& d) -> int64_t { return chown((d + "file").c_str(), 1, 1); }},
    {"lchown", [](const std::string& d) -> int64_t { return lchown((d + "link").c_str(), 1, 1); }},
    {"truncate", [](const std::string& d) -> int64_t { return truncate((d + "file").c_str(), 0); }},
    {"utimensat",
     [](const std::string& d) -> int64_t { return utimensat(AT_FDCWD, (d + "file").c_str(), nullptr, 0); }},
    {"setxattr",
     [](const std::string& d) -> int64_t { return setxattr((d + "file").c_str(), "user.a", "v", 1, 0); }},
    {"removexattr",
     [](const std::string& d) -> int64_t { return removexattr((d + "file").c_str(), "user.a"); }},
    {"access_write", [](const std::string& d) -> int64_t { return access((d + "file").c_str(), W_OK); }},
};

class ReadOnlyTest : public PosixTest {
 protected:
  void SetUp() override {
    PosixTest::SetUp();
    if (IsSkipped()) return;
    if (TheTarget().read_only_directory.empty())
      GTEST_SKIP() << "no read-only mount of the directory can be made here";
    OpenToAll();
    MakeFile("file", "content", 0666);
    ASSERT_EQ(mkdir(P("empty"), 0777), 0);
    ASSERT_EQ(symlink("file", P("link")), 0);
  }
};

class ReadOnlyChangeTest : public ReadOnlyTest, public testing::WithParamInterface<Change> {};

TEST_P(ReadOnlyChangeTest, IsRefusedWithEROFS) {
  const std::string base = ReadOnly("");
  FAILS(EROFS, GetParam().call(base));
  As(kAlice, [&] { FAILS(EROFS, GetParam().call(base)); });
  IS("content", Content("file"));
}

INSTANTIATE_TEST_SUITE_P(Calls, ReadOnlyChangeTest, testing::ValuesIn(kChanges),
                         [](const auto& param) { return std::string(param.param.name); });

TEST_F(ReadOnlyTest, ReadingWorks) {
  const int fd = open(ReadOnly("file").c_str(), O_RDONLY);
  ASSERT_GE(fd, 0);
  char text[16] = "";
  IS(7, read(fd, text, sizeof text));
  IS(std::string("content"), std::string(text));
  FAILS(EBADF, write(fd, "x", 1));
  FAILS_EITHER(EINVAL, EBADF, ftruncate(fd, 0));
  FAILS(EBADF, fallocate(fd, 0, 0, 10));
  FAILS(EROFS, fchmod(fd, 0600));
  FAILS(EROFS, futimens(fd, nullptr));
  FAILS(EROFS, fsetxattr(fd, "user.a", "v", 1, 0));
  close(fd);
  struct stat info {};
  OK(stat(ReadOnly("file").c_str(), &info));
  OK(access(ReadOnly("file").c_str(), R_OK));
}

TEST_F(ReadOnlyTest, AnExistingNameStillSaysSo) {
  FAILS_EITHER(EEXIST, EROFS, mkdir(ReadOnly("empty").c_str(), 0755));
  FAILS_EITHER(EEXIST, EROFS, symlink("x", ReadOnly("file").c_str()));
  FAILS(EEXIST, open(ReadOnly("file").c_str(), O_CREAT | O_EXCL, 0600));
  FAILS(ENOENT, open(ReadOnly("absent").c_str(), O_RDWR));
}

TEST_F(ReadOnlyTest, StatvfsShowsTheFlag) {
  struct statvfs info {};
  OK(statvfs(ReadOnly("").c_str(), &info));
  HOLDS((info.f_flag & ST_RDONLY) != 0);
}

// What is written through the writable mount is seen here at once.
TEST_F(ReadOnlyTest, SeesWhatTheWritableMountDoes) {
  MakeFile("file", "changed", 0666);
  const int fd = open(ReadOnly("file").c_str(), O_RDONLY);
  ASSERT_GE(fd, 0);
  char text[16] = "";
  IS(7, pread(fd, text, sizeof text, 0));
  IS(std::string("changed"), std::string(text));
  const int writer = Open("file", O_WRONLY);
  IS(3, pwrite(writer, "CHA", 3, 0));
  IS(7, pread(fd, text, sizeof text, 0));
  IS(std::string("CHAnged"), std::string(text));
  close(fd);
  OK(unlink(P("file")));
  FAILS(ENOENT, access(ReadOnly("file").c_str(), F_OK));
}

}  // namespace
}  // namespace cairn::posix
