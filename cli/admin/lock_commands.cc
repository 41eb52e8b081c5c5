// lock ls, lock break.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>
#include <ostream>

#include "cli/admin/admin.h"
#include "cli/admin/admin_client.h"
#include "cli/admin/status_text.h"
#include "cli/admin/target.h"
#include "cli/core/config.h"
#include "cli/core/format.h"

namespace cairn::cli {
namespace {

std::string RangeText(const proto::LockStatus& lock) {
  if (lock.start() == 0 && lock.to_end()) return "whole file";
  if (lock.to_end()) return fmt::format("{}-", lock.start());
  return fmt::format("{}-{}", lock.start(), lock.end());
}

void PrintLock(Context& context, const proto::LockStatus& lock) {
  *context.out << fmt::format(
      "{:<8} {:<6} {:<9} {:<20} session {:<5} owner {:016x} pid {:<7} {}  {}\n",
      lock.waiting() ? "waiting" : "held", lock.kind(), lock.type(), RangeText(lock), lock.session(),
      lock.owner(), lock.pid(), Printable(lock.client_name()),
      lock.path().empty() ? fmt::format("inode {}", lock.inode()) : Printable(lock.path()));
}

struct Target {
  std::vector<std::string> masters;
  uint64_t inode = 0;
};

Result<Target> FindTarget(Context& context, const std::string& path) {
  Target target;
  if (path.empty()) {
    CAIRN_ASSIGN_OR_RETURN(target.masters, FindMasters(context));
    return target;
  }
  CAIRN_ASSIGN_OR_RETURN(const Location location, ParseTarget(path));
  CAIRN_ASSIGN_OR_RETURN(target.masters, MastersOf(context, location));
  Sessions sessions(context);
  CAIRN_ASSIGN_OR_RETURN(const client::Entry entry, ResolveTarget(sessions, location));
  target.inode = entry.attr.inode.value();
  return target;
}

Status List(Context& context, const std::string& path) {
  CAIRN_ASSIGN_OR_RETURN(const Target target, FindTarget(context, path));
  AdminClient admin(target.masters);
  proto::LocksRequest request;
  request.set_inode(target.inode);
  CAIRN_ASSIGN_OR_RETURN(const auto response, admin.Locks(request));
  if (context.json) {
    *context.out << ToJson(response).dump(2) << std::endl;
    return Status::Ok();
  }
  for (const auto& lock : response.locks()) PrintLock(context, lock);
  if (response.locks().empty()) *context.out << "No locks are held or waited for.\n";
  for (const auto& note : response.notes()) *context.err << "note: " << note << "\n";
  *context.out << std::flush;
  return Status::Ok();
}

struct BreakOptions {
  std::string path;
  uint64_t session = 0;
  std::string owner;
  bool all = false;
};

Status Break(Context& context, const BreakOptions& options) {
  if (!options.all && options.session == 0 && options.owner.empty()) {
    return {StatusCode::kInvalidArgument,
            "say whose locks: --session N, --owner HEX (both from `cairn lock ls`), or --all for every lock "
            "of the file"};
  }
  proto::BreakLocksRequest request;
  if (!options.owner.empty()) {
    try {
      size_t used = 0;
      request.set_owner(std::stoull(options.owner, &used, 16));
      if (used != options.owner.size()) throw std::invalid_argument(options.owner);
    } catch (const std::exception&) {
      return {StatusCode::kInvalidArgument, "--owner is the hexadecimal number that `cairn lock ls` shows"};
    }
  }
  CAIRN_ASSIGN_OR_RETURN(const Target target, FindTarget(context, options.path));
  request.set_inode(target.inode);
  request.set_session(options.session);
  request.set_operator_(UserName(getuid()));
  AdminClient admin(context, target.masters);
  CAIRN_ASSIGN_OR_RETURN(const auto response, admin.BreakLocks(request));
  if (context.json) {
    *context.out << ToJson(response).dump(2) << std::endl;
  } else {
    for (const auto& lock : response.broken()) PrintLock(context, lock);
    *context.out << fmt::format("{} locks broken; their owners get EIO from the file until they close it\n",
                                response.broken_size())
                 << std::flush;
  }
  if (response.broken().empty()) return {StatusCode::kNotFound, "no such lock is held"};
  return Status::Ok();
}

}  // namespace

void RegisterLockCommands(CLI::App& app, Context& context) {
  CLI::App* lock = app.add_subcommand("lock", "File locks of all clients");
  lock->require_subcommand(1);
  auto path = std::make_shared<std::string>();
  CLI::App* list = lock->add_subcommand("ls", "Locks that are held and waited for");
  list->add_option("path", *path, "One file (default: all)");
  list->add_flag("--json", context.json, "For programs");
  list->callback([&context, path] {
    if (const Status status = List(context, *path); !status.ok()) context.Fail(status);
  });
  auto options = std::make_shared<BreakOptions>();
  CLI::App* breaking =
      lock->add_subcommand("break", "Take locks away from owners that will not give them back");
  breaking->add_option("path", options->path, "The file")->required();
  breaking->add_option("--session", options->session, "Only those of this session");
  breaking->add_option("--owner", options->owner, "Only those of this owner (hexadecimal, as listed)");
  breaking->add_flag("--all", options->all, "Every lock of the file");
  breaking->add_flag("--json", context.json, "For programs");
  breaking->callback([&context, options] {
    if (const Status status = Break(context, *options); !status.ok()) context.Fail(status);
  });
}

}  // namespace cairn::cli
