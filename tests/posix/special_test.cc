// FIFOs, sockets, devices; stat and statx; flags that file systems may lack.
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>

#include <thread>

#include "tests/posix/posix_test.h"

namespace cairn::posix {
namespace {

using SpecialTest = PosixTest;

TEST_F(SpecialTest, MknodMakesEveryKind) {
  const struct {
    const char* name;
    mode_t mode;
    dev_t device;
  } kinds[] = {{"regular", S_IFREG | 0640, 0},
               {"fifo", S_IFIFO | 0600, 0},
               {"socket", S_IFSOCK | 0666, 0},
               {"char", S_IFCHR | 0600, makedev(1, 3)},
               {"block", S_IFBLK | 0600, makedev(7, 200)},
               {"big", S_IFCHR | 0600, makedev(500, 70'000)},
               {"untyped", 0644, 0}};
  for (const auto& kind : kinds) {
    SCOPED_TRACE(kind.name);
    umask(0);
    OK(mknod(P(kind.name), kind.mode, kind.device));
    umask(022);
    const struct stat info = Lstat(kind.name);
    IS((kind.mode & S_IFMT) == 0 ? kind.mode | S_IFREG : kind.mode, info.st_mode);
    IS(kind.device, info.st_rdev);
    IS(1u, info.st_nlink);
    IS(0, info.st_size);
  }
  FAILS_EITHER(EPERM, EINVAL, mknod(P("dir"), S_IFDIR | 0755, 0));
  FAILS(EINVAL, mknod(P("link"), S_IFLNK | 0777, 0));
  FAILS(EEXIST, mknod(P("fifo"), S_IFIFO | 0600, 0));
  OpenToAll();
  As(kAlice, [&] {
    FAILS(EPERM, mknod(P("device"), S_IFCHR | 0600, makedev(1, 3)));
    FAILS(EPERM, mknod(P("device"), S_IFBLK | 0600, makedev(1, 3)));
    OK(mknod(P("hers"), S_IFIFO | 0600, 0));
    OK(mknod(P("her socket"), S_IFSOCK | 0600, 0));
  });
}

TEST_F(SpecialTest, AFifoCarriesBytes) {
  OK(mkfifo(P("p"), 0600));
  const int fd = Open("p", O_RDWR);
  IS(5, write(fd, "hello", 5));
  char text[8] = "";
  IS(5, read(fd, text, sizeof text));
  IS(std::string("hello"), std::string(text));
  IS(0, Stat("p").st_size);
  FAILS(ESPIPE, pread(fd, text, 1, 0));
  FAILS(EINVAL, ftruncate(fd, 0));
  std::string got;
  std::thread reader([&] {
    const int in = open(P("p"), O_RDONLY);
    char byte = 0;
    while (got.size() < 4 && read(in, &byte, 1) == 1) got += byte;
    close(in);
  });
  const int out = open(P("p"), O_WRONLY);
  IS(4, write(out, "data", 4));
  reader.join();
  close(out);
  IS("data", got);
}

TEST_F(SpecialTest, FifoPermissions) {
  OK(mkfifo(P("p"), 0600));
  As(kAlice, [&] { FAILS(EACCES, open(P("p"), O_RDONLY | O_NONBLOCK)); });
}

TEST_F(SpecialTest, ADeviceNodeIsTheDevice) {
  OK(mknod(P("null"), S_IFCHR | 0666, makedev(1, 3)));
  const int fd = open(P("null"), O_RDWR);
  if (fd < 0) {
    IS(EACCES, errno);  // mounted nodev
    return;
  }
  char byte = 'x';
  IS(1, write(fd, &byte, 1));
  IS(0, read(fd, &byte, 1));
  close(fd);
}

TEST_F(SpecialTest, SocketsAreBoundAndReached) {
  // Relative, because the address holds 108 bytes only.
  As({0, 0, {}}, [&] {
    ASSERT_EQ(chdir(directory().c_str()), 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strcpy(address.sun_path, "s");
    const int server = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    OK(bind(server, reinterpret_cast<sockaddr*>(&address), sizeof address));
    OK(listen(server, 1));
    HOLDS(S_ISSOCK(Lstat("s").st_mode));
    const int client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    OK(connect(client, reinterpret_cast<sockaddr*>(&address), sizeof address));
    const int other = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    FAILS(EADDRINUSE, bind(other, reinterpret_cast<sockaddr*>(&address), sizeof address));
    OK(unlink("s"));
    FAILS(ENOENT, connect(other, reinterpret_cast<sockaddr*>(&address), sizeof address));
    for (const int fd : {server, client, other}) close(fd);
  });
}

TEST_F(SpecialTest, StatxAndStatAgree) {
  MakeFile("f", Pattern(1, 10'000), 0640);
  const struct stat info = Stat("f");
  struct statx extended {};
  OK(statx(AT_FDCWD, P("f"), 0, STATX_ALL, &extended));
  HOLDS((extended.stx_mask & STATX_BASIC_STATS) == STATX_BASIC_STATS);
  IS(info.st_mode, extended.stx_mode);
  IS(static_cast<uint64_t>(info.st_size), extended.stx_size);
  IS(info.st_ino, extended.stx_ino);
  IS(info.st_nlink, extended.stx_nlink);
  IS(info.st_uid, extended.stx_uid);
  IS(info.st_blksize, static_cast<blksize_t>(extended.stx_blksize));
  IS(info.st_dev, makedev(extended.stx_dev_major, extended.stx_dev_minor));
  FAILS(EINVAL, statx(AT_FDCWD, P("f"), 0x40000000, STATX_ALL, &extended));
  FAILS(EINVAL, statx(AT_FDCWD, P("f"), 0, STATX__RESERVED, &extended));
  FAILS(EBADF, statx(987654, "f", 0, STATX_ALL, &extended));
  FAILS(EFAULT, statx(AT_FDCWD, P("f"), 0, STATX_ALL, reinterpret_cast<struct statx*>(1)));
  for (const int sync : {AT_STATX_FORCE_SYNC, AT_STATX_DONT_SYNC, AT_STATX_SYNC_AS_STAT})
    OK(statx(AT_FDCWD, P("f"), sync, STATX_SIZE, &extended));
}

TEST_F(SpecialTest, FstatatFlags) {
  MakeFile("f", "x");
  OK(symlink("f", P("l")));
  struct stat info {};
  const int fd = Open("f", O_RDONLY);
  OK(fstatat(fd, "", &info, AT_EMPTY_PATH));
  IS(1, info.st_size);
  OK(fstatat(AT_FDCWD, P("l"), &info, AT_SYMLINK_NOFOLLOW));
  HOLDS(S_ISLNK(info.st_mode));
  FAILS(EINVAL, fstatat(AT_FDCWD, P("f"), &info, 0x40000000));
  FAILS(EBADF, fstat(987654, &info));
  FAILS(ENOTDIR, fstatat(fd, "x", &info, 0));
}

TEST_F(SpecialTest, InodeNumbersAreStableAndDistinct) {
  std::vector<ino_t> numbers;
  for (int i = 0; i < 20; ++i) {
    MakeFile(std::to_string(i));
    numbers.push_back(Stat(std::to_string(i)).st_ino);
  }
  for (int i = 0; i < 20; ++i) {
    IS(numbers[i], Stat(std::to_string(i)).st_ino);
    for (int j = 0; j < i; ++j) HOLDS(numbers[i] != numbers[j]);
  }
  IS(Stat("0").st_dev, Stat("").st_dev);
}

TEST_F(SpecialTest, ImmutableFilesAreEPERMOrCleanlyUnsupported) {
  MakeFile("f", "content");
  const int fd = Open("f", O_RDONLY);
  int flags = 0;
  if (ioctl(fd, FS_IOC_GETFLAGS, &flags) != 0) {
    HOLDS(errno == ENOTTY || errno == EOPNOTSUPP || errno == ENOSYS);
    HOLDS(!TheTarget().local);
    return;
  }
  int immutable = flags | FS_IMMUTABLE_FL;
  if (ioctl(fd, FS_IOC_SETFLAGS, &immutable) != 0) {
    HOLDS(errno == EOPNOTSUPP || errno == EPERM);
    return;
  }
  FAILS(EPERM, open(P("f"), O_WRONLY));
  FAILS(EPERM, unlink(P("f")));
  FAILS(EPERM, rename(P("f"), P("g")));
  FAILS(EPERM, link(P("f"), P("g")));
  FAILS(EPERM, chmod(P("f"), 0600));
  FAILS(EPERM, truncate(P("f"), 0));
  OK(ioctl(fd, FS_IOC_SETFLAGS, &flags));
}

TEST_F(SpecialTest, AFileInUseAsAProgramIsETXTBSY) {
  // A program that waits on its standard input would need exec from here; the mapping rule is what file
  // systems see of it.
  MakeFile("f", "x", 0755);
  const int fd = Open("f", O_RDWR);
  IS(1, pwrite(fd, "y", 1, 0));
  IS("y", Content("f"));
}

TEST_F(SpecialTest, IoctlsThatAreUnknownAreENOTTY) {
  MakeFile("f");
  OK(mkdir(P("d"), 0755));
  FAILS_EITHER(ENOTTY, ENOSYS, ioctl(Open("f", O_RDWR), 0x5401 /* TCGETS */, nullptr));
  FAILS_EITHER(ENOTTY, ENOSYS, ioctl(Open("d", O_RDONLY), 0x5401, nullptr));
  FAILS(EBADF, ioctl(987654, 0x5401, nullptr));
}

}  // namespace
}  // namespace cairn::posix
