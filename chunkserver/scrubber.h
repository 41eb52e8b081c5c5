// Reads every stored block again and again at a set rate and compares it with its checksum, so that damage is
// found while other replicas can still repair it.
//
// Thread-safety: Start and Stop from one thread; ScrubOnce from any thread.
#pragma once

#include <cstdint>
#include <thread>

#include "chunkserver/disk_set.h"
#include "chunkserver/rate_limiter.h"
#include "chunkserver/request_handler.h"

namespace cairn::chunkserver {

struct ScrubberOptions {
  uint64_t rate_bytes_per_second = 8u << 20;  // 0: no scrubbing in the background
  int64_t first_pass_after_ms = 60'000;
  int64_t pass_interval_ms =
      24 * 3600 * 1000ll;  // from the start of one pass to the start of the next, at least
};

struct ScrubResult {
  uint64_t chunks = 0;
  uint64_t bytes = 0;
  uint64_t bad_blocks = 0;
};

class Scrubber {
 public:
  Scrubber(DiskSet* disks, const Clock* clock, DamageSink damage, ScrubberOptions options);
  ~Scrubber();  // as Stop

  void Start();
  void Stop();
  // One pass over everything. Bad blocks are marked in the store and reported.
  ScrubResult ScrubOnce();

 private:
  void Run();
  bool ScrubChunk(const replication::ReplicaInfo& info, ScrubResult* result);
  void FindBadBlocks(const replication::ReplicaInfo& info, uint64_t offset, uint64_t length,
                     ScrubResult* result);

  DiskSet* const disks_;
  const Clock* const clock_;
  const DamageSink damage_;
  const ScrubberOptions options_;
  RateLimiter limiter_;
  std::thread thread_;
};

}  // namespace cairn::chunkserver
