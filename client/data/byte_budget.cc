#include "client/data/byte_budget.h"

#include <algorithm>
#include <chrono>
#include <string>

#include "client/interrupt.h"
#include "common/check.h"

namespace cairn::client {
namespace {
constexpr std::chrono::milliseconds kInterruptPoll{50};
}  // namespace

Status ByteBudget::Acquire(uint64_t bytes, int64_t timeout_ms) {
  using std::chrono::steady_clock;
  const auto deadline = steady_clock::now() + std::chrono::milliseconds(timeout_ms);
  std::unique_lock lock(mu_);
  while (!FitsLocked(bytes)) {
    if (steady_clock::now() >= deadline) {
      return Status(StatusCode::kTimeout, "no room for buffered data for " + std::to_string(timeout_ms) +
                                              " ms: " + std::to_string(used_bytes_) + " of " +
                                              std::to_string(limit_bytes_) + " bytes are not yet confirmed");
    }
    lock.unlock();
    const bool interrupted = ThreadInterrupted();
    lock.lock();
    if (interrupted) return Status(StatusCode::kInterrupted, "interrupted while waiting to buffer a write");
    if (FitsLocked(bytes)) break;  // released while the lock was away
    released_.wait_until(lock, std::min(deadline, steady_clock::now() + kInterruptPoll));
  }
  used_bytes_ += bytes;
  return Status::Ok();
}

bool ByteBudget::TryAcquire(uint64_t bytes) {
  std::lock_guard lock(mu_);
  if (!FitsLocked(bytes)) return false;
  used_bytes_ += bytes;
  return true;
}

void ByteBudget::Release(uint64_t bytes) {
  {
    std::lock_guard lock(mu_);
    CAIRN_CHECK(bytes <= used_bytes_, "more bytes released than were taken");
    used_bytes_ -= bytes;
  }
  released_.notify_all();
}

uint64_t ByteBudget::used_bytes() const {
  std::lock_guard lock(mu_);
  return used_bytes_;
}

}  // namespace cairn::client
