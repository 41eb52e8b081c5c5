// A mount with mapped ids, through the real kernel: who owns what, who may what, and what the cluster is
// told.
#include <fcntl.h>
#include <grp.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <functional>

#include "tests/fuse/mounted_test.h"

namespace cairn::fuse {
namespace {

class IdsTest : public MountedTest {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "other users take part: run it as root";
    MountedTest::SetUp();
    if (IsSkipped()) return;
    ASSERT_EQ(chmod(mountpoint_.c_str(), 0777), 0);  // of the cluster's root directory
    MountWith("allow_other,uidmap=1000:5000:2,gidmap=1000:6000:2,gidmap=27:2700");
  }
  client::Attributes InCluster(const std::string& name) {
    const auto entry = client_->Lookup({}, kRootInode, name);
    EXPECT_TRUE(entry.ok()) << name;
    return entry.ok() ? entry->attr : client::Attributes{};
  }
  // The errno of `call` as this user; 0 when it succeeds.
  static int As(uid_t uid, gid_t gid, const std::vector<gid_t>& groups, const std::function<int()>& call) {
    const pid_t child = fork();
    if (child == 0) {
      if (setgroups(groups.size(), groups.data()) != 0 || setresgid(gid, gid, gid) != 0 ||
          setresuid(uid, uid, uid) != 0)
        _exit(255);
      _exit(call() >= 0 ? 0 : errno);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
  int Make(uid_t uid, gid_t gid, const std::string& name, mode_t mode = 0600) {
    return As(uid, gid, {}, [&] { return open(Path(name).c_str(), O_WRONLY | O_CREAT | O_EXCL, mode); });
  }
};

TEST_F(IdsTest, WhatAUserMakesIsTheirsOnBothSides) {
  ASSERT_EQ(Make(1001, 1000, "f"), 0);
  EXPECT_EQ(InCluster("f").uid, 5001U);
  EXPECT_EQ(InCluster("f").gid, 6000U);
  struct stat info {};
  ASSERT_EQ(stat(Path("f").c_str(), &info), 0);
  EXPECT_EQ(info.st_uid, 1001U);
  EXPECT_EQ(info.st_gid, 1000U);
  EXPECT_EQ(As(1001, 1000, {}, [&] { return chmod(Path("f").c_str(), 0640); }), 0);
  EXPECT_EQ(As(1000, 1000, {}, [&] { return chmod(Path("f").c_str(), 0666); }), EPERM);
  for (const std::string kind : {"d", "l", "p"}) {
    EXPECT_EQ(As(1000, 1001, {},
                 [&] {
                   const std::string path = Path(kind);
                   return kind == "d"   ? mkdir(path.c_str(), 0755)
                          : kind == "l" ? symlink("x", path.c_str())
                                        : mkfifo(path.c_str(), 0600);
                 }),
              0)
        << kind;
    EXPECT_EQ(InCluster(kind).uid, 5000U) << kind;
    EXPECT_EQ(InCluster(kind).gid, 6001U) << kind;
  }
}

TEST_F(IdsTest, WhoHasNoCounterpartMakesNothingAndOwnsNothing) {
  EXPECT_EQ(Make(1002, 1000, "f"), EOVERFLOW);
  EXPECT_EQ(Make(1000, 1002, "f"), EOVERFLOW);
  EXPECT_EQ(As(0, 0, {}, [&] { return mkdir(Path("d").c_str(), 0755); }), EOVERFLOW)
      << "root here is nobody there";
  // A user of the cluster whom nobody here is.
  ASSERT_TRUE(client_->Create({.uid = 9, .gid = 9}, kRootInode, "theirs", {.mode = 0604}, {}).ok());
  struct stat info {};
  ASSERT_EQ(stat(Path("theirs").c_str(), &info), 0);
  EXPECT_EQ(info.st_uid, kOverflowId);
  EXPECT_EQ(info.st_gid, kOverflowId);
  EXPECT_EQ(As(1002, 1002, {}, [&] { return open(Path("theirs").c_str(), O_RDONLY); }), 0) << "everybody may";
}

TEST_F(IdsTest, OwnersAreSetByTheNamesOfThisMachine) {
  ASSERT_EQ(Make(1000, 1000, "f"), 0);
  // Who is root in the cluster.
  MountWith("allow_other,uidmap=0:0,uidmap=1000:5000,gidmap=0:0,gidmap=1000:6000");
  ASSERT_EQ(chown(Path("f").c_str(), 0, 1000), 0);
  EXPECT_EQ(InCluster("f").uid, 0U);
  ASSERT_EQ(chown(Path("f").c_str(), 1000, 0), 0);
  EXPECT_EQ(InCluster("f").uid, 5000U);
  EXPECT_EQ(InCluster("f").gid, 0U);
  EXPECT_EQ(chown(Path("f").c_str(), 1001, 0), -1);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_EQ(chown(Path("f").c_str(), 1000, 1001), -1);
  EXPECT_EQ(errno, EINVAL);
}

TEST_F(IdsTest, EveryFileIsShownAsOnesOwn) {
  ASSERT_EQ(Make(1000, 1000, "f"), 0);
  MountWith("allow_other,uid=33,gid=34");
  struct stat info {};
  ASSERT_EQ(stat(Path("f").c_str(), &info), 0);
  EXPECT_EQ(info.st_uid, 33U);
  EXPECT_EQ(info.st_gid, 34U);
  EXPECT_EQ(InCluster("f").uid, 5000U);
  EXPECT_EQ(chown(Path("f").c_str(), 33, 34), 0);
  EXPECT_EQ(InCluster("f").uid, 5000U) << "what is shown is not set";
  EXPECT_EQ(chown(Path("f").c_str(), 0, -1), -1);
  EXPECT_EQ(errno, EPERM);
}

}  // namespace
}  // namespace cairn::fuse
