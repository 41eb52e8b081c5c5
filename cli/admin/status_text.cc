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
  if (!server.mode().empty() && server.mode() != "in service")
    line += fmt::format("         {}{}{}\n", server.mode(), server.mode_reason().empty() ? "" : ": ",
                        server.mode_reason());
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
          .storage_class = policy.storage_class(),
          .scatter_width = policy.has_scatter_width() ? std::optional(policy.scatter_width()) : std::nullopt,
          .trash_seconds = policy.has_trash_seconds() ? std::optional(policy.trash_seconds()) : std::nullopt};
}

nlohmann::json PolicyJson(const client::Policy& policy) {
  return {{"replicas", policy.replicas},
          {"write_quorum", policy.write_quorum},
          {"chunk_bytes", policy.chunk_bytes},
          {"failure_domain", policy.failure_domain},
          {"storage_class", policy.storage_class},
          {"scatter_width", policy.scatter_width ? nlohmann::json(*policy.scatter_width) : nlohmann::json(nullptr)},
          {"trash_seconds",
           policy.trash_seconds ? nlohmann::json(*policy.trash_seconds) : nlohmann::json(nullptr)}};
}

std::string EventLine(const proto::Event& event) {
  client::TimeSpec time;
  time.seconds = static_cast<int64_t>(event.unix_ms() / 1000);
  return fmt::format("{}  {:<7}  {:<20} {}{}\n", IsoTime(time), event.severity(), event.kind(),
                     Printable(event.text()),
                     event.operator_().empty() ? "" : " [" + Printable(event.operator_()) + "]");
}

std::string RebalanceText(const proto::RebalanceStatus& state) {
  std::string text = state.state();
  if (state.state() != "idle") {
    text += fmt::format(
        " ({}), {} chunks with {}{} moved, {} moves under way", state.by_hand() ? "by hand" : "automatic",
        state.moved_chunks(), HumanBytes(state.moved_bytes()),
        state.planned_bytes() == 0 ? "" : " of " + HumanBytes(state.planned_bytes()), state.moves_running());
  }
  if (state.state() == "running") {
    text += fmt::format(", {}/s of {}/s", HumanBytes(state.effective_bytes_per_second()),
                        HumanBytes(state.bytes_per_second()));
    if (!state.yielding().empty()) text += ": " + state.yielding();
  }
  if (!state.scope().empty()) text += "; only " + Printable(state.scope());
  text += fmt::format("; spread {:.2f} %", state.spread_percent());
  text += state.automatic() ? fmt::format("; automatic beyond {:g} %", state.automatic_threshold_percent())
                            : std::string("; automatic off");
  if (!state.window().empty())
    text += fmt::format("; only {}{}", state.window(), state.in_window() ? "" : " (not now)");
  return text + "\n";
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
  if (status.chunks_misplaced() != 0 || status.moved_chunks() != 0) {
    text +=
        fmt::format("Moves:    {} chunks to move, drop or reconfigure; {} moved with {} since the start\n",
                    status.chunks_misplaced(), status.moved_chunks(), HumanBytes(status.moved_bytes()));
  }
  if (status.has_rebalance()) text += "Balance:  " + RebalanceText(status.rebalance());
  if (status.trash_files() != 0) {
    text += fmt::format("Trash:    {} in {} deleted files, given back early when space runs out\n",
                        HumanBytes(status.trash_bytes()), status.trash_files());
  }
  text += fmt::format("Sessions: {}\n", status.sessions());
  if (status.grace_left_ms() != 0) {
    text += fmt::format("Restart:  new leases are granted in {} ms at the latest\n", status.grace_left_ms());
  }
  text += fmt::format("Servers:  {} of {} up\n", servers_up, status.servers_size());
  for (const auto& server : status.servers()) text += ServerLine(server);
  if (status.recent_events_size() > 0) {
    text += "Events:\n";
    for (const auto& event : status.recent_events()) text += "  " + EventLine(event);
  }
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
