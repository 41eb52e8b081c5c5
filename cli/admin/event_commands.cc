// events: what the cluster did and why; log-level: how much of it the daemons write down.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <ctime>
#include <memory>
#include <nlohmann/json.hpp>
#include <ostream>
#include <sstream>
#include <string>
#include <thread>

#include "cli/admin/admin.h"
#include "cli/admin/admin_client.h"
#include "cli/admin/status_text.h"
#include "cli/core/config.h"
#include "cli/core/format.h"

namespace cairn::cli {
namespace {

constexpr auto kFollowPeriod = std::chrono::milliseconds(500);

struct EventOptions {
  uint32_t newest = 50;
  bool follow = false;
  std::string kind, severity;
};

bool Wanted(const EventOptions& options, const proto::Event& event) {
  if (!options.kind.empty() && !event.kind().starts_with(options.kind)) return false;
  if (options.severity == "warning") return event.severity() != "info";
  return options.severity.empty() || options.severity == event.severity();
}

Status ShowEvents(Context& context, const EventOptions& options) {
  CAIRN_ASSIGN_OR_RETURN(const auto masters, FindMasters(context));
  AdminClient admin(masters);
  proto::EventsRequest request;
  request.set_newest(options.newest);
  do {
    CAIRN_ASSIGN_OR_RETURN(const auto page, admin.Events(request));
    for (const auto& event : page.events()) {
      if (!Wanted(options, event)) continue;
      // One object per line: also a log that never ends can be read by programs.
      *context.out << (context.json ? ToJson(event).dump() + "\n" : EventLine(event));
    }
    *context.out << std::flush;
    request.set_after(page.next());
    request.set_newest(0);
    if (options.follow && page.events_size() == 0) std::this_thread::sleep_for(kFollowPeriod);
  } while (options.follow && !Interrupted());
  return Status::Ok();
}

struct LogLevelOptions {
  std::string who, level;
};

Status ChangeLogLevel(Context& context, const LogLevelOptions& options) {
  CAIRN_ASSIGN_OR_RETURN(const auto masters, FindMasters(context));
  AdminClient admin(context, masters);
  proto::LogLevelRequest request;
  request.set_level(options.level);
  request.set_operator_(UserName(getuid()));
  std::istringstream names(options.who);
  for (std::string who; std::getline(names, who, ',');) {
    if (who == "master" || who == "all") request.set_master(true);
    if (who == "master") continue;
    if (who == "all") {
      CAIRN_ASSIGN_OR_RETURN(const auto status, admin.ClusterStatus());
      for (const auto& server : status.servers()) {
        if (server.state() == "up") request.add_servers(server.server());
      }
      continue;
    }
    CAIRN_ASSIGN_OR_RETURN(const uint32_t id, FindServer(admin, who));
    request.add_servers(id);
  }
  CAIRN_ASSIGN_OR_RETURN(const auto response, admin.LogLevel(request));
  *context.out << (context.json ? ToJson(response).dump(2) : response.outcome()) << std::endl;
  return Status::Ok();
}

}  // namespace

void RegisterEventCommands(CLI::App& app, Context& context) {
  auto level = std::make_shared<LogLevelOptions>();
  CLI::App* log = app.add_subcommand("log-level", "How much the master or chunkservers log, until their next restart");
  log->add_option("who", level->who, "master, cs3, its name, or all; several with commas")->required();
  log->add_option("level", level->level, "debug, info, warning or error")
      ->required()
      ->check(CLI::IsMember({"debug", "info", "warning", "error"}));
  log->add_flag("--json", context.json, "For programs");
  log->callback([&context, level] { context.Report(ChangeLogLevel(context, *level)); });

  auto options = std::make_shared<EventOptions>();
  CLI::App* events = app.add_subcommand("events", "What the cluster did and why, oldest first");
  events->add_option("-n,--newest", options->newest, "So many of the newest (10,000 are kept)")
      ->capture_default_str();
  events->add_flag("-f,--follow", options->follow, "Go on with new ones until Ctrl-C");
  events->add_option("--kind", options->kind, "Only kinds that begin so, for example server. or drain.");
  events->add_option("--severity", options->severity, "info, warning (and above) or error")
      ->check(CLI::IsMember({"info", "warning", "error"}));
  events->add_flag("--json", context.json, "One JSON object per line");
  events->callback([&context, options] {
    if (const Status status = ShowEvents(context, *options); !status.ok()) context.Fail(status);
  });
}

}  // namespace cairn::cli
