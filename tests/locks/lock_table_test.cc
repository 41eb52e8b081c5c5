// The rules of Linux for locks, case by case.
#include "common/locks/lock_table.h"

#include <gtest/gtest.h>

namespace cairn::locks {
namespace {

constexpr InodeId kFile{7};
constexpr InodeId kOther{8};

class LockTableTest : public ::testing::Test {
 protected:
  static Lock Make(uint64_t owner, LockType type, uint64_t start, uint64_t end, InodeId inode = kFile) {
    return {
        .inode = inode, .owner = {SessionId(owner / 10), owner}, .type = type, .start = start, .end = end};
  }
  static Lock Flock(uint64_t owner, LockType type) {
    Lock lock = Make(owner, type, 0, kMaxOffset);
    lock.space = LockSpace::kFlock;
    return lock;
  }
  LockOutcome Set(const Lock& lock) { return table.Set(lock, &decided); }
  LockOutcome Wait(const Lock& lock, uint64_t ticket) { return table.SetOrWait(lock, ticket, &decided); }
  std::vector<uint64_t> Granted() {
    std::vector<uint64_t> tickets;
    for (const LockDecision& decision : decided) {
      if (decision.outcome == LockOutcome::kGranted) tickets.push_back(decision.waiter.ticket);
    }
    decided.clear();
    return tickets;
  }
  // "10:S[0,4]" per range.
  std::string Show(InodeId inode = kFile) const {
    std::string text;
    for (const Lock& lock : table.HeldOn(inode)) {
      if (!text.empty()) text += " ";
      text += std::to_string(lock.owner.owner) + (lock.type == LockType::kShared ? ":S[" : ":X[") +
              std::to_string(lock.start) + "," + (lock.end == kMaxOffset ? "" : std::to_string(lock.end)) +
              "]";
    }
    return text;
  }

