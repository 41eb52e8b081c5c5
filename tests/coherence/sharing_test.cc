// What programs on one mount see of what programs on others do. Nothing here sleeps to get the right answer:
// what a call returned on one mount is asked for on another at once.
#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <set>
#include <sstream>
#include <thread>

#include "tests/cluster/harness.h"
#include "tests/coherence/worker.h"

namespace cairn::coherence_test {
namespace {

using cluster_test::Figure;
using cluster_test::LocalCluster;
using cluster_test::NowMillis;

class SharingTest : public ::testing::Test {
 protected:
  static constexpr int kMounts = 3;
  static void SetUpTestSuite() {
    cluster_ = LocalCluster::Start();
    ASSERT_NE(cluster_, nullptr);
    mounts_ = {cluster_->mount(), cluster_->AddMount(), cluster_->AddMount()};
  }
  static void TearDownTestSuite() { cluster_.reset(); }
  void SetUp() override {
    ASSERT_EQ(mounts_.size(), static_cast<size_t>(kMounts));
    name_ = ::testing::UnitTest::GetInstance()->current_test_info()->name();
  }
  std::string On(int mount, const std::string& suffix = "") const {
    return mounts_[mount] + "/" + name_ + suffix;
  }
  // Counts one comparison; the first violations are shown.
  void Expect(const std::string& got, const std::string& expected, const std::string& where) {
    ++checks_;
    if (got == expected) return;
    if (++violations_ <= 5)
      ADD_FAILURE() << where << ": got \"" << got << "\", expected \"" << expected << "\"";
  }
  void Report(const std::string& what) const {
    Figure(what + ": " + std::to_string(checks_) + " checks, " + std::to_string(violations_) + " violations");
  }

