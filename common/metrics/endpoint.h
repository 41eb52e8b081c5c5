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

struct EndpointOptions {
  std::string address;       // host:port, port 0 for any free one; empty: there is no endpoint
  std::string program;       // "cairn-master"
  std::string version;
};

class Endpoint {
 public:
  // Null when no address is given. kInvalidArgument: no address; kBusy: somebody else has it; kUnavailable:
  // it cannot be bound, and why. Adds what is known of the process to the registry, which must live longer.
  static Result<std::unique_ptr<Endpoint>> Start(const EndpointOptions& options, Registry& registry);
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
