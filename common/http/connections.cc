#include "common/http/connections.h"

#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <map>
#include <utility>

namespace cairn::http {
namespace {

int64_t NowMs() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void Describe(const sockaddr_storage& address, socklen_t length, std::string& ip, int& port) {
  char host[NI_MAXHOST], service[NI_MAXSERV];
  const auto* generic = reinterpret_cast<const sockaddr*>(&address);
  if (getnameinfo(generic, length, host, sizeof host, service, sizeof service, NI_NUMERICHOST | NI_NUMERICSERV) != 0) return;
  ip = host;
  port = std::atoi(service);
}

}  // namespace

std::string PeerOf(int socket) {
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  std::string ip;
  int port = 0;
  if (getpeername(socket, reinterpret_cast<sockaddr*>(&address), &length) == 0) Describe(address, length, ip, port);
  return ip;
}

bool Connections::Enter(int socket, const std::string& peer, bool crowded, Ticket* ticket) {
  const std::lock_guard lock(mu_);
  if (ending_) return false;
  *ticket = entries_.insert(entries_.end(), {.socket = socket, .peer = peer, .crowded = crowded});
  if (crowded) {
    ++crowd_;
    MakeRoom();
  }
  return true;
}

void Connections::Run(Ticket ticket) {
  const std::lock_guard lock(mu_);
  ticket->queued = false;
  if (std::exchange(ticket->crowded, false)) --crowd_;
}

void Connections::Leave(Ticket ticket) {
  const std::lock_guard lock(mu_);
  entries_.erase(ticket);
}

void Connections::WaitsSince(Ticket ticket, int64_t monotonic_ms) {
  const std::lock_guard lock(mu_);
  ticket->waits_ms = monotonic_ms;
  if (monotonic_ms >= 0) MakeRoom();
}

void Connections::MakeRoom() {
  if (crowd_ == 0) return;
  std::map<std::string, size_t> count;
  size_t ended = 0;  // their threads will be free
  for (const Entry& entry : entries_) {
    ended += entry.ended ? 1 : 0;
    if (!entry.ended) ++count[entry.peer];
  }
  for (; ended < crowd_ && !count.empty(); ++ended) {
    const auto most = std::max_element(count.begin(), count.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
    Entry* victim = nullptr;
    for (Entry& entry : entries_) {
      if (entry.ended || entry.queued || entry.waits_ms < 0 || count[entry.peer] != most->second) continue;
      if (victim == nullptr || entry.waits_ms < victim->waits_ms) victim = &entry;
    }
    if (victim == nullptr) return;
    victim->ended = true;
    --count[victim->peer];
    shutdown(victim->socket, SHUT_RDWR);
  }
}

void Connections::EndAll() {
  const std::lock_guard lock(mu_);
  ending_ = true;
  for (Entry& entry : entries_) {
    entry.ended = true;
    shutdown(entry.socket, SHUT_RDWR);
  }
}

ConnectionStream::ConnectionStream(int socket, const ConnectionLimits& limits, Connections* connections,
                                   Connections::Ticket ticket)
    : socket_(socket), limits_(limits), connections_(connections), ticket_(ticket) {}

void ConnectionStream::Begin(Phase phase, int64_t limit_ms) {
  phase_ = phase;
  since_ms_ = NowMs();
  until_ms_ = since_ms_ + limit_ms;
}

bool ConnectionStream::Wait(short events) const {
  connections_->WaitsSince(ticket_, since_ms_);
  bool ready = false;
  for (;;) {
    const int64_t left = until_ms_ - NowMs();
    if (left <= 0) break;
    pollfd waiter{.fd = socket_, .events = events, .revents = 0};
    const int count = poll(&waiter, 1, static_cast<int>(std::min<int64_t>(left, 60'000)));
    if (count < 0 && errno != EINTR) break;
    if (count > 0) {
      ready = true;  // or broken: the call that follows tells
      break;
    }
  }
  connections_->WaitsSince(ticket_, -1);
  return ready;
}

bool ConnectionStream::AwaitRequest() {
  Begin(Phase::kIdle, limits_.idle_ms);
  return begin_ < end_ || Wait(POLLIN);
}

bool ConnectionStream::is_readable() const { return begin_ < end_ || Wait(POLLIN); }

bool ConnectionStream::is_writable() const { return Wait(POLLOUT); }

ssize_t ConnectionStream::read(char* data, size_t size) {
  if (phase_ != Phase::kRequest) {
    Begin(Phase::kRequest, limits_.request_ms);
    request_bytes_ = 0;
  }
  // The library bounds neither the length of a line before its end nor their number.
  if (request_bytes_ >= limits_.max_request_bytes) return -1;
  while (begin_ == end_) {
    // Checked before each read: what always has a byte more would never be waited for.
    if (NowMs() >= until_ms_) return -1;
    const ssize_t got = recv(socket_, buffer_.data(), buffer_.size(), MSG_DONTWAIT);
    if (got == 0) return 0;
    if (got > 0) {
      begin_ = 0;
      end_ = static_cast<size_t>(got);
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      if (!Wait(POLLIN)) return -1;
    } else if (errno != EINTR) {
      return -1;
    }
  }
  const size_t length = std::min(size, end_ - begin_);
  std::memcpy(data, buffer_.data() + begin_, length);
  begin_ += length;
  request_bytes_ += length;
  return static_cast<ssize_t>(length);
}

ssize_t ConnectionStream::write(const char* data, size_t size) {
  if (phase_ != Phase::kResponse) Begin(Phase::kResponse, limits_.response_ms);
  size_t done = 0;
  while (done < size) {
    if (NowMs() >= until_ms_) return -1;
    const ssize_t sent = send(socket_, data + done, size - done, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent >= 0) {
      done += static_cast<size_t>(sent);
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      if (!Wait(POLLOUT)) return -1;
    } else if (errno != EINTR) {
      return -1;
    }
  }
  return static_cast<ssize_t>(size);
}

void ConnectionStream::get_remote_ip_and_port(std::string& ip, int& port) const {
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  if (getpeername(socket_, reinterpret_cast<sockaddr*>(&address), &length) == 0) Describe(address, length, ip, port);
}

void ConnectionStream::get_local_ip_and_port(std::string& ip, int& port) const {
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  if (getsockname(socket_, reinterpret_cast<sockaddr*>(&address), &length) == 0) Describe(address, length, ip, port);
}

}  // namespace cairn::http
