#include "common/replication/deletion.h"

#include <gtest/gtest.h>

#include "tests/replication/helpers.h"

namespace cairn::replication {
namespace {

constexpr ServerId kA{1}, kB{2}, kC{3};
constexpr ChunkId kOne{1}, kTwo{2};
constexpr Epoch kEpoch{9}, kAbort{10};
const Status kDown(StatusCode::kUnavailable, "connection refused");

std::vector<DeleteTarget> TwoChunks() {
  return {{kTwo, Config(6, {1, 2, 3}, 3)}, {kOne, Config(5, {1, 2, 3}, 2)}};
}
std::vector<DeleteTarget> OneChunk(uint32_t write_quorum = 2) {
  return {{kOne, Config(5, {1, 2, 3}, write_quorum)}};
}

void Confirm(QuorumDelete& d, ChunkId chunk, ServerId server) {
  ReplicaInfo info = At(S(5, 1));
  info.promised = info.tombstone = d.epoch();
  d.OnPrepareReply(chunk, server, Status::Ok(), info);
}

TEST(QuorumDelete, NeedsTheWriteQuorumOfEveryChunk) {
  QuorumDelete d(TwoChunks(), kEpoch);
  EXPECT_EQ(d.TakeActions().size(), 6u);
  Confirm(d, kOne, kA);
  Confirm(d, kOne, kA);  // the same one twice is one
  Confirm(d, kTwo, kA);
  Confirm(d, kTwo, kB);
  Confirm(d, kOne, kB);
  EXPECT_FALSE(d.committable()) << "chunk two has W = 3";
  Confirm(d, kTwo, ServerId{8});  // no member
  EXPECT_FALSE(d.committable());
  Confirm(d, kTwo, kC);
  ASSERT_TRUE(d.committable());
  d.OnCommitted();
  EXPECT_TRUE(d.finished());
}

TEST(QuorumDelete, WithoutChunksItIsCommittableAtOnce) {
  QuorumDelete d({}, kEpoch);
  EXPECT_TRUE(d.committable());
}

TEST(QuorumDelete, AnAnswerWithoutATombstoneOfThisEpochDoesNotCount) {
  QuorumDelete d(OneChunk(1), kEpoch);
  d.OnPrepareReply(kOne, kA, Status::Ok(), At(S(5, 1)));
  ReplicaInfo other = At(S(5, 1));
  other.tombstone = Epoch{8};
  d.OnPrepareReply(kOne, kB, Status::Ok(), other);
  EXPECT_FALSE(d.committable());
}

TEST(QuorumDelete, RefusalNamesWhoDidNotConfirmAndAbortsEverywhere) {
  QuorumDelete d(TwoChunks(), kEpoch);
  (void)d.TakeActions();
  for (ServerId server : {kA, kB, kC}) Confirm(d, kOne, server);
  Confirm(d, kTwo, kA);
  d.OnPrepareReply(kTwo, kB, kDown, {});
  const Status failure = d.Refuse(kAbort);
  EXPECT_EQ(failure.code(), StatusCode::kNoQuorum);
  EXPECT_NE(failure.message().find("1 of 2 chunks"), std::string::npos) << failure.message();
  EXPECT_NE(failure.message().find("1 of 3 (cs2 (unavailable: connection refused), cs3 (timeout"),
            std::string::npos)
      << failure.message();
  const auto actions = d.TakeActions();
  ASSERT_EQ(actions.size(), 6u)
      << "also to members that never answered: their prepare may still be under way";
  for (const DeleteAction& action : actions) EXPECT_EQ(std::get<AbortDelete>(action).epoch, kAbort);
}

TEST(QuorumDelete, ThereIsNoWayForwardAfterARefusal) {
  QuorumDelete d(OneChunk(), kEpoch);
  Confirm(d, kOne, kA);
  (void)d.Refuse(kAbort);
  Confirm(d, kOne, kB);
  Confirm(d, kOne, kC);
  EXPECT_FALSE(d.committable());
}

TEST(QuorumDelete, AnAbortIsRepeatedUntilEveryMemberTookIt) {
  QuorumDelete d(OneChunk(), kEpoch);
  (void)d.Refuse(kAbort);
  (void)d.TakeActions();
  d.OnAbortReply(kOne, kA, Status::Ok());
  d.OnAbortReply(kOne, kB, Status(StatusCode::kFenced, "promised 12"));  // a higher promise does it as well
  d.OnAbortReply(kOne, kC, kDown);
  EXPECT_FALSE(d.finished());
  EXPECT_EQ(d.AbortPending(), std::vector<ServerId>{kC});
  d.OnMemberBack(kC);
  EXPECT_EQ(d.TakeActions(), (std::vector<DeleteAction>{AbortDelete{kOne, kC, kAbort}}));
  d.OnAbortReply(kOne, kC, Status::Ok());
  EXPECT_TRUE(d.finished());
}

TEST(QuorumDelete, FailedPreparesAreRetried) {
  QuorumDelete d(OneChunk(), kEpoch);
  (void)d.TakeActions();
  d.OnPrepareReply(kOne, kB, kDown, {});
  d.Retry();
  EXPECT_EQ(d.TakeActions(), (std::vector<DeleteAction>{PrepareDelete{kOne, kB, kEpoch}}));
  EXPECT_TRUE(d.outstanding());
}

TEST(QuorumDelete, AHigherPromiseIsReported) {
  QuorumDelete d(OneChunk(), kEpoch);
  ReplicaInfo info = At(S(5, 1));
  info.promised = Epoch{15};
  d.OnPrepareReply(kOne, kA, Status(StatusCode::kFenced, "promised 15"), info);
  EXPECT_TRUE(d.epoch_too_low());
  EXPECT_EQ(d.highest_promise(), Epoch{15});
}

TEST(QuorumDelete, BrokenQuorumRuleCommitsTooEarly) {
  QuorumDelete d(OneChunk(), kEpoch, {Rule::kDeleteAtQuorum});
  Confirm(d, kOne, kA);
  EXPECT_TRUE(d.committable());
}

}  // namespace
}  // namespace cairn::replication
