#include "master/service/service_port.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <cerrno>
#include <future>
#include <utility>

#include "common/net/address.h"
#include "common/wire/frame.h"

namespace cairn::master {
namespace {

constexpr int64_t kFirstByteNanos = 10 * kNanosPerSecond;
constexpr auto kFrameByte = static_cast<uint8_t>(wire::kFrameMagic & 0xff);

void RunOn(net::EventLoop* loop, const std::function<void()>& task) {
  std::promise<void> done;
  loop->Post([&] {
    task();
    done.set_value();
  });
  done.get_future().wait();
}

}  // namespace

// Waits until a connection has said something.
class ServicePort::FirstByte final : public net::FdHandler, public std::enable_shared_from_this<FirstByte> {
 public:
  FirstByte(net::EventLoop* loop, net::Socket socket, std::string peer, std::shared_ptr<void> slot,
            std::shared_ptr<const Handlers> handlers)
      : loop_(loop),
        socket_(std::move(socket)),
        peer_(std::move(peer)),
        slot_(std::move(slot)),
        handlers_(std::move(handlers)) {}

  void Start() {
    watch_ = loop_->Watch(socket_.fd(), EPOLLIN, shared_from_this());
    timer_ = loop_->AddTimer(loop_->clock()->NowNanos() + kFirstByteNanos, [self = shared_from_this()] {
      self->timer_ = 0;
      self->Leave();
      self->socket_.Close();
    });
  }

  void OnEvents(uint32_t) override {
    uint8_t first = 0;
    const ssize_t n = recv(socket_.fd(), &first, 1, MSG_PEEK | MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    const auto self = shared_from_this();
    Leave();
    if (n <= 0) return socket_.Close();
    if (first == kFrameByte) return handlers_->session(std::move(socket_), peer_, std::move(slot_));
    handlers_->grpc(std::move(socket_), peer_);
    slot_.reset();
  }

 private:
  void Leave() {
    loop_->Unwatch(watch_);
    loop_->CancelTimer(timer_);
  }

  net::EventLoop* const loop_;
  net::Socket socket_;
  const std::string peer_;
  std::shared_ptr<void> slot_;
  const std::shared_ptr<const Handlers> handlers_;
  net::EventLoop::WatchId watch_ = 0;
  net::EventLoop::TimerId timer_ = 0;
};

ServicePort::ServicePort(net::EventLoop* loop, size_t max_connections, size_t max_connections_per_host, Handlers handlers)
    : loop_(loop),
      handlers_(std::make_shared<const Handlers>(std::move(handlers))),
      server_({loop},
              {.max_connections = max_connections,
               .max_connections_per_host = max_connections_per_host,
               .socket_buffer_bytes = 0},
              [handlers = handlers_](net::EventLoop* own, net::Socket socket, std::string peer,
                                     std::shared_ptr<void> slot) {
                std::make_shared<FirstByte>(own, std::move(socket), std::move(peer), std::move(slot), handlers)->Start();
              }) {}

ServicePort::~ServicePort() = default;

Status ServicePort::Start(const std::string& listen) {
  CAIRN_ASSIGN_OR_RETURN(net::HostPort where, net::ParseHostPort(listen));
  Status status;
  RunOn(loop_, [&] { status = server_.Start(where); });
  if (status.ok()) return status;
  return Status(StatusCode::kBusy, "cannot listen on " + listen +
                                       ": the address is in use, not one of this machine, or not permitted (" +
                                       status.message() + ")");
}

std::string ServicePort::TakeRefused() {
  const uint64_t refused = server_.refused();
  if (refused == refused_told_) return {};
  const std::string greedy = server_.TakeGreedyHost();
  return std::to_string(refused - std::exchange(refused_told_, refused)) + " connections were refused: " +
         (greedy.empty() ? "too many are open" : greedy + " has too many open");
}

void ServicePort::Stop() {
  RunOn(loop_, [&] { server_.Stop(); });
}

}  // namespace cairn::master
