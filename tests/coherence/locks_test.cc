// File locks between two mounts of one cluster, each rule with real processes.
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

// One cluster with two mounts for all tests of this file; each uses a file of its own.
class LocksTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    cluster_ = LocalCluster::Start();
    ASSERT_NE(cluster_, nullptr);
    second_ = cluster_->AddMount();
  }
  static void TearDownTestSuite() { cluster_.reset(); }
  void SetUp() override {
    ASSERT_NE(cluster_, nullptr);
    name_ = ::testing::UnitTest::GetInstance()->current_test_info()->name();
    a.Must("open f " + OnA() + " rwc");
    a.Must("write f 0 0123456789");
    b.Must("open f " + OnB() + " rw");
  }
  std::string OnA() const { return cluster_->Path(name_); }
  std::string OnB() const { return second_ + "/" + name_; }

  static std::unique_ptr<LocalCluster> cluster_;
  static std::string second_;
  std::string name_;
  Worker a, b;
};
std::unique_ptr<LocalCluster> LocksTest::cluster_;
std::string LocksTest::second_;

TEST_F(LocksTest, RecordLocksExcludeEachOtherAcrossMounts) {
  a.Must("lock f w 0 10 try posix");
  EXPECT_EQ(b.Ask("lock f r 5 1 try posix"), Err(EAGAIN));
  EXPECT_EQ(b.Ask("lock f r 10 5 try posix"), "ok");
  EXPECT_EQ(b.Ask("getlk f w 0 0"), "ok w 0 10 0") << "no process number of another machine";
  Worker near;
  near.Must("open f " + OnA() + " rw");
  EXPECT_EQ(near.Ask("getlk f w 0 5"), "ok w 0 10 " + std::to_string(a.pid()));
  a.Must("lock f u 0 6 try posix");
  EXPECT_EQ(b.Ask("lock f w 0 6 try posix"), "ok");
  EXPECT_EQ(b.Ask("lock f r 6 1 try posix"), Err(EAGAIN));
  a.Must("close f");
  EXPECT_EQ(b.Ask("lock f w 0 0 try posix"), "ok");
}

TEST_F(LocksTest, AnyCloseByTheProcessReleasesItsRecordLocks) {
  a.Must("open g " + OnA() + " r");
  a.Must("lock f w 0 0 try posix");
  EXPECT_EQ(b.Ask("lock f w 0 0 try posix"), Err(EAGAIN));
  a.Must("close g");
  EXPECT_EQ(b.Ask("lock f w 0 0 try posix"), "ok");
}

TEST_F(LocksTest, OpenFileDescriptionLocksSurviveOtherClosesAndEndWithTheirOwn) {
  a.Must("open g " + OnA() + " r");
  a.Must("lock f w 0 0 try ofd");
  a.Must("close g");
  EXPECT_EQ(b.Ask("lock f w 0 0 try ofd"), Err(EAGAIN));
  EXPECT_EQ(b.Ask("lock f r 0 0 try posix"), Err(EAGAIN)) << "they conflict with those of processes";
  b.Send("lock f w 0 0 wait ofd");
  ASSERT_TRUE(b.Blocks());
  a.Must("close f");
  EXPECT_EQ(b.Receive(), "ok");
}

TEST_F(LocksTest, FlockExcludesAcrossMountsAndEndsWithTheOpenFile) {
  a.Must("flock f ex try");
  EXPECT_EQ(b.Ask("flock f sh try"), Err(EAGAIN));
  b.Send("flock f ex wait");
  ASSERT_TRUE(b.Blocks());
  // A descriptor shared with a child keeps the lock.
  const pid_t child = std::stoi(a.Must("fork"));
  a.Must("close f");
  EXPECT_FALSE(b.HasAnswer(200));
  kill(child, SIGKILL);
  EXPECT_EQ(b.Receive(), "ok");
  a.Must("open f " + OnA() + " r");
  EXPECT_EQ(a.Ask("flock f sh try"), Err(EAGAIN));
  b.Must("flock f sh wait");
  EXPECT_EQ(a.Ask("flock f sh try"), "ok");
  EXPECT_EQ(a.Ask("flock f ex try"), Err(EAGAIN));
  EXPECT_EQ(b.Ask("flock f ex try"), "ok") << "a conversion that failed has given its shared lock up";
}

