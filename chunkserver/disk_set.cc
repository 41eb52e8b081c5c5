#include "chunkserver/disk_set.h"

#include <algorithm>
#include <atomic>
#include <future>
#include <tuple>
#include <utility>

#include "common/log.h"

namespace cairn::chunkserver {

using replication::ReplicaInfo;

DiskSet::DiskSet(std::vector<Disk> disks) {
  for (Disk& disk : disks) {
    Slot slot;
    slot.disk = std::move(disk);
    if (slot.disk.store) slot.flusher = std::make_unique<GroupFlusher>(slot.disk.store.get());
    slots_.push_back(std::move(slot));
  }
}

DiskSet::~DiskSet() = default;

Result<std::unique_ptr<DiskSet>> DiskSet::Make(std::vector<Disk> disks) {
  std::unique_ptr<DiskSet> set(new DiskSet(std::move(disks)));
  if (set->stores().empty()) {
    if (set->slots_.empty()) return Status(StatusCode::kInvalidArgument, "no data directory was given");
    return set->slots_.front().disk.open_error.WithContext("no data directory works");
  }
  CAIRN_RETURN_IF_ERROR(set->CheckIdentities());
  CAIRN_RETURN_IF_ERROR(set->LoadChunks());
  CAIRN_RETURN_IF_ERROR(set->DistrustAbsence());
  set->RefreshUsage();
  return set;
}

Status DiskSet::CheckIdentities() const {
  const Slot* first = nullptr;
  for (const Slot& slot : slots_) {
    if (!slot.disk.store) continue;
    const DiskIdentity& own = slot.disk.store->identity();
    if (!own.cluster && !own.server) continue;
    if (first == nullptr) {
      first = &slot;
      continue;
    }
    const DiskIdentity& other = first->disk.store->identity();
    if (own.cluster != other.cluster || own.server != other.server || own.server_uuid != other.server_uuid) {
      return Status(StatusCode::kWrongCluster, slot.disk.path + " belongs to " + ToString(own.server) +
                                                   " of cluster " + own.cluster.ToString() + ", but " +
                                                   first->disk.path + " to " + ToString(other.server) +
                                                   " of cluster " + other.cluster.ToString() +
                                                   ": the directories of one chunkserver belong together");
    }
  }
  for (size_t i = 0; i < slots_.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      if (!slots_[i].disk.store || !slots_[j].disk.store) continue;
      if (slots_[i].disk.store->identity().disk == slots_[j].disk.store->identity().disk) {
        return Status(StatusCode::kWrongCluster, slots_[i].disk.path + " and " + slots_[j].disk.path +
                                                     " carry the same disk id: one is a copy of the other");
      }
    }
  }
  return Status::Ok();
}

Status DiskSet::LoadChunks() {
  if (slots_.size() == 1) return Status::Ok();
  for (uint32_t i = 0; i < slots_.size(); ++i) {
    if (!slots_[i].disk.store) continue;
    CAIRN_RETURN_IF_ERROR(slots_[i].disk.store->ForEach([&](const ReplicaInfo& info) {
      Shard& shard = ShardOf(info.chunk);
      const auto [found, inserted] = shard.disk_of.emplace(info.chunk, i);
      if (!inserted) SettleDuplicate(info.chunk, found->second, i);
      return true;
    }));
  }
  return Status::Ok();
}

Status DiskSet::DistrustAbsence() {
  if (!identity().cluster) return Status::Ok();  // not joined: nothing was promised
  // A disk without identity beside others that have one is new; or it stands where another one was.
  const auto doubtful = std::find_if(slots_.begin(), slots_.end(), [](const Slot& slot) {
    return !slot.disk.store || !slot.disk.store->identity().cluster;
  });
  if (doubtful == slots_.end()) return Status::Ok();
  return Distrust(doubtful->disk.path + (doubtful->disk.store ? " is new" : " cannot be read"));
}

Status DiskSet::Distrust(const std::string& why) {
  CAIRN_LOG(Warning, "{}: chunks that this server held may be missing; its disks begin as after a loss of power", why);
  for (const Slot& slot : slots_) {
    if (slot.disk.store && !slot.disk.store->failed() && !slot.disk.store->amnesic())
      CAIRN_RETURN_IF_ERROR(slot.disk.store->SetAmnesic());
  }
  return Status::Ok();
}

