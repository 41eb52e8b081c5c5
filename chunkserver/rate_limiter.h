// Holds background work to a number of bytes per second.
//
// Thread-safety: all methods may be called from any thread.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>

#include "common/clock.h"

namespace cairn::chunkserver {

class RateLimiter {
 public:
  // 0: no limit.
  RateLimiter(uint64_t bytes_per_second, const Clock* clock)
      : bytes_per_second_(bytes_per_second), clock_(clock) {}

  // Waits until `bytes` may be used. False when it was stopped meanwhile.
  bool Take(uint64_t bytes);
  // Lets everybody go who waits, and all who come later.
  void Stop();
  bool stopped() const;
  // Waits for a time that Stop cuts short. False when it was stopped.
  bool Sleep(int64_t nanos);

 private:
  const uint64_t bytes_per_second_;
  const Clock* const clock_;
  mutable std::mutex mu_;
  std::condition_variable wake_;
  int64_t free_at_ns_ = 0;  // guarded by mu_; when what was taken so far has been paid for
  bool stopped_ = false;    // guarded by mu_
};

}  // namespace cairn::chunkserver
