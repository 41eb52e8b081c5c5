#include "common/net/server_link.h"

#include <sys/epoll.h>

#include <algorithm>
#include <cstring>
#include <utility>

namespace cairn::net {
namespace {

constexpr uint64_t kHelloId = 0;  // requests are numbered from 1
// A request is overdue and nothing at all arrived for this long: the peer is taken for dead.
constexpr int64_t kSilenceNanos = 5 * kNanosPerSecond;

}  // namespace

// Waits for a TCP connect.
class ServerLink::Connecting final : public FdHandler {
 public:
  Connecting(EventLoop* loop, Socket socket, std::weak_ptr<ServerLink> link, uint64_t attempt)
      : loop_(loop), socket_(std::move(socket)), link_(std::move(link)), attempt_(attempt) {}

  static std::shared_ptr<Connecting> Start(EventLoop* loop, Socket socket, std::weak_ptr<ServerLink> link,
                                           uint64_t attempt) {
    auto self = std::make_shared<Connecting>(loop, std::move(socket), std::move(link), attempt);
    self->watch_ = loop->Watch(self->socket_.fd(), EPOLLOUT, self);
    return self;
  }
  void Stop() { loop_->Unwatch(watch_); }
  Socket TakeSocket() {
    Stop();
    return std::move(socket_);
  }
  void OnEvents(uint32_t) override {
    if (const auto link = link_.lock()) link->OnConnected(attempt_, ConnectError(socket_));
  }

