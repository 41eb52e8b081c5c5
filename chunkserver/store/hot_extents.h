// The extents of chunks that are being overwritten, as the index has them: what a small write replaces is found here instead of by
// an iterator over RocksDB, which costs several times what the write itself costs.
//
//   if (auto* extents = hot.Find(chunk)) ...      replace in it what the index replaces
//   else if (hot.WorthLoading(chunk)) hot.Insert(chunk, all extents of the chunk)
//   hot.Forget(chunk)                             after any change that was not made here, too
//
// Bounded by the number of extents; the chunks that were not asked for longest go first.
// Thread-safety: none; the store's lock.
#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <unordered_map>
#include <vector>

#include "chunkserver/store/record.h"

namespace cairn::chunkserver {

class HotExtents {
 public:
  using Extents = std::map<uint64_t, Extent>;  // by first block, disjoint
  static constexpr size_t kMaxExtents = 65'536;
  static constexpr size_t kMaxExtentsOfOne = kMaxExtents / 2;

  // Makes the chunk the most recent one. The pointer is good until the next call.
  const Extents* Find(ChunkId chunk);
  // True from the second time on that a chunk is asked about, as far as is remembered: one that is overwritten once is not worth
  // reading whole.
  bool WorthLoading(ChunkId chunk);
  void Insert(ChunkId chunk, const std::vector<Extent>& extents);
  // What the index did to an extent of the chunk; nothing if the chunk is not here.
  void Erase(ChunkId chunk, uint64_t block);
  void Put(ChunkId chunk, const Extent& extent);
  void Forget(ChunkId chunk);
  // Drops what is beyond the bounds.
  void Trim(ChunkId chunk);
  size_t extents() const { return count_; }

 private:
  static constexpr size_t kRemembered = 1024;
  struct Cached {
    ChunkId chunk;
    Extents extents;
  };
  using Position = std::list<Cached>::iterator;
  void Drop(Position cached);

  std::list<Cached> cached_;  // most recent first
  std::unordered_map<ChunkId, Position> index_;
  size_t count_ = 0;  // of extents
  std::vector<uint64_t> asked_ = std::vector<uint64_t>(kRemembered);  // chunk ids
};

// The extents that touch blocks [begin, end).
std::vector<const Extent*> ExtentsIn(const HotExtents::Extents& extents, uint64_t begin, uint64_t end);

}  // namespace cairn::chunkserver
