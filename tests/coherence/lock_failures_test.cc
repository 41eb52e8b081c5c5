// File locks while processes of the cluster die, stop and come back.
#include <gtest/gtest.h>

#include <cerrno>
#include <csignal>

#include "tests/cluster/harness.h"
#include "tests/coherence/worker.h"

namespace cairn::coherence_test {
namespace {

using cluster_test::Figure;
using cluster_test::LocalCluster;
using cluster_test::NowMillis;

class LockFailuresTest : public ::testing::Test {
 protected:
  void SetUp() override {
    cluster = LocalCluster::Start();
    ASSERT_NE(cluster, nullptr);
    second = cluster->AddMount();
    a.Must("open f " + cluster->Path("f") + " rwc");
    a.Must("write f 0 0123456789");
    b.Must("open f " + second + "/f rw");
  }

  std::unique_ptr<LocalCluster> cluster;
  std::string second;
  Worker a, b;
};

TEST_F(LockFailuresTest, ALockGoesOnWhenItsMountIsKilled) {
  b.Must("lock f w 0 0 try posix");
  b.Must("flock f ex try");
  b.Must("write f 0 from the second");
  b.Must("fsync f");
  a.Send("lock f w 0 0 wait posix");
  ASSERT_TRUE(a.Blocks());
  const int64_t start = NowMillis();
  cluster->KillMount(second);
  EXPECT_EQ(a.Receive(), "ok");
  Figure("a lock was handed on " + std::to_string(NowMillis() - start) + " ms after its mount was killed");
  EXPECT_EQ(a.Ask("flock f ex try"), "ok");
  EXPECT_EQ(a.Ask("read f 0 100"), "ok from the second");
}

TEST_F(LockFailuresTest, LocksSurviveARestartOfTheMaster) {
  a.Must("lock f w 0 5 try posix");  // decided by its mount
  a.Must("open g " + cluster->Path("g") + " rwc");
  b.Must("open g " + second + "/g rw");
  b.Must("lock g r 7 1 try ofd");
  a.Must("lock g r 7 1 try posix");  // decided by the master
  b.Send("lock f w 0 0 wait posix");
  ASSERT_TRUE(b.Blocks());
  EXPECT_FALSE(b.HasAnswer(200));
  for (int round = 0; round < 3; ++round) {
    cluster->Kill("master");
    cluster->Up({"--only", "master"});
    Worker c;
    c.Must("open f " + cluster->Path("f") + " rw");
    EXPECT_EQ(c.Ask("lock f r 4 1 try posix"), Err(EAGAIN));
    EXPECT_EQ(c.Ask("lock f r 5 1 try posix"), "ok");
    EXPECT_EQ(a.Ask("lock g w 7 1 try posix"), Err(EAGAIN));
  }
  EXPECT_FALSE(b.HasAnswer(100));
  a.Must("close f");
  EXPECT_EQ(b.Receive(), "ok");
  b.Must("close g");  // the kernel tells the mount of an open file's end without waiting for it
  EXPECT_EQ(a.Ask("lock g w 7 1 wait posix"), "ok");
}

TEST_F(LockFailuresTest, NobodyGetsTheLockOfAMountThatIsMissingAfterARestart) {
  b.Must("lock f w 0 0 try posix");
  const pid_t mount = cluster->MountPid(second);
  ASSERT_EQ(kill(mount, SIGSTOP), 0);
  const int64_t stopped = NowMillis();
  cluster->Kill("master");
  cluster->Up({"--only", "master"});
  a.Send("lock f w 0 0 try posix");  // not even refused: the master does not know yet
  EXPECT_FALSE(a.HasAnswer(1'000));
  ASSERT_EQ(kill(mount, SIGCONT), 0);
  EXPECT_EQ(a.Receive(), Err(EAGAIN));
  Figure("asked of a restarted master, answered " + std::to_string(NowMillis() - stopped) +
         " ms after the holder's mount was stopped (for 1 s)");
  b.Must("write f 0 still mine");
  b.Must("lock f u 0 0 try posix");
  EXPECT_EQ(a.Ask("lock f w 0 0 try posix"), "ok");
}

TEST_F(LockFailuresTest, AMountWhoseSessionEndedLosesItsLocksAndSaysSo) {
  b.Must("lock f w 0 0 try posix");
  a.Send("lock f w 0 0 wait posix");
  ASSERT_TRUE(a.Blocks());
  const pid_t mount = cluster->MountPid(second);
  ASSERT_EQ(kill(mount, SIGSTOP), 0);
  EXPECT_EQ(a.Receive(), "ok");
  a.Must("write f 0 taken over");
  ASSERT_EQ(kill(mount, SIGCONT), 0);
  EXPECT_EQ(b.Ask("write f 0 I believe that it is mine"), Err(EIO));
  EXPECT_EQ(b.Ask("lock f w 0 0 try posix"), Err(EIO));
  b.Must("close f");
  b.Must("open f " + second + "/f rw");
  EXPECT_EQ(b.Ask("lock f w 0 0 try posix"), Err(EAGAIN));
  EXPECT_EQ(b.Ask("read f 0 100"), "ok taken over");
}

TEST_F(LockFailuresTest, WhoWaitsWhileTheMasterIsSilentCanBeKilled) {
  a.Must("lock f w 0 0 try posix");
  Worker c, d;
  c.Must("open f " + second + "/f rw");
  d.Must("open f " + second + "/f rw");
  c.Send("lock f w 0 0 wait posix");
  ASSERT_TRUE(c.Blocks());
  EXPECT_FALSE(c.HasAnswer(100));
  cluster->Signal("master", SIGSTOP);
  d.Send("lock f r 0 0 try posix");
  ASSERT_TRUE(d.Blocks());
  const int64_t start = NowMillis();
  EXPECT_TRUE(c.Kill(5'000));
  EXPECT_TRUE(d.Kill(5'000));
  Figure("two processes waiting for a silent master died in " + std::to_string(NowMillis() - start) + " ms");
  cluster->Signal("master", SIGCONT);
  // What they had asked for is not left behind.
  a.Must("lock f u 0 0 try posix");
  b.Send("lock f w 0 0 wait posix");
  EXPECT_EQ(b.Receive(), "ok");
}

}  // namespace
}  // namespace cairn::coherence_test
