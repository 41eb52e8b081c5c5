#include "common/metrics/endpoint.h"

#include <httplib.h>

#include <cstring>
#include <thread>

#include "common/http/bounded_server.h"
#include "common/log.h"
#include "common/metrics/process.h"
#include "common/net/address.h"

namespace cairn::metrics {
namespace {

// Some scrapers and a person; an idle connection is kept between two scrapes.
constexpr http::ConnectionLimits kLimits = {.idle_ms = 5'000, .max_connections = 8};

}  // namespace

struct Endpoint::Impl {
  std::vector<std::unique_ptr<Registry::Handle>> process;
  http::BoundedServer server{{.limits = kLimits}, [](const httplib::Request&, const http::Refusal& why, httplib::Response& response) {
                               response.set_content(why.message + "\n", "text/plain; charset=utf-8");
                             }};
  std::thread thread;
  int port = 0;
};

Endpoint::Endpoint() : impl_(std::make_unique<Impl>()) {}

Result<std::unique_ptr<Endpoint>> Endpoint::Start(const EndpointOptions& options, Registry& registry) {
  if (options.address.empty()) return std::unique_ptr<Endpoint>();
  CAIRN_ASSIGN_OR_RETURN(const net::HostPort where, net::ParseHostPort(options.address));
  std::unique_ptr<Endpoint> endpoint(new Endpoint());
  Impl& impl = *endpoint->impl_;
  impl.server.Get("/metrics", [&registry](const httplib::Request&, httplib::Response& response) {
    response.set_content(registry.Text(), "text/plain; version=0.0.4; charset=utf-8");
  });
  impl.server.Get("/health", [](const httplib::Request&, httplib::Response& response) {
    response.set_content("ok\n", "text/plain; charset=utf-8");
  });
  errno = 0;
  if (where.port == 0) {
    impl.port = impl.server.bind_to_any_port(where.host.c_str());
  } else {
    impl.port = impl.server.bind_to_port(where.host.c_str(), where.port) ? where.port : -1;
  }
  if (impl.port <= 0) {
    const int error = errno;
    return Status(error == EADDRINUSE ? StatusCode::kBusy : StatusCode::kUnavailable,
                  "cannot bind the metrics endpoint to " + where.ToString() +
                      (error != 0 ? std::string(": ") + std::strerror(error) : std::string()));
  }
  impl.server.AcceptMany();
  impl.process = AddProcess(registry, options.program, options.version);
  impl.thread = std::thread([&impl] { impl.server.listen_after_bind(); });
  // stop() is heard only by a server that runs.
  while (!impl.server.is_running()) std::this_thread::yield();
  CAIRN_LOG(Info, "metrics at http://{}/metrics",
            net::HostPort{where.host, static_cast<uint16_t>(impl.port)}.ToString());
  return endpoint;
}

int Endpoint::port() const { return impl_->port; }

Endpoint::~Endpoint() {
  impl_->server.Stop();
  if (impl_->thread.joinable()) impl_->thread.join();
}

}  // namespace cairn::metrics
