#include "common/replication/replica.h"

#include <gtest/gtest.h>

#include <limits>

#include "tests/replication/helpers.h"

namespace cairn::replication {
namespace {

ReplicaState Open(uint64_t epoch, uint64_t seq, uint64_t length = 100) {
  ReplicaState state;
  state.promised = Epoch{epoch};
  state.accepted = S(epoch, seq);
  state.length = length;
  return state;
}

#define EXPECT_REFUSED(verdict, expected_code)                                                    \
  do {                                                                                            \
    const Verdict refused_verdict = (verdict);                                                    \
    EXPECT_EQ(refused_verdict.action, Action::kRefuse);                                           \
    EXPECT_EQ(refused_verdict.status.code(), expected_code) << refused_verdict.status.ToString(); \
  } while (false)

TEST(ReplicaBegin, OpensOnExactlyItsBase) {
  const Verdict v = CheckBegin(Open(5, 10), Epoch{7}, S(5, 10));
  ASSERT_EQ(v.action, Action::kApply);
  EXPECT_EQ(v.next.accepted, S(7, 10));
  EXPECT_EQ(v.next.promised, Epoch{7});
  EXPECT_EQ(v.next.length, 100u);
}

TEST(ReplicaBegin, AbsentReplicaOpensOnlyOnTheEmptyBase) {
  EXPECT_EQ(CheckBegin(AbsentReplica(), Epoch{7}, S(0, 0)).next.accepted, S(7, 0));
  EXPECT_REFUSED(CheckBegin(AbsentReplica(), Epoch{7}, S(5, 10)), StatusCode::kStaleReplica);
}

TEST(ReplicaBegin, AbsentReplicaHonoursTheFloorOfItsDisk) {
  EXPECT_REFUSED(CheckBegin(AbsentReplica(Epoch{9}), Epoch{8}, S(0, 0)), StatusCode::kFenced);
  EXPECT_EQ(CheckBegin(AbsentReplica(Epoch{9}), Epoch{10}, S(0, 0)).action, Action::kApply);
}

TEST(ReplicaBegin, DifferentBaseIsStale) {
  EXPECT_REFUSED(CheckBegin(Open(5, 10), Epoch{7}, S(5, 11)), StatusCode::kStaleReplica);
  EXPECT_REFUSED(CheckBegin(Open(5, 10), Epoch{7}, S(5, 9)), StatusCode::kStaleReplica);
  EXPECT_REFUSED(CheckBegin(Open(5, 10), Epoch{7}, S(4, 10)), StatusCode::kStaleReplica);
}

TEST(ReplicaBegin, BelowThePromiseIsFenced) {
  ReplicaState state = Open(5, 10);
  state.promised = Epoch{8};
  EXPECT_REFUSED(CheckBegin(state, Epoch{7}, S(5, 10)), StatusCode::kFenced);
  EXPECT_EQ(CheckBegin(state, Epoch{8}, S(5, 10)).action, Action::kApply);
}

TEST(ReplicaBegin, RepeatedBeginIsADuplicateAlsoAfterMutations) {
  EXPECT_EQ(CheckBegin(Open(7, 10), Epoch{7}, S(5, 10)).action, Action::kDuplicate);
  EXPECT_EQ(CheckBegin(Open(7, 14), Epoch{7}, S(5, 10)).action, Action::kDuplicate);
}

TEST(ReplicaBegin, SealedEpochAndNonsenseAreRefused) {
  ReplicaState state = Open(5, 10);
  state.sealed = Epoch{5};
  EXPECT_REFUSED(CheckBegin(state, Epoch{5}, S(4, 10)), StatusCode::kFenced);
  EXPECT_REFUSED(CheckBegin(state, Epoch{0}, S(0, 0)), StatusCode::kInvalidArgument);
  EXPECT_REFUSED(CheckBegin(state, Epoch{7}, S(7, 10)), StatusCode::kInvalidArgument);
}

TEST(ReplicaBegin, TakesBackALowerTombstoneAndIsRefusedByItsOwn) {
  ReplicaState state = Open(5, 10);
  state.promised = state.tombstone = Epoch{6};
  EXPECT_REFUSED(CheckBegin(state, Epoch{6}, S(5, 10)), StatusCode::kDeleted);
  const Verdict v = CheckBegin(state, Epoch{7}, S(5, 10));
  ASSERT_EQ(v.action, Action::kApply);
  EXPECT_EQ(v.next.tombstone, Epoch{0});
}

TEST(ReplicaMutation, NextOneIsAppliedAndMovesTheLength) {
  Verdict v = CheckMutation(Open(5, 10, 100), Write(5, 11, 95, 10));
  ASSERT_EQ(v.action, Action::kApply);
  EXPECT_EQ(v.next.accepted, S(5, 11));
  EXPECT_EQ(v.next.length, 105u);
  Mutation truncate = Write(5, 11, 40, 0);
  truncate.kind = MutationKind::kTruncate;
  EXPECT_EQ(CheckMutation(Open(5, 10, 100), truncate).next.length, 40u);
  Mutation zero = Write(5, 11, 90, 500);
  zero.kind = MutationKind::kZero;
  EXPECT_EQ(CheckMutation(Open(5, 10, 100), zero).next.length, 100u);
}

TEST(ReplicaMutation, GapIsRefusedAndDuplicateConfirmed) {
  EXPECT_REFUSED(CheckMutation(Open(5, 10), Write(5, 12)), StatusCode::kSequenceGap);
  EXPECT_EQ(CheckMutation(Open(5, 10), Write(5, 10)).action, Action::kDuplicate);
  EXPECT_EQ(CheckMutation(Open(5, 10), Write(5, 3)).action, Action::kDuplicate);
}

TEST(ReplicaMutation, FirstOneOpensItsEpochInOneStep) {
  const Verdict v = CheckMutation(Open(5, 10), BeginWrite(7, S(5, 10), 0, 200));
  ASSERT_EQ(v.action, Action::kApply);
  EXPECT_EQ(v.next.accepted, S(7, 11));
  EXPECT_EQ(v.next.length, 200u);
  EXPECT_EQ(CheckMutation(v.next, BeginWrite(7, S(5, 10))).action, Action::kDuplicate);
}

TEST(ReplicaMutation, RefusedBeginOrGapBehindItChangesNothing) {
  EXPECT_REFUSED(CheckMutation(Open(5, 9), BeginWrite(7, S(5, 10))), StatusCode::kStaleReplica);
  Mutation gap = BeginWrite(7, S(5, 10));
  gap.seq = 12;
  EXPECT_REFUSED(CheckMutation(Open(5, 10), gap), StatusCode::kSequenceGap);
  gap.seq = 10;
  EXPECT_REFUSED(CheckMutation(Open(5, 10), gap), StatusCode::kInvalidArgument);
}

TEST(ReplicaMutation, ClosedEpochsAreRefused) {
  EXPECT_REFUSED(CheckMutation(Open(5, 10), Write(7, 11)), StatusCode::kStaleReplica);  // not begun here
  ReplicaState promised = Open(5, 10);
  promised.promised = Epoch{6};
  EXPECT_REFUSED(CheckMutation(promised, Write(5, 11)), StatusCode::kFenced);
  // Also what was applied long ago: the writer of a fenced epoch shall not collect confirmations any more.
  EXPECT_REFUSED(CheckMutation(promised, Write(5, 10)), StatusCode::kFenced);
  ReplicaState sealed = Open(5, 10);
  sealed.sealed = Epoch{5};
  EXPECT_REFUSED(CheckMutation(sealed, Write(5, 11)), StatusCode::kFenced);
  ReplicaState deleted = Open(5, 10);
  deleted.promised = deleted.tombstone = Epoch{6};
  EXPECT_REFUSED(CheckMutation(deleted, Write(5, 11)), StatusCode::kDeleted);
}

TEST(ReplicaMutation, OverflowingRangeIsRefused) {
  EXPECT_REFUSED(CheckMutation(Open(5, 10), Write(5, 11, std::numeric_limits<uint64_t>::max(), 2)),
                 StatusCode::kInvalidArgument);
}

TEST(ReplicaFence, RaisesThePromiseAndNothingElse) {
  ReplicaState state = Open(5, 10);
  const Verdict v = CheckFence(state, Epoch{7});
  ASSERT_EQ(v.action, Action::kApply);
  state.promised = Epoch{7};
  EXPECT_EQ(v.next, state);
  EXPECT_EQ(CheckFence(v.next, Epoch{7}).action, Action::kDuplicate);
  EXPECT_REFUSED(CheckFence(v.next, Epoch{6}), StatusCode::kFenced);
}

TEST(ReplicaFence, BindsAnAbsentReplica) {
  const Verdict v = CheckFence(AbsentReplica(), Epoch{7});
  ASSERT_EQ(v.action, Action::kApply);
  EXPECT_REFUSED(CheckMutation(v.next, BeginWrite(5, S(0, 0))), StatusCode::kFenced);
}

TEST(ReplicaFence, EndsASync) {
  ReplicaState state = CheckSyncStart(Open(5, 4), Epoch{6}, S(5, 10)).next;
  state = CheckFence(state, Epoch{7}).next;
  EXPECT_REFUSED(CheckSyncFinish(state, S(5, 10), 100), StatusCode::kFailedPrecondition);
}

TEST(ReplicaSeal, ClosesAtExactlyItsStamp) {
  EXPECT_REFUSED(CheckSeal(Open(5, 9), S(5, 10)), StatusCode::kStaleReplica);
  EXPECT_REFUSED(CheckSeal(Open(5, 11), S(5, 10)), StatusCode::kStaleReplica);
  const Verdict v = CheckSeal(Open(5, 10), S(5, 10));
  ASSERT_EQ(v.action, Action::kApply);
  EXPECT_EQ(v.next.sealed, Epoch{5});
  EXPECT_EQ(CheckSeal(v.next, S(5, 10)).action, Action::kDuplicate);
  // The next epoch starts from the sealed stamp.
  EXPECT_EQ(CheckBegin(v.next, Epoch{6}, S(5, 10)).action, Action::kApply);
}

TEST(ReplicaSeal, IsLeftToRecoveryOnceFenced) {
  ReplicaState state = Open(5, 10);
  state.promised = Epoch{6};
  EXPECT_REFUSED(CheckSeal(state, S(5, 10)), StatusCode::kFenced);
}

TEST(ReplicaDelete, TombstoneKeepsBytesAndNeedsAFreshEpoch) {
  EXPECT_REFUSED(CheckPrepareDelete(Open(5, 10), Epoch{5}), StatusCode::kFenced);
  EXPECT_REFUSED(CheckPrepareDelete(Open(5, 10), Epoch{4}), StatusCode::kFenced);
  const Verdict v = CheckPrepareDelete(Open(5, 10), Epoch{6});
  ASSERT_EQ(v.action, Action::kApply);
  EXPECT_EQ(v.next.tombstone, Epoch{6});
  EXPECT_EQ(v.next.accepted, S(5, 10));
  EXPECT_EQ(v.next.length, 100u);
  EXPECT_TRUE(CheckRead(v.next, S(5, 10), true).ok());
  EXPECT_EQ(CheckPrepareDelete(v.next, Epoch{6}).action, Action::kDuplicate);
}

TEST(ReplicaDelete, AbortTakesTheTombstoneBackAndFencesALatePrepare) {
  const ReplicaState prepared = CheckPrepareDelete(Open(5, 10), Epoch{6}).next;
  EXPECT_REFUSED(CheckAbortDelete(prepared, Epoch{6}), StatusCode::kFenced);
  const Verdict v = CheckAbortDelete(prepared, Epoch{7});
  ASSERT_EQ(v.action, Action::kApply);
  EXPECT_EQ(v.next.tombstone, Epoch{0});
  EXPECT_EQ(CheckAbortDelete(v.next, Epoch{7}).action, Action::kDuplicate);
  EXPECT_REFUSED(CheckPrepareDelete(v.next, Epoch{6}), StatusCode::kFenced);
  // The prepare may also arrive only after the abort, on a replica that never saw it.
  EXPECT_REFUSED(CheckPrepareDelete(CheckAbortDelete(AbsentReplica(), Epoch{7}).next, Epoch{6}),
                 StatusCode::kFenced);
}

TEST(ReplicaDelete, EraseIsRefusedByAHigherPromise) {
  EXPECT_REFUSED(CheckErase(Open(7, 10), Epoch{6}), StatusCode::kFenced);
  EXPECT_EQ(CheckErase(Open(7, 10), Epoch{7}).next, AbsentReplica());
}

TEST(ReplicaSync, InstallsStampAndLengthInOneStep) {
  const Verdict started = CheckSyncStart(Open(5, 4), Epoch{7}, S(7, 10));
  ASSERT_EQ(started.action, Action::kApply);
  EXPECT_EQ(started.next.accepted, S(5, 4));  // until it is finished the old bytes stay and vote
  const Verdict finished = CheckSyncFinish(started.next, S(7, 10), 300);
  ASSERT_EQ(finished.action, Action::kApply);
  EXPECT_EQ(finished.next.accepted, S(7, 10));
  EXPECT_EQ(finished.next.length, 300u);
  EXPECT_EQ(finished.next.sync_base, std::nullopt);
}

TEST(ReplicaSync, RefusesOlderMutationsFromItsStart) {
  const ReplicaState pinned = CheckSyncStart(Open(5, 4), Epoch{5}, S(5, 10)).next;
  EXPECT_REFUSED(CheckMutation(pinned, Write(5, 5)), StatusCode::kStaleReplica);
  const ReplicaState absent = CheckSyncStart(AbsentReplica(), Epoch{7}, S(7, 10)).next;
  EXPECT_REFUSED(CheckBegin(absent, Epoch{7}, S(0, 0)), StatusCode::kStaleReplica);
}

TEST(ReplicaSync, AMutationBeyondTheBaseEndsIt) {
  // A damaged replica that is current is being repaired to the stamp it has while its writer goes on.
  const ReplicaState pinned = CheckSyncStart(Open(5, 10), Epoch{5}, S(5, 10)).next;
  const Verdict v = CheckMutation(pinned, Write(5, 11));
  ASSERT_EQ(v.action, Action::kApply);
  EXPECT_REFUSED(CheckSyncFinish(v.next, S(5, 10), 100), StatusCode::kFailedPrecondition);
}

TEST(ReplicaSync, NeverMovesBackAndObeysThePromise) {
  EXPECT_REFUSED(CheckSyncStart(Open(7, 12), Epoch{7}, S(7, 10)), StatusCode::kStaleReplica);
  EXPECT_REFUSED(CheckSyncStart(Open(7, 10), Epoch{6}, S(5, 10)), StatusCode::kFenced);
  EXPECT_REFUSED(CheckSyncStart(Open(5, 10), Epoch{6}, S(7, 10)), StatusCode::kInvalidArgument);
  // From a longer but superseded history to the chosen one.
  EXPECT_EQ(CheckSyncStart(Open(5, 12), Epoch{7}, S(7, 10)).action, Action::kApply);
}

TEST(ReplicaSync, ANewerSyncTakesOver) {
  ReplicaState state = CheckSyncStart(Open(5, 4), Epoch{6}, S(6, 10)).next;
  state = CheckSyncStart(state, Epoch{7}, S(7, 12)).next;
  EXPECT_REFUSED(CheckSyncFinish(state, S(6, 10), 1), StatusCode::kFailedPrecondition);
  EXPECT_EQ(CheckSyncFinish(state, S(7, 12), 1).action, Action::kApply);
}

TEST(ReplicaSync, TombstoneRefusesItAndAHigherEpochTakesItBack) {
  const ReplicaState prepared = CheckPrepareDelete(Open(5, 4), Epoch{6}).next;
  EXPECT_REFUSED(CheckSyncStart(prepared, Epoch{6}, S(5, 10)), StatusCode::kDeleted);
  EXPECT_EQ(CheckSyncStart(prepared, Epoch{7}, S(7, 10)).next.tombstone, Epoch{0});
}

TEST(ReplicaRead, TruthTable) {
  const ReplicaState state = Open(5, 10);
  struct Row {
    Stamp want;
    bool exact;
    bool answered;
  };
  const Row rows[] = {{S(5, 10), true, true},   {S(5, 9), true, false},  {S(5, 11), true, false},
                      {S(4, 10), true, false},  {S(5, 10), false, true}, {S(5, 9), false, true},
                      {S(5, 11), false, false}, {S(4, 9), false, false}, {S(6, 9), false, false}};
  for (const Row& row : rows) {
    EXPECT_EQ(CheckRead(state, row.want, row.exact).ok(), row.answered)
        << ToString(row.want) << (row.exact ? " exactly" : " or after");
  }
}

// Every canary changes what the rule it breaks decides: a broken rule that behaves like the whole one proves
// nothing.
TEST(ReplicaRules, EachBrokenRuleIsSeenToLetSomethingPass) {
  ReplicaState promised = Open(5, 10);
  promised.promised = Epoch{6};
  ReplicaState sealed = Open(5, 10);
  sealed.sealed = Epoch{5};
  const ReplicaState pinned = CheckSyncStart(Open(5, 4), Epoch{5}, S(5, 10)).next;
  EXPECT_EQ(CheckMutation(promised, Write(5, 11), {Rule::kEpochFence}).action, Action::kApply);
  EXPECT_EQ(CheckBegin(Open(5, 9), Epoch{7}, S(5, 10), {Rule::kBeginChecksBase}).action, Action::kApply);
  EXPECT_EQ(CheckMutation(Open(5, 10), Write(5, 12), {Rule::kNoGaps}).action, Action::kApply);
  EXPECT_EQ(CheckMutation(sealed, Write(5, 11), {Rule::kSealedIsClosed}).action, Action::kApply);
  EXPECT_EQ(CheckMutation(pinned, Write(5, 5), {Rule::kSyncPinned}).action, Action::kApply);
  EXPECT_EQ(CheckPrepareDelete(Open(5, 10), Epoch{6}, {Rule::kTombstoneKept}).next.tombstone, Epoch{0});
  EXPECT_EQ(CheckAbortDelete(Open(5, 10), Epoch{7}, {Rule::kAbortFences}).next.promised, Epoch{5});
  EXPECT_EQ(CheckErase(promised, Epoch{5}, {Rule::kEraseNamesEpoch}).action, Action::kApply);
  EXPECT_TRUE(CheckRead(Open(5, 9), S(5, 10), true, {Rule::kReadNamesStamp}).ok());
}

}  // namespace
}  // namespace cairn::replication
