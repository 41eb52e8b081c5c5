#include "common/net/slow_readers.h"

#include <algorithm>

namespace cairn::net {

std::vector<size_t> SlowReaders(std::span<const SendQueueState> queues, int64_t now_ns, const SlowReaderLimits& limits) {
  std::vector<size_t> slow;
  std::vector<size_t> candidates;
  size_t left = 0;
  for (size_t i = 0; i < queues.size(); ++i) {
    if (queues[i].queued_bytes == 0) continue;
    const int64_t waits_ns = now_ns - queues[i].waits_since_ns;
    if (waits_ns > limits.stalled_ns) {
      slow.push_back(i);
      continue;
    }
    left += queues[i].queued_bytes;
    if (waits_ns > limits.under_pressure_ns) candidates.push_back(i);
  }
  std::sort(candidates.begin(), candidates.end(),
            [&](size_t a, size_t b) { return queues[a].queued_bytes > queues[b].queued_bytes; });
  for (const size_t i : candidates) {
    if (left <= limits.queued_bytes) break;
    left -= queues[i].queued_bytes;
    slow.push_back(i);
  }
  return slow;
}

}  // namespace cairn::net
