// policy get, policy set.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>
#include <ostream>

#include "cli/admin/status_text.h"
#include "cli/admin/target.h"
#include "cli/core/context.h"
#include "cli/core/policy_text.h"

namespace cairn::cli {
namespace {

struct PolicyOptions {
  std::string path;
  std::string policy;
};

void Print(Context& context, const std::string& path, const client::PolicyPair& policy) {
  if (context.json) {
    const nlohmann::json json{
        {"path", path}, {"own", PolicyJson(policy.own)}, {"effective", PolicyJson(policy.effective)}};
    *context.out << json.dump(2) << std::endl;
    return;
  }
  const std::string own = PolicyText(policy.own);
  *context.out << fmt::format("{}\n  set here   {}\n  in effect  {}", path,
                              own.empty() ? "nothing (inherited)" : own, PolicyText(policy.effective))
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
  Print(context, location.path, policy);
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
  set->add_option(
         "policy", options->policy,
         "replicas=N,write_quorum=W,chunk_bytes=64MiB,failure_domain=server|rack|zone,storage_class=TAG; "
         "KEY=inherit clears one")
      ->required();
  set->add_flag("--json", context.json, "For programs");
  set->callback([&context, options] {
    const Status status = RunPolicy(context, *options, true);
    if (status.code() == StatusCode::kInvalidArgument) {
      context.FailWith(kExitUsage, Describe(status));
    } else if (!status.ok()) {
      context.Fail(status);
    }
  });
}

}  // namespace cairn::cli
