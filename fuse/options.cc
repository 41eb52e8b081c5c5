#include "fuse/options.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <sstream>
#include <string_view>

namespace cairn::fuse {
namespace {

constexpr int kDefaultPort = 9400;

// When reading moves the time of last access: the kernel leaves that to the file system of a FUSE mount. The last one counts.
bool ParseAccessTimes(std::string_view option, MountOptions& options) {
  using client::AccessTimes;
  if (option == "noatime") {
    options.access_times = AccessTimes::kNever;
  } else if (option == "strictatime") {
    options.access_times = AccessTimes::kAlways;
  } else if (option == "relatime" || option == "atime" || option == "norelatime" || option == "nostrictatime") {
    options.access_times = AccessTimes::kRelative;  // there is nothing else to go back to
  } else if (option == "nodiratime" || option == "diratime") {
    options.directory_access_times = option == "diratime";
    return true;
  } else {
    return false;
  }
  return option != "noatime" && option != "atime";  // these the kernel is told, too
}

// Understood by libfuse or the kernel.
constexpr std::array<std::string_view, 16> kPassedOn = {
    "ro",    "rw",      "suid",  "nosuid",  "dev",         "nodev",      "exec",        "noexec",
    "sync",  "async",   "dirsync", "atime", "noatime",     "allow_other", "allow_root", "auto_unmount"};
// Meant for mount(8), systemd or fstab.
constexpr std::array<std::string_view, 12> kIgnored = {
    "defaults", "auto", "noauto", "user", "nouser", "users", "owner", "group", "_netdev", "nofail", "lazytime", "nolazytime"};

template <size_t N>
bool Contains(const std::array<std::string_view, N>& list, std::string_view item) {
  return std::find(list.begin(), list.end(), item) != list.end();
}

Status Invalid(const std::string& message) { return {StatusCode::kInvalidArgument, message}; }

template <typename Int>
Status ParseNumber(const std::string& key, const std::string& text, Int minimum, Int maximum, Int* out) {
  Int value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  uint64_t factor = 1;
  const std::string_view unit(end, static_cast<size_t>(text.data() + text.size() - end));
  if (unit == "K" || unit == "k")
    factor = 1ull << 10;
  else if (unit == "M" || unit == "m")
    factor = 1ull << 20;
  else if (unit == "G" || unit == "g")
    factor = 1ull << 30;
  else if (!unit.empty())
    return Invalid("option " + key + ": '" + text + "' is not a number");
  if (error != std::errc{} || value > maximum / static_cast<Int>(factor) ||
      value * static_cast<Int>(factor) < minimum) {
    return Invalid("option " + key + ": '" + text + "' is not between " + std::to_string(minimum) + " and " +
                   std::to_string(maximum));
  }
  *out = value * static_cast<Int>(factor);
  return Status::Ok();
}

Status ParseAssignment(const std::string& key, const std::string& value, MountOptions& options) {
  if (key == "subdir") {
    if (!value.starts_with('/')) return Invalid("option subdir: '" + value + "' does not begin with /");
    options.subdirectory = value;
    return Status::Ok();
  }
  if (key == "names") {
    if (value != "cached" && value != "uncached")
      return Invalid("option names: cached or uncached, not '" + value + "'");
    options.cache_names = value == "cached";
    return Status::Ok();
  }
  if (key == "uid" || key == "gid") {
    uint32_t id = 0;
    CAIRN_RETURN_IF_ERROR(ParseNumber(key, value, 0U, kNoId - 1, &id));
    (key == "uid" ? options.ids.show_uid : options.ids.show_gid) = id;
    return Status::Ok();
  }
  if (key == "uidmap") return options.ids.users.Add(key, value);
  if (key == "gidmap") return options.ids.groups.Add(key, value);
  if (key == "threads") return ParseNumber(key, value, 4U, 1024U, &options.threads);
  if (key == "kernel_read_ahead_kib") return ParseNumber(key, value, 0U, 1U << 20, &options.read_ahead_kib);
  if (key == "dirty_limit")
    return ParseNumber<uint64_t>(key, value, 1 << 20, 1ull << 40, &options.dirty_limit_bytes);
  if (key == "cache") return ParseNumber<uint64_t>(key, value, 1 << 20, 1ull << 40, &options.cache_bytes);
  if (key == "read_ahead") return ParseNumber<uint64_t>(key, value, 0, 1ull << 34, &options.read_ahead_bytes);
  if (key == "atime_delay_ms") return ParseNumber<int64_t>(key, value, 10, 86'400'000, &options.access_times_ms);
  if (key == "request_timeout_ms")
    return ParseNumber<int64_t>(key, value, 100, 86'400'000, &options.request_timeout_ms);
  if (key == "write_timeout_ms")
    return ParseNumber<int64_t>(key, value, 100, 86'400'000, &options.write_timeout_ms);
  if (key == "comment" || key.starts_with("x-")) return Status::Ok();
  return Invalid("unknown mount option '" + key + "=" + value + "'");
}

Status ParseMaster(std::string text, std::vector<std::string>& masters) {
  const size_t colon = text.rfind(':');
  const bool v6_without_port = text.ends_with(']') || (text.find(':') != colon && !text.starts_with('['));
  if (text.empty() || colon == 0) return Invalid("'" + text + "' is not an address (expected host:port)");
  if (colon == std::string::npos || v6_without_port) {
    if (v6_without_port && !text.starts_with('[')) text = "[" + text + "]";
    masters.push_back(text + ":" + std::to_string(kDefaultPort));
    return Status::Ok();
  }
  int port = 0;
  const char* const end = text.data() + text.size();
  const auto [at, error] = std::from_chars(text.data() + colon + 1, end, port);
  if (error != std::errc{} || at != end || port < 1 || port > 65535) {
    return Invalid("'" + text + "' is not an address (expected host:port)");
  }
  masters.push_back(text);
  return Status::Ok();
}

}  // namespace

Status ParseSource(const std::string& source, MountOptions& options) {
  constexpr std::string_view kScheme = "cairn://";
  std::string hosts = source;
  if (hosts.starts_with(kScheme)) hosts.erase(0, kScheme.size());
  if (const size_t slash = hosts.find('/'); slash != std::string::npos) {
    if (slash + 1 < hosts.size()) options.subdirectory = hosts.substr(slash);
    hosts.resize(slash);
  }
  options.masters.clear();
  std::stringstream parts(hosts);
  std::string part;
  while (std::getline(parts, part, ',')) CAIRN_RETURN_IF_ERROR(ParseMaster(part, options.masters));
  if (options.masters.empty()) return Invalid("no master's address in '" + source + "' (expected host:port)");
  return Status::Ok();
}

Status ParseOptionList(const std::string& list, MountOptions& options) {
  std::stringstream parts(list);
  std::string part;
  while (std::getline(parts, part, ',')) {
    if (part.empty() || Contains(kIgnored, part) || part.starts_with("x-")) continue;
    if (ParseAccessTimes(part, options)) continue;
    if (Contains(kPassedOn, part)) {
      options.kernel_options.push_back(part);
      continue;
    }
    const size_t equals = part.find('=');
    if (equals == std::string::npos) return Invalid("unknown mount option '" + part + "'");
    CAIRN_RETURN_IF_ERROR(ParseAssignment(part.substr(0, equals), part.substr(equals + 1), options));
  }
  return Status::Ok();
}

bool ReadOnly(const MountOptions& options) {
  bool read_only = false;
  for (const std::string& option : options.kernel_options) {
    if (option == "ro" || option == "rw") read_only = option == "ro";
  }
  return read_only;
}

std::string LibraryOptions(const MountOptions& options) {
  // The kernel checks permissions from the attributes (the master checks again).
  std::string text = "default_permissions,subtype=cairn,fsname=cairn://" + options.masters.front();
  for (const char c : options.subdirectory) {
    if (c == ',' || c == '\\') text += '\\';  // libfuse's own escapes
    text += c;
  }
  // libfuse takes nosuid and nodev for granted, as is right for an ordinary user.
  if (options.privileged) text += ",suid,dev";
  for (const std::string& option : options.kernel_options) text += "," + option;
  return text;
}

const char* OptionHelp() {
  return R"(Options for -o (as in fstab):
  (mounted by root: suid, dev; otherwise nosuid, nodev)
  ro, rw, allow_other, allow_root, nosuid, nodev, noexec, sync, dirsync, auto_unmount   as for any file system
  relatime, strictatime, noatime, nodiratime   when reading moves the time of last access (relatime)
  uid=N, gid=N               show every file as belonging to N (who may do what is decided by its real owner)
  uidmap=LOCAL:CLUSTER[:COUNT], gidmap=...    users and groups that differ; several times, or uidmap=/FILE with one in each line
  subdir=/DIR                mount a directory of the cluster
  atime_delay_ms=N           after which other mounts see it at the latest (10000)
  names=cached|uncached      may the kernel cache names under leases (default cached)
  threads=N                  requests served at the same time (128)
  dirty_limit=BYTES          written data kept in memory until replicas confirm (128M)
  cache=BYTES, read_ahead=BYTES, kernel_read_ahead_kib=N
  write_timeout_ms=N         below the write quorum before write, fsync and close fail (10000)
  request_timeout_ms=N       without an answer of the master before an operation fails (30000)
  _netdev, nofail, user, x-..., and other options of mount(8) are accepted)";
}

}  // namespace cairn::fuse