// A disk failed, the chunk was synced to another one, then the disk came back: the newer replica is the one
// to keep.
void DiskSet::SettleDuplicate(ChunkId chunk, uint32_t a, uint32_t b) {
  ReplicaInfo info_a;
  ReplicaInfo info_b;
  if (!slots_[a].disk.store->Query(chunk, &info_a).ok() || !slots_[b].disk.store->Query(chunk, &info_b).ok())
    return;
  // The seal counts, too: a copy that a stopped drain left behind must not open again what was sealed meanwhile.
  const bool a_is_newer = std::tuple(info_a.promised, info_a.accepted, info_a.sealed) >=
                          std::tuple(info_b.promised, info_b.accepted, info_b.sealed);
  ShardOf(chunk).disk_of[chunk] = a_is_newer ? a : b;
  CAIRN_LOG(Warning, "chunk {} is on {} and on {}: serving the newer one, from {}", ToString(chunk),
            slots_[a].disk.path, slots_[b].disk.path, slots_[a_is_newer ? a : b].disk.path);
}

DiskIdentity DiskSet::identity() const {
  for (const Slot& slot : slots_) {
    if (slot.disk.store && slot.disk.store->identity().cluster) return slot.disk.store->identity();
  }
  for (const Slot& slot : slots_) {
    if (slot.disk.store) return slot.disk.store->identity();
  }
  return {};
}

Status DiskSet::SetIdentity(Uuid cluster, Uuid server_uuid, ServerId server) {
  for (const Slot& slot : slots_) {
    if (!slot.disk.store || slot.disk.store->failed()) continue;
    const DiskIdentity& own = slot.disk.store->identity();
    if (own.cluster == cluster && own.server == server && own.server_uuid == server_uuid) continue;
    Status status = slot.disk.store->SetIdentity(cluster, server_uuid, server);
    if (!status.ok()) return status.WithContext("recording the identity in " + slot.disk.path);
  }
  return Status::Ok();
}

Status DiskSet::SetEpochFloor(Epoch floor) {
  for (const Slot& slot : slots_) {
    if (!slot.disk.store || slot.disk.store->failed() || !slot.disk.store->amnesic()) continue;
    Status status = slot.disk.store->SetEpochFloor(floor);
    if (!status.ok()) return status.WithContext("recording the epoch floor in " + slot.disk.path);
    CAIRN_LOG(Warning, "{} may have forgotten changes: its replicas refuse epochs below {}", slot.disk.path,
              floor.value());
  }
  return Status::Ok();
}

std::vector<DiskStatus> DiskSet::States() const {
  std::vector<DiskStatus> states;
  for (uint32_t i = 0; i < slots_.size(); ++i) {
    const Disk& disk = slots_[i].disk;
    DiskStatus state{disk.path, disk.file_system_id, disk.storage_class, {}, {}, false, FailureOf(i), false, {}};
    if (disk.store) {
      state.disk = disk.store->identity().disk;
      state.amnesic = disk.store->amnesic();
    }
    {
      std::lock_guard lock(usage_mu_);
      state.usage = slots_[i].usage;
      state.draining = slots_[i].draining;
      state.drain_note = slots_[i].drain_note;
    }
    states.push_back(std::move(state));
  }
  return states;
}

void DiskSet::RefreshUsage() {
  for (Slot& slot : slots_) {
    if (!slot.disk.store) continue;
    const StoreUsage usage = slot.disk.store->Usage();
    std::lock_guard lock(usage_mu_);
    slot.usage = usage;
  }
}

DiskSet::Shard& DiskSet::ShardOf(ChunkId chunk) const {
  return shards_[std::hash<ChunkId>()(chunk) >> 32 & (kShards - 1)];
}

Status DiskSet::FailureOf(uint32_t index) const {
  const Disk& disk = slots_[index].disk;
  if (!disk.store) return disk.open_error.WithContext(disk.path);
  if (!disk.store->failed()) return Status::Ok();
  const Status failure = disk.store->failure();
  return Status(StatusCode::kIoError, "disk " + disk.path + " has failed: " + failure.message());
}

int DiskSet::Locate(ChunkId chunk) const {
  if (slots_.size() == 1) return 0;
  Shard& shard = ShardOf(chunk);
  std::lock_guard lock(shard.mu);
  const auto found = shard.disk_of.find(chunk);
  return found == shard.disk_of.end() ? -1 : static_cast<int>(found->second);
}