TEST_F(LocksTest, AnOpenFileThatWasClosedIsInNobodysWay) {
  // The kernel tells the mount of its end without waiting; whoever comes right after must not be refused by
  // it.
  Worker other;
  other.Must("open f " + OnA() + " rw");
  for (int round = 0; round < 200; ++round) {
    Worker& first = round % 2 == 0 ? a : other;
    Worker& second = round % 2 == 0 ? other : a;
    first.Must("open g " + OnA() + " rw");
    first.Must(round % 3 == 0 ? "lock g w 0 0 try ofd" : "flock g ex try");
    first.Must("close g");
    second.Must("open g " + OnA() + " rw");
    second.Must(round % 3 == 0 ? "lock g w 0 0 try ofd" : "flock g ex try");
    second.Must("close g");
  }
  // An open file that somebody else still has is in the way.
  a.Must("flock f ex try");
  const pid_t child = std::stoi(a.Must("fork"));
  a.Must("close f");
  EXPECT_EQ(other.Ask("flock f ex try"), Err(EAGAIN));
  kill(child, SIGKILL);
  EXPECT_EQ(other.Ask("flock f ex wait"), "ok");
}

TEST_F(LocksTest, WaitersGetTheLockInTheirOrder) {
  a.Must("lock f w 0 0 try posix");
  Worker c;
  c.Must("open f " + OnA() + " rw");
  b.Send("lock f w 0 0 wait posix");
  ASSERT_TRUE(b.Blocks());
  EXPECT_FALSE(b.HasAnswer(100));
  c.Send("lock f w 0 0 wait posix");
  ASSERT_TRUE(c.Blocks());
  EXPECT_FALSE(c.HasAnswer(100));
  a.Must("lock f u 0 0 try posix");
  EXPECT_EQ(b.Receive(), "ok");
  EXPECT_FALSE(c.HasAnswer(100));
  b.Must("close f");
  EXPECT_EQ(c.Receive(), "ok");
}

TEST_F(LocksTest, ACircleOfProcessesOnTwoMountsIsRefused) {
  a.Must("lock f w 0 1 try posix");
  b.Must("lock f w 1 1 try posix");
  a.Send("lock f w 1 1 wait posix");
  ASSERT_TRUE(a.Blocks());
  EXPECT_FALSE(a.HasAnswer(200));
  EXPECT_EQ(b.Ask("lock f w 0 1 wait posix"), Err(EDEADLK));
  b.Must("lock f u 1 1 try posix");
  EXPECT_EQ(a.Receive(), "ok");
}

