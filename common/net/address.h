// Network addresses as people write them: "host:port", where host is a name, an IPv4 address or an [IPv6]
// address.
//
// Thread-safety: values and pure functions; Resolve blocks on the name service.
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/status.h"

namespace cairn::net {

struct HostPort {
  std::string host;  // without brackets
  uint16_t port = 0;
  bool operator==(const HostPort&) const = default;
  std::string ToString() const;  // with brackets where needed
};

// kInvalidArgument with what is wrong. `default_port` is used when the text has none; 0 makes the port
// mandatory. A bare IPv6 address ("::1") is understood as a host without port.
Result<HostPort> ParseHostPort(std::string_view text, uint16_t default_port = 0);

// "10.0.0.3" of "10.0.0.3:4711"; what is no address stays as it is.
std::string HostOf(const std::string& address);

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t length = 0;

  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
  int family() const { return storage.ss_family; }
  std::string ToString() const;  // "10.0.0.3:9410", "[::1]:9410"
};

// True, with `out` filled, when the host is a numeric address: no name service is needed.
bool ParseNumeric(const HostPort& where, SocketAddress* out);
// All addresses of the host, in the order to be tried; never empty on success. kUnavailable when the name is
// not known. passive: for listening ("*" and "" mean every interface).
Result<std::vector<SocketAddress>> Resolve(const HostPort& where, bool passive = false);

}  // namespace cairn::net
