// Who may read, write, execute and search: every permission bit for every class of user, sticky directories,
// access(2).
#include <sys/syscall.h>

#include "tests/posix/posix_test.h"

namespace cairn::posix {
namespace {

struct Class {
  const char* name;
  User user;
  int shift;  // of the bits that count
};
const Class kClasses[] = {{"Owner", kAlice, 6},
                          {"Group", {20009, 20001, {}}, 3},
                          {"SupplementaryGroup", kCarol, 3},
                          {"Other", kBob, 0}};

// All eight combinations of one class's bits; the other classes have the opposite, so that a mix-up shows.
class AccessMatrixTest : public PosixTest, public testing::WithParamInterface<std::tuple<Class, int>> {
 protected:
  mode_t ModeFor() const {
    const auto& [who, bits] = GetParam();
    mode_t mode = 0;
    for (const int shift : {6, 3, 0})
      mode |= static_cast<mode_t>(shift == who.shift ? bits : ~bits & 7) << shift;
    return mode;
  }
  int64_t TryOpen(const char* path, int flags) {
    const int fd = open(path, flags);
    if (fd >= 0) close(fd);
    return fd;
  }
  void Expect(bool allowed, const char* what, int64_t result) {
    SCOPED_TRACE(what);
    const int error = errno;
    IS(allowed ? 0 : EACCES, result == -1 ? error : 0);
  }
};

TEST_P(AccessMatrixTest, Files) {
  const auto& [who, bits] = GetParam();
  MakeFile("f", "#!/bin/sh\n", 0);
  OK(chown(P("f"), kAlice.uid, kAlice.gid));
  OK(chmod(P("f"), ModeFor()));
  const char* path = P("f");
  As(who.user, [&, bits = bits] {
    Expect(bits & 4, "open for reading", TryOpen(path, O_RDONLY));
    Expect(bits & 2, "open for writing", TryOpen(path, O_WRONLY));
    Expect((bits & 6) == 6, "open for both", TryOpen(path, O_RDWR));
    Expect(bits & 2, "truncate", truncate(path, 10));
    Expect(bits & 4, "access R_OK", access(path, R_OK));
    Expect(bits & 2, "access W_OK", access(path, W_OK));
    Expect(bits & 1, "access X_OK", access(path, X_OK));
    Expect((bits & 5) == 5, "access R_OK|X_OK", access(path, R_OK | X_OK));
    Expect(true, "access F_OK", access(path, F_OK));
  });
}

TEST_P(AccessMatrixTest, Directories) {
  const auto& [who, bits] = GetParam();
  OK(mkdir(P("d"), 0777));
  MakeFile("d/f", "x", 0666);
  OK(chown(P("d"), kAlice.uid, kAlice.gid));
  OK(chmod(P("d"), ModeFor()));
  const char* path = P("d");
  const char* inside = P("d/f");
  const char* fresh = P("d/new");
  As(who.user, [&, bits = bits] {
    struct stat info {};
    Expect(bits & 4, "list", TryOpen(path, O_RDONLY | O_DIRECTORY));
    Expect(bits & 1, "stat inside", stat(inside, &info));
    Expect(bits & 1, "open inside", TryOpen(inside, O_RDONLY));
    Expect(bits & 1, "search", chdir(path));
    Expect((bits & 3) == 3, "create", mkdir(fresh, 0700));
    Expect((bits & 3) == 3, "remove", unlink(inside));
    Expect(bits & 2, "access W_OK", access(path, W_OK));
  });
}

INSTANTIATE_TEST_SUITE_P(Bits, AccessMatrixTest,
                         testing::Combine(testing::ValuesIn(kClasses), testing::Range(0, 8)),
                         [](const auto& param) {
                           return std::string(std::get<0>(param.param).name) +
                                  std::to_string(std::get<1>(param.param));
                         });

using AccessTest = PosixTest;

TEST_F(AccessTest, RootReadsAndWritesEverythingButExecutesOnlyPrograms) {
  MakeFile("f", "x", 0000);
  OK(chown(P("f"), kAlice.uid, kAlice.gid));
  OK(access(P("f"), R_OK | W_OK));
  FAILS(EACCES, access(P("f"), X_OK));
  Open("f", O_RDWR);
  OK(chmod(P("f"), 0001));
  OK(access(P("f"), X_OK));
  OK(mkdir(P("d"), 0000));
  OK(access(P("d"), R_OK | W_OK | X_OK));
  MakeFile("d/f");
}

TEST_F(AccessTest, AccessGoesByTheRealUser) {
  MakeFile("f", "x", 0600);
  // Effective root, really Alice.
  As({0, 0, {}}, [&] {
    ASSERT_EQ(syscall(SYS_setresuid, kAlice.uid, 0, 0), 0);
    FAILS(EACCES, access(P("f"), R_OK));
    OK(faccessat(AT_FDCWD, P("f"), R_OK, AT_EACCESS));
    OK(syscall(SYS_faccessat2, AT_FDCWD, P("f"), R_OK, AT_EACCESS));
  });
}

TEST_F(AccessTest, Errors) {
  MakeFile("f");
  OK(symlink("f", P("l")));
  FAILS(EINVAL, access(P("f"), 0x100));
  FAILS(ENOENT, access(P("absent"), F_OK));
  FAILS(ENOTDIR, access(P("f/x"), F_OK));
  FAILS(EINVAL, syscall(SYS_faccessat2, AT_FDCWD, P("f"), F_OK, 0x40000000));
  FAILS(EBADF, faccessat(987654, "f", F_OK, 0));
  OK(faccessat(AT_FDCWD, P("l"), F_OK, AT_SYMLINK_NOFOLLOW));
}

TEST_F(AccessTest, ManySupplementaryGroups) {
  MakeFile("f", "x", 0040);
  OK(chown(P("f"), 0, 30'090));
  User many{20010, 20010, {}};
  for (gid_t group = 30'000; group < 30'090; ++group) many.groups.push_back(group);
  As(many, [&] { FAILS(EACCES, open(P("f"), O_RDONLY)); });
  many.groups.push_back(30'090);
  As(many, [&] {
    const int fd = open(P("f"), O_RDONLY);
    HOLDS(fd >= 0);
    close(fd);
  });
}

TEST_F(AccessTest, StickyDirectoriesProtectOthersEntries) {
  OK(mkdir(P("t"), 01777));
  OK(chmod(P("t"), 01777));
  As(kAlice, [&] {
    MakeFile("t/alice", "a", 0666);
    OK(mkdir(P("t/dir"), 0777));
    MakeFile("t/other", "o", 0666);
  });
  As(kBob, [&] {
    FAILS(EPERM, unlink(P("t/alice")));
    FAILS(EPERM, rmdir(P("t/dir")));
    FAILS(EPERM, rename(P("t/alice"), P("t/bob")));
    MakeFile("t/bob", "b");
    FAILS(EPERM, rename(P("t/bob"), P("t/alice")));
    FAILS(EPERM, renameat2(AT_FDCWD, P("t/bob"), AT_FDCWD, P("t/alice"), RENAME_EXCHANGE));
    const int fd = open(P("t/alice"), O_WRONLY);  // writing is another matter
    HOLDS(fd >= 0);
    close(fd);
    OK(rename(P("t/bob"), P("t/bob2")));
    OK(unlink(P("t/bob2")));
  });
  As(kAlice, [&] {
    OK(unlink(P("t/alice")));
    OK(rmdir(P("t/dir")));
  });
  OK(unlink(P("t/other")));  // root
}

TEST_F(AccessTest, TheOwnerOfAStickyDirectoryMayRemoveAll) {
  OK(mkdir(P("t"), 0777));
  OK(chown(P("t"), kAlice.uid, kAlice.gid));
  OK(chmod(P("t"), 01777));
  As(kBob, [&] { MakeFile("t/bob"); });
  As(kAlice, [&] {
    OK(rename(P("t/bob"), P("t/taken")));
    OK(unlink(P("t/taken")));
  });
}

TEST_F(AccessTest, LosingAGroupTakesEffectAtOnce) {
  MakeFile("f", "x", 0640);
  OK(chown(P("f"), 0, 20050));
  const auto readable = [&] {
    const int fd = open(P("f"), O_RDONLY);
    if (fd >= 0) close(fd);
    return fd;
  };
  As(kCarol, [&] { OK(readable()); });
  As({kCarol.uid, kCarol.gid, {}}, [&] { FAILS(EACCES, readable()); });
  As(kCarol, [&] { OK(readable()); });
  OK(chown(P("f"), 0, 20051));
  As(kCarol, [&] { FAILS(EACCES, readable()); });
}

TEST_F(AccessTest, SearchWithoutReadReachesKnownNames) {
  OK(mkdir(P("d"), 0755));
  MakeFile("d/known", "x");
  OK(chmod(P("d"), 0711));
  As(kAlice, [&] {
    IS("x", Content("d/known"));
    FAILS(EACCES, open(P("d"), O_RDONLY));
  });
  OK(chmod(P("d"), 0744));
  As(kAlice, [&] {
    FAILS(EACCES, open(P("d/known"), O_RDONLY));
    const int fd = open(P("d"), O_RDONLY);
    HOLDS(fd >= 0);
    close(fd);
  });
}

}  // namespace
}  // namespace cairn::posix
