#include "chunkserver/data_metrics.h"

namespace cairn::chunkserver {

DataMetrics::DataMetrics(metrics::Registry& registry) {
  constexpr std::array<const char*, kKinds> kNames = {nullptr, "hello", "mutate",  "read",  "flush",
                                                      "seal",  "query", "digests", "begin", "extents",
                                                      "stage", "mutate_staged"};
  for (size_t i = 1; i < kNames.size(); ++i) {
    const metrics::Labels labels = {{"request", kNames[i]}};
    kinds_[i].latency =
        &registry.GetHistogram("cairn_chunkserver_request_seconds",
                               "Requests of the data plane, from reading one to its answer", labels);
    const auto type = static_cast<wire::MessageType>(i);
    if (type != wire::MessageType::kMutate && type != wire::MessageType::kRead && type != wire::MessageType::kMutateStaged)
      continue;
    kinds_[i].bytes = &registry.GetCounter("cairn_chunkserver_request_bytes_total",
                                           "File contents received (mutate), sent (read) and copied here (mutate_staged)", labels);
  }
}

void DataMetrics::Served(wire::MessageType type, int64_t nanos, uint64_t bytes) {
  const auto index = static_cast<size_t>(type);
  if (index == 0 || index >= kinds_.size()) return;
  kinds_[index].latency->Record(nanos);
  if (bytes > 0 && kinds_[index].bytes != nullptr) kinds_[index].bytes->Add(bytes);
}

proto::Traffic DataMetrics::Traffic() const {
  const auto& read = kinds_[static_cast<size_t>(wire::MessageType::kRead)];
  const auto& mutate = kinds_[static_cast<size_t>(wire::MessageType::kMutate)];
  const metrics::LatencyHistogram::Sums reads = read.latency->Read();
  const metrics::LatencyHistogram::Sums writes = mutate.latency->Read();
  proto::Traffic traffic;
  traffic.set_reads(reads.count);
  traffic.set_read_bytes(read.bytes->Value());
  traffic.set_read_nanos(static_cast<uint64_t>(reads.seconds * 1e9));
  traffic.set_writes(writes.count);
  traffic.set_written_bytes(mutate.bytes->Value());
  traffic.set_write_nanos(static_cast<uint64_t>(writes.seconds * 1e9));
  return traffic;
}

}  // namespace cairn::chunkserver
