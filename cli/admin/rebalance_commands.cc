// rebalance plan, show, apply, status, pause, resume, cancel, set-rate, auto.
#include <fmt/format.h>
#include <google/protobuf/util/json_util.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <chrono>
#include <ctime>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <ostream>
#include <thread>

#include "cli/admin/admin.h"
#include "cli/admin/admin_client.h"
#include "cli/admin/status_text.h"
#include "cli/admin/target.h"
#include "cli/core/config.h"
#include "cli/core/format.h"
#include "common/daemon.h"

namespace cairn::cli {
namespace {

struct RebalanceOptions {
  double threshold = -1;
  std::string rate, window, automatic;
  std::string save, plan;  // files
  std::vector<std::string> only;
  std::string path, storage_class;  // of the scope
  bool watch = false, window_given = false;
};

constexpr double kDefaultThreshold = 1;  // percent

double PercentOf(uint64_t part, uint64_t whole) {
  return whole == 0 ? 0 : 100.0 * static_cast<double>(part) / static_cast<double>(whole);
}

std::string PlanText(const proto::RebalancePlan& plan) {
  std::string text = plan.scope().empty() ? "" : "Only " + Printable(plan.scope()) + "\n";
  text += fmt::format("{:<6} {:>10} {:>10} {:>7} {:>10} {:>7} {:>8} {:>8}\n", "SERVER", "CAPACITY",
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

// Plans and the goals they came from are kept in a file of the administrator's: what the master records of a
// plan that is applied is its goal (a threshold), and the moves are found from what is there then.
constexpr char kPlanKind[] = "cairn rebalance plan";
constexpr int kPlanFormat = 1;

struct SavedPlan {
  proto::RebalanceRequest request;
  proto::RebalanceResponse response;
  int64_t saved_s = 0;
};

// What ToJson wrote.
Status FromJson(const nlohmann::json& json, google::protobuf::Message* message) {
  const auto parsed = google::protobuf::util::JsonStringToMessage(json.dump(), message);
  if (parsed.ok()) return Status::Ok();
  return {StatusCode::kMalformed, std::string(parsed.message())};
}

Status SavePlan(const std::string& path, const SavedPlan& plan) {
  const nlohmann::json json{{"kind", kPlanKind},
                            {"format", kPlanFormat},
                            {"saved_unix_s", plan.saved_s},
                            {"request", ToJson(plan.request)},
                            {"response", ToJson(plan.response)}};
  return WriteFileAtomically(path, json.dump(2) + "\n");
}

Result<SavedPlan> LoadPlan(const std::string& path) {
  std::ifstream file(path);
  if (!file) return ErrnoStatus(errno, "open " + path);
  const auto json = nlohmann::json::parse(file, nullptr, false);
  if (!json.is_object() || json.value("kind", "") != kPlanKind || json.value("format", 0) != kPlanFormat)
    return Status(StatusCode::kMalformed, path + " is not a plan that `cairn rebalance plan --save` wrote");
  SavedPlan plan;
  plan.saved_s = json.value("saved_unix_s", int64_t{0});
  CAIRN_RETURN_IF_ERROR(FromJson(json["request"], &plan.request).WithContext(path));
  CAIRN_RETURN_IF_ERROR(FromJson(json["response"], &plan.response).WithContext(path));
  return plan;
}

std::string SavedPlanText(const SavedPlan& plan) {
  client::TimeSpec time;
  time.seconds = plan.saved_s;
  return fmt::format("Planned {} with threshold {:g} %:\n", IsoTime(time), plan.request.threshold_percent()) +
         PlanText(plan.response.plan());
}

Status ShowPlan(Context& context, const std::string& path) {
  CAIRN_ASSIGN_OR_RETURN(const SavedPlan plan, LoadPlan(path));
  CAIRN_ASSIGN_OR_RETURN(const auto masters, FindMasters(context));
  AdminClient admin(masters);
  proto::RebalanceRequest request = plan.request;
  request.set_action(proto::REBALANCE_PLAN);
  CAIRN_ASSIGN_OR_RETURN(const auto now, admin.Rebalance(request));
  if (context.json) {
    *context.out << nlohmann::json{{"saved_unix_s", plan.saved_s},
                                   {"saved", ToJson(plan.response.plan())},
                                   {"now", ToJson(now.plan())}}
                        .dump(2)
                 << std::endl;
  } else {
    *context.out << SavedPlanText(plan) << "\nThe same goal now:\n" << PlanText(now.plan()) << std::flush;
  }
  return Status::Ok();
}

// A master of an older version ignores a scope and would move between all servers, so it is asked before.
Status CheckScopeIsKnown(AdminClient& admin, proto::RebalanceRequest request) {
  if (request.scope().ByteSizeLong() == 0) return Status::Ok();
  request.set_action(proto::REBALANCE_PLAN);
  CAIRN_ASSIGN_OR_RETURN(const auto response, admin.Rebalance(request));
  if (!response.plan().scope().empty()) return Status::Ok();
  return {StatusCode::kVersionMismatch,
          "this master is too old to limit a rebalancing and would move between all servers; upgrade it first"};
}

Status Run(Context& context, proto::RebalanceRequest request, bool watch, const std::string& save = {}) {
  CAIRN_ASSIGN_OR_RETURN(const auto masters, FindMasters(context));
  AdminClient admin(context, masters);
  CAIRN_RETURN_IF_ERROR(CheckScopeIsKnown(admin, request));
  for (;;) {
    CAIRN_ASSIGN_OR_RETURN(const auto response, admin.Rebalance(request));
    const bool planned =
        request.action() == proto::REBALANCE_PLAN || request.action() == proto::REBALANCE_APPLY;
    if (!save.empty()) CAIRN_RETURN_IF_ERROR(SavePlan(save, {request, response, std::time(nullptr)}));
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
    request = RequestOf(proto::REBALANCE_STATUS);  // what follows only looks: nothing is applied again
  }
}

Status FillScope(Context& context, const RebalanceOptions& options, proto::RebalanceScope* scope) {
  CAIRN_ASSIGN_OR_RETURN(const auto masters, FindMasters(context));
  AdminClient admin(masters);
  CAIRN_RETURN_IF_ERROR(ParseServerSelection(admin, options.only, scope->mutable_servers(), scope->mutable_racks(),
                                             scope->mutable_zones()));
  scope->set_storage_class(options.storage_class);
  if (options.path.empty()) return Status::Ok();
  CAIRN_ASSIGN_OR_RETURN(const Location location, ParseTarget(options.path));
  Sessions sessions(context);
  CAIRN_ASSIGN_OR_RETURN(const client::Entry entry, ResolveTarget(sessions, location));
  scope->set_inode(entry.attr.inode.value());
  return Status::Ok();
}

// Options that plan, apply and set-rate share.
Status Fill(Context& context, const RebalanceOptions& options, proto::RebalanceRequest* request) {
  if (!options.plan.empty()) {
    CAIRN_ASSIGN_OR_RETURN(const SavedPlan plan, LoadPlan(options.plan));
    request->set_threshold_percent(plan.request.threshold_percent());
    if (plan.request.has_bytes_per_second()) request->set_bytes_per_second(plan.request.bytes_per_second());
    if (plan.request.has_scope()) *request->mutable_scope() = plan.request.scope();
    if (!context.json) *context.out << SavedPlanText(plan) << "\nApplied to what is there now:\n";
  } else if (request->action() == proto::REBALANCE_PLAN || request->action() == proto::REBALANCE_APPLY) {
    request->set_threshold_percent(kDefaultThreshold);
    CAIRN_RETURN_IF_ERROR(FillScope(context, options, request->mutable_scope()));
  }
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
      Status status = Fill(context, *options, &request);
      if (status.ok() && !options->automatic.empty()) request.set_automatic(options->automatic == "on");
      if (status.ok()) status = Run(context, request, options->watch, options->save);
      context.Report(status);
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
    command
        ->add_option("--only", options->only,
                     "Only between these servers: cs3,rack:B,zone:west (at least two of them)")
        ->delimiter(',');
    command->add_option("--path", options->path, "Only files below this directory move");
    command->add_option("--class", options->storage_class,
                        "Only files of this storage class move; only its disks are compared");
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
  tuning(add("plan", "What apply would do; changes nothing", proto::REBALANCE_PLAN))
      ->add_option("--save", options->save, "Also keep the plan in this file, for show and apply --plan");
  CLI::App* apply = window(tuning(
      add("apply", "Move until it is even; goes on after a restart of the master", proto::REBALANCE_APPLY)));
  apply->add_flag("--watch", options->watch, "Show the progress until it is done");
  CLI::Option* plan =
      apply->add_option("--plan", options->plan, "A plan that was saved: its threshold, rate and scope");
  for (const char* other : {"--threshold", "--only", "--path", "--class"}) plan->excludes(other);
  CLI::App* show = rebalance->add_subcommand("show", "A plan that was saved, beside what it would be now");
  show->add_option("plan", options->plan, "The file")->required();
  show->add_flag("--json", context.json, "For programs");
  show->callback([&context, options] { context.Report(ShowPlan(context, options->plan)); });
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
