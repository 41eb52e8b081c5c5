// Ranges of one chunk that a chunkserver fetches by itself for a write to another one.
#include <gtest/gtest.h>

#include <memory>
#include <thread>

#include "chunkserver/staging_area.h"
#include "common/checksum.h"
#include "tests/chunkserver/data_node.h"

namespace cairn::chunkserver {
namespace {

using wire::MessageType;

constexpr ServerId kHere{7};
constexpr ServerId kThere{8};
constexpr ChunkId kSource{1};
constexpr ChunkId kTarget{2};
constexpr Epoch kEpoch{5};

Stamp At(uint64_t seq) { return {kEpoch, seq}; }

class StageTest : public testing::Test {
 protected:
  DataNode& node() {
    if (!node_) {
      options_.peers = &peers_;
      node_ = std::make_unique<DataNode>(kHere, 1, options_);
    }
    return *node_;
  }
  Caller& caller() {
    if (!caller_) caller_ = std::make_unique<Caller>(node().peer());
    return *caller_;
  }
  static void WriteChunk(Caller& to, ChunkId chunk, const std::vector<std::byte>& data) {
    const auto reply = to.Mutate(WriteRequest(chunk, At(1), Stamp{}, 0, data), data);
    ASSERT_TRUE(reply.ok()) << reply.status().ToString();
    ASSERT_TRUE(reply->status.ok()) << reply->status.ToString();
  }
  static wire::StageRequest Request(uint64_t from, uint64_t to, uint32_t length) {
    return {.source = kSource, .want = At(1), .source_offset = from, .chunk = kTarget, .offset = to, .length = length};
  }
  static wire::StageReply Stage(Caller& at, const wire::StageRequest& request) {
    const Caller::Reply reply = at.Send(MessageType::kStage, wire::Encode(request)).get();
    EXPECT_TRUE(reply.status.ok()) << reply.status.ToString();
    const auto decoded = wire::DecodeStageReply(reply.meta);
    EXPECT_TRUE(decoded.ok()) << decoded.status().ToString();
    return decoded.ok() ? *decoded : wire::StageReply{.status = decoded.status()};
  }
  static wire::MutateReply MutateStaged(Caller& at, uint64_t token, const wire::MutateRequest& request) {
    const Caller::Reply reply = at.Send(MessageType::kMutateStaged, wire::Encode(wire::MutateStagedRequest{token, request})).get();
    EXPECT_TRUE(reply.status.ok()) << reply.status.ToString();
    const auto decoded = wire::DecodeMutateReply(reply.meta);
    EXPECT_TRUE(decoded.ok()) << decoded.status().ToString();
    return decoded.ok() ? *decoded : wire::MutateReply{.status = decoded.status()};
  }
  static wire::MutateRequest Write(const wire::StageRequest& staged, const wire::StageReply& reply, uint64_t seq = 1) {
    wire::MutateRequest request;
    request.mutation = {.chunk = staged.chunk, .epoch = kEpoch, .seq = seq, .offset = staged.offset, .length = staged.length};
    if (seq == 1) request.mutation.begin = Stamp{};
    request.checksums = reply.checksums;
    return request;
  }
  static bool Eventually(const std::function<bool()>& condition) {
    for (int i = 0; i < 3000 && !condition(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    return condition();
  }
  static std::vector<std::byte> Part(const std::vector<std::byte>& data, uint64_t from, uint64_t length) {
    return {data.begin() + static_cast<ptrdiff_t>(from), data.begin() + static_cast<ptrdiff_t>(from + length)};
  }

  net::EventLoopThread peer_loop_;
  net::DataClient peers_{peer_loop_.loop(), {.cluster = kTestCluster, .name = "peers"}};
  DataServiceOptions options_;
  std::unique_ptr<DataNode> node_;
  std::unique_ptr<Caller> caller_;
};

TEST_F(StageTest, StagedBytesAreWrittenAsIfTheyHadBeenSent) {
  const auto data = Pattern(200'000, 1);
  WriteChunk(caller(), kSource, data);
  const auto request = Request(5'001, 777, 100'000);
  const wire::StageReply staged = Stage(caller(), request);
  ASSERT_TRUE(staged.status.ok()) << staged.status.ToString();
  EXPECT_NE(staged.token, 0u);
  EXPECT_EQ(staged.checksums, ChecksumRange(kTarget, 777, Part(data, 5'001, 100'000)));
  EXPECT_EQ(node().service().staged_bytes(), 100'000u);
  const wire::MutateReply written = MutateStaged(caller(), staged.token, Write(request, staged));
  ASSERT_TRUE(written.status.ok()) << written.status.ToString();
  EXPECT_EQ(written.info.accepted, At(1));
  EXPECT_EQ(written.info.length, 100'777u);
  EXPECT_EQ(node().service().staged_bytes(), 0u);
  const auto read = caller().Read({kTarget, At(1), true, 0, 200'000});
  ASSERT_TRUE(read.ok() && read->first.status.ok());
  EXPECT_EQ(FirstBadBlock(kTarget, 0, Part(read->second, 0, 98'304), std::span(read->first.checksums).first(24)), -1);
  EXPECT_EQ(Part(read->second, 777, 100'000), Part(data, 5'001, 100'000));
}

TEST_F(StageTest, WhatIsNotHereIsFetchedFromACarrier) {
  DataNode there(kThere);
  const auto data = Pattern(200'000, 2);
  Caller other(there.peer());
  WriteChunk(other, kSource, data);
  auto request = Request(5'001, 777, 100'000);
  request.carriers = {{ServerId{9}, "127.0.0.1:1"}, {kThere, there.peer().address}};
  const wire::StageReply staged = Stage(caller(), request);
  ASSERT_TRUE(staged.status.ok()) << staged.status.ToString();
  EXPECT_EQ(staged.checksums, ChecksumRange(kTarget, 777, Part(data, 5'001, 100'000)));
  EXPECT_TRUE(MutateStaged(caller(), staged.token, Write(request, staged)).status.ok());
}

TEST_F(StageTest, ACarrierThatIsAnotherServerThanNamedIsNotBelieved) {
  DataNode there(kThere);
  Caller other(there.peer());
  WriteChunk(other, kSource, Pattern(200'000, 2));
  auto request = Request(0, 0, 1000);
  request.carriers = {{ServerId{9}, there.peer().address}};
  const wire::StageReply staged = Stage(caller(), request);
  EXPECT_EQ(staged.status.code(), StatusCode::kUnavailable);
  EXPECT_NE(staged.status.message().find("cs8, not cs9"), std::string::npos) << staged.status.message();
}

TEST_F(StageTest, ADamagedReplicaIsReportedAndAnotherOneAsked) {
  DataNode there(kThere);
  const auto data = Pattern(200'000, 3);
  Caller other(there.peer());
  WriteChunk(other, kSource, data);
  WriteChunk(caller(), kSource, data);
  node().store().DamageBlock(kSource, 3);
  auto request = Request(0, 0, 50'000);
  const wire::StageReply alone = Stage(caller(), request);
  EXPECT_FALSE(alone.status.ok());
  request.carriers = {{kThere, there.peer().address}};
  const wire::StageReply staged = Stage(caller(), request);
  ASSERT_TRUE(staged.status.ok()) << staged.status.ToString();
  EXPECT_EQ(staged.checksums, ChecksumRange(kTarget, 0, Part(data, 0, 50'000)));
  const auto damages = node().damages();
  ASSERT_FALSE(damages.empty());
  EXPECT_EQ(damages[0].chunk, kSource);
}

TEST_F(StageTest, OnlyTheExactStampIsStaged) {
  const auto data = Pattern(100'000, 4);
  WriteChunk(caller(), kSource, data);
  ASSERT_TRUE(caller().Mutate(WriteRequest(kSource, At(2), std::nullopt, 0, data), data)->status.ok());
  EXPECT_FALSE(Stage(caller(), Request(0, 0, 1000)).status.ok());
  auto request = Request(0, 0, 1000);
  request.want = At(2);
  EXPECT_TRUE(Stage(caller(), request).status.ok());
  request.want = At(3);
  EXPECT_FALSE(Stage(caller(), request).status.ok());
}

TEST_F(StageTest, NonsenseIsRefusedAndKeepsNoRoom) {
  WriteChunk(caller(), kSource, Pattern(100'000, 5));
  EXPECT_EQ(Stage(caller(), Request(99'999, 0, 2)).status.code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(Stage(caller(), Request(1ull << 60, 0, 2)).status.code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(Stage(caller(), Request(0, UINT64_MAX, 2)).status.code(), StatusCode::kInvalidArgument);
  auto request = Request(0, 0, 2);
  request.chunk = {};
  EXPECT_EQ(Stage(caller(), request).status.code(), StatusCode::kInvalidArgument);
  request = Request(0, 0, 2);
  request.source = ChunkId{99};
  EXPECT_EQ(Stage(caller(), request).status.code(), StatusCode::kUnavailable);
  EXPECT_EQ(node().service().staged_bytes(), 0u);
}

TEST_F(StageTest, ATokenIsGoodForOneWriteOfItsRangeOnItsConnection) {
  WriteChunk(caller(), kSource, Pattern(100'000, 6));
  const auto request = Request(0, 0, 1000);
  const wire::StageReply staged = Stage(caller(), request);
  ASSERT_TRUE(staged.status.ok());
  Caller stranger(node().peer());
  EXPECT_EQ(MutateStaged(stranger, staged.token, Write(request, staged)).status.code(), StatusCode::kNotFound);
  auto elsewhere = Write(request, staged);
  elsewhere.mutation.offset = 4096;
  EXPECT_EQ(MutateStaged(caller(), staged.token, elsewhere).status.code(), StatusCode::kNotFound);
  replication::ReplicaInfo info;
  EXPECT_EQ(node().disks().Query(kTarget, &info).code(), StatusCode::kUnknownChunk) << "something was applied";
  // A mutation that comes too early does not use it up.
  auto early = Write(request, staged, 1);
  early.mutation.seq = 2;
  early.mutation.begin = std::nullopt;
  EXPECT_FALSE(MutateStaged(caller(), staged.token, early).status.ok());
  const wire::StageReply again = Stage(caller(), request);
  ASSERT_TRUE(MutateStaged(caller(), again.token, Write(request, again)).status.ok());
  EXPECT_EQ(MutateStaged(caller(), again.token, Write(request, again, 2)).status.code(), StatusCode::kNotFound);
  auto gap = Write(request, staged, 5);
  const wire::StageReply third = Stage(caller(), request);
  EXPECT_EQ(MutateStaged(caller(), third.token, gap).status.code(), StatusCode::kSequenceGap);
  EXPECT_TRUE(MutateStaged(caller(), third.token, Write(request, third, 2)).status.ok());
}

TEST_F(StageTest, WrongChecksumsAreRefusedLikeThoseOfAnyWrite) {
  WriteChunk(caller(), kSource, Pattern(100'000, 7));
  const auto request = Request(0, 0, 1000);
  const wire::StageReply staged = Stage(caller(), request);
  auto write = Write(request, staged);
  write.checksums[0] ^= 1;
  EXPECT_EQ(MutateStaged(caller(), staged.token, write).status.code(), StatusCode::kCorrupt);
}

TEST_F(StageTest, WhatIsStagedIsBoundedPerConnectionAndInAll) {
  options_.staging = {.bytes_per_connection = 100'000, .pieces_per_connection = 4, .bytes = 150'000};
  WriteChunk(caller(), kSource, Pattern(100'000, 8));
  ASSERT_TRUE(Stage(caller(), Request(0, 0, 90'000)).status.ok());
  EXPECT_EQ(Stage(caller(), Request(0, 0, 20'000)).status.code(), StatusCode::kResourceExhausted);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(Stage(caller(), Request(0, 0, 10)).status.ok());
  EXPECT_EQ(Stage(caller(), Request(0, 0, 10)).status.code(), StatusCode::kResourceExhausted) << "a fifth piece";
  auto second = std::make_unique<Caller>(node().peer());
  EXPECT_EQ(Stage(*second, Request(0, 0, 80'000)).status.code(), StatusCode::kResourceExhausted);
  EXPECT_TRUE(Stage(*second, Request(0, 0, 50'000)).status.ok());
  EXPECT_EQ(node().service().staged_bytes(), 140'030u);
  second.reset();
  EXPECT_TRUE(Eventually([&] { return node().service().staged_bytes() == 90'030; })) << "a closed connection keeps nothing";
}

TEST_F(StageTest, WhatIsNotUsedForLongGoes) {
  options_.staging.keep_ms = 0;
  WriteChunk(caller(), kSource, Pattern(100'000, 9));
  const auto request = Request(0, 0, 50'000);
  const wire::StageReply staged = Stage(caller(), request);
  ASSERT_TRUE(staged.status.ok());
  EXPECT_TRUE(Eventually([&] { return node().service().staged_bytes() == 0; }));
  EXPECT_EQ(MutateStaged(caller(), staged.token, Write(request, staged)).status.code(), StatusCode::kNotFound);
}

TEST(StagingAreaTest, AClosedAreaGivesEverythingBackOnce) {
  const auto budget = std::make_shared<StagingBudget>(1000);
  StagingArea area(budget, {});
  ASSERT_TRUE(area.Reserve(300).ok());
  ASSERT_TRUE(area.Reserve(400).ok());
  EXPECT_EQ(area.Reserve(400).code(), StatusCode::kResourceExhausted);
  EXPECT_NE(area.Keep({.length = 300}, net::SharedBytes::Own(std::vector<std::byte>(300)), 1), 0u);
  EXPECT_EQ(budget->used_bytes(), 700u);
  area.Close();
  EXPECT_EQ(budget->used_bytes(), 0u);
  // The request that was under way ends afterwards.
  area.Release(400);
  EXPECT_EQ(area.Keep({.length = 300}, net::SharedBytes::Own(std::vector<std::byte>(300)), 1), 0u);
  EXPECT_EQ(area.Reserve(1).code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(budget->used_bytes(), 0u);
}

}  // namespace
}  // namespace cairn::chunkserver
