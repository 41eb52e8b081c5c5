// RepairManager: chunks that lack a copy while they are being written.
//
// A member that the writer left out and that is back is taken in again by the configuration procedure, while the writer goes on:
// fence, bring it to the base, activate, and the writer sends on to all. What it writes meanwhile it buffers; only those who wait
// for the quorum (fsync, close) wait. That is bounded: a member that is not at the base after kRejoinNanos is left out of the new
// epoch too, and RejoinPacer says when the next attempt may come.
//
// Whatever needs another server, and what did not succeed that way, is done the long way: the writer's lease is recalled, the chunk
// is sealed, and repaired like any other before it is opened again.
#include <algorithm>

#include "common/log.h"
#include "master/cluster/repair_manager.h"
#include "master/cluster/replica_audit.h"
#include "master/core/core.h"
#include "master/core/delete_procedure.h"
#include "master/core/reconfigure_op.h"
#include "master/state/chunk_queries.h"

namespace cairn::master {
namespace {

constexpr int64_t kReserveNanos = 10 * kNanosPerSecond;  // clients buffer what is written meanwhile
constexpr int64_t kRejoinNanos = kNanosPerSecond;

}  // namespace

// What there would be to do if all its members had confirmed the seal, but for those of whom something else is known.
RepairPlan RepairManager::PlanAsSealed(ChunkId chunk, const proto::ChunkRecord& record) {
  proto::ChunkRecord as_sealed = record;
  as_sealed.set_state(proto::CHUNK_SEALED);
  as_sealed.clear_carriers();
  for (uint32_t member : record.members()) as_sealed.add_carriers(member);
  return PlanOf(chunk, as_sealed);
}

void RepairManager::LowerWriter(ChunkId chunk, const proto::ChunkRecord& record) {
  const RepairPlan plan = PlanAsSealed(chunk, record);
  if (plan.action == RepairAction::kNothing || plan.action == RepairAction::kWait) return;
  const InodeId inode(record.inode());
  const SessionId writer = core_.leases().Writer(inode);
  if (!writer) return;
  reserved_until_[inode] = core_.now() + kReserveNanos;
  core_.SendRecalls(core_.leases().RecallOne(inode, writer, LeaseMode::kNone, false, core_.now()));
}

void RepairManager::OnSealed(ChunkId chunk) {
  if (!settled_ || !lower_since_.contains(chunk)) {
    Look(chunk);
    return;
  }
  Evaluate(chunk, true);
}

bool RepairManager::Reserved(InodeId inode) const {
  const auto found = reserved_until_.find(inode);
  return found != reserved_until_.end() && core_.now() < found->second;
}

std::optional<RepairPlan> RepairManager::PlanRejoin(ChunkId chunk, const proto::ChunkRecord& record) {
  const auto lease = WriteLeaseOf(core_.txn(), InodeId(record.inode()));
  if (record.writer_lease() == 0 || !lease || lease->vanished) return std::nullopt;
  RepairPlan plan = PlanAsSealed(chunk, record);
  if (plan.action != RepairAction::kSyncMember) return std::nullopt;
  return plan;
}

bool RepairManager::StartRejoin(ChunkId chunk, const proto::ChunkRecord& record, const RepairPlan& plan) {
  const InodeId inode(record.inode());
  const SessionId writer = core_.leases().Writer(inode);
  const HeldLease* held = writer ? core_.leases().Find(inode, writer) : nullptr;
  if (held == nullptr || held->recalled) return false;  // about to be sealed
  if (core_.now() < rejoins_.NextTime(chunk) || core_.inodes().Locked(inode) || plan.sources.empty() ||
      DeleteProcedure::Concerns(core_, chunk) || ReconfigureOp::Running(core_, chunk) != nullptr) {
    return false;
  }
  const auto places = TakePlaces(plan, record.length());
  if (!places) return false;
  busy_.insert(chunk);
  queue_.Remove(chunk);
  ReconfigureRequest request;
  request.chunk = chunk;
  request.purpose = replication::ReconfigurePurpose::kLiveWriter;
  for (uint32_t member : record.members()) {
    request.members.push_back(ServerId(member));
    if (core_.servers().IsUp(ServerId(member))) ++request.min_carriers;
  }
  request.wait_for_all_until_ns = core_.now() + kRejoinNanos;
  request.give_up_ns = core_.now() + core_.options().write_timeout_ms * kNanosPerMilli;
  request.reason = plan.reason + ": it is taken back while the chunk is written";
  ReconfigureOp::Start(core_, std::move(request), [this, chunk, target = plan.target, places = *places](const Status& status) {
    FinishRejoin(chunk, target, places, status);
  });
  return true;
}

void RepairManager::FinishRejoin(ChunkId chunk, ServerId target, const Places& places, const Status& status) {
  busy_.erase(chunk);
  limits_.Finish(places.servers, places.weight);
  rejoins_.Ended(chunk, core_.now());
  const bool back = status.ok() && core_.audit().Find(chunk, target) == nullptr;
  if (back) {
    ++counters_.repaired_chunks;
    ++counters_.rejoined_members;
  } else {
    CAIRN_LOG(Warning, "{} could not be taken back into chunk {} while it is written: {}", ToString(target),
              ToString(chunk), status.ok() ? "it was not at the base in time" : status.ToString());
  }
  Look(chunk);
  Pump();
}

}  // namespace cairn::master