  LockTable table;
  std::vector<LockDecision> decided;
};

TEST_F(LockTableTest, SharedLocksGoTogetherAndExclusiveOnesDoNot) {
  EXPECT_EQ(Set(Make(10, LockType::kShared, 0, 9)), LockOutcome::kGranted);
  EXPECT_EQ(Set(Make(20, LockType::kShared, 5, 14)), LockOutcome::kGranted);
  EXPECT_EQ(Set(Make(30, LockType::kExclusive, 9, 9)), LockOutcome::kConflict);
  EXPECT_EQ(Set(Make(30, LockType::kExclusive, 15, 15)), LockOutcome::kGranted);
  EXPECT_EQ(Show(), "10:S[0,9] 20:S[5,14] 30:X[15,15]");
}

TEST_F(LockTableTest, UnlockingTheMiddleSplitsAndLockingItAgainMerges) {
  Set(Make(10, LockType::kExclusive, 0, 99));
  Set(Make(10, LockType::kUnlock, 40, 59));
  EXPECT_EQ(Show(), "10:X[0,39] 10:X[60,99]");
  Set(Make(10, LockType::kShared, 40, 59));
  EXPECT_EQ(Show(), "10:X[0,39] 10:S[40,59] 10:X[60,99]");
  Set(Make(10, LockType::kExclusive, 40, 59));
  EXPECT_EQ(Show(), "10:X[0,99]");
}

TEST_F(LockTableTest, RangesReachTheLastByte) {
  Set(Make(10, LockType::kExclusive, 100, kMaxOffset));
  EXPECT_EQ(Set(Make(20, LockType::kShared, kMaxOffset, kMaxOffset)), LockOutcome::kConflict);
  Set(Make(10, LockType::kUnlock, kMaxOffset, kMaxOffset));
  EXPECT_EQ(Show(), "10:X[100," + std::to_string(kMaxOffset - 1) + "]");
  EXPECT_EQ(Set(Make(20, LockType::kShared, kMaxOffset, kMaxOffset)), LockOutcome::kGranted);
}

TEST_F(LockTableTest, AnUpgradeThatConflictsKeepsTheSharedLock) {
  Set(Make(10, LockType::kShared, 0, 9));
  Set(Make(20, LockType::kShared, 0, 9));
  EXPECT_EQ(Set(Make(10, LockType::kExclusive, 0, 9)), LockOutcome::kConflict);
  EXPECT_EQ(Show(), "10:S[0,9] 20:S[0,9]");
}

TEST_F(LockTableTest, TwoUpgradesThatWaitForEachOtherAreADeadlock) {
  Set(Make(10, LockType::kShared, 0, 9));
  Set(Make(20, LockType::kShared, 0, 9));
  EXPECT_EQ(Wait(Make(10, LockType::kExclusive, 0, 9), 1), LockOutcome::kQueued);
  EXPECT_EQ(Wait(Make(20, LockType::kExclusive, 0, 9), 2), LockOutcome::kDeadlock);
  EXPECT_EQ(Show(), "10:S[0,9] 20:S[0,9]");
  Set(Make(20, LockType::kUnlock, 0, kMaxOffset));
  EXPECT_EQ(Granted(), std::vector<uint64_t>{1});
  EXPECT_EQ(Show(), "10:X[0,9]");
}

TEST_F(LockTableTest, ACircleOverThreeFilesIsADeadlock) {
  const InodeId third{9};
  Set(Make(10, LockType::kExclusive, 0, 0, kFile));
  Set(Make(20, LockType::kExclusive, 0, 0, kOther));
  Set(Make(30, LockType::kExclusive, 0, 0, third));
  EXPECT_EQ(Wait(Make(10, LockType::kExclusive, 0, 0, kOther), 1), LockOutcome::kQueued);
  EXPECT_EQ(Wait(Make(20, LockType::kShared, 0, 0, third), 2), LockOutcome::kQueued);
  EXPECT_EQ(Wait(Make(30, LockType::kExclusive, 0, 0, kFile), 3), LockOutcome::kDeadlock);
  // Without the circle it waits.
  EXPECT_TRUE(table.Cancel({SessionId(2), 2}));
  EXPECT_EQ(Wait(Make(30, LockType::kExclusive, 0, 0, kFile), 3), LockOutcome::kQueued);
}

TEST_F(LockTableTest, OpenFileDescriptionsAndFlockAreNotCheckedForDeadlocks) {
  Lock first = Make(10, LockType::kExclusive, 0, 0, kFile);
  Lock second = Make(20, LockType::kExclusive, 0, 0, kOther);
  first.open_description = second.open_description = true;
  Set(first);
  Set(second);
  first.inode = kOther;
  second.inode = kFile;
  EXPECT_EQ(Wait(first, 1), LockOutcome::kQueued);
  EXPECT_EQ(Wait(second, 2), LockOutcome::kQueued);
}

TEST_F(LockTableTest, WaitersAreServedInTheOrderInWhichTheyCame) {
  Set(Make(10, LockType::kExclusive, 0, 9));
  Wait(Make(20, LockType::kExclusive, 0, 9), 1);
  Wait(Make(30, LockType::kExclusive, 0, 9), 2);
  Wait(Make(40, LockType::kShared, 20, 29), 3);  // not in anybody's way
  EXPECT_TRUE(table.Holds(kFile, LockSpace::kRecord, {SessionId(4), 40}));
  Set(Make(10, LockType::kUnlock, 0, kMaxOffset));
  EXPECT_EQ(Granted(), std::vector<uint64_t>{1});
  Set(Make(20, LockType::kUnlock, 0, kMaxOffset));
  EXPECT_EQ(Granted(), std::vector<uint64_t>{2});
}

TEST_F(LockTableTest, OneReleaseServesAllSharedWaiters) {
  Set(Make(10, LockType::kExclusive, 0, 9));
  Wait(Make(20, LockType::kShared, 0, 9), 1);
  Wait(Make(30, LockType::kExclusive, 0, 9), 2);
  Wait(Make(40, LockType::kShared, 0, 9), 3);
  Set(Make(10, LockType::kShared, 0, 9));  // a downgrade
  EXPECT_EQ(Granted(), (std::vector<uint64_t>{1, 3}));
}

TEST_F(LockTableTest, ATicketThatWaitsIsQueuedOnce) {
  Set(Make(10, LockType::kExclusive, 0, 9));
  EXPECT_EQ(Wait(Make(20, LockType::kExclusive, 0, 9), 1), LockOutcome::kQueued);
  EXPECT_EQ(Wait(Make(20, LockType::kExclusive, 0, 9), 1), LockOutcome::kQueued);
  EXPECT_EQ(table.waiting(), 1u);
  EXPECT_TRUE(table.Cancel({SessionId(2), 1}));
  EXPECT_FALSE(table.Cancel({SessionId(2), 1}));
}

TEST_F(LockTableTest, AFlockConversionGivesUpFirst) {
  Set(Flock(10, LockType::kShared));
  Set(Flock(20, LockType::kShared));
  EXPECT_EQ(Set(Flock(10, LockType::kExclusive)), LockOutcome::kConflict);
  EXPECT_EQ(Show(), "20:S[0,]");
  // So two that convert do not wait for each other.
  EXPECT_EQ(Set(Flock(10, LockType::kShared)), LockOutcome::kGranted);
  EXPECT_EQ(Wait(Flock(10, LockType::kExclusive), 1), LockOutcome::kQueued);
  EXPECT_EQ(Wait(Flock(20, LockType::kExclusive), 2), LockOutcome::kGranted);
  EXPECT_EQ(Show(), "20:X[0,]");
  Set(Flock(20, LockType::kUnlock));
  EXPECT_EQ(Granted(), std::vector<uint64_t>{1});
  EXPECT_EQ(Show(), "10:X[0,]");
}

TEST_F(LockTableTest, FlockAndRecordLocksDoNotMeet) {
  EXPECT_EQ(Set(Flock(10, LockType::kExclusive)), LockOutcome::kGranted);
  EXPECT_EQ(Set(Make(20, LockType::kExclusive, 0, kMaxOffset)), LockOutcome::kGranted);
}

TEST_F(LockTableTest, ASessionThatEndsLeavesNothing) {
  Set(Make(10, LockType::kExclusive, 0, 9));
  Set(Make(11, LockType::kExclusive, 10, 19));
  Set(Make(20, LockType::kExclusive, 20, 29));
  Wait(Make(20, LockType::kExclusive, 0, 19), 1);
  Wait(Make(11, LockType::kExclusive, 20, 29), 2);
  table.DropSession(SessionId(1), &decided);
  EXPECT_EQ(Granted(), std::vector<uint64_t>{1});
  EXPECT_EQ(Show(), "20:X[0,29]");
  EXPECT_EQ(table.waiting(), 0u);
  EXPECT_EQ(table.held(), 1u);
}

TEST_F(LockTableTest, TheBoundOfASessionIsKept) {
  LockTable small(LockTable::Options{.max_per_session = 2});
  EXPECT_EQ(small.Set(Make(10, LockType::kShared, 0, 0), &decided), LockOutcome::kGranted);
  EXPECT_EQ(small.Set(Make(10, LockType::kShared, 2, 2), &decided), LockOutcome::kGranted);
  EXPECT_EQ(small.Set(Make(10, LockType::kShared, 4, 4), &decided), LockOutcome::kTooMany);
  EXPECT_EQ(small.Set(Make(10, LockType::kUnlock, 0, 0), &decided), LockOutcome::kGranted);
  EXPECT_EQ(small.Set(Make(10, LockType::kShared, 4, 4), &decided), LockOutcome::kGranted);
}

TEST_F(LockTableTest, TheFirstConflictIsReported) {
  Set(Make(10, LockType::kExclusive, 50, 59));
  Set(Make(20, LockType::kShared, 20, 29));
  const auto conflict = table.Conflict(Make(30, LockType::kExclusive, 0, 99));
  ASSERT_TRUE(conflict.has_value());
  EXPECT_EQ(conflict->owner.owner, 20u);
  EXPECT_EQ(conflict->start, 20u);
  EXPECT_EQ(conflict->end, 29u);
  EXPECT_FALSE(table.Conflict(Make(10, LockType::kShared, 0, 99)).has_value());
}

TEST_F(LockTableTest, CoversNeedsEveryByteAtThatStrength) {
  Set(Make(10, LockType::kShared, 0, 9));
  Set(Make(10, LockType::kExclusive, 10, 19));
  EXPECT_TRUE(table.Covers(Make(10, LockType::kShared, 0, 19)));
  EXPECT_TRUE(table.Covers(Make(10, LockType::kExclusive, 12, 19)));
  EXPECT_FALSE(table.Covers(Make(10, LockType::kExclusive, 9, 12)));
  EXPECT_FALSE(table.Covers(Make(10, LockType::kShared, 0, 20)));
}

}  // namespace
}  // namespace cairn::locks
