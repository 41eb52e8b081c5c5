#include "common/wire/messages.h"

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <random>

#include "common/checksum.h"

namespace cairn::wire {
namespace {

using replication::MutationKind;
using replication::ReplicaInfo;

ReplicaInfo ExampleInfo() {
  ReplicaInfo info;
  info.chunk = ChunkId{42};
  info.promised = Epoch{9};
  info.accepted = {Epoch{8}, 77};
  info.durable = {Epoch{7}, 70};
  info.length = 123456789;
  info.sealed = Epoch{6};
  info.tombstone = Epoch{5};
  info.amnesic = true;
  return info;
}

void ExpectSame(const Status& a, const Status& b) {
  EXPECT_EQ(a.code(), b.code());
  EXPECT_EQ(a.message(), b.message());
}

TEST(MessagesTest, HelloRequestRoundTrip) {
  const HelloRequest m{Uuid{1, 2}, ServerId{3}, PeerKind::kChunkserver, "cs3"};
  const auto d = DecodeHelloRequest(Encode(m));
  ASSERT_TRUE(d.ok()) << d.status().ToString();
  EXPECT_EQ(d->cluster, m.cluster);
  EXPECT_EQ(d->expected_server, m.expected_server);
  EXPECT_EQ(d->kind, m.kind);
  EXPECT_EQ(d->name, m.name);
}

TEST(MessagesTest, HelloNameIsCutToItsLimit) {
  const auto d = DecodeHelloRequest(Encode(HelloRequest{.name = std::string(300, 'x')}));
  ASSERT_TRUE(d.ok());
  EXPECT_EQ(d->name.size(), 255u);
}

TEST(MessagesTest, HelloReplyRoundTrip) {
  const HelloReply m{Status(StatusCode::kWrongCluster, "no"), Uuid{1, 2}, ServerId{3}, Uuid{4, 5}, 6};
  const auto d = DecodeHelloReply(Encode(m));
  ASSERT_TRUE(d.ok()) << d.status().ToString();
  ExpectSame(d->status, m.status);
  EXPECT_EQ(d->cluster, m.cluster);
  EXPECT_EQ(d->server, m.server);
  EXPECT_EQ(d->boot, m.boot);
  EXPECT_EQ(d->incarnation, m.incarnation);
}

MutateRequest ExampleMutate(bool begin) {
  MutateRequest m;
  m.mutation.chunk = ChunkId{11};
  m.mutation.epoch = Epoch{12};
  m.mutation.seq = 13;
  if (begin) m.mutation.begin = Stamp{Epoch{10}, 12};
  m.mutation.kind = MutationKind::kZero;
  m.mutation.offset = 4096;
  m.mutation.length = 8192;
  m.checksums = {1, 2, 0xffffffff};
  return m;
}

TEST(MessagesTest, MutateRequestRoundTrip) {
  for (bool begin : {false, true}) {
    const MutateRequest m = ExampleMutate(begin);
    const auto d = DecodeMutateRequest(Encode(m));
    ASSERT_TRUE(d.ok()) << d.status().ToString();
    EXPECT_EQ(d->mutation.chunk, m.mutation.chunk);
    EXPECT_EQ(d->mutation.epoch, m.mutation.epoch);
    EXPECT_EQ(d->mutation.seq, m.mutation.seq);
    EXPECT_EQ(d->mutation.begin, m.mutation.begin);
    EXPECT_EQ(d->mutation.kind, m.mutation.kind);
    EXPECT_EQ(d->mutation.offset, m.mutation.offset);
    EXPECT_EQ(d->mutation.length, m.mutation.length);
    EXPECT_EQ(d->checksums, m.checksums);
  }
}

TEST(MessagesTest, MutateReplyRoundTrip) {
  const MutateReply m{Status(StatusCode::kFenced, "fenced"), ExampleInfo()};
  const auto d = DecodeMutateReply(Encode(m));
  ASSERT_TRUE(d.ok()) << d.status().ToString();
  ExpectSame(d->status, m.status);
  EXPECT_EQ(d->info, m.info);
}

TEST(MessagesTest, ReadRequestRoundTrip) {
  const ReadRequest m{ChunkId{5}, {Epoch{6}, 7}, false, 4097, kMaxTransferBytes};
  const auto d = DecodeReadRequest(Encode(m));
  ASSERT_TRUE(d.ok()) << d.status().ToString();
  EXPECT_EQ(d->chunk, m.chunk);
  EXPECT_EQ(d->want, m.want);
  EXPECT_EQ(d->exact, m.exact);
  EXPECT_EQ(d->offset, m.offset);
  EXPECT_EQ(d->length, m.length);
}

TEST(MessagesTest, ReadRequestLengthIsLimited) {
  EXPECT_EQ(DecodeReadRequest(Encode(ReadRequest{.length = 0})).code(), StatusCode::kMalformed);
  EXPECT_EQ(DecodeReadRequest(Encode(ReadRequest{.length = kMaxTransferBytes + 1})).code(),
            StatusCode::kMalformed);
}

TEST(MessagesTest, ReadReplyRoundTrip) {
  const ReadReply m{Status(StatusCode::kStaleReplica, "old"), {Epoch{6}, 7}, 99, 4096, {8, 9}};
  const auto d = DecodeReadReply(Encode(m));
  ASSERT_TRUE(d.ok()) << d.status().ToString();
  ExpectSame(d->status, m.status);
  EXPECT_EQ(d->stamp, m.stamp);
  EXPECT_EQ(d->chunk_length, m.chunk_length);
  EXPECT_EQ(d->offset, m.offset);
  EXPECT_EQ(d->checksums, m.checksums);
}

TEST(MessagesTest, ChecksumsOfTheLargestUnalignedTransferFit) {
  ReadReply m;
  m.checksums.resize(kMaxDataBytes / kBlockBytes + 1, 7);
  EXPECT_TRUE(DecodeReadReply(Encode(m)).ok());
  m.checksums.push_back(7);
  EXPECT_EQ(DecodeReadReply(Encode(m)).code(), StatusCode::kMalformed);
}

TEST(MessagesTest, ListsRoundTrip) {
  const std::vector<ChunkId> chunks{ChunkId{1}, ChunkId{2}, ChunkId{UINT64_MAX}};
  const auto flush = DecodeFlushRequest(Encode(FlushRequest{chunks}));
  ASSERT_TRUE(flush.ok());
  EXPECT_EQ(flush->chunks, chunks);
  const auto query = DecodeQueryRequest(Encode(QueryRequest{chunks}));
  ASSERT_TRUE(query.ok());
  EXPECT_EQ(query->chunks, chunks);

  const auto seal =
      DecodeSealRequest(Encode(SealRequest{{{ChunkId{1}, {Epoch{2}, 3}}, {ChunkId{4}, {Epoch{5}, 6}}}}));
  ASSERT_TRUE(seal.ok());
  ASSERT_EQ(seal->items.size(), 2u);
  EXPECT_EQ(seal->items[1].chunk, ChunkId{4});
  EXPECT_EQ(seal->items[1].stamp, (Stamp{Epoch{5}, 6}));

  const auto begin = DecodeBeginRequest(Encode(BeginRequest{{{ChunkId{1}, Epoch{9}, {Epoch{2}, 3}}}}));
  ASSERT_TRUE(begin.ok());
  ASSERT_EQ(begin->items.size(), 1u);
  EXPECT_EQ(begin->items[0].epoch, Epoch{9});
  EXPECT_EQ(begin->items[0].base, (Stamp{Epoch{2}, 3}));
}

TEST(MessagesTest, ListsAreLimited) {
  EXPECT_TRUE(DecodeFlushRequest(Encode(FlushRequest{std::vector<ChunkId>(kMaxBatchItems)})).ok());
  EXPECT_EQ(DecodeFlushRequest(Encode(FlushRequest{std::vector<ChunkId>(kMaxBatchItems + 1)})).code(),
            StatusCode::kMalformed);
}

TEST(MessagesTest, BatchReplyRoundTrip) {
  BatchReply m;
  m.items = {{Status::Ok(), ExampleInfo(), 12'288}, {Status(StatusCode::kUnknownChunk, "unknown"), {}}};
  const auto d = DecodeBatchReply(Encode(m));
  ASSERT_TRUE(d.ok()) << d.status().ToString();
  ASSERT_EQ(d->items.size(), 2u);
  EXPECT_TRUE(d->items[0].status.ok());
  EXPECT_EQ(d->items[0].info, ExampleInfo());
  EXPECT_EQ(d->items[0].allocated_bytes, 12'288u);
  ExpectSame(d->items[1].status, m.items[1].status);
}

StageRequest ExampleStage() {
  return {.source = ChunkId{7},
          .want = {Epoch{3}, 9},
          .source_offset = 12'345,
          .chunk = ChunkId{8},
          .offset = 99,
          .length = 1'000'000,
          .carriers = {{ServerId{1}, "10.0.0.1:9410"}, {ServerId{2}, "host:1"}}};
}

MutateStagedRequest ExampleMutateStaged() {
  MutateStagedRequest request{7, ExampleMutate(true)};
  request.mutate.mutation.kind = MutationKind::kWrite;
  return request;
}

TEST(MessagesTest, StageRequestsAndRepliesRoundTrip) {
  const StageRequest request = ExampleStage();
  const auto asked = DecodeStageRequest(Encode(request));
  ASSERT_TRUE(asked.ok()) << asked.status().ToString();
  EXPECT_EQ(asked->source, request.source);
  EXPECT_EQ(asked->want, request.want);
  EXPECT_EQ(asked->source_offset, request.source_offset);
  EXPECT_EQ(asked->chunk, request.chunk);
  EXPECT_EQ(asked->offset, request.offset);
  EXPECT_EQ(asked->length, request.length);
  ASSERT_EQ(asked->carriers.size(), 2u);
  EXPECT_EQ(asked->carriers[1].server, ServerId{2});
  EXPECT_EQ(asked->carriers[1].address, "host:1");
  const auto told = DecodeStageReply(Encode(StageReply{Status::Ok(), 7, {1, 2, 3}}));
  ASSERT_TRUE(told.ok());
  EXPECT_EQ(told->token, 7u);
  EXPECT_EQ(told->checksums, (std::vector<uint32_t>{1, 2, 3}));
  const auto refused = DecodeStageReply(Encode(StageReply{.status = Status(StatusCode::kStaleReplica, "old")}));
  ASSERT_TRUE(refused.ok());
  EXPECT_EQ(refused->status.code(), StatusCode::kStaleReplica);
}

TEST(MessagesTest, AStageRequestOfNoLengthOrTooManyCarriersIsRefused) {
  StageRequest request = ExampleStage();
  for (uint32_t length : {0u, kMaxTransferBytes + 1}) {
    request.length = length;
    EXPECT_EQ(DecodeStageRequest(Encode(request)).code(), StatusCode::kMalformed) << length;
  }
  request.length = kMaxTransferBytes;
  EXPECT_TRUE(DecodeStageRequest(Encode(request)).ok());
  // The encoder sends no more than are allowed.
  request.carriers.resize(kMaxCarriers + 5, {ServerId{1}, std::string(300, 'a')});
  const auto cut = DecodeStageRequest(Encode(request));
  ASSERT_TRUE(cut.ok()) << cut.status().ToString();
  EXPECT_EQ(cut->carriers.size(), kMaxCarriers);
  EXPECT_EQ(cut->carriers.back().address.size(), 255u);
  Bytes bytes = Encode(ExampleStage());
  const size_t count_at = 8 + 16 + 8 + 8 + 8 + 4;
  bytes[count_at] = std::byte{kMaxCarriers + 1};
  EXPECT_EQ(DecodeStageRequest(bytes).code(), StatusCode::kMalformed);
}

TEST(MessagesTest, AStagedMutationIsAWriteUnderAToken) {
  MutateStagedRequest request = ExampleMutateStaged();
  const auto decoded = DecodeMutateStagedRequest(Encode(request));
  ASSERT_TRUE(decoded.ok()) << decoded.status().ToString();
  EXPECT_EQ(decoded->token, 7u);
  EXPECT_EQ(decoded->mutate.mutation.seq, request.mutate.mutation.seq);
  EXPECT_EQ(decoded->mutate.checksums, request.mutate.checksums);
  request.mutate.mutation.kind = MutationKind::kZero;
  EXPECT_EQ(DecodeMutateStagedRequest(Encode(request)).code(), StatusCode::kMalformed);
}

TEST(MessagesTest, ExtentsRoundTripAndRefuseNonsense) {
  const ExtentsRequest request{.chunk = ChunkId{7}, .want = {Epoch{3}, 9}, .exact = false, .offset = 4096};
  const auto asked = DecodeExtentsRequest(Encode(request));
  ASSERT_TRUE(asked.ok()) << asked.status().ToString();
  EXPECT_EQ(asked->chunk, request.chunk);
  EXPECT_EQ(asked->want, request.want);
  EXPECT_FALSE(asked->exact);
  EXPECT_EQ(asked->offset, 4096u);
  ExtentsReply reply{.status = Status::Ok(), .chunk_length = 100'000, .complete_to = 100'000, .ranges = {{4096, 8192}, {20'480, 10}}};
  const auto told = DecodeExtentsReply(Encode(reply));
  ASSERT_TRUE(told.ok()) << told.status().ToString();
  EXPECT_EQ(told->chunk_length, 100'000u);
  EXPECT_EQ(told->ranges, reply.ranges);
  for (const std::vector<DataRange>& bad : std::vector<std::vector<DataRange>>{
           {{0, 0}}, {{4096, 10}, {0, 10}}, {{0, 10}, {5, 10}}, {{90'000, 20'000}}, {{UINT64_MAX, 2}}}) {
    reply.ranges = bad;
    EXPECT_EQ(DecodeExtentsReply(Encode(reply)).code(), StatusCode::kMalformed);
  }
}

TEST(MessagesTest, FullBatchOfLongExplanationsFitsIntoAFrame) {
  BatchReply m;
  m.status = Status(StatusCode::kIoError, std::string(70'000, 'x'));
  m.items.assign(kMaxBatchItems, {Status(StatusCode::kFenced, std::string(5000, 'y')), ExampleInfo()});
  const Bytes bytes = Encode(m);
  EXPECT_LE(bytes.size(), kMaxMetaBytes);
  const auto d = DecodeBatchReply(bytes);
  ASSERT_TRUE(d.ok()) << d.status().ToString();
  EXPECT_EQ(d->items.back().status.code(), StatusCode::kFenced);
  EXPECT_GT(d->items.back().status.message().size(), 50u);
}

TEST(MessagesTest, DigestsRoundTrip) {
  const DigestsRequest m{ChunkId{5}, {Epoch{6}, 7}, 2 * kDigestRangeBytes, 3 * kDigestRangeBytes};
  const auto d = DecodeDigestsRequest(Encode(m));
  ASSERT_TRUE(d.ok()) << d.status().ToString();
  EXPECT_EQ(d->chunk, m.chunk);
  EXPECT_EQ(d->want, m.want);
  EXPECT_EQ(d->offset, m.offset);
  EXPECT_EQ(d->length, m.length);

  DigestsReply r;
  r.chunk_length = 12;
  r.digests.resize(3);
  r.digests[2].fill(0xab);
  const auto e = DecodeDigestsReply(Encode(r));
  ASSERT_TRUE(e.ok()) << e.status().ToString();
  EXPECT_EQ(e->chunk_length, 12u);
  EXPECT_EQ(e->digests, r.digests);
}

TEST(MessagesTest, DigestRangesAreChecked) {
  const auto code = [](uint64_t offset, uint64_t length) {
    return DecodeDigestsRequest(Encode(DigestsRequest{ChunkId{1}, {}, offset, length})).code();
  };
  EXPECT_EQ(code(0, kDigestRangeBytes), StatusCode::kOk);
  EXPECT_EQ(code(1, kDigestRangeBytes), StatusCode::kMalformed);
  EXPECT_EQ(code(0, kDigestRangeBytes + 1), StatusCode::kMalformed);
  EXPECT_EQ(code(0, 0), StatusCode::kMalformed);
  EXPECT_EQ(code(0, 4097ull * kDigestRangeBytes), StatusCode::kMalformed);
  EXPECT_EQ(code(~uint64_t{kDigestRangeBytes - 1}, kDigestRangeBytes), StatusCode::kMalformed);
}

TEST(MessagesTest, UnknownStatusCodeBecomesIoError) {
  Bytes bytes = Encode(BatchReply{Status(StatusCode::kBusy, "later"), {}});
  bytes[0] = std::byte{0xe7};
  bytes[1] = std::byte{0x03};
  const auto d = DecodeBatchReply(bytes);
  ASSERT_TRUE(d.ok());
  EXPECT_EQ(d->status.code(), StatusCode::kIoError);
  EXPECT_NE(d->status.message().find("999"), std::string::npos);
}

// Every decoder, over bytes in an allocation of exactly their size so that a sanitizer sees any read beyond
// them.
const std::vector<std::pair<const char*, std::function<Status(std::span<const std::byte>)>>>& Decoders() {
  static const std::vector<std::pair<const char*, std::function<Status(std::span<const std::byte>)>>>
      decoders = {
          {"HelloRequest", [](auto b) { return DecodeHelloRequest(b).status(); }},
          {"HelloReply", [](auto b) { return DecodeHelloReply(b).status(); }},
          {"MutateRequest", [](auto b) { return DecodeMutateRequest(b).status(); }},
          {"MutateReply", [](auto b) { return DecodeMutateReply(b).status(); }},
          {"ReadRequest", [](auto b) { return DecodeReadRequest(b).status(); }},
          {"ReadReply", [](auto b) { return DecodeReadReply(b).status(); }},
          {"FlushRequest", [](auto b) { return DecodeFlushRequest(b).status(); }},
          {"SealRequest", [](auto b) { return DecodeSealRequest(b).status(); }},
          {"BeginRequest", [](auto b) { return DecodeBeginRequest(b).status(); }},
          {"QueryRequest", [](auto b) { return DecodeQueryRequest(b).status(); }},
          {"BatchReply", [](auto b) { return DecodeBatchReply(b).status(); }},
          {"DigestsRequest", [](auto b) { return DecodeDigestsRequest(b).status(); }},
          {"DigestsReply", [](auto b) { return DecodeDigestsReply(b).status(); }},
          {"StageRequest", [](auto b) { return DecodeStageRequest(b).status(); }},
          {"StageReply", [](auto b) { return DecodeStageReply(b).status(); }},
          {"MutateStagedRequest", [](auto b) { return DecodeMutateStagedRequest(b).status(); }},
      };
  return decoders;
}

Status DecodeExactly(const std::function<Status(std::span<const std::byte>)>& decode, const Bytes& bytes) {
  auto copy = std::make_unique<std::byte[]>(bytes.size());
  std::copy(bytes.begin(), bytes.end(), copy.get());
  return decode({copy.get(), bytes.size()});
}

std::vector<Bytes> Samples() {
  BatchReply batch;
  batch.items.assign(3, {Status(StatusCode::kFenced, "fenced"), ExampleInfo()});
  DigestsReply digests;
  digests.digests.resize(4);
  return {Encode(HelloRequest{.name = "peer"}),
          Encode(HelloReply{Status(StatusCode::kBusy, "busy"), Uuid{1, 2}, ServerId{3}, Uuid{4, 5}, 6}),
          Encode(ExampleMutate(true)),
          Encode(MutateReply{Status::Ok(), ExampleInfo()}),
          Encode(ReadRequest{.length = 5}),
          Encode(ReadReply{Status::Ok(), {}, 1, 2, {3, 4}}),
          Encode(FlushRequest{{ChunkId{1}, ChunkId{2}}}),
          Encode(SealRequest{{{ChunkId{1}, {}}}}),
          Encode(BeginRequest{{{ChunkId{1}, Epoch{2}, {}}}}),
          Encode(QueryRequest{{ChunkId{1}}}),
          Encode(batch),
          Encode(DigestsRequest{ChunkId{1}, {}, 0, kDigestRangeBytes}),
          Encode(digests),
          Encode(ExampleStage()),
          Encode(StageReply{Status::Ok(), 7, {1, 2, 3}}),
          Encode(ExampleMutateStaged())};
}

TEST(MessagesTest, TruncatedAndExtendedMessagesAreRefused) {
  const auto samples = Samples();
  ASSERT_EQ(samples.size(), Decoders().size());
  for (size_t i = 0; i < samples.size(); ++i) {
    const auto& [name, decode] = Decoders()[i];
    EXPECT_TRUE(DecodeExactly(decode, samples[i]).ok()) << name;
    for (size_t cut = 0; cut < samples[i].size(); ++cut) {
      const Bytes shorter(samples[i].begin(), samples[i].begin() + static_cast<ptrdiff_t>(cut));
      EXPECT_EQ(DecodeExactly(decode, shorter).code(), StatusCode::kMalformed) << name << " cut to " << cut;
    }
    Bytes longer = samples[i];
    longer.push_back(std::byte{0});
    EXPECT_EQ(DecodeExactly(decode, longer).code(), StatusCode::kMalformed) << name;
  }
}

TEST(MessagesTest, MutatedAndRandomBytesNeverConfuseADecoder) {
  std::mt19937_64 random(20261120);
  const auto samples = Samples();
  size_t accepted = 0;
  size_t refused = 0;
  for (int round = 0; round < 30'000; ++round) {
    Bytes bytes = samples[random() % samples.size()];
    switch (random() % 4) {
      case 0:
        for (auto& byte : bytes) byte = std::byte(random());
        break;
      case 1:
        bytes.resize(random() % 300, std::byte(random()));
        break;
      default:
        for (uint64_t flips = 1 + random() % 4; flips > 0; --flips) {
          bytes[random() % bytes.size()] = std::byte(random());
          if (bytes.empty()) break;
        }
    }
    for (const auto& [name, decode] : Decoders()) {
      const Status status = DecodeExactly(decode, bytes);
      EXPECT_TRUE(status.ok() || status.code() == StatusCode::kMalformed)
          << name << ": " << status.ToString();
      ++(status.ok() ? accepted : refused);
    }
  }
  // Both ways were taken: the mutations are neither all harmless nor all obvious.
  EXPECT_GT(accepted, 1000u);
  EXPECT_GT(refused, 1000u);
}

}  // namespace
}  // namespace cairn::wire
