#include "cli/core/config.h"

#include <ifaddrs.h>
#include <netinet/in.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <sstream>

#include "cli/local/layout.h"
#include "common/admin_token.h"
#include "common/net/address.h"

namespace cairn::cli {
namespace {

std::string Trim(const std::string& text) {
  const size_t first = text.find_first_not_of(" \t\r\n");
  if (first == std::string::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\r\n") - first + 1);
}

std::string Environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string() : std::string(value);
}

std::string ReadWhole(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

std::string UserConfigFile() {
  const std::string base = Environment("XDG_CONFIG_HOME");
  if (!base.empty()) return base + "/cairn/config";
  const std::string home = Environment("HOME");
  return home.empty() ? std::string() : home + "/.config/cairn/config";
}

std::string PortOf(const std::string& address) { return address.substr(address.rfind(':') + 1); }

// Whether an address is one of this machine's: only those can be bound.
bool SameHost(const sockaddr& a, const sockaddr& b) {
  if (a.sa_family != b.sa_family) return false;
  if (a.sa_family == AF_INET) {
    const auto& left = reinterpret_cast<const sockaddr_in&>(a).sin_addr;
    const auto& right = reinterpret_cast<const sockaddr_in&>(b).sin_addr;
    // The whole of 127.0.0.0/8 is this machine.
    return left.s_addr == right.s_addr || (ntohl(left.s_addr) >> 24 == 127 && ntohl(right.s_addr) >> 24 == 127);
  }
  return a.sa_family == AF_INET6 && std::memcmp(&reinterpret_cast<const sockaddr_in6&>(a).sin6_addr,
                                                &reinterpret_cast<const sockaddr_in6&>(b).sin6_addr, sizeof(in6_addr)) == 0;
}

bool IsThisMachine(const std::string& address) {
  const auto where = net::ParseHostPort(address, kDefaultMasterPort);
  const auto resolved = where.ok() ? net::Resolve(*where) : Result<std::vector<net::SocketAddress>>(where.status());
  if (!resolved.ok()) return false;
  // Not by bind(2): with ip_nonlocal_bind that takes any address.
  ifaddrs* interfaces = nullptr;
  if (getifaddrs(&interfaces) != 0) return false;
  const std::unique_ptr<ifaddrs, void (*)(ifaddrs*)> owner(interfaces, freeifaddrs);
  return !resolved->empty() && std::all_of(resolved->begin(), resolved->end(), [&](const net::SocketAddress& address) {
    for (const ifaddrs* one = interfaces; one != nullptr; one = one->ifa_next) {
      if (one->ifa_addr != nullptr && SameHost(*one->ifa_addr, *address.get())) return true;
    }
    return false;
  });
}

bool ValidPort(const std::string& text) {
  if (text.empty() || text.size() > 5) return false;
  for (const char c : text) {
    if (std::isdigit(static_cast<unsigned char>(c)) == 0) return false;
  }
  const int port = std::stoi(text);
  return port > 0 && port < 65536;
}

}  // namespace

Result<std::string> NormalizeAddress(const std::string& raw) {
  const std::string text = Trim(raw);
  const Status bad(StatusCode::kInvalidArgument,
                   "'" + raw + "' is not an address (expected host, host:port, or [IPv6]:port)");
  if (text.empty() || text.find_first_of(" \t/") != std::string::npos) return bad;
  const std::string port_default = ":" + std::to_string(kDefaultMasterPort);
  if (text.front() == '[') {
    const size_t close = text.find(']');
    if (close == std::string::npos || close == 1) return bad;
    if (close + 1 == text.size()) return text + port_default;
    if (text[close + 1] != ':' || !ValidPort(text.substr(close + 2))) return bad;
    return text;
  }
  const size_t colon = text.find(':');
  if (colon == std::string::npos) return text + port_default;
  if (text.find(':', colon + 1) != std::string::npos) return "[" + text + "]" + port_default;  // bare IPv6
  if (colon == 0 || !ValidPort(text.substr(colon + 1))) return bad;
  return text;
}

Result<std::vector<std::string>> ParseMasters(const std::string& text) {
  std::vector<std::string> masters;
  std::stringstream parts(text);
  std::string part;
  while (std::getline(parts, part, ',')) {
    CAIRN_ASSIGN_OR_RETURN(std::string address, NormalizeAddress(part));
    masters.push_back(std::move(address));
  }
  if (masters.empty()) return Status(StatusCode::kInvalidArgument, "no master address given");
  return masters;
}

std::string ConfigValue(const std::string& text, const std::string& key) {
  std::stringstream lines(text);
  std::string line;
  while (std::getline(lines, line)) {
    const size_t comment = line.find('#');
    if (comment != std::string::npos) line.resize(comment);
    const size_t equals = line.find('=');
    if (equals == std::string::npos || Trim(line.substr(0, equals)) != key) continue;
    std::string value = Trim(line.substr(equals + 1));
    if (value.size() >= 2 && value.front() == '"' && value.back() == '"')
      value = value.substr(1, value.size() - 2);
    return value;
  }
  return {};
}

Result<std::vector<std::string>> FindMasters(const Context& context) {
  if (!context.master.empty()) return ParseMasters(context.master);
  // --dir names a local cluster: it comes before what the environment says.
  if (context.directory.empty()) {
    if (const std::string value = Environment("CAIRN_MASTER"); !value.empty()) return ParseMasters(value);
    for (const std::string& file : {UserConfigFile(), std::string("/etc/cairn/cairn.conf")}) {
      if (file.empty()) continue;
      if (const std::string value = ConfigValue(ReadWhole(file), "master"); !value.empty()) {
        auto masters = ParseMasters(value);
        return masters.ok() ? masters : masters.status().WithContext(file);
      }
    }
  }
  auto layout = LocalLayout::Load(LocalDirectory(context));
  if (layout.ok()) {
    if (const LocalPart* master = layout->Find("master"); master != nullptr) {
      return std::vector<std::string>{master->address};
    }
  }
  return Status(
      StatusCode::kUnavailable,
      "no cluster is known: give --master host:port, set CAIRN_MASTER, write `master = host:port` to "
      "~/.config/cairn/config, or start a local cluster with `cairn up`");
}

Result<std::string> FindAdminToken(const Context& context, const std::vector<std::string>& masters) {
  constexpr char kInstalled[] = "/var/lib/cairn/master/admin-token";
  if (!context.admin_token_file.empty()) return ReadAdminToken(context.admin_token_file);
  if (const std::string path = Environment("CAIRN_ADMIN_TOKEN_FILE"); !path.empty()) return ReadAdminToken(path);
  for (const std::string& file : {UserConfigFile(), std::string("/etc/cairn/cairn.conf")}) {
    const std::string text = file.empty() ? std::string() : ReadWhole(file);
    const std::string path = ConfigValue(text, "admin_token_file"), master = ConfigValue(text, "master");
    if (path.empty()) continue;
    const auto of_file = ParseMasters(master);
    if (master.empty() || (of_file.ok() && *of_file == masters)) return ReadAdminToken(path);
  }
  const auto layout = LocalLayout::Load(LocalDirectory(context));
  const LocalPart* local = layout.ok() ? layout->Find("master") : nullptr;
  if (local != nullptr && std::all_of(masters.begin(), masters.end(), [local](const std::string& master) {
        return master == local->address || (PortOf(master) == PortOf(local->address) && IsThisMachine(master));
      }))
    return ReadAdminToken(layout->AdminTokenFile());
  if (std::all_of(masters.begin(), masters.end(), IsThisMachine)) {
    auto installed = ReadAdminToken(kInstalled);
    if (installed.code() != StatusCode::kNotFound) return installed;
  }
  return Status(StatusCode::kNotFound,
                "name that file, or a copy of it, with --admin-token-file, CAIRN_ADMIN_TOKEN_FILE or `admin_token_file = path` in ~/.config/cairn/config "
                "(it is found by itself for a local cluster of yours, with its --dir, and by root on the machine of an installed master)");
}

std::string DefaultLocalDirectory() {
  if (geteuid() == 0) return "/var/lib/cairn/local";
  if (const std::string base = Environment("XDG_DATA_HOME"); !base.empty()) return base + "/cairn";
  if (const std::string home = Environment("HOME"); !home.empty()) return home + "/.local/share/cairn";
  return "/tmp/cairn-" + std::to_string(geteuid());
}

std::string LocalDirectory(const Context& context) {
  return context.directory.empty() ? DefaultLocalDirectory() : context.directory;
}

}  // namespace cairn::cli
