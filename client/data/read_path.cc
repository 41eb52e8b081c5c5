// FileCore: reads. What is buffered here is painted first, newest on top; what is left comes from the
// replicas.
#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "client/data/file_core.h"
#include "common/check.h"

namespace cairn::client {
namespace {

// One fetch, and one range of the read cache.
constexpr uint64_t kFetchBytes = 1u << 20;
constexpr uint64_t kLayoutBatch = 16;
// More gaps than this between buffered writes are read in one piece.
constexpr size_t kMaxGaps = 4;
constexpr int64_t kCacheIdleMs = 2000;

// What another look at the layout, or a little patience, may cure.
bool MayRetry(StatusCode code) {
  switch (code) {
    case StatusCode::kStaleReplica:
    case StatusCode::kUnknownChunk:
    case StatusCode::kFenced:
    case StatusCode::kDeleted:
    case StatusCode::kCorrupt:
    case StatusCode::kUnavailable:
    case StatusCode::kTimeout:
    case StatusCode::kResourceExhausted:
    case StatusCode::kDamaged:
    case StatusCode::kIoError:
      return true;
    default:
      return false;
  }
}

// What the caller is told when retrying did not help.
Status FinalError(const Status& status) {
  switch (status.code()) {
    case StatusCode::kUnavailable:
    case StatusCode::kTimeout:
    case StatusCode::kResourceExhausted:
      return Status(StatusCode::kNoQuorum, status.message());
    case StatusCode::kStaleReplica:
    case StatusCode::kUnknownChunk:
    case StatusCode::kFenced:
    case StatusCode::kDeleted:
    case StatusCode::kCorrupt:
      return Status(StatusCode::kDamaged, status.message());
    default:
      return status;
  }
}

}  // namespace

Result<size_t> FileCore::Read(uint64_t offset, std::span<std::byte> buffer) {
  Lock lock(mu_);
  const int64_t deadline = Now() + context_.options.read_timeout_ms * kNanosPerMilli;
  for (;;) {
    if (shut_down_) return Status(StatusCode::kCancelled, "the client is shutting down");
    if (mode_ == Mode::kDetached) return Status(StatusCode::kLeaseLost, "no lease is held");
    if (!lost_.ok()) return lost_;
    if (offset >= size_) return size_t{0};
    const size_t n = std::min<uint64_t>(buffer.size(), size_ - offset);
    if (n == 0) return size_t{0};
    last_read_ns_ = Now();
    const Status status = ReadOnceLocked(lock, offset, buffer.first(n));
    if (status.ok()) {
      context_.counters->bytes_read += n;
      return n;
    }
    if (!MayRetry(status.code()) || Now() >= deadline) return FinalError(status);
    ForgetLayoutLocked(offset / chunk_bytes_, (offset + n - 1) / chunk_bytes_);
    if (PauseLocked(lock, deadline)) {
      return Status(StatusCode::kInterrupted, "interrupted while reading");
    }
  }
}

Status FileCore::ReadOnceLocked(Lock& lock, uint64_t offset, std::span<std::byte> buffer) {
  const uint64_t attachment = attachment_;
  const int64_t deadline = Now() + context_.options.read_timeout_ms * kNanosPerMilli;
  const uint64_t end = offset + buffer.size();
  CAIRN_RETURN_IF_ERROR(EnsureLayoutLocked(lock, offset / chunk_bytes_, (end - 1) / chunk_bytes_));
  const ReadAhead::Range ahead = read_ahead_.OnRead(offset, buffer.size(), size_);
  if (ahead.empty()) {
    if (const std::optional<Status> read = ReadSmallLocked(lock, offset, buffer)) return *read;
    if (attachment != attachment_) return Status(StatusCode::kLeaseLost, "the lease was given back meanwhile");
  }
  std::vector<ReadPart> parts;
  for (uint64_t at = offset; at < end;) {
    const uint64_t n = std::min(end - at, chunk_bytes_ - at % chunk_bytes_);
    CAIRN_RETURN_IF_ERROR(PlanChunkLocked(lock, at, buffer.subspan(at - offset, n), &parts));
    at += n;
  }
  ReadAheadLocked(ahead);
  for (const ReadPart& part : parts) {
    const Status status = WaitFetchLocked(lock, part.fetch, deadline);
    if (attachment != attachment_)
      return Status(StatusCode::kLeaseLost, "the lease was given back meanwhile");
    if (!status.ok()) {
      context_.clean_budget->Release(cache_.Invalidate(part.offset, part.offset + part.out.size()));
      return status;
    }
    lock.unlock();
    // The data of the fetch does not change any more.
    const Fetch& fetch = *part.fetch;
    const uint64_t in_chunk = part.offset % chunk_bytes_;
    const uint64_t data_end = fetch.data_offset + fetch.data.size();
    const uint64_t have = in_chunk < data_end ? std::min<uint64_t>(part.out.size(), data_end - in_chunk) : 0;
    if (have != 0) std::memcpy(part.out.data(), fetch.data.data() + (in_chunk - fetch.data_offset), have);
    if (have < part.out.size()) std::memset(part.out.data() + have, 0, part.out.size() - have);
    lock.lock();
    if (attachment != attachment_)
      return Status(StatusCode::kLeaseLost, "the lease was given back meanwhile");
    context_.clean_budget->Release(cache_.Consume(part.offset, part.out.size()));
  }
  return Status::Ok();
}

// Asks the master for the places of chunks that are not known. May release the lock meanwhile.
Status FileCore::EnsureLayoutLocked(Lock& lock, uint64_t first, uint64_t last) {
  for (uint64_t index = first; index <= last; ++index) {
    auto found = chunks_.find(index);
    if (found != chunks_.end() && found->second->place_known) continue;
    const uint64_t chunks = (size_ + chunk_bytes_ - 1) / chunk_bytes_;
    const uint64_t wanted = std::max(last - index + 1, kLayoutBatch);
    const uint64_t count = std::max<uint64_t>(1, std::min(wanted, chunks > index ? chunks - index : 1));
    const uint64_t attachment = attachment_;
    const uint64_t shrinks = shrinks_;
    ++background_;
    lock.unlock();
    Result<std::vector<ChunkPlace>> places =
        context_.master->Layout(inode_, index, static_cast<uint32_t>(count));
    lock.lock();
    --background_;
    changed_.notify_all();
    if (!places.ok()) return places.status();
    if (attachment != attachment_)
      return Status(StatusCode::kLeaseLost, "the lease was given back meanwhile");
    if (shrinks == shrinks_) {
      InstallLayoutLocked(index, count, *places);
    } else {
      --index;  // the answer may be of chunks that went: ask again
    }
  }
  return Status::Ok();
}

// As EnsureLayoutLocked, for ranges of any length: what is not in chunks_ afterwards, or without a place there, is a hole. Costs by
// the chunks that exist, not by the length of the range.
Status FileCore::EnsureExistingLocked(Lock& lock, uint64_t first, uint64_t last) {
  if (last - first < kLayoutBatch) return EnsureLayoutLocked(lock, first, last);
  while (first <= last) {
    CAIRN_ASSIGN_OR_RETURN(first, LoadExistingLocked(lock, first, last));
  }
  return Status::Ok();
}

Result<uint64_t> FileCore::LoadExistingLocked(Lock& lock, uint64_t first, uint64_t last) {
  constexpr uint32_t kPage = 512;
  for (;;) {
    const uint64_t attachment = attachment_;
    const uint64_t shrinks = shrinks_;
    ++background_;
    lock.unlock();
    Result<std::vector<ChunkPlace>> places = context_.master->ExistingChunks(inode_, first, kPage);
    lock.lock();
    --background_;
    changed_.notify_all();
    if (!places.ok()) return places.status();
    if (attachment != attachment_)
      return Status(StatusCode::kLeaseLost, "the lease was given back meanwhile");
    if (shrinks != shrinks_) continue;  // the answer may be of chunks that went: ask again
    for (const ChunkPlace& place : *places) {
      if (place.index > last) return last + 1;
      const auto found = chunks_.find(place.index);
      if (found == chunks_.end() || !found->second->place_known) InstallPlaceLocked(place);
    }
    return places->size() < kPage ? last + 1 : places->back().index + 1;
  }
}

// A read failed: the replicas may have moved.
void FileCore::ForgetLayoutLocked(uint64_t first, uint64_t last) {
  whole_layout_of_ = kNoAttachment;
  for (auto it = chunks_.lower_bound(first); it != chunks_.end() && it->first <= last; ++it) {
    ChunkState& chunk = *it->second;
    if (chunk.writer == nullptr && !chunk.writable_under(lease_)) chunk.place_known = false;
  }
}

Result<FileCore::Source> FileCore::SourceLocked(const ChunkState& chunk) const {
  Source source;
  source.length = chunk.length;
  if (!chunk.place.chunk) return source;
  const ChunkPlace& place = chunk.place;
  const bool written = chunk.writer != nullptr && !chunk.writer->never_begun();
  if (!written) {
    if (!place.sealed.epoch && chunk.writable_under(lease_)) {
      if (place.config.base == Stamp{}) return source;  // new: nothing there yet
      // An old chunk, announced and not begun: members hold what it continues on, which is asked for exactly.
      source.kind = Source::kReplicas;
      source.want = place.config.base;
      source.servers = place.config.members;
      source.length = place.length;
      return source;
    }
    if (!place.sealed.epoch) {
      return Status(place.damaged ? StatusCode::kDamaged : StatusCode::kUnavailable,
                    "read refused: chunk " + ToString(place.chunk) + " is not sealed yet" +
                        (place.detail.empty() ? "" : " (" + place.detail + ")"));
    }
    if (place.carriers.empty()) {
      return Status(StatusCode::kDamaged, "read refused: no replica of chunk " + ToString(place.chunk) +
                                              " is known to hold " + ToString(place.sealed) +
                                              (place.detail.empty() ? "" : " (" + place.detail + ")"));
    }
    source.kind = Source::kReplicas;
    source.want = place.sealed;
    source.servers = place.carriers;
    source.length = place.length;
    return source;
  }
  const replication::Configuration& config = chunk.writer->config();
  const uint64_t done = chunk.writer->done_seq();
  if (done == config.base.seq && !chunk.activated) {
    // The first mutation is on its way. A new chunk has nothing else; the bytes of an old one can be asked
    // for by the new stamp only after it arrived.
    source.kind = config.base == Stamp{} ? Source::kZeros : Source::kWait;
    return source;
  }
  source.kind = Source::kReplicas;
  source.want = {config.epoch, done};
  source.exact = false;
  for (ServerId server : config.members) {
    if (chunk.writer->Carries(server, done)) source.servers.push_back(server);
  }
  if (source.servers.empty()) source.servers = config.members;  // the stamp is checked by who is asked
  return source;
}

Status FileCore::PlanChunkLocked(Lock& lock, uint64_t offset, std::span<std::byte> out,
                                 std::vector<ReadPart>* parts) {
  const uint64_t index = offset / chunk_bytes_;
  const uint64_t in_chunk = offset % chunk_bytes_;
  for (;;) {
    auto found = chunks_.find(index);
    if (found == chunks_.end()) return Status(StatusCode::kUnavailable, "the layout changed");
    ChunkState& chunk = *found->second;
    std::vector<Gap> gaps = {{in_chunk, out.size()}};
    gaps = PaintDirty(chunk.dirty, in_chunk, out, std::move(gaps));
    gaps = chunk.log.Paint(in_chunk, out, std::move(gaps));
    if (gaps.empty()) return Status::Ok();
    CAIRN_ASSIGN_OR_RETURN(const Source source, SourceLocked(chunk));
    if (source.kind == Source::kWait || chunk.log.OverlapsStagedUndone(in_chunk, out.size())) {
      const uint64_t attachment = attachment_;
      const int64_t now = Now();
      if (std::optional<Status> stalled = StalledLocked(chunk, now)) return *stalled;
      if (WaitLocked(lock, now + kNanosPerSecond)) {
        return Status(StatusCode::kInterrupted, "interrupted while reading");
      }
      if (attachment != attachment_)
        return Status(StatusCode::kLeaseLost, "the lease was given back meanwhile");
      continue;
    }
    for (const Gap& gap : gaps) {
      if (gap.offset + gap.length <= source.length && source.kind == Source::kReplicas) continue;
      const uint64_t zeros_from =
          source.kind == Source::kZeros ? gap.offset : std::max(gap.offset, source.length);
      std::memset(out.data() + (zeros_from - in_chunk), 0, gap.offset + gap.length - zeros_from);
    }
    if (source.kind == Source::kZeros) return Status::Ok();
    std::erase_if(gaps, [&](const Gap& gap) { return gap.offset >= source.length; });
    for (Gap& gap : gaps) gap.length = std::min(gap.length, source.length - gap.offset);
    if (gaps.size() > kMaxGaps &&
        gaps.back().offset + gaps.back().length - gaps.front().offset <= kFetchBytes) {
      const uint64_t from = gaps.front().offset;
      const FetchRef fetch = StartFetchLocked(
          chunk, source, from, static_cast<uint32_t>(gaps.back().offset + gaps.back().length - from));
      for (const Gap& gap : gaps) {
        parts->push_back(
            {index * chunk_bytes_ + gap.offset, out.subspan(gap.offset - in_chunk, gap.length), fetch});
      }
      return Status::Ok();
    }
    for (const Gap& gap : gaps) PlanGapLocked(chunk, source, gap, in_chunk, out, parts);
    return Status::Ok();
  }
}

// What was read ahead already is waited for, the rest is asked for now.
void FileCore::PlanGapLocked(ChunkState& chunk, const Source& source, Gap gap, uint64_t base,
                             std::span<std::byte> out, std::vector<ReadPart>* parts) {
  const uint64_t chunk_start = chunk.index * chunk_bytes_;
  while (gap.length != 0) {
    const uint64_t at = chunk_start + gap.offset;
    uint64_t n = 0;
    FetchRef fetch;
    if (auto* range = cache_.Find(at); range != nullptr) {
      n = std::min(gap.length, range->end - at);
      fetch = range->value;
    } else {
      n = std::min({gap.length, kFetchBytes, cache_.NextStart(at, at + gap.length) - at});
      fetch = StartFetchLocked(chunk, source, gap.offset, static_cast<uint32_t>(n));
    }
    parts->push_back({at, out.subspan(gap.offset - base, n), std::move(fetch)});
    gap.offset += n;
    gap.length -= n;
  }
}

void FileCore::ReadAheadLocked(ReadAhead::Range range) {
  for (uint64_t at = range.from; at < range.to;) {
    const uint64_t index = at / chunk_bytes_;
    const uint64_t in_chunk = at % chunk_bytes_;
    // Aligned ends, so that the fetches of a stream are aligned from the second one on.
    uint64_t n = std::min({range.to - at, kFetchBytes - at % kFetchBytes, chunk_bytes_ - in_chunk});
    auto found = chunks_.find(index);
    if (found == chunks_.end() || !found->second->place_known) {
      LoadLayoutAheadLocked(index);
      return;
    }
    const ChunkState& chunk = *found->second;
    Result<Source> source = SourceLocked(chunk);
    if (!source.ok()) return;
    if (const auto* cached = cache_.Find(at); cached != nullptr) {
      n = std::min(n, cached->end - at);
    } else if (source->kind == Source::kReplicas && in_chunk < source->length) {
      n = std::min(n, cache_.NextStart(at, at + n) - at);
      // What is being written is read when it is wanted.
      const bool dirty = chunk.dirty.Overlaps(in_chunk, n) || chunk.log.Overlaps(in_chunk, n);
      const uint64_t fetched = std::min(n, source->length - in_chunk);
      if (!dirty) {
        while (cache_.bytes() + fetched > 2 * context_.options.read_ahead_bytes) {
          context_.clean_budget->Release(cache_.EvictOldest());
        }
        if (!context_.clean_budget->TryAcquire(fetched)) return;
        cache_.Insert(at, at + fetched,
                      StartFetchLocked(chunk, *source, in_chunk, static_cast<uint32_t>(fetched)));
        context_.counters->read_ahead_bytes += fetched;
      }
    }
    at += n;
  }
  ArmCacheExpiryLocked();
}

void FileCore::LoadLayoutAheadLocked(uint64_t index) {
  ChunkState& chunk = ChunkLocked(index);
  if (chunk.layout_loading) return;
  chunk.layout_loading = true;
  RunLocked([self = shared_from_this(), index, attachment = attachment_, shrinks = shrinks_] {
    Result<std::vector<ChunkPlace>> places =
        self->context_.master->Layout(self->inode_, index, static_cast<uint32_t>(kLayoutBatch));
    std::lock_guard lock(self->mu_);
    if (self->shut_down_ || attachment != self->attachment_) return;
    if (auto found = self->chunks_.find(index); found != self->chunks_.end())
      found->second->layout_loading = false;
    if (places.ok() && shrinks == self->shrinks_) self->InstallLayoutLocked(index, kLayoutBatch, *places);
    self->changed_.notify_all();
  });
}

// What was read ahead for an application that stopped reading must not keep others from reading ahead.
void FileCore::ArmCacheExpiryLocked() {
  if (cache_expiry_armed_ || cache_.empty() || shut_down_) return;
  cache_expiry_armed_ = true;
  context_.scheduler->RunAfter(kCacheIdleMs, [weak = weak_from_this()] {
    if (auto self = weak.lock()) self->ExpireCache();
  });
}

void FileCore::ExpireCache() {
  std::lock_guard lock(mu_);
  cache_expiry_armed_ = false;
  if (shut_down_) return;
  if (Now() - last_read_ns_ >= kCacheIdleMs * kNanosPerMilli) {
    context_.clean_budget->Release(cache_.Clear());
  }
  ArmCacheExpiryLocked();
}

}  // namespace cairn::client
