#include "master/console/console.h"

#include <httplib.h>

#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <thread>

#include "common/daemon.h"
#include "common/http/bounded_server.h"
#include "common/log.h"
#include "common/net/address.h"
#include "master/console/api.h"
#include "master/console/assets.h"

namespace cairn::master::console {
namespace {

constexpr size_t kMaxBodyBytes = 64 << 10;
constexpr char kRequestMetric[] = "cairn_master_request_seconds";

Request FromHttp(const httplib::Request& http) {
  Request request{.method = http.method, .path = http.path};
  for (const auto& [name, value] : http.params) request.query.emplace(name, value);
  request.host = http.get_header_value("Host");
  request.origin = http.get_header_value("Origin");
  request.fetch_site = http.get_header_value("Sec-Fetch-Site");
  request.authorization = http.get_header_value("Authorization");
  request.session = http.get_header_value("Cairn-Session");
  request.content_type = http.get_header_value("Content-Type");
  request.body = http.body;
  return request;
}

void ToHttp(const std::string& path, Response response, httplib::Response* http) {
  http->status = response.status;
  for (const auto& [name, value] : SecurityHeaders(path)) http->set_header(name, value);
  for (const auto& [name, value] : response.headers) http->set_header(name, value);
  http->set_content(response.body, response.content_type);
}

Response Page(const Request& request, const std::vector<std::string>& hosts) {
  if (const Status host = CheckHost(request, hosts); !host.ok()) return ErrorResponse(host);
  const Asset* asset = FindAsset(request.path);
  if (asset == nullptr) return ErrorResponse(404, "there is no " + request.path + " here; the console begins at /");
  return {.content_type = ContentType(asset->path == "/" ? "/index.html" : asset->path), .body = std::string(asset->content)};
}

}  // namespace

struct Console::Impl {
  explicit Impl(const ConsoleOptions& wanted)
      : options(wanted),
        server({.limits = wanted.limits, .max_body_bytes = kMaxBodyBytes},
               [](const httplib::Request& http, const http::Refusal& why, httplib::Response& response) {
                 ToHttp(http.path, ErrorResponse(why.status, why.message), &response);
               }) {}

  const ConsoleOptions options;
  History history;
  std::unique_ptr<Api> api;
  http::BoundedServer server;
  std::thread serving;
  std::thread sampling;
  net::HostPort where;
  std::mutex mu;
  std::condition_variable wake;
  bool stopping = false;  // guarded by mu

  void Sample(const metrics::Registry& registry, const Clock* clock) {
    for (;;) {
      Reading reading;
      if (api->ReadStatus(&reading.status)) {
        reading.unix_ms = clock->WallNanos() / kNanosPerMilli;
        reading.requests = registry.Sums(kRequestMetric);
        history.Add(std::move(reading));
      }
      std::unique_lock lock(mu);
      if (wake.wait_for(lock, std::chrono::milliseconds(History::kPeriodMs), [this] { return stopping; })) return;
    }
  }

  Status Bind() {
    const auto answer = [this](const httplib::Request& http, httplib::Response& response) {
      const Request request = FromHttp(http);
      if (request.path.starts_with("/api/")) {
        ToHttp(request.path, api->Handle(request), &response);
      } else if (request.method == "GET" || request.method == "HEAD") {
        ToHttp(request.path, Page(request, options.hosts), &response);
      } else {
        ToHttp(request.path, ErrorResponse(405, "pages are only read"), &response);
      }
    };
    server.Get(".*", answer);
    server.Post(".*", answer);
    server.set_exception_handler([](const httplib::Request& http, httplib::Response& response, std::exception_ptr) {
      ToHttp(http.path, ErrorResponse(500, "the console failed to answer this"), &response);
    });
    // What the library refuses by itself: other methods, too large, not HTTP.
    server.set_error_handler(httplib::Server::Handler([](const httplib::Request& http, httplib::Response& response) {
      if (!response.body.empty()) return;
      ToHttp(http.path,
             ErrorResponse(response.status, response.status == 413 ? "the request is larger than 64 KiB"
                                                                   : "the request is not understood"),
             &response);
    }));
    errno = 0;
    int port = -1;
    if (where.port == 0) {
      port = server.bind_to_any_port(where.host);
    } else if (server.bind_to_port(where.host, where.port)) {
      port = where.port;
    }
    if (port <= 0) {
      const int error = errno;
      return {error == EADDRINUSE ? StatusCode::kBusy : StatusCode::kUnavailable,
              "cannot bind the console to " + where.ToString() +
                  (error != 0 ? std::string(": ") + std::strerror(error) : std::string()) +
                  (error == EADDRINUSE ? "; give --console another port" : "")};
    }
    server.AcceptMany();
    where.port = static_cast<uint16_t>(port);
    return Status::Ok();
  }
};

Console::Console(const ConsoleOptions& options) : impl_(std::make_unique<Impl>(options)) {}

Result<std::unique_ptr<Console>> Console::Start(const ConsoleOptions& options, const std::string& token,
                                                std::shared_ptr<grpc::Channel> master,
                                                const metrics::Registry& registry, const Clock* clock) {
  if (options.address.empty()) return std::unique_ptr<Console>();
  std::unique_ptr<Console> console(new Console(options));
  Impl& impl = *console->impl_;
  CAIRN_ASSIGN_OR_RETURN(impl.where, net::ParseHostPort(options.address));
  const bool loopback = IsLoopback(impl.where.host);
  if (!loopback && !options.remote) {
    return Status(StatusCode::kInvalidArgument,
                  "the console at " + impl.where.ToString() +
                      " would be reached by other machines, unencrypted: give a loopback address (and a tunnel or a proxy "
                      "with TLS in front of it), or --console-remote, if the network is trusted");
  }
  // A server without a secret would let everybody in.
  if (token.empty()) return Status(StatusCode::kInvalidArgument, "the console needs an administrator's token");
  impl.api = std::make_unique<Api>(ApiOptions{.token = token, .hosts = options.hosts, .login_to_read = !loopback},
                                   std::move(master), &impl.history, clock);
  CAIRN_RETURN_IF_ERROR(impl.Bind());
  impl.serving = std::thread([&impl] { impl.server.listen_after_bind(); });
  // stop() is heard only by a server that runs.
  while (!impl.server.is_running()) std::this_thread::yield();
  impl.sampling = std::thread([&impl, &registry, clock] { impl.Sample(registry, clock); });
  if (!options.url_file.empty())
    CAIRN_RETURN_IF_ERROR(WriteFileAtomically(options.url_file, console->url() + "\n"));
  CAIRN_LOG(Info, "console at {}", console->url());
  return console;
}

int Console::port() const { return impl_->where.port; }

std::string Console::url() const { return "http://" + impl_->where.ToString() + "/"; }

Console::~Console() {
  {
    const std::lock_guard lock(impl_->mu);
    impl_->stopping = true;
  }
  impl_->wake.notify_all();
  if (impl_->sampling.joinable()) impl_->sampling.join();
  impl_->server.Stop();
  if (impl_->serving.joinable()) impl_->serving.join();
}

}  // namespace cairn::master::console
