// Changes of replicas: each is checked by the rules, appended as one record and applied to the index.
#include <algorithm>

#include "chunkserver/store/log_chunk_store.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/log.h"

namespace cairn::chunkserver {
namespace {

using replication::Action;
using replication::Mutation;
using replication::MutationKind;
using replication::ReplicaInfo;
using replication::ReplicaState;
using replication::Verdict;

// Far beyond any chunk size; keeps block arithmetic from overflowing.
constexpr uint64_t kMaxChunkBytes = 1ull << 44;
constexpr int64_t kAskForSpaceEvery = 200 * kNanosPerMilli;
// While so much is free beside what the index needs, the file system is not asked for each delete.
constexpr uint64_t kAmpleBytes = 64ull << 20;
constexpr int kDeletesPerCheck = 1000;
constexpr uint64_t kStateRecordBytes = kRecordHeaderBytes;

Status Validate(const wire::MutateRequest& request, std::span<const std::byte> data) {
  const Mutation& mutation = request.mutation;
  const auto invalid = [&](const std::string& what) {
    return Status(StatusCode::kInvalidArgument,
                  "mutation of chunk " + ToString(mutation.chunk) + ": " + what);
  };
  if (!mutation.chunk) return invalid("chunk 0 does not exist");
  if (mutation.offset > kMaxChunkBytes || mutation.length > kMaxChunkBytes ||
      mutation.offset + mutation.length > kMaxChunkBytes) {
    return invalid("range at " + std::to_string(mutation.offset) + " of " + std::to_string(mutation.length) +
                   " bytes is beyond any chunk");
  }
  switch (mutation.kind) {
    case MutationKind::kWrite: {
      if (data.empty() || data.size() != mutation.length || data.size() > wire::kMaxTransferBytes) {
        return invalid("a write of " + std::to_string(mutation.length) + " bytes came with " +
                       std::to_string(data.size()));
      }
      if (request.checksums.size() != BlocksTouched(mutation.offset, mutation.length)) {
        return invalid("a write of " + std::to_string(mutation.length) + " bytes came with " +
                       std::to_string(request.checksums.size()) + " checksums");
      }
      const int64_t bad = FirstBadBlock(mutation.chunk, mutation.offset, data, request.checksums);
      if (bad >= 0) {
        return {StatusCode::kCorrupt,
                "write to chunk " + ToString(mutation.chunk) + " refused: block " +
                    std::to_string(mutation.offset / kBlockBytes + static_cast<uint64_t>(bad)) +
                    " arrived damaged (its checksum does not match); send it again"};
      }
      return Status::Ok();
    }
    case MutationKind::kTruncate:
    case MutationKind::kZero:
      if (!data.empty()) return invalid("data with a truncation or zeroing");
      return Status::Ok();
  }
  return invalid("unknown kind");
}

}  // namespace

Status LogChunkStore::CheckWritable() const { return health_.failed() ? health_.failure() : Status::Ok(); }

// A disk that may have forgotten promises must not give new ones before the master's epoch floor stands in for them: a fenced
// writer could be confirmed again.
Status LogChunkStore::CheckTrusted() const {
  if (!amnesic()) return Status::Ok();
  return {StatusCode::kUnavailable,
          options_.directory + " may have lost what it confirmed before an unclean stop; it takes part again once the master was told"};
}

Status LogChunkStore::CheckRoom(uint64_t bytes) {
  const int64_t now = SystemClock::Get()->NowNanos();
  if (room_left_bytes_ < static_cast<int64_t>(bytes) || now - room_checked_at_ns_ > kAskForSpaceEvery) {
    CAIRN_ASSIGN_OR_RETURN(const FileSystemSpace space, env_->Space(options_.directory));
    room_checked_at_ns_ = now;
    // Others write to this file system too: ask again well before the margin is used up. What was set aside and given up is to
    // come back.
    const uint64_t kept = reserve_bytes_ + spare_.missing_bytes();
    const int64_t margin = static_cast<int64_t>(space.free_bytes) - static_cast<int64_t>(kept);
    if (margin < static_cast<int64_t>(bytes)) {
      room_left_bytes_ = 0;
      if (!room_full_) {
        CAIRN_LOG(Warning, "{}: full: {} bytes free, {} are kept in reserve; writes are refused",
                  options_.directory, space.free_bytes, kept);
      }
      room_full_ = true;
      return {StatusCode::kNoSpace, "the disk " + options_.directory +
                                        " is full: " + std::to_string(space.free_bytes) +
                                        " bytes free, of which " + std::to_string(kept) +
                                        " are kept for deletes and repair; delete something or add space"};
    }
    room_full_ = false;
    room_left_bytes_ = std::max<int64_t>(margin / 4, static_cast<int64_t>(bytes));
  }
  return Status::Ok();
}

Status LogChunkStore::CheckRoomToDelete(uint64_t leave_bytes) {
  const int64_t now = SystemClock::Get()->NowNanos();
  if (deletes_left_ > 0 && now - deletes_checked_at_ns_ < kAskForSpaceEvery) {
    --deletes_left_;
    return Status::Ok();
  }
  CAIRN_ASSIGN_OR_RETURN(FileSystemSpace space, env_->Space(options_.directory));
  const uint64_t needed = CheckpointNeeds() + leave_bytes;
  if (space.free_bytes < needed && spare_.Give()) {
    CAIRN_LOG(Warning, "{}: full: {} bytes free; the space that was kept for deletes is used", options_.directory,
              space.free_bytes);
    WantCheckpoint();
    CAIRN_ASSIGN_OR_RETURN(space, env_->Space(options_.directory));
  }
  if (space.free_bytes < needed) {
    return {StatusCode::kNoSpace, "the disk " + options_.directory + " is full to the last: with " +
                                      std::to_string(space.free_bytes) +
                                      " bytes free, deletes wait until the space of earlier ones is given back"};
  }
  deletes_checked_at_ns_ = now;
  deletes_left_ = space.free_bytes - needed > kAmpleBytes ? kDeletesPerCheck : 0;
  return Status::Ok();
}

Result<LogChunkStore::Present> LogChunkStore::Load(ChunkId chunk) {
  auto found = index_->Find(chunk);
  if (!found.ok()) return IndexError(found.status());
  Present present;
  present.entry = *found;
  present.visible = present.entry && present.entry->quarantine_until == 0;
  if (present.visible) present.state = present.entry->state;
  present.state.promised = std::max(present.state.promised, index_->epoch_floor());
  return present;
}

Result<Record> LogChunkStore::NewRecord(RecordType type, ChunkId chunk, const Present& present) {
  Record record;
  record.type = type;
  record.chunk = chunk;
  record.state = present.state;
  if (present.entry) {
    record.corrupt = present.visible && present.entry->corrupt;
    record.first_segment = present.entry->first_segment;
    return record;
  }
  auto grave = index_->FindGrave(chunk);
  if (!grave.ok()) return IndexError(grave.status());
  record.first_segment = log_->end().segment;
  if (*grave) record.first_segment = std::min(record.first_segment, (*grave)->first_segment);
  return record;
}

Status LogChunkStore::MakeAbsent(ChunkId chunk, Present* present) {
  if (!present->entry || present->visible) return Status::Ok();
  CAIRN_ASSIGN_OR_RETURN(Record record, NewRecord(RecordType::kErase, chunk, *present));
  record.state = ReplicaState{};
  CAIRN_RETURN_IF_ERROR(Commit(&record, {}));
  present->entry.reset();
  return Status::Ok();
}

ReplicaInfo LogChunkStore::InfoOf(ChunkId chunk, const ChunkEntry& entry) const {
  ReplicaInfo info;
  info.chunk = chunk;
  info.promised = std::max(entry.state.promised, index_->epoch_floor());
  info.accepted = entry.state.accepted;
  info.durable = DurableStamp(entry, log_->synced());
  info.length = entry.state.length;
  info.sealed = entry.state.sealed;
  info.tombstone = entry.state.tombstone;
  // Also after the master set a floor: a replica that has not been written or synced since may lack what it confirmed before.
  info.amnesic = amnesic() || entry.state.accepted.epoch < index_->epoch_floor();
  info.corrupt = entry.corrupt;
  return info;
}

Status LogChunkStore::Mutate(const wire::MutateRequest& request, std::span<const std::byte> data,
                             ReplicaInfo* info) {
  const Mutation& mutation = request.mutation;
  CAIRN_RETURN_IF_ERROR(Validate(request, data));
  if (checkpoint_overdue_) CAIRN_RETURN_IF_ERROR(Checkpoint());  // bounds the index's memory
  std::lock_guard lock(mu_);
  CAIRN_ASSIGN_OR_RETURN(Present present, Load(mutation.chunk));
  if (present.visible && info != nullptr) *info = InfoOf(mutation.chunk, *present.entry);
  CAIRN_RETURN_IF_ERROR(CheckWritable());
  CAIRN_RETURN_IF_ERROR(CheckTrusted());
  Verdict verdict = CheckMutation(present.state, mutation);
  if (verdict.action == Action::kRefuse) return verdict.status;
  if (verdict.action == Action::kDuplicate) return Status::Ok();
  CAIRN_RETURN_IF_ERROR(CheckRoom(data.size() + kStateRecordBytes));
  CAIRN_RETURN_IF_ERROR(MakeAbsent(mutation.chunk, &present));

  CAIRN_ASSIGN_OR_RETURN(Record record, NewRecord(RecordType::kWrite, mutation.chunk, present));
  const uint64_t length = present.state.length;
  Edit edit(mutation.chunk, &record, this);
  Status made;
  switch (mutation.kind) {
    case MutationKind::kWrite:
      made = edit.Write(mutation.offset, data, request.checksums, length);
      break;
    case MutationKind::kTruncate:
      record.type = RecordType::kTruncate;
      made = edit.Truncate(mutation.offset, length);
      break;
    case MutationKind::kZero:
      record.type = RecordType::kZero;
      made = edit.Zero(mutation.offset, mutation.length, length);
      break;
  }
  if (made.code() == StatusCode::kCorrupt) {
    CAIRN_RETURN_IF_ERROR(MarkCorruptLocked(mutation.chunk, present));
    if (info != nullptr) info->corrupt = true;
  }
  CAIRN_RETURN_IF_ERROR(made);
  record.state = verdict.next;
  CAIRN_RETURN_IF_ERROR(Commit(&record, edit.payload()));
  if (info != nullptr) {
    CAIRN_ASSIGN_OR_RETURN(present, Load(mutation.chunk));
    *info = InfoOf(mutation.chunk, *present.entry);
  }
  return Status::Ok();
}

Status LogChunkStore::ChangeState(ChunkId chunk, Unknown unknown, ReplicaInfo* info,
                                  const std::function<Verdict(const ReplicaState&)>& check) {
  if (!chunk) return {StatusCode::kInvalidArgument, "chunk 0 does not exist"};
  std::lock_guard lock(mu_);
  CAIRN_ASSIGN_OR_RETURN(Present present, Load(chunk));
  if (!present.visible && unknown == Unknown::kRefuse) {
    return {StatusCode::kUnknownChunk, "chunk " + ToString(chunk) + " is not on this disk"};
  }
  if (present.visible && info != nullptr) *info = InfoOf(chunk, *present.entry);
  CAIRN_RETURN_IF_ERROR(CheckWritable());
  CAIRN_RETURN_IF_ERROR(CheckTrusted());
  const Verdict verdict = check(present.state);
  if (verdict.action == Action::kRefuse) return verdict.status;
  if (verdict.action == Action::kDuplicate && present.visible) return Status::Ok();
  CAIRN_RETURN_IF_ERROR(MakeAbsent(chunk, &present));
  CAIRN_ASSIGN_OR_RETURN(Record record, NewRecord(RecordType::kState, chunk, present));
  record.state = verdict.next;
  CAIRN_RETURN_IF_ERROR(Commit(&record, {}));
  if (info != nullptr) {
    CAIRN_ASSIGN_OR_RETURN(present, Load(chunk));
    *info = InfoOf(chunk, *present.entry);
  }
  return Status::Ok();
}

Status LogChunkStore::Begin(ChunkId chunk, Epoch epoch, Stamp base, ReplicaInfo* info) {
  return ChangeState(chunk, Unknown::kCreate, info,
                     [&](const ReplicaState& state) { return CheckBegin(state, epoch, base); });
}

Status LogChunkStore::Fence(ChunkId chunk, Epoch epoch, ReplicaInfo* info) {
  // Also for a chunk that never arrived here: a begin of a lower epoch may still be on its way.
  return ChangeState(chunk, Unknown::kCreate, info,
                     [&](const ReplicaState& state) { return CheckFence(state, epoch); });
}

Status LogChunkStore::Seal(ChunkId chunk, Stamp stamp, ReplicaInfo* info) {
  return ChangeState(chunk, Unknown::kRefuse, info,
                     [&](const ReplicaState& state) { return CheckSeal(state, stamp); });
}

Status LogChunkStore::PrepareDelete(ChunkId chunk, Epoch epoch, ReplicaInfo* info) {
  return ChangeState(chunk, Unknown::kCreate, info, [&](const ReplicaState& state) {
    const Verdict verdict = CheckPrepareDelete(state, epoch);
    if (verdict.action != Action::kApply) return verdict;
    const Status room = CheckRoomToDelete(room_to_move_bytes_);
    return room.ok() ? verdict : Verdict{.action = Action::kRefuse, .status = room};
  });
}

Status LogChunkStore::AbortDelete(ChunkId chunk, Epoch epoch, ReplicaInfo* info) {
  return ChangeState(chunk, Unknown::kCreate, info,
                     [&](const ReplicaState& state) { return CheckAbortDelete(state, epoch); });
}

Status LogChunkStore::Erase(ChunkId chunk, Epoch epoch, bool quarantine) {
  std::lock_guard lock(mu_);
  CAIRN_RETURN_IF_ERROR(CheckWritable());
  CAIRN_ASSIGN_OR_RETURN(Present present, Load(chunk));
  if (!present.entry || (!present.visible && quarantine)) return Status::Ok();  // done before
  if (!present.visible) return MakeAbsent(chunk, &present);
  const Verdict verdict = CheckErase(present.state, epoch);
  if (verdict.action == Action::kRefuse) return verdict.status;
  // Prepared deletes must leave room for the erasures, which are what makes something dead.
  CAIRN_RETURN_IF_ERROR(CheckRoomToDelete(room_to_move_bytes_ / 2));
  DropShadow(chunk);
  CAIRN_ASSIGN_OR_RETURN(Record record, NewRecord(RecordType::kErase, chunk, present));
  if (quarantine) {
    record.quarantine_until = env_->WallSeconds() + std::max<uint64_t>(options_.quarantine_seconds, 1);
  } else {
    record.state = verdict.next;
  }
  return Commit(&record, {});
}

Status LogChunkStore::MarkCorruptLocked(ChunkId chunk, const Present& present) {
  if (!present.visible || present.entry->corrupt) return Status::Ok();
  CAIRN_ASSIGN_OR_RETURN(Record record, NewRecord(RecordType::kState, chunk, present));
  record.corrupt = true;
  return Commit(&record, {});
}

Status LogChunkStore::MarkCorrupt(ChunkId chunk, uint64_t offset) {
  std::lock_guard lock(mu_);
  CAIRN_RETURN_IF_ERROR(CheckWritable());
  CAIRN_ASSIGN_OR_RETURN(const Present present, Load(chunk));
  if (!present.visible)
    return {StatusCode::kUnknownChunk, "chunk " + ToString(chunk) + " is not on this disk"};
  if (!present.entry->corrupt) {
    CAIRN_LOG(Error, "{}: chunk {} is damaged at offset {}", options_.directory, ToString(chunk), offset);
  }
  return MarkCorruptLocked(chunk, present);
}

}  // namespace cairn::chunkserver
