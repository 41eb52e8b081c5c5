// A bound on bytes held in memory by all files of a client together. One bounds dirty data (written, not yet
// confirmed by W replicas): a writer that would exceed it waits until others drained, and data drains by
// itself, because every file starts sending what it holds after a short idle at the latest. Another one
// bounds clean data that was read ahead. Thread-safety: all methods may be called from any thread.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>

#include "common/status.h"

namespace cairn::client {

class ByteBudget {
 public:
  explicit ByteBudget(uint64_t limit_bytes) : limit_bytes_(limit_bytes) {}
  ByteBudget(const ByteBudget&) = delete;
  ByteBudget& operator=(const ByteBudget&) = delete;

  // Takes `bytes`, waiting while the bound would be exceeded; a request larger than the bound passes alone.
  // kTimeout after timeout_ms, kInterrupted (see InterruptScope).
  Status Acquire(uint64_t bytes, int64_t timeout_ms);
  // Takes `bytes` if the bound allows it.
  bool TryAcquire(uint64_t bytes);
  void Release(uint64_t bytes);

  uint64_t used_bytes() const;
  uint64_t limit_bytes() const { return limit_bytes_; }

 private:
  bool FitsLocked(uint64_t bytes) const { return used_bytes_ == 0 || used_bytes_ + bytes <= limit_bytes_; }

  const uint64_t limit_bytes_;  // constant after construction

  mutable std::mutex mu_;
  std::condition_variable released_;
  uint64_t used_bytes_ = 0;  // guarded by mu_
};

}  // namespace cairn::client
