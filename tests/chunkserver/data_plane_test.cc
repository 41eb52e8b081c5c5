#include <gtest/gtest.h>

#include <thread>

#include "common/checksum.h"
#include "tests/chunkserver/data_node.h"
#include "tests/net/test_server.h"

namespace cairn::chunkserver {
namespace {

using replication::MutationKind;
using wire::MessageType;

constexpr ServerId kServer{7};
constexpr ChunkId kChunk{42};
constexpr Epoch kEpoch{5};

Stamp At(uint64_t seq, Epoch epoch = kEpoch) { return {epoch, seq}; }

class DataPlaneTest : public testing::Test {
 protected:
  DataNode& node() {
    if (!node_) node_ = std::make_unique<DataNode>(kServer, disks_, options_);
    return *node_;
  }
  Caller& caller() {
    if (!caller_) caller_ = std::make_unique<Caller>(node().peer());
    return *caller_;
  }
  // Writes a new chunk in one mutation.
  void WriteChunk(ChunkId chunk, const std::vector<std::byte>& data) {
    const auto reply = caller().Mutate(WriteRequest(chunk, At(1), Stamp{}, 0, data), data);
    ASSERT_TRUE(reply.ok()) << reply.status().ToString();
    ASSERT_TRUE(reply->status.ok()) << reply->status.ToString();
  }

