#include "common/net/blocking_calls.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "common/checksum.h"
#include "common/net/address.h"
#include "common/wire/messages.h"

namespace cairn::net {
namespace {

constexpr int64_t kReconnectNanos = 5 * kNanosPerSecond;
constexpr size_t kFirstReceive = 8u << 10;  // header, meta and 4 KiB

}  // namespace

void BlockingCalls::SetCluster(Uuid cluster) {
  std::lock_guard lock(mu_);
  cluster_ = cluster;
}

BlockingCalls::Outcome BlockingCalls::Call(const Peer& peer, wire::MessageType type,
                                           std::span<const std::byte> meta, int64_t timeout_ms,
                                           const Use& use) {
  bool connect = false;
  std::unique_ptr<Channel> channel = Take(peer, &connect);
  if (channel == nullptr) {
    if (!connect) return Outcome::kNotTried;
    channel = Connect(peer, timeout_ms);
    if (channel == nullptr) {
      Give(peer.server, nullptr, true);
      return Outcome::kNotTried;
    }
  }
  SetTimeout(channel.get(), timeout_ms);
  Answer answer;
  const bool answered = Send(channel.get(), type, meta) && Receive(channel.get(), type, &answer);
  if (answered) use(answer.meta, answer.data);
  if (!answered)
    channel.reset();  // whatever still arrives there would be taken for the answer to something else
  Give(peer.server, std::move(channel), false);
  return answered ? Outcome::kAnswered : Outcome::kFailed;
}

std::unique_ptr<BlockingCalls::Channel> BlockingCalls::Take(const Peer& peer, bool* connect) {
  std::vector<std::unique_ptr<Channel>> elsewhere;  // closed outside the lock
  std::lock_guard lock(mu_);
  Server& server = servers_[peer.server];
  if (!server.idle.empty() && server.idle.back()->address != peer.address) elsewhere.swap(server.idle);
  if (server.in_use >= kMaxPerServer) return nullptr;
  if (!server.idle.empty()) {
    std::unique_ptr<Channel> channel = std::move(server.idle.back());
    server.idle.pop_back();
    ++server.in_use;
    return channel;
  }
  if (clock_->NowNanos() < server.not_before_ns) return nullptr;
  ++server.in_use;
  *connect = true;
  return nullptr;
}

void BlockingCalls::Give(ServerId server_id, std::unique_ptr<Channel> channel, bool connect_failed) {
  const int64_t now = clock_->NowNanos();
  std::lock_guard lock(mu_);
  Server& server = servers_[server_id];
  --server.in_use;
  if (connect_failed) server.not_before_ns = now + kReconnectNanos;
  if (channel == nullptr) return;
  channel->idle_since_ns = now;
  server.idle.push_back(std::move(channel));
}

bool BlockingCalls::SweepIdle() {
  const int64_t now = clock_->NowNanos();
  std::vector<std::unique_ptr<Channel>> closed;
  std::lock_guard lock(mu_);
  bool left = false;
  for (auto& [id, server] : servers_) {
    // Those used least recently come first.
    while (!server.idle.empty() && now - server.idle.front()->idle_since_ns >= kIdleNanos) {
      closed.push_back(std::move(server.idle.front()));
      server.idle.erase(server.idle.begin());
    }
    left = left || !server.idle.empty() || server.in_use != 0;
  }
  return left;
}

void BlockingCalls::CloseAll() {
  std::lock_guard lock(mu_);
  for (auto& [id, server] : servers_) server.idle.clear();
}

size_t BlockingCalls::connections() const {
  std::lock_guard lock(mu_);
  size_t all = 0;
  for (const auto& [id, server] : servers_) all += server.idle.size() + server.in_use;
  return all;
}

std::unique_ptr<BlockingCalls::Channel> BlockingCalls::Connect(const Peer& peer, int64_t timeout_ms) {
  const Result<HostPort> where = ParseHostPort(peer.address);
  SocketAddress address;
  if (!where.ok() || !ParseNumeric(*where, &address)) return nullptr;
  Result<Socket> socket = StartConnect(address, 0);
  if (!socket.ok()) return nullptr;
  pollfd wait{.fd = socket->fd(), .events = POLLOUT, .revents = 0};
  if (poll(&wait, 1, static_cast<int>(timeout_ms)) != 1 || ConnectError(*socket) != 0) return nullptr;
  if (!MakeBlocking(*socket).ok()) return nullptr;
  auto channel = std::make_unique<Channel>();
  channel->socket = *std::move(socket);
  channel->address = peer.address;
  SetTimeout(channel.get(), timeout_ms);
  wire::HelloRequest hello;
  {
    std::lock_guard lock(mu_);
    hello.cluster = cluster_;
  }
  hello.expected_server = peer.server;
  hello.kind = options_.kind;
  hello.name = options_.name;
  Answer answer;
  if (!Send(channel.get(), wire::MessageType::kHello, wire::Encode(hello)) ||
      !Receive(channel.get(), wire::MessageType::kHello, &answer)) {
    return nullptr;
  }
  // Who does not fit is refused with words by the other way to ask.
  const Result<wire::HelloReply> reply = wire::DecodeHelloReply(answer.meta);
  const bool fits = reply.ok() && reply->status.ok() && (!hello.cluster || reply->cluster == hello.cluster) &&
                    (!peer.server || reply->server == peer.server);
  return fits ? std::move(channel) : nullptr;
}

void BlockingCalls::SetTimeout(Channel* channel, int64_t timeout_ms) {
  if (channel->timeout_ms == timeout_ms) return;
  channel->timeout_ms = timeout_ms;
  const timeval time{.tv_sec = timeout_ms / 1000, .tv_usec = timeout_ms % 1000 * 1000};
  setsockopt(channel->socket.fd(), SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time);
  setsockopt(channel->socket.fd(), SOL_SOCKET, SO_SNDTIMEO, &time, sizeof time);
}

bool BlockingCalls::Send(Channel* channel, wire::MessageType type, std::span<const std::byte> meta) {
  wire::FrameHeader header;
  header.type = static_cast<uint8_t>(type);
  header.request_id = channel->next_id++;
  header.meta_bytes = static_cast<uint32_t>(meta.size());
  header.meta_crc = Crc32c(meta);
  const auto head = wire::EncodeHeader(header);
  const std::array<iovec, 2> parts = {iovec{const_cast<std::byte*>(head.data()), head.size()},
                                      iovec{const_cast<std::byte*>(meta.data()), meta.size()}};
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(parts.data());
  message.msg_iovlen = parts.size();
  // A request fits into an empty send buffer; a part of one means that something is wrong.
  return sendmsg(channel->socket.fd(), &message, MSG_NOSIGNAL) ==
         static_cast<ssize_t>(head.size() + meta.size());
}

bool BlockingCalls::Receive(Channel* channel, wire::MessageType type, Answer* answer) {
  std::vector<std::byte>& buffer = channel->buffer;
  if (buffer.size() < kFirstReceive) buffer.resize(kFirstReceive);
  size_t have = 0;
  size_t need = wire::kHeaderBytes;
  bool have_header = false;
  while (have < need || !have_header) {
    if (have >= need) {
      const Result<wire::FrameHeader> header =
          wire::DecodeHeader(std::span<const std::byte>(buffer).first<wire::kHeaderBytes>());
      const uint8_t expected = static_cast<uint8_t>(type) | wire::kReplyBit;
      if (!header.ok() || header->type != expected || header->request_id + 1 != channel->next_id ||
          header->meta_bytes > wire::kMaxMetaBytes || header->data_bytes > kMaxDataBytes) {
        return false;
      }
      answer->header = *header;
      have_header = true;
      need += size_t{header->meta_bytes} + header->data_bytes;
      if (buffer.size() < need) buffer.resize(need);
      continue;
    }
    const ssize_t got = recv(channel->socket.fd(), buffer.data() + have, buffer.size() - have, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;  // too late, or gone
    have += static_cast<size_t>(got);
  }
  if (have != need) return false;  // nothing else was asked for
  const auto bytes = std::span<const std::byte>(buffer);
  answer->meta = bytes.subspan(wire::kHeaderBytes, answer->header.meta_bytes);
  answer->data = bytes.subspan(wire::kHeaderBytes + answer->header.meta_bytes, answer->header.data_bytes);
  return Crc32c(answer->meta) == answer->header.meta_crc;
}

}  // namespace cairn::net
