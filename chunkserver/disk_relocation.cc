// A replica moves from one disk of the server to another (DiskSet::Relocate).
//
// The copy is built like that of a sync, on the other disk, under the epoch that the replica has promised, while the old one goes on
// serving. The switch happens under the shard's lock, and only if the old replica is still exactly what it was: a mutation, a fence, a
// seal or a tombstone that came meanwhile is never lost, the copy is thrown away instead. After a crash in between both are found, and
// the newer one is served (DiskSet::SettleDuplicate); equal ones are equal in bytes, too.
#include <algorithm>
#include <utility>

#include "chunkserver/disk_set.h"
#include "common/checksum.h"
#include "common/log.h"

namespace cairn::chunkserver {
namespace {

using replication::ReplicaInfo;

constexpr uint32_t kPieceBytes = 1u << 20;
constexpr uint32_t kRunBytes = 64u << 10;  // holes are kept in these steps

bool AllZero(std::span<const std::byte> bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; });
}

bool SameState(const ReplicaInfo& a, const ReplicaInfo& b) {
  return a.promised == b.promised && a.accepted == b.accepted && a.length == b.length && a.sealed == b.sealed &&
         a.tombstone == b.tombstone && a.amnesic == b.amnesic && a.corrupt == b.corrupt;
}

}  // namespace

std::vector<ChunkId> DiskSet::ChunksOn(size_t disk, size_t limit, ChunkId after) const {
  std::vector<ChunkId> chunks;
  const Slot& slot = slots_[disk];
  if (!slot.disk.store || slot.disk.store->failed()) return chunks;
  const Status listed = slot.disk.store->ForEach([&](const ReplicaInfo& info) {
    if (info.chunk > after) chunks.push_back(info.chunk);
    return chunks.size() < limit;
  });
  if (!listed.ok()) CAIRN_LOG(Warning, "listing the chunks of {}: {}", slot.disk.path, listed.message());
  return chunks;
}

Result<uint32_t> DiskSet::DiskBeside(size_t from, uint64_t bytes) const {
  int best = -1;
  uint64_t best_room = 0;
  for (uint32_t i = 0; i < slots_.size(); ++i) {
    if (i == from || !FailureOf(i).ok() || draining(i) ||
        slots_[i].disk.storage_class != slots_[from].disk.storage_class) {
      continue;
    }
    const StoreUsage usage = slots_[i].disk.store->Usage();
    const uint64_t room = usage.free_bytes > usage.reserve_bytes ? usage.free_bytes - usage.reserve_bytes : 0;
    if (room > bytes && (best < 0 || room > best_room)) {
      best = static_cast<int>(i);
      best_room = room;
    }
  }
  if (best >= 0) return static_cast<uint32_t>(best);
  const std::string& tags = slots_[from].disk.storage_class;
  return Status(StatusCode::kNoSpace, "no other disk of this server" + (tags.empty() ? "" : " with the tags '" + tags + "'") +
                                          " has " + std::to_string((bytes >> 20) + 1) +
                                          " MiB of room; add a disk, or drain the server");
}

Status DiskSet::CopyReplica(ChunkStore& from, ChunkStore& to, const ReplicaInfo& info, RateLimiter* limiter) const {
  for (uint64_t offset = 0; offset < info.length; offset += kPieceBytes) {
    const auto length = static_cast<uint32_t>(std::min<uint64_t>(kPieceBytes, info.length - offset));
    if (!limiter->Take(length)) return {StatusCode::kCancelled, "the chunkserver is shutting down"};
    CAIRN_ASSIGN_OR_RETURN(const ReadData read,
                           from.Read({info.chunk, info.accepted, /*exact=*/true, offset, length}, /*verify=*/true));
    if (read.offset != offset || read.data.size() < length)
      return {StatusCode::kBusy, "chunk " + ToString(info.chunk) + " changed while it was copied"};
    for (uint64_t at = 0; at < read.data.size(); at += kRunBytes) {
      const auto run = read.data.bytes.subspan(at, std::min<uint64_t>(kRunBytes, read.data.size() - at));
      if (AllZero(run)) continue;
      const std::span<const uint32_t> checksums(read.checksums);
      CAIRN_RETURN_IF_ERROR(to.SyncWrite(info.chunk, offset + at, run,
                                         checksums.subspan(at / kBlockBytes, BlocksTouched(0, run.size()))));
    }
  }
  return Status::Ok();
}

class DiskSet::Moving {
 public:
  Moving(Shard* shard, ChunkId chunk) : shard_(shard), chunk_(chunk) {
    std::lock_guard lock(shard_->mu);
    shard_->moving.insert(chunk_);
  }
  ~Moving() {
    std::lock_guard lock(shard_->mu);
    shard_->moving.erase(chunk_);
  }
  Moving(const Moving&) = delete;
  Moving& operator=(const Moving&) = delete;

