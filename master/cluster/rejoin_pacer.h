// How soon a member that was left out may be taken back into a chunk that is being written.
//
// Each time costs the writer a moment in which its fsync waits. The first attempt may come at once; a member that is left out
// again soon after (too slow, disk still full) waits twice as long each time, from a second up to a minute, and a chunk that
// was left in peace for that long starts anew.
//
// Thread-safety: none; one owner.
#pragma once

#include <algorithm>
#include <cstdint>
#include <unordered_map>

#include "common/clock.h"
#include "common/ids.h"

namespace cairn::master {

class RejoinPacer {
 public:
  static constexpr int64_t kFirstNanos = kNanosPerSecond;
  static constexpr int64_t kMostNanos = 60 * kNanosPerSecond;

  // When the next attempt may begin; 0: at once.
  int64_t NextTime(ChunkId chunk) const {
    const auto found = attempts_.find(chunk);
    return found == attempts_.end() ? 0 : found->second.next_ns;
  }
  // An attempt is over, however it went.
  void Ended(ChunkId chunk, int64_t now_ns) {
    Attempt& attempt = attempts_[chunk];
    attempt.pause_ns = attempt.pause_ns == 0 ? kFirstNanos : std::min(2 * attempt.pause_ns, kMostNanos);
    attempt.next_ns = now_ns + attempt.pause_ns;
  }
  // Forgets chunks that nothing was attempted for since; call now and then.
  void Prune(int64_t now_ns) {
    std::erase_if(attempts_, [&](const auto& entry) { return now_ns >= entry.second.next_ns + kMostNanos; });
  }
  size_t size() const { return attempts_.size(); }

 private:
  struct Attempt {
    int64_t pause_ns = 0;
    int64_t next_ns = 0;
  };
  std::unordered_map<ChunkId, Attempt> attempts_;
};

}  // namespace cairn::master
