#include "master/core/repair_metadata_op.h"

#include "common/log.h"
#include "master/cluster/event_log.h"
#include "master/core/core.h"
#include "master/core/delete_procedure.h"
#include "master/core/reconfigure_op.h"

namespace cairn::master {
namespace {

constexpr int64_t kBusyNanos = 200 * kNanosPerMilli;

}  // namespace

void SetOutcome(const proto::Reply& reply, proto::FsckOutcome done, proto::FsckProblem* problem) {
  const auto code = static_cast<StatusCode>(reply.status().code());
  problem->set_outcome(code == StatusCode::kOk         ? done
                       : code == StatusCode::kNotFound ? proto::FSCK_GONE
                                                       : proto::FSCK_NOT_REPAIRABLE);
  problem->set_repair(reply.status().message());
}

bool RepairMetadataOp::Unimpeded(Core& core, const PlannedRepair& repair, const Effects& effects) {
  if (core.sessions().InGrace(core.now())) {
    core.WaitForGrace(id);
    return false;
  }
  const ChunkId chunk(repair.problem.chunk());
  if (chunk && (ReconfigureOp::Running(core, chunk) != nullptr || DeleteProcedure::Concerns(core, chunk))) {
    core.timers().At(core.now() + kBusyNanos, [&core, me = id] { core.Wake(me); });
    return false;
  }
  std::vector<InodeId> touched = effects.inodes;
  touched.insert(touched.end(), effects.directories.begin(), effects.directories.end());
  bool free = true;
  for (InodeId inode : touched) {
    if (core.inodes().LockedByOther(inode, id)) {
      core.inodes().Wait(inode, id);
      free = false;
    } else if (!core.OthersAtMost(inode, SessionId{}, LeaseMode::kNone, false, id)) {
      free = false;
    }
  }
  return free;
}

void RepairMetadataOp::Apply(Core& core, PlannedRepair& repair, proto::LogCommand command) {
  command.set_new_inode(core.ids().NextInode().value());
  const ApplyResult result = core.Apply(command);
  SetOutcome(result.reply, proto::FSCK_REPAIRED, &repair.problem);
  for (InodeId inode : result.effects.inodes) core.WakeInode(inode);
  for (InodeId inode : result.effects.directories) core.WakeInode(inode);
  if (!result.ok()) return;
  const proto::FsckProblem& problem = repair.problem;
  const std::string text = problem.kind() + " " + (problem.path().empty() ? "inode " + std::to_string(problem.inode()) : problem.path()) +
                           ": " + problem.detail() + "; repaired: " + problem.repair();
  CAIRN_LOG(Warning, "by order of {}: {}", by_, text);
  core.events().Add(Severity::kWarning, "metadata.repaired", text,
                    {.chunk = ChunkId(problem.chunk()), .inode = InodeId(problem.inode()), .by = by_});
}

Progress RepairMetadataOp::Step(Core& core) {
  while (next_ < repairs_.size()) {
    PlannedRepair& repair = repairs_[next_];
    proto::LogCommand command;
    *command.mutable_repair_metadata() = repair.command;
    command.mutable_repair_metadata()->set_operator_(by_);
    command.set_new_epoch(core.ids().NextEpoch().value());
    const ApplyResult preview = core.Preview(command);
    if (preview.ok()) {
      if (!Unimpeded(core, repair, preview.effects)) return Progress::kWaiting;
      Apply(core, repair, std::move(command));
    } else {
      SetOutcome(preview.reply, proto::FSCK_REPAIRED, &repair.problem);
    }
    ++next_;
  }
  std::vector<proto::FsckProblem> problems;
  problems.reserve(repairs_.size());
  for (PlannedRepair& repair : repairs_) problems.push_back(std::move(repair.problem));
  // Who is told that it was repaired finds it so after a power cut.
  core.WhenDurable(core.log_index(), [done = done_, problems = std::move(problems)] { done(problems); });
  return Progress::kFinished;
}

}  // namespace cairn::master
