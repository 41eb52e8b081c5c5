// mkdir, rmdir, link, symlink, readlink, unlink: names and their errors.
#include <sys/syscall.h>

#include <climits>

#include "tests/posix/posix_test.h"

namespace cairn::posix {
namespace {

using NameTest = PosixTest;

TEST_F(NameTest, MkdirMakesAnEmptyDirectory) {
  const nlink_t before = Stat("").st_nlink;
  OK(mkdir(P("d"), 0751));
  const struct stat info = Stat("d");
  HOLDS(S_ISDIR(info.st_mode));
  IS(0751u, info.st_mode & 07777);
  IS(2u, info.st_nlink);
  IS(before + 1, Stat("").st_nlink);
  IS(0u, List("d").size());
  OK(rmdir(P("d")));
  IS(before, Stat("").st_nlink);
}

TEST_F(NameTest, MkdirKeepsStickyAndIgnoresSetUserId) {
  OK(mkdir(P("d"), 01777));
  IS(01755u, Mode("d"));
  OK(mkdir(P("e"), 04755));
  HOLDS((Mode("e") & 04000) == 0);
}

TEST_F(NameTest, MkdirErrors) {
  MakeFile("file");
  OK(mkdir(P("d"), 0755));
  OK(symlink("nowhere", P("dangling")));
  for (const char* name : {"file", "d", "dangling", ".", "..", "d/"}) FAILS(EEXIST, mkdir(P(name), 0755));
  FAILS(ENOENT, mkdir(P("absent/e"), 0755));
  FAILS(ENOTDIR, mkdir(P("file/e"), 0755));
  FAILS(EEXIST, mkdir("/", 0755));
  OK(mkdir(P("slash/"), 0755));
  As(kAlice, [&] { FAILS(EACCES, mkdir(P("e"), 0755)); });
}

TEST_F(NameTest, RmdirErrors) {
  MakeFile("file");
  OK(mkdir(P("d"), 0755));
  OK(mkdir(P("d/e"), 0755));
  OK(symlink("d", P("link")));
  FAILS(ENOTEMPTY, rmdir(P("d")));
  FAILS(ENOTDIR, rmdir(P("file")));
  FAILS(ENOTDIR, rmdir(P("link")));
  FAILS(EINVAL, rmdir(P("d/.")));
  FAILS(ENOTEMPTY, rmdir(P("d/e/..")));
  FAILS(ENOENT, rmdir(P("absent")));
  FAILS(EBUSY, rmdir("/"));
  As(kAlice, [&] { FAILS(EACCES, rmdir(P("d/e"))); });
  OK(rmdir(P("d/e/")));
  OK(rmdir(P("d")));
  FAILS(ENOENT, rmdir(P("d")));
}

TEST_F(NameTest, ANonEmptyDirectoryCountsEveryKindOfEntry) {
  for (const char* kind : {"file", "directory", "link", "fifo", "dangling"}) {
    SCOPED_TRACE(kind);
    OK(mkdir(P("d"), 0755));
    const std::string inside = "d/x";
    const std::string which = kind;
    if (which == "file") MakeFile(inside);
    if (which == "directory") OK(mkdir(P(inside), 0755));
    if (which == "link") OK(symlink("..", P(inside)));
    if (which == "fifo") OK(mkfifo(P(inside), 0600));
    if (which == "dangling") OK(symlink("nowhere", P(inside)));
    FAILS(ENOTEMPTY, rmdir(P("d")));
    if (which == "directory") {
      OK(rmdir(P(inside)));
    } else {
      OK(unlink(P(inside)));
    }
    OK(rmdir(P("d")));
  }
}

TEST_F(NameTest, UnlinkErrors) {
  OK(mkdir(P("d"), 0755));
  MakeFile("f");
  FAILS(EISDIR, unlink(P("d")));
  FAILS(ENOENT, unlink(P("absent")));
  FAILS(ENOTDIR, unlink(P("f/x")));
  FAILS(ENOTDIR, unlink((std::string(P("f")) + "/").c_str()));
  As(kAlice, [&] { FAILS(EACCES, unlink(P("f"))); });
  OK(unlink(P("f")));
  FAILS(ENOENT, unlink(P("f")));
}

TEST_F(NameTest, UnlinkRemovesTheLinkNotItsTarget) {
  MakeFile("f", "content");
  OK(symlink("f", P("link")));
  OK(unlink(P("link")));
  IS("content", Content("f"));
  FAILS(ENOENT, access(P("link"), F_OK));
}

TEST_F(NameTest, HardLinksAreOneFile) {
  MakeFile("a", "content");
  OK(link(P("a"), P("b")));
  OK(mkdir(P("d"), 0755));
  OK(link(P("b"), P("d/c")));
  IS(Stat("a").st_ino, Stat("d/c").st_ino);
  for (const char* name : {"a", "b", "d/c"}) IS(3u, Stat(name).st_nlink);
  const int fd = Open("b", O_WRONLY | O_APPEND);
  IS(5, write(fd, " more", 5));
  IS("content more", Content("d/c"));
  IS(12, Stat("a").st_size);
  OK(chmod(P("d/c"), 0600));
  IS(0600u, Mode("a"));
  OK(unlink(P("a")));
  IS(2u, Stat("b").st_nlink);
  OK(unlink(P("b")));
  IS("content more", Content("d/c"));
  IS(1u, Stat("d/c").st_nlink);
}

TEST_F(NameTest, LinkErrors) {
  MakeFile("a");
  MakeFile("b");
  OK(mkdir(P("d"), 0755));
  FAILS(EEXIST, link(P("a"), P("b")));
  FAILS(EEXIST, link(P("a"), P("a")));
  FAILS(EEXIST, link(P("a"), P("d")));
  FAILS(EPERM, link(P("d"), P("e")));
  FAILS(ENOENT, link(P("absent"), P("e")));
  FAILS(ENOENT, link(P("a"), P("absent/e")));
  FAILS(ENOTDIR, link(P("a"), P("b/e")));
  FAILS_EITHER(ENOENT, ENOTDIR, link(P("a"), (std::string(P("e")) + "/").c_str()));
  FAILS(EXDEV, link(P("a"), (TheTarget().other_file_system + "/e").c_str()));
  As(kAlice, [&] { FAILS_EITHER(EACCES, EPERM, link(P("a"), P("e"))); });
  IS(1u, Stat("a").st_nlink);
}

TEST_F(NameTest, LinksToLinksAndSpecialFiles) {
  MakeFile("f", "content");
  OK(symlink("f", P("l")));
  OK(link(P("l"), P("l2")));  // the link itself
  HOLDS(S_ISLNK(Lstat("l2").st_mode));
  IS(2u, Lstat("l").st_nlink);
  OK(linkat(AT_FDCWD, P("l"), AT_FDCWD, P("f2"), AT_SYMLINK_FOLLOW));
  IS(Stat("f").st_ino, Lstat("f2").st_ino);
  OK(mkfifo(P("p"), 0600));
  OK(link(P("p"), P("p2")));
  IS(2u, Lstat("p").st_nlink);
  FAILS(EINVAL, linkat(AT_FDCWD, P("f"), AT_FDCWD, P("f3"), 0x40000000));
}

TEST_F(NameTest, AnUnlinkedOpenFileGetsNoNewName) {
  MakeFile("f", "x");
  const int fd = Open("f", O_RDONLY);
  OK(unlink(P("f")));
  FAILS(ENOENT, linkat(AT_FDCWD, ("/proc/self/fd/" + std::to_string(fd)).c_str(), AT_FDCWD, P("g"),
                       AT_SYMLINK_FOLLOW));
}

TEST_F(NameTest, AnUnlinkedOpenFileLivesOn) {
  MakeFile("f", "content");
  const int fd = Open("f", O_RDWR);
  OK(unlink(P("f")));
  struct stat info {};
  OK(fstat(fd, &info));
  IS(0u, info.st_nlink);
  char text[16] = "";
  IS(7, pread(fd, text, 16, 0));
  IS(4, pwrite(fd, "more", 4, 100'000));
  IS(4, pread(fd, text, 16, 100'000));
  OK(fstat(fd, &info));
  IS(100'004, info.st_size);
  OK(ftruncate(fd, 3));
  OK(fchmod(fd, 0600));
  OK(fsync(fd));
  MakeFile("f", "another");
  IS(3, pread(fd, text, 16, 0));
  HOLDS(std::memcmp(text, "con", 3) == 0);
  IS("another", Content("f"));
}

TEST_F(NameTest, SymlinksOfAllLengths) {
  for (const size_t length : {1u, 59u, 60u, 255u, 256u, 1000u, 4000u, 4095u}) {
    SCOPED_TRACE(length);
    const std::string target(length, 't');
    OK(symlink(target.c_str(), P("l")));
    IS(static_cast<off_t>(length), Lstat("l").st_size);
    std::string got(PATH_MAX + 1, '\0');
    IS(static_cast<ssize_t>(length), readlink(P("l"), got.data(), got.size()));
    IS(target, got.substr(0, length));
    OK(unlink(P("l")));
  }
  FAILS(ENAMETOOLONG, symlink(std::string(4096, 't').c_str(), P("l")));
  FAILS(ENOENT, symlink("", P("l")));
}

TEST_F(NameTest, SymlinkAttributesAndErrors) {
  MakeFile("f");
  OK(symlink("f", P("l")));
  HOLDS(S_ISLNK(Lstat("l").st_mode));
  IS(0777u, Mode("l"));
  FAILS(EEXIST, symlink("x", P("l")));
  FAILS(EEXIST, symlink("x", P("f")));
  FAILS(ENOENT, symlink("x", P("absent/l")));
  FAILS(ENOTDIR, symlink("x", P("f/l")));
  As(kAlice, [&] { FAILS(EACCES, symlink("x", P("m"))); });
  char text[4] = "";
  FAILS(EINVAL, readlink(P("f"), text, sizeof text));
  FAILS(EINVAL, readlink(P(""), text, sizeof text));
  OK(symlink("0123456789", P("long")));
  IS(4, readlink(P("long"), text, sizeof text));
  FAILS(EINVAL, syscall(SYS_readlink, P("l"), text, 0));
  OK(symlink("\xff\x01 odd\n", P("odd")));
  char odd[16] = "";
  IS(7, readlink(P("odd"), odd, sizeof odd));
}

TEST_F(NameTest, SymlinkChainsUpTo40) {
  MakeFile("0", "end");
  for (int i = 1; i <= 41; ++i) OK(symlink(std::to_string(i - 1).c_str(), P(std::to_string(i))));
  IS("end", Content("40"));
  FAILS(ELOOP, open(P("41"), O_RDONLY));
  FAILS(ELOOP, chmod(P("41"), 0600));
  struct stat info {};
  OK(lstat(P("41"), &info));
}

TEST_F(NameTest, NamesOf255BytesOfAnyValue) {
  MakeFile(std::string(255, 'n'), "long");
  IS("long", Content(std::string(255, 'n')));
  FAILS(ENAMETOOLONG, open(P(std::string(256, 'n')), O_WRONLY | O_CREAT, 0600));
  FAILS(ENAMETOOLONG, mkdir(P(std::string(256, 'n')), 0700));
  FAILS(ENAMETOOLONG, symlink("x", P(std::string(256, 'n'))));
  FAILS(ENAMETOOLONG, rename(P(std::string(255, 'n')), P(std::string(256, 'n'))));
  OK(unlink(P(std::string(255, 'n'))));
  std::vector<std::string> expected;
  for (int byte = 1; byte < 256; ++byte) {
    if (byte == '/') continue;
    const std::string name = std::string(1, static_cast<char>(byte)) + "x";
    expected.push_back(name);
    MakeFile(name, std::to_string(byte));
  }
  std::sort(expected.begin(), expected.end());
  IS(expected, List(""));
  for (int byte = 1; byte < 256; ++byte) {
    if (byte != '/') IS(std::to_string(byte), Content(std::string(1, static_cast<char>(byte)) + "x"));
  }
}

TEST_F(NameTest, CaseAndNormalizationAreKept) {
  for (const char* name : {"a", "A", "\xc3\xa9", "e\xcc\x81", " ", ".hidden", "..x", "-"})
    MakeFile(name, name);
  IS(8u, List("").size());
  IS("a", Content("a"));
  IS("A", Content("A"));
  IS("\xc3\xa9", Content("\xc3\xa9"));
}

TEST_F(NameTest, PathsUpToPathMax) {
  // Deeper than any one path reaches, step by step.
  int at = Open("", O_RDONLY | O_DIRECTORY);
  const std::string component(200, 'd');
  std::string path = directory();
  std::vector<int> fds;
  for (int depth = 0; depth < 25; ++depth) {
    OK(mkdirat(at, component.c_str(), 0755));
    const int next = openat(at, component.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ASSERT_GE(next, 0);
    fds.push_back(next);
    at = next;
    path += "/" + component;
    struct stat info {};
    if (path.size() < PATH_MAX) {
      OK(stat(path.c_str(), &info));
    } else {
      FAILS(ENAMETOOLONG, stat(path.c_str(), &info));
    }
  }
  for (const int fd : fds) close(fd);
}

TEST_F(NameTest, DotAndDotDot) {
  OK(mkdir(P("d"), 0755));
  OK(mkdir(P("d/e"), 0755));
  IS(Stat("d").st_ino, Stat("d/.").st_ino);
  IS(Stat("d").st_ino, Stat("d/e/..").st_ino);
  FAILS(EEXIST, mkdir(P("d/."), 0755));
  FAILS(EEXIST, mkdir(P("d/e/.."), 0755));
  OK(rename(P("d/e"), P("e")));
  IS(Stat("").st_ino, Stat("e/..").st_ino);
}

TEST_F(NameTest, NamesCanBeUsedAgainAtOnce) {
  for (int i = 0; i < 30; ++i) {
    OK(mkdir(P("x"), 0755));
    OK(rmdir(P("x")));
    MakeFile("x", std::to_string(i));
    IS(std::to_string(i), Content("x"));
    OK(unlink(P("x")));
    OK(symlink("x", P("x")));
    OK(unlink(P("x")));
    FAILS(ENOENT, access(P("x"), F_OK));
  }
}

}  // namespace
}  // namespace cairn::posix