TEST_F(LocksTest, OpenFileDescriptionsThatWaitInACircleWait) {
  a.Must("lock f w 0 1 try ofd");
  b.Must("lock f w 1 1 try ofd");
  a.Send("lock f w 1 1 wait ofd");
  ASSERT_TRUE(a.Blocks());
  b.Send("lock f w 0 1 wait ofd");
  ASSERT_TRUE(b.Blocks());
  EXPECT_FALSE(b.HasAnswer(300));
  EXPECT_TRUE(b.Kill(20'000));
  EXPECT_EQ(a.Receive(), "ok");
}

TEST_F(LocksTest, ASignalEndsAWaitAndTheLockGoesToTheNextOne) {
  a.Must("lock f w 0 0 try posix");
  b.Must("alarm 300");
  EXPECT_EQ(b.Ask("lock f w 0 0 wait posix"), Err(EINTR));
  Worker c;
  c.Must("open f " + OnB() + " rw");
  c.Send("lock f w 0 0 wait posix");
  ASSERT_TRUE(c.Blocks());
  a.Must("lock f u 0 0 try posix");
  EXPECT_EQ(c.Receive(), "ok");
  EXPECT_EQ(b.Ask("lock f r 0 0 try posix"), Err(EAGAIN));
}

TEST_F(LocksTest, KilledWaitersLeaveNothingBehind) {
  a.Must("lock f w 0 0 try posix");
  constexpr int kWaiters = 40;
  {
    std::vector<std::unique_ptr<Worker>> waiters;
    for (int i = 0; i < kWaiters; ++i) {
      waiters.push_back(std::make_unique<Worker>());
      waiters.back()->Must("open f " + OnB() + " rw");
      waiters.back()->Send(i % 2 == 0 ? "lock f w 0 0 wait posix" : "lock f r 0 0 wait ofd");
      ASSERT_TRUE(waiters.back()->Blocks());
    }
    // They occupy no thread of the mount: it still serves.
    b.Must("write f 0 still");
    const int64_t start = NowMillis();
    for (auto& waiter : waiters) EXPECT_TRUE(waiter->Kill(20'000));
    Figure(std::to_string(kWaiters) + " waiting processes killed in " + std::to_string(NowMillis() - start) +
           " ms");
  }
  EXPECT_TRUE(cluster_test::WaitUntil(
      [&] {
        return cluster_->Cairn({"lock", "ls", "/" + name_}).out.find("waiting") == std::string::npos;
      },
      20'000));
  a.Must("lock f u 0 0 try posix");
  EXPECT_EQ(b.Ask("lock f w 0 0 try posix"), "ok");
}

TEST_F(LocksTest, ALockIsListedAndBroken) {
  a.Must("lock f w 100 50 try posix");
  b.Send("lock f w 0 0 wait posix");
  ASSERT_TRUE(b.Blocks());
  EXPECT_FALSE(b.HasAnswer(200));
  const auto listed = cluster_->Cairn({"lock", "ls", "/" + name_, "--json"});
  ASSERT_EQ(listed.exit_code, 0) << listed.Both();
  const auto json = nlohmann::json::parse(listed.out);
  ASSERT_EQ(json["locks"].size(), 2u) << listed.out;
  EXPECT_EQ(json["locks"][0]["start"], "100");
  EXPECT_EQ(json["locks"][0]["end"], "149");
  EXPECT_EQ(json["locks"][0]["pid"], a.pid());
  EXPECT_EQ(json["locks"][1]["waiting"], true);
  EXPECT_EQ(json["locks"][1]["to_end"], true);
  const auto broken = cluster_->Cairn({"lock", "break", "/" + name_, "--all"});
  EXPECT_EQ(broken.exit_code, 0) << broken.Both();
  EXPECT_EQ(b.Receive(), "ok");
  // Its owner must not go on as if it were alone.
  EXPECT_TRUE(cluster_test::WaitUntil([&] { return a.Ask("write f 0 mine") == Err(EIO); }, 20'000));
  EXPECT_EQ(a.Ask("lock f r 0 1 try posix"), Err(EIO));
  a.Must("close f");
  a.Must("open f " + OnA() + " rw");
  EXPECT_EQ(a.Ask("lock f w 0 1 try posix"), Err(EAGAIN));
  EXPECT_EQ(cluster_->Cairn({"lock", "break", "/" + name_, "--session", "999999"}).exit_code, 1);
}

TEST_F(LocksTest, UncontendedLocksOfOneMountCostNoRoundTrip) {
  // Nobody else holds the file open for locking; after the first lock its mount decides.
  constexpr int kRounds = 3000;
  a.Must("lock f w 0 1 try posix");
  const int64_t start = NowMillis();
  for (int i = 0; i < kRounds; ++i) a.Send(i % 2 == 0 ? "lock f u 0 1 try posix" : "lock f w 0 1 try posix");
  for (int i = 0; i < kRounds; ++i) ASSERT_EQ(a.Receive(), "ok");
  const int64_t ms = NowMillis() - start;
  Figure(std::to_string(kRounds) + " uncontended lock calls in " + std::to_string(ms) +
         " ms: " + std::to_string(ms * 1000 / kRounds) + " us each, with the worker's pipe");
  a.Must("lock f w 0 1 try posix");
  // Whoever asks on the other mount meets the lock all the same.
  EXPECT_EQ(b.Ask("lock f w 0 1 try posix"), Err(EAGAIN));
}

}  // namespace
}  // namespace cairn::coherence_test
