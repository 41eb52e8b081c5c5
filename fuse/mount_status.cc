#include "fuse/mount_status.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

#include "common/log.h"
#include "fuse/mountpoint.h"

namespace cairn::fuse {
namespace {

constexpr size_t kShownRequests = 20;
constexpr int64_t kLongNanos = 5 * kNanosPerSecond;
constexpr int64_t kLogAgainNanos = 60 * kNanosPerSecond;

}  // namespace

std::vector<RequestsInProgress::Request> RequestsInProgress::All() const {
  std::vector<Request> all;
  for (const Shard& shard : shards_) {
    const std::lock_guard lock(shard.mu);
    all.insert(all.end(), shard.requests.begin(), shard.requests.end());
  }
  std::sort(all.begin(), all.end(),
            [](const Request& a, const Request& b) { return a.since_ns < b.since_ns; });
  return all;
}

MountStatus::MountStatus(FileSystem& fs, const MountOptions& options, const std::string& device,
                         const Clock* clock)
    : fs_(fs), options_(options), clock_(clock), started_ns_(clock->NowNanos()) {
  wake_ = eventfd(0, EFD_CLOEXEC);
  listener_ = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string name = StatusSocketName(device);
  std::memcpy(address.sun_path, name.data(), std::min(name.size(), sizeof address.sun_path));
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size());
  if (listener_ < 0 || bind(listener_, reinterpret_cast<sockaddr*>(&address), length) != 0 ||
      listen(listener_, 8) != 0) {
    CAIRN_LOG(Warning, "`cairn mount status` will not know of this mount: {}", std::strerror(errno));
    if (listener_ >= 0) close(listener_);
    listener_ = -1;
  }
  thread_ = std::thread([this] { Main(); });
}

MountStatus::~MountStatus() {
  stopping_ = true;
  const uint64_t one = 1;
  (void)!write(wake_, &one, sizeof one);
  thread_.join();
  if (listener_ >= 0) close(listener_);
  close(wake_);
}

std::string MountStatus::Json() const {
  const client::ClientStats stats = fs_.client().Stats();
  const auto requests = fs_.requests().All();
  const int64_t now = clock_->NowNanos();
  nlohmann::json status;
  status["mountpoint"] = options_.mountpoint;
  status["masters"] = options_.masters;
  status["directory"] = options_.subdirectory.empty() ? "/" : options_.subdirectory;
  status["pid"] = getpid();
  status["uptime_ms"] = (now - started_ns_) / kNanosPerMilli;
  status["state"] = stats.state;
  status["leases"] = stats.leases;
  status["dirty_bytes"] = stats.dirty_bytes;
  status["locks_held"] = stats.locks_held;
  status["locks_waited_for"] = stats.locks_waiting;
  status["master_requests"] = stats.master_requests;
  status["data_requests"] = stats.data_requests;
  status["servers_down"] = stats.servers_down;
  status["requests_in_progress"] = requests.size();
  status["waiting"] = nlohmann::json::array();
  for (size_t i = 0; i < std::min(requests.size(), kShownRequests); ++i) {
    status["waiting"].push_back({{"operation", requests[i].operation},
                                 {"thread", requests[i].thread},
                                 {"ms", (now - requests[i].since_ns) / kNanosPerMilli}});
  }
  return status.dump();
}

void MountStatus::Answer() {
  const int peer = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (peer < 0) return;
  // One message of a few KiB fits the socket's buffer; a peer that does not read gets what fits.
  const std::string text = Json() + "\n";
  (void)!send(peer, text.data(), text.size(), MSG_NOSIGNAL);
  close(peer);
}

void MountStatus::LogWaits() {
  const auto requests = fs_.requests().All();
  const int64_t now = clock_->NowNanos();
  const auto is_long = [&](const auto& request) { return now - request.since_ns >= kLongNanos; };
  const auto count = std::count_if(requests.begin(), requests.end(), is_long);
  if (count == 0) {
    if (waiting_) CAIRN_LOG(Info, "no request waits for long any more");
    waiting_ = false;
    return;
  }
  if (waiting_ && now - logged_ns_ < kLogAgainNanos) return;
  waiting_ = true;
  logged_ns_ = now;
  const client::ClientStats stats = fs_.client().Stats();
  std::string down;
  for (const std::string& server : stats.servers_down) down += ", " + server + " is down";
  CAIRN_LOG(Warning,
            "{} requests wait for more than {} s, the longest is {} of process {} for {} s; master: {}{}",
            count, kLongNanos / kNanosPerSecond, requests.front().operation, requests.front().thread,
            (now - requests.front().since_ns) / kNanosPerSecond, stats.state, down);
}

void MountStatus::Main() {
  while (!stopping_) {
    pollfd files[2] = {{.fd = wake_, .events = POLLIN, .revents = 0},
                       {.fd = listener_, .events = POLLIN, .revents = 0}};
    const int ready = poll(files, 2, 1'000);
    if (stopping_) return;
    if (ready > 0 && (files[1].revents & POLLIN) != 0) Answer();
    LogWaits();
  }
}

}  // namespace cairn::fuse
