// FileCore: the target's side of a copy that chunkservers make.
//
// A piece of the source (at most a slot of the target) is staged at all members of its target chunk, several pieces at a time. As soon
// as W of them answered with the same checksums the piece is a mutation like any other, in the order of the range: numbered, sent to
// all members, done at W. A piece that cannot be staged ends the copy before it; the caller copies it in another way.
#include <algorithm>
#include <deque>
#include <string>
#include <utility>

#include "client/data/file_core.h"
#include "common/checksum.h"

namespace cairn::client {
namespace {

using replication::MutationKind;

constexpr uint64_t kMaxFileBytes = (uint64_t{1} << 63) - 1;
constexpr size_t kMaxPieces = 64;    // asked for
constexpr size_t kMaxWritten = 512;  // and of those that are not on W replicas yet

}  // namespace

// One call of CopyParts. Everything under the file's lock.
class FileCore::PartsCopy {
 public:
  PartsCopy(FileCore* core, uint64_t offset, std::span<const CopyPart> parts, TimeSpec now, FileData::CopyMode mode)
      : core_(core), parts_(parts), now_(now), mode_(mode), issued_to_(offset), written_to_(offset) {}

  Result<uint64_t> Run(Lock& lock, uint64_t offset) {
    const uint64_t attachment = core_->attachment_;
    const int64_t patience = core_->context_.options.write_timeout_ms * kNanosPerMilli;
    int64_t progress_ns = core_->Now();
    for (;;) {
      CAIRN_RETURN_IF_ERROR(core_->CheckWritableLocked());
      if (attachment != core_->attachment_) return Status(StatusCode::kLeaseLost, "the lease was given back meanwhile");
      CAIRN_RETURN_IF_ERROR(core_->CheckStalledLocked());
      const bool issued = IssueLocked();
      CAIRN_ASSIGN_OR_RETURN(const bool written, WriteReadyLocked(lock));
      if (issued || written) {
        progress_ns = core_->Now();
        continue;
      }
      const bool failed = !pieces_.empty() && pieces_.front().staged != nullptr && pieces_.front().staged->failed;
      if (failed || (pieces_.empty() && (ended_ || part_ == parts_.size()))) break;
      if (core_->Now() - progress_ns >= patience) break;  // what is missing is the other way's to wait for, and to tell
      if (core_->WaitLocked(lock, core_->Now() + kNanosPerSecond)) return Interrupted(offset);
    }
    const Status done = core_->WaitDoneLocked(lock, core_->next_number_ - 1, nullptr);
    if (done.code() == StatusCode::kInterrupted) return Interrupted(offset);
    CAIRN_RETURN_IF_ERROR(done);
    return written_to_ - offset;
  }

 private:
  struct Piece {
    uint64_t offset = 0;
    uint64_t length = 0;
    std::shared_ptr<StagedPiece> staged;  // null: a hole
  };
  struct Written {
    uint64_t index = 0;  // of the chunk
    uint64_t number = 0;
    uint64_t bytes = 0;
  };

  Result<uint64_t> Interrupted(uint64_t offset) const {
    if (written_to_ > offset) return written_to_ - offset;  // like what write() buffered
    return Status(StatusCode::kInterrupted, "interrupted while copying");
  }

  bool RoomLocked(uint64_t bytes) {
    while (!written_.empty() && core_->NumberDoneLocked(written_.front().index, written_.front().number)) {
      under_way_ -= written_.front().bytes;
      written_.pop_front();
    }
    return pieces_.size() < kMaxPieces && written_.size() < kMaxWritten && (under_way_ == 0 || under_way_ + bytes <= kStageWindowBytes);
  }

  // Asks for as many pieces as there is room for. True: something was asked for.
  bool IssueLocked() {
    bool any = false;
    while (part_ < parts_.size() && !ended_) {
      const CopyPart& part = parts_[part_];
      if (part.kind == CopyPart::kBytes) {
        ended_ = true;
        break;
      }
      uint64_t n = part.length - in_part_;
      if (part.kind == CopyPart::kHole) {
        if (pieces_.size() >= kMaxPieces) {
          ended_ = mode_.at_once;
          break;
        }
        pieces_.push_back({issued_to_, n, nullptr});
      } else {
        const uint64_t slot = std::min(kSlotBytes, core_->chunk_bytes_);
        n = std::min(n, slot - issued_to_ % slot);
        if (!RoomLocked(n)) {
          ended_ = mode_.at_once;
          break;
        }
        if (!core_->OpenForCopyLocked(issued_to_ / core_->chunk_bytes_, &ended_)) break;
        ChunkState& chunk = core_->ChunkLocked(issued_to_ / core_->chunk_bytes_);
        pieces_.push_back({issued_to_, n,
                           core_->StageLocked(chunk, part, in_part_, issued_to_ % core_->chunk_bytes_,
                                              static_cast<uint32_t>(n))});
        under_way_ += n;
      }
      any = true;
      issued_to_ += n;
      in_part_ += n;
      if (in_part_ == part.length) {
        ++part_;
        in_part_ = 0;
      }
    }
    return any;
  }

