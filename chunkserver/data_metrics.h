// How many requests of the data plane of which kind were served, their bytes, and how long they took.
// Thread-safety: any thread.
#pragma once

#include <array>
#include <cstdint>

#include "common/metrics/metrics.h"
#include "common/wire/frame.h"
#include "proto/cairn/cluster.pb.h"

namespace cairn::chunkserver {

class DataMetrics {
 public:
  explicit DataMetrics(metrics::Registry& registry);
  void Served(wire::MessageType type, int64_t nanos, uint64_t bytes);
  // Reads and mutations so far, for the heartbeat.
  proto::Traffic Traffic() const;

 private:
  static constexpr size_t kKinds = static_cast<size_t>(wire::MessageType::kMutateStaged) + 1;
  struct Kind {
    metrics::LatencyHistogram* latency = nullptr;
    metrics::Counter* bytes = nullptr;
  };
  std::array<Kind, kKinds> kinds_;  // by MessageType
};

}  // namespace cairn::chunkserver
