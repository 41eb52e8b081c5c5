// disk list, show, drain, undrain, forget: the disks of the chunkservers.
#include "cli/admin/disk_commands.h"

#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>
#include <ostream>
#include <thread>
#include <vector>

#include "cli/admin/admin.h"
#include "cli/admin/admin_client.h"
#include "cli/admin/status_text.h"
#include "cli/core/config.h"
#include "cli/core/format.h"

namespace cairn::cli {
namespace {

constexpr auto kWatchPeriod = std::chrono::seconds(1);

struct DiskOptions {
  std::string server;  // empty: all
  std::string disk, reason;
  bool bad = false, force = false, preview = false, wait = false;
};

Status ListDisks(Context& context, const DiskOptions& options) {
  uint32_t only = 0;
  CAIRN_ASSIGN_OR_RETURN(const auto masters, FindMasters(context));
  AdminClient admin(masters);
  if (!options.server.empty()) {
    CAIRN_ASSIGN_OR_RETURN(only, FindServer(admin, options.server));
  }
  CAIRN_ASSIGN_OR_RETURN(const auto status, admin.ClusterStatus());
  auto list = nlohmann::json::array();
  std::string text = fmt::format("{:<6} {:<6} {:<8} {:<28} {:<10} {:>8} {:>10} {:>10} {:>10} {:>6}  {}\n", "SERVER",
                                 "UP", "STATE", "PATH", "TAGS", "CHUNKS", "USED", "FREE", "SIZE", "FREE %", "PROBLEM");
  bool found = only == 0;
  for (const auto& server : status.servers()) {
    if (only != 0 && server.server() != only) continue;
    found = true;
    for (const auto& disk : server.disks()) {
      if (options.bad && disk.state() == "ok") continue;
      auto json = ToJson(disk);
      json["server"] = server.server();
      json["server_state"] = server.state();
      list.push_back(std::move(json));
      text += fmt::format(
          "{:<6} {:<6} {:<8} {:<28} {:<10} {:>8} {:>10} {:>10} {:>10} {:>6}  {}\n",
          "cs" + std::to_string(server.server()), server.state(), disk.state(), disk.path(), disk.storage_class(),
          disk.chunks(), HumanBytes(disk.used_bytes()),
          HumanBytes(disk.free_bytes()), HumanBytes(disk.total_bytes()),
          disk.total_bytes() == 0 ? "-" : std::to_string(disk.free_bytes() * 100 / disk.total_bytes()),
          Printable(disk.problem()));
    }
  }
  if (!found) return {StatusCode::kNotFound, fmt::format("there is no server cs{}", only)};
  *context.out << (context.json ? list.dump(2) + "\n" : text) << std::flush;
  return Status::Ok();
}

// A disk by its uuid, the beginning of it, or SERVER:PATH.
struct Found {
  proto::ServerStatus server;
  proto::DiskStatus disk;
};
Result<Found> FindDisk(AdminClient& admin, const std::string& text) {
  CAIRN_ASSIGN_OR_RETURN(const auto status, admin.ClusterStatus());
  const size_t colon = text.find(":/");
  uint32_t only = 0;
  if (colon != std::string::npos) {
    CAIRN_ASSIGN_OR_RETURN(only, FindServer(admin, text.substr(0, colon)));
  }
  std::vector<Found> found;
  for (const auto& server : status.servers()) {
    for (const auto& disk : server.disks()) {
      const bool match = colon != std::string::npos
                             ? server.server() == only && disk.path() == text.substr(colon + 1)
                             : text.size() >= 4 && disk.disk_uuid().starts_with(text);
      if (match) found.push_back({server, disk});
    }
  }
  if (found.size() == 1) return found.front();
  if (found.empty())
    return Status(StatusCode::kNotFound, "there is no disk '" + text + "' (a disk's uuid, its beginning, or cs2:/srv/disk1)");
  return Status(StatusCode::kInvalidArgument, "'" + text + "' means " + std::to_string(found.size()) + " disks; give more of the uuid");
}

Status ShowDisk(Context& context, const DiskOptions& options) {
  CAIRN_ASSIGN_OR_RETURN(const auto masters, FindMasters(context));
  AdminClient admin(masters);
  CAIRN_ASSIGN_OR_RETURN(const Found found, FindDisk(admin, options.disk));
  if (context.json) {
    auto json = ToJson(found.disk);
    json["server"] = found.server.server();
    *context.out << json.dump(2) << std::endl;
    return Status::Ok();
  }
  *context.out << fmt::format("disk {}\n  server   cs{} {}, {}\n  path     {}\n  state    {}{}{}\n  tags     {}\n  chunks   {}\n",
                              found.disk.disk_uuid(), found.server.server(), found.server.name(), found.server.state(),
                              Printable(found.disk.path()), found.disk.state(), found.disk.problem().empty() ? "" : ": ",
                              Printable(found.disk.problem()), found.disk.storage_class(), found.disk.chunks())
               << fmt::format("  space    {} used by chunks, {} free of {}\n", HumanBytes(found.disk.used_bytes()),
                              HumanBytes(found.disk.free_bytes()), HumanBytes(found.disk.total_bytes()))
               << std::flush;
  return Status::Ok();
}

Status WaitForDisk(Context& context, AdminClient& admin, const std::string& uuid) {
  std::string last;
  while (!Interrupted()) {
    CAIRN_ASSIGN_OR_RETURN(const Found found, FindDisk(admin, uuid));
    if (found.disk.state() == "drained") return Status::Ok();
    const std::string text = fmt::format("{} chunks ({}) left{}{}\n", found.disk.chunks(), HumanBytes(found.disk.used_bytes()),
                                         found.disk.problem().empty() ? "" : ": ", Printable(found.disk.problem()));
    if (text != last && !context.json) *context.out << text << std::flush;
    last = text;
    std::this_thread::sleep_for(kWatchPeriod);
  }
  return {StatusCode::kInterrupted, "interrupted; the drain goes on (cairn disk list tells how far it is)"};
}

Status Change(Context& context, const DiskOptions& options, proto::DiskAction action) {
  CAIRN_ASSIGN_OR_RETURN(const auto masters, FindMasters(context));
  AdminClient admin(context, masters);
  CAIRN_ASSIGN_OR_RETURN(const Found found, FindDisk(admin, options.disk));
  proto::ChangeDiskRequest request;
  request.set_disk_uuid(found.disk.disk_uuid());
  request.set_action(action);
  request.set_reason(options.reason);
  request.set_operator_(UserName(getuid()));
  request.set_force(options.force);
  request.set_preview(options.preview);
  CAIRN_ASSIGN_OR_RETURN(const auto response, admin.ChangeDisk(request));
  const bool refused = response.status().code() != 0;
  if (context.json) {
    *context.out << ToJson(response).dump(2) << std::endl;
  } else if (options.preview || refused) {
    *context.out << fmt::format("{} to move, {} of room on the other disks of cs{}\n", HumanBytes(response.bytes()),
                                HumanBytes(response.room_bytes()), found.server.server());
    for (const std::string& refusal : response.refusals()) *context.out << "refused because " << refusal << "\n";
    if (response.refusals_size() == 0 && options.preview) *context.out << "nothing speaks against it\n";
    *context.out << std::flush;
  } else {
    *context.out << response.outcome() << std::endl;
  }
  if (refused) {
    return {static_cast<StatusCode>(response.status().code()),
            response.status().message() + " (--force with --reason moves what has room)"};
  }
  if (options.preview && response.refusals_size() > 0) context.exit_code = kExitFailure;
  if (options.wait && !options.preview) return WaitForDisk(context, admin, found.disk.disk_uuid());
  return Status::Ok();
}

}  // namespace

void RegisterDiskCommands(CLI::App& app, Context& context) {
  CLI::App* disk = app.add_subcommand("disk", "Disks of the chunkservers");
  disk->require_subcommand(1);
  auto options = std::make_shared<DiskOptions>();
  CLI::App* list = disk->add_subcommand("list", "All disks: state, space, what is wrong");
  list->add_option("server", options->server, "Only those of this server: cs3, or 3");
  list->add_flag("--bad", options->bad, "Only those that are failed, full, or may have forgotten something");
  list->add_flag("--json", context.json, "For programs");
  list->callback([&context, options] { context.Report(ListDisks(context, *options)); });
  const auto add = [&](const char* name, const char* help) {
    CLI::App* command = disk->add_subcommand(name, help);
    command->add_option("disk", options->disk, "Its uuid, the beginning of it, or cs2:/srv/disk1")->required();
    command->add_flag("--json", context.json, "For programs");
    return command;
  };
  add("show", "One disk")->callback([&context, options] { context.Report(ShowDisk(context, *options)); });
  const auto change = [&](const char* name, const char* help, proto::DiskAction action) {
    CLI::App* command = add(name, help);
    command->add_option("--reason", options->reason, "Kept in the event log");
    command->callback([&context, options, action] { context.Report(Change(context, *options, action)); });
    return command;
  };
  CLI::App* drain = change("drain", "Move its chunks to the other disks of its server", proto::DISK_DRAIN);
  drain->add_flag("--preview", options->preview, "Change nothing: say what there is to move (exit code 1: it would be refused)");
  drain->add_flag("--force", options->force, "Although not everything has room elsewhere; needs --reason");
  drain->add_flag("--wait", options->wait, "Show the progress until it is empty");
  change("undrain", "Back into service", proto::DISK_UNDRAIN);
  change("forget", "A missing one is gone for good: no further warning", proto::DISK_FORGET);
}

}  // namespace cairn::cli
