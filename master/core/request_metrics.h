// How many requests of which kind were answered, and how long that took. Thread-safety: core thread only;
// what it counts is read by the metrics endpoint.
#pragma once

#include <array>
#include <cstdint>

#include "common/clock.h"
#include "common/metrics/metrics.h"

namespace cairn::master {

class RequestMetrics {
 public:
  // registry: null when nobody asks.
  RequestMetrics(metrics::Registry* registry, const Clock* clock) : registry_(registry), clock_(clock) {}
  // When a request is taken up, and how long ago that is.
  int64_t Now() const { return clock_->NowNanos(); }
  // `op`: field number of proto::Request's oneof. What is measured includes waits for other clients and for
  // chunkservers.
  void Answered(int op, int64_t taken_up_ns, bool ok);

 private:
  struct Kind {
    metrics::LatencyHistogram* latency = nullptr;
    metrics::Counter* refused = nullptr;
  };
  metrics::Registry* const registry_;  // may be null
  const Clock* const clock_;
  std::array<Kind, 128> kinds_{};  // by field number, looked up at the first use
};

}  // namespace cairn::master