Result<uint32_t> DiskSet::EmptiestDisk() const {
  int best = -1;
  StoreUsage best_usage;
  bool best_drains = false;
  Status failure;
  for (uint32_t i = 0; i < slots_.size(); ++i) {
    if (failure = FailureOf(i); !failure.ok()) continue;
    const StoreUsage usage = slots_[i].disk.store->Usage();
    const bool drains = draining(i);  // better than nowhere
    bool better = best < 0;
    if (!better && drains != best_drains) {
      better = best_drains;
    } else if (!better) {
      // Directories on one file system have the same free space: then the chunks are shared out by what each holds.
      const std::string& file_system = slots_[i].disk.file_system_id;
      better = !file_system.empty() && file_system == slots_[static_cast<size_t>(best)].disk.file_system_id
                   ? usage.used_bytes < best_usage.used_bytes
                   : usage.free_bytes > best_usage.free_bytes;
    }
    if (!better) continue;
    best = static_cast<int>(i);
    best_usage = usage;
    best_drains = drains;
  }
  if (best < 0) return failure;
  return static_cast<uint32_t>(best);
}

Result<uint32_t> DiskSet::LocateOrPlace(ChunkId chunk, bool replace_failed) {
  if (slots_.size() == 1) return uint32_t{0};
  Shard& shard = ShardOf(chunk);
  std::lock_guard lock(shard.mu);
  const auto found = shard.disk_of.find(chunk);
  if (found != shard.disk_of.end() && (!replace_failed || FailureOf(found->second).ok()))
    return found->second;
  if (shard.moving.contains(chunk)) {
    return Status(StatusCode::kBusy, "chunk " + ToString(chunk) + " was being copied from the disk that failed; try again");
  }
  CAIRN_ASSIGN_OR_RETURN(const uint32_t disk, EmptiestDisk());
  shard.disk_of[chunk] = disk;
  return disk;
}

Result<ChunkStore*> DiskSet::Find(ChunkId chunk) const {
  const int disk = Locate(chunk);
  if (disk < 0) return Status(StatusCode::kUnknownChunk, "chunk " + ToString(chunk) + " is not here");
  CAIRN_RETURN_IF_ERROR(FailureOf(static_cast<uint32_t>(disk)));
  return slots_[static_cast<size_t>(disk)].disk.store.get();
}

Result<ChunkStore*> DiskSet::FindOrPlace(ChunkId chunk, bool replace_failed) {
  if (awaits_master_.load(std::memory_order_acquire)) {
    ReplicaInfo info;
    const Result<ChunkStore*> present = Find(chunk);
    if (!present.ok() && present.status().code() != StatusCode::kUnknownChunk) return present;
    if (!present.ok() || !(*present)->Query(chunk, &info).ok()) {
      return Status(StatusCode::kUnavailable,
                    "chunk " + ToString(chunk) + " is not here, and since this server started the master has not confirmed yet that all "
                    "of its disks are");
    }
  }
  CAIRN_ASSIGN_OR_RETURN(const uint32_t disk, LocateOrPlace(chunk, replace_failed));
  CAIRN_RETURN_IF_ERROR(FailureOf(disk));
  return slots_[disk].disk.store.get();
}

Status DiskSet::Mutate(const wire::MutateRequest& request, std::span<const std::byte> data,
                       ReplicaInfo* info) {
  const ChunkId chunk = request.mutation.chunk;
  const auto held = Hold(chunk);
  // Without a begin an absent replica refuses: no disk needs to be chosen for that.
  Result<ChunkStore*> store = request.mutation.begin ? FindOrPlace(chunk) : Find(chunk);
  if (!store.ok()) {
    info->chunk = chunk;
    return store.status();
  }
  return (*store)->Mutate(request, data, info);
}

Status DiskSet::Begin(ChunkId chunk, Epoch epoch, Stamp base, ReplicaInfo* info) {
  const auto held = Hold(chunk);
  CAIRN_ASSIGN_OR_RETURN(ChunkStore* const store, FindOrPlace(chunk));
  return store->Begin(chunk, epoch, base, info);
}

Status DiskSet::Fence(ChunkId chunk, Epoch epoch, ReplicaInfo* info) {
  const auto held = Hold(chunk);
  CAIRN_ASSIGN_OR_RETURN(ChunkStore* const store, FindOrPlace(chunk));
  return store->Fence(chunk, epoch, info);
}

