// Erases the chunks of committed deletes from their members: once the delete is on the master's disk and a
// grace time has passed. Members that are down are asked when they report again; the record goes when the
// last member erased its copy.
//
// Thread-safety: none; owned by the core thread.
#pragma once

#include <cstdint>
#include <map>

#include "common/ids.h"

namespace cairn::master {

class Core;

class Erasure {
 public:
  explicit Erasure(Core& core) : core_(core) {}

  // The chunk is being deleted by entry `log_index` of the log. Repeats do no harm.
  void Add(ChunkId chunk, uint64_t log_index);
  void Tick();
  size_t queued() const { return queue_.size(); }

 private:
  struct Entry {
    uint64_t log_index = 0;
    int64_t due_ns = 0;  // 0: not durable yet
    uint32_t running = 0;
    bool failed = false;
  };
  // Commands are sent for the entry; false when nothing is left to do with it now.
  bool Send(ChunkId chunk, Entry& entry);

  Core& core_;
  std::map<ChunkId, Entry> queue_;
  ChunkId cursor_;  // round robin over the queue
  size_t running_ = 0;
  bool overflow_ = false;  // more chunks are being deleted than the queue holds
};

}  // namespace cairn::master
