#include "cli/admin/status_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "cli/core/format.h"
#include "cli/core/policy_text.h"

namespace cairn::cli {
namespace {

std::string ServerLine(const proto::ServerStatus& server) {
  uint64_t total = 0, free = 0;
  for (const auto& disk : server.disks()) {
    total += disk.total_bytes();
    free += disk.free_bytes();
  }
  const std::string place =
      server.zone().empty() && server.rack().empty() ? "" : server.zone() + "/" + server.rack();
  std::string line = fmt::format("  cs{:<4} {:<22} {:<5} {:>10} chunks  {:>10} free of {:<10} {}\n",
                                 server.server(), server.address(), server.state(), server.chunks(),
                                 HumanBytes(free), HumanBytes(total), place);
  if (server.state() != "up" && server.last_heartbeat_ms() != 0) {
    line += fmt::format("         last heard of {} ago\n",
                        HumanDuration(static_cast<int64_t>(server.last_heartbeat_ms() / 1000)));
  }
  for (const auto& disk : server.disks()) {
    if (disk.state() == "ok" || disk.state().empty()) continue;
    line += fmt::format("         disk {} is {}{}{}\n", disk.path(), disk.state(),
                        disk.problem().empty() ? "" : ": ", disk.problem());
  }
  return line;
}

}  // namespace

client::Policy PolicyFrom(const proto::Policy& policy) {
  return {.replicas = policy.replicas(),
          .write_quorum = policy.write_quorum(),
          .chunk_bytes = policy.chunk_bytes(),
          .failure_domain = policy.failure_domain(),
          .storage_class = policy.storage_class()};
}

nlohmann::json PolicyJson(const client::Policy& policy) {
  return {{"replicas", policy.replicas},
          {"write_quorum", policy.write_quorum},
          {"chunk_bytes", policy.chunk_bytes},
          {"failure_domain", policy.failure_domain},
          {"storage_class", policy.storage_class}};
}

std::string StatusText(const proto::StatusResponse& status) {
  const auto servers_up = std::count_if(status.servers().begin(), status.servers().end(),
                                        [](const auto& server) { return server.state() == "up"; });
  std::string text = fmt::format("Health:   {}\n", status.health());
  for (const std::string& reason : status.reasons()) text += "          - " + reason + "\n";
  for (const std::string& warning : status.warnings()) text += "          ! " + warning + "\n";
  text += fmt::format("Cluster:  {}, version {}\n", status.cluster_id(), status.version());
  text += fmt::format("Space:    {} usable, {} free (raw {}, {} free)\n", HumanBytes(status.usable_bytes()),
                      HumanBytes(status.usable_free_bytes()), HumanBytes(status.raw_bytes()),
                      HumanBytes(status.raw_free_bytes()));
  text += fmt::format("Policy:   {}\n", PolicyText(PolicyFrom(status.root_policy())));
  text += fmt::format("Content:  {} inodes, {} chunks", status.inodes(), status.chunks());
  if (status.chunks_deleting() != 0) text += fmt::format(", {} being deleted", status.chunks_deleting());
  text += "\n";
  text += fmt::format("Replicas: {} below quorum, {} below policy, {} damaged\n",
                      status.chunks_below_quorum(), status.chunks_below_policy(), status.chunks_damaged());
  text += fmt::format("Repair:   {} running, {} queued; {} chunks repaired with {} sent since the start\n",
                      status.repairs_running(), status.repairs_queued(), status.repaired_chunks(),
                      HumanBytes(status.repaired_bytes()));
  text += fmt::format("Sessions: {}\n", status.sessions());
  if (status.grace_left_ms() != 0) {
    text += fmt::format("Restart:  new leases are granted in {} ms at the latest\n", status.grace_left_ms());
  }
  text += fmt::format("Servers:  {} of {} up\n", servers_up, status.servers_size());
  for (const auto& server : status.servers()) text += ServerLine(server);
  return text;
}

nlohmann::json StatusJson(const proto::StatusResponse& status) {
  nlohmann::json json{{"cluster_id", status.cluster_id()},
                      {"health", status.health()},
                      {"incarnation", status.incarnation()},
                      {"version", status.version()},
                      {"raw_bytes", status.raw_bytes()},
                      {"raw_free_bytes", status.raw_free_bytes()},
                      {"usable_bytes", status.usable_bytes()},
                      {"usable_free_bytes", status.usable_free_bytes()},
                      {"inodes", status.inodes()},
                      {"chunks", status.chunks()},
                      {"chunks_below_quorum", status.chunks_below_quorum()},
                      {"chunks_below_policy", status.chunks_below_policy()},
                      {"chunks_damaged", status.chunks_damaged()},
                      {"chunks_deleting", status.chunks_deleting()},
                      {"repairs_running", status.repairs_running()},
                      {"repairs_queued", status.repairs_queued()},
                      {"repaired_chunks", status.repaired_chunks()},
                      {"repaired_bytes", status.repaired_bytes()},
                      {"repaired_bytes_differing", status.repaired_bytes_differing()},
                      {"sessions", status.sessions()},
                      {"grace_left_ms", status.grace_left_ms()},
                      {"log_index", status.log_index()},
                      {"durable_index", status.durable_index()},
                      {"root_policy", PolicyJson(PolicyFrom(status.root_policy()))}};
  json["reasons"] = std::vector<std::string>(status.reasons().begin(), status.reasons().end());
  json["warnings"] = std::vector<std::string>(status.warnings().begin(), status.warnings().end());
  json["servers"] = nlohmann::json::array();
  for (const auto& server : status.servers()) {
    nlohmann::json item{{"server", server.server()},
                        {"address", server.address()},
                        {"zone", server.zone()},
                        {"rack", server.rack()},
                        {"host_id", server.host_id()},
                        {"state", server.state()},
                        {"version", server.version()},
                        {"chunks", server.chunks()},
                        {"load", server.load()},
                        {"last_heartbeat_ms", server.last_heartbeat_ms()},
                        {"clock_skew_ms", server.clock_skew_ms()},
                        {"server_uuid", server.server_uuid()}};
    item["disks"] = nlohmann::json::array();
    for (const auto& disk : server.disks()) {
      item["disks"].push_back({{"disk_uuid", disk.disk_uuid()},
                               {"path", disk.path()},
                               {"total_bytes", disk.total_bytes()},
                               {"free_bytes", disk.free_bytes()},
                               {"used_bytes", disk.used_bytes()},
                               {"state", disk.state()},
                               {"problem", disk.problem()}});
    }
    json["servers"].push_back(std::move(item));
  }
  return json;
}

}  // namespace cairn::cli
