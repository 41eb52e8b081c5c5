#include "chunkserver/store/hot_extents.h"

#include <utility>

namespace cairn::chunkserver {

const HotExtents::Extents* HotExtents::Find(ChunkId chunk) {
  const auto found = index_.find(chunk);
  if (found == index_.end()) return nullptr;
  cached_.splice(cached_.begin(), cached_, found->second);
  return &found->second->extents;
}

bool HotExtents::WorthLoading(ChunkId chunk) {
  uint64_t& slot = asked_[chunk.value() % kRemembered];
  return std::exchange(slot, chunk.value()) == chunk.value();
}

void HotExtents::Insert(ChunkId chunk, const std::vector<Extent>& extents) {
  Forget(chunk);
  if (extents.size() > kMaxExtentsOfOne) return;
  cached_.push_front({chunk, {}});
  Extents& map = cached_.front().extents;
  for (const Extent& extent : extents) map.emplace_hint(map.end(), extent.block, extent);
  index_[chunk] = cached_.begin();
  count_ += map.size();
  Trim(chunk);
}

void HotExtents::Erase(ChunkId chunk, uint64_t block) {
  const auto found = index_.find(chunk);
  if (found != index_.end()) count_ -= found->second->extents.erase(block);
}

void HotExtents::Put(ChunkId chunk, const Extent& extent) {
  const auto found = index_.find(chunk);
  if (found == index_.end()) return;
  count_ += found->second->extents.insert_or_assign(extent.block, extent).second ? 1 : 0;
}

void HotExtents::Forget(ChunkId chunk) {
  if (const auto found = index_.find(chunk); found != index_.end()) Drop(found->second);
}

void HotExtents::Drop(Position cached) {
  count_ -= cached->extents.size();
  index_.erase(cached->chunk);
  cached_.erase(cached);
}

void HotExtents::Trim(ChunkId chunk) {
  const auto found = index_.find(chunk);
  if (found != index_.end() && found->second->extents.size() > kMaxExtentsOfOne) Drop(found->second);
  while (count_ > kMaxExtents) Drop(std::prev(cached_.end()));
}

std::vector<const Extent*> ExtentsIn(const HotExtents::Extents& extents, uint64_t begin, uint64_t end) {
  std::vector<const Extent*> touched;
  auto extent = extents.upper_bound(begin);
  if (extent != extents.begin() && std::prev(extent)->second.end_block() > begin) --extent;
  for (; extent != extents.end() && extent->first < end; ++extent) touched.push_back(&extent->second);
  return touched;
}

}  // namespace cairn::chunkserver
