// The disks of a chunkserver as one store: finds the disk of a chunk, places new chunks on the disk with the
// most free space, keeps a failed disk's trouble to its own chunks.
//
// A chunk stays on its disk for life. The chunks of a failed disk answer with its failure, so that nobody
// mistakes "I cannot tell any more" for "I never had it"; only a sync, which brings a complete replica,
// places them anew. Of a disk that could not even be opened, or that was replaced, the chunks are not known:
// then all disks begin as after a loss of power, and promise and confirm nothing before the master gave them
// an epoch floor.
//
// Thread-safety: all methods may be called from any thread. The disks themselves do not change after
// construction.
//
// A disk that is drained takes nothing new, and its chunks move to other disks of the server one by one (Relocate, driven by
// disk_drainer.h): copied while the old copy goes on serving, switched over when nothing changed meanwhile, and only then erased.
#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <shared_mutex>
#include <span>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "chunkserver/group_flusher.h"
#include "chunkserver/rate_limiter.h"
#include "chunkserver/store/chunk_store.h"
#include "common/status.h"

namespace cairn::chunkserver {

struct Disk {
  std::string path;
  std::string file_system_id;  // equal for directories that share a host file system
  std::string storage_class;
  std::unique_ptr<ChunkStore> store;  // null: it could not be opened
  Status open_error;
};

// What is known of a disk at one moment.
struct DiskStatus {
  std::string path;
  std::string file_system_id;
  std::string storage_class;
  Uuid disk;
  StoreUsage usage;
  bool amnesic = false;
  Status failure;
  bool draining = false;
  std::string drain_note;  // what keeps its last chunks there
};

class DiskSet {
 public:
  // Finds out which disk holds which chunk. Fails when the disks do not belong together (kWrongCluster) or
  // none works.
  static Result<std::unique_ptr<DiskSet>> Make(std::vector<Disk> disks);
  ~DiskSet();

  // Cluster, server and server uuid recorded on the disks; zero while not joined.
  DiskIdentity identity() const;
  // First join: recorded durably on every disk that has no identity yet.
  Status SetIdentity(Uuid cluster, Uuid server_uuid, ServerId server);
  // The master knows that these disks may have forgotten something.
  Status SetEpochFloor(Epoch floor);
  // A disk that this server once had is not among these: what is absent may have been on it. All disks begin as after a loss of power,
  // until they are given an epoch floor.
  Status Distrust(const std::string& why);
  // Only the master knows whether all disks that this server had are among these. From AwaitMaster until its answer (MasterAnswered, after
  // Distrust if one is missing) an absent replica promises and takes nothing (kUnavailable); those that are here go on.
  void AwaitMaster() { awaits_master_.store(true); }
  void MasterAnswered() { awaits_master_.store(false); }
  // These disks, by identity, are emptied; no others are.
  void SetDraining(const std::set<Uuid>& disks);
  void NoteDrain(size_t disk, const std::string& note);
  size_t count() const { return slots_.size(); }
  bool draining(size_t disk) const;
  // Replicas that are stored on this disk, at most `limit`.
  std::vector<ChunkId> ChunksOn(size_t disk, size_t limit, ChunkId after) const;
  // Moves one replica from a disk to another one of the server with the same tags, state and all. kBusy: it changed meanwhile or is
  // being deleted, try again later; kNoSpace: no other disk has room; kCorrupt, kFailedPrecondition: it has to be repaired first.
  Status Relocate(ChunkId chunk, size_t from, RateLimiter* limiter);
  // Never waits for a disk: the space is that of the last RefreshUsage.
  std::vector<DiskStatus> States() const;
  // May wait as long as a disk is busy; called by a thread that has time.
  void RefreshUsage();

