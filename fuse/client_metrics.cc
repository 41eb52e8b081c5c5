#include "fuse/client_metrics.h"

namespace cairn::fuse {

std::vector<std::unique_ptr<metrics::Registry::Handle>> AddClientMetrics(metrics::Registry& registry,
                                                                         client::Client& client) {
  using client::ClientStats;
  std::vector<std::unique_ptr<metrics::Registry::Handle>> handles;
  const auto reader = [&client](double (*read)(const ClientStats&)) {
    return [&client, read] { return std::vector<metrics::Sample>{{{}, read(client.Stats())}}; };
  };
  const auto gauge = [&](const char* name, const char* help, double (*read)(const ClientStats&)) {
    handles.push_back(registry.AddGauge(name, help, reader(read)));
  };
  const auto total = [&](const char* name, const char* help, double (*read)(const ClientStats&)) {
    handles.push_back(registry.AddTotal(name, help, reader(read)));
  };
  gauge("cairn_mount_connected", "1: the master answers; 0: cairn mount status says what is waited for",
        [](const ClientStats& stats) { return stats.state == "connected" ? 1.0 : 0.0; });
  gauge("cairn_mount_servers_down", "Chunkservers that are down, as the master last said",
        [](const ClientStats& stats) { return static_cast<double>(stats.servers_down.size()); });
  gauge("cairn_mount_dirty_bytes", "Written, and not confirmed by a write quorum yet",
        [](const ClientStats& stats) { return static_cast<double>(stats.dirty_bytes); });
  gauge("cairn_mount_leases", "Leases held",
        [](const ClientStats& stats) { return static_cast<double>(stats.leases); });
  gauge("cairn_mount_locks_held", "File locks held by programs of this mount",
        [](const ClientStats& stats) { return static_cast<double>(stats.locks_held); });
  gauge("cairn_mount_locks_waiting", "Programs of this mount that wait for a file lock",
        [](const ClientStats& stats) { return static_cast<double>(stats.locks_waiting); });
  total("cairn_mount_master_requests_total", "Requests to the master, without renewals of the session",
        [](const ClientStats& stats) { return static_cast<double>(stats.master_requests); });
  total("cairn_mount_data_requests_total", "Requests to chunkservers",
        [](const ClientStats& stats) { return static_cast<double>(stats.data_requests); });
  total("cairn_mount_read_bytes_total", "Read by programs",
        [](const ClientStats& stats) { return static_cast<double>(stats.bytes_read); });
  total("cairn_mount_written_bytes_total", "Written by programs",
        [](const ClientStats& stats) { return static_cast<double>(stats.bytes_written); });
  total("cairn_mount_copied_bytes_total", "Copied from file to file by the chunkservers",
        [](const ClientStats& stats) { return static_cast<double>(stats.bytes_copied); });
  total("cairn_mount_copied_here_bytes_total", "Of copies, what came through this mount after all",
        [](const ClientStats& stats) { return static_cast<double>(stats.bytes_copied_here); });
  total("cairn_mount_lease_recalls_total", "Leases that the master asked back",
        [](const ClientStats& stats) { return static_cast<double>(stats.lease_recalls); });
  return handles;
}

}  // namespace cairn::fuse
