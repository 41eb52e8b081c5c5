#include "common/clock.h"

#include <ctime>

namespace cairn {
namespace {
int64_t Read(clockid_t id) {
  timespec now{};
  clock_gettime(id, &now);
  return static_cast<int64_t>(now.tv_sec) * kNanosPerSecond + now.tv_nsec;
}
}  // namespace

int64_t SystemClock::NowNanos() const { return Read(CLOCK_BOOTTIME); }
int64_t SystemClock::WallNanos() const { return Read(CLOCK_REALTIME); }

const SystemClock* SystemClock::Get() {
  static const SystemClock clock;
  return &clock;
}

}  // namespace cairn
