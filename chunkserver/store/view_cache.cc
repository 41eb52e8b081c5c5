#include "chunkserver/store/view_cache.h"

#include <utility>

namespace cairn::chunkserver {

std::shared_ptr<const ViewCache::View> ViewCache::Find(ChunkId chunk) {
  std::lock_guard lock(mu_);
  const auto found = index_.find(chunk);
  if (found == index_.end()) return nullptr;
  cached_.splice(cached_.begin(), cached_, found->second);
  return found->second->view;
}

bool ViewCache::SeenBefore(ChunkId chunk) {
  return seen_[std::hash<ChunkId>()(chunk) % kRemembered].exchange(
             chunk.value(), std::memory_order_relaxed) == chunk.value();
}

void ViewCache::Insert(ChunkId chunk, std::shared_ptr<const View> view, uint64_t generation) {
  if (view->extents.size() > kMaxExtentsOfOne) return;
  std::lock_guard lock(mu_);
  if (generation_.load(std::memory_order_relaxed) != generation || index_.contains(chunk)) return;
  extents_ += view->extents.size();
  cached_.push_front({chunk, std::move(view)});
  index_[chunk] = cached_.begin();
  while (extents_ > kMaxExtents || cached_.size() > kMaxExtents) Erase(std::prev(cached_.end()));
}

void ViewCache::Forget(ChunkId chunk) {
  std::lock_guard lock(mu_);
  generation_.fetch_add(1, std::memory_order_release);
  if (const auto found = index_.find(chunk); found != index_.end()) Erase(found->second);
}

void ViewCache::Erase(std::list<Cached>::iterator it) {
  extents_ -= it->view->extents.size();
  index_.erase(it->chunk);
  cached_.erase(it);
}

}  // namespace cairn::chunkserver
