// Empties disks that an administrator drains: their replicas move to other disks of the server, one after the other, at a set rate.
//
// What cannot move now is tried again in the next round, and the disk's note says why (it travels with the heartbeats).
// Thread-safety: Start and Stop from one thread; DrainOnce from one thread at a time.
#pragma once

#include <cstdint>
#include <thread>

#include "chunkserver/disk_set.h"
#include "chunkserver/rate_limiter.h"
#include "common/clock.h"

namespace cairn::chunkserver {

class DiskDrainer {
 public:
  // 0: no limit.
  DiskDrainer(DiskSet* disks, uint64_t bytes_per_second, const Clock* clock)
      : disks_(disks), limiter_(bytes_per_second, clock) {}
  ~DiskDrainer() { Stop(); }

  void Start();
  void Stop();
  // One round over the disks that are drained now. Answers how many replicas moved.
  uint64_t DrainOnce();

 private:
  DiskSet* const disks_;
  RateLimiter limiter_;
  std::thread thread_;
};

}  // namespace cairn::chunkserver
