#include "master/core/request_metrics.h"

#include "proto/cairn/session.pb.h"

namespace cairn::master {

void RequestMetrics::Answered(int op, int64_t taken_up_ns, bool ok) {
  if (registry_ == nullptr || taken_up_ns == 0 || op <= 0 || static_cast<size_t>(op) >= kinds_.size()) return;
  Kind& kind = kinds_[static_cast<size_t>(op)];
  if (kind.latency == nullptr) {
    const auto* field = proto::Request::descriptor()->FindFieldByNumber(op);
    const metrics::Labels labels = {{"op", field == nullptr ? "unknown" : field->name()}};
    kind.latency = &registry_->GetHistogram("cairn_master_request_seconds",
                                            "Requests of clients, from taking one up to its answer, waits "
                                            "for other clients and for chunkservers included",
                                            labels);
    kind.refused = &registry_->GetCounter("cairn_master_requests_refused_total",
                                          "Requests answered with an error", labels);
  }
  kind.latency->Record(clock_->NowNanos() - taken_up_ns);
  if (!ok) kind.refused->Add();
}

}  // namespace cairn::master
