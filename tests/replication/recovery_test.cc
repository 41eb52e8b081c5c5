#include "common/replication/recovery.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/replication/helpers.h"

namespace cairn::replication {
namespace {

constexpr ServerId kA{1}, kB{2}, kC{3}, kD{4};
using Phase = Reconfiguration::Phase;
const Status kDown(StatusCode::kUnavailable, "connection refused");

ReconfigureInput Input(ReconfigurePurpose purpose = ReconfigurePurpose::kVanishedWriter) {
  ReconfigureInput input;
  input.chunk = kChunk;
  input.old = Config(5, {1, 2, 3}, 2, S(4, 2));
  input.open = true;
  input.epoch = Epoch{7};
  input.members = input.old.members;
  input.write_quorum = 2;
  input.purpose = purpose;
  return input;
}

// The actions of one kind; others are not expected.
template <typename T>
std::vector<T> Take(Reconfiguration& r) {
  std::vector<T> found;
  for (const ReconfigureAction& action : r.TakeActions()) {
    const T* each = std::get_if<T>(&action);
    EXPECT_NE(each, nullptr) << "another action, index " << action.index();
    if (each != nullptr) found.push_back(*each);
  }
  return found;
}

void Fenced(Reconfiguration& r, ServerId server, ReplicaInfo info) {
  info.promised = r.input().epoch;
  r.OnFenceReply(server, Status::Ok(), info);
}
void Begun(Reconfiguration& r, ServerId server) {
  r.OnBeginReply(server, Status::Ok(), At({r.input().epoch, r.base().seq}));
}

TEST(Reconfiguration, VanishedWriterTakesTheHighestStampOfAReadQuorum) {
  Reconfiguration r(Input());
  EXPECT_EQ(Take<FenceMember>(r).size(), 3u);
  Fenced(r, kA, At(S(5, 10), 100));
  EXPECT_EQ(r.phase(), Phase::kFencing);
  EXPECT_NE(r.WaitReason().find("1 of the 2 answers"), std::string::npos) << r.WaitReason();
  Fenced(r, kB, At(S(5, 12), 120));
  ASSERT_EQ(r.phase(), Phase::kInstalling);
  EXPECT_EQ(r.base(), S(5, 12));
  EXPECT_EQ(r.length(), 120u);
  // B holds the base, C was not heard: both may begin. A is behind and waits for a source.
  EXPECT_EQ(Take<BeginMember>(r),
            (std::vector<BeginMember>{{kB, Epoch{7}, S(5, 12)}, {kC, Epoch{7}, S(5, 12)}}));
  Begun(r, kB);
  EXPECT_EQ(Take<SyncMember>(r), (std::vector<SyncMember>{{kA, Epoch{7}, S(7, 12), 120, {kB}}}));
  EXPECT_EQ(r.phase(), Phase::kInstalling) << "one member is no write quorum";
  r.OnSyncReply(kA, Status::Ok(), At(S(7, 12)));
  const auto activate = Take<Activate>(r);
  ASSERT_EQ(activate.size(), 1u);
  EXPECT_EQ(activate[0].config, Config(7, {1, 2, 3}, 2, S(5, 12)));
  EXPECT_EQ(activate[0].stamp, S(7, 12));
  EXPECT_EQ(activate[0].length, 120u);
  EXPECT_TRUE(activate[0].sealed);
  EXPECT_EQ(activate[0].carriers, (std::vector<ServerId>{kA, kB}));
  r.OnActivated();
  EXPECT_FALSE(r.finished()) << "C is still asked";
  r.OnBeginReply(kC, Status(StatusCode::kStaleReplica, "at 5.3"), At(S(5, 3)));
  EXPECT_EQ(Take<SyncMember>(r)[0].sources, (std::vector<ServerId>{kA, kB}));
  r.OnSyncReply(kC, Status::Ok(), At(S(7, 12)));
  EXPECT_EQ(Take<AddCarrier>(r), (std::vector<AddCarrier>{{kC, S(7, 12)}}));
  EXPECT_TRUE(r.finished());
}

TEST(Reconfiguration, WithoutAReadQuorumItWaitsAndGoesOnWhenAMemberIsBack) {
  Reconfiguration r(Input());
  (void)r.TakeActions();
  Fenced(r, kA, At(S(5, 10)));
  r.OnFenceReply(kB, kDown, {});
  r.OnFenceReply(kC, kDown, {});
  EXPECT_EQ(r.phase(), Phase::kFencing);
  EXPECT_FALSE(r.outstanding());
  EXPECT_NE(r.WaitReason().find("cs2 (unavailable: connection refused)"), std::string::npos)
      << r.WaitReason();
  r.OnMemberBack(kC);
  EXPECT_EQ(Take<FenceMember>(r), (std::vector<FenceMember>{{kC, Epoch{7}}}));
  r.Retry();
  EXPECT_EQ(Take<FenceMember>(r), (std::vector<FenceMember>{{kB, Epoch{7}}}));
  Fenced(r, kC, At(S(5, 10)));
  EXPECT_EQ(r.phase(), Phase::kInstalling);
}

TEST(Reconfiguration, ReadQuorumFollowsTheOldConfiguration) {
  ReconfigureInput input = Input();
  input.old.write_quorum = 1;  // R = 3
  Reconfiguration all(input);
  Fenced(all, kA, At(S(5, 10)));
  Fenced(all, kB, At(S(5, 10)));
  EXPECT_EQ(all.phase(), Phase::kFencing);
  Fenced(all, kC, At(S(5, 11)));
  EXPECT_EQ(all.base(), S(5, 11));
  input.old.write_quorum = 3;  // R = 1
  Reconfiguration one(input);
  Fenced(one, kA, At(S(5, 10)));
  EXPECT_EQ(one.phase(), Phase::kInstalling);
}

TEST(Reconfiguration, TheSameMemberAnsweringTwiceIsOneAnswer) {
  Reconfiguration r(Input());
  Fenced(r, kA, At(S(5, 10)));
  Fenced(r, kA, At(S(5, 10)));
  Fenced(r, kD, At(S(5, 20)));  // no member of the old configuration
  EXPECT_EQ(r.phase(), Phase::kFencing);
}

TEST(Reconfiguration, AmnesicAnswersDoNotVoteUntilEverybodyAnswered) {
  Reconfiguration r(Input());
  Fenced(r, kA, AmnesicAt(S(5, 10)));
  Fenced(r, kB, At(S(5, 8)));
  EXPECT_EQ(r.phase(), Phase::kFencing) << "A may have forgotten what only A and C confirmed";
  Fenced(r, kC, AmnesicAt(S(5, 9)));
  ASSERT_EQ(r.phase(), Phase::kInstalling);
  EXPECT_EQ(r.base(), S(5, 10)) << "an amnesic replica's bytes are as good as any";
}

TEST(Reconfiguration, MembersDeclaredLostAreNotWaitedForButTheReadQuorumIs) {
  ReconfigureInput input = Input();
  input.lost = {kC};
  Reconfiguration r(input);
  EXPECT_EQ(Take<FenceMember>(r).size(), 2u);
  Fenced(r, kA, AmnesicAt(S(5, 10)));
  EXPECT_EQ(r.phase(), Phase::kFencing);
  Fenced(r, kB, AmnesicAt(S(5, 8)));
  EXPECT_EQ(r.base(), S(5, 10));

  input.lost = {kB, kC};
  Reconfiguration too_few(input);
  Fenced(too_few, kA, At(S(5, 10)));
  EXPECT_EQ(too_few.phase(), Phase::kFencing) << "one answer is below R = 2";
  input.accept_loss = true;
  Reconfiguration accepted(input);
  Fenced(accepted, kA, At(S(5, 10)));
  EXPECT_EQ(accepted.phase(), Phase::kInstalling);
}

TEST(Reconfiguration, DeclaringAMemberLostLetsAWaitingOneGoOn) {
  Reconfiguration r(Input());
  Fenced(r, kA, AmnesicAt(S(5, 10)));
  Fenced(r, kB, At(S(5, 8)));
  EXPECT_EQ(r.phase(), Phase::kFencing);
  r.DeclareLost(kC);
  EXPECT_EQ(r.base(), S(5, 10));
}

TEST(Reconfiguration, AnAmnesicAnswerAtTheRecordedSealVotesWhileNobodyHasItOpen) {
  ReconfigureInput input = Input(ReconfigurePurpose::kRepair);
  input.sealed = S(5, 10);
  input.open = false;
  Reconfiguration closed(input);
  Fenced(closed, kA, AmnesicAt(S(5, 10)));
  Fenced(closed, kB, AmnesicAt(S(5, 10)));
  EXPECT_EQ(closed.phase(), Phase::kInstalling);
  input.open = true;
  input.sealed = S(4, 2);
  Reconfiguration open(input);
  Fenced(open, kA, AmnesicAt(S(4, 2)));
  Fenced(open, kB, AmnesicAt(S(4, 2)));
  EXPECT_EQ(open.phase(), Phase::kFencing) << "mutations after the seal may be what was forgotten";
}

TEST(Reconfiguration, NeverBelowTheDurableStampOnRecord) {
  ReconfigureInput input = Input();
  input.durable = S(5, 10);
  Reconfiguration r(input);
  Fenced(r, kA, AmnesicAt(S(5, 8)));
  Fenced(r, kB, AmnesicAt(S(5, 9)));
  Fenced(r, kC, AmnesicAt(S(5, 9)));
  EXPECT_EQ(r.phase(), Phase::kFencing);
  EXPECT_TRUE(r.damaged());
  EXPECT_NE(r.WaitReason().find("fsynced 5.10"), std::string::npos) << r.WaitReason();
  input.accept_loss = true;
  Reconfiguration accepted(input);
  for (ServerId server : {kA, kB, kC}) Fenced(accepted, server, AmnesicAt(S(5, 9)));
  EXPECT_EQ(accepted.base(), S(5, 9));
}

TEST(Reconfiguration, BelowTheSealOnlyWhenAWriteQuorumForgotOrIsLost) {
  struct Row {
    bool a_amnesic, b_amnesic, c_lost;
    bool allowed;
  };
  const Row rows[] = {{false, false, false, false}, {true, false, false, false}, {true, true, false, true},
                      {false, false, true, false},  {true, false, true, true},   {true, true, true, true}};
  for (const Row& row : rows) {
    ReconfigureInput input = Input();
    input.sealed = S(5, 10);
    input.open = false;
    if (row.c_lost) input.lost = {kC};
    Reconfiguration r(input);
    Fenced(r, kA, row.a_amnesic ? AmnesicAt(S(5, 8)) : At(S(5, 8)));
    Fenced(r, kB, row.b_amnesic ? AmnesicAt(S(5, 9)) : At(S(5, 9)));
    if (!row.c_lost) Fenced(r, kC, At(S(5, 7)));
    EXPECT_EQ(r.phase() == Phase::kInstalling, row.allowed)
        << row.a_amnesic << row.b_amnesic << row.c_lost << " " << r.WaitReason();
    EXPECT_EQ(r.damaged(), !row.allowed);
  }
}

TEST(Reconfiguration, ADamagedChunkGoesOnWhenAnotherMemberAnswers) {
  ReconfigureInput input = Input();
  input.sealed = S(5, 10);
  input.open = false;
  Reconfiguration r(input);
  Fenced(r, kA, At(S(5, 8)));
  Fenced(r, kB, At(S(5, 8)));
  EXPECT_TRUE(r.damaged());
  Fenced(r, kC, At(S(5, 10)));
  EXPECT_FALSE(r.damaged());
  EXPECT_EQ(r.base(), S(5, 10));
}

TEST(Reconfiguration, AChunkThatNobodyBeganWasNeverWritten) {
  ReconfigureInput input = Input();
  input.old.base = {};
  Reconfiguration r(input);
  Fenced(r, kA, At({}));
  EXPECT_EQ(r.phase(), Phase::kFencing);
  Fenced(r, kC, At({}));
  EXPECT_EQ(r.phase(), Phase::kNeverWritten);
  EXPECT_TRUE(r.finished());
}

// Found by the simulator (seed 450): recorded as sealed, forgotten by W members that lost power.
TEST(Reconfiguration, AChunkThatWasSealedAndForgottenBecomesEmptyAndIsNotCalledNeverWritten) {
  ReconfigureInput input = Input(ReconfigurePurpose::kRepair);
  input.old.base = {};
  input.sealed = S(5, 10);
  input.open = false;
  Reconfiguration r(input);
  (void)r.TakeActions();
  Fenced(r, kA, AmnesicAt({}));
  Fenced(r, kB, AmnesicAt({}));
  Fenced(r, kC, At({}));
  EXPECT_EQ(Take<BeginMember>(r).size(), 3u);
  Begun(r, kA);
  Begun(r, kB);
  EXPECT_EQ(Take<Activate>(r)[0].stamp, S(7, 0));
}

TEST(Reconfiguration, UnderALiveWriterAnEmptyChunkGetsItsNewMembers) {
  ReconfigureInput input = Input(ReconfigurePurpose::kLiveWriter);
  input.old.base = {};
  input.members = {kA, kB, kD};
  Reconfiguration r(input);
  (void)r.TakeActions();
  Fenced(r, kA, At({}));
  Fenced(r, kB, At({}));
  EXPECT_EQ(Take<BeginMember>(r).size(), 3u);
  Begun(r, kD);
  Begun(r, kA);
  const auto activate = Take<Activate>(r);
  ASSERT_EQ(activate.size(), 1u);
  EXPECT_FALSE(activate[0].sealed);
  EXPECT_EQ(activate[0].config.base, Stamp{});
}

TEST(Reconfiguration, AMemberWithAHigherPromiseEndsTheAttempt) {
  Reconfiguration fence(Input());
  ReplicaInfo info = At(S(5, 10));
  info.promised = Epoch{9};
  fence.OnFenceReply(kA, Status(StatusCode::kFenced, "promised 9"), info);
  EXPECT_EQ(fence.phase(), Phase::kFailed);
  EXPECT_EQ(fence.highest_promise(), Epoch{9});
  EXPECT_EQ(fence.failure().code(), StatusCode::kFenced);
  EXPECT_TRUE(fence.TakeActions().empty());

  Reconfiguration begin(Input());
  Fenced(begin, kA, At(S(5, 10)));
  Fenced(begin, kB, At(S(5, 10)));
  begin.OnBeginReply(kC, Status(StatusCode::kFenced, "promised 9"), info);
  EXPECT_EQ(begin.phase(), Phase::kFailed);
}

TEST(Reconfiguration, ActivatesOnceAndOnlyAtTheQuorumOfTheNewSet) {
  ReconfigureInput input = Input(ReconfigurePurpose::kMove);
  input.members = {kA, kB, kC, kD};
  input.write_quorum = 3;
  Reconfiguration r(input);
  (void)r.TakeActions();
  Fenced(r, kA, At(S(5, 10)));
  Fenced(r, kB, At(S(5, 10)));
  EXPECT_EQ(Take<BeginMember>(r).size(), 4u);
  Begun(r, kA);
  Begun(r, kB);
  EXPECT_TRUE(r.TakeActions().empty());
  Begun(r, kC);
  EXPECT_EQ(Take<Activate>(r).size(), 1u);
  Begun(r, kD);
  EXPECT_EQ(Take<AddCarrier>(r).size(), 1u);
}

TEST(Reconfiguration, AMoveMayAskForEveryCopyFirst) {
  ReconfigureInput input = Input(ReconfigurePurpose::kMove);
  input.min_carriers = 3;
  Reconfiguration r(input);
  Fenced(r, kA, At(S(5, 10)));
  Fenced(r, kB, At(S(5, 10)));
  (void)r.TakeActions();
  Begun(r, kA);
  Begun(r, kB);
  r.OnBeginReply(kC, kDown, {});
  EXPECT_EQ(r.phase(), Phase::kInstalling);
  EXPECT_NE(r.WaitReason().find("cs3 (unavailable"), std::string::npos) << r.WaitReason();
  r.OnMemberBack(kC);
  EXPECT_EQ(Take<BeginMember>(r).size(), 1u);
  Begun(r, kC);
  EXPECT_EQ(Take<Activate>(r).size(), 1u);
}

TEST(Reconfiguration, DamagedReplicasAreSourcesOnlyWithoutAnIntactOne) {
  ReplicaInfo corrupt = At(S(5, 10));
  corrupt.corrupt = true;
  Reconfiguration r(Input());
  (void)r.TakeActions();
  Fenced(r, kA, corrupt);
  Fenced(r, kB, At(S(5, 10)));
  EXPECT_EQ(Take<BeginMember>(r).size(), 2u);  // B and C
  Begun(r, kB);
  EXPECT_EQ(Take<SyncMember>(r), (std::vector<SyncMember>{{kA, Epoch{7}, S(7, 10), 0, {kB}}}));

  Reconfiguration only(Input());
  (void)only.TakeActions();
  Fenced(only, kA, corrupt);
  Fenced(only, kB, At(S(5, 4)));
  EXPECT_EQ(only.phase(), Phase::kFencing) << "C is still asked, and may have an intact copy";
  only.OnFenceReply(kC, kDown, {});
  EXPECT_EQ(Take<BeginMember>(only).size(), 2u) << "A is the only one that has the base";
}

// A member with a damaged block that alone holds what nobody acknowledged must not be waited for.
TEST(Reconfiguration, WhatOnlyADamagedMemberHoldsIsPassedOverWhenItCannotHaveBeenAcknowledged) {
  ReplicaInfo corrupt = At(S(5, 10));
  corrupt.corrupt = true;
  Reconfiguration r(Input());
  (void)r.TakeActions();
  Fenced(r, kA, corrupt);
  Fenced(r, kB, At(S(5, 4), 40));
  Fenced(r, kC, At(S(5, 3), 30));
  ASSERT_EQ(r.phase(), Phase::kInstalling);
  EXPECT_EQ(r.base(), S(5, 4));
  EXPECT_EQ(r.length(), 40u);
  EXPECT_EQ(Take<BeginMember>(r), (std::vector<BeginMember>{{kB, Epoch{7}, S(5, 4)}}));
  Begun(r, kB);
  EXPECT_EQ(Take<SyncMember>(r).size(), 2u) << "A and C";
  r.OnSyncReply(kC, Status::Ok(), At(S(7, 4)));
  EXPECT_EQ(Take<Activate>(r).size(), 1u);
}

TEST(Reconfiguration, WhatOnlyADamagedMemberHoldsStaysTheBaseWhenItMayHaveBeenAcknowledged) {
  ReplicaInfo corrupt = At(S(5, 10));
  corrupt.corrupt = true;
  {
    Reconfiguration r(Input());
    (void)r.TakeActions();
    Fenced(r, kA, corrupt);
    Fenced(r, kB, At(S(5, 4)));
    Fenced(r, kC, AmnesicAt(S(5, 4)));  // may have confirmed 5.10 and forgotten it
    EXPECT_EQ(r.base(), S(5, 10));
  }
  {
    Reconfiguration r(Input());
    (void)r.TakeActions();
    Fenced(r, kA, corrupt);
    corrupt.corrupt = true;
    Fenced(r, kB, corrupt);
    Fenced(r, kC, At(S(5, 4)));
    EXPECT_EQ(r.base(), S(5, 10)) << "two of three have it: it may be acknowledged";
  }
}

TEST(Reconfiguration, AMemberThatComesBackGetsItsVoteOnADamagedBase) {
  ReplicaInfo corrupt = At(S(5, 10));
  corrupt.corrupt = true;
  Reconfiguration r(Input());
  (void)r.TakeActions();
  Fenced(r, kA, corrupt);
  Fenced(r, kB, At(S(5, 4)));
  r.OnFenceReply(kC, kDown, {});
  ASSERT_EQ(r.phase(), Phase::kInstalling);
  Begun(r, kA);
  (void)r.TakeActions();
  r.OnSyncReply(kB, Status(StatusCode::kCorrupt, "the source is damaged"), At(S(5, 4)));
  r.OnBeginReply(kC, kDown, {});
  r.OnMemberBack(kC);
  EXPECT_EQ(Take<FenceMember>(r), (std::vector<FenceMember>{{kC, Epoch{7}}}));
  Fenced(r, kC, At(S(5, 4)));
  EXPECT_EQ(r.phase(), Phase::kFailed) << "a lower base needs another epoch: A has begun under this one";

  ReconfigureInput input = Input();
  input.epoch = Epoch{8};
  Reconfiguration again(input);
  (void)again.TakeActions();
  corrupt.accepted = S(7, 10);
  Fenced(again, kA, corrupt);
  Fenced(again, kB, At(S(5, 4)));
  Fenced(again, kC, At(S(5, 4)));
  EXPECT_EQ(again.base(), S(5, 4));

  // Back with an intact copy it is the source.
  Reconfiguration intact(Input());
  (void)intact.TakeActions();
  corrupt.accepted = S(5, 10);
  Fenced(intact, kA, corrupt);
  Fenced(intact, kB, At(S(5, 4)));
  intact.OnFenceReply(kC, kDown, {});
  (void)intact.TakeActions();
  intact.OnMemberBack(kC);
  Fenced(intact, kC, At(S(5, 10)));
  EXPECT_EQ(intact.phase(), Phase::kInstalling);
  EXPECT_EQ(intact.base(), S(5, 10));
}

// Found by the simulator (seed 3 of its first run): the base was only on the member that left, and nobody
// could begin.
TEST(Reconfiguration, TheBaseIsFetchedFromLeavingMembersWhenNoNewOneHasIt) {
  ReconfigureInput input = Input(ReconfigurePurpose::kMove);
  input.old.members = {kA};
  input.old.write_quorum = 1;
  input.members = {kC, kD};
  Reconfiguration r(input);
  (void)r.TakeActions();
  Fenced(r, kA, At(S(5, 10), 100));
  EXPECT_EQ(Take<BeginMember>(r).size(), 2u) << "they may have been copied to before the fence";
  r.OnBeginReply(kC, Status(StatusCode::kStaleReplica, "at 0.0"), At({}));
  EXPECT_EQ(Take<SyncMember>(r), (std::vector<SyncMember>{{kC, Epoch{7}, S(5, 10), 100, {kA}}}));
  r.OnSyncReply(kC, Status::Ok(), At(S(5, 10)));
  EXPECT_EQ(Take<BeginMember>(r), (std::vector<BeginMember>{{kC, Epoch{7}, S(5, 10)}}));
  Begun(r, kC);
  r.OnBeginReply(kD, Status(StatusCode::kStaleReplica, "at 0.0"), At({}));
  EXPECT_EQ(Take<SyncMember>(r), (std::vector<SyncMember>{{kD, Epoch{7}, S(7, 10), 100, {kC}}}));
  r.OnSyncReply(kD, Status::Ok(), At(S(7, 10)));
  EXPECT_EQ(Take<Activate>(r).size(), 1u);
}

TEST(Reconfiguration, AnswersThatDoNotShowTheTargetDoNotCount) {
  Reconfiguration r(Input());
  Fenced(r, kA, At(S(5, 10)));
  Fenced(r, kB, At(S(5, 10)));
  (void)r.TakeActions();
  r.OnBeginReply(kA, Status::Ok(), At(S(5, 10)));
  r.OnSyncReply(kB, Status::Ok(), At(S(7, 10)));  // no sync was asked of B
  EXPECT_TRUE(r.Carriers().empty());
}

TEST(Reconfiguration, BrokenRulesAreSeenToBreak) {
  ReconfigureInput input = Input();
  input.rules.broken = Rule::kFenceQuorum;
  Reconfiguration one(input);
  Fenced(one, kA, At(S(5, 10)));
  EXPECT_EQ(one.phase(), Phase::kInstalling);
  input.rules.broken = Rule::kHighestStamp;
  Reconfiguration lowest(input);
  Fenced(lowest, kA, At(S(5, 10)));
  Fenced(lowest, kB, At(S(5, 12)));
  EXPECT_EQ(lowest.base(), S(5, 10));
  input.rules.broken = Rule::kAmnesiaDoesNotVote;
  Reconfiguration amnesic(input);
  Fenced(amnesic, kA, AmnesicAt(S(5, 10)));
  Fenced(amnesic, kB, At(S(5, 8)));
  EXPECT_EQ(amnesic.phase(), Phase::kInstalling);
  input.rules.broken = Rule::kNeverBelowRecord;
  input.durable = S(5, 20);
  Reconfiguration below(input);
  Fenced(below, kA, At(S(5, 10)));
  Fenced(below, kB, At(S(5, 8)));
  EXPECT_EQ(below.phase(), Phase::kInstalling);
  input.rules.broken = Rule::kActivateAtQuorum;
  input.durable = {};
  Reconfiguration early(input);
  Fenced(early, kA, At(S(5, 10)));
  Fenced(early, kB, At(S(5, 10)));
  Begun(early, kA);
  EXPECT_EQ(early.phase(), Phase::kActivating);
}

}  // namespace
}  // namespace cairn::replication
