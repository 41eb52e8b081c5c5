// Whole chunks of the index as reads need them, for chunks that are sealed and read again and again: finding
// an extent in RocksDB costs several times what reading its bytes out of memory costs.
//
//   generation = cache.generation();         before the index is read
//   ... read entry and extents ...
//   cache.Insert(chunk, view, generation);   unless anything changed meanwhile
//   cache.Forget(chunk);                     after the index was changed
//
// Thread-safety: all methods from any thread.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "chunkserver/store/chunk_entry.h"

namespace cairn::chunkserver {

class ViewCache {
 public:
  struct View {
    ChunkEntry entry;
    std::vector<Extent> extents;  // all of them, in order
  };
  // A chunk of 64 MiB that was written as a stream has 256 extents of 300 bytes.
  static constexpr size_t kMaxExtents = 16'384;
  static constexpr size_t kMaxExtentsOfOne = kMaxExtents / 4;

  std::shared_ptr<const View> Find(ChunkId chunk);
  // Whether the chunk was asked about before, as far as is remembered.
  bool SeenBefore(ChunkId chunk);
  uint64_t generation() const { return generation_.load(std::memory_order_acquire); }
  void Insert(ChunkId chunk, std::shared_ptr<const View> view, uint64_t generation);
  void Forget(ChunkId chunk);

 private:
  static constexpr size_t kRemembered = 4096;
  struct Cached {
    ChunkId chunk;
    std::shared_ptr<const View> view;
  };
  void Erase(std::list<Cached>::iterator it);

  std::atomic<uint64_t> generation_{0};                    // changed under mu_
  std::array<std::atomic<uint64_t>, kRemembered> seen_{};  // chunk ids
  std::mutex mu_;
  // Guarded by mu_.
  std::list<Cached> cached_;  // most recent first
  std::unordered_map<ChunkId, std::list<Cached>::iterator> index_;
  size_t extents_ = 0;
};

}  // namespace cairn::chunkserver
