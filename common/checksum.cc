#include "common/checksum.h"

#include <isa-l/crc.h>

#include <algorithm>
#include <array>

#include "common/check.h"

namespace cairn {
namespace {

// crc32_iscsi wants a non-const pointer although it only reads, and an int length.
uint32_t RawCrc(uint32_t state, std::span<const std::byte> data) {
  constexpr size_t kMaxStep = 1u << 30;
  auto* bytes = const_cast<unsigned char*>(reinterpret_cast<const unsigned char*>(data.data()));
  size_t left = data.size();
  while (left > 0) {
    const size_t step = std::min(left, kMaxStep);
    state = crc32_iscsi(bytes, static_cast<int>(step), state);
    bytes += step;
    left -= step;
  }
  return state;
}

// A bijective mix of chunk and block; any fixed function does, it only has to differ between places.
uint32_t Seed(ChunkId chunk, uint64_t block) {
  uint64_t x = chunk.value() * 0x9E3779B97F4A7C15ull ^ (block + 1) * 0xC2B2AE3D27D4EB4Full;
  x ^= x >> 29;
  x *= 0xBF58476D1CE4E5B9ull;
  return static_cast<uint32_t>(x >> 32);
}

constexpr std::array<std::byte, kBlockBytes> kZeros{};

}  // namespace

uint32_t Crc32c(std::span<const std::byte> data) { return ~RawCrc(0xffffffffu, data); }

uint32_t ExtendCrc32c(uint32_t crc, std::span<const std::byte> data) { return ~RawCrc(~crc, data); }

uint32_t PieceChecksum(ChunkId chunk, uint64_t block, std::span<const std::byte> data) {
  return ~RawCrc(Seed(chunk, block), data);
}

uint32_t BlockChecksum(ChunkId chunk, uint64_t block, std::span<const std::byte> data) {
  CAIRN_CHECK(data.size() <= kBlockBytes);
  uint32_t state = RawCrc(Seed(chunk, block), data);
  if (data.size() < kBlockBytes) state = RawCrc(state, std::span(kZeros).first(kBlockBytes - data.size()));
  return ~state;
}

std::vector<uint32_t> ChecksumRange(ChunkId chunk, uint64_t offset, std::span<const std::byte> data) {
  std::vector<uint32_t> sums;
  sums.reserve(BlocksTouched(offset, data.size()));
  uint64_t block = offset / kBlockBytes;
  size_t in_block = offset % kBlockBytes;
  while (!data.empty()) {
    const size_t take = std::min<size_t>(data.size(), kBlockBytes - in_block);
    sums.push_back(PieceChecksum(chunk, block, data.first(take)));
    data = data.subspan(take);
    in_block = 0;
    ++block;
  }
  return sums;
}

int64_t FirstBadBlock(ChunkId chunk, uint64_t offset, std::span<const std::byte> data,
                      std::span<const uint32_t> checksums) {
  CAIRN_CHECK(checksums.size() == BlocksTouched(offset, data.size()));
  const uint64_t first = offset / kBlockBytes;
  size_t in_block = offset % kBlockBytes;
  for (size_t i = 0; !data.empty(); ++i) {
    const size_t take = std::min<size_t>(data.size(), kBlockBytes - in_block);
    if (PieceChecksum(chunk, first + i, data.first(take)) != checksums[i]) return static_cast<int64_t>(i);
    data = data.subspan(take);
    in_block = 0;
  }
  return -1;
}

}  // namespace cairn
