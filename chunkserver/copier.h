// Brings a replica to an exact stamp by fetching what differs from other carriers.
//
//   1. The store pins the sync: from now on older mutations are refused, the present bytes stay as they are.
//   2. Digests of 64 KiB ranges, own and of a source, say what differs. A range that cannot be read here (a
//   bad block)
//      counts as different; without a replica every range that is not zero does.
//      If they do not fit on the disk, the sync is refused here: nothing was fetched yet.
//   3. The differing ranges are read from a source at exactly the stamp and verified; when a source fails,
//   the next one
//      goes on where it stopped: equal stamps mean equal bytes.
//   4. The store makes the result durable and swaps it in together with the stamp.
//
// Thread-safety: Sync may be called from any thread (it blocks); Stop cuts short what is running.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <vector>

#include "chunkserver/disk_set.h"
#include "chunkserver/rate_limiter.h"
#include "common/clock.h"
#include "common/net/data_client.h"

namespace cairn::chunkserver {

struct SyncTask {
  ChunkId chunk;
  Epoch epoch;
  Stamp base;
  uint64_t length = 0;
  std::vector<net::Peer> sources;      // tried in order
  uint64_t rate_bytes_per_second = 0;  // 0: no limit of its own
};

struct SyncOutcome {
  Status status;
  replication::ReplicaInfo info;
  uint64_t bytes_transferred = 0;  // fetched from sources
  uint64_t bytes_differing = 0;    // of the ranges that differed
  bool refused_here = false;       // failed because of this server's disk, not of a source
};

struct CopierOptions {
  uint64_t rate_bytes_per_second = 0;  // of this server, all syncs together; 0: no limit
  int64_t request_timeout_ms = 10'000;
  uint32_t piece_bytes =
      1u << 20;         // per read; a multiple of the digest range, at most wire::kMaxTransferBytes
  uint32_t window = 4;  // reads under way per sync
};

class Copier {
 public:
  Copier(DiskSet* disks, net::DataClient* peers, const Clock* clock, CopierOptions options);

  SyncOutcome Sync(const SyncTask& task);
  void Stop();

 private:
  class Run;

  DiskSet* const disks_;
  net::DataClient* const peers_;
  const Clock* const clock_;
  const CopierOptions options_;
  RateLimiter limiter_;
};

}  // namespace cairn::chunkserver
