#include "common/net/address.h"

#include <arpa/inet.h>
#include <netdb.h>

#include <charconv>
#include <cstring>
#include <memory>

namespace cairn::net {
namespace {

Status BadAddress(std::string_view text, std::string_view why) {
  return Status(StatusCode::kInvalidArgument,
                "'" + std::string(text) + "' is not an address (" + std::string(why) +
                    "); write host:port, for example 127.0.0.1:9410 or [::1]:9410");
}

}  // namespace

std::string HostPort::ToString() const {
  const bool brackets = host.find(':') != std::string::npos;
  return (brackets ? "[" + host + "]" : host) + ":" + std::to_string(port);
}

Result<HostPort> ParseHostPort(std::string_view text, uint16_t default_port) {
  HostPort result;
  std::string_view port;
  bool has_port = false;
  if (text.starts_with('[')) {
    const size_t end = text.find(']');
    if (end == std::string_view::npos) return BadAddress(text, "the bracket is not closed");
    result.host = text.substr(1, end - 1);
    if (result.host.find(':') == std::string::npos)
      return BadAddress(text, "no IPv6 address in the brackets");
    const std::string_view rest = text.substr(end + 1);
    has_port = !rest.empty();
    if (has_port && rest.front() != ':') return BadAddress(text, "a colon is expected after the bracket");
    if (has_port) port = rest.substr(1);
  } else {
    const size_t colon = text.find(':');
    const bool bare_ipv6 =
        colon != std::string_view::npos && text.find(':', colon + 1) != std::string_view::npos;
    if (bare_ipv6 || colon == std::string_view::npos) {
      result.host = text;
    } else {
      result.host = text.substr(0, colon);
      port = text.substr(colon + 1);
      has_port = true;
    }
  }
  if (result.host.empty()) return BadAddress(text, "the host is missing");
  if (result.host.size() > 255 || result.host.find_first_of(" \t\r\n/@") != std::string::npos) {
    return BadAddress(text, "the host contains what no host name contains");
  }
  if (!has_port) {
    if (default_port == 0) return BadAddress(text, "the port is missing");
    result.port = default_port;
    return result;
  }
  uint32_t number = 0;
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), number);
  if (error != std::errc() || end != port.data() + port.size() || number > UINT16_MAX) {
    return BadAddress(text, "the port is not a number from 0 to 65535");
  }
  result.port = static_cast<uint16_t>(number);
  return result;
}

std::string HostOf(const std::string& address) {
  auto where = ParseHostPort(address);
  return where.ok() ? std::move(where->host) : address;
}

std::string SocketAddress::ToString() const {
  char host[INET6_ADDRSTRLEN] = "?";
  if (family() == AF_INET) {
    const auto* in = reinterpret_cast<const sockaddr_in*>(&storage);
    inet_ntop(AF_INET, &in->sin_addr, host, sizeof(host));
    return HostPort{host, ntohs(in->sin_port)}.ToString();
  }
  if (family() == AF_INET6) {
    const auto* in = reinterpret_cast<const sockaddr_in6*>(&storage);
    inet_ntop(AF_INET6, &in->sin6_addr, host, sizeof(host));
    return HostPort{host, ntohs(in->sin6_port)}.ToString();
  }
  return "unknown address";
}

bool ParseNumeric(const HostPort& where, SocketAddress* out) {
  *out = SocketAddress{};
  auto* v4 = reinterpret_cast<sockaddr_in*>(&out->storage);
  if (inet_pton(AF_INET, where.host.c_str(), &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(where.port);
    out->length = sizeof(sockaddr_in);
    return true;
  }
  *out = SocketAddress{};
  auto* v6 = reinterpret_cast<sockaddr_in6*>(&out->storage);
  if (inet_pton(AF_INET6, where.host.c_str(), &v6->sin6_addr) == 1) {
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(where.port);
    out->length = sizeof(sockaddr_in6);
    return true;
  }
  return false;
}

Result<std::vector<SocketAddress>> Resolve(const HostPort& where, bool passive) {
  SocketAddress numeric;
  if (ParseNumeric(where, &numeric)) return std::vector{numeric};
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = passive ? AI_PASSIVE : AI_ADDRCONFIG;
  const bool any = passive && (where.host.empty() || where.host == "*");
  addrinfo* found = nullptr;
  const int error =
      getaddrinfo(any ? nullptr : where.host.c_str(), std::to_string(where.port).c_str(), &hints, &found);
  if (error != 0) {
    // RFC 6761 section 6.3: localhost is the loopback address, also where no hosts file says so (minimal
    // roots).
    if (where.host == "localhost" && ParseNumeric({"127.0.0.1", where.port}, &numeric))
      return std::vector{numeric};
    return Status(StatusCode::kUnavailable,
                  "cannot resolve host '" + where.host + "': " + gai_strerror(error));
  }
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> guard(found, freeaddrinfo);
  std::vector<SocketAddress> result;
  for (const addrinfo* entry = found; entry != nullptr; entry = entry->ai_next) {
    if (entry->ai_addrlen > sizeof(sockaddr_storage)) continue;
    SocketAddress address;
    std::memcpy(&address.storage, entry->ai_addr, entry->ai_addrlen);
    address.length = entry->ai_addrlen;
    result.push_back(address);
  }
  if (result.empty()) return Status(StatusCode::kUnavailable, "host '" + where.host + "' has no address");
  return result;
}

}  // namespace cairn::net
