// Every call that takes a path, against every way in which a path can be wrong: the errors that all of them
// share.
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/xattr.h>

#include <climits>

#include "tests/posix/posix_test.h"

namespace cairn::posix {
namespace {

struct PathCall {
  const char* name;
  // Calls with `path`; `good` is the path of an existing file beside, for calls with two paths.
  int64_t (*call)(const char* path, const char* good);
  bool creates;  // the last component need not exist
};

int64_t CloseAgain(int fd) {
  if (fd >= 0) close(fd);
  return fd;
}

const PathCall kCalls[] = {
    {"open", [](const char* p, const char*) -> int64_t { return CloseAgain(open(p, O_RDONLY)); }, false},
    {"open_write", [](const char* p, const char*) -> int64_t { return CloseAgain(open(p, O_WRONLY)); },
     false},
    {"open_create",
     [](const char* p, const char*) -> int64_t { return CloseAgain(open(p, O_RDWR | O_CREAT, 0600)); }, true},
    {"open_exclusive",
     [](const char* p, const char*) -> int64_t {
       return CloseAgain(open(p, O_RDWR | O_CREAT | O_EXCL, 0600));
     },
     true},
    {"open_truncate",
     [](const char* p, const char*) -> int64_t { return CloseAgain(open(p, O_WRONLY | O_TRUNC)); }, false},
    {"open_path", [](const char* p, const char*) -> int64_t { return CloseAgain(open(p, O_PATH)); }, false},
    {"open_directory", [](const char* p, const char*) -> int64_t { return CloseAgain(open(p, O_DIRECTORY)); },
     false},
    {"creat", [](const char* p, const char*) -> int64_t { return CloseAgain(creat(p, 0600)); }, true},
    {"mkdir", [](const char* p, const char*) -> int64_t { return mkdir(p, 0700); }, true},
    {"rmdir", [](const char* p, const char*) -> int64_t { return rmdir(p); }, false},
    {"mknod", [](const char* p, const char*) -> int64_t { return mknod(p, S_IFREG | 0600, 0); }, true},
    {"mkfifo", [](const char* p, const char*) -> int64_t { return mkfifo(p, 0600); }, true},
    {"unlink", [](const char* p, const char*) -> int64_t { return unlink(p); }, false},
    {"link_from",
     [](const char* p, const char* g) -> int64_t { return link(p, (std::string(g) + ".new").c_str()); },
     false},
    {"link_to", [](const char* p, const char* g) -> int64_t { return link(g, p); }, true},
    {"symlink", [](const char* p, const char*) -> int64_t { return symlink("target", p); }, true},
    {"readlink",
     [](const char* p, const char*) -> int64_t {
       char b[64];
       return readlink(p, b, sizeof b);
     },
     false},
    {"rename_from",
     [](const char* p, const char* g) -> int64_t { return rename(p, (std::string(g) + ".new").c_str()); },
     false},
    {"rename_to", [](const char* p, const char* g) -> int64_t { return rename(g, p); }, true},
    {"exchange",
     [](const char* p, const char* g) -> int64_t {
       return renameat2(AT_FDCWD, g, AT_FDCWD, p, RENAME_EXCHANGE);
     },
     false},
    {"stat",
     [](const char* p, const char*) -> int64_t {
       struct stat s;
       return stat(p, &s);
     },
     false},
    {"lstat",
     [](const char* p, const char*) -> int64_t {
       struct stat s;
       return lstat(p, &s);
     },
     false},
    {"statx",
     [](const char* p, const char*) -> int64_t {
       struct statx s;
       return statx(AT_FDCWD, p, 0, STATX_BASIC_STATS, &s);
     },
     false},
    {"statfs",
     [](const char* p, const char*) -> int64_t {
       struct statfs s;
       return statfs(p, &s);
     },
     false},
    {"access", [](const char* p, const char*) -> int64_t { return access(p, F_OK); }, false},
    {"faccessat2",
     [](const char* p, const char*) -> int64_t {
       return syscall(SYS_faccessat2, AT_FDCWD, p, R_OK, AT_EACCESS);
     },
     false},
    {"chmod", [](const char* p, const char*) -> int64_t { return chmod(p, 0600); }, false},
    {"chown", [](const char* p, const char*) -> int64_t { return chown(p, -1, -1); }, false},
    {"lchown", [](const char* p, const char*) -> int64_t { return lchown(p, -1, -1); }, false},
    {"truncate", [](const char* p, const char*) -> int64_t { return truncate(p, 0); }, false},
    {"utimensat", [](const char* p, const char*) -> int64_t { return utimensat(AT_FDCWD, p, nullptr, 0); },
     false},
    {"chdir", [](const char* p, const char*) -> int64_t { return chdir(p); }, false},
    {"getxattr",
     [](const char* p, const char*) -> int64_t {
       char b[8];
       return getxattr(p, "user.a", b, sizeof b);
     },
     false},
    {"lgetxattr",
     [](const char* p, const char*) -> int64_t {
       char b[8];
       return lgetxattr(p, "user.a", b, sizeof b);
     },
     false},
    {"setxattr", [](const char* p, const char*) -> int64_t { return setxattr(p, "user.a", "v", 1, 0); },
     false},
    {"listxattr",
     [](const char* p, const char*) -> int64_t {
       char b[8];
       return listxattr(p, b, sizeof b);
     },
     false},
    {"removexattr", [](const char* p, const char*) -> int64_t { return removexattr(p, "user.a"); }, false},
};

class PathErrorTest : public PosixTest, public testing::WithParamInterface<PathCall> {
 protected:
  void SetUp() override {
    PosixTest::SetUp();
    if (IsSkipped()) return;
    OpenToAll();
    MakeFile("good", "good", 0666);
    MakeFile("file", "file", 0666);
    ASSERT_EQ(mkdir(P("locked"), 0700), 0);
    MakeFile("locked/file");
    ASSERT_EQ(symlink("loop", P("loop")), 0);
    ASSERT_EQ(mkdir(P("directory"), 0777), 0);
  }
  int64_t Call(const char* path) { return GetParam().call(path, P("good")); }
};

TEST_P(PathErrorTest, AMissingComponentIsENOENT) {
  FAILS(ENOENT, Call(P("absent/x")));
  if (!GetParam().creates) FAILS(ENOENT, Call(P("absent")));
}

TEST_P(PathErrorTest, AFileAsDirectoryIsENOTDIR) {
  FAILS(ENOTDIR, Call(P("file/x")));
  FAILS(ENOTDIR, Call(P("file/../good")));
}

TEST_P(PathErrorTest, ADirectoryWithoutSearchPermissionIsEACCES) {
  As(kAlice, [&] {
    FAILS(EACCES, Call(P("locked/file")));
    FAILS(EACCES, Call(P("locked/absent")));
    FAILS(EACCES, Call(P("locked/../locked/file")));
  });
}

TEST_P(PathErrorTest, ACircleOfLinksIsELOOP) { FAILS(ELOOP, Call(P("loop/x"))); }

TEST_P(PathErrorTest, ANameOf256BytesIsENAMETOOLONG) {
  FAILS(ENAMETOOLONG, Call(P(std::string(256, 'n'))));
  FAILS(ENAMETOOLONG, Call(P("directory/" + std::string(256, 'n'))));
  FAILS(ENAMETOOLONG, Call(P(std::string(256, 'n') + "/x")));
}

TEST_P(PathErrorTest, APathOf4096BytesIsENAMETOOLONG) {
  std::string path = directory() + "/";
  while (path.size() < PATH_MAX) path += "./";
  FAILS(ENAMETOOLONG, Call(path.c_str()));
}

TEST_P(PathErrorTest, AnEmptyPathIsENOENTAndABadPointerEFAULT) {
  FAILS(ENOENT, Call(""));
  if (std::string(GetParam().name) == "link_from" || std::string(GetParam().name) == "rename_from") return;
  FAILS(EFAULT, Call(reinterpret_cast<const char*>(1)));
}

INSTANTIATE_TEST_SUITE_P(Calls, PathErrorTest, testing::ValuesIn(kCalls),
                         [](const auto& param) { return std::string(param.param.name); });

}  // namespace
}  // namespace cairn::posix
