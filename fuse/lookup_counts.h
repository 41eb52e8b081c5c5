// How many times the kernel was told of each inode. Only when its count returns to zero may the client forget
// the inode: until then the kernel may have attributes and pages cached that rest on the client's lease.
// Thread-safety: any thread.
#pragma once

#include <array>
#include <cstdint>
#include <mutex>
#include <unordered_map>

#include "common/ids.h"

namespace cairn::fuse {

class LookupCounts {
 public:
  void Add(InodeId inode, uint64_t count = 1);
  // True if the kernel does not know the inode any more.
  [[nodiscard]] bool Remove(InodeId inode, uint64_t count);
  size_t size() const;

 private:
  struct Shard {
    mutable std::mutex mu;
    std::unordered_map<InodeId, uint64_t> counts;  // guarded by mu
  };
  static constexpr size_t kShards = 32;
  Shard& ShardOf(InodeId inode) { return shards_[std::hash<InodeId>{}(inode) >> 32 & (kShards - 1)]; }

  std::array<Shard, kShards> shards_;
};

}  // namespace cairn::fuse
