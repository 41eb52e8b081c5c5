#include "common/wire/read_reply.h"

#include <algorithm>
#include <string>

#include "common/checksum.h"

namespace cairn::wire {
namespace {

// Whole blocks from `offset` (aligned); the last one may be cut by the chunk's length and is padded with
// zeros for its checksum.
bool ChecksumsMatch(ChunkId chunk, uint64_t offset, std::span<const std::byte> data,
                    std::span<const uint32_t> checksums) {
  const size_t whole = data.size() / kBlockBytes * kBlockBytes;
  const size_t whole_blocks = whole / kBlockBytes;
  if (FirstBadBlock(chunk, offset, data.first(whole), checksums.first(whole_blocks)) >= 0) return false;
  return whole == data.size() || BlockChecksum(chunk, offset / kBlockBytes + whole_blocks,
                                               data.subspan(whole)) == checksums[whole_blocks];
}

}  // namespace

Status CheckReadReply(ChunkId chunk, uint64_t offset, uint64_t length, const ReadReply& reply,
                      std::span<const std::byte> data) {
  if (!reply.status.ok()) return reply.status;
  const uint64_t wanted_end = std::min(offset + length, reply.chunk_length);
  const bool fits = reply.offset % kBlockBytes == 0 && reply.offset <= offset &&
                    (offset >= wanted_end || reply.offset + data.size() >= wanted_end) &&
                    reply.checksums.size() == BlocksTouched(reply.offset, data.size());
  // Nor more than the blocks of the range: who keeps the reply counts what it asked for.
  const bool bounded = data.empty() || (reply.offset + kBlockBytes > offset &&
                                        data.size() <= BlocksTouched(offset, length) * kBlockBytes);
  if (!bounded) return {StatusCode::kMalformed, "the reply has more than the range that was asked for"};
  if (!fits) return {StatusCode::kMalformed, "the reply does not cover the range that was asked for"};
  if (!ChecksumsMatch(chunk, reply.offset, data, reply.checksums)) {
    return {StatusCode::kCorrupt, "bytes " + std::to_string(reply.offset) + ".." +
                                      std::to_string(reply.offset + data.size()) +
                                      " do not match their checksums"};
  }
  return Status::Ok();
}

}  // namespace cairn::wire
