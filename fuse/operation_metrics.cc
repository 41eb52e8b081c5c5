#include "fuse/operation_metrics.h"

#include <mutex>

namespace cairn::fuse {

void OperationMetrics::Served(const char* operation, int64_t nanos) {
  metrics::LatencyHistogram* latency = nullptr;
  {
    const std::shared_lock lock(mu_);
    const auto found = latencies_.find(operation);
    if (found != latencies_.end()) latency = found->second;
  }
  if (latency == nullptr) {
    latency = &registry_.GetHistogram("cairn_mount_operation_seconds",
                                      "Requests of the kernel, from its call to the answer",
                                      {{"operation", operation}});
    const std::unique_lock lock(mu_);
    latencies_.emplace(operation, latency);
  }
  latency->Record(nanos);
}

}  // namespace cairn::fuse
