// rename(2) and renameat2(2).
#include <sys/syscall.h>

#include "tests/posix/posix_test.h"

#ifndef RENAME_WHITEOUT
#define RENAME_WHITEOUT (1 << 2)
#endif

namespace cairn::posix {
namespace {

class RenameTest : public PosixTest {
 protected:
  int Rename2(const std::string& from, const std::string& to, unsigned flags) {
    return renameat2(AT_FDCWD, P(from), AT_FDCWD, P(to), flags);
  }
};

TEST_F(RenameTest, MovesTheInode) {
  MakeFile("a", "content");
  const ino_t inode = Stat("a").st_ino;
  OK(rename(P("a"), P("b")));
  IS(inode, Stat("b").st_ino);
  FAILS(ENOENT, access(P("a"), F_OK));
  OK(mkdir(P("d"), 0755));
  OK(rename(P("b"), P("d/c")));
  IS("content", Content("d/c"));
  IS(std::vector<std::string>{"d"}, List(""));
}

TEST_F(RenameTest, ReplacesWhatIsThere) {
  MakeFile("a", "new");
  MakeFile("b", "old");
  const int fd = Open("b", O_RDONLY);
  OK(rename(P("a"), P("b")));
  IS("new", Content("b"));
  char text[8] = "";
  IS(3, read(fd, text, sizeof text));
  IS(std::string("old"), std::string(text));
  struct stat info {};
  OK(fstat(fd, &info));
  IS(0u, info.st_nlink);
  OK(mkdir(P("d"), 0755));
  OK(mkdir(P("e"), 0755));
  MakeFile("d/inside", "x");
  OK(rename(P("d"), P("e")));
  IS("x", Content("e/inside"));
  OK(symlink("nowhere", P("l")));
  OK(rename(P("b"), P("l")));
  HOLDS(S_ISREG(Lstat("l").st_mode));
}

TEST_F(RenameTest, TypesHaveToAgree) {
  MakeFile("file");
  OK(mkdir(P("dir"), 0755));
  OK(mkdir(P("full"), 0755));
  MakeFile("full/x");
  OK(symlink("dir", P("link")));
  FAILS(EISDIR, rename(P("file"), P("dir")));
  FAILS(ENOTDIR, rename(P("dir"), P("file")));
  FAILS(ENOTDIR, rename(P("dir"), P("link")));
  FAILS_EITHER(ENOTEMPTY, EEXIST, rename(P("dir"), P("full")));
  FAILS(EISDIR, rename(P("link"), P("dir")));
  OK(rename(P("full"), P("dir")));
}

TEST_F(RenameTest, TwoNamesOfOneFileStay) {
  MakeFile("a", "x");
  OK(link(P("a"), P("b")));
  OK(rename(P("a"), P("b")));
  IS(2u, List("").size());
  IS(2u, Stat("a").st_nlink);
  OK(rename(P("a"), P("a")));
}

TEST_F(RenameTest, ADirectoryCannotMoveIntoItself) {
  OK(mkdir(P("d"), 0755));
  OK(mkdir(P("d/e"), 0755));
  FAILS(EINVAL, rename(P("d"), P("d/e/f")));
  FAILS(EINVAL, rename(P("d"), P("d/f")));
  FAILS_EITHER(ENOTEMPTY, EINVAL, rename(P("d/e"), P("d")));
  FAILS(EINVAL, Rename2("d", "d/e", RENAME_EXCHANGE));
  FAILS(EBUSY, rename(P("d/."), P("x")));
  FAILS(EBUSY, rename(P("d/.."), P("x")));
  FAILS(EBUSY, rename(P("d/e"), P("d/.")));
}

TEST_F(RenameTest, ErrorsOfPaths) {
  MakeFile("f");
  OK(mkdir(P("d"), 0755));
  FAILS(ENOENT, rename(P("absent"), P("x")));
  FAILS(ENOENT, rename(P("f"), P("absent/x")));
  FAILS(ENOTDIR, rename(P("f/x"), P("x")));
  FAILS(ENOTDIR, rename(P("f"), P("f/x")));
  FAILS(ENOTDIR, rename((std::string(P("f")) + "/").c_str(), P("x")));
  FAILS(EXDEV, rename(P("f"), (TheTarget().other_file_system + "/x").c_str()));
  OK(rename((std::string(P("d")) + "/").c_str(), (std::string(P("e")) + "/").c_str()));
}

TEST_F(RenameTest, NoreplaceRefusesWhateverIsThere) {
  MakeFile("a", "a");
  MakeFile("b", "b");
  OK(mkdir(P("d"), 0755));
  OK(symlink("nowhere", P("l")));
  for (const char* to : {"b", "d", "l", "a"}) FAILS(EEXIST, Rename2("a", to, RENAME_NOREPLACE));
  OK(Rename2("a", "new", RENAME_NOREPLACE));
  IS("a", Content("new"));
  IS("b", Content("b"));
  FAILS(ENOENT, Rename2("absent", "x", RENAME_NOREPLACE));
}

TEST_F(RenameTest, ExchangeSwapsAnyTwo) {
  MakeFile("file", "f");
  MakeFile("other", "o");
  OK(mkdir(P("dir"), 0755));
  MakeFile("dir/inside", "i");
  OK(mkdir(P("place"), 0755));
  OK(symlink("nowhere", P("link")));
  const ino_t file = Stat("file").st_ino;
  OK(Rename2("file", "other", RENAME_EXCHANGE));
  IS("o", Content("file"));
  IS(file, Stat("other").st_ino);
  OK(Rename2("file", "dir", RENAME_EXCHANGE));
  IS("i", Content("file/inside"));
  IS("o", Content("dir"));
  OK(Rename2("link", "file", RENAME_EXCHANGE));
  HOLDS(S_ISLNK(Lstat("file").st_mode));
  IS("i", Content("link/inside"));
  // Across directories, a directory with a file: link counts and ".." follow.
  const nlink_t before = Stat("").st_nlink;
  MakeFile("place/x", "x");
  OK(Rename2("link", "place/x", RENAME_EXCHANGE));
  IS("x", Content("link"));
  IS("i", Content("place/x/inside"));
  IS(before - 1, Stat("").st_nlink);
  IS(3u, Stat("place").st_nlink);
  IS(Stat("place").st_ino, Stat("place/x/..").st_ino);
  FAILS(ENOENT, Rename2("link", "absent", RENAME_EXCHANGE));
  FAILS(ENOENT, Rename2("absent", "link", RENAME_EXCHANGE));
  OK(Rename2("link", "link", RENAME_EXCHANGE));
}

TEST_F(RenameTest, OtherFlagsAreRefused) {
  MakeFile("a");
  MakeFile("b");
  FAILS(EINVAL, Rename2("a", "b", RENAME_NOREPLACE | RENAME_EXCHANGE));
  FAILS(EINVAL, Rename2("a", "b", 1 << 10));
  FAILS(EINVAL, Rename2("a", "b", RENAME_EXCHANGE | RENAME_WHITEOUT));
  if (Rename2("a", "b", RENAME_WHITEOUT) == -1) {
    IS(EINVAL, errno);
    HOLDS(!TheTarget().local);
  } else {
    HOLDS(S_ISCHR(Lstat("a").st_mode));
  }
}

TEST_F(RenameTest, LinkCountsFollowDirectories) {
  OK(mkdir(P("a"), 0755));
  OK(mkdir(P("b"), 0755));
  OK(mkdir(P("a/sub"), 0755));
  IS(3u, Stat("a").st_nlink);
  OK(rename(P("a/sub"), P("b/sub")));
  IS(2u, Stat("a").st_nlink);
  IS(3u, Stat("b").st_nlink);
  IS(Stat("b").st_ino, Stat("b/sub/..").st_ino);
  OK(mkdir(P("a/sub"), 0755));
  OK(rename(P("b/sub"), P("a/sub")));
  IS(2u, Stat("b").st_nlink);
  IS(3u, Stat("a").st_nlink);
}

TEST_F(RenameTest, NeedsPermissionOnBothDirectories) {
  OK(mkdir(P("open"), 0777));
  OK(chmod(P("open"), 0777));
  OK(mkdir(P("closed"), 0755));
  MakeFile("open/f", "x", 0666);
  MakeFile("closed/f", "x", 0666);
  As(kAlice, [&] {
    FAILS(EACCES, rename(P("open/f"), P("closed/g")));
    FAILS(EACCES, rename(P("closed/f"), P("open/g")));
    FAILS(EACCES, rename(P("closed/f"), P("closed/g")));
    OK(rename(P("open/f"), P("open/g")));
    FAILS(EACCES, Rename2("open/g", "closed/f", RENAME_EXCHANGE));
    FAILS(EACCES, Rename2("closed/f", "open/h", RENAME_NOREPLACE));
  });
}

TEST_F(RenameTest, MovingADirectoryNeedsWritePermissionOnIt) {
  OK(mkdir(P("from"), 0777));
  OK(mkdir(P("to"), 0777));
  OK(chmod(P("from"), 0777));
  OK(chmod(P("to"), 0777));
  As(kAlice, [&] { OK(mkdir(P("from/d"), 0555)); });
  As(kAlice, [&] {
    FAILS(EACCES, rename(P("from/d"), P("to/d")));  // its ".." would change
    OK(rename(P("from/d"), P("from/e")));
    OK(chmod(P("from/e"), 0755));
    OK(rename(P("from/e"), P("to/e")));
  });
}

TEST_F(RenameTest, OpenDescriptorsFollow) {
  MakeFile("f", "content");
  OK(mkdir(P("d"), 0755));
  const int fd = Open("f", O_RDWR);
  const int dir = Open("d", O_RDONLY | O_DIRECTORY);
  OK(rename(P("f"), P("g")));
  OK(rename(P("d"), P("e")));
  IS(3, pwrite(fd, "CON", 3, 0));
  IS("CONtent", Content("g"));
  const int made = openat(dir, "new", O_WRONLY | O_CREAT, 0600);
  HOLDS(made >= 0);
  close(made);
  IS(std::vector<std::string>{"new"}, List("e"));
}

TEST_F(RenameTest, ManyTimesInCircles) {
  for (int i = 0; i < 3; ++i) MakeFile("f" + std::to_string(i), std::to_string(i));
  for (int round = 0; round < 20; ++round) {
    OK(rename(P("f0"), P("tmp")));
    OK(rename(P("f1"), P("f0")));
    OK(rename(P("f2"), P("f1")));
    OK(rename(P("tmp"), P("f2")));
    IS(std::to_string((round + 1) % 3), Content("f0"));
  }
  IS(3u, List("").size());
}

}  // namespace
}  // namespace cairn::posix
