// events: what the cluster did and why.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <ctime>
#include <memory>
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

}  // namespace

void RegisterEventCommands(CLI::App& app, Context& context) {
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
