#include "common/wire/frame.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "common/checksum.h"
#include "common/wire/messages.h"

namespace cairn::wire {
namespace {

FrameHeader Example() {
  return {.type = 0x83,
          .request_id = 0x0102030405060708,
          .meta_bytes = 77,
          .data_bytes = 4096,
          .meta_crc = 0xdeadbeef};
}

// Puts a right checksum over whatever the test changed.
void Reseal(std::array<std::byte, kHeaderBytes>& bytes) {
  const uint32_t crc = Crc32c(std::span<const std::byte>(bytes).first(28));
  std::memcpy(bytes.data() + 28, &crc, sizeof(crc));
}

TEST(FrameTest, HeaderSurvivesTheWire) {
  const auto bytes = EncodeHeader(Example());
  const Result<FrameHeader> decoded = DecodeHeader(bytes);
  ASSERT_TRUE(decoded.ok()) << decoded.status().ToString();
  EXPECT_EQ(decoded->type, 0x83);
  EXPECT_EQ(decoded->request_id, 0x0102030405060708u);
  EXPECT_EQ(decoded->meta_bytes, 77u);
  EXPECT_EQ(decoded->data_bytes, 4096u);
  EXPECT_EQ(decoded->meta_crc, 0xdeadbeefu);
}

TEST(FrameTest, LayoutIsTheDocumentedOne) {
  const auto bytes = EncodeHeader(Example());
  EXPECT_EQ(std::memcmp(bytes.data(), "CRNF", 4), 0);
  EXPECT_EQ(bytes[4], std::byte{kWireVersion});
  EXPECT_EQ(bytes[5], std::byte{0x83});
  EXPECT_EQ(bytes[8], std::byte{0x08});
  EXPECT_EQ(bytes[16], std::byte{77});
  EXPECT_EQ(bytes[21], std::byte{0x10});
}

// The worked example of docs/formats.md.
TEST(FrameTest, TheDocumentedExampleIsWhatIsSent) {
  const Bytes meta = Encode(QueryRequest{{ChunkId{42}}});
  const auto header = EncodeHeader({.type = static_cast<uint8_t>(MessageType::kQuery),
                                    .request_id = 7,
                                    .meta_bytes = static_cast<uint32_t>(meta.size()),
                                    .meta_crc = Crc32c(meta)});
  constexpr uint8_t kExpected[] = {0x43, 0x52, 0x4e, 0x46, 0x02, 0x06, 0x00, 0x00, 0x07, 0x00, 0x00,
                                   0x00, 0x00, 0x00, 0x00, 0x00, 0x0c, 0x00, 0x00, 0x00, 0x00, 0x00,
                                   0x00, 0x00, 0x60, 0xfa, 0x52, 0xc7, 0x51, 0x49, 0x3d, 0xa0, 0x01,
                                   0x00, 0x00, 0x00, 0x2a, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00};
  ASSERT_EQ(sizeof(kExpected), header.size() + meta.size());
  EXPECT_EQ(std::memcmp(header.data(), kExpected, header.size()), 0);
  EXPECT_EQ(std::memcmp(meta.data(), kExpected + header.size(), meta.size()), 0);
}

TEST(FrameTest, EveryFlippedBitIsNoticed) {
  const auto good = EncodeHeader(Example());
  for (size_t bit = 0; bit < kHeaderBytes * 8; ++bit) {
    auto bytes = good;
    bytes[bit / 8] ^= std::byte(1 << (bit % 8));
    EXPECT_EQ(DecodeHeader(bytes).code(), StatusCode::kMalformed) << "bit " << bit;
  }
}

TEST(FrameTest, AnotherVersionIsToldApartFromDamage) {
  auto bytes = EncodeHeader(Example());
  bytes[4] = std::byte{kWireVersion + 1};
  Reseal(bytes);
  EXPECT_EQ(DecodeHeader(bytes).code(), StatusCode::kVersionMismatch);
}

TEST(FrameTest, ReservedBitsAreRefused) {
  auto bytes = EncodeHeader(Example());
  bytes[6] = std::byte{1};
  Reseal(bytes);
  EXPECT_EQ(DecodeHeader(bytes).code(), StatusCode::kMalformed);
}

TEST(FrameTest, LengthsBeyondTheLimitsAreRefused) {
  FrameHeader header = Example();
  header.meta_bytes = kMaxMetaBytes;
  header.data_bytes = kMaxDataBytes;
  EXPECT_TRUE(DecodeHeader(EncodeHeader(header)).ok());
  header.meta_bytes = kMaxMetaBytes + 1;
  EXPECT_EQ(DecodeHeader(EncodeHeader(header)).code(), StatusCode::kResourceExhausted);
  header.meta_bytes = 0;
  header.data_bytes = kMaxDataBytes + 1;
  EXPECT_EQ(DecodeHeader(EncodeHeader(header)).code(), StatusCode::kResourceExhausted);
}

TEST(FrameTest, RandomBytesAreNoHeader) {
  std::mt19937_64 random(7);
  for (int i = 0; i < 20'000; ++i) {
    std::array<std::byte, kHeaderBytes> bytes;
    for (auto& byte : bytes) byte = std::byte(random());
    EXPECT_FALSE(DecodeHeader(bytes).ok());
  }
}

}  // namespace
}  // namespace cairn::wire
