#include "master/cluster/chunk_history.h"

#include <ctime>

#include "common/clock.h"

namespace cairn::master {

void ChunkHistory::Add(ChunkId chunk, int64_t wall_ns, std::string text) {
  auto [it, inserted] = rings_.try_emplace(chunk);
  if (inserted) {
    it->second.position = order_.insert(order_.end(), chunk);
  } else {
    order_.splice(order_.end(), order_, it->second.position);
  }
  const std::time_t seconds = wall_ns / kNanosPerSecond;
  std::tm utc{};
  gmtime_r(&seconds, &utc);
  char stamp[32];
  std::strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%SZ ", &utc);
  it->second.events.push_back(stamp + std::move(text));
  if (it->second.events.size() > max_events_) it->second.events.pop_front();
  if (rings_.size() > max_chunks_) {
    rings_.erase(order_.front());
    order_.pop_front();
  }
}

std::vector<std::string> ChunkHistory::Of(ChunkId chunk) const {
  auto it = rings_.find(chunk);
  if (it == rings_.end()) return {};
  return {it->second.events.begin(), it->second.events.end()};
}

}  // namespace cairn::master
