#include "cli/admin/status_text.h"

#include <fmt/format.h>
#include <google/protobuf/util/json_util.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "cli/core/format.h"
#include "cli/core/policy_text.h"
#include "common/check.h"

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

nlohmann::json ToJson(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.always_print_primitive_fields = true;
  options.preserve_proto_field_names = true;
  std::string text;
  const auto printed = google::protobuf::util::MessageToJsonString(message, &text, options);
  CAIRN_CHECK(printed.ok(), "a message of our own has no JSON form");
  return nlohmann::json::parse(text);
}

}  // namespace cairn::cli
