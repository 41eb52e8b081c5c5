// The HTTP endpoint of a daemon: GET /metrics (Prometheus' text format), GET /health ("ok" while the process
// serves). Nothing else is answered, nothing can be changed through it.
//
// Thread-safety: Start and the destructor from one thread; requests are served by threads of its own.
#pragma once

#include <memory>
#include <string>

#include "common/metrics/metrics.h"
#include "common/status.h"

namespace cairn::metrics {

class Endpoint {
 public:
  // `listen`: host:port, port 0 for any free one. kUnavailable when the address cannot be bound: says which
  // and why.
  static Result<std::unique_ptr<Endpoint>> Start(const std::string& listen, const Registry& registry);
  ~Endpoint();  // ends requests under way
  Endpoint(const Endpoint&) = delete;
  Endpoint& operator=(const Endpoint&) = delete;

  int port() const;

 private:
  Endpoint();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace cairn::metrics
