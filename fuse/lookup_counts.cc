#include "fuse/lookup_counts.h"

namespace cairn::fuse {

void LookupCounts::Add(InodeId inode, uint64_t count) {
  Shard& shard = ShardOf(inode);
  const std::lock_guard lock(shard.mu);
  shard.counts[inode] += count;
}

bool LookupCounts::Remove(InodeId inode, uint64_t count) {
  Shard& shard = ShardOf(inode);
  const std::lock_guard lock(shard.mu);
  const auto it = shard.counts.find(inode);
  if (it == shard.counts.end()) return false;
  if (it->second > count) {
    it->second -= count;
    return false;
  }
  shard.counts.erase(it);
  return true;
}

size_t LookupCounts::size() const {
  size_t total = 0;
  for (const Shard& shard : shards_) {
    const std::lock_guard lock(shard.mu);
    total += shard.counts.size();
  }
  return total;
}

}  // namespace cairn::fuse