  Status Mutate(const wire::MutateRequest& request, std::span<const std::byte> data,
                replication::ReplicaInfo* info);
  Status Begin(ChunkId chunk, Epoch epoch, Stamp base, replication::ReplicaInfo* info);
  Status Fence(ChunkId chunk, Epoch epoch, replication::ReplicaInfo* info);
  Status Seal(ChunkId chunk, Stamp stamp, replication::ReplicaInfo* info);
  Status PrepareDelete(ChunkId chunk, Epoch epoch, replication::ReplicaInfo* info);
  Status AbortDelete(ChunkId chunk, Epoch epoch, replication::ReplicaInfo* info);
  Status Erase(ChunkId chunk, Epoch epoch, bool quarantine);
  Status Query(ChunkId chunk, replication::ReplicaInfo* info) const;
  Result<ReadData> Read(const wire::ReadRequest& request, bool verify) const;
  StartedRead StartRead(const wire::ReadRequest& request) const;
  Result<std::vector<wire::Digest>> Digests(const wire::DigestsRequest& request,
                                            uint64_t* chunk_length) const;
  Result<wire::ExtentsReply> Extents(const wire::ExtentsRequest& request) const;
  Result<uint64_t> AllocatedBytes(ChunkId chunk) const;
  Status SyncStart(ChunkId chunk, Epoch epoch, Stamp base, uint64_t length);
  Status SyncWrite(ChunkId chunk, uint64_t offset, std::span<const std::byte> data,
                   std::span<const uint32_t> checksums);
  // Is there room for `bytes` of sync data on the chunk's disk? kNoSpace, with the numbers, before anything is fetched.
  Status SyncRoom(ChunkId chunk, uint64_t bytes) const;
  Status SyncFinish(ChunkId chunk, Stamp base, replication::ReplicaInfo* info);
  void SyncAbandon(ChunkId chunk);
  Status MarkCorrupt(ChunkId chunk, uint64_t offset);
  // Every replica of the disks that work.
  Status ForEach(const std::function<bool(const replication::ReplicaInfo&)>& visit) const;

  // `done` runs once, on some thread, when everything applied to these chunks' disks before the call is on
  // disk.
  void Flush(std::span<const ChunkId> chunks, std::function<void(const Status&)> done);
  // As above, waiting.
  Status FlushAndWait(std::span<const ChunkId> chunks);

  // The stores that work, for background work.
  std::vector<ChunkStore*> stores() const;
  std::vector<std::pair<std::string, ChunkStore*>> named_stores() const;  // with the paths of their disks

 private:
  static constexpr size_t kShards = 64;
  struct Slot {
    Disk disk;
    std::unique_ptr<GroupFlusher> flusher;
    StoreUsage usage;        // guarded by usage_mu_
    bool draining = false;   // guarded by usage_mu_
    std::string drain_note;  // guarded by usage_mu_
  };
  struct Shard {
    mutable std::mutex mu;
    std::unordered_map<ChunkId, uint32_t> disk_of;  // guarded by mu; only used when there are several disks
    // Being copied to another disk, guarded by mu: until that has ended they get no third one, also when theirs fails. The copy would
    // mix with a newer replica, or take its place.
    std::unordered_set<ChunkId> moving;
    // Shared by whoever works on a chunk of the shard, alone by the switch of one to another disk: a change must not be applied to the
    // copy that is given up. Taken before mu.
    mutable std::shared_mutex switching;
  };

  explicit DiskSet(std::vector<Disk> disks);
  Status CheckIdentities() const;
  Status LoadChunks();
  // While a disk is missing nobody can tell which chunks this server never had.
  Status DistrustAbsence();
  void SettleDuplicate(ChunkId chunk, uint32_t a, uint32_t b);
  Shard& ShardOf(ChunkId chunk) const;
  // The disk of the chunk, or -1.
  int Locate(ChunkId chunk) const;
  // As Locate; a chunk without a disk gets one. replace_failed: also when its disk has failed (kBusy while it is copied from there).
  Result<uint32_t> LocateOrPlace(ChunkId chunk, bool replace_failed);
  Result<uint32_t> EmptiestDisk() const;
  // The disk with most room that may take what is on `from`.
  Result<uint32_t> DiskBeside(size_t from, uint64_t bytes) const;
  class Moving;
  Status CopyReplica(ChunkStore& from, ChunkStore& to, const replication::ReplicaInfo& info, RateLimiter* limiter) const;
  std::shared_lock<std::shared_mutex> Hold(ChunkId chunk) const;
  Status FailureOf(uint32_t disk) const;
  // The working store that has the chunk; kUnknownChunk or the failure of its disk.
  Result<ChunkStore*> Find(ChunkId chunk) const;
  Result<ChunkStore*> FindOrPlace(ChunkId chunk, bool replace_failed = false);

  std::atomic<bool> awaits_master_{false};
  std::vector<Slot> slots_;  // constant after construction, except the usage
  mutable std::mutex usage_mu_;
  mutable std::array<Shard, kShards> shards_;
};

}  // namespace cairn::chunkserver
