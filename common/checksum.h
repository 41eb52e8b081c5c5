// CRC32C (Castagnoli) over ISA-L, and the block checksums that travel and rest with chunk data.
//
// A chunk is checksummed in blocks of kBlockBytes. A block's checksum is CRC32C over its bytes, zero-padded
// to kBlockBytes, with an initial value derived from chunk id and block number: a block that ends up at the
// wrong place fails its check even though its bytes are intact. A *piece* is a part of one block (the
// unaligned head or tail of a write); its checksum uses the same seed over just the bytes given, unpadded.
//
// Thread-safety: pure functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "common/ids.h"

namespace cairn {

inline constexpr uint32_t kBlockBytes = 4096;

// CRC32C as in RFC 3720 (initial value and final xor 0xffffffff): Crc32c("123456789") == 0xe3069283.
uint32_t Crc32c(std::span<const std::byte> data);
// Crc32c(a + b) == ExtendCrc32c(Crc32c(a), b).
uint32_t ExtendCrc32c(uint32_t crc, std::span<const std::byte> data);

// Checksum of a block, zero-padded to kBlockBytes. Precondition: data.size() <= kBlockBytes.
uint32_t BlockChecksum(ChunkId chunk, uint64_t block, std::span<const std::byte> data);
// Checksum of a piece: as BlockChecksum but not padded. Equal to BlockChecksum when data is a full block.
uint32_t PieceChecksum(ChunkId chunk, uint64_t block, std::span<const std::byte> data);

// Number of blocks that the byte range [offset, offset + length) touches; 0 for length 0.
constexpr uint64_t BlocksTouched(uint64_t offset, uint64_t length) {
  return length == 0 ? 0 : (offset + length - 1) / kBlockBytes - offset / kBlockBytes + 1;
}

// The checksums that accompany `data` at `offset` of a chunk: one PieceChecksum per touched block.
std::vector<uint32_t> ChecksumRange(ChunkId chunk, uint64_t offset, std::span<const std::byte> data);
// Index of the first touched block whose checksum does not match, or -1 when all match.
// Precondition: checksums.size() == BlocksTouched(offset, data.size()).
int64_t FirstBadBlock(ChunkId chunk, uint64_t offset, std::span<const std::byte> data,
                      std::span<const uint32_t> checksums);

}  // namespace cairn
