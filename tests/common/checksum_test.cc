#include "common/checksum.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string_view>

namespace cairn {
namespace {

std::span<const std::byte> AsBytes(std::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

TEST(Crc32c, MatchesThePublishedCheckValue) { EXPECT_EQ(Crc32c(AsBytes("123456789")), 0xe3069283u); }

TEST(Crc32c, ExtendingEqualsTheWhole) {
  EXPECT_EQ(ExtendCrc32c(Crc32c(AsBytes("1234")), AsBytes("56789")), Crc32c(AsBytes("123456789")));
}

TEST(BlockChecksum, DependsOnPlaceAndChunk) {
  const auto data = AsBytes("same bytes");
  const uint32_t sum = BlockChecksum(ChunkId(7), 3, data);
  EXPECT_NE(sum, BlockChecksum(ChunkId(7), 4, data));
  EXPECT_NE(sum, BlockChecksum(ChunkId(8), 3, data));
}

TEST(BlockChecksum, PadsWithZeros) {
  std::vector<std::byte> block(kBlockBytes);
  std::memcpy(block.data(), "abc", 3);
  EXPECT_EQ(BlockChecksum(ChunkId(1), 0, std::span(block).first(3)), BlockChecksum(ChunkId(1), 0, block));
}

TEST(ChecksumRange, FindsEveryFlippedBit) {
  std::vector<std::byte> data(3 * kBlockBytes + 100, std::byte{0x5a});
  const uint64_t offset = 1000;
  const auto sums = ChecksumRange(ChunkId(9), offset, data);
  ASSERT_EQ(sums.size(), BlocksTouched(offset, data.size()));
  EXPECT_EQ(FirstBadBlock(ChunkId(9), offset, data, sums), -1);
  for (size_t at : {size_t{0}, size_t{3095}, size_t{3096}, size_t{8000}, data.size() - 1}) {
    data[at] ^= std::byte{1};
    EXPECT_EQ(FirstBadBlock(ChunkId(9), offset, data, sums),
              static_cast<int64_t>((offset + at) / kBlockBytes))
        << at;
    data[at] ^= std::byte{1};
  }
}

}  // namespace
}  // namespace cairn
