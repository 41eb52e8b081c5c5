// chmod, chown and their set-id rules; who new files belong to.
#include <sys/syscall.h>

#include "tests/posix/posix_test.h"

namespace cairn::posix {
namespace {

using OwnershipTest = PosixTest;

TEST_F(OwnershipTest, ChmodSetsAllTwelveBits) {
  MakeFile("f");
  OK(mkdir(P("d"), 0755));
  for (const mode_t mode : {0000, 0777, 0644, 01777, 02755, 04755, 06711, 07777, 0400}) {
    OK(chmod(P("f"), mode));
    IS(mode, Mode("f"));
    OK(chmod(P("d"), mode));
    IS(mode, Mode("d"));
  }
  const int fd = Open("f", O_RDONLY);
  OK(fchmod(fd, 0612));
  IS(0612u, Mode("f"));
  OK(symlink("f", P("l")));
  OK(chmod(P("l"), 0601));
  IS(0601u, Mode("f"));
  IS(0777u, Mode("l"));
}

TEST_F(OwnershipTest, ChmodErrors) {
  MakeFile("f");
  As(kAlice, [&] {
    FAILS(EPERM, chmod(P("f"), 0777));
    FAILS(ENOENT, chmod(P("absent"), 0777));
  });
  OK(symlink("f", P("l")));
  FAILS(EOPNOTSUPP, fchmodat(AT_FDCWD, P("l"), 0600, AT_SYMLINK_NOFOLLOW));
  FAILS(EBADF, fchmod(987654, 0600));
  FAILS(EBADF, fchmodat(987654, "f", 0600, 0));
  IS(0644u, Mode("f"));
}

TEST_F(OwnershipTest, ChmodByAnOutsiderOfTheGroupClearsSetGroupId) {
  MakeFile("f");
  OK(chown(P("f"), kAlice.uid, 20050));
  As(kAlice, [&] {
    OK(chmod(P("f"), 02755));
    IS(0755u, Mode("f"));
    OK(chmod(P("f"), 04755));
    IS(04755u, Mode("f"));
  });
  OK(chown(P("f"), kCarol.uid, 20050));
  As(kCarol, [&] {
    OK(chmod(P("f"), 02755));
    IS(02755u, Mode("f"));
  });
}

TEST_F(OwnershipTest, RootGivesFilesAway) {
  MakeFile("f");
  OK(chown(P("f"), 1234567, 7654321));
  IS(1234567u, Stat("f").st_uid);
  IS(7654321u, Stat("f").st_gid);
  OK(chown(P("f"), -1, 5));
  IS(1234567u, Stat("f").st_uid);
  IS(5u, Stat("f").st_gid);
  OK(chown(P("f"), 6, -1));
  IS(6u, Stat("f").st_uid);
  OK(chown(P("f"), 0xfffffffe, 0xfffffffe));
  IS(0xfffffffeu, Stat("f").st_uid);
  const int fd = Open("f", O_RDONLY);
  OK(fchown(fd, 7, 8));
  IS(7u, Stat("f").st_uid);
  FAILS(EBADF, fchown(987654, 1, 1));
  FAILS(EINVAL, fchownat(AT_FDCWD, P("f"), 1, 1, 0x40000000));
}

TEST_F(OwnershipTest, LchownChangesTheLink) {
  MakeFile("f");
  OK(symlink("f", P("l")));
  OK(lchown(P("l"), 5, 6));
  IS(5u, Lstat("l").st_uid);
  IS(0u, Stat("f").st_uid);
  OK(chown(P("l"), 7, 8));
  IS(7u, Stat("f").st_uid);
  IS(5u, Lstat("l").st_uid);
}

TEST_F(OwnershipTest, OwnersChangeTheGroupWithinTheirGroups) {
  MakeFile("f");
  OK(chown(P("f"), kCarol.uid, kCarol.gid));
  As(kCarol, [&] {
    OK(chown(P("f"), -1, 20050));
    OK(chown(P("f"), kCarol.uid, 20001));
    FAILS(EPERM, chown(P("f"), -1, 20002));
    FAILS(EPERM, chown(P("f"), kAlice.uid, -1));
    FAILS(EPERM, chown(P("f"), 0, 0));
    OK(chown(P("f"), -1, -1));
  });
  As(kAlice, [&] {
    FAILS(EPERM, chown(P("f"), -1, kAlice.gid));
    FAILS(EPERM, chown(P("f"), kAlice.uid, -1));
  });
  IS(20001u, Stat("f").st_gid);
}

TEST_F(OwnershipTest, ChownClearsSetIdBits) {
  for (const bool root : {true, false}) {
    SCOPED_TRACE(root);
    for (const auto& [before, after] :
         {std::pair{06755u, 0755u}, {04755u, 0755u}, {02755u, 0755u}, {02745u, 02745u}, {0755u, 0755u}}) {
      SCOPED_TRACE(before);
      MakeFile("f");
      OK(chown(P("f"), kCarol.uid, kCarol.gid));
      OK(chmod(P("f"), before));
      if (root) {
        OK(chown(P("f"), kCarol.uid, 20050));
      } else {
        As(kCarol, [&] { OK(chown(P("f"), -1, 20050)); });
      }
      IS(after, Mode("f"));
      OK(unlink(P("f")));
    }
  }
  OK(mkdir(P("d"), 0755));
  OK(chmod(P("d"), 06755));
  OK(chown(P("d"), 5, 5));
  IS(06755u, Mode("d"));
}

TEST_F(OwnershipTest, WritingClearsSetIdBits) {
  OpenToAll();
  for (const auto& [before, after] :
       {std::pair{06777u, 0777u}, {04777u, 0777u}, {02777u, 0777u}, {02767u, 02767u}}) {
    SCOPED_TRACE(before);
    MakeFile("f", "content");
    OK(chown(P("f"), kAlice.uid, kAlice.gid));
    OK(chmod(P("f"), before));
    As(kBob, [&] {
      const int fd = open(P("f"), O_WRONLY);
      ASSERT_GE(fd, 0);
      IS(1, write(fd, "x", 1));
      close(fd);
    });
    // The set-gid bit of a file that its group may not execute is no privilege: kept by some, taken by
    // others.
    if ((before & 0010) != 0) IS(after, Mode("f"));
    OK(chmod(P("f"), before));
    As(kBob, [&] { OK(truncate(P("f"), 3)); });
    if ((before & 0010) != 0) IS(after, Mode("f"));
    OK(chmod(P("f"), before));
    As(kBob, [&] {
      const int fd = open(P("f"), O_WRONLY | O_TRUNC);
      ASSERT_GE(fd, 0);
      close(fd);
    });
    if ((before & 0010) != 0) IS(after, Mode("f"));
    OK(chmod(P("f"), before));
    As(kBob, [&] {
      const int fd = open(P("f"), O_WRONLY);
      ASSERT_GE(fd, 0);
      OK(fallocate(fd, 0, 0, 10));
      close(fd);
    });
    if ((before & 0010) != 0) IS(after, Mode("f"));
    OK(unlink(P("f")));
  }
}

TEST_F(OwnershipTest, RootsWritesKeepSetIdBits) {
  MakeFile("f", "content");
  OK(chmod(P("f"), 06755));
  const int fd = Open("f", O_WRONLY);
  IS(1, write(fd, "x", 1));
  IS(06755u, Mode("f"));
  OK(ftruncate(fd, 3));
  IS(06755u, Mode("f"));
  OK(truncate(P("f"), 2));
  IS(06755u, Mode("f"));
  Open("f", O_WRONLY | O_TRUNC);
  IS(06755u, Mode("f"));
}

TEST_F(OwnershipTest, NewFilesBelongToTheirMaker) {
  OpenToAll();
  As(kAlice, [&] {
    MakeFile("f");
    OK(mkdir(P("d"), 0755));
    OK(symlink("x", P("l")));
    OK(mkfifo(P("p"), 0600));
    for (const char* name : {"f", "d", "l", "p"}) {
      IS(kAlice.uid, Lstat(name).st_uid);
      IS(kAlice.gid, Lstat(name).st_gid);
    }
  });
}

TEST_F(OwnershipTest, ASetGroupIdDirectoryPassesItsGroupOn) {
  OK(mkdir(P("d"), 0777));
  OK(chown(P("d"), 0, 20050));
  OK(chmod(P("d"), 02777));
  As(kAlice, [&] {
    MakeFile("d/f");
    OK(mkdir(P("d/e"), 0755));
    OK(symlink("x", P("d/l")));
    for (const char* name : {"d/f", "d/e", "d/l"}) IS(20050u, Lstat(name).st_gid);
    IS(02755u, Mode("d/e"));
    // Nobody makes a set-gid program for a group that is not their own.
    const int fd = open(P("d/program"), O_WRONLY | O_CREAT, 02755);
    ASSERT_GE(fd, 0);
    close(fd);
    IS(0755u, Mode("d/program"));
    MakeFile("d/e/deep");
    IS(20050u, Lstat("d/e/deep").st_gid);
  });
  As(kCarol, [&] {
    const int fd = open(P("d/hers"), O_WRONLY | O_CREAT, 02755);
    ASSERT_GE(fd, 0);
    close(fd);
    IS(02755u, Mode("d/hers"));
  });
}

TEST_F(OwnershipTest, SetIdBitsOfTheModeAtCreation) {
  OpenToAll();
  As(kAlice, [&] {
    const int fd = open(P("f"), O_WRONLY | O_CREAT, 06755);
    ASSERT_GE(fd, 0);
    close(fd);
    IS(06755u, Mode("f"));
    OK(mknod(P("n"), S_IFREG | 04711, 0));
    IS(04711u, Mode("n"));
  });
}

TEST_F(OwnershipTest, ChownAndChmodMoveTheChangeTime) {
  MakeFile("f");
  const timespec before = Stat("f").st_ctim;
  const timespec mtime = Stat("f").st_mtim;
  OK(chmod(P("f"), 0600));
  const timespec after = Stat("f").st_ctim;
  HOLDS(after.tv_sec > before.tv_sec || (after.tv_sec == before.tv_sec && after.tv_nsec >= before.tv_nsec));
  IS(mtime.tv_nsec, Stat("f").st_mtim.tv_nsec);
}

}  // namespace
}  // namespace cairn::posix
