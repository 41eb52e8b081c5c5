// The chunks of one disk (data directory): a log of segments plus an index (docs/formats.md).
//
// Every change is a record appended to the active segment: data, or a change of the replica's protocol state.
// The segment log is the write-ahead log of the index: after any stop the index is brought up to date from
// the last checkpoint by reading the records behind it, so a write costs one append and one insert in memory,
// and the index on disk is never ahead of the segments. Acceptance is decided only by
// common/replication/replica.h.
//
//   auto store = ChunkStore::Open(options);            // recovers; says if the disk is amnesic
//   store->Mutate(request, data);                      // applied: in the memory of the OS
//   store->Flush();                                    // everything applied so far is on disk (group commit)
//   store->Read(...);                                  // bytes with their stored checksums
//
// Errors: kNoSpace (reserve reached: mutations and syncs are refused, deletes go on), kIoError (the disk
// failed; failed() becomes true and all later changes are refused), kUnknownChunk, kCorrupt, and what the
// acceptance rules answer. Thread-safety: all methods may be called from any thread; changes of one store are
// serialised inside, reads run beside them, Flush waits without blocking either.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "common/ids.h"
#include "common/net/shared_bytes.h"
#include "common/replication/replica.h"
#include "common/status.h"
#include "common/wire/messages.h"

namespace cairn::chunkserver {

class StoreEnv;

struct StoreOptions {
  std::string directory;
  Uuid cluster;     // zero: take the one on disk; a new directory stays without until SetCluster
  ServerId server;  // zero: as above
  bool create_if_missing = true;  // false: refuse an empty directory (its mount is missing)
  uint64_t segment_bytes = 256ull << 20;
  uint64_t direct_bytes = 64ull << 10;  // writes of at least so much go past the page cache; 0: none
  uint64_t reserve_bytes = 0;  // 0: 1 % of the file system, between 64 MiB and 8 GiB (less on small ones)
  uint64_t index_cache_bytes = 32ull << 20;
  uint64_t checkpoint_bytes =
      512ull << 20;  // of segment data, or as much index memory as 32 MiB, whichever is first
  uint64_t quarantine_seconds = 3600;  // how long Erase with quarantine keeps the bytes
  StoreEnv* env = nullptr;             // null: the real machine; tests provoke failures and boots through it
};

// Written once into the directory (identity file), checked at every start.
struct DiskIdentity {
  Uuid disk;
  Uuid cluster;
  Uuid server_uuid;
  ServerId server;
  uint32_t format_version = 0;
};

struct StoreUsage {
  uint64_t total_bytes = 0;  // of the file system
  uint64_t free_bytes = 0;
  uint64_t used_bytes = 0;  // by live chunk data
  uint64_t reserve_bytes = 0;
  uint64_t chunks = 0;
};

// Bytes and checksums of a read; data.size() is block aligned unless it ends at the chunk's length.
struct ReadData {
  Stamp stamp;
  uint64_t chunk_length = 0;
  uint64_t offset = 0;
  std::vector<uint32_t> checksums;
  net::SharedBytes data;
};

using StartedRead = std::variant<Result<ReadData>, std::function<Result<ReadData>()>>;

class ChunkStore {
 public:
  static Result<std::unique_ptr<ChunkStore>> Open(const StoreOptions& options);
  virtual ~ChunkStore() = default;  // a clean close: flushes and leaves a mark that the next boot may trust

  virtual const DiskIdentity& identity() const = 0;
  // First join: records cluster and server durably. kWrongCluster if others are recorded.
  virtual Status SetIdentity(Uuid cluster, Uuid server_uuid, ServerId server) = 0;
  // The disk may have forgotten acknowledged mutations: its machine booted uncleanly since the store was last
  // open, or writeback failed, or the owner says so. Cleared by SetEpochFloor (the master now knows).
  virtual bool amnesic() const = 0;
  // What is absent here may not have been: another disk of the server, which might hold it, cannot be read.
  virtual Status SetAmnesic() = 0;
  virtual Status SetEpochFloor(
      Epoch floor) = 0;  // replicas present refuse lower epochs from now on; durable on return
  // The highest floor that was set: a replica whose accepted epoch is below it may lack what it confirmed before.
  virtual Epoch epoch_floor() const = 0;
  virtual bool failed() const = 0;
  virtual Status failure() const = 0;
  virtual StoreUsage Usage() const = 0;

