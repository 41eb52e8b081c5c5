// How often the kernel asked for what, and how long it took. Thread-safety: any thread.
#pragma once

#include <cstdint>
#include <shared_mutex>
#include <unordered_map>

#include "common/metrics/metrics.h"

namespace cairn::fuse {

class OperationMetrics {
 public:
  explicit OperationMetrics(metrics::Registry& registry) : registry_(registry) {}
  // `operation`: a literal; its address is its identity.
  void Served(const char* operation, int64_t nanos);

 private:
  metrics::Registry& registry_;
  std::shared_mutex mu_;
  std::unordered_map<const char*, metrics::LatencyHistogram*> latencies_;  // guarded by mu_
};

}  // namespace cairn::fuse
