// rebalance plan, apply, status, pause, resume, cancel, set-rate, auto.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <chrono>
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

struct RebalanceOptions {
  double threshold = -1;
  std::string rate, window, automatic;
  bool watch = false, window_given = false;
};

double PercentOf(uint64_t part, uint64_t whole) {
  return whole == 0 ? 0 : 100.0 * static_cast<double>(part) / static_cast<double>(whole);
}

std::string PlanText(const proto::RebalancePlan& plan) {
  std::string text = fmt::format("{:<6} {:>10} {:>10} {:>7} {:>10} {:>7} {:>8} {:>8}\n", "SERVER", "CAPACITY",
                                 "USED", "%", "AFTER", "%", "OUT", "IN");
  for (const auto& server : plan.servers()) {
    text += fmt::format(
        "{:<6} {:>10} {:>10} {:>7.2f} {:>10} {:>7.2f} {:>8} {:>8}\n", "cs" + std::to_string(server.server()),
        HumanBytes(server.capacity_bytes()), HumanBytes(server.used_bytes()),
        PercentOf(server.used_bytes(), server.capacity_bytes()), HumanBytes(server.used_after()),
        PercentOf(server.used_after(), server.capacity_bytes()), server.moves_out(), server.moves_in());
  }
  text += fmt::format("{} moves, {}", plan.moves(), HumanBytes(plan.bytes()));
  if (plan.moves() > 0) {
    text += fmt::format(", about {}; every chunk keeps at least {} copies all the time",
                        HumanDuration(static_cast<int64_t>(plan.eta_seconds())), plan.fewest_copies());
  }
  text += "\n";
  if (!plan.limited_by().empty()) text += "It gets no closer: " + plan.limited_by() + "\n";
  return text;
}

proto::RebalanceRequest RequestOf(proto::RebalanceAction action) {
  proto::RebalanceRequest request;
  request.set_action(action);
  request.set_operator_(UserName(getuid()));
  return request;
}

Status Run(Context& context, const proto::RebalanceRequest& request, bool watch) {
  CAIRN_ASSIGN_OR_RETURN(const auto masters, FindMasters(context));
  AdminClient admin(masters);
  for (;;) {
    CAIRN_ASSIGN_OR_RETURN(const auto response, admin.Rebalance(request));
    const bool planned =
        request.action() == proto::REBALANCE_PLAN || request.action() == proto::REBALANCE_APPLY;
    if (context.json) {
      *context.out << ToJson(planned ? static_cast<const google::protobuf::Message&>(response)
                                     : static_cast<const google::protobuf::Message&>(response.state()))
                          .dump(watch ? -1 : 2)
                   << std::endl;
    } else {
      if (planned) *context.out << PlanText(response.plan());
      if (request.action() != proto::REBALANCE_PLAN) *context.out << RebalanceText(response.state());
      *context.out << std::flush;
    }
    if (!watch || Interrupted()) return Status::Ok();
    if (response.state().state() == "idle") return Status::Ok();
    std::this_thread::sleep_for(std::chrono::seconds(1));
  }
}

void Report(Context& context, const Status& status) {
  if (status.code() == StatusCode::kInvalidArgument) {
    context.FailWith(kExitUsage, Describe(status));
  } else if (!status.ok()) {
    context.Fail(status);
  }
}

// Options that plan, apply and set-rate share.
Status Fill(const RebalanceOptions& options, proto::RebalanceRequest* request) {
  if (options.threshold >= 0) request->set_threshold_percent(options.threshold);
  if (!options.rate.empty()) {
    CAIRN_ASSIGN_OR_RETURN(const uint64_t rate, ParseBytes(options.rate));
    request->set_bytes_per_second(rate);
  }
  if (options.window_given) request->set_window(options.window == "always" ? "" : options.window);
  return Status::Ok();
}

}  // namespace

void RegisterRebalanceCommands(CLI::App& app, Context& context) {
  CLI::App* rebalance = app.add_subcommand("rebalance", "Even out how full the chunkservers are");
  rebalance->require_subcommand(1);
  auto options = std::make_shared<RebalanceOptions>();
  const auto add = [&](const char* name, const char* help, proto::RebalanceAction action) {
    CLI::App* command = rebalance->add_subcommand(name, help);
    command->add_flag("--json", context.json, "For programs");
    command->callback([&context, options, action] {
      proto::RebalanceRequest request = RequestOf(action);
      Status status = Fill(*options, &request);
      if (status.ok() && !options->automatic.empty()) request.set_automatic(options->automatic == "on");
      if (status.ok()) status = Run(context, request, options->watch);
      Report(context, status);
    });
    return command;
  };
  const auto tuning = [&](CLI::App* command) {
    command
        ->add_option(
            "--threshold", options->threshold,
            "Stop when every server is within so many percent of its capacity of the mean (default 1)")
        ->check(CLI::Range(0.0, 100.0));
    command->add_option("--rate", options->rate, "Bytes per second of all moves together, for example 64MiB");
    return command;
  };
  const auto window = [&](CLI::App* command) {
    command->add_option_function<std::string>(
        "--window",
        [options](const std::string& text) {
          options->window = text;
          options->window_given = true;
        },
        "Only then, in the master's local time: 22:00-06:00, or always");
    return command;
  };
  tuning(add("plan", "What apply would do; changes nothing", proto::REBALANCE_PLAN));
  window(tuning(add("apply", "Move until it is even; goes on after a restart of the master",
                    proto::REBALANCE_APPLY)))
      ->add_flag("--watch", options->watch, "Show the progress until it is done");
  add("status", "How far it is", proto::REBALANCE_STATUS)
      ->add_flag("--watch", options->watch, "Until nothing runs");
  add("pause", "Start no further moves, also not automatically", proto::REBALANCE_PAUSE);
  add("resume", "Go on", proto::REBALANCE_RESUME);
  add("cancel", "End it; what was moved stays where it is", proto::REBALANCE_CANCEL);
  CLI::App* rate = add("set-rate", "Limit moves to so many bytes per second; counts at once and for later",
                       proto::REBALANCE_SET);
  rate->add_option("rate", options->rate, "For example 64MiB")->required();
  CLI::App* automatic = window(
      add("auto", "Automatic balancing: on or off, from which difference, when", proto::REBALANCE_SET));
  automatic->add_option("state", options->automatic, "on or off")
      ->required()
      ->check(CLI::IsMember({"on", "off"}));
  automatic
      ->add_option("--threshold", options->threshold,
                   "Percent of capacity off the mean that start it (default 10)")
      ->check(CLI::Range(0.1, 100.0));
}

}  // namespace cairn::cli
