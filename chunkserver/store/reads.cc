// Reading: extents, then the segments; holes are zeros with the checksum of zeros.
#include <openssl/evp.h>

#include <algorithm>
#include <cstring>

#include "chunkserver/store/log_chunk_store.h"
#include "common/check.h"

namespace cairn::chunkserver {
namespace {

using replication::ReplicaInfo;

constexpr uint64_t kMaxDigests = 16384;
constexpr uint64_t kLargePiece = 64 << 10;
// Reads of a region past the page cache; from then on it is worth a place there.
constexpr uint32_t kDirectReads = 2;

Status NotHere(ChunkId chunk) {
  return {StatusCode::kUnknownChunk, "chunk " + ToString(chunk) + " is not on this disk"};
}

bool Visible(const std::optional<ChunkEntry>& entry) { return entry && entry->quarantine_until == 0; }

Status FirstDamage(ChunkId chunk, uint64_t offset, std::span<const std::byte> data,
                   const std::vector<uint32_t>& checksums) {
  for (size_t i = 0; i < checksums.size(); ++i) {
    const auto rest = data.subspan(i * kBlockBytes);
    const uint64_t block = offset / kBlockBytes + i;
    if (BlockChecksum(chunk, block, rest.first(std::min<size_t>(rest.size(), kBlockBytes))) != checksums[i]) {
      return {StatusCode::kCorrupt,
              "chunk " + ToString(chunk) + " is damaged at offset " + std::to_string(block * kBlockBytes) +
                  " (block " + std::to_string(block) + "): the stored data does not match its checksum"};
    }
  }
  return Status::Ok();
}

Result<wire::Digest> DigestOf(std::span<const std::byte> range) {
  std::array<uint8_t, EVP_MAX_MD_SIZE> full{};
  unsigned size = 0;
  if (EVP_Digest(range.data(), range.size(), full.data(), &size, EVP_sha256(), nullptr) != 1) {
    return Status(StatusCode::kIoError, "SHA-256 is not available");
  }
  wire::Digest digest;
  std::copy_n(full.begin(), digest.size(), digest.begin());
  return digest;
}

}  // namespace

// Bytes [offset, offset + data.size()) of the chunk, offset block aligned, out of extents that cover them or
// not. Memory behind data up to a whole block may be overwritten. `checksums`, when wanted, gets one per
// block.
Status LogChunkStore::Assemble(ChunkId chunk, const std::vector<Extent>& extents, uint64_t offset,
                               std::span<std::byte> data, ReadMode mode,
                               std::vector<uint32_t>* checksums) const {
  const uint64_t first = offset / kBlockBytes;
  const uint64_t end_block = first + BlocksTouched(offset, data.size());
  std::vector<Piece> pieces;  // what the index stores in parts is read in one
  uint64_t next = first;      // blocks below are done
  const auto hole_until = [&](uint64_t block) {
    if (checksums != nullptr) {
      for (uint64_t b = next; b < block; ++b) checksums->push_back(BlockChecksum(chunk, b, {}));
    }
    next = block;
  };
  for (const Extent& whole : extents) {
    const uint64_t begin = std::max(whole.block, next);
    const uint64_t end = std::min(whole.end_block(), end_block);
    if (begin >= end) continue;
    hole_until(begin);
    const uint64_t skip = begin - whole.block;
    const LogPosition at{whole.at.segment, static_cast<uint32_t>(whole.at.offset + skip * kBlockBytes)};
    const uint64_t to = (begin - first) * kBlockBytes;
    const uint64_t bytes =
        std::min({whole.bytes - skip * kBlockBytes, (end - begin) * kBlockBytes, data.size() - to});
    if (!pieces.empty() && pieces.back().at.segment == at.segment &&
        pieces.back().at.offset + pieces.back().bytes == at.offset &&
        pieces.back().to + pieces.back().bytes == to) {
      pieces.back().bytes += bytes;
    } else {
      pieces.push_back({at, to, bytes});
    }
    if (checksums != nullptr) {
      const auto from = whole.checksums.begin() + static_cast<ptrdiff_t>(skip);
      checksums->insert(checksums->end(), from, from + static_cast<ptrdiff_t>(end - begin));
    }
    next = end;
  }
  hole_until(end_block);
  // In order: what one piece overwrites behind its end is a hole or comes with the next.
  uint64_t done = 0;
  for (const Piece& piece : pieces) {
    std::fill(data.begin() + static_cast<ptrdiff_t>(done), data.begin() + static_cast<ptrdiff_t>(piece.to),
              std::byte{0});
    Status read = ReadPiece(piece, data.subspan(piece.to, piece.bytes), mode);
    if (!read.ok()) return read.WithContext("chunk " + ToString(chunk));
    done = piece.to + piece.bytes;
  }
  std::fill(data.begin() + static_cast<ptrdiff_t>(done), data.end(), std::byte{0});
  return Status::Ok();
}

Status LogChunkStore::ReadPiece(const Piece& piece, std::span<std::byte> data, ReadMode mode) const {
  CAIRN_ASSIGN_OR_RETURN(const auto file, log_->File(piece.at.segment));
  // Small records lie anywhere and went through the page cache; large ones begin a block and went past it.
  const bool was_cached = piece.at.offset % kBlockBytes != 0;
  ReadHistory& history = data.size() >= kLargePiece ? large_reads_ : small_reads_;
  if (mode == ReadMode::kMemory) {
    // Asking for pages that are not there makes the kernel read them into the page cache: only where they
    // should be.
    const bool expected = was_cached || history.Count(piece.at) > kDirectReads;
    if (expected && file->ReadCached(piece.at.offset, data)) return Status::Ok();
    return {StatusCode::kBusy, "the data has to be read from disk"};
  }
  if (was_cached) return file->Read(piece.at.offset, data);
  const uint32_t reads = mode == ReadMode::kDisk ? 0 : history.Note(piece.at);
  if (reads < kDirectReads) return file->ReadDirect(piece.at.offset, data);
  // Small reads of one region again and again: the rest of it comes along.
  if (reads == kDirectReads && data.size() < kLargePiece) {
    file->ReadAhead(small_reads_.RegionOf(piece.at).offset, small_reads_.region_bytes());
  }
  return file->Read(piece.at.offset, data);
}

Result<std::optional<uint32_t>> LogChunkStore::ReadBlock(ChunkId chunk, uint64_t block,
                                                         std::span<std::byte> out) const {
  auto view = index_->Look(chunk, block, block + 1);
  if (!view.ok()) return IndexError(view.status());
  if (!Visible(view->entry) || view->extents.empty()) return std::optional<uint32_t>();
  const Extent extent = view->extents.front().Slice(block, block + 1);
  CAIRN_RETURN_IF_ERROR(log_->Read(extent.at, out.first(extent.bytes)));
  CAIRN_RETURN_IF_ERROR(FirstDamage(chunk, block * kBlockBytes, out.first(extent.bytes), extent.checksums));
  return std::optional<uint32_t>(extent.bytes);
}

Status LogChunkStore::Query(ChunkId chunk, ReplicaInfo* info) const {
  auto entry = index_->Peek(chunk);
  if (!entry.ok()) return IndexError(entry.status());
  if (!Visible(*entry)) return NotHere(chunk);
  *info = InfoOf(chunk, **entry);
  return Status::Ok();
}

Status LogChunkStore::ForEach(const std::function<bool(const ReplicaInfo&)>& visit) const {
  const Status done = index_->ForEach([&](ChunkId chunk, const ChunkEntry& entry) {
    return entry.quarantine_until != 0 || visit(InfoOf(chunk, entry));
  });
  return done.ok() ? done : IndexError(done);
}

Result<ReadData> LogChunkStore::Read(const wire::ReadRequest& request, bool verify) const {
  const ReadMode mode = verify ? ReadMode::kDisk : ReadMode::kServe;
  const ReadPins::Pin pin(&pins_);
  ReadPlan plan;
  CAIRN_RETURN_IF_ERROR(Plan(request, mode, &plan));
  CAIRN_ASSIGN_OR_RETURN(ReadData result, Execute(plan, mode));
  if (verify) {
    CAIRN_RETURN_IF_ERROR(FirstDamage(request.chunk, result.offset, result.data.bytes, result.checksums));
  }
  return result;
}

StartedRead LogChunkStore::StartRead(const wire::ReadRequest& request) const {
  const auto pin = std::make_shared<const ReadPins::Pin>(&pins_);
  ReadPlan plan;
  const Status planned = Plan(request, ReadMode::kMemory, &plan);
  if (planned.code() == StatusCode::kBusy) return ChunkStore::StartRead(request);
  if (!planned.ok()) return Result<ReadData>(planned);
  Result<ReadData> result = Execute(plan, ReadMode::kMemory);
  if (result.code() != StatusCode::kBusy) return result;
  return [this, pin, plan = std::move(plan)] { return Execute(plan, ReadMode::kServe); };
}

Status LogChunkStore::Plan(const wire::ReadRequest& request, ReadMode mode, ReadPlan* plan) const {
  if (request.length == 0 || request.length > wire::kMaxTransferBytes) {
    return {StatusCode::kInvalidArgument, "a read of " + std::to_string(request.length) + " bytes"};
  }
  const uint64_t begin = request.offset / kBlockBytes * kBlockBytes;
  const uint64_t wanted_end =
      request.offset > UINT64_MAX - 2 * wire::kMaxTransferBytes
          ? begin
          : (request.offset + request.length + kBlockBytes - 1) / kBlockBytes * kBlockBytes;
  auto view =
      index_->Look(request.chunk, begin / kBlockBytes, wanted_end / kBlockBytes, mode == ReadMode::kMemory);
  if (view.code() == StatusCode::kBusy) return view.status();
  if (!view.ok()) return IndexError(view.status());
  if (!Visible(view->entry)) return NotHere(request.chunk);
  const replication::ReplicaState& state = view->entry->state;
  CAIRN_RETURN_IF_ERROR(CheckRead(state, request.want, request.exact));
  plan->chunk = request.chunk;
  plan->answer.stamp = state.accepted;
  plan->answer.chunk_length = state.length;
  plan->answer.offset = begin;
  const uint64_t end = std::min(wanted_end, state.length);
  if (request.offset < state.length && begin < end) plan->bytes = end - begin;
  plan->extents = std::move(view->extents);
  return Status::Ok();
}

Result<ReadData> LogChunkStore::Execute(const ReadPlan& plan, ReadMode mode) const {
  ReadData result = plan.answer;
  if (plan.bytes == 0) return result;
  const net::PooledBuffer buffer = read_buffers_.Acquire(RoundUp(plan.bytes, kBlockBytes));
  result.checksums.reserve(BlocksTouched(0, plan.bytes));
  CAIRN_RETURN_IF_ERROR(Assemble(plan.chunk, plan.extents, result.offset, buffer.bytes.first(plan.bytes),
                                 mode, &result.checksums));
  result.data = {buffer.bytes.first(plan.bytes), buffer.owner};
  return result;
}

Result<std::vector<wire::Digest>> LogChunkStore::Digests(const wire::DigestsRequest& request,
                                                         uint64_t* chunk_length) const {
  constexpr uint64_t kRange = wire::kDigestRangeBytes;
  if (request.offset % kRange != 0 || request.length % kRange != 0 || request.length / kRange > kMaxDigests ||
      request.offset > UINT64_MAX / 2) {
    return Status(StatusCode::kInvalidArgument, "digests of " + std::to_string(request.length) +
                                                    " bytes at " + std::to_string(request.offset) +
                                                    ": not whole ranges, or too many");
  }
  const ReadPins::Pin pin(&pins_);
  std::vector<wire::Digest> digests;
  const net::PooledBuffer buffer = read_buffers_.Acquire(kRange);
  const std::span<std::byte> range = buffer.bytes;
  for (uint64_t at = request.offset; at < request.offset + request.length; at += kRange) {
    auto view = index_->Look(request.chunk, at / kBlockBytes, (at + kRange) / kBlockBytes);
    if (!view.ok()) return IndexError(view.status());
    if (!Visible(view->entry)) return NotHere(request.chunk);
    const replication::ReplicaState& state = view->entry->state;
    if (request.want != Stamp{}) CAIRN_RETURN_IF_ERROR(CheckRead(state, request.want, true));
    *chunk_length = state.length;
    if (at >= state.length) break;
    std::fill(range.begin(), range.end(), std::byte{0});
    std::vector<uint32_t> checksums;
    const auto data = range.first(std::min(kRange, state.length - at));
    Status read = Assemble(request.chunk, view->extents, at, data, ReadMode::kDisk, &checksums);
    if (read.ok()) read = FirstDamage(request.chunk, at, data, checksums);
    if (read.code() == StatusCode::kCorrupt) {
      digests.push_back(wire::Digest{});  // no data has it: whoever compares will replace this range
      continue;
    }
    CAIRN_RETURN_IF_ERROR(read);
    CAIRN_ASSIGN_OR_RETURN(const wire::Digest digest, DigestOf(range));
    digests.push_back(digest);
  }
  return digests;
}

Result<wire::ExtentsReply> LogChunkStore::Extents(const wire::ExtentsRequest& request) const {
  auto view = index_->Look(request.chunk, request.offset / kBlockBytes, UINT64_MAX);
  if (!view.ok()) return IndexError(view.status());
  if (!Visible(view->entry)) return NotHere(request.chunk);
  const replication::ReplicaState& state = view->entry->state;
  CAIRN_RETURN_IF_ERROR(CheckRead(state, request.want, request.exact));
  wire::ExtentsReply reply;
  reply.chunk_length = state.length;
  reply.complete_to = state.length;
  for (const Extent& extent : view->extents) {
    const uint64_t begin = extent.block * kBlockBytes;
    const uint64_t end = std::min(extent.end_block() * kBlockBytes, state.length);
    if (begin >= end) continue;
    if (!reply.ranges.empty() && reply.ranges.back().offset + reply.ranges.back().length == begin) {
      reply.ranges.back().length += end - begin;
    } else if (reply.ranges.size() == wire::kMaxExtents) {
      reply.complete_to = begin;
      break;
    } else {
      reply.ranges.push_back({begin, end - begin});
    }
  }
  return reply;
}

Result<uint64_t> LogChunkStore::AllocatedBytes(ChunkId chunk) const {
  std::lock_guard lock(mu_);
  const auto entry = index_->Find(chunk);
  if (!entry.ok()) return IndexError(entry.status());
  if (!Visible(*entry)) return NotHere(chunk);
  const auto blocks = index_->AllocatedBlocks(chunk);
  if (!blocks.ok()) return IndexError(blocks.status());
  return *blocks * kBlockBytes;
}

}  // namespace cairn::chunkserver
