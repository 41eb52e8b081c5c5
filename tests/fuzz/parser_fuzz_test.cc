// Every parser of bytes from the wire, the disk or a configuration, over mutations of valid inputs: it does
// not crash, reads nothing beyond its input (the sanitizer presets see to that), and what it accepts is a
// value: written again and read again it is the same.
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <optional>
#include <string>

#include "chunkserver/store/chunk_entry.h"
#include "chunkserver/store/record.h"
#include "chunkserver/store/segment_file.h"
#include "cli/core/policy_text.h"
#include "common/checksum.h"
#include "common/net/address.h"
#include "common/net/control_connection.h"
#include "common/wire/frame.h"
#include "common/wire/messages.h"
#include "tests/fuzz/mutator.h"

namespace cairn::fuzz {
namespace {

constexpr uint64_t kRounds = 20'000;

Bytes FromText(const std::string& text) {
  const auto bytes = std::as_bytes(std::span(text));
  return Bytes(bytes.begin(), bytes.end());
}
std::string ToText(std::span<const std::byte> bytes) {
  return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

// `decode` answers with the value written again, or nothing when the input is refused.
using Decode = std::function<std::optional<Bytes>(const Bytes&)>;
// Makes checksums right again, so that what lies behind them is reached.
using Repair = std::function<void(Bytes*)>;

void Fuzz(const std::vector<Bytes>& valid, const Decode& decode, const Repair& repair = nullptr) {
  Mutator mutator(Seed());
  uint64_t accepted = 0;
  uint64_t refused = 0;
  for (const Bytes& input : valid) {
    const std::optional<Bytes> again = decode(input);
    ASSERT_TRUE(again.has_value()) << "a valid input is refused";
    ASSERT_EQ(*again, input);
  }
  const uint64_t rounds = Rounds(kRounds);
  for (uint64_t round = 0; round < rounds; ++round) {
    Bytes input = mutator.Mutate(valid[mutator.Below(valid.size())], valid[mutator.Below(valid.size())]);
    if (repair != nullptr && mutator.Below(8) != 0) repair(&input);
    const std::optional<Bytes> once = decode(input);
    if (!once) {
      ++refused;
      continue;
    }
    ++accepted;
    const std::optional<Bytes> twice = decode(*once);
    ASSERT_TRUE(twice.has_value()) << "round " << round
                                   << ": what was accepted is refused when it is written again";
    ASSERT_EQ(*twice, *once) << "round " << round;
  }
  EXPECT_GT(refused, 0u);
  testing::Test::RecordProperty("accepted", static_cast<int>(accepted));
}

// A decoder of a message of the data plane.
template <typename Message>
Decode Meta(Result<Message> (*decode)(std::span<const std::byte>)) {
  return [decode](const Bytes& bytes) -> std::optional<Bytes> {
    // Exactly as many bytes as there are: a read beyond them is beyond the allocation.
    const Bytes exact(bytes.begin(), bytes.end());
    const Result<Message> message = decode(exact);
    if (!message.ok()) return std::nullopt;
    return wire::Encode(*message);
  };
}

replication::ReplicaInfo Info() {
  replication::ReplicaInfo info;
  info.chunk = ChunkId{7};
  info.promised = Epoch{9};
  info.accepted = {Epoch{9}, 4};
  info.durable = {Epoch{9}, 3};
  info.length = 5000;
  return info;
}

TEST(ParserFuzz, FrameHeaders) {
  std::vector<Bytes> valid;
  for (const wire::FrameHeader& header :
       {wire::FrameHeader{
            .type = 2, .request_id = 77, .meta_bytes = 100, .data_bytes = 1 << 20, .meta_crc = 5},
        wire::FrameHeader{.type = 1, .request_id = 0, .meta_bytes = 0, .data_bytes = 0, .meta_crc = 0},
        wire::FrameHeader{.type = 0x83,
        .request_id = ~0ull,
        .meta_bytes = wire::kMaxMetaBytes,
        .data_bytes = wire::kMaxDataBytes,
        .meta_crc = ~0u}}) {
    const auto bytes = wire::EncodeHeader(header);
    valid.emplace_back(bytes.begin(), bytes.end());
  }
  Fuzz(
      valid,
      [](const Bytes& bytes) -> std::optional<Bytes> {
        if (bytes.size() != wire::kHeaderBytes) return std::nullopt;
        const auto header =
            wire::DecodeHeader(std::span<const std::byte, wire::kHeaderBytes>(bytes.data(), 32));
        if (!header.ok()) return std::nullopt;
        EXPECT_LE(header->meta_bytes, wire::kMaxMetaBytes);
        EXPECT_LE(header->data_bytes, wire::kMaxDataBytes);
        const auto again = wire::EncodeHeader(*header);
        return Bytes(again.begin(), again.end());
      },
      [](Bytes* bytes) {
        bytes->resize(wire::kHeaderBytes);
        const uint32_t crc = Crc32c(std::span(*bytes).first(28));
        std::memcpy(bytes->data() + 28, &crc, sizeof crc);
      });
}

TEST(ParserFuzz, Greetings) {
  wire::HelloRequest request;
  request.cluster = Uuid{1, 2};
  request.expected_server = ServerId{3};
  request.name = "somebody";
  Fuzz({wire::Encode(request)}, Meta(&wire::DecodeHelloRequest));
  wire::HelloReply reply;
  reply.status = Status(StatusCode::kWrongCluster, "another one");
  reply.boot = Uuid{4, 5};
  Fuzz({wire::Encode(reply)}, Meta(&wire::DecodeHelloReply));
}

TEST(ParserFuzz, Mutations) {
  wire::MutateRequest write;
  write.mutation = {.chunk = ChunkId{7},
                    .epoch = Epoch{9},
                    .seq = 5,
                    .begin = Stamp{Epoch{8}, 4},
                    .kind = replication::MutationKind::kWrite,
                    .offset = 4096,
                    .length = 9000};
  write.checksums = {1, 2, 3};
  wire::MutateRequest truncate;
  truncate.mutation = {.chunk = ChunkId{7},
                       .epoch = Epoch{9},
                       .seq = 6,
                       .begin = std::nullopt,
                       .kind = replication::MutationKind::kTruncate,
                       .offset = 100,
                       .length = 0};
  Fuzz({wire::Encode(write), wire::Encode(truncate)}, Meta(&wire::DecodeMutateRequest));
  Fuzz({wire::Encode(wire::MutateReply{Status::Ok(), Info()}),
        wire::Encode(wire::MutateReply{Status(StatusCode::kFenced, "too late"), Info()})},
       Meta(&wire::DecodeMutateReply));
}

TEST(ParserFuzz, Reads) {
  Fuzz({wire::Encode(wire::ReadRequest{ChunkId{7}, {Epoch{5}, 1}, true, 4096, 5000})},
       Meta(&wire::DecodeReadRequest));
  wire::ReadReply reply;
  reply.stamp = {Epoch{5}, 1};
  reply.chunk_length = 10'000;
  reply.offset = 4096;
  reply.checksums = {7, 8};
  Fuzz({wire::Encode(reply)}, Meta(&wire::DecodeReadReply));
}

TEST(ParserFuzz, Batches) {
  Fuzz({wire::Encode(wire::FlushRequest{{ChunkId{1}, ChunkId{2}}})}, Meta(&wire::DecodeFlushRequest));
  Fuzz({wire::Encode(wire::SealRequest{{{ChunkId{1}, {Epoch{6}, 1}}, {ChunkId{2}, {Epoch{7}, 9}}}})},
       Meta(&wire::DecodeSealRequest));
  Fuzz({wire::Encode(wire::BeginRequest{{{ChunkId{1}, Epoch{7}, {Epoch{6}, 1}}}})},
       Meta(&wire::DecodeBeginRequest));
  Fuzz({wire::Encode(wire::QueryRequest{{ChunkId{1}}})}, Meta(&wire::DecodeQueryRequest));
  wire::BatchReply reply;
  reply.items.push_back({Status::Ok(), Info(), 8192});
  reply.items.push_back({Status(StatusCode::kUnknownChunk, "no such chunk here"), Info(), 0});
  Fuzz({wire::Encode(reply)}, Meta(&wire::DecodeBatchReply));
}

TEST(ParserFuzz, StageAndMutateStaged) {
  Fuzz({wire::Encode(wire::StageRequest{.source = ChunkId{7},
                                        .want = {Epoch{5}, 1},
                                        .source_offset = 4096,
                                        .chunk = ChunkId{9},
                                        .offset = 100,
                                        .length = 65'536,
                                        .carriers = {{ServerId{1}, "10.0.0.1:9410"}, {ServerId{2}, "[::1]:9410"}}})},
       Meta(&wire::DecodeStageRequest));
  Fuzz({wire::Encode(wire::StageReply{Status::Ok(), 3, {1, 2, 3}}),
        wire::Encode(wire::StageReply{.status = Status(StatusCode::kStaleReplica, "older")})},
       Meta(&wire::DecodeStageReply));
  wire::MutateRequest write;
  write.mutation = {.chunk = ChunkId{7}, .epoch = Epoch{5}, .seq = 2, .begin = Stamp{Epoch{4}, 1}, .offset = 100, .length = 9000};
  write.checksums = {1, 2, 3};
  Fuzz({wire::Encode(wire::MutateStagedRequest{3, write})}, Meta(&wire::DecodeMutateStagedRequest));
}

TEST(ParserFuzz, DigestsAndExtents) {
  Fuzz({wire::Encode(wire::DigestsRequest{ChunkId{7}, {Epoch{5}, 1}, 0, 4 * wire::kDigestRangeBytes})},
       Meta(&wire::DecodeDigestsRequest));
  wire::DigestsReply digests;
  digests.chunk_length = 100'000;
  digests.digests.resize(2);
  Fuzz({wire::Encode(digests)}, Meta(&wire::DecodeDigestsReply));
  Fuzz({wire::Encode(wire::ExtentsRequest{ChunkId{7}, {Epoch{5}, 1}, false, 4096})},
       Meta(&wire::DecodeExtentsRequest));
  wire::ExtentsReply extents;
  extents.chunk_length = 100'000;
  extents.complete_to = 100'000;
  extents.ranges = {{0, 4096}, {8192, 4096}};
  Fuzz({wire::Encode(extents)}, Meta(&wire::DecodeExtentsReply));
}

TEST(ParserFuzz, EndsOfControlConnections) {
  Fuzz({net::EncodeControlEnd(Status(StatusCode::kUnavailable, "gone"))},
       [](const Bytes& bytes) -> std::optional<Bytes> {
         if (bytes.size() < 2) {
           EXPECT_FALSE(net::DecodeControlEnd(bytes).ok());
           return std::nullopt;
         }
         return net::EncodeControlEnd(net::DecodeControlEnd(bytes));
       });
}

chunkserver::Record WriteRecord() {
  chunkserver::Record record;
  record.type = chunkserver::RecordType::kWrite;
  record.chunk = ChunkId{42};
  record.state.promised = Epoch{17};
  record.state.accepted = {Epoch{17}, 1};
  record.state.length = 5;
  record.first_segment = 3;
  record.synced = {3, 160};
  record.previous_end = 160;
  record.extents.push_back({.block = 0, .bytes = 5, .at = {}, .checksums = {99}});
  record.payload_bytes = 5;
  return record;
}

TEST(ParserFuzz, RecordsOfSegments) {
  constexpr chunkserver::LogPosition kAt{3, 160};
  chunkserver::Record map = WriteRecord();
  map.type = chunkserver::RecordType::kMap;
  map.payload_bytes = 0;
  map.extents[0].at = {2, 4096};
  map.extents.push_back({.block = 9, .bytes = 8192, .at = {2, 12288}, .checksums = {1, 2}});
  chunkserver::Record state;
  state.chunk = ChunkId{43};
  state.state.promised = Epoch{18};
  state.previous_end = 160;
  const std::vector<Bytes> valid = {chunkserver::EncodeHead(WriteRecord(), kAt),
                                    chunkserver::EncodeHead(map, kAt), chunkserver::EncodeHead(state, kAt)};
  Fuzz(
      valid,
      [&](const Bytes& head) -> std::optional<Bytes> {
        if (head.size() < chunkserver::kRecordHeaderBytes) return std::nullopt;
        const auto size = chunkserver::PeekSize(std::span(head).first(chunkserver::kRecordHeaderBytes), kAt);
        if (!size.ok()) return std::nullopt;
        EXPECT_LE(size->table_bytes, chunkserver::kMaxTableBytes);
        EXPECT_LE(size->payload_bytes, chunkserver::kMaxPayloadBytes);
        if (head.size() != size->head_bytes()) return std::nullopt;
        const auto record = chunkserver::DecodeHead(head, kAt);
        if (!record.ok()) return std::nullopt;
        return chunkserver::EncodeHead(*record, kAt);
      },
      [](Bytes* head) {
        if (head->size() < chunkserver::kRecordHeaderBytes) return;
        const uint32_t crc = Crc32c(std::span(*head).subspan(8));
        std::memcpy(head->data() + 4, &crc, sizeof crc);
      });
}

TEST(ParserFuzz, RecordsOfTheIndex) {
  const chunkserver::Record record = WriteRecord();
  chunkserver::SegmentLog::Place place;
  const chunkserver::ChunkEntry entry = chunkserver::NextEntry(nullptr, record, place);
  chunkserver::ChunkEntry corrupt = entry;
  corrupt.corrupt = true;
  corrupt.state.sync_base = Stamp{Epoch{3}, 4};
  Fuzz({FromText(chunkserver::EncodeEntry(entry)), FromText(chunkserver::EncodeEntry(corrupt))},
       [](const Bytes& bytes) -> std::optional<Bytes> {
         const auto decoded = chunkserver::DecodeEntry(ToText(bytes));
         if (!decoded) return std::nullopt;
         return FromText(chunkserver::EncodeEntry(*decoded));
       });
  const chunkserver::Extent extent{.block = 4, .bytes = 8192, .at = {2, 4096}, .checksums = {5, 6}};
  Fuzz({FromText(chunkserver::EncodeExtent(extent))}, [](const Bytes& bytes) -> std::optional<Bytes> {
    const auto decoded = chunkserver::DecodeExtent(4, ToText(bytes));
    if (!decoded) return std::nullopt;
    return FromText(chunkserver::EncodeExtent(*decoded));
  });
}

TEST(ParserFuzz, Texts) {
  Mutator mutator(Seed());
  const std::vector<Bytes> addresses = {FromText("127.0.0.1:9400"), FromText("[::1]:9410"),
                                        FromText("host.example:1")};
  const std::vector<Bytes> policies = {
      FromText("replicas=3,write_quorum=2,chunk_bytes=64MiB,failure_domain=rack,storage_class=ssd"),
      FromText("replicas=inherit,trash=7d")};
  const uint64_t rounds = Rounds(kRounds);
  for (uint64_t round = 0; round < rounds; ++round) {
    const std::string address =
        ToText(mutator.Mutate(addresses[mutator.Below(3)], addresses[mutator.Below(3)]));
    (void)net::ParseHostPort(address, 9400);
    (void)chunkserver::ParseSegmentFileName(address);
    const std::string text = ToText(mutator.Mutate(policies[mutator.Below(2)], policies[mutator.Below(2)]));
    const auto policy = cli::ParsePolicy(text, {});
    if (!policy.ok()) {
      EXPECT_FALSE(policy.status().message().empty());
      continue;
    }
    const std::string printed = cli::PolicyText(*policy);
    EXPECT_FALSE(printed.empty() && policy->replicas != 0) << text;
  }
}

}  // namespace
}  // namespace cairn::fuzz
