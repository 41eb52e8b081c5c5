// fsck.
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
#include "cli/core/format.h"

namespace cairn::cli {
namespace {

// A repair may bring other damage to light, which the next check finds. Damage that repairs itself in circles would be a defect.
constexpr int kMaxPasses = 8;

struct FsckOptions {
  std::string path = "/";
  bool repair = false;
  bool yes = false;
};

struct Pass {
  uint64_t inodes = 0;
  uint64_t chunks = 0;
  uint64_t problems = 0;
  uint64_t repaired = 0;      // or, in a preview, repairable
  uint64_t not_repaired = 0;
  nlohmann::json list = nlohmann::json::array();
};

std::string Subject(const proto::FsckProblem& problem) {
  const std::string inode = problem.path().empty() ? fmt::format("inode {}", problem.inode()) : Printable(problem.path());
  return fmt::format("{}: {}{}", problem.kind(), inode, problem.chunk() == 0 ? "" : fmt::format(", chunk {}", problem.chunk()));
}

const char* OutcomeText(proto::FsckOutcome outcome) {
  switch (outcome) {
    case proto::FSCK_REPAIRABLE:
      return "would be repaired";
    case proto::FSCK_REPAIRED:
      return "repaired";
    case proto::FSCK_NOT_REPAIRABLE:
      return "not repairable";
    case proto::FSCK_GONE:
      return "nothing to do";
    default:
      return "not tried";
  }
}

void Tell(Context& context, const proto::FsckProblem& problem, Pass* pass) {
  if (problem.outcome() == proto::FSCK_REPAIRED || problem.outcome() == proto::FSCK_REPAIRABLE) ++pass->repaired;
  if (problem.outcome() == proto::FSCK_NOT_REPAIRABLE) ++pass->not_repaired;
  if (context.json) {
    pass->list.push_back(ToJson(problem));
    pass->list.back().erase("record");  // bytes of the store's keys
    return;
  }
  *context.out << Subject(problem) << ": " << problem.detail() << "\n";
  if (problem.outcome() != proto::FSCK_UNTRIED)
    *context.out << "    " << OutcomeText(problem.outcome()) << ": " << problem.repair() << "\n";
}

Result<Pass> RunPass(Context& context, AdminClient& admin, proto::FsckRequest request) {
  Pass pass;
  do {
    CAIRN_ASSIGN_OR_RETURN(const auto page, admin.Fsck(request));
    pass.inodes += page.inodes_checked();
    pass.chunks += page.chunks_checked();
    pass.problems += static_cast<uint64_t>(page.problems_size());
    if (request.mode() == proto::FSCK_CHECK) {
      for (const auto& problem : page.problems()) Tell(context, problem, &pass);
    }
    for (const auto& problem : page.repairs()) Tell(context, problem, &pass);
    request.set_cursor(page.cursor());
    if (Interrupted()) return Status(StatusCode::kInterrupted, "interrupted");
  } while (!request.cursor().empty());
  return pass;
}

void Summarize(Context& context, const FsckOptions& options, const Pass& pass, uint64_t repaired, const nlohmann::json& list) {
  if (context.json) {
    nlohmann::json result{{"inodes_checked", pass.inodes}, {"chunks_checked", pass.chunks}, {"problems", list}};
    if (options.repair) result[options.yes ? "repaired" : "repairable"] = options.yes ? repaired : pass.repaired;
    *context.out << result.dump(2) << std::endl;
    return;
  }
  std::string text = fmt::format("{}: {} inodes and {} chunks checked, {} problem{}", options.path, pass.inodes, pass.chunks,
                                 pass.problems, pass.problems == 1 ? "" : "s");
  if (options.repair && options.yes) text += fmt::format(" left, {} repaired", repaired);
  if (options.repair && !options.yes && pass.problems > 0)
    text += fmt::format(", {} of them repairable. Nothing was changed: --repair --yes repairs", pass.repaired);
  *context.out << text << std::endl;
}

Status Fsck(Context& context, const FsckOptions& options) {
  CAIRN_ASSIGN_OR_RETURN(const Location location, ParseTarget(options.path));
  CAIRN_ASSIGN_OR_RETURN(const auto masters, MastersOf(context, location));
  proto::FsckRequest request;
  {
    Sessions sessions(context);
    CAIRN_ASSIGN_OR_RETURN(const client::Entry entry, ResolveTarget(sessions, location));
    request.set_inode(entry.attr.inode.value());
  }
  request.set_max_items(1000);
  request.set_operator_(UserName(getuid()));
  if (options.repair) request.set_mode(options.yes ? proto::FSCK_REPAIR : proto::FSCK_PREVIEW);
  AdminClient admin(context, masters);
  uint64_t repaired = 0;
  nlohmann::json list = nlohmann::json::array();
  Pass pass;
  for (int n = 0; n < kMaxPasses; ++n) {
    CAIRN_ASSIGN_OR_RETURN(pass, RunPass(context, admin, request));
    for (auto& problem : pass.list) list.push_back(std::move(problem));
    if (request.mode() != proto::FSCK_REPAIR || pass.repaired == 0) break;
    repaired += pass.repaired;
  }
  FsckOptions shown = options;
  shown.path = location.path;
  Summarize(context, shown, pass, repaired, list);
  if (pass.problems != 0) context.exit_code = kExitMismatch;
  return Status::Ok();
}

}  // namespace

void RegisterFsckCommand(CLI::App& app, Context& context) {
  auto options = std::make_shared<FsckOptions>();
  CLI::App* fsck = app.add_subcommand(
      "fsck", "Check names, inodes, chunks and replicas below a path while the cluster runs (exit code 6: problems are left)");
  fsck->add_option("path", options->path, "Path of the cluster, or below a mount (default /; only / can be repaired)");
  CLI::Option* repair = fsck->add_flag("--repair", options->repair, "Say for each problem what a repair would do, or why it cannot be decided");
  fsck->add_flag("--yes", options->yes, "With --repair: do it, and check until nothing more can be repaired")->needs(repair);
  fsck->add_flag("--json", context.json, "For programs");
  fsck->callback([&context, options] {
    if (const Status status = Fsck(context, *options); !status.ok()) context.Fail(status);
  });
}

}  // namespace cairn::cli
