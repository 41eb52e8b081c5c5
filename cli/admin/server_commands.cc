// server list, show, set, drain, undrain, maintenance, remove; whatif.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <memory>
#include <optional>
#include <nlohmann/json.hpp>
#include <ostream>
#include <thread>

#include "cli/admin/admin.h"
#include "cli/admin/admin_client.h"
#include "cli/admin/status_text.h"
#include "cli/core/config.h"
#include "cli/core/format.h"

namespace cairn::cli {
namespace {

constexpr auto kWatchPeriod = std::chrono::seconds(1);

struct ServerOptions {
  std::string server;
  std::string reason;
  std::string duration;
  bool force = false, preview = false, wait = false, removed = false;
};

std::string ModeText(const proto::ServerStatus& server) {
  std::string text = server.mode();
  if (server.maintenance_left_ms() != 0)
    text += " for " + HumanDuration(static_cast<int64_t>(server.maintenance_left_ms() / 1000));
  return text;
}

void PrintServers(Context& context, const proto::StatusResponse& status, bool removed) {
  if (context.json) {
    nlohmann::json list = ToJson(status)["servers"];
    if (removed) {
      for (auto& server : ToJson(status)["removed_servers"]) list.push_back(server);
    }
    *context.out << list.dump(2) << std::endl;
    return;
  }
  *context.out << fmt::format("{:<6} {:<5} {:<22} {:<22} {:<14} {:>10} {:>10} {:>6}  {}\n", "SERVER", "STATE",
                              "MODE", "ADDRESS", "ZONE/RACK", "CHUNKS", "USED", "FREE %", "NOTE");
  const auto line = [&](const proto::ServerStatus& server) {
    uint64_t total = 0, free = 0, used = 0;
    for (const auto& disk : server.disks()) {
      total += disk.total_bytes();
      free += disk.free_bytes();
      used += disk.used_bytes();
    }
    *context.out << fmt::format("{:<6} {:<5} {:<22} {:<22} {:<14} {:>10} {:>10} {:>6}  {}\n",
                                "cs" + std::to_string(server.server()), server.state(), ModeText(server),
                                server.address(), server.zone() + "/" + server.rack(), server.chunks(),
                                HumanBytes(used), total == 0 ? "-" : std::to_string(free * 100 / total),
                                server.name().empty()          ? server.mode_reason()
                                : server.mode_reason().empty() ? server.name()
                                                               : server.name() + ": " + server.mode_reason());
  };
  for (const auto& server : status.servers()) line(server);
  if (removed) {
    for (const auto& server : status.removed_servers()) line(server);
  }
  *context.out << std::flush;
}

std::string ProgressText(const proto::ServerStatus& server, const proto::ServerChunksResponse& chunks) {
  std::string text = fmt::format("cs{}: {}, {} chunks ({}) on it", server.server(), ModeText(server),
                                 chunks.chunks(), HumanBytes(chunks.bytes()));
  if (server.mode() == "draining" || server.mode() == "drained") {
    text += fmt::format(", {} of {} moved", chunks.moved(), server.drain_chunks_at_start());
    if (chunks.chunks() > 0 && chunks.eta_seconds() > 0)
      text += ", about " + HumanDuration(static_cast<int64_t>(chunks.eta_seconds())) + " left";
  }
  return text + "\n";
}

Status Show(Context& context, const std::string& name) {
  CAIRN_ASSIGN_OR_RETURN(const auto masters, FindMasters(context));
  AdminClient admin(masters);
  CAIRN_ASSIGN_OR_RETURN(const uint32_t id, FindServer(admin, name));
  CAIRN_ASSIGN_OR_RETURN(const auto status, admin.ClusterStatus());
  const proto::ServerStatus* found = nullptr;
  for (const auto& server : status.servers()) {
    if (server.server() == id) found = &server;
  }
  for (const auto& server : status.removed_servers()) {
    if (server.server() == id) found = &server;
  }
  if (found == nullptr) return {StatusCode::kNotFound, fmt::format("there is no server cs{}", id)};
  proto::ServerChunksRequest request;
  request.set_server(id);
  CAIRN_ASSIGN_OR_RETURN(const auto chunks, admin.ServerChunks(request));
  if (context.json) {
    *context.out << nlohmann::json{{"server", ToJson(*found)}, {"chunks", ToJson(chunks)}}.dump(2)
                 << std::endl;
    return Status::Ok();
  }
  *context.out << ProgressText(*found, chunks);
  *context.out << fmt::format(
      "  {} at {}, zone '{}', rack '{}', version {}, went down {} times within the last hour\n",
      found->state(), found->address(), found->zone(), found->rack(), found->version(),
      found->downs_last_hour());
  if (!found->name().empty()) *context.out << "  name: " << found->name() << "\n";
  if (found->zone_set() || found->rack_set()) {
    *context.out << fmt::format("  its place was set here; itself it says zone '{}', rack '{}'\n", found->own_zone(),
                                found->own_rack());
  }
  if (!found->mode_reason().empty()) *context.out << "  reason: " << found->mode_reason() << "\n";
  for (const auto& disk : found->disks()) {
    *context.out << fmt::format("  disk {} {}: {} used, {} free of {}{}{}\n", disk.path(), disk.state(),
                                HumanBytes(disk.used_bytes()), HumanBytes(disk.free_bytes()),
                                HumanBytes(disk.total_bytes()), disk.problem().empty() ? "" : ": ",
                                disk.problem());
  }
  for (const auto& group : chunks.groups()) {
    *context.out << fmt::format("  {:>8} chunks: {} (e.g. chunk {}{}{})\n", group.chunks(), group.reason(),
                                group.example_chunk(),
                                group.next_attempt().empty() ? "" : "; next: ", group.next_attempt());
  }
  if (!chunks.complete()) *context.out << "  (the reasons are those of the first chunks looked at)\n";
  *context.out << std::flush;
  return Status::Ok();
}

// Shows a drain until it is done. Ctrl-C leaves it running.
Status WaitForDrain(Context& context, AdminClient& admin, uint32_t id) {
  std::string last;
  while (!Interrupted()) {
    CAIRN_ASSIGN_OR_RETURN(const auto status, admin.ClusterStatus());
    for (const auto& server : status.servers()) {
      if (server.server() != id) continue;
      if (server.mode() != "draining" && server.mode() != "drained")
        return {StatusCode::kCancelled, fmt::format("the drain of cs{} was ended", id)};
      proto::ServerChunksRequest request;
      request.set_server(id);
      request.set_max_chunks(200);
      CAIRN_ASSIGN_OR_RETURN(const auto chunks, admin.ServerChunks(request));
      std::string text = ProgressText(server, chunks);
      for (const auto& group : chunks.groups())
        text += fmt::format("  {}: {}\n", group.chunks(), group.reason());
      if (text != last && !context.json) *context.out << text << std::flush;
      last = text;
      if (server.mode() == "drained") return Status::Ok();
    }
    std::this_thread::sleep_for(kWatchPeriod);
  }
  return {StatusCode::kInterrupted, "interrupted; the drain goes on (cairn server show tells how far it is)"};
}

Status Change(Context& context, const ServerOptions& options, proto::ServerAction action) {
  CAIRN_ASSIGN_OR_RETURN(const auto masters, FindMasters(context));
  AdminClient admin(context, masters);
  CAIRN_ASSIGN_OR_RETURN(const uint32_t id, FindServer(admin, options.server));
  proto::ChangeServerRequest request;
  request.set_server(id);
  request.set_action(action);
  request.set_reason(options.reason);
  request.set_operator_(UserName(getuid()));
  request.set_force(options.force);
  request.set_preview(options.preview);
  if (action == proto::SERVER_MAINTENANCE) {
    CAIRN_ASSIGN_OR_RETURN(const uint64_t seconds, ParseDuration(options.duration));
    request.set_seconds(seconds);
  }
  CAIRN_ASSIGN_OR_RETURN(const auto response, admin.ChangeServer(request));
  const bool refused = response.status().code() != 0;
  if (context.json) {
    *context.out << ToJson(response).dump(2) << std::endl;
  } else if (options.preview || refused) {
    *context.out << ImpactText(response.impact());
    for (const std::string& refusal : response.refusals())
      *context.out << "refused because " << refusal << "\n";
    if (response.refusals_size() == 0 && options.preview) *context.out << "nothing speaks against it\n";
    *context.out << std::flush;
  } else {
    *context.out << response.outcome() << std::endl;
  }
  if (refused) {
    return {static_cast<StatusCode>(response.status().code()),
            response.status().message() + (response.refusals_size() == 0
                                               ? std::string()
                                               : " (--force with --reason does it nevertheless)")};
  }
  if (options.preview && response.refusals_size() > 0) context.exit_code = kExitFailure;
  if (options.wait && !options.preview && action == proto::SERVER_DRAIN)
    return WaitForDrain(context, admin, id);
  return Status::Ok();
}

struct SetOptions {
  std::string server;
  std::optional<std::string> name, zone, rack;
};

Status SetServer(Context& context, const SetOptions& options) {
  if (!options.name && !options.zone && !options.rack)
    return {StatusCode::kInvalidArgument, "nothing to set; give --name, --zone or --rack"};
  CAIRN_ASSIGN_OR_RETURN(const auto masters, FindMasters(context));
  AdminClient admin(context, masters);
  CAIRN_ASSIGN_OR_RETURN(const uint32_t id, FindServer(admin, options.server));
  proto::SetServerRequest request;
  request.set_server(id);
  request.set_operator_(UserName(getuid()));
  if (options.name) request.set_name(*options.name);
  if (options.zone) request.set_zone(*options.zone);
  if (options.rack) request.set_rack(*options.rack);
  CAIRN_ASSIGN_OR_RETURN(const auto response, admin.SetServer(request));
  *context.out << (context.json ? ToJson(response).dump(2) : response.outcome()) << std::endl;
  return Status::Ok();
}

struct WhatIfOptions {
  std::vector<std::string> lose;
};

Status WhatIf(Context& context, const WhatIfOptions& options) {
  proto::WhatIfRequest request;
  CAIRN_ASSIGN_OR_RETURN(const auto masters, FindMasters(context));
  AdminClient admin(masters);
  CAIRN_RETURN_IF_ERROR(ParseServerSelection(admin, options.lose, request.mutable_servers(), request.mutable_racks(),
                                             request.mutable_zones()));
  CAIRN_ASSIGN_OR_RETURN(const auto response, admin.WhatIf(request));
  if (context.json) {
    *context.out << ToJson(response.impact()).dump(2) << std::endl;
  } else {
    *context.out << ImpactText(response.impact()) << std::flush;
  }
  return Status::Ok();
}

}  // namespace

Result<uint32_t> ParseServerId(const std::string& text) {
  const std::string digits = text.starts_with("cs") ? text.substr(2) : text;
  if (digits.empty() || digits.size() > 9 || digits.find_first_not_of("0123456789") != std::string::npos ||
      std::stoul(digits) == 0) {
    return Status(StatusCode::kInvalidArgument, "'" + text + "' is not a server (examples: cs3, 3)");
  }
  return static_cast<uint32_t>(std::stoul(digits));
}

Result<uint32_t> FindServer(AdminClient& admin, const std::string& text) {
  auto id = ParseServerId(text);
  if (id.ok()) return id;
  CAIRN_ASSIGN_OR_RETURN(const auto status, admin.ClusterStatus());
  for (const auto& server : status.servers()) {
    if (!text.empty() && server.name() == text) return server.server();
  }
  return Status(StatusCode::kInvalidArgument, "'" + text + "' is neither a server's number nor a name (examples: cs3, 3)");
}

Status ParseServerSelection(AdminClient& admin, const std::vector<std::string>& items,
                            google::protobuf::RepeatedField<uint32_t>* servers,
                            google::protobuf::RepeatedPtrField<std::string>* racks,
                            google::protobuf::RepeatedPtrField<std::string>* zones) {
  for (const std::string& item : items) {
    if (item.starts_with("rack:")) {
      *racks->Add() = item.substr(5);
    } else if (item.starts_with("zone:")) {
      *zones->Add() = item.substr(5);
    } else {
      CAIRN_ASSIGN_OR_RETURN(const uint32_t id, FindServer(admin, item));
      servers->Add(id);
    }
  }
  return Status::Ok();
}

std::string ImpactText(const proto::Impact& impact) {
  std::string servers;
  for (uint32_t server : impact.servers())
    servers += (servers.empty() ? "cs" : ", cs") + std::to_string(server);
  std::string text = fmt::format("Without {}:\n", servers);
  text +=
      fmt::format("  {:>12} chunks have a copy there ({})\n", impact.chunks(), HumanBytes(impact.bytes()));
  text += fmt::format("  {:>12} of them would have fewer copies than their policy asks for\n",
                      impact.chunks_below_policy());
  text += fmt::format("  {:>12} could not be written ({} files)\n", impact.chunks_unwritable(),
                      impact.files_unwritable());
  text += fmt::format("  {:>12} could not be read ({} files)\n", impact.chunks_unreadable(),
                      impact.files_unreadable());
  text += fmt::format("  {:>12} would be lost ({} files)\n", impact.chunks_lost(), impact.files_lost());
  text += fmt::format("  {:>12} would find no other server\n", impact.chunks_homeless());
  text += fmt::format("  {:>12} to copy, {} free on the other servers{}\n",
                      HumanBytes(impact.bytes_to_copy()), HumanBytes(impact.free_bytes_elsewhere()),
                      impact.eta_seconds() == 0
                          ? std::string()
                          : ", about " + HumanDuration(static_cast<int64_t>(impact.eta_seconds())) +
                                " at the speed measured so far");
  if (impact.example_paths_size() > 0) {
    text += fmt::format("  {}, for example:\n", impact.example_kind());
    for (const std::string& path : impact.example_paths()) text += "    " + Printable(path) + "\n";
  }
  return text;
}

void RegisterServerCommands(CLI::App& app, Context& context) {
  CLI::App* server = app.add_subcommand("server", "Chunkservers: list, name, empty, service, remove");
  server->require_subcommand(1);
  auto options = std::make_shared<ServerOptions>();

  CLI::App* list = server->add_subcommand("list", "All chunkservers");
  list->add_flag("--removed", options->removed, "Also those that were removed");
  list->add_flag("--json", context.json, "For programs");
  list->callback([&context, options] {
    auto masters = FindMasters(context);
    if (!masters.ok()) return context.Fail(masters.status());
    auto status = AdminClient(*masters).ClusterStatus();
    if (!status.ok()) return context.Fail(status.status());
    PrintServers(context, *status, options->removed);
  });

  CLI::App* show = server->add_subcommand("show", "One chunkserver, and why chunks are still on it");
  show->add_option("server", options->server, "cs3, 3, or its name")->required();
  show->add_flag("--json", context.json, "For programs");
  show->callback([&context, options] {
    context.Report(Show(context, options->server));
  });

  const auto add = [&](const char* name, const char* help, proto::ServerAction action) {
    CLI::App* command = server->add_subcommand(name, help);
    command->add_option("server", options->server, "cs3, 3, or its name")->required();
    command->add_option("--reason", options->reason, "Kept in the event log, and shown to others");
    command->add_flag("--json", context.json, "For programs");
    if (action != proto::SERVER_UNDRAIN) {
      command->add_flag("--preview", options->preview,
                        "Change nothing: say what would become under-replicated, "
                        "unwritable, unreadable (exit code 1: it would be refused)");
      command->add_flag("--force", options->force, "Do it although it breaks a policy; needs --reason");
    }
    command->callback([&context, options, action] { context.Report(Change(context, *options, action)); });
    return command;
  };
  add("drain", "Move all its chunks elsewhere; copy, verify, record, then remove", proto::SERVER_DRAIN)
      ->add_flag("--wait", options->wait, "Show the progress until it is empty");
  add("undrain", "Back into service; ends a drain or a maintenance", proto::SERVER_UNDRAIN);
  add("maintenance", "It will be away for a while: its copies are not replaced meanwhile",
      proto::SERVER_MAINTENANCE)
      ->add_option("--for", options->duration, "How long: 90s, 30m, 2h, 1d")
      ->required();
  add("remove", "For good: it is refused when it comes back, and forgotten", proto::SERVER_REMOVE);

  auto set = std::make_shared<SetOptions>();
  CLI::App* place = server->add_subcommand("set", "Its name, and where it stands instead of what it says of itself");
  place->add_option("server", set->server, "cs3, 3, or its name")->required();
  place->add_option("--name", set->name, "Commands know it by this name, too; '' for none");
  place->add_option("--zone", set->zone, "'' for what the server says of itself");
  place->add_option("--rack", set->rack, "'' for what the server says of itself");
  place->add_flag("--json", context.json, "For programs");
  place->callback([&context, set] { context.Report(SetServer(context, *set)); });

  auto what = std::make_shared<WhatIfOptions>();
  CLI::App* whatif = app.add_subcommand("whatif", "What the loss of servers, racks or zones would mean now");
  whatif->add_option("--lose", what->lose, "cs3,rack:B,zone:west")->required()->delimiter(',');
  whatif->add_flag("--json", context.json, "For programs");
  whatif->callback([&context, what] { context.Report(WhatIf(context, *what)); });
}

}  // namespace cairn::cli
