// The last hour of the cluster's load, for the console's charts: a ring of samples, two seconds apart.
// Everything that only grows (operations, bytes, nanoseconds) is turned into what happened per second
// between two samples.
//
// Thread-safety: any thread.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <nlohmann/json_fwd.hpp>
#include <optional>

#include "common/metrics/metrics.h"
#include "proto/cairn/admin.pb.h"

namespace cairn::master::console {

// What is known at one moment.
struct Reading {
  int64_t unix_ms = 0;
  proto::StatusResponse status;
  metrics::LatencyHistogram::Sums requests;  // of the master, since its start
};

struct ServerLoad {
  double read_bps = 0, write_bps = 0;  // bytes per second
  double load = 0;                     // 0..1
  double used_bytes = 0;
  bool up = false;
};

struct Load {
  int64_t unix_ms = 0;
  double operations = 0;       // requests of clients to the master per second
  double latency_mean_ms = 0;  // of those
  double latency_p99_ms = 0;
  double read_bps = 0, write_bps = 0;  // data planes of all chunkservers; a write counts once per copy
  double read_ms = 0, write_ms = 0;    // mean time of a read and of a mutation at a chunkserver
  double repair_bps = 0;               // copied between chunkservers for repair and moves
  double below_policy = 0;
  double servers_up = 0;
  std::map<uint32_t, ServerLoad> servers;
};

// What happened between the two. A counter that went back (its process started anew) counts as nothing.
Load LoadBetween(const Reading& before, const Reading& now);
// The value below which `share` of the durations between the two lie, in milliseconds; 0: there are none.
double QuantileMs(const metrics::LatencyHistogram::Sums& before, const metrics::LatencyHistogram::Sums& now,
                  double share);

class History {
 public:
  static constexpr size_t kSamples = 1800;
  static constexpr int64_t kPeriodMs = 2000;
  static constexpr size_t kMaxServers = 256;  // with a history of their own

  void Add(Reading reading);
  // Samples after number `after` in columns: {"next", "period_ms", "t": [...], "operations": [...], ...}; of
  // one server when it is given.
  nlohmann::json Columns(uint64_t after, std::optional<uint32_t> server) const;

 private:
  mutable std::mutex mu_;
  std::optional<Reading> last_;  // guarded by mu_
  std::deque<Load> loads_;       // guarded by mu_
  uint64_t next_ = 1;            // guarded by mu_; number of the sample that comes next
};

}  // namespace cairn::master::console
