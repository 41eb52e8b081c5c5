// utimensat(2) and which call moves which time.
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/xattr.h>

#include <ctime>
#include <functional>

#include "tests/posix/posix_test.h"

namespace cairn::posix {
namespace {

bool operator==(const timespec& a, const timespec& b) {
  return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}
bool Later(const timespec& a, const timespec& b) {
  return a.tv_sec > b.tv_sec || (a.tv_sec == b.tv_sec && a.tv_nsec > b.tv_nsec);
}
constexpr timespec kOld{1'000'000'000, 123'456'789};

class TimeTest : public PosixTest {
 protected:
  // Sets both times of `name` far back; the change time is recent by that.
  void Age(const std::string& name) {
    const timespec times[2] = {kOld, kOld};
    OK(utimensat(AT_FDCWD, P(name), times, AT_SYMLINK_NOFOLLOW));
  }
  // Ages what is named, calls, and expects that mtime and ctime moved or not. The change time moves with Age
  // already: it must not be before then.
  void Moves(const std::string& name, bool mtime, const std::function<void()>& call) {
    SCOPED_TRACE(name);
    Age(name);
    const timespec changed = Lstat(name).st_ctim;
    call();
    const struct stat after = Lstat(name);
    IS(mtime, !(after.st_mtim == kOld));
    HOLDS(!Later(changed, after.st_ctim));
    HOLDS(after.st_ctim.tv_sec >= changed.tv_sec);
  }
};

struct Moment {
  const char* name;
  timespec time;
};
class TimeValueTest : public TimeTest, public testing::WithParamInterface<Moment> {};

TEST_P(TimeValueTest, IsKeptToTheNanosecond) {
  MakeFile("f");
  OK(mkdir(P("d"), 0755));
  OK(symlink("f", P("l")));
  const timespec times[2] = {GetParam().time, {GetParam().time.tv_sec + 1, GetParam().time.tv_nsec}};
  for (const char* name : {"f", "d", "l"}) {
    OK(utimensat(AT_FDCWD, P(name), times, AT_SYMLINK_NOFOLLOW));
    const struct stat info = Lstat(name);
    HOLDS(info.st_atim == times[0]);
    HOLDS(info.st_mtim == times[1]);
  }
  const int fd = Open("f", O_RDONLY);
  OK(futimens(fd, times));
  struct statx extended {};
  OK(statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &extended));
  IS(times[1].tv_sec, extended.stx_mtime.tv_sec);
  IS(times[1].tv_nsec, static_cast<long>(extended.stx_mtime.tv_nsec));
}

INSTANTIATE_TEST_SUITE_P(
    Moments, TimeValueTest,
    testing::Values(Moment{"Epoch", {0, 0}}, Moment{"OneNanosecond", {0, 1}},
                    Moment{"LastNanosecond", {1, 999'999'999}}, Moment{"Before1970", {-1, 500'000'000}},
                    Moment{"Year1901", {-2147483648LL, 0}}, Moment{"Now", {1'790'000'000, 987'654'321}},
                    Moment{"Year2038", {2147483648LL, 7}}, Moment{"Year2106", {4294967296LL, 8}},
                    Moment{"Year2400", {13569465600LL, 9}}),
    [](const auto& param) { return std::string(param.param.name); });

TEST_F(TimeTest, OmitAndNow) {
  MakeFile("f");
  Age("f");
  const timespec omit_first[2] = {{0, UTIME_OMIT}, {55, 66}};
  OK(utimensat(AT_FDCWD, P("f"), omit_first, 0));
  HOLDS(Stat("f").st_atim == kOld);
  HOLDS((Stat("f").st_mtim == timespec{55, 66}));
  const timespec omit_both[2] = {{0, UTIME_OMIT}, {0, UTIME_OMIT}};
  OK(utimensat(AT_FDCWD, P("f"), omit_both, 0));
  HOLDS((Stat("f").st_mtim == timespec{55, 66}));
  const timespec now_second[2] = {{77, 88}, {0, UTIME_NOW}};
  OK(utimensat(AT_FDCWD, P("f"), now_second, 0));
  HOLDS((Stat("f").st_atim == timespec{77, 88}));
  HOLDS(std::abs(Stat("f").st_mtim.tv_sec - time(nullptr)) < 60);
  OK(utimensat(AT_FDCWD, P("f"), nullptr, 0));
  HOLDS(std::abs(Stat("f").st_atim.tv_sec - time(nullptr)) < 60);
  const timeval old_call[2] = {{5, 6}, {7, 8}};
  OK(utimes(P("f"), old_call));
  HOLDS((Stat("f").st_mtim == timespec{7, 8000}));
}

TEST_F(TimeTest, Errors) {
  MakeFile("f");
  const timespec bad[2] = {{0, 1'000'000'000}, {0, 0}};
  FAILS(EINVAL, utimensat(AT_FDCWD, P("f"), bad, 0));
  const timespec negative[2] = {{0, 0}, {0, -1}};
  FAILS(EINVAL, utimensat(AT_FDCWD, P("f"), negative, 0));
  FAILS(EINVAL, utimensat(AT_FDCWD, P("f"), nullptr, 0x40000000));
  FAILS(EBADF, futimens(987654, nullptr));
  FAILS(ENOENT, utimensat(AT_FDCWD, P("absent"), nullptr, 0));
}

TEST_F(TimeTest, WhoMaySetTimes) {
  MakeFile("theirs", "", 0644);
  MakeFile("writable", "", 0666);
  MakeFile("alices", "", 0400);
  OK(chown(P("alices"), kAlice.uid, kAlice.gid));
  const timespec set[2] = {{5, 5}, {6, 6}};
  const timespec now[2] = {{0, UTIME_NOW}, {0, UTIME_NOW}};
  const timespec omit[2] = {{0, UTIME_OMIT}, {0, UTIME_OMIT}};
  const timespec mixed[2] = {{0, UTIME_NOW}, {0, UTIME_OMIT}};
  As(kAlice, [&] {
    FAILS(EPERM, utimensat(AT_FDCWD, P("theirs"), set, 0));
    FAILS(EACCES, utimensat(AT_FDCWD, P("theirs"), nullptr, 0));
    FAILS(EACCES, utimensat(AT_FDCWD, P("theirs"), now, 0));
    FAILS(EPERM, utimensat(AT_FDCWD, P("theirs"), mixed, 0));
    OK(utimensat(AT_FDCWD, P("theirs"), omit, 0));
    FAILS(EPERM, utimensat(AT_FDCWD, P("writable"), set, 0));
    OK(utimensat(AT_FDCWD, P("writable"), nullptr, 0));
    OK(utimensat(AT_FDCWD, P("writable"), now, 0));
    FAILS(EPERM, utimensat(AT_FDCWD, P("writable"), mixed, 0));
    OK(utimensat(AT_FDCWD, P("alices"), set, 0));
    OK(utimensat(AT_FDCWD, P("alices"), nullptr, 0));
  });
}

TEST_F(TimeTest, ChangesOfDataMoveMtime) {
  MakeFile("f", "content");
  const int fd = Open("f", O_RDWR);
  Moves("f", true, [&] { IS(1, write(fd, "x", 1)); });
  Moves("f", true, [&] { IS(1, pwrite(fd, "x", 1, 100)); });
  Moves("f", true, [&] { OK(ftruncate(fd, 3)); });
  Moves("f", true, [&] { OK(ftruncate(fd, 300)); });
  Moves("f", true, [&] { OK(truncate(P("f"), 200)); });
  Moves("f", true, [&] { OK(fallocate(fd, 0, 0, 1000)); });
  Moves("f", true, [&] { OK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 100)); });
  Moves("f", true, [&] { close(open(P("f"), O_WRONLY | O_TRUNC)); });
  Moves("f", false, [&] { IS(0, write(fd, "", 0)); });
}

TEST_F(TimeTest, ChangesOfAttributesMoveCtimeOnly) {
  MakeFile("f", "content");
  Moves("f", false, [&] { OK(chmod(P("f"), 0600)); });
  Moves("f", false, [&] { OK(chown(P("f"), 5, 5)); });
  Moves("f", false, [&] { OK(link(P("f"), P("g"))); });
  Moves("f", false, [&] { OK(unlink(P("g"))); });
  Moves("f", false, [&] {
    OK(rename(P("f"), P("h")));
    OK(rename(P("h"), P("f")));
  });
  Moves("f", false, [&] { OK(setxattr(P("f"), "user.a", "v", 1, 0)); });
  Moves("f", false, [&] { OK(removexattr(P("f"), "user.a")); });
  Moves("f", false, [&] {
    struct stat s;
    OK(stat(P("f"), &s));
  });
}

TEST_F(TimeTest, ChangesOfEntriesMoveTheDirectory) {
  OK(mkdir(P("d"), 0755));
  OK(mkdir(P("e"), 0755));
  MakeFile("f");
  Moves("d", true, [&] { MakeFile("d/f"); });
  Moves("d", true, [&] { OK(mkdir(P("d/s"), 0755)); });
  Moves("d", true, [&] { OK(rmdir(P("d/s"))); });
  Moves("d", true, [&] { OK(symlink("x", P("d/l"))); });
  Moves("d", true, [&] { OK(unlink(P("d/l"))); });
  Moves("d", true, [&] { OK(mkfifo(P("d/p"), 0600)); });
  Moves("d", true, [&] { OK(link(P("f"), P("d/g"))); });
  Moves("d", true, [&] { OK(rename(P("d/g"), P("d/h"))); });
  Moves("d", true, [&] { OK(rename(P("d/h"), P("e/h"))); });
  Moves("e", true, [&] { OK(rename(P("e/h"), P("d/h"))); });
  Moves("d", true, [&] { OK(unlink(P("d/h"))); });
  Moves("d", false, [&] { MakeFile("d/f", "more"); });  // exists already
  Moves("d", false, [&] { FAILS(EEXIST, mkdir(P("d/f"), 0755)); });
  Moves("d", false, [&] { List("d"); });
}

TEST_F(TimeTest, TimesSetAfterAWriteStay) {
  const int fd = Open("f", O_RDWR | O_CREAT);
  const std::string data = Pattern(1, 300'000);
  IS(static_cast<ssize_t>(data.size()), write(fd, data.data(), data.size()));
  const timespec times[2] = {kOld, kOld};
  OK(futimens(fd, times));
  HOLDS(Stat("f").st_mtim == kOld);
  OK(fsync(fd));
  HOLDS(Stat("f").st_mtim == kOld);
  close(dup(fd));
  HOLDS(Stat("f").st_mtim == kOld);
  IS(data, Content("f"));
  HOLDS(Stat("f").st_mtim == kOld);
}

TEST_F(TimeTest, NewFilesHaveTheTimeOfTheirMaking) {
  const time_t before = time(nullptr) - 1;
  MakeFile("f");
  OK(mkdir(P("d"), 0755));
  OK(symlink("x", P("l")));
  for (const char* name : {"f", "d", "l"}) {
    const struct stat info = Lstat(name);
    for (const timespec& at : {info.st_atim, info.st_mtim, info.st_ctim}) {
      HOLDS(at.tv_sec >= before);
      HOLDS(at.tv_sec <= time(nullptr) + 1);
    }
  }
}

TEST_F(TimeTest, WritesThroughOneDescriptorAreSeenInOrder) {
  MakeFile("f");
  const int fd = Open("f", O_WRONLY);
  timespec last = Stat("f").st_mtim;
  for (int i = 0; i < 20; ++i) {
    IS(1, write(fd, "x", 1));
    const timespec now = Stat("f").st_mtim;
    HOLDS(!Later(last, now));
    last = now;
  }
}

// relatime, the rule unless a mount says otherwise: the first access after a change moves the time of last access.
class AccessTimeTest : public TimeTest {
 protected:
  void SetUp() override {
    TimeTest::SetUp();
    struct statvfs info {};
    ASSERT_EQ(statvfs(directory().c_str(), &info), 0);
    if ((info.f_flag & ST_NOATIME) != 0) GTEST_SKIP() << "mounted with noatime: " << directory();
  }
  timespec Atime(const std::string& name) { return Lstat(name).st_atim; }
  // The clock of a local file system ticks: reads until the last access is later than the last change.
  void Settle(const std::string& name, const std::function<void()>& read) {
    for (int i = 0; i < 1'000'000 && !Later(Lstat(name).st_atim, Lstat(name).st_ctim); ++i) read();
    HOLDS(Later(Lstat(name).st_atim, Lstat(name).st_ctim));
  }
};

TEST_F(AccessTimeTest, TheFirstReadAfterAChangeMovesIt) {
  MakeFile("f", "content");
  Age("f");
  IS("content", Content("f"));
  HOLDS(Later(Atime("f"), kOld));
  HOLDS(!Later(Stat("f").st_ctim, Atime("f")));
  HOLDS(Stat("f").st_mtim == kOld);
  Age("f");
  HOLDS(Atime("f") == kOld);  // what was read before does not come back
  OK(chmod(P("f"), 0600));
  IS("content", Content("f"));
  HOLDS(Later(Atime("f"), kOld));
}

TEST_F(AccessTimeTest, FurtherReadsMoveNothing) {
  MakeFile("f", "content");
  Settle("f", [&] { Content("f"); });
  const timespec read = Atime("f");
  for (int i = 0; i < 5; ++i) IS("content", Content("f"));
  HOLDS(Atime("f") == read);
  const int fd = Open("f", O_WRONLY);
  IS(1, write(fd, "C", 1));
  HOLDS(Atime("f") == read);  // a write is no access
  IS("Content", Content("f"));
  HOLDS(Later(Atime("f"), read));
  HOLDS(!Later(Stat("f").st_mtim, Atime("f")));
}

TEST_F(AccessTimeTest, ADescriptorReadsAndMaps) {
  MakeFile("f", std::string(5000, 'x'));
  const int fd = Open("f", O_RDONLY);
  Age("f");
  char byte = 0;
  IS(1, pread(fd, &byte, 1, 4999));
  // Bytes that the kernel has in its pages it gives out without asking a FUSE file system: then the open counts.
  Open("f", O_RDONLY);
  HOLDS(Later(Atime("f"), kOld));
  Age("f");
  const int mapped = Open("f", O_RDONLY);
  void* const map = mmap(nullptr, 5000, PROT_READ, MAP_PRIVATE, mapped, 0);
  HOLDS(map != MAP_FAILED);
  IS('x', static_cast<char*>(map)[4321]);
  HOLDS(Later(Atime("f"), kOld));
  munmap(map, 5000);
}

TEST_F(AccessTimeTest, ONoatimeLeavesIt) {
  MakeFile("f", "content");
  OK(mkdir(P("d"), 0755));
  MakeFile("d/x");
  Age("f");
  Age("d");
  const int fd = Open("f", O_RDONLY | O_NOATIME);
  char buffer[512];
  IS(7, read(fd, buffer, sizeof buffer));
  HOLDS(Atime("f") == kOld);
  const int directory = Open("d", O_RDONLY | O_DIRECTORY | O_NOATIME);
  OK(syscall(SYS_getdents64, directory, buffer, sizeof buffer));
  HOLDS(Atime("d") == kOld);
  // The flag may come and go while the file is open.
  const int direct = Open("f", O_RDONLY | O_NOATIME | O_DIRECT);
  alignas(4096) static char page[4096];
  OK(fcntl(direct, F_SETFL, O_DIRECT));
  IS(7, pread(direct, page, sizeof page, 0));
  HOLDS(Later(Atime("f"), kOld));
  Age("f");
  OK(fcntl(direct, F_SETFL, O_DIRECT | O_NOATIME));
  IS(7, pread(direct, page, sizeof page, 0));
  HOLDS(Atime("f") == kOld);
}

TEST_F(AccessTimeTest, DirectoriesAndLinksHaveOneToo) {
  OK(mkdir(P("d"), 0755));
  MakeFile("d/x");
  OK(symlink("target", P("l")));
  Age("d");
  Age("l");
  IS(1, static_cast<int>(List("d").size()));
  HOLDS(Later(Atime("d"), kOld));
  HOLDS(Stat("d").st_mtim == kOld);
  char target[64];
  IS(6, readlink(P("l"), target, sizeof target));
  HOLDS(Later(Atime("l"), kOld));
  Age("d");
  OK(access(P("d/x"), R_OK));  // looking a name up is no access
  HOLDS(Atime("d") == kOld);
}

TEST_F(AccessTimeTest, AReadOnlyMountMovesNothing) {
  if (TheTarget().read_only_directory.empty()) GTEST_SKIP() << "there is no read-only mount of it";
  MakeFile("f", "content");
  OK(mkdir(P("d"), 0755));
  MakeFile("d/x");
  Age("f");
  Age("d");
  const int fd = open(ReadOnly("f").c_str(), O_RDONLY);
  char buffer[512];
  IS(7, read(fd, buffer, sizeof buffer));
  OK(close(fd));
  const int directory = open(ReadOnly("d").c_str(), O_RDONLY | O_DIRECTORY);
  OK(syscall(SYS_getdents64, directory, buffer, sizeof buffer));
  OK(close(directory));
  for (const std::string& name : {std::string("f"), std::string("d")}) {
    struct stat info {};
    OK(stat(ReadOnly(name).c_str(), &info));
    HOLDS(info.st_atim == kOld);
    HOLDS(Atime(name) == kOld);
  }
}

// Which of the rules is in force depends on mount options; never does a read move the other times.
TEST_F(TimeTest, ReadingMovesAtMostAtime) {
  MakeFile("f", "content");
  Age("f");
  const struct stat before = Stat("f");
  IS("content", Content("f"));
  const struct stat after = Stat("f");
  HOLDS(after.st_mtim == before.st_mtim);
  HOLDS(after.st_ctim == before.st_ctim);
  HOLDS(!Later(before.st_atim, after.st_atim));
}

}  // namespace
}  // namespace cairn::posix