  size_t disks_ = 1;
  DataServiceOptions options_;
  std::unique_ptr<DataNode> node_;
  std::unique_ptr<Caller> caller_;
};

TEST_F(DataPlaneTest, WhatIsWrittenIsReadWithItsChecksums) {
  const auto data = Pattern(100'000, 1);
  WriteChunk(kChunk, data);
  const auto read = caller().Read({kChunk, At(1), true, 5000, 50'000});
  ASSERT_TRUE(read.ok()) << read.status().ToString();
  const auto& [reply, bytes] = *read;
  ASSERT_TRUE(reply.status.ok()) << reply.status.ToString();
  EXPECT_EQ(reply.stamp, At(1));
  EXPECT_EQ(reply.chunk_length, 100'000u);
  EXPECT_EQ(reply.offset, 4096u);
  ASSERT_EQ(bytes.size(), 57344u - 4096u);
  EXPECT_TRUE(std::equal(bytes.begin(), bytes.end(), data.begin() + 4096));
  EXPECT_EQ(FirstBadBlock(kChunk, reply.offset, bytes, reply.checksums), -1);
}

TEST_F(DataPlaneTest, TruncateAndZeroAreCarriedOut) {
  WriteChunk(kChunk, Pattern(20'000, 1));
  wire::MutateRequest zero;
  zero.mutation = {kChunk, kEpoch, 2, std::nullopt, MutationKind::kZero, 4096, 4096};
  ASSERT_TRUE(caller().Mutate(zero)->status.ok());
  wire::MutateRequest truncate;
  truncate.mutation = {kChunk, kEpoch, 3, std::nullopt, MutationKind::kTruncate, 9000, 0};
  const auto reply = caller().Mutate(truncate);
  ASSERT_TRUE(reply->status.ok()) << reply->status.ToString();
  EXPECT_EQ(reply->info.length, 9000u);
  EXPECT_EQ(reply->info.accepted, At(3));
  const auto read = caller().Read({kChunk, At(3), true, 4096, 4096});
  ASSERT_TRUE(read.ok() && read->first.status.ok());
  EXPECT_EQ(read->second, std::vector<std::byte>(4096));
}

TEST_F(DataPlaneTest, ListsAreAnsweredItemByItemInOrder) {
  for (uint64_t i = 1; i <= 3; ++i) WriteChunk(ChunkId{i}, Pattern(5000, i));
  const auto query = caller().Query({{ChunkId{3}, ChunkId{99}, ChunkId{1}}});
  ASSERT_TRUE(query.ok()) << query.status().ToString();
  ASSERT_EQ(query->items.size(), 3u);
  EXPECT_EQ(query->items[0].info.chunk, ChunkId{3});
  EXPECT_EQ(query->items[0].info.accepted, At(1));
  EXPECT_EQ(query->items[1].status.code(), StatusCode::kUnknownChunk);
  EXPECT_EQ(query->items[2].info.length, 5000u);

  const auto flush = caller().Flush({{ChunkId{1}, ChunkId{99}}});
  ASSERT_TRUE(flush.ok());
  EXPECT_EQ(flush->items[0].info.durable, At(1));
  EXPECT_EQ(flush->items[1].status.code(), StatusCode::kUnknownChunk);

  const auto seal = caller().Seal({{{ChunkId{1}, At(1)}, {ChunkId{2}, At(7)}}});
  ASSERT_TRUE(seal.ok());
  EXPECT_TRUE(seal->items[0].status.ok()) << seal->items[0].status.ToString();
  EXPECT_EQ(seal->items[0].info.sealed, kEpoch);
  EXPECT_EQ(seal->items[1].status.code(), StatusCode::kStaleReplica);

  const auto begin = caller().Begin({{{ChunkId{1}, Epoch{9}, At(1)}, {ChunkId{}, Epoch{9}, {}}}});
  ASSERT_TRUE(begin.ok());
  EXPECT_TRUE(begin->items[0].status.ok()) << begin->items[0].status.ToString();
  EXPECT_EQ(begin->items[0].info.accepted, At(1, Epoch{9}));
  EXPECT_EQ(begin->items[1].status.code(), StatusCode::kInvalidArgument);
}

TEST_F(DataPlaneTest, DigestsTellWhichRangesDiffer) {
  auto data = Pattern(3 * wire::kDigestRangeBytes + 100, 1);
  WriteChunk(ChunkId{1}, data);
  data[wire::kDigestRangeBytes + 5] ^= std::byte{1};
  WriteChunk(ChunkId{2}, data);
  const auto a = caller().Digests({ChunkId{1}, At(1), 0, 4 * wire::kDigestRangeBytes});
  const auto b = caller().Digests({ChunkId{2}, At(1), 0, 4 * wire::kDigestRangeBytes});
  ASSERT_TRUE(a.ok() && b.ok());
  ASSERT_EQ(a->digests.size(), 4u);
  EXPECT_EQ(a->chunk_length, data.size());
  EXPECT_EQ(a->digests[0], b->digests[0]);
  EXPECT_NE(a->digests[1], b->digests[1]);
  EXPECT_EQ(a->digests[2], b->digests[2]);
  EXPECT_EQ(a->digests[3], b->digests[3]);
  EXPECT_EQ(caller().Digests({ChunkId{1}, At(2), 0, wire::kDigestRangeBytes})->status.code(),
            StatusCode::kStaleReplica);
}

TEST_F(DataPlaneTest, PipelinedMutationsAreAppliedInOrder) {
  constexpr uint64_t kCount = 500;
  std::vector<std::future<Caller::Reply>> replies;
  std::vector<std::byte> expected;
  for (uint64_t i = 0; i < kCount; ++i) {
    const auto data = Pattern(1000 + i, i);
    expected.insert(expected.end(), data.begin(), data.end());
    const auto request = WriteRequest(kChunk, At(i + 1), i == 0 ? std::optional(Stamp{}) : std::nullopt,
                                      expected.size() - data.size(), data);
    replies.push_back(caller().Send(MessageType::kMutate, wire::Encode(request), data));
  }
  for (uint64_t i = 0; i < kCount; ++i) {
    const Caller::Reply reply = replies[i].get();
    ASSERT_TRUE(reply.status.ok()) << reply.status.ToString();
    const auto mutate = wire::DecodeMutateReply(reply.meta);
    ASSERT_TRUE(mutate->status.ok()) << i << ": " << mutate->status.ToString();
    EXPECT_EQ(mutate->info.accepted, At(i + 1));
  }
  const auto read = caller().Read({kChunk, At(kCount), true, 0, static_cast<uint32_t>(expected.size())});
  ASSERT_TRUE(read.ok() && read->first.status.ok());
  EXPECT_EQ(read->second, expected);
}

TEST_F(DataPlaneTest, AReadBehindAMutationSeesIt) {
  WriteChunk(kChunk, Pattern(4096, 1));
  for (uint64_t seq = 2; seq < 50; ++seq) {
    const auto data = Pattern(4096, seq);
    auto mutate = caller().Send(MessageType::kMutate,
                                wire::Encode(WriteRequest(kChunk, At(seq), std::nullopt, 0, data)), data);
    auto read =
        caller().Send(MessageType::kRead, wire::Encode(wire::ReadRequest{kChunk, At(seq), true, 0, 4096}));
    const Caller::Reply reply = read.get();
    ASSERT_TRUE(reply.status.ok());
    EXPECT_TRUE(std::equal(data.begin(), data.end(), reply.data.bytes.begin(), reply.data.bytes.end()))
        << seq;
  }
}

TEST_F(DataPlaneTest, DataDamagedOnTheWayIsNotStored) {
  const auto data = Pattern(10'000, 1);
  auto request = WriteRequest(kChunk, At(1), Stamp{}, 0, data);
  request.checksums[1] ^= 1;
  const auto reply = caller().Mutate(request, data);
  ASSERT_TRUE(reply.ok());
  EXPECT_EQ(reply->status.code(), StatusCode::kCorrupt);
  EXPECT_NE(reply->status.message().find("block 1"), std::string::npos) << reply->status.ToString();
  EXPECT_EQ(caller().Query({{kChunk}})->items[0].status.code(), StatusCode::kUnknownChunk);
  EXPECT_TRUE(node().damages().empty()) << "nothing is wrong with the disk";
}

TEST_F(DataPlaneTest, ImpossibleMutationsAreRefused) {
  const auto data = Pattern(5000, 1);
  const auto code = [&](auto change, std::vector<std::byte> bytes) {
    auto request = WriteRequest(kChunk, At(1), Stamp{}, 0, data);
    change(request);
    return caller().Mutate(request, std::move(bytes))->status.code();
  };
  EXPECT_EQ(code([](auto& r) { r.mutation.chunk = ChunkId{}; }, data), StatusCode::kInvalidArgument);
  EXPECT_EQ(code([](auto& r) { r.mutation.length = 4999; }, data), StatusCode::kInvalidArgument);
  EXPECT_EQ(code([](auto& r) { r.mutation.offset = UINT64_MAX - 10; }, data), StatusCode::kInvalidArgument);
  EXPECT_EQ(code([](auto& r) { r.checksums.pop_back(); }, data), StatusCode::kInvalidArgument);
  EXPECT_EQ(code([](auto& r) { r.mutation.kind = MutationKind::kTruncate; }, data),
            StatusCode::kInvalidArgument);
  EXPECT_EQ(code([](auto&) {}, {}), StatusCode::kInvalidArgument);
  EXPECT_EQ(code([](auto&) {}, data), StatusCode::kOk);
}

TEST_F(DataPlaneTest, OtherClustersAndOtherServersAreTurnedAwayWithTheReason) {
  Caller foreign(node().peer(), Uuid{9, 9});
  const auto refused = foreign.Query({{kChunk}});
  EXPECT_EQ(refused.code(), StatusCode::kWrongCluster);
  EXPECT_NE(refused.status().message().find(kTestCluster.ToString()), std::string::npos)
      << refused.status().ToString();
  net::Peer mistaken = node().peer();
  mistaken.server = ServerId{8};
  Caller wrong(mistaken);
  const auto wrong_server = wrong.Query({{kChunk}});
  EXPECT_EQ(wrong_server.code(), StatusCode::kWrongCluster);
  EXPECT_NE(wrong_server.status().message().find("cs7"), std::string::npos)
      << wrong_server.status().ToString();
}

TEST_F(DataPlaneTest, AServerThatHasNotJoinedServesNobody) {
  DataNode fresh(ServerId{}, 1, {}, Uuid{});
  Caller caller(fresh.peer());
  const auto refused = caller.Query({{kChunk}});
  EXPECT_EQ(refused.code(), StatusCode::kUnavailable);
  EXPECT_NE(refused.status().message().find("not joined"), std::string::npos) << refused.status().ToString();
}

TEST_F(DataPlaneTest, AHeldUpFlushHoldsUpNothingElse) {
  WriteChunk(kChunk, Pattern(4096, 1));
  node().store().HoldFlushes(true);
  auto flush = caller().Send(MessageType::kFlush, wire::Encode(wire::FlushRequest{{kChunk}}));
  ASSERT_TRUE(caller().Read({kChunk, At(1), true, 0, 4096}).ok());
  const auto data = Pattern(100, 2);
  EXPECT_TRUE(caller().Mutate(WriteRequest(kChunk, At(2), std::nullopt, 0, data), data)->status.ok());
  EXPECT_EQ(node().store().flushes(), 0);
  node().store().HoldFlushes(false);
  EXPECT_TRUE(flush.get().status.ok());
}

TEST_F(DataPlaneTest, FlushesThatMeetShareOneSync) {
  WriteChunk(kChunk, Pattern(4096, 1));
  node().store().HoldFlushes(true);
  const auto send = [&] {
    return caller().Send(MessageType::kFlush, wire::Encode(wire::FlushRequest{{kChunk}}));
  };
  std::vector<std::future<Caller::Reply>> flushes;
  flushes.push_back(send());
  while (node().store().flushes_waiting() == 0) std::this_thread::yield();
  for (int i = 0; i < 100; ++i) flushes.push_back(send());
  // An answer to what was sent behind them: all of them have arrived.
  ASSERT_TRUE(caller().Query({{kChunk}}).ok());
  node().store().HoldFlushes(false);
  for (auto& flush : flushes) {
    const Caller::Reply reply = flush.get();
    ASSERT_TRUE(reply.status.ok());
    EXPECT_TRUE(wire::DecodeBatchReply(reply.meta)->items[0].status.ok());
  }
  EXPECT_EQ(node().store().flushes(), 2);
}

TEST_F(DataPlaneTest, AFailedFlushIsAnError) {
  WriteChunk(kChunk, Pattern(4096, 1));
  node().store().Fail("EIO on fdatasync");
  const auto flush = caller().Flush({{kChunk}});
  ASSERT_TRUE(flush.ok());
  EXPECT_EQ(flush->items[0].status.code(), StatusCode::kIoError);
  EXPECT_NE(flush->items[0].status.message().find("EIO on fdatasync"), std::string::npos);
}

TEST_F(DataPlaneTest, ClientsThatVanishWithRequestsInWorkLeaveNoTrace) {
  WriteChunk(kChunk, Pattern(1 << 20, 1));
  node().store().HoldFlushes(true);
  for (int i = 0; i < 20; ++i) {
    Caller other(node().peer());
    std::vector<std::future<Caller::Reply>> pending;
    for (int j = 0; j < 10; ++j) {
      pending.push_back(other.Send(MessageType::kFlush, wire::Encode(wire::FlushRequest{{kChunk}})));
      pending.push_back(
          other.Send(MessageType::kRead, wire::Encode(wire::ReadRequest{kChunk, At(1), true, 0, 1 << 20})));
    }
    ASSERT_TRUE(other.Query({{kChunk}}).ok());
  }
  node().store().HoldFlushes(false);
  while (node().service().connections() > 1) std::this_thread::yield();
  EXPECT_TRUE(caller().Read({kChunk, At(1), true, 0, 4096})->first.status.ok());
}

TEST_F(DataPlaneTest, MoreThanTheBoundsAllowIsServedBitByBit) {
  options_.max_requests_in_work = 4;
  options_.max_answer_bytes = 3 << 20;
  const auto data = Pattern(1 << 20, 1);
  WriteChunk(kChunk, data);
  std::vector<std::future<Caller::Reply>> reads;
  for (int i = 0; i < 200; ++i) {
    reads.push_back(
        caller().Send(MessageType::kRead, wire::Encode(wire::ReadRequest{kChunk, At(1), true, 0, 1 << 20})));
  }
  for (auto& read : reads) {
    const Caller::Reply reply = read.get();
    ASSERT_TRUE(reply.status.ok()) << reply.status.ToString();
    ASSERT_EQ(reply.data.size(), data.size());
  }
}

TEST_F(DataPlaneTest, WhoDoesNotTakeItsAnswersIsSentAwayAndOthersAreServed) {
  options_.slow_readers.stalled_ns = 1;
  const auto data = Pattern(1 << 20, 1);
  WriteChunk(kChunk, data);
  const size_t before = node().service().connections();
  net::RawClient slow(node().port());
  wire::HelloRequest hello;
  hello.cluster = kTestCluster;
  slow.SendFrame(static_cast<uint8_t>(MessageType::kHello), 1, wire::Encode(hello), {});
  const auto read = wire::Encode(wire::ReadRequest{kChunk, At(1), true, 0, 1 << 20});
  for (uint64_t i = 2; i < 40; ++i) slow.SendFrame(static_cast<uint8_t>(MessageType::kRead), i, read, {});
  while (node().service().connections() <= before) std::this_thread::yield();
  while (node().service().connections() > before) std::this_thread::yield();
  EXPECT_TRUE(caller().Read({kChunk, At(1), true, 0, 4096})->first.status.ok());
}

TEST_F(DataPlaneTest, ACrowdFromOneHostIsRefusedTheRest) {
  options_.max_connections_per_host = 3;
  WriteChunk(kChunk, Pattern(4096, 1));  // the caller has one
  net::RawClient one(node().port()), two(node().port()), three(node().port());
  three.WaitUntilDropped();
  EXPECT_EQ(node().service().connections(), 3u);
  EXPECT_TRUE(caller().Read({kChunk, At(1), true, 0, 4096})->first.status.ok());
}

TEST_F(DataPlaneTest, NobodyIsHeardBeforeTheGreeting) {
  net::RawClient raw(node().port());
  raw.SendFrame(static_cast<uint8_t>(MessageType::kQuery), 1, wire::Encode(wire::QueryRequest{{kChunk}}), {});
  raw.WaitUntilDropped();
  net::RawClient large(node().port());
  large.SendFrame(static_cast<uint8_t>(MessageType::kHello), 1, std::vector<std::byte>(5000), {});
  large.WaitUntilDropped();
  EXPECT_TRUE(caller().Query({{kChunk}}).ok());
}

TEST_F(DataPlaneTest, WhoDoesNotGreetIsSentAway) {
  options_.greeting_timeout_ms = 1;
  net::RawClient silent(node().port());
  silent.WaitUntilDropped();
}

TEST_F(DataPlaneTest, HalfAFrameIsNotWaitedForForEver) {
  options_.half_frame_timeout_ms = 1;
  net::RawClient raw(node().port());
  wire::HelloRequest hello;
  hello.cluster = kTestCluster;
  const auto frame = net::RawClient::EncodeFrame(1, 0, wire::Encode(hello), {});
  raw.Send(std::span(frame).first(frame.size() - 1));
  raw.WaitUntilDropped();
}

TEST_F(DataPlaneTest, DamageFoundByDigestsIsReported) {
  WriteChunk(kChunk, Pattern(200'000, 1));
  node().store().DamageBlock(kChunk, 17);
  const auto digests = caller().Digests({kChunk, At(1), 0, 4 * wire::kDigestRangeBytes});
  ASSERT_TRUE(digests.ok() && digests->status.ok());
  EXPECT_EQ(digests->digests[1], wire::Digest{});
  ASSERT_EQ(node().damages().size(), 1u);
  EXPECT_EQ(node().damages()[0].chunk, kChunk);
  EXPECT_EQ(node().damages()[0].offset, wire::kDigestRangeBytes);
  EXPECT_TRUE(caller().Query({{kChunk}})->items[0].info.corrupt);
}

}  // namespace
}  // namespace cairn::chunkserver