  static std::unique_ptr<LocalCluster> cluster_;
  static std::vector<std::string> mounts_;
  std::string name_;
  Worker w[kMounts];
  int checks_ = 0;
  int violations_ = 0;
};
std::unique_ptr<LocalCluster> SharingTest::cluster_;
std::vector<std::string> SharingTest::mounts_;

TEST_F(SharingTest, AWriteIsSeenByTheNextReadOnEveryMount) {
  w[0].Must("open f " + On(0) + " rwc");
  w[1].Must("open f " + On(1) + " rw");
  w[2].Must("open f " + On(2) + " rw");
  const int64_t start = NowMillis();
  constexpr int kRounds = 100;
  for (int round = 0; round < kRounds; ++round) {
    const int writer = round % kMounts;
    const std::string text = "round " + std::to_string(1000 + round) + " by mount " + std::to_string(writer);
    w[writer].Must("write f 0 " + text);
    for (int reader = 0; reader < kMounts; ++reader) {
      Expect(w[reader].Ask("read f 0 100"), "ok " + text, "read in round " + std::to_string(round));
    }
  }
  Report("write on one mount, read on three");
  Figure(std::to_string((NowMillis() - start) * 1000 / kRounds) + " us per write with three reads");
}

TEST_F(SharingTest, SizesAreSeenByStatAtOnce) {
  w[0].Must("open f " + On(0) + " rwc");
  w[1].Must("open f " + On(1) + " rw");
  for (int round = 1; round <= 60; ++round) {
    w[round % 2].Must("write f " + std::to_string(round * 10) + " 0123456789");
    const std::string size = "ok " + std::to_string(round * 10 + 10);
    Expect(w[(round + 1) % 2].Ask("stat " + On((round + 1) % 2)), size, "stat");
    Expect(w[2].Ask("stat " + On(2)), size, "stat on the third mount");
  }
  Report("stat after write");
}

TEST_F(SharingTest, AppendsOfThreeMountsLoseNoLine) {
  constexpr int kLines = 100;
  const int64_t start = NowMillis();
  for (int m = 0; m < kMounts; ++m) w[m].Must("open f " + On(m) + " wca");
  for (int i = 0; i < kLines; ++i) {
    for (int m = 0; m < kMounts; ++m)
      w[m].Send("append f line " + std::to_string(i) + " of mount " + std::to_string(m) + " end");
  }
  for (int i = 0; i < kLines; ++i) {
    for (int m = 0; m < kMounts; ++m) ASSERT_EQ(w[m].Receive(), "ok");
  }
  Figure("append race: " + std::to_string((NowMillis() - start) * 1000 / (kLines * kMounts)) +
         " us per line");
  Worker reader;
  reader.Must("open f " + On(1) + " r");
  std::multiset<std::string> lines;
  std::istringstream text(cluster_->Cairn({"cat", "/" + name_}).out);
  for (std::string line; std::getline(text, line);) lines.insert(line);
  for (int m = 0; m < kMounts; ++m) {
    for (int i = 0; i < kLines; ++i) {
      const std::string line = "line " + std::to_string(i) + " of mount " + std::to_string(m) + " end";
      Expect(std::to_string(lines.count(line)), "1", line);
    }
  }
  Expect(std::to_string(lines.size()), std::to_string(kLines * kMounts), "lines in all");
  Report("append race");
}

TEST_F(SharingTest, AppendsInTurnCostAFewRoundTripsEach) {
  constexpr int kTurns = 100;
  w[0].Must("open f " + On(0) + " rwca");
  w[1].Must("open f " + On(1) + " rwa");
  w[0].Must("append f first");
  const int64_t start = NowMillis();
  for (int turn = 0; turn < kTurns; ++turn) w[turn % 2].Must("append f turn " + std::to_string(turn));
  const int64_t ms = NowMillis() - start;
  Figure("two mounts appending in turn: " + std::to_string(ms * 1000 / kTurns) + " us per hand-over");
  std::string expected = "first\n";
  for (int turn = 0; turn < kTurns; ++turn) expected += "turn " + std::to_string(turn) + "\n";
  Expect(cluster_->Cairn({"cat", "/" + name_}).out, expected, "content");
  Report("appends in turn");
}

TEST_F(SharingTest, OneFileIsWrittenAtDifferentPlacesByThreeMounts) {
  constexpr int kBlocks = 60;
  constexpr int kBlock = 1000;
  for (int m = 0; m < kMounts; ++m) w[m].Must("open f " + On(m) + " rwc");
  const auto block = [](int i) {
    std::string text;
    while (text.size() < kBlock) text += std::to_string(i) + ".";
    return text.substr(0, kBlock);
  };
  for (int i = 0; i < kBlocks; ++i)
    w[i % kMounts].Send("write f " + std::to_string(i * kBlock) + " " + block(i));
  for (int i = 0; i < kBlocks; ++i) ASSERT_EQ(w[i % kMounts].Receive(), "ok");
  for (int i = 0; i < kBlocks; ++i) {
    Expect(w[(i + 1) % kMounts].Ask("read f " + std::to_string(i * kBlock) + " " + std::to_string(kBlock)),
           "ok " + block(i), "block " + std::to_string(i));
  }
  Report("interleaved writers");
}

TEST_F(SharingTest, NamesThatDoNotExistAppearAndGoAtOnce) {
  for (int round = 0; round < 40; ++round) {
    const int maker = round % kMounts;
    const int other = (round + 1) % kMounts;
    const std::string suffix = "." + std::to_string(round);
    Expect(w[other].Ask("stat " + On(other, suffix)), Err(ENOENT), "before");
    Expect(w[other].Ask("stat " + On(other, suffix)), Err(ENOENT), "before, from the cache");
    w[maker].Must("create " + On(maker, suffix));
    Expect(w[other].Ask("stat " + On(other, suffix)), "ok 0", "created");
    w[maker].Must("rename " + On(maker, suffix) + " " + On(maker, suffix + ".new"));
    Expect(w[other].Ask("stat " + On(other, suffix)), Err(ENOENT), "renamed away");
    Expect(w[other].Ask("stat " + On(other, suffix + ".new")), "ok 0", "renamed");
    w[other].Must("unlink " + On(other, suffix + ".new"));
    Expect(w[maker].Ask("stat " + On(maker, suffix + ".new")), Err(ENOENT), "removed");
  }
  Report("names");
}

TEST_F(SharingTest, OnlyOneOfThreeMountsCreatesMovesOrRemoves) {
  constexpr int kRounds = 40;
  for (int round = 0; round < kRounds; ++round) {
    const std::string suffix = "." + std::to_string(round);
    const auto race = [&](const std::string& what, const std::string& to, int loser) {
      for (int m = 0; m < kMounts; ++m) {
        w[m].Send(what + " " + On(m, suffix) +
                  (to.empty() ? "" : " " + On(m, suffix + to + std::to_string(m))));
      }
      int winners = 0;
      int winner = 0;
      for (int m = 0; m < kMounts; ++m) {
        const std::string answer = w[m].Receive();
        if (answer == "ok") {
          ++winners;
          winner = m;
        } else {
          Expect(answer, Err(loser), what);
        }
      }
      Expect(std::to_string(winners), "1", what + suffix);
      return winner;
    };
    race("create", "", EEXIST);
    if (round % 2 == 0) {
      race("unlink", "", ENOENT);
    } else {
      const int winner = race("rename", ".by", ENOENT);
      w[0].Must("unlink " + On(0, suffix + ".by" + std::to_string(winner)));
    }
  }
  Report("races of create, rename and unlink");
}

TEST_F(SharingTest, MappedReadersSeeWhatOthersWrite) {
  w[0].Must("open f " + On(0) + " rwc");
  w[0].Must("write f 0 " + std::string(5000, '.'));
  w[1].Must("open f " + On(1) + " rw");
  w[1].Must("map f 5000");
  for (int round = 0; round < 60; ++round) {
    const std::string text = "round " + std::to_string(100 + round);
    w[0].Must("write f 4090 " + text);
    Expect(w[1].Ask("peek 4090 " + std::to_string(text.size())), "ok " + text, "mapped read");
  }
  // And what is written through the mapping is seen after msync.
  for (int round = 0; round < 20; ++round) {
    const std::string text = "poked " + std::to_string(100 + round);
    w[1].Must("poke 10 " + text);
    w[1].Must("msync");
    Expect(w[0].Ask("read f 10 " + std::to_string(text.size())), "ok " + text, "read after msync");
  }
  Report("shared mappings");
}

// What is written through a mapping under a lock is there for the next one who has the lock, without msync.
TEST_F(SharingTest, LocksPassSharedMappingsOn) {
  w[0].Must("open f " + On(0) + " rwc");
  w[0].Must("write f 0 " + std::string(9000, '.'));
  for (int m = 1; m < kMounts; ++m) w[m].Must("open f " + On(m) + " rw");
  for (int m = 0; m < kMounts; ++m) w[m].Must("map f 9000");
  std::string last = std::string(8, '.');
  for (const std::string kind : {"posix", "ofd", "flock"}) {
    const bool flock = kind == "flock";
    for (int round = 0; round < 30; ++round) {
      const int m = round % kMounts;
      w[m].Must(flock ? "flock f ex wait" : "lock f w 0 0 wait " + kind);
      Expect(w[m].Ask("peek 4092 8"), "ok " + last, "mapped read under a lock");
      last = "by " + std::to_string(10000 + round);
      w[m].Must("poke 4092 " + last);
      w[m].Must(flock ? "flock f un try" : "lock f u 0 0 try " + kind);
      Expect(w[(m + 2) % kMounts].Ask("read f 4092 8"), "ok " + last, "read after the unlock");
    }
  }
  Report("shared mappings under locks");
}

// The pattern of ctdb's ping_pong: bytes 0 .. n are locked in a ring, each locked before the one before it is
// given back, so that every process must pass through the lock of every other one; under the lock a counter
// is read, checked and raised.
TEST_F(SharingTest, LocksPassTheDataOn) {
  constexpr int kRounds = 60;
  constexpr int kRing = kMounts + 1;
  for (int m = 0; m < kMounts; ++m) w[m].Must("open f " + On(m) + " rwc");
  w[0].Must("write f 0 00000000");
  std::atomic<int> errors{0};
  const int64_t start = NowMillis();
  std::vector<std::thread> threads;
  std::atomic<int> increments{0};
  for (int m = 0; m < kMounts; ++m) {
    threads.emplace_back([&, m] {
      int at = 0;
      if (w[m].Ask("lock f w 0 1 wait posix") != "ok") ++errors;
      for (int round = 0; round < kRounds; ++round) {
        const int next = (at + 1) % kRing;
        if (w[m].Ask("lock f w " + std::to_string(next) + " 1 wait posix") != "ok") ++errors;
        if (w[m].Ask("lock f u " + std::to_string(at) + " 1 try posix") != "ok") ++errors;
        at = next;
        if (at != 0) continue;
        const std::string seen = w[m].Ask("read f 0 8");
        const int value = seen.size() == 11 ? std::stoi(seen.substr(3)) : -1;
        char text[16];
        snprintf(text, sizeof text, "%08d", value + 1);
        if (value < 0 || w[m].Ask(std::string("write f 0 ") + text) != "ok") ++errors;
        ++increments;
      }
      if (w[m].Ask("lock f u 0 0 try posix") != "ok") ++errors;
    });
  }
  for (auto& thread : threads) thread.join();
  const int64_t ms = NowMillis() - start;
  Figure("ping_pong of three mounts: " + std::to_string(kRounds * kMounts) + " locks in " +
         std::to_string(ms) + " ms, " + std::to_string(kRounds * kMounts * 1000 / std::max<int64_t>(1, ms)) +
         " locks/s");
  Expect(std::to_string(errors), "0", "errors");
  char text[16];
  snprintf(text, sizeof text, "ok %08d", increments.load());
  Expect(w[0].Ask("read f 0 8"), text, "counter");
  Report("ping_pong");
}

}  // namespace
}  // namespace cairn::coherence_test
