// FileCore: what callers change. Bytes become mutations in the log; send_path.cc takes it from there.
#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "client/data/file_core.h"
#include "common/check.h"
#include "common/checksum.h"

namespace cairn::client {
namespace {

using replication::MutationKind;

// Dirty data of one file, in windows: enough to keep sending while the caller fills the next buffers, little
// enough that the memory stays in the processor's cache.
constexpr uint64_t kDirtyWindows = 4;
constexpr size_t kMaxLogged = 4096;

uint64_t WholeBlocks(uint64_t bytes) { return (bytes + kBlockBytes - 1) / kBlockBytes * kBlockBytes; }
// What an off_t can hold, and the master records.
constexpr uint64_t kMaxFileBytes = (uint64_t{1} << 63) - 1;
// Extents of one chunk that are held back in the hope that they grow.
constexpr size_t kMaxHeldExtents = 256;

}  // namespace

// Waits until the file may buffer `bytes` more, and charges them to the budget of all files.
Status FileCore::AdmitWrite(Lock& lock, uint64_t bytes) {
  const uint64_t limit = std::max(kDirtyWindows * context_.options.window_bytes, bytes);
  for (;;) {
    CAIRN_RETURN_IF_ERROR(CheckWritableLocked());
    size_t logged = 0;
    const int64_t now = Now();
    for (uint64_t index : active_) {
      ChunkState& chunk = *chunks_.at(index);
      if (std::optional<Status> stalled = StalledLocked(chunk, now)) {
        NoteFailureLocked(chunk, *stalled);
        return *stalled;
      }
      logged += chunk.log.not_submitted();
    }
    if (dirty_bytes_ + bytes <= limit && logged < kMaxLogged) break;
    LogAllLocked();
    if (WaitLocked(lock, now + kNanosPerSecond)) {
      return Status(StatusCode::kInterrupted, "interrupted while waiting to buffer a write");
    }
  }
  lock.unlock();
  const Status admitted = context_.dirty_budget->Acquire(bytes, context_.options.write_timeout_ms);
  lock.lock();
  CAIRN_RETURN_IF_ERROR(admitted);
  dirty_bytes_ += bytes;
  if (const Status writable = CheckWritableLocked(); !writable.ok()) {  // things changed meanwhile
    ReleaseBudgetLocked(bytes);
    return writable;
  }
  return Status::Ok();
}

Status FileCore::Write(uint64_t offset, std::span<const std::byte> data, TimeSpec now) {
  if (data.empty()) return Status::Ok();
  if (offset + data.size() < offset || offset + data.size() > kMaxFileBytes) {
    return Status(StatusCode::kFileTooLarge, "the write ends beyond the largest file size");
  }
  context_.counters->bytes_written += data.size();
  const uint64_t slot_bytes = std::min(kSlotBytes, chunk_bytes_);
  while (!data.empty()) {
    const size_t n = std::min<uint64_t>(data.size(), slot_bytes - offset % slot_bytes);
    const std::span<const std::byte> piece = data.first(n);
    const uint64_t in_chunk = offset % chunk_bytes_;
    net::PooledBuffer whole_slot;
    Lock lock(mu_);
    if (offset + n > size_) CAIRN_RETURN_IF_ERROR(KnowTailLocked(lock));
    CAIRN_RETURN_IF_ERROR(AdmitWrite(lock, n));
    if (n == slot_bytes) {  // large: copied without the lock, becomes a mutation as it is
      lock.unlock();
      whole_slot = pool_->Acquire(n);
      std::memcpy(whole_slot.bytes.data(), piece.data(), n);
      lock.lock();
      if (const Status writable = CheckWritableLocked(); !writable.ok()) {
        ReleaseBudgetLocked(n);  // no chunk owns this charge yet
        return writable;
      }
    }
    ChunkState& chunk = ChunkLocked(offset / chunk_bytes_);
    active_.insert(chunk.index);
    if (n == slot_bytes) {
      if (chunk.dirty.Overlaps(in_chunk, n)) LogDirtyLocked(chunk, true);
      LogLocked(chunk, MutationKind::kWrite, in_chunk, n, whole_slot.Share());
    } else {
      const uint64_t fresh = chunk.dirty.Write(in_chunk, piece);
      ReleaseBudgetLocked(n - fresh);
      const bool many = chunk.dirty.count() > 1 && chunk.dirty.bytes() >= kSlotBytes;
      if (many || chunk.dirty.count() >= kMaxHeldExtents) {
        LogDirtyLocked(chunk, true);
      } else if ((in_chunk + n) % slot_bytes == 0) {
        LogDirtyLocked(chunk, false);
      }
    }
    size_ = std::max(size_, offset + n);
    TouchLocked(now);
    context_.clean_budget->Release(cache_.Invalidate(offset, offset + n));
    PumpLocked(chunk);
    ArmTickLocked();
    data = data.subspan(n);
    offset += n;
  }
  return Status::Ok();
}

void FileCore::TouchLocked(TimeSpec now) {
  mtime_ = now;
  mtime_changed_ = true;
  last_write_ns_ = Now();
}

void FileCore::LogDirtyLocked(ChunkState& chunk, bool all) {
  for (ReadyExtent& ready : chunk.dirty.Take(all)) {
    const uint64_t length = ready.data.size();
    LogLocked(chunk, MutationKind::kWrite, ready.offset, length, std::move(ready.data));
  }
}

void FileCore::LogLocked(ChunkState& chunk, MutationKind kind, uint64_t offset, uint64_t length,
                         net::SharedBytes data, std::shared_ptr<StagedPiece> staged) {
  if (chunk.waiting_since_ns == 0) chunk.waiting_since_ns = Now();
  active_.insert(chunk.index);
  chunk.last_logged_ns = Now();
  if (kind == MutationKind::kWrite) {
    chunk.length = std::max(chunk.length, offset + length);
    chunk.allocated = std::min(WholeBlocks(chunk.length), chunk.allocated + WholeBlocks(length));
  }
  if (kind == MutationKind::kTruncate) {
    chunk.length = offset;
    chunk.allocated = std::min(WholeBlocks(chunk.length), chunk.allocated);
  }
  LoggedMutation mutation{.kind = kind, .offset = offset, .length = length, .data = std::move(data), .number = next_number_++};
  if (staged != nullptr) mutation.checksums = staged->checksums;
  mutation.staged = std::move(staged);
  chunk.log.Push(std::move(mutation));
}

void FileCore::LogAllLocked() {
  const std::vector<uint64_t> active(active_.begin(), active_.end());
  for (uint64_t index : active) {
    ChunkState& chunk = *chunks_.at(index);
    LogDirtyLocked(chunk, true);
    PumpLocked(chunk);
  }
}

// Before a chunk is truncated or zeroed it has to be known whether there is anything in it.
Status FileCore::PlaceForChangeLocked(Lock& lock, uint64_t index) {
  CAIRN_RETURN_IF_ERROR(CheckWritableLocked());
  CAIRN_RETURN_IF_ERROR(EnsureLayoutLocked(lock, index, index));
  return CheckWritableLocked();
}

// Before the file grows: the chunk in which it ended when the lease came is cut when its place is known.
Status FileCore::KnowTailLocked(Lock& lock) {
  if (uncut_size_ == 0) return Status::Ok();
  CAIRN_RETURN_IF_ERROR(PlaceForChangeLocked(lock, uncut_size_ / chunk_bytes_));
  uncut_size_ = 0;
  return Status::Ok();
}

Status FileCore::Zero(uint64_t offset, uint64_t length, TimeSpec now) {
  Lock lock(mu_);
  CAIRN_RETURN_IF_ERROR(CheckWritableLocked());
  if (offset >= size_) return Status::Ok();
  CAIRN_RETURN_IF_ERROR(ZeroLocked(lock, offset, length));
  TouchLocked(now);
  ArmTickLocked();
  return Status::Ok();
}

// Precondition: offset < size_. May release the lock meanwhile.
Status FileCore::ZeroLocked(Lock& lock, uint64_t offset, uint64_t length) {
  const uint64_t end = offset + std::min(length, size_ - offset);
  const uint64_t last = (end - 1) / chunk_bytes_;
  CAIRN_RETURN_IF_ERROR(EnsureExistingLocked(lock, offset / chunk_bytes_, last));
  // A hole may span more chunks than can be counted: only those that are there matter.
  std::vector<uint64_t> indexes;
  for (auto it = chunks_.lower_bound(offset / chunk_bytes_); it != chunks_.end() && it->first <= last; ++it)
    indexes.push_back(it->first);
  for (const uint64_t index : indexes) {
    const uint64_t chunk_begin = index * chunk_bytes_;
    const uint64_t in_chunk = std::max(offset, chunk_begin) - chunk_begin;
    const uint64_t n = std::min(end - chunk_begin, chunk_bytes_) - in_chunk;
    CAIRN_RETURN_IF_ERROR(PlaceForChangeLocked(lock, index));
    ChunkState& chunk = ChunkLocked(index);
    LogDirtyLocked(chunk, true);
    if (in_chunk < chunk.length) {
      LogLocked(chunk, MutationKind::kZero, in_chunk, std::min(n, chunk.length - in_chunk), {});
    }
    context_.clean_budget->Release(cache_.Invalidate(chunk_begin + in_chunk, chunk_begin + in_chunk + n));
    PumpLocked(chunk);
  }
  return Status::Ok();
}

// The number that the truncation of the boundary chunk to `size` would have; 0 when there is nothing to
// truncate.
Result<uint64_t> FileCore::TruncationSeq(uint64_t size) {
  Lock lock(mu_);
  CAIRN_RETURN_IF_ERROR(CheckWritableLocked());
  if (size >= size_) return uint64_t{0};
  shrinking_from_ = (size + chunk_bytes_ - 1) / chunk_bytes_;
  const int64_t deadline = Now() + context_.options.write_timeout_ms * kNanosPerMilli;
  Status ready;
  while (ready.ok() && announces_ != 0 &&
         Now() < deadline) {  // those come before the truncation at the master
    if (WaitLocked(lock, deadline))
      ready = Status(StatusCode::kInterrupted, "interrupted before a truncation");
    if (ready.ok()) ready = CheckWritableLocked();
  }
  if (ready.ok() && size % chunk_bytes_ == 0) return uint64_t{0};
  if (ready.ok()) ready = PlaceForChangeLocked(lock, size / chunk_bytes_);
  if (!ready.ok()) {
    shrinking_from_ = kNoIndex;
    return ready;
  }
  ChunkState& chunk = ChunkLocked(size / chunk_bytes_);
  LogDirtyLocked(chunk, true);
  PumpLocked(chunk);
  if (chunk.length <= size % chunk_bytes_) return uint64_t{0};
  const uint64_t last = chunk.writer != nullptr              ? chunk.writer->last_seq()
                        : chunk.writable_under(lease_)       ? chunk.place.config.base.seq
                                                             : chunk.place.sealed.seq;
  return last + chunk.log.not_submitted() + 1;
}

void FileCore::CancelTruncation() {
  std::lock_guard lock(mu_);
  shrinking_from_ = kNoIndex;
  LogAllLocked();
}

Status FileCore::Truncate(uint64_t size, TimeSpec now) {
  Lock lock(mu_);
  CAIRN_RETURN_IF_ERROR(CheckWritableLocked());
  if (size >= size_) {
    shrinking_from_ = kNoIndex;
    if (size > size_) CAIRN_RETURN_IF_ERROR(KnowTailLocked(lock));
    size_ = std::max(size_, size);
    TouchLocked(now);
    return Status::Ok();
  }
  const uint64_t boundary = size / chunk_bytes_;
  const uint64_t rest = size % chunk_bytes_;
  ++shrinks_;
  shrinking_from_ = boundary + (rest != 0 ? 1 : 0);  // also while the layout is asked for
  if (rest != 0) {
    if (const Status known = PlaceForChangeLocked(lock, boundary); !known.ok()) {
      shrinking_from_ = kNoIndex;
      return known;
    }
  }
  for (auto it = chunks_.lower_bound(rest == 0 ? boundary : boundary + 1); it != chunks_.end();) {
    DropDirtyLocked(*it->second);
    std::erase_if(commit_.seals, [&](const SealedChunk& seal) { return seal.chunk == it->second->place.chunk; });
    active_.erase(it->first);
    if (it->second->place.chunk) index_of_.erase(it->second->place.chunk);
    it = chunks_.erase(it);
  }
  if (rest != 0) {
    ChunkState& chunk = ChunkLocked(boundary);
    ReleaseBudgetLocked(chunk.dirty.TruncateTo(rest));
    LogDirtyLocked(chunk, true);
    if (chunk.length > rest) LogLocked(chunk, MutationKind::kTruncate, rest, 0, {});
    PumpLocked(chunk);
  }
  shrinking_from_ = kNoIndex;
  uncut_size_ = 0;
  SetRecordedSizeLocked(size);  // the master has logged it
  TouchLocked(now);
  context_.clean_budget->Release(cache_.Clear());
  read_ahead_.Reset();
  ArmTickLocked();
  changed_.notify_all();
  return Status::Ok();
}

}  // namespace cairn::client