Status DiskSet::Seal(ChunkId chunk, Stamp stamp, ReplicaInfo* info) {
  const auto held = Hold(chunk);
  CAIRN_ASSIGN_OR_RETURN(ChunkStore* const store, Find(chunk));
  return store->Seal(chunk, stamp, info);
}

Status DiskSet::PrepareDelete(ChunkId chunk, Epoch epoch, ReplicaInfo* info) {
  const auto held = Hold(chunk);
  CAIRN_ASSIGN_OR_RETURN(ChunkStore* const store, FindOrPlace(chunk));
  return store->PrepareDelete(chunk, epoch, info);
}

Status DiskSet::AbortDelete(ChunkId chunk, Epoch epoch, ReplicaInfo* info) {
  const auto held = Hold(chunk);
  CAIRN_ASSIGN_OR_RETURN(ChunkStore* const store, FindOrPlace(chunk));
  return store->AbortDelete(chunk, epoch, info);
}

Status DiskSet::Erase(ChunkId chunk, Epoch epoch, bool quarantine) {
  const auto held = Hold(chunk);
  CAIRN_ASSIGN_OR_RETURN(ChunkStore* const store, Find(chunk));
  CAIRN_RETURN_IF_ERROR(store->Erase(chunk, epoch, quarantine));
  if (slots_.size() > 1) {
    Shard& shard = ShardOf(chunk);
    std::lock_guard lock(shard.mu);
    // Whoever begins it anew meanwhile is served by the disk that is recorded here: only forget what is gone.
    ReplicaInfo info;
    if (store->Query(chunk, &info).code() == StatusCode::kUnknownChunk) shard.disk_of.erase(chunk);
  }
  return Status::Ok();
}

Status DiskSet::Query(ChunkId chunk, ReplicaInfo* info) const {
  const auto held = Hold(chunk);
  info->chunk = chunk;
  CAIRN_ASSIGN_OR_RETURN(ChunkStore* const store, Find(chunk));
  return store->Query(chunk, info);
}

Result<ReadData> DiskSet::Read(const wire::ReadRequest& request, bool verify) const {
  const auto held = Hold(request.chunk);
  CAIRN_ASSIGN_OR_RETURN(ChunkStore* const store, Find(request.chunk));
  return store->Read(request, verify);
}

StartedRead DiskSet::StartRead(const wire::ReadRequest& request) const {
  const auto held = Hold(request.chunk);
  const Result<ChunkStore*> store = Find(request.chunk);
  if (!store.ok()) return Result<ReadData>(store.status());
  return (*store)->StartRead(request);
}

Result<std::vector<wire::Digest>> DiskSet::Digests(const wire::DigestsRequest& request,
                                                   uint64_t* chunk_length) const {
  CAIRN_ASSIGN_OR_RETURN(ChunkStore* const store, Find(request.chunk));
  return store->Digests(request, chunk_length);
}

Result<wire::ExtentsReply> DiskSet::Extents(const wire::ExtentsRequest& request) const {
  CAIRN_ASSIGN_OR_RETURN(ChunkStore* const store, Find(request.chunk));
  return store->Extents(request);
}

Result<uint64_t> DiskSet::AllocatedBytes(ChunkId chunk) const {
  CAIRN_ASSIGN_OR_RETURN(ChunkStore* const store, Find(chunk));
  return store->AllocatedBytes(chunk);
}

Status DiskSet::SyncStart(ChunkId chunk, Epoch epoch, Stamp base, uint64_t length) {
  const auto held = Hold(chunk);
  CAIRN_ASSIGN_OR_RETURN(ChunkStore* const store, FindOrPlace(chunk, /*replace_failed=*/true));
  return store->SyncStart(chunk, epoch, base, length);
}

Status DiskSet::SyncWrite(ChunkId chunk, uint64_t offset, std::span<const std::byte> data,
                          std::span<const uint32_t> checksums) {
  CAIRN_ASSIGN_OR_RETURN(ChunkStore* const store, Find(chunk));
  return store->SyncWrite(chunk, offset, data, checksums);
}

Status DiskSet::SyncRoom(ChunkId chunk, uint64_t bytes) const {
  CAIRN_ASSIGN_OR_RETURN(ChunkStore* const store, Find(chunk));
  const StoreUsage usage = store->Usage();
  const uint64_t room = usage.free_bytes > usage.reserve_bytes ? usage.free_bytes - usage.reserve_bytes : 0;
  if (bytes <= room) return Status::Ok();
  return Status(StatusCode::kNoSpace, "chunk " + ToString(chunk) + " needs " + std::to_string(bytes) +
                                          " bytes here, and its disk has " + std::to_string(room) +
                                          " above its reserve; nothing was fetched");
}

