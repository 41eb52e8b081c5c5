#include "common/http/bounded_server.h"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <chrono>
#include <utility>

namespace cairn::http {
namespace {

constexpr int kBacklog = 64;
constexpr size_t kMaxQueued = 24;  // then the listening thread waits, and with it whoever connects

// The library would hand over a function that hides its socket.
class ListeningThread final : public httplib::TaskQueue {
 public:
  void enqueue(std::function<void()> job) override { job(); }
  void shutdown() override {}
};

std::chrono::steady_clock::time_point Now() { return std::chrono::steady_clock::now(); }

}  // namespace

std::optional<Refusal> CheckBody(const httplib::Request& http, size_t max_body_bytes) {
  if (http.has_header("Transfer-Encoding")) return Refusal{411, "send the body in one piece, with its Content-Length"};
  if (http.has_header("Content-Encoding")) return Refusal{415, "send the body as it is, without Content-Encoding"};
  if (http.is_multipart_form_data()) return Refusal{415, "a form is not understood"};
  const std::string length = http.get_header_value("Content-Length");
  const bool is_number = !length.empty() && length.size() < 19 &&
                         std::all_of(length.begin(), length.end(), [](unsigned char c) { return std::isdigit(c) != 0; });
  if (http.has_header("Content-Length") && (!is_number || http.get_header_value_count("Content-Length") != 1))
    return Refusal{400, "Content-Length must be one number"};
  const bool reads = http.method == "GET" || http.method == "HEAD";
  if (!reads && max_body_bytes == 0) return Refusal{405, "only GET and HEAD are answered here"};
  if (!reads && http.method != "POST") return Refusal{405, "only GET, HEAD and POST are answered here"};
  if (reads && is_number && std::stoull(length) != 0) return Refusal{400, http.method + " has no body"};
  if (!reads && !is_number) return Refusal{411, "send the body with its Content-Length"};
  if (is_number && std::stoull(length) > max_body_bytes)
    return Refusal{413, "the request is larger than " + std::to_string(max_body_bytes >> 10) + " KiB"};
  return std::nullopt;
}

BoundedServer::BoundedServer(const ServerOptions& options, RefusalHandler refuse) : options_(options) {
  new_task_queue = [] { return new ListeningThread(); };
  set_payload_max_length(options_.max_body_bytes);
  set_tcp_nodelay(true);
  // Not the library's default SO_REUSEPORT: a second process on the port must be refused, not share it.
  set_socket_options([](socket_t socket) {
    const int on = 1;
    setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  });
  // Before the body is read: the library bounds only what Content-Length announces, not what comes in pieces, without a length, or
  // unpacked, and anybody who reaches the port would fill the memory.
  set_pre_routing_handler([this, refuse = std::move(refuse)](const httplib::Request& http, httplib::Response& response) {
    const auto refusal = CheckBody(http, options_.max_body_bytes);
    if (!refusal) return httplib::Server::HandlerResponse::Unhandled;
    response.status = refusal->status;
    refuse(http, *refusal, response);
    return httplib::Server::HandlerResponse::Handled;
  });
}

BoundedServer::~BoundedServer() {
  for (std::thread& thread : threads_) thread.join();
}

void BoundedServer::AcceptMany() { ::listen(svr_sock_, kBacklog); }

void BoundedServer::Stop() {
  connections_.EndAll();
  {
    const std::lock_guard lock(mu_);
    ending_ = true;
  }
  wake_.notify_all();
  stop();
}

bool BoundedServer::process_and_close_socket(socket_t socket) {
  std::unique_lock lock(mu_);
  wake_.wait(lock, [this] { return ending_ || jobs_.size() < kMaxQueued; });
  bool crowded = false;
  if (!ending_ && jobs_.size() >= idle_) {
    crowded = threads_.size() >= options_.limits.max_connections;
    if (!crowded) threads_.emplace_back([this] { Work(); });
  }
  Job job{.socket = socket, .ticket = {}};
  if (ending_ || !connections_.Enter(socket, PeerOf(socket), crowded, &job.ticket)) {
    close(socket);
    return false;
  }
  jobs_.push_back(job);
  wake_.notify_all();
  return true;
}

void BoundedServer::Work() {
  std::unique_lock lock(mu_);
  for (;;) {
    ++idle_;
    wake_.wait(lock, [this] { return ending_ || !jobs_.empty(); });
    --idle_;
    if (jobs_.empty()) return;
    const Job job = jobs_.front();
    jobs_.pop_front();
    // Before anybody can take the next one: what is taken out but still counted as waiting would cost that one its connection.
    connections_.Run(job.ticket);
    wake_.notify_all();
    lock.unlock();
    Serve(job);
    connections_.Leave(job.ticket);
    shutdown(job.socket, SHUT_RDWR);
    close(job.socket);
    lock.lock();
  }
}

void BoundedServer::Serve(const Job& job) {
  ConnectionLimits limits = options_.limits;
  limits.max_request_bytes += options_.max_body_bytes;
  ConnectionStream stream(job.socket, limits, &connections_, job.ticket);
  const auto old = Now() + std::chrono::milliseconds(options_.limits.lifetime_ms);
  for (size_t left = options_.limits.max_requests; left > 0 && stream.AwaitRequest(); --left) {
    bool last = left == 1 || Now() >= old, closed = false;
    const auto look = [this, &last](httplib::Request& request) {
      last |= CheckBody(request, options_.max_body_bytes).has_value();
      if (!last) return;
      request.headers.erase("Connection");
      request.set_header("Connection", "close");  // the library repeats it in the answer
    };
    if (!process_request(stream, last, closed, look) || closed || last) return;
  }
}

}  // namespace cairn::http
