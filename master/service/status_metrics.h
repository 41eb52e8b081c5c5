// What `cairn status` shows, as gauges for the metrics endpoint. Thread-safety: the endpoint's threads.
#pragma once

#include <memory>

namespace cairn::metrics {
class Registry;
}

namespace cairn::master {

class Core;

class StatusMetrics {
 public:
  // The core must outlive this; it is asked at most once a second.
  StatusMetrics(metrics::Registry& registry, Core* core);
  ~StatusMetrics();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace cairn::master
