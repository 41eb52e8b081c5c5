// The record format, byte for byte as docs/formats.md shows it, and what a decoder refuses.
#include "chunkserver/store/record.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <cstring>
#include <random>
#include <string>

namespace cairn::chunkserver {
namespace {

std::string Hex(std::span<const std::byte> bytes) {
  std::string text;
  char digits[4];
  for (const std::byte b : bytes) {
    std::snprintf(digits, sizeof(digits), "%02x", static_cast<unsigned>(b));
    text += digits;
  }
  return text;
}

// The worked example: "hello" written at the beginning of chunk 42, the first mutation of epoch 17.
Record Example() {
  Record record;
  record.type = RecordType::kWrite;
  record.chunk = ChunkId{42};
  record.state.promised = Epoch{17};
  record.state.accepted = {Epoch{17}, 1};
  record.state.length = 5;
  record.first_segment = 3;
  record.synced = {3, 160};
  record.previous_end = 160;
  Extent extent;
  extent.block = 0;
  extent.bytes = 5;
  const char text[] = "hello";
  extent.checksums = {BlockChecksum(ChunkId{42}, 0, std::as_bytes(std::span(text, 5)))};
  record.extents.push_back(extent);
  record.payload_bytes = 5;
  return record;
}

TEST(RecordTest, TheWorkedExampleOfTheDocumentationIsExact) {
  const std::vector<std::byte> head = EncodeHead(Example(), {3, 160});
  EXPECT_EQ(Hex(head),
            "43524e5228d0be9502000000180000000500000001000000a000000003000000"
            "a0000000030000002a0000000000000011000000000000001100000000000000"
            "0100000000000000050000000000000000000000000000000000000000000000"
            "0000000000000000000000000000000000000000000000000000000000000000"
            "000000000000000003000000a000000000000000000000000500000000000000"
            "000000009cd5a5b1");
  EXPECT_EQ(SizeOf(Example()).total_bytes(), 176u);
}

TEST(RecordTest, DecodingGivesBackWhatWasEncoded) {
  Record record = Example();
  record.corrupt = true;
  record.state.sync_base = Stamp{Epoch{16}, 9};
  record.state.sealed = Epoch{15};
  record.state.tombstone = Epoch{14};
  record.drop_begin = 1;
  record.drop_end = 7;
  record.quarantine_until = 99;
  const LogPosition at{3, 160};
  const auto decoded = DecodeHead(EncodeHead(record, at), at);
  ASSERT_TRUE(decoded.ok()) << decoded.status().ToString();
  PlaceExtents(&record, at);
  EXPECT_EQ(decoded->state, record.state);
  EXPECT_EQ(decoded->extents, record.extents);
  EXPECT_EQ(decoded->corrupt, true);
  EXPECT_EQ(decoded->drop_end, 7u);
  EXPECT_EQ(decoded->quarantine_until, 99u);
  EXPECT_EQ(decoded->synced, record.synced);
  EXPECT_EQ(decoded->first_segment, 3u);
}

TEST(RecordTest, AMapNamesThePlacesOfItsExtents) {
  Record record;
  record.type = RecordType::kMap;
  record.chunk = ChunkId{42};
  record.previous_end = 160;
  Extent extent;
  extent.block = 5;
  extent.bytes = 4097;
  extent.at = {2, 4711};
  extent.checksums = {1, 2};
  record.extents.push_back(extent);
  const auto decoded = DecodeHead(EncodeHead(record, {9, 160}), {9, 160});
  ASSERT_TRUE(decoded.ok());
  EXPECT_EQ(decoded->extents, record.extents);
  EXPECT_EQ(decoded->payload_bytes, 0u);
}

TEST(RecordTest, AnAlignedRecordKeepsHeadPayloadAndEndOnWholeBlocks) {
  Record record = Example();
  record.aligned = true;
  record.previous_end = 4104;
  EXPECT_EQ(SizeOf(record).payload_offset(), 4096u);
  EXPECT_EQ(SizeOf(record).total_bytes(), 8192u);
  const auto decoded = DecodeHead(EncodeHead(record, {3, 8192}), {3, 8192});
  ASSERT_TRUE(decoded.ok()) << decoded.status().ToString();
  EXPECT_TRUE(decoded->aligned);
  EXPECT_EQ(decoded->previous_end, 4104u);
  EXPECT_EQ(decoded->extents.front().at, (LogPosition{3, 12'288}));
}

TEST(RecordTest, ARecordFollowsTheOneBeforeIt) {
  Record record = Example();
  for (const uint32_t previous_end : {0u, 152u, 168u}) {
    record.previous_end = previous_end;
    EXPECT_FALSE(DecodeHead(EncodeHead(record, {3, 160}), {3, 160}).ok()) << previous_end;
  }
  record.aligned = true;
  for (const uint32_t previous_end : {4096u, 8200u}) {
    record.previous_end = previous_end;
    EXPECT_FALSE(DecodeHead(EncodeHead(record, {3, 8192}), {3, 8192}).ok()) << previous_end;
  }
  record.previous_end = 8192;
  EXPECT_TRUE(DecodeHead(EncodeHead(record, {3, 8192}), {3, 8192}).ok());
  EXPECT_FALSE(PeekSize(EncodeHead(record, {3, 8200}), {3, 8200}).ok()) << "at an odd place";
}

TEST(RecordTest, ARecordIsBelievedOnlyAtItsOwnPlace) {
  const std::vector<std::byte> head = EncodeHead(Example(), {3, 160});
  EXPECT_EQ(PeekSize(head, {3, 168}).code(), StatusCode::kMalformed);
  EXPECT_EQ(PeekSize(head, {4, 160}).code(), StatusCode::kMalformed);
  EXPECT_TRUE(PeekSize(head, {3, 160}).ok());
}

TEST(RecordTest, EveryFlippedBitIsNoticed) {
  const LogPosition at{3, 160};
  const std::vector<std::byte> head = EncodeHead(Example(), at);
  for (size_t bit = 0; bit < head.size() * 8; ++bit) {
    std::vector<std::byte> damaged = head;
    damaged[bit / 8] ^= static_cast<std::byte>(1u << bit % 8);
    EXPECT_FALSE(DecodeHead(damaged, at).ok()) << bit;
  }
}

TEST(RecordTest, GarbageWithAValidChecksumIsRefusedNotTrusted) {
  const LogPosition at{3, 160};
  std::mt19937 random(1);
  for (int round = 0; round < 2000; ++round) {
    std::vector<std::byte> head = EncodeHead(Example(), at);
    // Any field behind the CRC but the place and the sizes, then the CRC made right again.
    for (int i = 0; i < 3; ++i) {
      const size_t byte = 8 + random() % (head.size() - 8);
      head[byte] = static_cast<std::byte>(random());
    }
    const uint32_t crc = Crc32c(std::span(head).subspan(8));
    std::memcpy(head.data() + 4, &crc, 4);
    const auto decoded = DecodeHead(head, at);
    if (!decoded.ok()) continue;
    uint64_t bytes = 0;
    for (const Extent& extent : decoded->extents) {
      EXPECT_EQ(extent.checksums.size(), BlocksTouched(0, extent.bytes));
      bytes += extent.bytes;
    }
    EXPECT_EQ(decoded->type == RecordType::kMap ? 0 : bytes, decoded->payload_bytes);
  }
}

TEST(ExtentTest, SlicesKeepPlacesBytesAndChecksumsTogether) {
  Extent extent;
  extent.block = 10;
  extent.bytes = 2 * kBlockBytes + 100;
  extent.at = {1, 1000};
  extent.checksums = {7, 8, 9};
  const Extent tail = extent.Slice(11, 13);
  EXPECT_EQ(tail.block, 11u);
  EXPECT_EQ(tail.bytes, kBlockBytes + 100);
  EXPECT_EQ(tail.at, (LogPosition{1, 1000 + kBlockBytes}));
  EXPECT_EQ(tail.checksums, (std::vector<uint32_t>{8, 9}));
  EXPECT_EQ(extent.Slice(10, 11).bytes, kBlockBytes);
  EXPECT_EQ(extent.Slice(12, 13).bytes, 100u);
}

}  // namespace
}  // namespace cairn::chunkserver