  // Writes the pieces at the front that are ready. True: there were some.
  Result<bool> WriteReadyLocked(Lock& lock) {
    bool any = false;
    // With the first mutation of the chunk its stamp is another one: nothing is to be staged any more then.
    if (mode_.at_once) {
      const bool settled = std::all_of(pieces_.begin(), pieces_.end(), [](const Piece& piece) {
        return piece.staged == nullptr || piece.staged->agreed() || piece.staged->failed;
      });
      if (!settled || (part_ < parts_.size() && !ended_)) return false;
    }
    while (!pieces_.empty()) {
      const Piece piece = pieces_.front();
      if (piece.staged != nullptr && !piece.staged->agreed()) break;
      if (piece.staged == nullptr) {
        CAIRN_RETURN_IF_ERROR(HoleLocked(lock, piece));
      } else {
        WriteLocked(piece);
      }
      pieces_.pop_front();
      written_to_ = piece.offset + piece.length;
      any = true;
    }
    return any;
  }

  void WriteLocked(const Piece& piece) {
    const uint64_t in_chunk = piece.offset % core_->chunk_bytes_;
    ChunkState& chunk = core_->ChunkLocked(piece.offset / core_->chunk_bytes_);
    if (chunk.dirty.Overlaps(in_chunk, piece.length)) core_->LogDirtyLocked(chunk, true);
    written_.push_back({chunk.index, core_->next_number_, piece.length});
    core_->LogLocked(chunk, MutationKind::kWrite, in_chunk, piece.length, {}, piece.staged);
    core_->context_.counters->bytes_copied += piece.length;
    ChangedLocked(piece);
    core_->PumpLocked(chunk);
  }

  Status HoleLocked(Lock& lock, const Piece& piece) {
    if (piece.offset < core_->size_) CAIRN_RETURN_IF_ERROR(core_->ZeroLocked(lock, piece.offset, piece.length));
    CAIRN_RETURN_IF_ERROR(core_->CheckWritableLocked());
    ChangedLocked(piece);
    return Status::Ok();
  }

  void ChangedLocked(const Piece& piece) {
    const uint64_t end = piece.offset + piece.length;
    core_->size_ = std::max(core_->size_, end);
    core_->TouchLocked(now_);
    core_->context_.clean_budget->Release(core_->cache_.Invalidate(piece.offset, end));
    core_->ArmTickLocked();
  }

  FileCore* const core_;
  const std::span<const CopyPart> parts_;
  const TimeSpec now_;
  const FileData::CopyMode mode_;
  size_t part_ = 0;       // the next to be asked for
  uint64_t in_part_ = 0;
  uint64_t issued_to_;
  uint64_t written_to_;
  bool ended_ = false;    // a part has to be copied in another way
  std::deque<Piece> pieces_;     // asked for
  std::deque<Written> written_;  // in the log; those that are done go
  uint64_t under_way_ = 0;       // bytes of both
};

Result<uint64_t> FileCore::CopyParts(uint64_t offset, std::span<const CopyPart> parts, TimeSpec now,
                                     FileData::CopyMode mode) {
  uint64_t end = offset;
  for (const CopyPart& part : parts) {
    if (end + part.length < end || end + part.length > kMaxFileBytes)
      return Status(StatusCode::kFileTooLarge, "the copy ends beyond the largest file size");
    end += part.length;
  }
  Lock lock(mu_);
  if (end > size_) CAIRN_RETURN_IF_ERROR(KnowTailLocked(lock));
  return PartsCopy(this, offset, parts, now, mode).Run(lock, offset);
}

// The error of a chunk that does not get on, as a write would meet it.
Status FileCore::CheckStalledLocked() {
  const int64_t now = Now();
  for (uint64_t index : active_) {
    ChunkState& chunk = *chunks_.at(index);
    if (std::optional<Status> stalled = StalledLocked(chunk, now)) {
      NoteFailureLocked(chunk, *stalled);
      return *stalled;
    }
  }
  return Status::Ok();
}

// True when the chunk is open for writing; otherwise it is being asked for, or `refused`: a write will find out why, and for how long.
bool FileCore::OpenForCopyLocked(uint64_t index, bool* refused) {
  ChunkState& chunk = ChunkLocked(index);
  if (chunk.writable_under(lease_)) return true;
  if (!chunk.announcing && !chunk.master_status.ok()) {
    *refused = true;
  } else {
    AnnounceLocked(index);
  }
  return false;
}

bool FileCore::NumberDoneLocked(uint64_t index, uint64_t number) const {
  const auto found = chunks_.find(index);
  return found == chunks_.end() || found->second->log.all_done() || found->second->log.oldest_undone() > number;
}

}  // namespace cairn::client
