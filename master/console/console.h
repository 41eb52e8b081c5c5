// The web console: serves the pages and the JSON interface (api.h) over HTTP, and keeps the history for the
// charts.
//
// Thread-safety: Start and the destructor from one thread; requests are served by threads of its own.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "common/clock.h"
#include "common/http/connection_limits.h"
#include "common/metrics/metrics.h"
#include "common/status.h"

namespace grpc {
class Channel;
}

namespace cairn::master::console {

struct ConsoleOptions {
  std::string address;             // host:port, port 0 for any free one; empty: there is no console
  bool remote = false;             // may listen where other machines reach it; reading needs a login, then
  std::vector<std::string> hosts;  // further names by which browsers reach it
  std::string url_file;            // its URL is written there; empty: nowhere
  http::ConnectionLimits limits;       // tests have shorter ones
};

class Console {
 public:
  // Null when no address is given. kInvalidArgument: no address, or one that other machines reach without
  // `remote`; kBusy: somebody else has it; kUnavailable: it cannot be bound, and why.
  // `token`: of administrators. `master`: the administration service. `registry` must outlive the console.
  static Result<std::unique_ptr<Console>> Start(const ConsoleOptions& options, const std::string& token,
                                                std::shared_ptr<grpc::Channel> master,
                                                const metrics::Registry& registry, const Clock* clock);
  ~Console();  // ends requests under way
  Console(const Console&) = delete;
  Console& operator=(const Console&) = delete;

  int port() const;
  std::string url() const;

 private:
  explicit Console(const ConsoleOptions& options);
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace cairn::master::console
