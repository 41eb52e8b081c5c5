// Whether a disk can still be trusted with writes. Once failed, always failed: after an error of fdatasync
// the kernel may have dropped the pages, so a later success proves nothing about them. Thread-safety: all
// methods from any thread.
#pragma once

#include <atomic>
#include <functional>
#include <mutex>

#include "common/status.h"

namespace cairn::chunkserver {

class DiskHealth {
 public:
  // `on_failure` runs once, in the thread that met the error.
  explicit DiskHealth(std::function<void(const Status&)> on_failure) : on_failure_(std::move(on_failure)) {}

  bool failed() const { return failed_.load(std::memory_order_acquire); }
  Status failure() const {
    std::lock_guard lock(mu_);
    return failure_;
  }
  // Records the first error; returns the error that callers see from now on.
  Status Fail(const Status& error) {
    {
      std::lock_guard lock(mu_);
      if (!failure_.ok()) return failure_;
      failure_ =
          error.WithContext("the disk failed and takes no more changes; replace it, or fix it and restart");
      failed_.store(true, std::memory_order_release);
    }
    if (on_failure_) on_failure_(error);
    return failure();
  }

 private:
  const std::function<void(const Status&)> on_failure_;
  std::atomic<bool> failed_{false};
  mutable std::mutex mu_;
  Status failure_;  // guarded by mu_
};

}  // namespace cairn::chunkserver
