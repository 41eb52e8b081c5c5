#include "common/replication/writer.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

#include "common/replication/replica.h"
#include "tests/replication/helpers.h"

namespace cairn::replication {
namespace {

constexpr ServerId kA{1}, kB{2}, kC{3}, kD{4};
const Status kBroken(StatusCode::kIoError, "disk failed");

ChunkWriter MakeWriter(WriterOptions options = {}) {
  if (options.config.members.empty()) options.config = Config(5, {1, 2, 3}, 2, S(4, 10));
  return ChunkWriter(kChunk, std::move(options));
}

void Ack(ChunkWriter& writer, ServerId server, uint64_t seq) {
  const Epoch epoch = writer.config().epoch;
  writer.OnMutateReply(server, epoch, seq, Status::Ok(), At({epoch, seq}));
}

TEST(ChunkWriter, SendsToAllMembersAndTheFirstMutationCarriesBegin) {
  ChunkWriter writer = MakeWriter();
  EXPECT_TRUE(writer.never_begun());
  EXPECT_EQ(*writer.Submit(100), 11u);
  EXPECT_EQ(*writer.Submit(100), 12u);
  const std::vector<ChunkWriter::Send> sends = writer.TakeSends();
  ASSERT_EQ(sends.size(), 6u);
  std::map<ServerId, std::vector<uint64_t>> seqs;
  for (const auto& send : sends) {
    EXPECT_EQ(send.begin, send.seq == 11 ? std::optional(S(4, 10)) : std::nullopt);
    EXPECT_EQ(send.epoch, Epoch{5});
    seqs[send.server].push_back(send.seq);
  }
  for (ServerId server : {kA, kB, kC}) EXPECT_EQ(seqs[server], (std::vector<uint64_t>{11, 12}));
  EXPECT_FALSE(writer.never_begun());
  EXPECT_TRUE(writer.TakeSends().empty());
}

TEST(ChunkWriter, IsDoneAtTheWriteQuorumAndReleasedByAll) {
  ChunkWriter writer = MakeWriter();
  (void)writer.Submit(100);
  (void)writer.TakeSends();
  Ack(writer, kA, 11);
  EXPECT_EQ(writer.done_seq(), 10u);
  Ack(writer, kA, 11);  // the same member twice is one confirmation
  EXPECT_EQ(writer.done_seq(), 10u);
  Ack(writer, kC, 11);
  EXPECT_EQ(writer.done_seq(), 11u);
  EXPECT_EQ(writer.released_seq(), 10u);
  Ack(writer, kB, 11);
  EXPECT_EQ(writer.released_seq(), 11u);
}

TEST(ChunkWriter, BrokenAckRuleIsDoneTooEarly) {
  WriterOptions options;
  options.rules.broken = Rule::kAckAtQuorum;
  ChunkWriter writer = MakeWriter(options);
  (void)writer.Submit(100);
  (void)writer.TakeSends();
  Ack(writer, kA, 11);
  EXPECT_EQ(writer.done_seq(), 11u);
}

TEST(ChunkWriter, AnswersOfOtherEpochsServersAndImpossibleStampsDoNotCount) {
  ChunkWriter writer = MakeWriter();
  (void)writer.Submit(100);
  (void)writer.TakeSends();
  writer.OnMutateReply(kA, Epoch{4}, 11, Status::Ok(), At(S(4, 11)));
  writer.OnMutateReply(kD, Epoch{5}, 11, Status::Ok(), At(S(5, 11)));
  EXPECT_TRUE(writer.dropped().empty());
  writer.OnMutateReply(kB, Epoch{5}, 11, Status::Ok(), At(S(5, 10)));  // says applied, reports less
  writer.OnMutateReply(kC, Epoch{5}, 99, Status::Ok(), At(S(5, 99)));  // never sent
  EXPECT_EQ(writer.dropped().size(), 2u);
  EXPECT_EQ(writer.done_seq(), 10u);
}

TEST(ChunkWriter, AFailedMemberIsDroppedReportedOnceAndStaysOut) {
  ChunkWriter writer = MakeWriter();
  (void)writer.Submit(100);
  (void)writer.TakeSends();
  writer.OnMutateReply(kB, Epoch{5}, 11, kBroken, {});
  ASSERT_EQ(writer.TakeDrops().size(), 1u);
  EXPECT_TRUE(writer.TakeDrops().empty());
  EXPECT_EQ(writer.dropped()[0].server, kB);
  EXPECT_EQ(writer.dropped()[0].status.code(), StatusCode::kIoError);
  Ack(writer, kB, 11);
  EXPECT_FALSE(writer.is_live(kB));
  EXPECT_EQ(writer.acked_seq(kB), std::nullopt);
  Ack(writer, kA, 11);
  EXPECT_EQ(writer.done_seq(), 10u) << "the dropped member's late answer was counted";
  Ack(writer, kC, 11);
  EXPECT_EQ(writer.done_seq(), 11u);
  EXPECT_EQ(writer.released_seq(), 11u) << "nothing is kept for a dropped member";
  (void)writer.Submit(1);
  for (const auto& send : writer.TakeSends()) EXPECT_NE(send.server, kB);
}

TEST(ChunkWriter, WhatADroppedMemberConfirmedBeforeStillCounts) {
  ChunkWriter writer = MakeWriter();
  (void)writer.Submit(100);
  (void)writer.TakeSends();
  Ack(writer, kA, 11);
  writer.OnError(kA, kBroken);
  Ack(writer, kB, 11);
  EXPECT_EQ(writer.done_seq(), 11u);
}

TEST(ChunkWriter, TheWindowBoundsWhatIsInFlightInBytesAndCount) {
  WriterOptions options;
  options.window_bytes = 250;
  options.window_count = 4;
  ChunkWriter writer = MakeWriter(options);
  for (int i = 0; i < 10; ++i) (void)writer.Submit(100);
  std::map<ServerId, int> sent;
  for (const auto& send : writer.TakeSends()) ++sent[send.server];
  EXPECT_EQ(sent[kA], 2);
  Ack(writer, kA, 11);
  const auto more = writer.TakeSends();
  ASSERT_EQ(more.size(), 1u);
  EXPECT_EQ(more[0], (ChunkWriter::Send{kA, Epoch{5}, 13, std::nullopt}));

  options.window_bytes = 1 << 20;
  ChunkWriter counted = MakeWriter(options);
  for (int i = 0; i < 10; ++i) (void)counted.Submit(1);
  sent.clear();
  for (const auto& send : counted.TakeSends()) ++sent[send.server];
  EXPECT_EQ(sent[kC], 4);

  ChunkWriter large = MakeWriter(options);
  (void)large.Submit(2 << 20);  // above the whole window: goes out alone
  (void)large.Submit(1);
  EXPECT_EQ(large.TakeSends().size(), 3u);
}

TEST(ChunkWriter, SubmitIsBoundedByWhatIsNotDone) {
  WriterOptions options;
  options.pending_bytes = 250;
  options.pending_count = 100;
  ChunkWriter writer = MakeWriter(options);
  EXPECT_TRUE(writer.Submit(200).ok());
  EXPECT_EQ(writer.Submit(100).code(), StatusCode::kResourceExhausted);
  (void)writer.TakeSends();
  Ack(writer, kA, 11);
  Ack(writer, kB, 11);
  EXPECT_TRUE(writer.Submit(100).ok());
}

TEST(ChunkWriter, ALaggardIsDroppedPastTheBufferBoundInBytesOrCount) {
  for (const bool by_bytes : {true, false}) {
    WriterOptions options;
    options.laggard_bytes = by_bytes ? 250 : 1 << 20;
    options.laggard_count = by_bytes ? 1000 : 2;
    ChunkWriter writer = MakeWriter(options);
    for (uint64_t seq = 11; seq <= 13; ++seq) {
      EXPECT_TRUE(writer.is_live(kC)) << seq;
      (void)writer.Submit(100);
      (void)writer.TakeSends();
      Ack(writer, kA, seq);
      Ack(writer, kB, seq);
      EXPECT_EQ(writer.done_seq(), seq) << "a slow member held up the write";
    }
    EXPECT_FALSE(writer.is_live(kC));
    EXPECT_EQ(writer.released_seq(), 13u);
    EXPECT_EQ(writer.dropped()[0].status.code(), StatusCode::kResourceExhausted);
  }
}

TEST(ChunkWriter, AReconnectSendsAgainWhatWasNotAnswered) {
  ChunkWriter writer = MakeWriter();
  for (int i = 0; i < 3; ++i) (void)writer.Submit(10);
  (void)writer.TakeSends();
  Ack(writer, kA, 11);
  writer.OnDisconnect(kA);
  writer.OnDisconnect(kB);
  EXPECT_TRUE(writer.TakeSends().empty());
  writer.OnConnect(kA);
  writer.OnConnect(kB);
  const auto sends = writer.TakeSends();
  ASSERT_EQ(sends.size(), 5u);
  EXPECT_EQ(sends[0], (ChunkWriter::Send{kA, Epoch{5}, 12, std::nullopt}));
  EXPECT_EQ(sends[2], (ChunkWriter::Send{kB, Epoch{5}, 11, S(4, 10)}));
}

TEST(ChunkWriter, BelowQuorumNamesWhoDidNotConfirm) {
  ChunkWriter writer = MakeWriter();
  (void)writer.Submit(10);
  (void)writer.TakeSends();
  writer.OnError(kB, Status(StatusCode::kTimeout, "no answer in 2.0 s"));
  EXPECT_FALSE(writer.below_quorum());
  writer.OnError(kC, Status(StatusCode::kNoSpace, "disk full"));
  EXPECT_TRUE(writer.below_quorum());
  Ack(writer, kA, 11);
  const Status error = writer.QuorumError("write");
  EXPECT_EQ(error.code(), StatusCode::kNoQuorum);
  EXPECT_NE(error.message().find("1 of the 2 confirmations"), std::string::npos) << error.message();
  EXPECT_NE(error.message().find("cs2 (timeout: no answer in 2.0 s), cs3 (no_space: disk full)"),
            std::string::npos)
      << error.message();
}

TEST(ChunkWriter, FencedByOneIsALostMemberFencedByAReadQuorumEndsTheEpoch) {
  ChunkWriter writer = MakeWriter();
  (void)writer.Submit(10);
  (void)writer.TakeSends();
  writer.OnMutateReply(kA, Epoch{5}, 11, Status(StatusCode::kFenced, "epoch 7"), At(S(4, 10)));
  EXPECT_FALSE(writer.fenced_by_quorum());
  writer.OnError(kB, kBroken);
  EXPECT_FALSE(writer.fenced_by_quorum());
  writer.OnMutateReply(kC, Epoch{5}, 11, Status(StatusCode::kDeleted, "epoch 7"), At(S(4, 10)));
  EXPECT_TRUE(writer.fenced_by_quorum());
}

TEST(ChunkWriter, ReconfigurationSendsAgainWhatIsBeyondTheBase) {
  ChunkWriter writer = MakeWriter();
  for (int i = 0; i < 4; ++i) (void)writer.Submit(10);  // 11..14
  (void)writer.TakeSends();
  Ack(writer, kA, 13);
  writer.OnError(kB, kBroken);
  writer.OnError(kC, kBroken);
  EXPECT_EQ(writer.done_seq(), 10u);
  ASSERT_TRUE(writer.Reconfigure(Config(7, {1, 3, 4}, 2, S(5, 12))).ok());
  EXPECT_EQ(writer.done_seq(), 12u) << "what recovery kept is done";
  EXPECT_FALSE(writer.below_quorum());
  const auto sends = writer.TakeSends();
  ASSERT_EQ(sends.size(), 6u);
  EXPECT_EQ(sends[0], (ChunkWriter::Send{kA, Epoch{7}, 13, S(5, 12)}));
  EXPECT_EQ(sends[1], (ChunkWriter::Send{kA, Epoch{7}, 14, std::nullopt}));
  writer.OnMutateReply(kA, Epoch{5}, 14, Status::Ok(), At(S(5, 14)));  // of the old epoch
  EXPECT_EQ(writer.acked_seq(kA), std::nullopt);
  Ack(writer, kA, 14);
  Ack(writer, kD, 14);
  EXPECT_EQ(writer.done_seq(), 14u);
}

TEST(ChunkWriter, ReconfigurationThatContradictsTheWriterIsRefused) {
  ChunkWriter writer = MakeWriter();
  for (int i = 0; i < 3; ++i) (void)writer.Submit(10);  // 11..13
  (void)writer.TakeSends();
  for (ServerId server : {kA, kB, kC}) Ack(writer, server, 12);
  EXPECT_EQ(writer.Reconfigure(Config(5, {1, 2, 3}, 2, S(4, 12))).code(), StatusCode::kFailedPrecondition);
  EXPECT_EQ(writer.Reconfigure(Config(7, {1, 2, 3}, 2, S(5, 14))).code(), StatusCode::kFailedPrecondition);
  EXPECT_EQ(writer.Reconfigure(Config(7, {1, 2, 3}, 2, S(5, 11))).code(), StatusCode::kIoError);
  EXPECT_TRUE(writer.Reconfigure(Config(7, {1, 2, 3}, 2, S(5, 13))).ok());
}

// Found by the simulator (seed 7077): a leftover of an earlier writer became the base, and its mutations were
// taken for this writer's.
TEST(ChunkWriter, ABaseOfAnEarlierWriterIsNotTakenForItsOwn) {
  ChunkWriter writer = MakeWriter({.config = Config(20, {1, 2}, 2)});
  for (int i = 0; i < 8; ++i) (void)writer.Submit(10);
  (void)writer.TakeSends();
  EXPECT_EQ(writer.Reconfigure(Config(22, {1, 3}, 2, S(17, 5))).code(), StatusCode::kFailedPrecondition);
  EXPECT_EQ(writer.done_seq(), 0u);
  // The base it began on, reached in another epoch: everything is sent again.
  ASSERT_TRUE(writer.Reconfigure(Config(23, {1, 3}, 2, S(19, 0))).ok());
  EXPECT_EQ(writer.TakeSends().size(), 16u);
}

TEST(ChunkWriter, ABaseBelowWhatWasDoneIsSentAgainWhileBuffered) {
  ChunkWriter writer = MakeWriter({.laggard_count = 1});
  (void)writer.Submit(10);
  (void)writer.TakeSends();
  Ack(writer, kA, 11);
  Ack(writer, kB,
      11);  // done on A and B, which then lose power; C never got it, so the payload is still there
  ASSERT_TRUE(writer.Reconfigure(Config(7, {1, 2, 3}, 2, S(4, 10))).ok());
  EXPECT_EQ(writer.TakeSends().size(), 3u);
  EXPECT_EQ(writer.live_members(), 3u);
}

TEST(ChunkWriter, SealGoesBehindTheLastMutationAndNeedsTheQuorum) {
  ChunkWriter writer = MakeWriter();
  EXPECT_EQ(writer.StartSeal().code(), StatusCode::kFailedPrecondition) << "nothing was begun";
  writer.OnDisconnect(kC);
  (void)writer.Submit(10);
  (void)writer.TakeSends();
  Ack(writer, kA, 11);
  ASSERT_TRUE(writer.StartSeal().ok());
  EXPECT_EQ(writer.Submit(10).code(), StatusCode::kFailedPrecondition);
  EXPECT_EQ(writer.seal_stamp(), S(5, 11));
  EXPECT_EQ(writer.TakeSealSends(), (std::vector<ChunkWriter::SealSend>{{kA, S(5, 11)}, {kB, S(5, 11)}}));
  EXPECT_TRUE(writer.TakeSealSends().empty());
  writer.OnSealReply(kA, S(5, 11), Status::Ok());
  writer.OnSealReply(kA, S(5, 11), Status::Ok());
  EXPECT_FALSE(writer.sealed());
  writer.OnConnect(kC);
  EXPECT_EQ(writer.TakeSends().size(), 1u);
  EXPECT_EQ(writer.TakeSealSends(), (std::vector<ChunkWriter::SealSend>{{kC, S(5, 11)}}));
  writer.OnSealReply(kC, S(5, 11), Status::Ok());
  EXPECT_TRUE(writer.sealed());
  EXPECT_FALSE(writer.seal_settled());
  EXPECT_EQ(writer.seal_missing(), (std::vector<ServerId>{kB}));
  writer.OnError(kB, kBroken);
  EXPECT_TRUE(writer.seal_settled());
  EXPECT_EQ(writer.carriers(), (std::vector<ServerId>{kA, kC}));
}

TEST(ChunkWriter, AConfirmedSealSaysThatTheMutationsBeforeItAreDone) {
  ChunkWriter writer = MakeWriter();
  (void)writer.Submit(10);
  (void)writer.TakeSends();
  ASSERT_TRUE(writer.StartSeal().ok());
  (void)writer.TakeSealSends();
  writer.OnSealReply(kA, S(5, 11), Status::Ok());
  EXPECT_EQ(writer.done_seq(), 10u);
  writer.OnSealReply(kB, S(5, 11), Status::Ok());
  EXPECT_EQ(writer.done_seq(), 11u);
  EXPECT_TRUE(writer.sealed());
}

TEST(ChunkWriter, ASealThatCameTooEarlyIsSentAgainAndDropsNobody) {
  ChunkWriter writer = MakeWriter();
  (void)writer.Submit(10);
  (void)writer.TakeSends();
  ASSERT_TRUE(writer.StartSeal().ok());
  EXPECT_EQ(writer.TakeSealSends().size(), 3u);
  writer.OnSealReply(kA, S(5, 11), Status(StatusCode::kStaleReplica, "this replica is at (4, 10)"));
  EXPECT_TRUE(writer.is_live(kA));
  EXPECT_TRUE(writer.TakeSealSends().empty()) << "not before the mutation is acknowledged";
  Ack(writer, kA, 11);
  EXPECT_EQ(writer.TakeSealSends(), (std::vector<ChunkWriter::SealSend>{{kA, S(5, 11)}}));
  writer.OnSealReply(kA, S(5, 11), kBroken);
  EXPECT_FALSE(writer.is_live(kA)) << "it had everything and refused";
}

TEST(ChunkWriter, ASealThatBrokeOffWithItsMutationsIsSentAgainBehindThem) {
  ChunkWriter writer = MakeWriter();
  (void)writer.Submit(10);
  (void)writer.TakeSends();
  ASSERT_TRUE(writer.StartSeal().ok());
  (void)writer.TakeSealSends();
  writer.OnDisconnect(kB);
  writer.OnSealReply(kB, S(5, 11), Status(StatusCode::kUnavailable, "the connection broke"));
  EXPECT_TRUE(writer.is_live(kB));
  writer.OnConnect(kB);
  EXPECT_TRUE(writer.TakeSealSends().empty()) << "its mutation goes first";
  EXPECT_EQ(writer.TakeSends().size(), 1u);
  EXPECT_EQ(writer.TakeSealSends(), (std::vector<ChunkWriter::SealSend>{{kB, S(5, 11)}}));
}

// Mutation and seal arrived, both answers were lost: to the mutation sent again it can only say that the epoch is sealed.
TEST(ChunkWriter, AMemberThatHasSealedAlreadyIsAskedForItsSealAgain) {
  const Status sealed(StatusCode::kFenced, "epoch 5 was sealed");
  for (const bool truly : {true, false}) {
    ChunkWriter writer = MakeWriter();
    (void)writer.Submit(10);
    (void)writer.TakeSends();
    ASSERT_TRUE(writer.StartSeal().ok());
    (void)writer.TakeSealSends();
    writer.OnDisconnect(kB);
    writer.OnConnect(kB);
    EXPECT_EQ(writer.TakeSends().size(), 1u);
    writer.OnMutateReply(kB, Epoch{5}, 11, sealed, At(S(5, 11)));
    EXPECT_TRUE(writer.is_live(kB));
    EXPECT_EQ(writer.TakeSealSends(), (std::vector<ChunkWriter::SealSend>{{kB, S(5, 11)}}));
    writer.OnSealReply(kB, S(5, 11), truly ? Status::Ok() : sealed);
    EXPECT_EQ(writer.is_live(kB), truly);
    EXPECT_EQ(writer.carriers().size(), truly ? 1u : 0u);
  }
  ChunkWriter other = MakeWriter();
  (void)other.Submit(10);
  (void)other.TakeSends();
  other.OnMutateReply(kB, Epoch{5}, 11, sealed, At(S(5, 10)));
  EXPECT_FALSE(other.is_live(kB)) << "nobody asked it to seal";
}

TEST(ChunkWriter, ReconfigurationTakesAnUnfinishedSealBack) {
  ChunkWriter writer = MakeWriter();
  (void)writer.Submit(10);
  (void)writer.TakeSends();
  Ack(writer, kA, 11);
  Ack(writer, kB, 11);
  ASSERT_TRUE(writer.StartSeal().ok());
  writer.OnSealReply(kA, S(5, 11), Status::Ok());
  ASSERT_TRUE(writer.Reconfigure(Config(7, {1, 2, 4}, 2, S(5, 11))).ok());
  EXPECT_FALSE(writer.sealing());
  EXPECT_TRUE(writer.carriers().empty());
  ASSERT_TRUE(writer.StartSeal().ok()) << "the configuration change began the epoch on a quorum";
  EXPECT_EQ(writer.seal_stamp(), S(7, 11));
  EXPECT_EQ(writer.TakeSealSends().size(), 3u);
}

TEST(ChunkWriter, DurableStampsCountByTheWriteQuorum) {
  ChunkWriter writer = MakeWriter();
  for (int i = 0; i < 3; ++i) (void)writer.Submit(10);
  (void)writer.TakeSends();
  ReplicaInfo info = At(S(5, 13));
  info.durable = S(5, 12);
  writer.OnDurable(kA, info);
  EXPECT_EQ(writer.durable_seq(), 0u);
  info.durable = S(4, 13);  // of an earlier epoch
  writer.OnDurable(kB, info);
  EXPECT_EQ(writer.durable_seq(), 0u);
  info.durable = S(5, 11);
  writer.OnDurable(kB, info);
  EXPECT_EQ(writer.durable_seq(), 11u);
  info.durable = S(5, 13);
  writer.OnDurable(kC, info);
  EXPECT_EQ(writer.durable_seq(), 12u);
}

// Random pipelines against real replicas: what is done is on W of them, sends are in order, nothing is
// released early.
TEST(ChunkWriterFuzz, DoneMeansOnAWriteQuorumOfReplicas) {
  uint64_t total_done = 0;
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    std::mt19937_64 random(seed);
    const uint32_t n = 1 + random() % 5;
    WriterOptions options;
    options.config.epoch = Epoch{5};
    options.config.write_quorum = 1 + random() % n;
    options.window_count = 1 + random() % 5;
    options.laggard_count = 3;
    std::map<ServerId, ReplicaState> replicas;
    std::map<ServerId, std::deque<ChunkWriter::Send>> wire;
    for (uint32_t i = 1; i <= n; ++i) {
      options.config.members.push_back(ServerId{i});
      replicas[ServerId{i}] = {};
    }
    ChunkWriter writer(kChunk, options);
    for (int step = 0; step < 300; ++step) {
      const ServerId server{static_cast<uint32_t>(1 + random() % n)};
      const uint64_t dice = random() % 8;
      if (dice <= 1) {
        (void)writer.Submit(random() % 100);
      } else if (dice == 2) {
        if (random() % 20 == 0) writer.OnError(server, kBroken);
      } else if (dice == 3) {
        if (random() % 4 == 0) {
          wire[server].clear();
          writer.OnDisconnect(server);
        }
      } else if (dice == 4) {
        writer.OnConnect(server);
      } else if (!wire[server].empty()) {
        const ChunkWriter::Send send = wire[server].front();
        wire[server].pop_front();
        Mutation mutation = Write(send.epoch.value(), send.seq);
        mutation.begin = send.begin;
        const Verdict v = CheckMutation(replicas[server], mutation);
        if (v.action == Action::kApply) replicas[server] = v.next;
        writer.OnMutateReply(server, send.epoch, send.seq, v.status, At(replicas[server].accepted));
      }
      for (const auto& send : writer.TakeSends()) {
        ASSERT_GT(send.seq, writer.released_seq()) << "payload was already released";
        auto& queue = wire[send.server];
        if (!queue.empty()) {
          ASSERT_EQ(send.seq, queue.back().seq + 1);
        }
        queue.push_back(send);
        ASSERT_LE(queue.size(), options.window_count);
      }
      uint32_t holders = 0;
      for (const auto& [id, state] : replicas) holders += state.accepted.seq >= writer.done_seq();
      ASSERT_GE(holders, options.config.write_quorum) << "seed " << seed;
      ASSERT_LE(writer.released_seq(), writer.done_seq());
      for (const auto& drop : writer.dropped()) ASSERT_FALSE(drop.status.ok());
    }
    total_done += writer.done_seq();
  }
  EXPECT_GT(total_done, 2000u);
}

}  // namespace
}  // namespace cairn::replication
