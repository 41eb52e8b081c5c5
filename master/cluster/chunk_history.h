// What happened to a chunk since the master started, for `cairn chunk explain`. Bounded: a ring per chunk,
// and the chunks that were touched longest ago are forgotten.
//
// Thread-safety: none; owned by the core thread.
#pragma once

#include <cstdint>
#include <deque>
#include <list>
#include <string>
#include <unordered_map>
#include <vector>

#include "common/ids.h"

namespace cairn::master {

class ChunkHistory {
 public:
  explicit ChunkHistory(size_t max_chunks = 10'000, size_t max_events = 32)
      : max_chunks_(max_chunks), max_events_(max_events) {}

  void Add(ChunkId chunk, int64_t wall_ns, std::string text);
  // Oldest first, each with its time: "2026-11-20T21:14:03Z repaired on cs2".
  std::vector<std::string> Of(ChunkId chunk) const;

 private:
  struct Ring {
    std::deque<std::string> events;
    std::list<ChunkId>::iterator position;
  };
  const size_t max_chunks_;
  const size_t max_events_;
  std::unordered_map<ChunkId, Ring> rings_;
  std::list<ChunkId> order_;  // touched longest ago first
};

}  // namespace cairn::master
