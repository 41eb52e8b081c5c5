// policy get, policy set, policy plan.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <ostream>

#include "cli/admin/admin_client.h"
#include "cli/admin/policy_plan.h"
#include "cli/admin/status_text.h"
#include "cli/admin/target.h"
#include "cli/core/config.h"
#include "cli/core/context.h"
#include "cli/core/format.h"
#include "cli/core/policy_text.h"

namespace cairn::cli {
namespace {

struct PolicyOptions {
  std::string path;
  std::string policy;
};

// Where each value in effect comes from: the nearest directory on the way up that sets it.
std::map<std::string, std::string> SourcesOf(const std::vector<PolicyOrigin>& origins) {
  std::map<std::string, std::string> sources;
  for (const PolicyOrigin& origin : origins) {
    for (const auto& [key, value] : PolicyFields(origin.own)) sources.emplace(key, origin.path);
    // A write quorum belongs to the number of replicas that it was set with, or is its majority.
    if (origin.own.replicas != 0) sources.emplace("write_quorum", origin.path);
  }
  return sources;
}

std::string SourcesText(const std::map<std::string, std::string>& sources, const client::Policy& effective) {
  std::string text;
  for (const auto& [key, value] : PolicyFields(effective)) {
    const auto source = sources.find(key);
    text += (text.empty() ? "" : ", ") + key + " from " + (source == sources.end() ? std::string("the defaults") : source->second);
  }
  return text;
}

void Print(Context& context, const std::string& path, const client::PolicyPair& policy,
           const std::map<std::string, std::string>& sources) {
  if (context.json) {
    const nlohmann::json json{
        {"path", path}, {"own", PolicyJson(policy.own)}, {"effective", PolicyJson(policy.effective)}, {"set_at", sources}};
    *context.out << json.dump(2) << std::endl;
    return;
  }
  const std::string own = PolicyText(policy.own);
  *context.out << fmt::format("{}\n  set here   {}\n  in effect  {}\n             {}", path,
                              own.empty() ? "nothing (inherited)" : own, PolicyText(policy.effective),
                              SourcesText(sources, policy.effective))
               << std::endl;
}

Status RunPolicy(Context& context, const PolicyOptions& options, bool set) {
  CAIRN_ASSIGN_OR_RETURN(const Location location, ParseTarget(options.path));
  Sessions sessions(context);
  CAIRN_ASSIGN_OR_RETURN(const client::Entry entry, ResolveTarget(sessions, location));
  if (entry.attr.type != client::FileType::kDirectory) {
    return {StatusCode::kNotDirectory, location.path + ": policies are set on directories"};
  }
  CAIRN_ASSIGN_OR_RETURN(client::Client * session, sessions.Get(location));
  const client::Caller caller = CurrentCaller();
  CAIRN_ASSIGN_OR_RETURN(client::PolicyPair policy, session->GetPolicy(caller, entry.attr.inode));
  if (set) {
    CAIRN_ASSIGN_OR_RETURN(const client::Policy wanted, ParsePolicy(options.policy, policy.own));
    CAIRN_ASSIGN_OR_RETURN(policy, session->SetPolicy(caller, entry.attr.inode, wanted));
  }
  CAIRN_ASSIGN_OR_RETURN(const auto origins, PolicyOrigins(*session, location.path));
  Print(context, location.path, policy, SourcesOf(origins));
  return Status::Ok();
}

}  // namespace

namespace {

// The numbers that the cluster itself measured stand in where the administrator gives none.
Status ShowPlan(Context& context, PlanAssumptions assumptions, bool repair_given, bool servers_given,
                bool width_given) {
  std::vector<std::string> notes;
  auto masters = FindMasters(context);
  auto status =
      masters.ok() ? AdminClient(*masters).ClusterStatus() : Result<proto::StatusResponse>(masters.status());
  std::string current;
  if (status.ok()) {
    if (!servers_given) assumptions.servers = static_cast<uint32_t>(status->servers_size());
    uint64_t fullest = 0;
    for (const auto& server : status->servers()) {
      uint64_t used = 0;
      for (const auto& disk : server.disks()) used += disk.used_bytes();
      fullest = std::max(fullest, used);
    }
    if (!repair_given && status->copy_bytes_per_second() > 0 && fullest > 0) {
      assumptions.repair_hours =
          std::max(1.0 / 60, static_cast<double>(fullest) /
                                 static_cast<double>(status->copy_bytes_per_second()) / 3600);
      notes.push_back(fmt::format("repair time: the fullest server's {} at the {}/s measured here",
                                  HumanBytes(fullest), HumanBytes(status->copy_bytes_per_second())));
    }
    if (!width_given) assumptions.scatter_width = status->root_policy().scatter_width();
    current = fmt::format("{}/{}", status->root_policy().replicas(), status->root_policy().write_quorum());
  } else {
    notes.push_back("no cluster answered, so nothing here is measured: " + status.status().message());
  }
  const std::vector<PlanLine> lines = PlanAll(assumptions);
  if (context.json) {
    nlohmann::json list = nlohmann::json::array();
    for (const PlanLine& line : lines) {
      list.push_back({{"replicas", line.replicas},
                      {"write_quorum", line.write_quorum},
                      {"write_availability", line.write_availability},
                      {"read_availability", line.read_availability},
                      {"loss_per_year", line.loss_per_year},
                      {"losses_survived", line.survives},
                      {"server_sets", line.sets},
                      {"loss_of_n_at_once", line.loss_at_once}});
    }
    const nlohmann::json json{{"servers", assumptions.servers},
                              {"failures_per_server_year", assumptions.failures_per_server_year},
                              {"downs_per_server_year", assumptions.downs_per_server_year},
                              {"down_hours", assumptions.down_hours},
                              {"repair_hours", assumptions.repair_hours},
                              {"scatter_width", assumptions.scatter_width},
                              {"policies", list}};
    *context.out << json.dump(2) << std::endl;
    return Status::Ok();
  }
  *context.out << fmt::format(
      "Assumed: {} servers that fail independently, {:g} losses of a server's data and {:g} outages of {:g} "
      "h per server and "
      "year,\n         {:.3g} h until a lost server's data is copied again. Racks and power that servers "
      "share make it worse.\n",
      assumptions.servers, assumptions.failures_per_server_year, assumptions.downs_per_server_year,
      assumptions.down_hours, assumptions.repair_hours);
  if (assumptions.scatter_width > 0) {
    notes.push_back(fmt::format("copysets: each server shares chunks with at most {} others, which alone copy again what it had",
                                assumptions.scatter_width));
  }
  for (const std::string& note : notes) *context.out << "         " << note << "\n";
  *context.out << fmt::format("{:<8} {:>3} {:>3} {:>18} {:>18} {:>16} {:>20} {:>18}\n", "", "N", "W",
                              "writes possible", "reads possible", "loss per year", "sudden losses",
                              "N at once lose");
  for (const PlanLine& line : lines) {
    const bool now = current == fmt::format("{}/{}", line.replicas, line.write_quorum);
    *context.out << fmt::format("{:<8} {:>3} {:>3} {:>16.6f} % {:>16.6f} % {:>16.3g} {:>11} survived {:>16.3g} %\n",
                                now ? "root ->" : "", line.replicas, line.write_quorum,
                                line.write_availability * 100, line.read_availability * 100,
                                line.loss_per_year, line.survives, line.loss_at_once * 100);
  }
  *context.out << std::flush;
  return Status::Ok();
}

}  // namespace

void RegisterPolicyCommands(CLI::App& app, Context& context) {
  CLI::App* policy = app.add_subcommand("policy", "How files below a directory are stored");
  policy->require_subcommand(1);
  auto options = std::make_shared<PolicyOptions>();
  CLI::App* get = policy->add_subcommand("get", "Show what is set on a directory and what it inherits");
  get->add_option("path", options->path, "Directory")->required();
  get->add_flag("--json", context.json, "For programs");
  get->callback([&context, options] {
    if (const Status status = RunPolicy(context, *options, false); !status.ok()) context.Fail(status);
  });
  CLI::App* set = policy->add_subcommand("set", "Change it; only the administrator (uid 0) may");
  set->add_option("path", options->path, "Directory")->required();
  set->add_option("policy", options->policy,
                  "replicas=N,write_quorum=W,chunk_bytes=64MiB,failure_domain=server|rack|zone,storage_class="
                  "TAG,scatter_width=4|off,trash=24h|off; "
                  "KEY=inherit clears one")
      ->required();
  set->add_flag("--json", context.json, "For programs");
  set->callback([&context, options] {
    context.Report(RunPolicy(context, *options, true));
  });

  auto assumptions = std::make_shared<PlanAssumptions>();
  CLI::App* plan = policy->add_subcommand(
      "plan",
      "Availability and chance of loss for each number of replicas and write quorum, with the assumptions");
  CLI::Option* servers =
      plan->add_option("--servers", assumptions->servers, "How many (default: those there are)")
          ->check(CLI::Range(1, 100'000));
  plan->add_option("--losses-per-year", assumptions->failures_per_server_year, "Of one server's data")
      ->check(CLI::Range(0.0, 1000.0))
      ->capture_default_str();
  plan->add_option("--outages-per-year", assumptions->downs_per_server_year, "Of one server, its data kept")
      ->check(CLI::Range(0.0, 100'000.0))
      ->capture_default_str();
  plan->add_option("--outage-hours", assumptions->down_hours, "How long one lasts")
      ->check(CLI::Range(0.0, 8766.0))
      ->capture_default_str();
  CLI::Option* repair =
      plan->add_option("--repair-hours", assumptions->repair_hours,
                       "Until a lost server's data is copied again (default: measured, otherwise 1)")
          ->check(CLI::Range(0.0, 8766.0));
  CLI::Option* width =
      plan->add_option("--scatter-width", assumptions->scatter_width,
                       "Copysets: with how many others a server shares chunks; 0: all (default: the root's policy)")
          ->check(CLI::Range(0, 1000));
  plan->add_flag("--json", context.json, "For programs");
  plan->callback([&context, assumptions, servers, repair, width] {
    const Status status =
        ShowPlan(context, *assumptions, repair->count() > 0, servers->count() > 0, width->count() > 0);
    if (!status.ok()) context.Fail(status);
  });
}

}  // namespace cairn::cli
