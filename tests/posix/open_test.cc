// open(2), openat(2), creat(2): flags, errors, what descriptors allow.
#include <sys/syscall.h>
#include <sys/uio.h>

#include "tests/posix/posix_test.h"

namespace cairn::posix {
namespace {

using OpenTest = PosixTest;

TEST_F(OpenTest, CreateMakesARegularEmptyFile) {
  const int fd = open(P("f"), O_RDWR | O_CREAT | O_CLOEXEC, 0640);
  ASSERT_GE(fd, 0);
  const struct stat info = Stat("f");
  HOLDS(S_ISREG(info.st_mode));
  IS(0640u, info.st_mode & 07777);
  IS(0, info.st_size);
  IS(1u, info.st_nlink);
  IS(0u, info.st_uid);
  IS(0, info.st_blocks);
  close(fd);
}

TEST_F(OpenTest, TheUmaskIsTakenFromTheMode) {
  const mode_t old = umask(027);
  for (const auto& [mode, expected] :
       {std::pair{0777u, 0750u}, {0666u, 0640u}, {04777u, 04750u}, {01666u, 01640u}}) {
    unlink(P("f"));
    const int fd = open(P("f"), O_WRONLY | O_CREAT | O_EXCL, mode);
    ASSERT_GE(fd, 0);
    close(fd);
    IS(expected, Mode("f"));
  }
  OK(mkdir(P("d"), 0777));
  IS(0750u, Mode("d"));
  OK(mkfifo(P("p"), 0666));
  IS(0640u, Mode("p"));
  umask(old);
}

TEST_F(OpenTest, ExclusiveCreateRefusesWhateverIsThere) {
  MakeFile("file");
  OK(mkdir(P("directory"), 0755));
  OK(symlink("file", P("link")));
  OK(symlink("nowhere", P("dangling")));
  OK(mkfifo(P("fifo"), 0600));
  for (const char* name : {"file", "directory", "link", "dangling", "fifo"}) {
    SCOPED_TRACE(name);
    FAILS(EEXIST, open(P(name), O_RDWR | O_CREAT | O_EXCL, 0600));
    FAILS(EEXIST, open(P(name), O_RDONLY | O_CREAT | O_EXCL, 0600));
  }
  FAILS(ENOENT, access(P("nowhere"), F_OK));
}

TEST_F(OpenTest, CreateFollowsADanglingLink) {
  OK(symlink("target", P("link")));
  const int fd = open(P("link"), O_WRONLY | O_CREAT, 0600);
  ASSERT_GE(fd, 0);
  close(fd);
  HOLDS(S_ISREG(Lstat("target").st_mode));
}

TEST_F(OpenTest, TruncateEmptiesAndKeepsTheInode) {
  MakeFile("f", Pattern(1, 100'000));
  const ino_t inode = Stat("f").st_ino;
  for (const int access : {O_WRONLY, O_RDWR}) {
    MakeFile("f", "content");
    const int fd = open(P("f"), access | O_TRUNC);
    ASSERT_GE(fd, 0);
    IS(0, Stat("f").st_size);
    close(fd);
    IS("", Content("f"));
  }
  IS(inode, Stat("f").st_ino);
  IS(0, Stat("f").st_blocks);
}

TEST_F(OpenTest, DirectoriesOpenForReadingOnly) {
  OK(mkdir(P("d"), 0755));
  for (const int flags : {O_WRONLY, O_RDWR, O_WRONLY | O_TRUNC, O_RDWR | O_APPEND})
    FAILS(EISDIR, open(P("d"), flags));
  FAILS(EISDIR, open(P("d"), O_RDONLY | O_CREAT, 0600));
  FAILS(EISDIR, open(P("d"), O_WRONLY | O_CREAT, 0600));
  const int fd = Open("d", O_RDONLY);
  char byte = 0;
  FAILS(EISDIR, read(fd, &byte, 1));
  FAILS(EISDIR, pread(fd, &byte, 1, 0));
  FAILS(EBADF, write(fd, &byte, 1));
  FAILS(EINVAL, ftruncate(fd, 0));
  OK(fsync(fd));
  OK(fdatasync(fd));
}

TEST_F(OpenTest, ODirectoryTakesDirectoriesOnly) {
  MakeFile("f");
  OK(mkdir(P("d"), 0755));
  OK(symlink("d", P("ld")));
  OK(symlink("f", P("lf")));
  FAILS(ENOTDIR, open(P("f"), O_RDONLY | O_DIRECTORY));
  FAILS(ENOTDIR, open(P("lf"), O_RDONLY | O_DIRECTORY));
  FAILS(ENOTDIR, open(P("ld"), O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  Open("ld", O_RDONLY | O_DIRECTORY);
  Open("d", O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
}

TEST_F(OpenTest, ONofollowRefusesALinkAtTheEndOnly) {
  MakeFile("f", "x");
  OK(mkdir(P("d"), 0755));
  MakeFile("d/f", "y");
  OK(symlink("f", P("link")));
  OK(symlink("d", P("ld")));
  FAILS(ELOOP, open(P("link"), O_RDONLY | O_NOFOLLOW));
  FAILS(ELOOP, open(P("link"), O_WRONLY | O_CREAT | O_NOFOLLOW, 0600));
  Open("ld/f", O_RDONLY | O_NOFOLLOW);
  Open("f", O_RDONLY | O_NOFOLLOW);
}

TEST_F(OpenTest, OPathGivesADescriptorForNamesOnly) {
  MakeFile("f", "content", 0000);
  OK(symlink("f", P("link")));
  OpenToAll();
  As(kAlice, [&] {
    const int fd = open(P("f"), O_PATH);  // no permission on the file is needed
    ASSERT_GE(fd, 0);
    char byte = 0;
    struct stat info {};
    OK(fstat(fd, &info));
    FAILS(EBADF, read(fd, &byte, 1));
    FAILS(EBADF, write(fd, &byte, 1));
    FAILS_EITHER(EBADF, EINVAL, ftruncate(fd, 0));
    FAILS(EBADF, fchmod(fd, 0600));
    FAILS(EBADF, fchown(fd, 1, 1));
    FAILS(EBADF, fsync(fd));
    FAILS(EBADF, lseek(fd, 0, SEEK_SET));
    FAILS(EBADF, fallocate(fd, 0, 0, 1));
    close(fd);
  });
  const int link = Open("link", O_PATH | O_NOFOLLOW);
  char target[16] = "";
  IS(1, readlinkat(link, "", target, sizeof target));
  struct stat info {};
  OK(fstat(link, &info));
  HOLDS(S_ISLNK(info.st_mode));
}

TEST_F(OpenTest, AccessModesAreKept) {
  MakeFile("f", "content");
  char byte = 'x';
  const int reader = Open("f", O_RDONLY);
  FAILS(EBADF, write(reader, &byte, 1));
  FAILS(EBADF, pwrite(reader, &byte, 1, 0));
  FAILS(EINVAL, ftruncate(reader, 0));
  FAILS(EBADF, fallocate(reader, 0, 0, 1));
  const int writer = Open("f", O_WRONLY);
  FAILS(EBADF, read(writer, &byte, 1));
  FAILS(EBADF, pread(writer, &byte, 1, 0));
  FAILS(EBADF, write(-1, &byte, 1));
  FAILS(EBADF, close(987654));
}

TEST_F(OpenTest, AWriterOfAReadOnlyFileGoesOn) {
  OpenToAll();
  As(kAlice, [&] {
    const int fd = open(P("f"), O_RDWR | O_CREAT | O_EXCL, 0400);
    ASSERT_GE(fd, 0);
    IS(5, write(fd, "hello", 5));
    OK(ftruncate(fd, 2));
    OK(ftruncate(fd, 4));
    OK(fchmod(fd, 0000));
    IS(2, pwrite(fd, "ab", 2, 0));
    char text[8] = "";
    IS(4, pread(fd, text, sizeof text, 0));
    OK(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 100));
    close(fd);
    FAILS(EACCES, open(P("f"), O_RDONLY));
    FAILS(EACCES, open(P("f"), O_WRONLY));
  });
  IS(4, Stat("f").st_size);
}

TEST_F(OpenTest, PermissionIsCheckedAtOpen) {
  MakeFile("f", "content", 0644);
  As(kAlice, [&] {
    const int fd = open(P("f"), O_RDONLY);
    ASSERT_GE(fd, 0);
    FAILS(EACCES, open(P("f"), O_WRONLY));
    FAILS(EACCES, open(P("f"), O_RDWR));
    FAILS(EACCES, open(P("f"), O_RDONLY | O_TRUNC));
    FAILS(EACCES, open(P("new"), O_WRONLY | O_CREAT, 0600));
    OK(close(fd));
  });
  IS("content", Content("f"));
}

TEST_F(OpenTest, AReaderGoesOnAfterChmod) {
  MakeFile("f", "content", 0644);
  OpenToAll();
  int fd = -1;
  As(kAlice, [&] { fd = open(P("f"), O_RDONLY); });
  ASSERT_GE(fd, 0);
  OK(chmod(P("f"), 0000));
  As(kAlice, [&] {
    char text[8] = "";
    IS(7, read(fd, text, 7));
    FAILS(EACCES, open(P("f"), O_RDONLY));
  });
  close(fd);
}

TEST_F(OpenTest, ONoatimeIsForTheOwner) {
  MakeFile("f", "content", 0666);
  As(kAlice, [&] { FAILS(EPERM, open(P("f"), O_RDONLY | O_NOATIME)); });
  Open("f", O_RDONLY | O_NOATIME);
}

TEST_F(OpenTest, OTmpfileWorksOrSaysThatItIsNotSupported) {
  const int fd = open(directory().c_str(), O_TMPFILE | O_RDWR, 0600);
  if (fd < 0) {
    IS(EOPNOTSUPP, errno);
    HOLDS(!TheTarget().local);
    IS(0u, List("").size());
    return;
  }
  IS(3, write(fd, "abc", 3));
  struct stat info {};
  OK(fstat(fd, &info));
  IS(0u, info.st_nlink);
  IS(0u, List("").size());
  OK(linkat(AT_FDCWD, ("/proc/self/fd/" + std::to_string(fd)).c_str(), AT_FDCWD, P("named"),
            AT_SYMLINK_FOLLOW));
  close(fd);
  IS("abc", Content("named"));
  FAILS(EINVAL, open(directory().c_str(), O_TMPFILE | O_RDONLY, 0600));
}

TEST_F(OpenTest, ODirectReadsAndWritesAlignedBlocks) {
  const int fd = Open("f", O_RDWR | O_CREAT | O_DIRECT);
  ASSERT_GE(fd, 0);
  alignas(4096) static char block[16384];
  const std::string content = Pattern(3, sizeof block);
  std::memcpy(block, content.data(), sizeof block);
  IS(static_cast<ssize_t>(sizeof block), pwrite(fd, block, sizeof block, 0));
  IS(content, Content("f"));
  std::memset(block, 0, sizeof block);
  IS(8192, pread(fd, block, 8192, 4096));
  HOLDS(std::memcmp(block, content.data() + 4096, 8192) == 0);
  IS(0, pread(fd, block, 4096, 16384));
  // Through the page cache and past it, one file.
  const int cached = Open("f", O_RDWR);
  IS(3, pwrite(cached, "abc", 3, 4096));
  IS(4096, pread(fd, block, 4096, 4096));
  HOLDS(std::memcmp(block, "abc", 3) == 0);
  std::memset(block, 'z', 4096);
  IS(4096, pwrite(fd, block, 4096, 0));
  char text[4] = "";
  IS(3, pread(cached, text, 3, 10));
  IS(std::string("zzz"), std::string(text));
}

TEST_F(OpenTest, SynchronousWritesAreSeen) {
  for (const int flag : {O_SYNC, O_DSYNC, O_SYNC | O_APPEND}) {
    const int fd = Open("f", O_WRONLY | O_CREAT | O_TRUNC | flag);
    ASSERT_GE(fd, 0);
    IS(5, write(fd, "hello", 5));
    IS(5, write(fd, "world", 5));
    IS("helloworld", Content("f"));
    OK(fsync(fd));
    OK(fdatasync(fd));
  }
}

TEST_F(OpenTest, RelativeToADirectory) {
  OK(mkdir(P("d"), 0755));
  MakeFile("d/f", "content");
  MakeFile("file");
  const int directory_fd = Open("d", O_RDONLY | O_DIRECTORY);
  const int file_fd = Open("file", O_RDONLY);
  const int fd = openat(directory_fd, "f", O_RDONLY);
  HOLDS(fd >= 0);
  close(fd);
  FAILS(ENOENT, openat(directory_fd, "absent", O_RDONLY));
  FAILS(ENOTDIR, openat(file_fd, "f", O_RDONLY));
  FAILS(EBADF, openat(987654, "f", O_RDONLY));
  const int up = openat(directory_fd, "../file", O_RDONLY);
  HOLDS(up >= 0);
  close(up);
  OK(mkdirat(directory_fd, "sub", 0755));
  OK(renameat(directory_fd, "f", directory_fd, "sub/f"));
  OK(unlinkat(directory_fd, "sub/f", 0));
  FAILS(EISDIR, unlinkat(directory_fd, "sub", 0));
  OK(unlinkat(directory_fd, "sub", AT_REMOVEDIR));
  FAILS(EINVAL, unlinkat(directory_fd, "x", 0x40000000));
  FAILS(EINVAL, linkat(directory_fd, "x", directory_fd, "y", 0x40000000));
  FAILS(EINVAL, fchmodat(directory_fd, "x", 0600, 0x40000000));
}

TEST_F(OpenTest, ARemovedWorkingDirectoryTakesNoNewNames) {
  OK(mkdir(P("d"), 0755));
  const int fd = Open("d", O_RDONLY | O_DIRECTORY);
  OK(rmdir(P("d")));
  FAILS(ENOENT, openat(fd, "f", O_RDWR | O_CREAT, 0600));
  FAILS(ENOENT, mkdirat(fd, "e", 0700));
  FAILS(ENOENT, symlinkat("x", fd, "l"));
  FAILS(ENOENT, openat(fd, "f", O_RDONLY));
  struct stat info {};
  OK(fstat(fd, &info));
  IS(0u, info.st_nlink);
}

TEST_F(OpenTest, WrongFlagsAndTypes) {
  OK(mkfifo(P("fifo"), 0600));
  FAILS(ENXIO, open(P("fifo"), O_WRONLY | O_NONBLOCK));
  OK(mknod(P("socket"), S_IFSOCK | 0600, 0));
  FAILS(ENXIO, open(P("socket"), O_RDONLY));
  MakeFile("f");
  FAILS(ENOTDIR, open((std::string(P("f")) + "/").c_str(), O_RDONLY));
  FAILS(EISDIR, open((std::string(P("new")) + "/").c_str(), O_WRONLY | O_CREAT, 0600));
  FAILS(EINVAL, syscall(SYS_openat2, AT_FDCWD, P("f"), nullptr, 0));
}

TEST_F(OpenTest, TwoDescriptorsHaveTheirOwnOffsets) {
  MakeFile("f", "0123456789");
  const int a = Open("f", O_RDONLY);
  const int b = Open("f", O_RDONLY);
  const int c = dup(a);
  char byte = 0;
  IS(1, read(a, &byte, 1));
  IS('0', byte);
  IS(1, read(b, &byte, 1));
  IS('0', byte);
  IS(1, read(c, &byte, 1));
  IS('1', byte);
  close(c);
}

TEST_F(OpenTest, VectorsReadAndWrite) {
  const int fd = Open("f", O_RDWR | O_CREAT);
  char a[] = "abc", b[] = "defgh";
  iovec out[] = {{a, 3}, {b, 5}};
  IS(8, writev(fd, out, 2));
  IS("abcdefgh", Content("f"));
  char x[2], y[10];
  iovec in[] = {{x, 2}, {y, 10}};
  IS(6, preadv(fd, in, 2, 2));
  IS('c', x[0]);
  IS('h', y[3]);
  IS(8, pwritev(fd, out, 2, 8));
  IS(16, Stat("f").st_size);
  FAILS(EINVAL, preadv(fd, in, 2, -1));
  FAILS(EFAULT, read(fd, BadAddress(), 10) == 0 ? -1 : pread(fd, BadAddress(), 10, 0));
}

}  // namespace
}  // namespace cairn::posix
