#include "master/service/status_metrics.h"

#include <chrono>
#include <future>
#include <mutex>
#include <vector>

#include "common/metrics/metrics.h"
#include "master/core/admin.h"
#include "master/core/core.h"
#include "proto/cairn/admin.pb.h"

namespace cairn::master {
namespace {

using metrics::Sample;
using std::chrono::steady_clock;

constexpr auto kFreshFor = std::chrono::seconds(1);
constexpr auto kPatience = std::chrono::seconds(2);  // a core that does not answer shows as missing gauges

double Number(uint64_t value) { return static_cast<double>(value); }
Sample One(double value) { return {{}, value}; }
Sample Of(const char* label, const char* value, double number) { return {{{label, value}}, number}; }

template <typename Read>
std::vector<Sample> OfServers(const proto::StatusResponse& status, Read read) {
  std::vector<Sample> samples;
  for (const auto& server : status.servers()) {
    samples.push_back(
        {{{"server", "cs" + std::to_string(server.server())}, {"address", server.address()}}, read(server)});
  }
  return samples;
}

}  // namespace

struct StatusMetrics::State {
  explicit State(Core* asked) : core(asked) {}

  // Null when the core is too busy to answer.
  std::shared_ptr<const proto::StatusResponse> Status() {
    const std::lock_guard lock(mu);
    if (status != nullptr && steady_clock::now() - taken < kFreshFor) return status;
    auto promise = std::make_shared<std::promise<std::shared_ptr<const proto::StatusResponse>>>();
    auto answer = promise->get_future();
    const bool posted = core->Post([promise](Core& core) {
      auto response = std::make_shared<proto::StatusResponse>();
      FillStatus(core, response.get());
      promise->set_value(std::move(response));
    });
    if (!posted || answer.wait_for(kPatience) != std::future_status::ready) return nullptr;
    status = answer.get();
    taken = steady_clock::now();
    return status;
  }

  Core* const core;
  std::mutex mu;
  std::shared_ptr<const proto::StatusResponse> status;  // guarded by mu
  steady_clock::time_point taken;                       // guarded by mu
  std::vector<std::unique_ptr<metrics::Registry::Handle>> handles;
};

StatusMetrics::StatusMetrics(metrics::Registry& registry, Core* core)
    : state_(std::make_unique<State>(core)) {
  using proto::StatusResponse;
  using Values = std::vector<Sample>;
  const auto reader = [state = state_.get()](auto read) {
    return [state, read] {
      const auto status = state->Status();
      return status == nullptr ? Values() : Values(read(*status));
    };
  };
  const auto gauge = [&](const char* name, const char* help, auto read) {
    state_->handles.push_back(registry.AddGauge(name, help, reader(read)));
  };
  const auto total = [&](const char* name, const char* help, auto read) {
    state_->handles.push_back(registry.AddTotal(name, help, reader(read)));
  };
  gauge("cairn_master_health", "1 for the state that the cluster is in; cairn status gives the reasons",
        [](const StatusResponse& status) {
          Values values;
          for (const char* state : {"healthy", "degraded", "unavailable"})
            values.push_back(Of("state", state, status.health() == state ? 1 : 0));
          return values;
        });
  gauge("cairn_master_warnings", "Warnings that cairn status shows",
        [](const StatusResponse& status) { return Values{One(status.warnings_size())}; });
  gauge("cairn_master_capacity_bytes",
        "Space of the cluster: usable is raw divided by the replicas of the root's policy",
        [](const StatusResponse& status) {
          return Values{Of("kind", "raw", Number(status.raw_bytes())),
                        Of("kind", "usable", Number(status.usable_bytes()))};
        });
  gauge("cairn_master_free_bytes", "What is free of the capacity", [](const StatusResponse& status) {
    return Values{Of("kind", "raw", Number(status.raw_free_bytes())),
                  Of("kind", "usable", Number(status.usable_free_bytes()))};
  });
  gauge("cairn_master_inodes", "Files, directories and others",
        [](const StatusResponse& status) { return Values{One(Number(status.inodes()))}; });
  gauge("cairn_master_chunks", "Chunks known",
        [](const StatusResponse& status) { return Values{One(Number(status.chunks()))}; });
  gauge("cairn_master_chunks_in_state", "Chunks that are not as they should be; one may be in several states",
        [](const StatusResponse& status) {
          return Values{Of("state", "below_quorum", Number(status.chunks_below_quorum())),
                        Of("state", "below_policy", Number(status.chunks_below_policy())),
                        Of("state", "damaged", Number(status.chunks_damaged())),
                        Of("state", "misplaced", Number(status.chunks_misplaced())),
                        Of("state", "deleting", Number(status.chunks_deleting()))};
        });
  gauge("cairn_master_repairs", "Repairs and moves under way and waiting", [](const StatusResponse& status) {
    return Values{Of("state", "running", Number(status.repairs_running())),
                  Of("state", "queued", Number(status.repairs_queued()))};
  });
  total("cairn_master_repaired_bytes_total", "Sent between chunkservers for repair",
        [](const StatusResponse& status) { return Values{One(Number(status.repaired_bytes()))}; });
  total("cairn_master_repaired_chunks_total", "Chunks brought back to their policy",
        [](const StatusResponse& status) { return Values{One(Number(status.repaired_chunks()))}; });
  total("cairn_master_moved_bytes_total", "Sent between chunkservers for drains and rebalancing",
        [](const StatusResponse& status) { return Values{One(Number(status.moved_bytes()))}; });
  total("cairn_master_moved_chunks_total", "Chunks moved by drains and rebalancing",
        [](const StatusResponse& status) { return Values{One(Number(status.moved_chunks()))}; });
  gauge("cairn_master_use_spread_ratio", "How full the fullest server is minus the emptiest, 0 to 1",
        [](const StatusResponse& status) { return Values{One(status.rebalance().spread_percent() / 100)}; });
  gauge("cairn_master_trash_bytes", "Deleted files that are kept",
        [](const StatusResponse& status) { return Values{One(Number(status.trash_bytes()))}; });
  gauge("cairn_master_sessions", "Clients connected",
        [](const StatusResponse& status) { return Values{One(Number(status.sessions()))}; });
  gauge("cairn_master_log_index", "The metadata log: the last entry, and the last one on disk",
        [](const StatusResponse& status) {
          return Values{Of("kind", "committed", Number(status.log_index())),
                        Of("kind", "durable", Number(status.durable_index()))};
        });
  gauge("cairn_master_server_up", "1: this chunkserver is up", [](const StatusResponse& status) {
    return OfServers(status, [](const auto& server) { return server.state() == "up" ? 1.0 : 0.0; });
  });
  gauge("cairn_master_server_in_service", "0: in maintenance, draining or drained",
        [](const StatusResponse& status) {
          return OfServers(status,
                           [](const auto& server) { return server.mode() == "in service" ? 1.0 : 0.0; });
        });
  gauge("cairn_master_server_downs", "How often it went down within the last hour",
        [](const StatusResponse& status) {
          return OfServers(status, [](const auto& server) { return Number(server.downs_last_hour()); });
        });
  gauge("cairn_master_server_chunks", "Copies that it should hold", [](const StatusResponse& status) {
    return OfServers(status, [](const auto& server) { return Number(server.chunks()); });
  });
}

StatusMetrics::~StatusMetrics() { state_->handles.clear(); }

}  // namespace cairn::master
