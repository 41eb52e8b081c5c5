// Sockets of the data plane, owned and with their options set.
// Thread-safety: a Socket is used by one thread at a time.
#pragma once

#include <utility>

#include "common/net/address.h"
#include "common/status.h"

namespace cairn::net {

class Socket {
 public:
  Socket() = default;
  explicit Socket(int fd) : fd_(fd) {}
  ~Socket() { Close(); }
  Socket(Socket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Socket& operator=(Socket&& other) noexcept {
    if (this != &other) {
      Close();
      fd_ = std::exchange(other.fd_, -1);
    }
    return *this;
  }

  int fd() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }
  void Close();
  // The descriptor is the caller's from now on.
  int Release() { return std::exchange(fd_, -1); }

 private:
  int fd_ = -1;
};

// Starts a non-blocking connect; whether it succeeded is told by ConnectError once the socket is writable.
Result<Socket> StartConnect(const SocketAddress& to, int buffer_bytes);
int ConnectError(const Socket& socket);  // errno of the finished connect, 0 when connected

// For a thread that does nothing else than to wait for this one.
Status MakeBlocking(const Socket& socket);

// A non-blocking listener. kUnavailable "address in use" and so on, with the address in the message.
// ipv6_only: leave the IPv4 side of a wildcard address to another listener.
Result<Socket> Listen(const SocketAddress& at, int backlog, bool ipv6_only);
Result<SocketAddress> LocalAddress(const Socket& socket);

// Non-blocking, no delay, keep-alive with a bound on silence, buffers of `buffer_bytes` where the system's
// limits allow that much (0, or beyond the limits: autotuned).
void SetStreamOptions(const Socket& socket, int buffer_bytes);

}  // namespace cairn::net
