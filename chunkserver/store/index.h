// The index of one disk: which blocks of which chunk lie where, and the state of each replica, in RocksDB.
//
// Its write-ahead log is the segment log: changes go to memory only, and Checkpoint writes them to disk
// together with the log position that they correspond to. The caller syncs the segments up to that position
// first, so the index on disk is never ahead of the segments. Nothing else makes RocksDB write its memory to
// disk (docs/decisions/chunk-store.md).
//
//   index->Apply(record, place)    after the record was appended; replay after a stop calls the very same
//   function index->Freeze(position)        under the store's lock, everything up to `position` synced and
//   applied index->FinishCheckpoint()      outside the lock: waits until it is on disk
//
// Thread-safety: Apply, Freeze and the methods named "serialised" under the caller's lock; the others from
// any thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "chunkserver/store/chunk_entry.h"
#include "chunkserver/store/hot_extents.h"
#include "chunkserver/store/segment_log.h"
#include "chunkserver/store/view_cache.h"
#include "common/status.h"

namespace cairn::chunkserver {

class IndexDb;

struct IndexOptions {
  std::string directory;
  uint64_t cache_bytes = 32ull << 20;
  size_t max_cached_entries = 8192;
};

class Index {
 public:
  // kCorrupt: there is no index, or it is damaged; build it again from the segments (Destroy, then Open with
  // create).
  static Result<std::unique_ptr<Index>> Open(const IndexOptions& options, bool create);
  static Status Destroy(const std::string& directory);
  ~Index();

  // Where replay begins: {0, 0} is the very beginning.
  LogPosition checkpoint() const { return checkpoint_; }
  Epoch epoch_floor() const {
    return Epoch(epoch_floor_.load(std::memory_order_acquire));
  }  // from any thread

  // Serialised.
  Status Apply(const Record& record, const SegmentLog::Place& place);
  Result<std::optional<ChunkEntry>> Find(ChunkId chunk);  // through the cache of hot entries
  // Blocks of the chunk that extents hold; 0 for one that is not known. Counted once, then kept with the cached entry: whoever
  // syncs asks each time.
  Result<uint64_t> AllocatedBlocks(ChunkId chunk);
  const LiveBytes& live_bytes() const { return live_; }
  uint64_t chunks() const { return chunks_; }
  uint64_t used_bytes() const { return used_; }
  Result<std::optional<Grave>> FindGrave(ChunkId chunk);
  Status DropGrave(ChunkId chunk);
  Status ForgetSegment(uint32_t number);
  Result<std::vector<ChunkId>> QuarantinesEndingBy(uint64_t wall_seconds, size_t limit) const;
  // Bytes of memory that the next checkpoint will write.
  uint64_t memory_bytes() const { return memory_bytes_; }
  Status Freeze(LogPosition position);

  Status FinishCheckpoint();
  // The entry without the cache.
  Result<std::optional<ChunkEntry>> Peek(ChunkId chunk) const;
  // Entry and the extents that touch blocks [begin, end), as of one moment.
  struct View {
    std::optional<ChunkEntry> entry;
    std::vector<Extent> extents;
  };
  // only_memory: kBusy rather than waiting for the disk.
  Result<View> Look(ChunkId chunk, uint64_t begin, uint64_t end, bool only_memory = false) const;
  Status ForEach(const std::function<bool(ChunkId, const ChunkEntry&)>& visit) const;

 private:
  Result<View> LookInDb(ChunkId chunk, uint64_t begin, uint64_t end, bool only_memory) const;
  struct Change;  // of one record: the batch, and what it does to the accounting
  Index(const IndexOptions& options, std::unique_ptr<IndexDb> db);
  Status Load();
  Status ReplaceExtents(const Record& record, const ChunkEntry& old, Change* change);
  void UpdateHotExtents(const Record& record, const Change& change);
  static void PutExtent(ChunkId chunk, const Extent& extent, Change* change);
  void Remember(ChunkId chunk, const std::optional<ChunkEntry>& entry, std::optional<uint64_t> blocks);
  Result<std::optional<std::string>> Get(const std::string& key) const;

  const IndexOptions options_;
  const std::unique_ptr<IndexDb> db_;
  mutable ViewCache views_;

  // Guarded by the caller's lock.
  LogPosition checkpoint_;
  std::atomic<uint64_t> epoch_floor_{0};
  LiveBytes live_;
  LiveBytes saved_live_;  // as in the last Freeze, so that only what changed is written
  uint64_t chunks_ = 0;
  uint64_t used_ = 0;
  uint64_t memory_bytes_ = 0;
  // A new chunk is looked for by who checks it, who makes its record and who applies that: known to be absent
  // since, and its grave.
  ChunkId absent_;
  ChunkId grave_of_;
  std::optional<Grave> grave_;
  struct Cached {
    ChunkId chunk;
    ChunkEntry entry;
    std::optional<uint64_t> blocks;  // that extents hold, if they were counted
  };
  std::list<Cached> cached_;  // most recent first
  std::unordered_map<ChunkId, std::list<Cached>::iterator> cache_index_;
  HotExtents hot_extents_;
};

}  // namespace cairn::chunkserver
