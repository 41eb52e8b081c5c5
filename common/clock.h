// Time comes in through the constructor: production uses SystemClock, tests and the simulator a ManualClock.
// Thread-safety: all implementations may be used from any thread.
#pragma once

#include <atomic>
#include <cstdint>

namespace cairn {

inline constexpr int64_t kNanosPerMicro = 1'000;
inline constexpr int64_t kNanosPerMilli = 1'000'000;
inline constexpr int64_t kNanosPerSecond = 1'000'000'000;

class Clock {
 public:
  virtual ~Clock() = default;
  // Nanoseconds of CLOCK_BOOTTIME: monotonic, and it counts while the machine sleeps, so that a lease cannot
  // outlive a suspend. Never compared between machines.
  virtual int64_t NowNanos() const = 0;
  // Nanoseconds since 1970-01-01 UTC; for timestamps of files and for people, never for protocol decisions.
  virtual int64_t WallNanos() const = 0;
};

class SystemClock final : public Clock {
 public:
  int64_t NowNanos() const override;
  int64_t WallNanos() const override;
  static const SystemClock* Get();
};

class ManualClock final : public Clock {
 public:
  explicit ManualClock(int64_t now_ns = kNanosPerSecond) : now_ns_(now_ns) {}
  int64_t NowNanos() const override { return now_ns_.load(std::memory_order_relaxed); }
  int64_t WallNanos() const override { return 1'700'000'000 * kNanosPerSecond + NowNanos(); }
  void Advance(int64_t nanos) { now_ns_.fetch_add(nanos, std::memory_order_relaxed); }

 private:
  std::atomic<int64_t> now_ns_;
};

}  // namespace cairn
