// FileCore: where a file has data and where holes, and how much space that takes.
#include <algorithm>
#include <string>
#include <utility>

#include "client/data/file_core.h"
#include "common/checksum.h"

namespace cairn::client {
namespace {

constexpr int64_t kAskTimeoutMs = 5000;
// A replica that says nothing for so long has its turn over while there are others.
constexpr int64_t kPatienceMs = 1000;

struct Answer {
  bool done = false;
  Result<wire::ExtentsReply> reply = Status(StatusCode::kUnavailable, "no answer yet");
};

}  // namespace

void FileCore::NoteAllocatedLocked(ChunkState& chunk, uint64_t allocated_bytes) {
  // Of a replica that has everything; what is still on its way would be missing in the number.
  if (chunk.clean()) chunk.allocated = allocated_bytes;
}

// The master will count what the seal says.
void FileCore::NoteSealedLocked(ChunkState& chunk, SealedChunk* seal) {
  seal->allocated_bytes = chunk.allocated;
  seal->allocated_change =
      static_cast<int64_t>(chunk.allocated) - static_cast<int64_t>(chunk.place.allocated_bytes);
  chunk.place.allocated_bytes = chunk.allocated;
}

int64_t FileCore::AllocatedChange() const {
  std::lock_guard lock(mu_);
  int64_t change = 0;
  for (const auto& [index, chunk] : chunks_) {
    const bool changed = (chunk->writer != nullptr && !chunk->writer->never_begun()) || chunk->has_unsent();
    if (!changed) continue;
    const uint64_t end = std::max(chunk->length, chunk->dirty.end());
    const uint64_t most = (end + kBlockBytes - 1) / kBlockBytes * kBlockBytes;
    const uint64_t dirty = (chunk->dirty.bytes() + kBlockBytes - 1) / kBlockBytes * kBlockBytes;
    change += static_cast<int64_t>(std::min(most, chunk->allocated + dirty));
    change -= static_cast<int64_t>(chunk->place.allocated_bytes);
  }
  return change;
}

Result<std::optional<uint64_t>> FileCore::Seek(uint64_t offset, bool data) {
  Lock lock(mu_);
  const int64_t deadline = Now() + context_.options.read_timeout_ms * kNanosPerMilli;
  for (;;) {
    if (shut_down_) return Status(StatusCode::kCancelled, "the client is shutting down");
    if (mode_ == Mode::kDetached) return Status(StatusCode::kLeaseLost, "no lease is held");
    if (!lost_.ok()) return lost_;
    // The replicas are asked: what is buffered has to be there first.
    if (mode_ == Mode::kWrite) CAIRN_RETURN_IF_ERROR(FlushAllLocked(lock, nullptr));
    Result<std::optional<uint64_t>> found = SeekLocked(lock, offset, data);
    if (found.ok() || found.code() == StatusCode::kLeaseLost || found.code() == StatusCode::kInterrupted)
      return found;
    if (Now() >= deadline) {
      return Status(StatusCode::kNoQuorum, "seeking data or a hole: " + found.status().message());
    }
    if (size_ != 0) ForgetLayoutLocked(offset / chunk_bytes_, (size_ - 1) / chunk_bytes_);
    if (PauseLocked(lock, deadline)) {
      return Status(StatusCode::kInterrupted, "interrupted while seeking data or a hole");
    }
  }
}

Result<std::optional<uint64_t>> FileCore::SeekLocked(Lock& lock, uint64_t offset, bool data) {
  const uint64_t attachment = attachment_;
  uint64_t at = offset;
  uint64_t known_to = 0;  // chunks below it, from `at` on, are all in chunks_ or holes
  while (at < size_) {
    const uint64_t index = at / chunk_bytes_;
    const uint64_t last = (size_ - 1) / chunk_bytes_;
    if (index >= known_to) {
      CAIRN_ASSIGN_OR_RETURN(known_to, LoadExistingLocked(lock, index, last));
      continue;
    }
    const auto next = chunks_.lower_bound(index);
    const uint64_t present = next == chunks_.end() ? known_to : std::min(known_to, next->first);
    if (present > index) {
      if (!data) return std::optional(at);
      at = present > last ? size_ : present * chunk_bytes_;
      continue;
    }
    const uint64_t begin = index * chunk_bytes_;
    const uint64_t in_chunk = at - begin;
    CAIRN_ASSIGN_OR_RETURN(const wire::ExtentsReply extents, ExtentsLocked(lock, *next->second, in_chunk));
    if (attachment != attachment_)
      return Status(StatusCode::kLeaseLost, "the lease was given back meanwhile");
    const wire::DataRange* range = extents.ranges.empty() ? nullptr : &extents.ranges.front();
    if (data) {
      if (range != nullptr) {
        at = begin + std::max(in_chunk, range->offset);
        return at < size_ ? std::optional(at) : std::nullopt;
      }
      const uint64_t none_below =
          extents.complete_to < extents.chunk_length ? extents.complete_to : chunk_bytes_;
      if (none_below <= in_chunk)
        return Status(StatusCode::kUnavailable, "a replica of chunk " + ToString(next->second->place.chunk) +
                                                    " answered with no range at all");
      at = begin + none_below;
    } else {
      if (range == nullptr || range->offset > in_chunk) return std::optional(at);
      at = begin + range->offset + range->length;
    }
  }
  if (data || offset >= size_) return std::optional<uint64_t>();
  return std::optional(size_);
}

// What one of the replicas says about the chunk from `offset` on, cut to what counts of it.
Result<wire::ExtentsReply> FileCore::ExtentsLocked(Lock& lock, const ChunkState& chunk, uint64_t offset) {
  CAIRN_ASSIGN_OR_RETURN(const Source source, SourceLocked(chunk));
  if (source.kind == Source::kWait)
    return Status(StatusCode::kUnavailable, "the first change of a chunk is on its way");
  if (source.kind == Source::kZeros) return wire::ExtentsReply{};
  const wire::ExtentsRequest request{
      .chunk = chunk.place.chunk, .want = source.want, .exact = source.exact, .offset = offset};
  Status failure(StatusCode::kUnavailable, "no replica");
  const std::vector<ServerId> order = RankLocked(source.servers, request.chunk);
  for (const ServerId server : order) {
    const auto answer = std::make_shared<Answer>();
    CallLocked(
        server, wire::MessageType::kExtents, net::SharedBytes::Own(wire::Encode(request)), {}, kAskTimeoutMs,
        [self = shared_from_this(), answer](const Status& transport, std::span<const std::byte> meta,
                                            const net::SharedBytes&) {
          Result<wire::ExtentsReply> reply = transport.ok() ? wire::DecodeExtentsReply(meta) : transport;
          std::lock_guard guard(self->mu_);
          answer->reply = std::move(reply);
          answer->done = true;
          self->changed_.notify_all();
        });
    const int64_t deadline = Now() + (server == order.back() ? kAskTimeoutMs : kPatienceMs) * kNanosPerMilli;
    while (!answer->done && Now() < deadline) {
      if (shut_down_) return Status(StatusCode::kCancelled, "the client is shutting down");
      if (WaitLocked(lock, deadline))
        return Status(StatusCode::kInterrupted, "interrupted while seeking data or a hole");
    }
    failure = answer->reply.ok() ? answer->reply->status : answer->reply.status();
    if (!failure.ok()) {
      SuspectLocked(server);
      continue;
    }
    wire::ExtentsReply reply = *std::move(answer->reply);
    reply.chunk_length = std::min(reply.chunk_length, source.length);
    reply.complete_to = std::min(reply.complete_to, source.length);
    for (wire::DataRange& range : reply.ranges)
      range.length = range.offset < source.length ? std::min(range.length, source.length - range.offset) : 0;
    // Ranges are whole blocks: one that reached past `offset` may end before it now.
    std::erase_if(reply.ranges, [&](const wire::DataRange& range) {
      return range.length == 0 || range.offset + range.length <= offset;
    });
    return reply;
  }
  return failure;
}

}  // namespace cairn::client
