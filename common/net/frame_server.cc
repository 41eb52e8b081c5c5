#include "common/net/frame_server.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <cerrno>
#include <utility>

#include "common/check.h"

namespace cairn::net {
namespace {

constexpr int kAcceptsPerRound = 64;
constexpr int64_t kPauseNanos = 100 * kNanosPerMilli;

}  // namespace

class FrameServer::Listener final : public FdHandler, public std::enable_shared_from_this<Listener> {
 public:
  Listener(FrameServer* server, Socket socket) : server_(server), socket_(std::move(socket)) {}

  void Start() { watch_ = loop()->Watch(socket_.fd(), EPOLLIN, shared_from_this()); }

  void Stop() {
    loop()->CancelTimer(pause_);
    loop()->Unwatch(watch_);
    socket_.Close();
    server_ = nullptr;
  }

  void OnEvents(uint32_t) override {
    for (int i = 0; i < kAcceptsPerRound && server_ != nullptr; ++i) {
      SocketAddress from;
      from.length = sizeof(from.storage);
      Socket accepted(accept4(socket_.fd(), reinterpret_cast<sockaddr*>(&from.storage), &from.length,
                              SOCK_NONBLOCK | SOCK_CLOEXEC));
      if (accepted) {
        server_->Accept(loop(), std::move(accepted), from);
        continue;
      }
      if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) Pause();
      if (errno == EINTR || errno == ECONNABORTED) continue;
      return;
    }
  }

 private:
  EventLoop* loop() const { return server_->loops_.front(); }

  // The backlog keeps the connection waiting meanwhile.
  void Pause() {
    loop()->Modify(watch_, 0);
    pause_ = loop()->AddTimer(loop()->clock()->NowNanos() + kPauseNanos, [self = shared_from_this()] {
      if (self->server_ != nullptr) self->loop()->Modify(self->watch_, EPOLLIN);
    });
  }

  FrameServer* server_;
  Socket socket_;
  EventLoop::WatchId watch_ = 0;
  EventLoop::TimerId pause_ = 0;
};

FrameServer::FrameServer(std::vector<EventLoop*> loops, Options options, AcceptFn accept)
    : loops_(std::move(loops)), options_(options), accept_(std::move(accept)) {
  CAIRN_CHECK(!loops_.empty(), "a server needs a loop");
}

FrameServer::~FrameServer() { Stop(); }

Status FrameServer::Start(const HostPort& where) {
  CAIRN_ASSIGN_OR_RETURN(std::vector<SocketAddress> addresses, Resolve(where, /*passive=*/true));
  HostPort chosen = where;
  Status first_error;
  for (SocketAddress address : addresses) {
    if (chosen.port != where.port) {  // port 0: the others follow the first
      HostPort numeric{address.ToString(), 0};
      CAIRN_ASSIGN_OR_RETURN(numeric, ParseHostPort(numeric.host));
      numeric.port = chosen.port;
      if (!ParseNumeric(numeric, &address)) continue;
    }
    Result<Socket> socket = Listen(address, options_.backlog, /*ipv6_only=*/addresses.size() > 1);
    if (!socket.ok()) {
      if (first_error.ok()) first_error = socket.status();
      continue;
    }
    if (chosen.port == 0) {
      CAIRN_ASSIGN_OR_RETURN(const SocketAddress local, LocalAddress(*socket));
      CAIRN_ASSIGN_OR_RETURN(const HostPort actual, ParseHostPort(local.ToString()));
      chosen.port = actual.port;
    }
    listeners_.push_back(std::make_shared<Listener>(this, *std::move(socket)));
    listeners_.back()->Start();
  }
  // One family of a dual-stack name may be missing on this machine; none at all is an error, and so is a busy
  // port.
  if (listeners_.empty() ||
      (!first_error.ok() && first_error.message().find("in use") != std::string::npos)) {
    Stop();
    return first_error;
  }
  port_ = chosen.port;
  return Status::Ok();
}

void FrameServer::Stop() {
  for (const auto& listener : listeners_) listener->Stop();
  listeners_.clear();
}

bool FrameServer::TakePlace(const std::string& host) {
  std::lock_guard lock(state_->mu);
  size_t& taken = state_->by_host[host];
  if (taken < options_.max_connections_per_host) {
    ++taken;
    return true;
  }
  state_->greedy = host;
  return false;
}

std::string FrameServer::TakeGreedyHost() {
  std::lock_guard lock(state_->mu);
  return std::exchange(state_->greedy, {});
}

void FrameServer::Accept(EventLoop* accepting, Socket socket, const SocketAddress& from) {
  const std::string host = HostOf(from.ToString());
  if (state_->connections.load() >= options_.max_connections || !TakePlace(host)) {
    state_->refused.fetch_add(1);
    return;
  }
  SetStreamOptions(socket, options_.socket_buffer_bytes);
  state_->connections.fetch_add(1);
  std::shared_ptr<void> slot(state_.get(), [state = state_, host](void*) {
    state->connections.fetch_sub(1);
    std::lock_guard lock(state->mu);
    const auto it = state->by_host.find(host);
    if (--it->second == 0) state->by_host.erase(it);
  });
  EventLoop* loop = loops_[next_loop_++ % loops_.size()];
  if (loop == accepting) {
    accept_(loop, std::move(socket), from.ToString(), std::move(slot));
    return;
  }
  auto moved = std::make_shared<Socket>(std::move(socket));
  loop->Post([accept = accept_, loop, moved, peer = from.ToString(), slot = std::move(slot)]() mutable {
    accept(loop, std::move(*moved), std::move(peer), std::move(slot));
  });
}

}  // namespace cairn::net
