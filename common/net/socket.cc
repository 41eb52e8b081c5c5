#include "common/net/socket.h"

#include <fcntl.h>
#include <netinet/tcp.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <string>

namespace cairn::net {
namespace {

// A peer whose machine vanished is noticed after at most about half a minute, also without requests of our
// own.
constexpr int kKeepAliveIdleSeconds = 15;
constexpr int kKeepAliveIntervalSeconds = 5;
constexpr int kKeepAliveProbes = 3;
constexpr int kUserTimeoutMillis = 30'000;

void SetOption(int fd, int level, int option, int value) {
  // Best effort: a stream works without any of these.
  setsockopt(fd, level, option, &value, sizeof(value));
}

// An explicit size switches the kernel's autotuning off and is silently cut to this limit, which by default
// is far below what autotuning reaches. So it is set only where it can be had.
int64_t SystemLimit(const char* path) {
  int64_t limit = 0;
  std::ifstream(path) >> limit;
  return limit;
}

void SetBuffers(int fd, int bytes) {
  static const int64_t receive_limit = SystemLimit("/proc/sys/net/core/rmem_max");
  static const int64_t send_limit = SystemLimit("/proc/sys/net/core/wmem_max");
  if (bytes > 0 && receive_limit >= bytes) SetOption(fd, SOL_SOCKET, SO_RCVBUF, bytes);
  if (bytes > 0 && send_limit >= bytes) SetOption(fd, SOL_SOCKET, SO_SNDBUF, bytes);
}

}  // namespace

void Socket::Close() {
  if (fd_ >= 0) close(fd_);
  fd_ = -1;
}

void SetStreamOptions(const Socket& socket, int buffer_bytes) {
  const int fd = socket.fd();
  SetOption(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  SetOption(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
  SetOption(fd, IPPROTO_TCP, TCP_KEEPIDLE, kKeepAliveIdleSeconds);
  SetOption(fd, IPPROTO_TCP, TCP_KEEPINTVL, kKeepAliveIntervalSeconds);
  SetOption(fd, IPPROTO_TCP, TCP_KEEPCNT, kKeepAliveProbes);
  SetOption(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, kUserTimeoutMillis);
  SetBuffers(fd, buffer_bytes);
}

Status MakeBlocking(const Socket& socket) {
  const int flags = fcntl(socket.fd(), F_GETFL);
  if (flags < 0 || fcntl(socket.fd(), F_SETFL, flags & ~O_NONBLOCK) != 0) return ErrnoStatus(errno, "socket");
  return Status::Ok();
}

Result<Socket> StartConnect(const SocketAddress& to, int buffer_bytes) {
  Socket socket(::socket(to.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!socket) return ErrnoStatus(errno, "socket");
  SetStreamOptions(socket, buffer_bytes);
  if (connect(socket.fd(), to.get(), to.length) != 0 && errno != EINPROGRESS) {
    return Status(StatusCode::kUnavailable, std::strerror(errno));
  }
  return socket;
}

int ConnectError(const Socket& socket) {
  int error = 0;
  socklen_t length = sizeof(error);
  if (getsockopt(socket.fd(), SOL_SOCKET, SO_ERROR, &error, &length) != 0) return errno;
  return error;
}

Result<Socket> Listen(const SocketAddress& at, int backlog, bool ipv6_only) {
  const auto failed = [&at](const char* what) {
    return Status(
        errno == EADDRINUSE || errno == EADDRNOTAVAIL ? StatusCode::kUnavailable : StatusCode::kIoError,
        std::string("cannot ") + what + " " + at.ToString() + ": " + std::strerror(errno));
  };
  Socket socket(::socket(at.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!socket) return failed("make a socket for");
  SetOption(socket.fd(), SOL_SOCKET, SO_REUSEADDR, 1);
  if (at.family() == AF_INET6) SetOption(socket.fd(), IPPROTO_IPV6, IPV6_V6ONLY, ipv6_only ? 1 : 0);
  if (bind(socket.fd(), at.get(), at.length) != 0) return failed("bind to");
  if (listen(socket.fd(), backlog) != 0) return failed("listen on");
  return socket;
}

Result<SocketAddress> LocalAddress(const Socket& socket) {
  SocketAddress address;
  address.length = sizeof(address.storage);
  if (getsockname(socket.fd(), reinterpret_cast<sockaddr*>(&address.storage), &address.length) != 0) {
    return ErrnoStatus(errno, "getsockname");
  }
  return address;
}

}  // namespace cairn::net
