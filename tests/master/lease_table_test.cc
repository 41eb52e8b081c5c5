#include "master/leases/lease_table.h"

#include <gtest/gtest.h>

#include <functional>
#include <map>

namespace cairn::master {
namespace {

constexpr InodeId kInode{7};
constexpr SessionId kA{1};
constexpr SessionId kB{2};
constexpr SessionId kC{3};
constexpr LeaseMode kNone = LeaseMode::kNone;
constexpr LeaseMode kRead = LeaseMode::kRead;
constexpr LeaseMode kWrite = LeaseMode::kWrite;

LeaseTable MakeTable(size_t max_reads = 100) {
  return LeaseTable({.max_read_leases_per_session = max_reads, .recall_timeout_ns = 1000});
}

// Every combination of what two others hold against what a third asks for.
TEST(LeaseTableTest, CompatibleIsManyReadersOrOneWriter) {
  for (LeaseMode a : {kNone, kRead, kWrite}) {
    for (LeaseMode b : {kNone, kRead, kWrite}) {
      if (a != kNone && b != kNone && (a == kWrite || b == kWrite)) continue;  // cannot be held together
      LeaseTable table = MakeTable();
      if (a != kNone) table.Grant(kInode, kA, a, Epoch(10), 0);
      if (b != kNone) table.Grant(kInode, kB, b, Epoch(11), 0);
      const bool a_writes = a == kWrite || b == kWrite;
      EXPECT_TRUE(table.Compatible(kInode, kC, kNone));
      EXPECT_EQ(table.Compatible(kInode, kC, kRead), !a_writes);
      EXPECT_EQ(table.Compatible(kInode, kC, kWrite), a == kNone && b == kNone);
      // One's own lease never stands against oneself.
      EXPECT_EQ(table.Compatible(kInode, kA, kWrite), b == kNone);
      EXPECT_EQ(table.Compatible(kInode, kA, kRead), b != kWrite);
    }
  }
}

// Recall to every level from every mode: what is sent, and what is held after the answer.
TEST(LeaseTableTest, RecallLeavesExactlyWhatWasAsked) {
  for (LeaseMode held : {kRead, kWrite}) {
    for (LeaseMode leave : {kNone, kRead}) {
      LeaseTable table = MakeTable();
      table.Grant(kInode, kA, held, Epoch(5), 0);
      const auto orders = table.RecallOthers(kInode, kB, leave, false, 0);
      if (held <= leave) {
        EXPECT_TRUE(orders.empty());
        EXPECT_FALSE(table.OthersHoldMore(kInode, kB, leave));
        continue;
      }
      ASSERT_EQ(orders.size(), 1u);
      EXPECT_EQ(orders[0], (RecallOrder{kA, kInode, Epoch(5), leave, false}));
      EXPECT_TRUE(table.OthersHoldMore(kInode, kB, leave));
      EXPECT_TRUE(table.RecallOthers(kInode, kB, leave, false, 1).empty()) << "sent once";
      EXPECT_TRUE(table.Returned(kInode, kA, Epoch(5), leave));
      EXPECT_FALSE(table.OthersHoldMore(kInode, kB, leave));
      EXPECT_EQ(table.NextDeadline(), INT64_MAX);
      const HeldLease* rest = table.Find(kInode, kA);
      if (leave == kNone) {
        EXPECT_EQ(rest, nullptr);
      } else {
        ASSERT_NE(rest, nullptr);
        EXPECT_EQ(rest->mode, leave);
        EXPECT_FALSE(rest->recalled);
      }
    }
  }
}

TEST(LeaseTableTest, StricterRecallReplacesWeakerWithoutMoreTime) {
  LeaseTable table = MakeTable();
  table.Grant(kInode, kA, kWrite, Epoch(5), 0);
  ASSERT_EQ(table.RecallOthers(kInode, kB, kRead, false, 0).size(), 1u);
  const auto stricter = table.RecallOthers(kInode, kC, kNone, true, 500);
  ASSERT_EQ(stricter.size(), 1u);
  EXPECT_EQ(stricter[0].keep, kNone);
  EXPECT_TRUE(stricter[0].deleting);
  EXPECT_EQ(table.NextDeadline(), 1000);
  // An answer to the weaker one lowers the lease but does not end the recall.
  EXPECT_TRUE(table.Returned(kInode, kA, Epoch(5), kRead));
  EXPECT_TRUE(table.Find(kInode, kA)->recalled);
  EXPECT_EQ(table.PendingRecalls(kA).size(), 1u);
  EXPECT_TRUE(table.Returned(kInode, kA, Epoch(5), kNone));
  EXPECT_TRUE(table.PendingRecalls(kA).empty());
}

TEST(LeaseTableTest, LateAnswersForAnotherNumberChangeNothing) {
  LeaseTable table = MakeTable();
  table.Grant(kInode, kA, kWrite, Epoch(5), 0);
  EXPECT_FALSE(table.Returned(kInode, kA, Epoch(4), kNone));
  EXPECT_FALSE(table.Returned(kInode, kB, Epoch(5), kNone));
  EXPECT_EQ(table.Writer(kInode), kA);
}

TEST(LeaseTableTest, OnlyShrinkingDirtyBytesExtendTheDeadline) {
  LeaseTable table = MakeTable();
  table.Grant(kInode, kA, kWrite, Epoch(5), 0);
  table.RecallOthers(kInode, kB, kNone, false, 0);
  table.Progress(kInode, kA, Epoch(5), 100, 900);
  EXPECT_EQ(table.NextDeadline(), 1900);
  table.Progress(kInode, kA, Epoch(5), 100, 1800);
  EXPECT_EQ(table.NextDeadline(), 1900) << "no progress, no time";
  table.Progress(kInode, kA, Epoch(5), 50, 1800);
  EXPECT_EQ(table.NextDeadline(), 2800);
  EXPECT_TRUE(table.OverdueSessions(2799).empty());
  EXPECT_EQ(table.OverdueSessions(2800), std::vector<SessionId>{kA});
}

TEST(LeaseTableTest, ReadLeasesBeyondTheBoundAreRecalledLeastRecentlyUsedFirst) {
  LeaseTable table = MakeTable(2);
  EXPECT_TRUE(table.Grant(InodeId(1), kA, kRead, Epoch(1), 0).empty());
  EXPECT_TRUE(table.Grant(InodeId(2), kA, kRead, Epoch(2), 0).empty());
  table.Touch(InodeId(1), kA);
  const auto evicted = table.Grant(InodeId(3), kA, kRead, Epoch(3), 0);
  ASSERT_EQ(evicted.size(), 1u);
  EXPECT_EQ(evicted[0].inode, InodeId(2));
  // Not yet returned: the next grant asks for one more, not for the same again.
  const auto more = table.Grant(InodeId(4), kA, kRead, Epoch(4), 0);
  ASSERT_EQ(more.size(), 1u);
  EXPECT_EQ(more[0].inode, InodeId(1));
  EXPECT_TRUE(table.Grant(InodeId(9), kB, kRead, Epoch(5), 0).empty()) << "the bound is per session";
}

TEST(LeaseTableTest, UpgradeAndDropKeepTheIndexesInStep) {
  LeaseTable table = MakeTable();
  table.Grant(InodeId(1), kA, kRead, Epoch(1), 0);
  table.Grant(InodeId(1), kA, kWrite, Epoch(2), 0);
  EXPECT_EQ(table.ReadLeaseCount(kA), 0u);
  EXPECT_EQ(table.WriteLeases(kA), std::vector<InodeId>{InodeId(1)});
  table.Grant(InodeId(2), kA, kRead, Epoch(3), 0);
  table.Grant(InodeId(2), kB, kRead, Epoch(4), 0);
  table.RecallOthers(InodeId(2), kC, kNone, false, 0);
  EXPECT_EQ(table.DropSession(kA).size(), 2u);
  EXPECT_EQ(table.size(), 1u);
  EXPECT_EQ(table.OverdueSessions(5000), std::vector<SessionId>{kB});
}

// A random walk against a model that knows nothing but the rules.
TEST(LeaseTableTest, AgreesWithAPlainModelOverARandomWalk) {
  LeaseTable table = MakeTable(1'000'000);
  std::map<std::pair<uint64_t, uint64_t>, LeaseMode> model;  // (inode, session)
  std::map<std::pair<uint64_t, uint64_t>, Epoch> numbers;
  uint64_t random = 12345;
  auto next = [&](uint64_t bound) {
    random = random * 6364136223846793005ull + 1442695040888963407ull;
    return (random >> 33) % bound;
  };
  uint64_t number = 1;
  for (int step = 0; step < 20'000; ++step) {
    const uint64_t inode = 1 + next(3);
    const uint64_t session = 1 + next(3);
    const LeaseMode mode = next(2) == 0 ? kRead : kWrite;
    switch (next(3)) {
      case 0: {
        bool allowed = true;
        for (const auto& [key, held] : model) {
          if (key.first == inode && key.second != session && (mode == kWrite || held == kWrite))
            allowed = false;
        }
        ASSERT_EQ(table.Compatible(InodeId(inode), SessionId(session), mode), allowed);
        if (!allowed) break;
        table.Grant(InodeId(inode), SessionId(session), mode, Epoch(number), step);
        model[{inode, session}] = mode;
        numbers[{inode, session}] = Epoch(number++);
        break;
      }
      case 1: {
        auto it = model.find({inode, session});
        if (it == model.end()) break;
        const LeaseMode keep = it->second == kWrite && next(2) == 0 ? kRead : kNone;
        ASSERT_TRUE(table.Returned(InodeId(inode), SessionId(session), numbers[{inode, session}], keep));
        if (keep == kNone) {
          model.erase(it);
        } else {
          it->second = keep;
        }
        break;
      }
      default: {
        const LeaseMode leave = next(2) == 0 ? kNone : kRead;
        table.RecallOthers(InodeId(inode), SessionId(session), leave, false, step);
        bool more = false;
        for (const auto& [key, held] : model)
          more |= key.first == inode && key.second != session && held > leave;
        ASSERT_EQ(table.OthersHoldMore(InodeId(inode), SessionId(session), leave), more);
      }
    }
    ASSERT_EQ(table.size(), model.size());
  }
}

}  // namespace
}  // namespace cairn::master