 private:
  Shard* const shard_;
  const ChunkId chunk_;
};

Status DiskSet::Relocate(ChunkId chunk, size_t from, RateLimiter* limiter) {
  const Moving moving(&ShardOf(chunk), chunk);
  ChunkStore& old_store = *slots_[from].disk.store;
  ReplicaInfo before;
  CAIRN_RETURN_IF_ERROR(old_store.Query(chunk, &before));
  const int located = Locate(chunk);
  if (located < 0) return {StatusCode::kBusy, "it is being erased"};
  // An older copy that another disk superseded (SettleDuplicate): nobody asks for it.
  if (located != static_cast<int>(from)) return old_store.Erase(chunk, before.promised, /*quarantine=*/false);
  if (before.tombstone) return {StatusCode::kBusy, "it is being deleted"};
  if (before.corrupt) return {StatusCode::kCorrupt, "it holds a damaged block; it moves when that is repaired"};
  CAIRN_ASSIGN_OR_RETURN(const uint64_t bytes, old_store.AllocatedBytes(chunk));
  CAIRN_ASSIGN_OR_RETURN(const uint32_t target, DiskBeside(from, bytes));
  ChunkStore& new_store = *slots_[target].disk.store;
  if (old_store.amnesic() || new_store.amnesic())
    return {StatusCode::kBusy, "a disk may have forgotten changes, and the master was not told yet"};
  // What is known of the replica must not become more than it was, nor less where it counts: one below its disk's epoch floor is no full
  // vote in a recovery, and must not pass for one on the other disk. The other way round it would lose its vote, which it does not need
  // once the chunk is sealed.
  const bool doubtful_there = before.accepted.epoch < new_store.epoch_floor();
  if (before.amnesic && !doubtful_there) {
    return {StatusCode::kFailedPrecondition,
            "it may have forgotten changes (power loss, a missing disk); it moves when it was written or repaired"};
  }
  if (!before.amnesic && doubtful_there && before.sealed < before.accepted.epoch) {
    return {StatusCode::kFailedPrecondition,
            "it is being written, and the other disk may have forgotten changes; it moves when it is sealed"};
  }
  // The copy never promises more than the original: after a crash in between, the higher promise is served (SettleDuplicate), and half a
  // copy must not win. A sealed replica may promise the other disk's floor beforehand, nobody writes below it any more.
  if (before.promised < new_store.epoch_floor())
    CAIRN_RETURN_IF_ERROR(old_store.Fence(chunk, new_store.epoch_floor(), &before));
  const Epoch epoch = std::max(before.promised, before.accepted.epoch);
  if (!epoch) return {StatusCode::kFailedPrecondition, "it promised nothing and holds nothing"};
  CAIRN_RETURN_IF_ERROR(new_store.SyncStart(chunk, epoch, before.accepted, before.length));
  ReplicaInfo copy;
  Status status = CopyReplica(old_store, new_store, before, limiter);
  if (status.ok()) {
    status = new_store.SyncFinish(chunk, before.accepted, &copy);
  } else {
    new_store.SyncAbandon(chunk);
    // The read at the old stamp fails when somebody wrote: nothing is wrong.
    ReplicaInfo now;
    if (old_store.Query(chunk, &now).ok() && !SameState(before, now)) status = {StatusCode::kBusy, "it changed while it was copied"};
  }
  // With a higher promise the epoch is closed anyway.
  if (status.ok() && before.sealed >= before.accepted.epoch && epoch == before.accepted.epoch)
    status = new_store.Seal(chunk, before.accepted, &copy);
  if (status.ok()) {
    Shard& shard = ShardOf(chunk);
    std::unique_lock alone(shard.switching);
    ReplicaInfo now;
    if (!FailureOf(static_cast<uint32_t>(from)).ok()) {
      status = FailureOf(static_cast<uint32_t>(from));  // what it said last may be more than what it keeps
    } else if (!old_store.Query(chunk, &now).ok() || !SameState(before, now)) {
      status = {StatusCode::kBusy, "it changed while it was copied"};
    } else {
      {
        std::lock_guard lock(shard.mu);
        shard.disk_of[chunk] = target;
      }
      const Status erased = old_store.Erase(chunk, before.promised, /*quarantine=*/false);
      if (!erased.ok()) CAIRN_LOG(Warning, "chunk {} moved, but its old copy stays: {}", ToString(chunk), erased.message());
      return Status::Ok();
    }
  }
  const Status undone = new_store.Erase(chunk, epoch, /*quarantine=*/false);
  if (!undone.ok()) CAIRN_LOG(Warning, "chunk {}: an unused copy stays: {}", ToString(chunk), undone.message());
  return status;
}

}  // namespace cairn::chunkserver