  // Protocol changes. On refusal the present ReplicaInfo is in `info` when the chunk is known.
  // Mutate: checks the data against the checksums that came with it (kCorrupt) before anything is changed.
  virtual Status Mutate(const wire::MutateRequest& request, std::span<const std::byte> data,
                        replication::ReplicaInfo* info) = 0;
  virtual Status Begin(ChunkId chunk, Epoch epoch, Stamp base, replication::ReplicaInfo* info) = 0;
  virtual Status Fence(ChunkId chunk, Epoch epoch, replication::ReplicaInfo* info) = 0;
  virtual Status Seal(ChunkId chunk, Stamp stamp, replication::ReplicaInfo* info) = 0;
  virtual Status PrepareDelete(ChunkId chunk, Epoch epoch, replication::ReplicaInfo* info) = 0;
  virtual Status AbortDelete(ChunkId chunk, Epoch epoch, replication::ReplicaInfo* info) = 0;
  // Removes the chunk. With quarantine it keeps the bytes aside, invisible, for quarantine_seconds before
  // they go.
  virtual Status Erase(ChunkId chunk, Epoch epoch, bool quarantine) = 0;

  // kUnknownChunk when there is nothing.
  virtual Status Query(ChunkId chunk, replication::ReplicaInfo* info) const = 0;
  // Every replica, in order of chunk id; stops when `visit` returns false.
  virtual Status ForEach(const std::function<bool(const replication::ReplicaInfo&)>& visit) const = 0;

  // verify: check the stored checksums here (scrubbing, sync); readers check at their own end.
  virtual Result<ReadData> Read(const wire::ReadRequest& request, bool verify) const = 0;
  // As Read without verify, in two parts: the answer, if it is in memory, or what is left to do by a thread
  // that may wait for the disk. Itself it never waits for one.
  virtual StartedRead StartRead(const wire::ReadRequest& request) const {
    return [this, request] { return Read(request, /*verify=*/false); };
  }
  virtual Result<std::vector<wire::Digest>> Digests(const wire::DigestsRequest& request,
                                                    uint64_t* chunk_length) const = 0;

  // Ranges that hold data, from request.offset on; see wire::ExtentsReply (the status is the result's).
  virtual Result<wire::ExtentsReply> Extents(const wire::ExtentsRequest& request) const = 0;
  // What the holes of the chunk leave of its length, in whole blocks.
  virtual Result<uint64_t> AllocatedBytes(ChunkId chunk) const = 0;

  // Returns when everything applied before the call is on disk; concurrent callers share one data sync.
  virtual Status Flush() = 0;

  // Sync of a stale, missing or damaged replica to exactly `base`: Start pins it, Write fills the shadow
  // (which begins as a view of the present bytes), Finish makes it durable and swaps it in together with its
  // stamp. One sync per chunk.
  virtual Status SyncStart(ChunkId chunk, Epoch epoch, Stamp base, uint64_t length) = 0;
  virtual Status SyncWrite(ChunkId chunk, uint64_t offset, std::span<const std::byte> data,
                           std::span<const uint32_t> checksums) = 0;
  virtual Status SyncFinish(ChunkId chunk, Stamp base, replication::ReplicaInfo* info) = 0;
  virtual void SyncAbandon(ChunkId chunk) = 0;

  // A reader or the scrubber found a bad block: remembered (ReplicaInfo.corrupt) until a sync replaced it.
  virtual Status MarkCorrupt(ChunkId chunk, uint64_t offset) = 0;

  // Background work, called by the owner's maintenance thread: reclaims space (punches holes, deletes empty
  // segments, compacts), ends quarantines. Returns bytes given back to the file system.
  virtual Result<uint64_t> Reclaim() = 0;
};

}  // namespace cairn::chunkserver
