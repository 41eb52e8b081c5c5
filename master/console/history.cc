#include "master/console/history.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

namespace cairn::master::console {
namespace {

double Grown(uint64_t before, uint64_t now) { return now > before ? static_cast<double>(now - before) : 0; }

uint64_t Operations(const proto::StatusResponse& status) {
  uint64_t sum = 0;
  for (const auto& operation : status.operations()) sum += operation.count();
  return sum;
}

// Three digits are more than a chart shows.
double Rounded(double value) {
  if (value == 0 || !std::isfinite(value)) return 0;
  const double scale = std::pow(10, 3 - std::ceil(std::log10(std::fabs(value))));
  return scale > 1 ? std::round(value * scale) / scale : std::round(value);
}

}  // namespace

double QuantileMs(const metrics::LatencyHistogram::Sums& before, const metrics::LatencyHistogram::Sums& now,
                  double share) {
  using metrics::LatencyHistogram;
  const double all = Grown(before.count, now.count);
  if (all == 0) return 0;
  double seen = 0;
  for (size_t i = 0; i < LatencyHistogram::kBuckets; ++i) {
    const double in_bucket = Grown(before.counts[i], now.counts[i]);
    if (seen + in_bucket < share * all || in_bucket == 0) {
      seen += in_bucket;
      continue;
    }
    const double low = i == 0 ? 0 : LatencyHistogram::UpperBound(i - 1);
    if (i + 1 == LatencyHistogram::kBuckets) return low * 1e3;
    return (low + (LatencyHistogram::UpperBound(i) - low) * (share * all - seen) / in_bucket) * 1e3;
  }
  return 0;
}

Load LoadBetween(const Reading& before, const Reading& now) {
  Load load;
  load.unix_ms = now.unix_ms;
  const double seconds = std::max<double>(0.001, static_cast<double>(now.unix_ms - before.unix_ms) / 1e3);
  load.operations = Grown(Operations(before.status), Operations(now.status)) / seconds;
  const double answered = Grown(before.requests.count, now.requests.count);
  if (answered > 0)
    load.latency_mean_ms = std::max(0.0, now.requests.seconds - before.requests.seconds) / answered * 1e3;
  load.latency_p99_ms = QuantileMs(before.requests, now.requests, 0.99);
  load.repair_bps = (Grown(before.status.repaired_bytes(), now.status.repaired_bytes()) +
                     Grown(before.status.moved_bytes(), now.status.moved_bytes())) /
                    seconds;
  load.below_policy = static_cast<double>(now.status.chunks_below_policy());

  std::map<uint32_t, const proto::ServerStatus*> earlier;
  for (const auto& server : before.status.servers()) earlier[server.server()] = &server;
  double reads = 0, writes = 0, read_seconds = 0, write_seconds = 0;
  for (const auto& server : now.status.servers()) {
    ServerLoad one;
    one.up = server.state() == "up";
    one.load = one.up ? server.load() / 1000.0 : 0;
    for (const auto& disk : server.disks()) one.used_bytes += static_cast<double>(disk.used_bytes());
    load.servers_up += one.up ? 1 : 0;
    const auto old = earlier.find(server.server());
    if (old != earlier.end()) {
      const proto::Traffic& to = server.traffic();
      // Nothing yet: the master started, and knew the server before it heard how much that had served in all its life.
      const bool heard = old->second->traffic().reads() + old->second->traffic().writes() > 0;
      const proto::Traffic& from = heard ? old->second->traffic() : to;
      one.read_bps = Grown(from.read_bytes(), to.read_bytes()) / seconds;
      one.write_bps = Grown(from.written_bytes(), to.written_bytes()) / seconds;
      reads += Grown(from.reads(), to.reads());
      writes += Grown(from.writes(), to.writes());
      read_seconds += Grown(from.read_nanos(), to.read_nanos()) / 1e9;
      write_seconds += Grown(from.write_nanos(), to.write_nanos()) / 1e9;
      load.read_bps += one.read_bps;
      load.write_bps += one.write_bps;
    }
    if (load.servers.size() < History::kMaxServers) load.servers[server.server()] = one;
  }
  if (reads > 0) load.read_ms = read_seconds / reads * 1e3;
  if (writes > 0) load.write_ms = write_seconds / writes * 1e3;
  return load;
}

void History::Add(Reading reading) {
  const std::lock_guard lock(mu_);
  if (last_) {
    loads_.push_back(LoadBetween(*last_, reading));
    ++next_;
    if (loads_.size() > kSamples) loads_.pop_front();
  }
  last_ = std::move(reading);
}

nlohmann::json History::Columns(uint64_t after, std::optional<uint32_t> server) const {
  const std::lock_guard lock(mu_);
  const uint64_t first = next_ - loads_.size();
  const size_t from = after >= first ? std::min<size_t>(after - first + 1, loads_.size()) : 0;
  nlohmann::json json{{"next", next_ - 1}, {"period_ms", kPeriodMs}};
  const auto column = [&](const char* name, auto value) {
    auto& values = json[name] = nlohmann::json::array();
    for (size_t i = from; i < loads_.size(); ++i) values.push_back(value(loads_[i]));
  };
  column("t", [](const Load& load) { return load.unix_ms; });
  if (server) {
    const auto of = [&](const char* name, auto value) {
      column(name, [&](const Load& load) {
        const auto one = load.servers.find(*server);
        return one == load.servers.end() ? nlohmann::json() : nlohmann::json(Rounded(value(one->second)));
      });
    };
    of("read_bps", [](const ServerLoad& load) { return load.read_bps; });
    of("write_bps", [](const ServerLoad& load) { return load.write_bps; });
    of("load", [](const ServerLoad& load) { return load.load; });
    of("used_bytes", [](const ServerLoad& load) { return load.used_bytes; });
    of("up", [](const ServerLoad& load) { return load.up ? 1.0 : 0.0; });
    return json;
  }
  column("operations", [](const Load& load) { return Rounded(load.operations); });
  column("latency_mean_ms", [](const Load& load) { return Rounded(load.latency_mean_ms); });
  column("latency_p99_ms", [](const Load& load) { return Rounded(load.latency_p99_ms); });
  column("read_bps", [](const Load& load) { return Rounded(load.read_bps); });
  column("write_bps", [](const Load& load) { return Rounded(load.write_bps); });
  column("read_ms", [](const Load& load) { return Rounded(load.read_ms); });
  column("write_ms", [](const Load& load) { return Rounded(load.write_ms); });
  column("repair_bps", [](const Load& load) { return Rounded(load.repair_bps); });
  column("below_policy", [](const Load& load) { return load.below_policy; });
  column("servers_up", [](const Load& load) { return load.servers_up; });
  return json;
}

}  // namespace cairn::master::console
