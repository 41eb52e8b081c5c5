// disk list: the disks of all chunkservers.
#include "cli/admin/disk_commands.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>
#include <ostream>

#include "cli/admin/admin.h"
#include "cli/admin/admin_client.h"
#include "cli/admin/status_text.h"
#include "cli/core/config.h"
#include "cli/core/format.h"

namespace cairn::cli {
namespace {

struct DiskOptions {
  std::string server;  // empty: all
  bool bad = false;
};

Status ListDisks(Context& context, const DiskOptions& options) {
  uint32_t only = 0;
  if (!options.server.empty()) {
    CAIRN_ASSIGN_OR_RETURN(only, ParseServerId(options.server));
  }
  CAIRN_ASSIGN_OR_RETURN(const auto masters, FindMasters(context));
  CAIRN_ASSIGN_OR_RETURN(const auto status, AdminClient(masters).ClusterStatus());
  auto list = nlohmann::json::array();
  std::string text = fmt::format("{:<6} {:<6} {:<8} {:<28} {:>10} {:>10} {:>10} {:>6}  {}\n", "SERVER", "UP",
                                 "STATE", "PATH", "USED", "FREE", "SIZE", "FREE %", "PROBLEM");
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
          "{:<6} {:<6} {:<8} {:<28} {:>10} {:>10} {:>10} {:>6}  {}\n", "cs" + std::to_string(server.server()),
          server.state(), disk.state(), disk.path(), HumanBytes(disk.used_bytes()),
          HumanBytes(disk.free_bytes()), HumanBytes(disk.total_bytes()),
          disk.total_bytes() == 0 ? "-" : std::to_string(disk.free_bytes() * 100 / disk.total_bytes()),
          Printable(disk.problem()));
    }
  }
  if (!found) return {StatusCode::kNotFound, fmt::format("there is no server cs{}", only)};
  *context.out << (context.json ? list.dump(2) + "\n" : text) << std::flush;
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
}

}  // namespace cairn::cli
