// Reads every stored block again and again at a set rate and compares it with its checksum, so that damage is
// found while other replicas can still repair it.
//
// Thread-safety: Start and Stop from one thread; ScrubOnce and Progress from any thread.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

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

// How far the pass over one disk is; what there was before the start of the process is not known.
struct ScrubProgress {
  std::string path;
  uint64_t chunks_done = 0;      // of the pass that runs, or of the last one
  uint64_t bytes_done = 0;
  uint64_t bad_blocks = 0;       // found by it
  int64_t last_complete_unix_ms = 0;  // 0: no pass came to its end yet
};

class Scrubber {
 public:
  Scrubber(DiskSet* disks, const Clock* clock, DamageSink damage, ScrubberOptions options);
  ~Scrubber();  // as Stop

  void Start();
  void Stop();
  // One pass over everything. Bad blocks are marked in the store and reported.
  ScrubResult ScrubOnce();
  std::vector<ScrubProgress> Progress() const;

 private:
  void Run();
  bool ScrubDisk(const std::string& path, ChunkStore* store, ScrubResult* result);
  bool ScrubChunk(const replication::ReplicaInfo& info, ScrubResult* result);
  void Note(const std::string& path, const ScrubResult& disk, bool complete);
  void FindBadBlocks(const replication::ReplicaInfo& info, uint64_t offset, uint64_t length,
                     ScrubResult* result);

  DiskSet* const disks_;
  const Clock* const clock_;
  const DamageSink damage_;
  const ScrubberOptions options_;
  RateLimiter limiter_;
  std::thread thread_;
  mutable std::mutex mu_;
  std::map<std::string, ScrubProgress> progress_;  // guarded by mu_; by path
};

}  // namespace cairn::chunkserver
