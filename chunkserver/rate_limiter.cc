#include "chunkserver/rate_limiter.h"

#include <algorithm>
#include <chrono>

namespace cairn::chunkserver {

bool RateLimiter::Take(uint64_t bytes) {
  int64_t wait_ns = 0;
  {
    std::lock_guard lock(mu_);
    if (stopped_) return false;
    if (bytes_per_second_ == 0) return true;
    const int64_t now = clock_->NowNanos();
    // Nothing is saved up while idle, so a pause is not followed by a burst.
    free_at_ns_ = std::max(free_at_ns_, now);
    wait_ns = free_at_ns_ - now;
    free_at_ns_ += static_cast<int64_t>(static_cast<double>(bytes) / static_cast<double>(bytes_per_second_) *
                                        static_cast<double>(kNanosPerSecond));
  }
  return wait_ns == 0 || Sleep(wait_ns);
}

bool RateLimiter::Sleep(int64_t nanos) {
  std::unique_lock lock(mu_);
  wake_.wait_for(lock, std::chrono::nanoseconds(nanos), [this] { return stopped_; });
  return !stopped_;
}

void RateLimiter::Stop() {
  {
    std::lock_guard lock(mu_);
    stopped_ = true;
  }
  wake_.notify_all();
}

bool RateLimiter::stopped() const {
  std::lock_guard lock(mu_);
  return stopped_;
}

}  // namespace cairn::chunkserver