 private:
  EventLoop* const loop_;
  Socket socket_;
  const std::weak_ptr<ServerLink> link_;
  const uint64_t attempt_;
  EventLoop::WatchId watch_ = 0;
};

ServerLink::ServerLink(EventLoop* loop, const DataClientOptions& options, Peer peer,
                       std::shared_ptr<Resolver> resolver, std::shared_ptr<BufferPool> pool)
    : loop_(loop),
      options_(options),
      peer_(std::move(peer)),
      resolver_(std::move(resolver)),
      pool_(std::move(pool)) {}

ServerLink::~ServerLink() = default;

Status ServerLink::Name(const Status& why) const {
  return why.WithContext((peer_.server ? ToString(peer_.server) : "chunkserver") + " at " + peer_.address);
}

DataClient::Load ServerLink::load() const {
  return {.requests = outstanding_requests_.load(),
          .bytes = outstanding_bytes_.load(),
          .smoothed_rtt_ns = smoothed_rtt_ns_.load(),
          .connected = ready_.load()};
}

void ServerLink::FailSoon(DataClient::Callback done, Status why) {
  loop_->Defer([done = std::move(done), why = std::move(why)] { done(why, {}, {}); });
}

void ServerLink::Call(wire::MessageType type, SharedBytes meta, SharedBytes data, int64_t deadline_ns,
                      DataClient::Callback done) {
  const size_t bytes = meta.size() + data.size();
  if (meta.size() > wire::kMaxMetaBytes || data.size() > wire::kMaxDataBytes) {
    return FailSoon(std::move(done),
                    Name(Status(StatusCode::kInvalidArgument, "the request is too large for a frame")));
  }
  // What was given up after its deadline may still be queued: it counts as well.
  const size_t queued = connection_ ? connection_->queued_bytes() : 0;
  if (requests_.size() >= options_.max_outstanding_requests ||
      std::max(outstanding_bytes_.load(), queued) + bytes > options_.max_outstanding_bytes) {
    return FailSoon(std::move(done), Name(Status(StatusCode::kResourceExhausted,
                                                 std::to_string(requests_.size()) + " requests with " +
                                                     std::to_string(outstanding_bytes_.load()) +
                                                     " bytes are outstanding already")));
  }
  if (state_ == State::kIdle && Now() < backoff_until_ns_) {
    return FailSoon(std::move(done), last_error_);
  }
  const uint64_t id = next_id_++;
  Request& request = requests_[id];
  request = {type, std::move(meta), std::move(data), bytes, deadline_ns, 0, std::move(done)};
  outstanding_requests_.fetch_add(1);
  outstanding_bytes_.fetch_add(bytes);
  deadlines_.emplace(deadline_ns, id);
  ArmDeadline();
  if (state_ == State::kReady) {
    SendRequest(id, request);
    return;
  }
  waiting_.push_back(id);
  if (state_ == State::kIdle) StartConnecting();
}

void ServerLink::SendRequest(uint64_t id, Request& request) {
  request.sent_ns = Now();
  connection_->Send(static_cast<uint8_t>(request.type), id, std::move(request.meta), std::move(request.data));
  request.meta = {};
  request.data = {};
}

void ServerLink::StartConnecting() {
  state_ = State::kConnecting;
  const uint64_t attempt = ++attempt_;
  connect_timer_ =
      loop_->AddTimer(Now() + options_.connect_timeout_ms * kNanosPerMilli, [weak = weak_from_this()] {
        const auto self = weak.lock();
        if (!self) return;
        self->connect_timer_ = 0;
        self->AttemptFailed(
            Status(StatusCode::kUnavailable,
                   "no connection within " + std::to_string(self->options_.connect_timeout_ms) + " ms"));
      });
  addresses_.clear();
  next_address_ = 0;
  Result<HostPort> where = ParseHostPort(peer_.address);
  if (!where.ok()) {
    loop_->Defer([self = shared_from_this(), attempt, why = where.status()] {
      if (self->attempt_ == attempt) self->AttemptFailed(why);
    });
    return;
  }
  SocketAddress numeric;
  if (ParseNumeric(*where, &numeric)) {
    addresses_ = {numeric};
    TryNextAddress();
    return;
  }
  resolver_->Lookup(*where, [loop = loop_, weak = weak_from_this(),
                             attempt](const Result<std::vector<SocketAddress>>& found) {
    loop->Post([weak, attempt, found] {
      const auto self = weak.lock();
      if (!self || self->attempt_ != attempt || self->state_ != State::kConnecting) return;
      if (!found.ok()) return self->AttemptFailed(found.status());
      self->addresses_ = *found;
      self->TryNextAddress();
    });
  });
}

void ServerLink::TryNextAddress() {
  Status error;
  while (next_address_ < addresses_.size()) {
    Result<Socket> socket = StartConnect(addresses_[next_address_++], options_.socket_buffer_bytes);
    if (socket.ok()) {
      connecting_ = Connecting::Start(loop_, *std::move(socket), weak_from_this(), attempt_);
      return;
    }
    error = socket.status();
  }
  loop_->Defer([self = shared_from_this(), attempt = attempt_, error] {
    if (self->attempt_ == attempt) {
      self->AttemptFailed(Status(StatusCode::kUnavailable, "cannot connect: " + error.message()));
    }
  });
}

void ServerLink::OnConnected(uint64_t attempt, int error) {
  if (attempt != attempt_ || !connecting_) return;
  Socket socket = connecting_->TakeSocket();
  connecting_.reset();
  if (error != 0) {
    if (next_address_ < addresses_.size()) return TryNextAddress();
    return AttemptFailed(
        Status(StatusCode::kUnavailable, std::string("cannot connect: ") + std::strerror(error)));
  }
  state_ = State::kHello;
  connection_ =
      FrameConnection::Start(loop_, std::move(socket), peer_.address, {}, pool_.get(), shared_from_this());
  wire::HelloRequest hello;
  hello.cluster = options_.cluster;
  hello.expected_server = peer_.server;
  hello.kind = options_.kind;
  hello.name = options_.name;
  connection_->Send(static_cast<uint8_t>(wire::MessageType::kHello), kHelloId,
                    SharedBytes::Own(wire::Encode(hello)), {});
}

void ServerLink::OnHelloReply(const Frame& frame) {
  Result<wire::HelloReply> reply = wire::DecodeHelloReply(frame.meta);
  if (!reply.ok()) return AttemptFailed(reply.status());
  if (!reply->status.ok()) return AttemptFailed(reply->status);
  if (options_.cluster && reply->cluster != options_.cluster) {
    return AttemptFailed(Status(
        StatusCode::kWrongCluster,
        "it belongs to cluster " + reply->cluster.ToString() + ", not to " + options_.cluster.ToString()));
  }
  if (peer_.server && reply->server != peer_.server) {
    return AttemptFailed(Status(StatusCode::kWrongCluster,
                                "it is " + ToString(reply->server) + ", not " + ToString(peer_.server)));
  }
  state_ = State::kReady;
  ready_ = true;
  backoff_ms_ = 0;
  backoff_until_ns_ = 0;
  loop_->CancelTimer(connect_timer_);
  connect_timer_ = 0;
  std::vector<uint64_t> waiting;
  waiting.swap(waiting_);
  for (uint64_t id : waiting) {
    const auto found = requests_.find(id);
    if (found != requests_.end()) SendRequest(id, found->second);
  }
}

void ServerLink::OnFrame(FrameConnection& connection, Frame frame) {
  if (&connection != connection_.get()) return;
  const auto type = static_cast<wire::MessageType>(frame.header.type & ~wire::kReplyBit);
  const bool is_reply = (frame.header.type & wire::kReplyBit) != 0;
  if (state_ == State::kHello) {
    if (!is_reply || type != wire::MessageType::kHello || frame.header.request_id != kHelloId) {
      return AttemptFailed(Status(StatusCode::kMalformed, "the peer did not answer the greeting"));
    }
    return OnHelloReply(frame);
  }
  const auto found = requests_.find(frame.header.request_id);
  if (found == requests_.end() && is_reply) return;  // its deadline has passed
  if (!is_reply || found->second.sent_ns == 0 || found->second.type != type) {
    return Reset(Name(Status(StatusCode::kMalformed, "the peer sent a reply to what was not asked")));
  }
  const int64_t took = Now() - found->second.sent_ns;
  const int64_t before = smoothed_rtt_ns_.load();
  smoothed_rtt_ns_ = before == 0 ? took : before + (took - before) / 8;
  Complete(frame.header.request_id, Status::Ok(), frame.meta, std::move(frame.data));
}

void ServerLink::OnClosed(FrameConnection& connection, const Status& why) {
  if (&connection != connection_.get()) return;
  if (state_ == State::kHello) return AttemptFailed(why);
  // Not a failed attempt: the next call may connect at once.
  Disconnected();
  FailAll(Name(why));
}

void ServerLink::AttemptFailed(Status why) {
  if (state_ != State::kConnecting && state_ != State::kHello) return;
  backoff_ms_ =
      backoff_ms_ == 0 ? options_.backoff_min_ms : std::min(backoff_ms_ * 2, options_.backoff_max_ms);
  backoff_until_ns_ = Now() + backoff_ms_ * kNanosPerMilli;
  last_error_ = Name(why);
  Disconnected();
  FailAll(last_error_);
}

void ServerLink::Disconnected() {
  state_ = State::kIdle;
  ready_ = false;
  ++attempt_;
  loop_->CancelTimer(connect_timer_);
  connect_timer_ = 0;
  if (connecting_) connecting_->Stop();
  connecting_.reset();
  const std::shared_ptr<FrameConnection> connection = std::move(connection_);
  connection_.reset();
  if (connection) connection->Close(Status(StatusCode::kCancelled, "no longer used"));
}

void ServerLink::Reset(const Status& why) {
  const auto self = shared_from_this();
  Disconnected();
  FailAll(why);
}

void ServerLink::Complete(uint64_t id, const Status& status, std::span<const std::byte> meta,
                          SharedBytes data) {
  const auto found = requests_.find(id);
  if (found == requests_.end()) return;
  Request request = std::move(found->second);
  requests_.erase(found);
  deadlines_.erase({request.deadline_ns, id});
  outstanding_requests_.fetch_sub(1);
  outstanding_bytes_.fetch_sub(request.bytes);
  request.done(status, meta, std::move(data));
}

void ServerLink::FailAll(const Status& why) {
  // Only what is outstanding now: a callback may call again.
  std::vector<uint64_t> ids;
  ids.reserve(requests_.size());
  for (const auto& [id, request] : requests_) ids.push_back(id);
  std::sort(ids.begin(), ids.end());
  waiting_.clear();
  for (uint64_t id : ids) Complete(id, why, {}, {});
}

void ServerLink::ArmDeadline() {
  if (deadlines_.empty()) return;
  const int64_t first = deadlines_.begin()->first;
  if (deadline_timer_ != 0 && armed_ns_ <= first) return;
  loop_->CancelTimer(deadline_timer_);
  armed_ns_ = first;
  deadline_timer_ = loop_->AddTimer(first, [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->OnDeadline();
  });
}

void ServerLink::OnDeadline() {
  deadline_timer_ = 0;
  const int64_t now = Now();
  bool silent = false;
  while (!deadlines_.empty() && deadlines_.begin()->first <= now) {
    const uint64_t id = deadlines_.begin()->second;
    const Request& request = requests_.at(id);
    std::string why = "no answer in time";
    if (request.sent_ns == 0) {
      why = "not connected in time";
    } else {
      const int64_t quiet_since =
          std::max(request.sent_ns, connection_ ? connection_->last_received_ns() : 0);
      silent |= now - quiet_since >= kSilenceNanos;
      why += " (" + std::to_string((now - request.sent_ns) / kNanosPerMilli) + " ms)";
    }
    Complete(id, Name(Status(StatusCode::kTimeout, why)), {}, {});
  }
  if (silent && state_ == State::kReady) {
    Reset(Name(Status(StatusCode::kTimeout,
                      "nothing was heard for " + std::to_string(kSilenceNanos / kNanosPerSecond) + " s")));
  }
  ArmDeadline();
}

}  // namespace cairn::net
