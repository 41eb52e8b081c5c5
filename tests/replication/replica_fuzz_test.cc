// Random sequences of changes against the invariants that every other part builds on.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>

#include "common/replication/replica.h"
#include "tests/replication/helpers.h"

namespace cairn::replication {
namespace {

class Fuzz {
 public:
  explicit Fuzz(uint64_t seed) : random_(seed) {}

  void Step() {
    const ReplicaState before = state_;
    const Verdict v = Draw();
    if (v.action == Action::kRefuse) {
      EXPECT_FALSE(v.status.ok());
      EXPECT_FALSE(v.status.message().empty());
      return;
    }
    EXPECT_TRUE(v.status.ok());
    if (v.action == Action::kDuplicate) return;
    state_ = v.next;
    ++applied_;
    if (erased_) {
      erased_ = false;
      EXPECT_EQ(state_, ReplicaState{});
      return;
    }
    CheckInvariants(before);
  }

  int applied() const { return applied_; }

 private:
  void CheckInvariants(const ReplicaState& before) {
    EXPECT_GE(state_.promised, before.promised) << "a promise was taken back";
    EXPECT_GE(state_.accepted, before.accepted) << "the replica moved back";
    EXPECT_GE(state_.promised, state_.accepted.epoch) << "accepted without promising";
    EXPECT_GE(state_.sealed, before.sealed) << "a seal was opened again";
    if (before.tombstone && !state_.tombstone) {
      EXPECT_GT(state_.promised, before.tombstone) << "a tombstone vanished without a higher epoch";
    }
    const bool synced = before.sync_base && *before.sync_base == state_.accepted;
    if (synced) return;
    if (state_.accepted == before.accepted) {
      EXPECT_EQ(state_.length, before.length) << "the length moved without a stamp";
      return;
    }
    EXPECT_GE(state_.accepted.epoch, before.promised) << "accepted below the promise";
    EXPECT_GT(state_.accepted.epoch, before.sealed) << "a sealed epoch moved";
    if (before.sync_base) {
      EXPECT_GT(state_.accepted, *before.sync_base) << "an older mutation passed the pin";
    }
    if (state_.accepted.epoch == before.accepted.epoch) {
      EXPECT_EQ(state_.accepted.seq, before.accepted.seq + 1) << "gap";
    } else {
      EXPECT_LE(state_.accepted.seq - before.accepted.seq, 1u) << "begin moved the count";
    }
  }

  uint64_t Below(uint64_t bound) { return random_() % bound; }
  Epoch NearEpoch() {
    const uint64_t promised = state_.promised.value();
    return Epoch{promised + Below(4) - std::min<uint64_t>(promised, 1)};
  }
  Stamp NearStamp() {
    if (Below(2) == 0) return state_.accepted;
    return {Epoch{state_.accepted.epoch.value() + Below(3)}, state_.accepted.seq + Below(3)};
  }

  Verdict Draw() {
    switch (Below(12)) {
      case 0:
        return CheckBegin(state_, NearEpoch(), NearStamp());
      case 1:
        return CheckFence(state_, NearEpoch());
      case 2:
        return CheckSeal(state_, NearStamp());
      case 3:
        return CheckPrepareDelete(state_, NearEpoch());
      case 4:
        return CheckAbortDelete(state_, NearEpoch());
      case 5: {
        if (Below(50) != 0) return CheckFence(state_, Epoch{0});
        const Verdict v = CheckErase(state_, NearEpoch());
        erased_ = v.action == Action::kApply;
        return v;
      }
      case 6:
        return CheckSyncStart(state_, NearEpoch(), NearStamp());
      case 7:
        return CheckSyncFinish(state_, state_.sync_base.value_or(NearStamp()), Below(1000));
      default: {
        Mutation m = Write(NearEpoch().value(), state_.accepted.seq + Below(3), Below(1000), Below(100));
        m.kind = static_cast<MutationKind>(1 + Below(3));
        if (Below(3) == 0) m.begin = NearStamp();
        return CheckMutation(state_, m);
      }
    }
  }

  std::mt19937_64 random_;
  ReplicaState state_;
  int applied_ = 0;
  bool erased_ = false;
};

TEST(ReplicaFuzz, InvariantsHoldForRandomHistories) {
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    Fuzz fuzz(seed);
    for (int step = 0; step < 500; ++step) fuzz.Step();
    EXPECT_GT(fuzz.applied(), 30) << "seed " << seed << " exercised nothing";
    if (::testing::Test::HasFailure()) FAIL() << "seed " << seed;
  }
}

// Equal stamps mean equal bytes: replicas that get the mutations of successive writers repeated, lost and
// reordered are equally long wherever their stamps are equal.
TEST(ReplicaFuzz, EqualStampsMeanEqualContent) {
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    std::mt19937_64 random(seed);
    std::vector<Mutation> sent;
    Stamp base{};
    for (uint64_t epoch = 1; epoch <= 4; ++epoch) {
      const uint64_t count = 1 + random() % 6;
      for (uint64_t i = 0; i < count; ++i) {
        Mutation m = Write(epoch, base.seq + 1 + i, random() % 50, random() % 50);
        if (random() % 4 == 0) m.kind = MutationKind::kTruncate;
        if (i == 0) m.begin = base;
        sent.push_back(m);
      }
      base = S(epoch, base.seq + 1 + random() % count);  // recovery keeps a prefix
    }
    std::map<Stamp, uint64_t> length_at;
    uint64_t reached = 0;
    for (int replica = 0; replica < 4; ++replica) {
      ReplicaState state;
      for (int delivery = 0; delivery < 200; ++delivery) {
        const Verdict v = CheckMutation(state, sent[random() % sent.size()]);
        if (v.action != Action::kApply) continue;
        state = v.next;
        ++reached;
        const auto [at, fresh] = length_at.try_emplace(state.accepted, state.length);
        if (!fresh) {
          EXPECT_EQ(at->second, state.length) << "seed " << seed << " at " << ToString(state.accepted);
        }
      }
    }
    EXPECT_GT(reached, 3u);
  }
}

}  // namespace
}  // namespace cairn::replication