Status DiskSet::SyncFinish(ChunkId chunk, Stamp base, ReplicaInfo* info) {
  const auto held = Hold(chunk);
  CAIRN_ASSIGN_OR_RETURN(ChunkStore* const store, Find(chunk));
  return store->SyncFinish(chunk, base, info);
}

void DiskSet::SyncAbandon(ChunkId chunk) {
  const Result<ChunkStore*> store = Find(chunk);
  if (store.ok()) (*store)->SyncAbandon(chunk);
}

Status DiskSet::MarkCorrupt(ChunkId chunk, uint64_t offset) {
  const auto held = Hold(chunk);
  CAIRN_ASSIGN_OR_RETURN(ChunkStore* const store, Find(chunk));
  return store->MarkCorrupt(chunk, offset);
}

std::shared_lock<std::shared_mutex> DiskSet::Hold(ChunkId chunk) const {
  if (slots_.size() == 1) return {};
  return std::shared_lock(ShardOf(chunk).switching);
}

void DiskSet::SetDraining(const std::set<Uuid>& disks) {
  std::lock_guard lock(usage_mu_);
  for (Slot& slot : slots_) {
    slot.draining = slot.disk.store && disks.contains(slot.disk.store->identity().disk);
    if (!slot.draining) slot.drain_note.clear();
  }
}

void DiskSet::NoteDrain(size_t disk, const std::string& note) {
  std::lock_guard lock(usage_mu_);
  slots_[disk].drain_note = slots_[disk].draining ? note : std::string();
}

bool DiskSet::draining(size_t disk) const {
  std::lock_guard lock(usage_mu_);
  return slots_[disk].draining;
}

Status DiskSet::ForEach(const std::function<bool(const ReplicaInfo&)>& visit) const {
  for (uint32_t i = 0; i < slots_.size(); ++i) {
    if (!FailureOf(i).ok()) continue;
    bool go_on = true;
    CAIRN_RETURN_IF_ERROR(slots_[i].disk.store->ForEach([&](const ReplicaInfo& info) {
      if (slots_.size() > 1 && Locate(info.chunk) != static_cast<int>(i))
        return true;  // superseded on another disk
      go_on = visit(info);
      return go_on;
    }));
    if (!go_on) break;
  }
  return Status::Ok();
}

void DiskSet::Flush(std::span<const ChunkId> chunks, std::function<void(const Status&)> done) {
  std::vector<uint32_t> disks;
  for (ChunkId chunk : chunks) {
    const int disk = Locate(chunk);
    if (disk < 0) continue;  // the answer per chunk says that it is unknown
    if (std::find(disks.begin(), disks.end(), static_cast<uint32_t>(disk)) == disks.end()) {
      disks.push_back(static_cast<uint32_t>(disk));
    }
  }
  std::erase_if(disks, [&](uint32_t disk) { return !slots_[disk].flusher; });
  if (disks.empty()) return done(Status::Ok());
  struct Join {
    std::mutex mu;
    size_t left;
    Status status;
    std::function<void(const Status&)> done;
  };
  auto join = std::make_shared<Join>();
  join->left = disks.size();
  join->done = std::move(done);
  for (uint32_t disk : disks) {
    slots_[disk].flusher->Flush([join](const Status& status) {
      {
        std::lock_guard lock(join->mu);
        if (!status.ok()) join->status = status;
        if (--join->left > 0) return;
      }
      join->done(join->status);
    });
  }
}

Status DiskSet::FlushAndWait(std::span<const ChunkId> chunks) {
  std::promise<Status> promise;
  Flush(chunks, [&](const Status& status) { promise.set_value(status); });
  return promise.get_future().get();
}

std::vector<std::pair<std::string, ChunkStore*>> DiskSet::named_stores() const {
  std::vector<std::pair<std::string, ChunkStore*>> result;
  for (const Slot& slot : slots_) {
    if (slot.disk.store) result.emplace_back(slot.disk.path, slot.disk.store.get());
  }
  return result;
}

std::vector<ChunkStore*> DiskSet::stores() const {
  std::vector<ChunkStore*> result;
  for (const auto& [path, store] : named_stores()) result.push_back(store);
  return result;
}

}  // namespace cairn::chunkserver
