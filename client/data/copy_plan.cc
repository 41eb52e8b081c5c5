// FileCore: the source's side of a copy that chunkservers make. A range of the file becomes holes and ranges of chunks at exact stamps.
#include <algorithm>
#include <utility>

#include "client/data/file_core.h"

namespace cairn::client {
namespace {

constexpr size_t kMaxParts = 1024;

// Joins what goes on where the last part ended.
void AddPart(std::vector<CopyPart>* parts, CopyPart part) {
  if (part.length == 0) return;
  if (!parts->empty() && parts->back().kind == part.kind && part.kind != CopyPart::kReplicas) {
    parts->back().length += part.length;
  } else {
    parts->push_back(std::move(part));
  }
}

}  // namespace

Result<std::vector<CopyPart>> FileCore::PlanCopy(uint64_t offset, uint64_t length, uint64_t max_bytes) {
  Lock lock(mu_);
  if (shut_down_) return Status(StatusCode::kCancelled, "the client is shutting down");
  if (mode_ == Mode::kDetached) return Status(StatusCode::kLeaseLost, "no lease is held");
  if (!lost_.ok()) return lost_;
  // The replicas copy: what is buffered has to be there first.
  if (mode_ == Mode::kWrite) CAIRN_RETURN_IF_ERROR(FlushAllLocked(lock, nullptr));
  std::vector<CopyPart> parts;
  if (offset >= size_) return parts;
  const uint64_t attachment = attachment_;
  const uint64_t end = offset + std::min(length, size_ - offset);
  const uint64_t last = (end - 1) / chunk_bytes_;
  uint64_t at = offset;
  uint64_t known_to = 0;  // chunks below it, from `offset` on, are all in chunks_ or holes
  uint64_t planned = 0;   // bytes, without holes
  while (at < end && parts.size() < kMaxParts && planned < max_bytes) {
    const uint64_t index = at / chunk_bytes_;
    if (index >= known_to) {
      CAIRN_ASSIGN_OR_RETURN(known_to, LoadExistingLocked(lock, index, last));
      continue;
    }
    const auto next = chunks_.lower_bound(index);
    const uint64_t present = next == chunks_.end() ? known_to : std::min(known_to, next->first);
    if (present > index) {
      const uint64_t to = present > last ? end : present * chunk_bytes_;
      AddPart(&parts, {.kind = CopyPart::kHole, .length = to - at});
      at = to;
      continue;
    }
    const uint64_t chunk_end = std::min(end, (index + 1) * chunk_bytes_);
    const uint64_t stop = std::min(chunk_end, at + (max_bytes - planned));
    const size_t before = parts.size();
    CAIRN_ASSIGN_OR_RETURN(const bool named, PlanChunkCopyLocked(lock, *next->second, stop, &at, &parts));
    if (attachment != attachment_) return Status(StatusCode::kLeaseLost, "the lease was given back meanwhile");
    if (!named) {
      AddPart(&parts, {.kind = CopyPart::kBytes, .length = stop - at});
      at = stop;
      break;  // the next plan begins behind it
    }
    for (size_t i = before; i < parts.size(); ++i) {
      if (parts[i].kind == CopyPart::kReplicas) planned += parts[i].length;
    }
  }
  return parts;
}

// From *at on, at most to `end`, both in this chunk; moves *at. False: what comes now has no exact name at the moment.
Result<bool> FileCore::PlanChunkCopyLocked(Lock& lock, ChunkState& chunk, uint64_t end, uint64_t* at,
                                           std::vector<CopyPart>* parts) {
  const uint64_t begin = chunk.index * chunk_bytes_;
  Result<Source> source = SourceLocked(chunk);
  if (!source.ok() || source->kind == Source::kWait || !chunk.clean()) return false;
  CopyPart data{.kind = CopyPart::kReplicas, .chunk = chunk.place.chunk, .stamp = source->want, .carriers = source->servers};
  if (source->kind == Source::kReplicas && !source->exact) {
    // Being written under this lease: everything is done, and whoever has confirmed it is at exactly this stamp.
    if (!chunk.writer->idle()) return false;
    std::erase_if(data.carriers, [&](ServerId server) { return !chunk.writer->Carries(server, chunk.writer->done_seq()); });
  }
  if (source->kind == Source::kReplicas && data.carriers.empty()) return false;
  const uint64_t data_end = source->kind == Source::kZeros ? begin : std::min(end, begin + source->length);
  if (*at < data_end) {
    const uint64_t from_here = *at;
    // Releases the lock: `chunk` may be gone afterwards.
    const Result<wire::ExtentsReply> extents = ExtentsLocked(lock, chunk, *at - begin);
    if (extents.code() == StatusCode::kInterrupted || extents.code() == StatusCode::kCancelled) return extents.status();
    if (!extents.ok()) return false;
    for (const wire::DataRange& range : extents->ranges) {
      const uint64_t from = std::max(*at, begin + range.offset);
      const uint64_t to = std::min(data_end, begin + range.offset + range.length);
      if (from >= data_end) break;
      AddPart(parts, {.kind = CopyPart::kHole, .length = from - *at});
      data.offset = from - begin;
      data.length = to - from;
      *at = to;
      AddPart(parts, data);
      if (parts->size() >= kMaxParts) return true;
    }
    // Behind the last range that was told there is a hole, as far as everything was told.
    const uint64_t told = extents->complete_to < extents->chunk_length ? begin + extents->complete_to : data_end;
    const uint64_t hole_to = std::min(data_end, told);
    if (hole_to > *at) {
      AddPart(parts, {.kind = CopyPart::kHole, .length = hole_to - *at});
      *at = hole_to;
    }
    // The rest with the next request, of a chunk that is looked up again; an answer that says nothing is none.
    if (*at < data_end) return *at > from_here;
  }
  if (end > *at) AddPart(parts, {.kind = CopyPart::kHole, .length = end - *at});
  *at = end;
  return true;
}

}  // namespace cairn::client
