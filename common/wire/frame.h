// The frame of the data plane (docs/formats.md holds the grammar and a worked example).
//
//   frame  = header meta data
//   header = 32 bytes, little endian:
//      0  u32 magic        0x464e5243 ("CRNF")
//      4  u8  version      kWireVersion
//      5  u8  type         MessageType; a reply has the type of its request with bit 7 set
//      6  u16 reserved     0
//      8  u64 request_id   chosen by the requester, echoed in the reply
//     16  u32 meta_bytes   <= kMaxMetaBytes
//     20  u32 data_bytes   <= kMaxDataBytes
//     24  u32 meta_crc     CRC32C of meta
//     28  u32 header_crc   CRC32C of bytes 0..27
//   meta   = message fields (common/wire/messages.h)
//   data   = raw chunk bytes; covered by the block checksums in meta
//
// A peer that sends a header that does not decode is disconnected: framing cannot be found again after it.
// Thread-safety: pure functions.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "common/status.h"

namespace cairn::wire {

inline constexpr uint32_t kFrameMagic = 0x464e5243;
inline constexpr uint8_t kWireVersion = 2;
inline constexpr size_t kHeaderBytes = 32;
inline constexpr uint32_t kMaxMetaBytes = 1u << 20;
inline constexpr uint32_t kMaxDataBytes = 4u << 20;
inline constexpr uint8_t kReplyBit = 0x80;

// On the wire: do not change the values.
enum class MessageType : uint8_t {
  kHello = 1,    // first frame on every connection
  kMutate = 2,   // write, truncate or zero one chunk, optionally with begin
  kRead = 3,     // bytes with their stored checksums
  kFlush = 4,    // make a list of chunks durable
  kSeal = 5,     // seal a list of chunks
  kQuery = 6,    // ReplicaInfo of a list of chunks
  kDigests = 7,  // 128-bit digests of ranges of a chunk, for sync by difference
  kBegin = 8,    // begin(e, base) on a list of chunks without a mutation
  kExtents = 9,  // which ranges of a chunk hold data; the rest are holes
  kStage = 10,   // fetch a range of another chunk and keep it for a kMutateStaged of the same connection
  kMutateStaged = 11,  // a write whose bytes were staged
};

struct FrameHeader {
  uint8_t type = 0;  // MessageType, with kReplyBit for replies
  uint64_t request_id = 0;
  uint32_t meta_bytes = 0;
  uint32_t data_bytes = 0;
  uint32_t meta_crc = 0;
};

std::array<std::byte, kHeaderBytes> EncodeHeader(const FrameHeader& header);
// kMalformed (wrong magic, reserved bits, checksum), kVersionMismatch, kResourceExhausted (lengths over the limits).
Result<FrameHeader> DecodeHeader(std::span<const std::byte, kHeaderBytes> bytes);

}  // namespace cairn::wire
