#include "master/cluster/repair_manager.h"

#include <algorithm>

#include "common/log.h"
#include "master/cluster/replica_audit.h"
#include "master/core/core.h"
#include "master/core/delete_procedure.h"
#include "master/core/reconfigure_op.h"
#include "master/core/recover_op.h"
#include "master/state/chunk_queries.h"
#include "master/state/queries.h"

namespace cairn::master {
namespace {

constexpr int64_t kReserveNanos = 10 * kNanosPerSecond;  // clients buffer what is written meanwhile
constexpr size_t kLooksPerTick = 2000;
constexpr size_t kScanPage = 1000;
constexpr size_t kMaxLooks = 100'000;
constexpr int64_t kScanPeriodNanos = 60 * kNanosPerSecond;
constexpr int64_t kRetryBaseNanos = kNanosPerSecond;
constexpr int64_t kRetryMaxNanos = 60 * kNanosPerSecond;
constexpr size_t kDuePerPump = 64;
// Longer than a chunkserver takes to find a restarted master, shorter than a writer waits for a chunk whose
// interrupted procedure is run again.
constexpr int64_t kSettleNanos = 8 * kNanosPerSecond;

bool Carries(const proto::ChunkRecord& record, ServerId server) {
  return std::find(record.carriers().begin(), record.carriers().end(), server.value()) !=
         record.carriers().end();
}

}  // namespace

RepairManager::RepairManager(Core& core)
    : core_(core),
      queue_(core.options().repair_queue_capacity),
      limits_(static_cast<uint32_t>(core.options().max_repairs_per_server),
              static_cast<uint32_t>(core.options().max_repairs)) {}

void RepairManager::Look(ChunkId chunk) {
  if (looks_.size() >= kMaxLooks) {
    StartScan();
    return;
  }
  if (looking_.insert(chunk).second) looks_.push_back(chunk);
}

void RepairManager::Forget(ChunkId chunk) {
  queue_.Remove(chunk);
  unhealthy_.erase(chunk);
  attempts_.erase(chunk);
  lower_since_.erase(chunk);
  core_.audit().ForgetChunk(chunk);
}

void RepairManager::OnServerDown(ServerId server) { scans_.push_back({server, ChunkId{}}); }

void RepairManager::OnServerReported(ServerId server) {
  scans_.push_back({server, ChunkId{}});
  Pump();
}

void RepairManager::StartScan() {
  for (Scan& scan : scans_) {
    if (!scan.server) {
      scan.cursor = ChunkId{};
      return;
    }
  }
  scans_.push_back({ServerId{}, ChunkId{}});
}

bool RepairManager::Settled() {
  if (settled_) return true;
  if (started_ns_ == 0) started_ns_ = core_.now();
  settled_ = core_.now() - started_ns_ >= kSettleNanos;
  if (!settled_) {
    const auto& servers = core_.servers().all();
    settled_ =
        std::all_of(servers.begin(), servers.end(), [](const auto& entry) { return entry.second.reported; });
  }
  return settled_;
}

void RepairManager::Tick() {
  // Before that nearly everything looks lost, and copying would begin that nobody needs.
  if (!Settled()) return;
  if (core_.now() >= next_scan_ns_) {
    next_scan_ns_ = core_.now() + kScanPeriodNanos;
    StartScan();
  }
  RunLooks();
  RunScans();
  Pump();
}

void RepairManager::RunLooks() {
  for (size_t i = 0; i < kLooksPerTick && !looks_.empty(); ++i) {
    const ChunkId chunk = looks_.front();
    looks_.pop_front();
    looking_.erase(chunk);
    Evaluate(chunk, false);
  }
}

void RepairManager::RunScans() {
  if (scans_.empty()) return;
  Scan& scan = scans_.front();
  const std::vector<ChunkId> page = scan.server
                                        ? ChunksOfServer(core_.txn(), scan.server, scan.cursor, kScanPage)
                                        : AllChunks(core_.txn(), scan.cursor, kScanPage);
  for (ChunkId chunk : page) Evaluate(chunk, false);
  if (page.size() < kScanPage) {
    scans_.pop_front();
  } else {
    scan.cursor = page.back();
  }
}

ChunkFacts RepairManager::FactsOf(ChunkId chunk, const proto::ChunkRecord& record) const {
  ChunkFacts facts;
  facts.chunk = chunk;
  facts.open = record.state() == proto::CHUNK_OPEN;
  facts.recovering =
      core_.running().reconfigurations.contains(chunk) || record.state() == proto::CHUNK_DAMAGED;
  facts.replicas = record.replicas();
  facts.write_quorum = record.write_quorum();
  auto policy = EffectivePolicy(core_.txn(), InodeId(record.inode()));
  if (policy.ok()) {
    facts.replicas = policy->replicas();
    auto domain = ParseFailureDomain(policy->failure_domain());
    if (domain.ok()) facts.domain = *domain;
  }
  for (uint32_t value : record.members()) {
    MemberFacts member;
    member.server = ServerId(value);
    const ServerInfo* server = core_.servers().Find(member.server);
    const ReplicaDifference* difference = core_.audit().Find(chunk, member.server);
    member.carried = Carries(record, member.server);
    if (server == nullptr || !server->up) {
      member.condition = ReplicaCondition::kDown;
      member.down_since_ns = server == nullptr ? 0 : server->down_since_ns;
    } else if (difference != nullptr) {
      member.condition = difference->condition;
    } else if (!server->reported) {
      // Just back: what it has is known when its report is complete.
      member.condition = ReplicaCondition::kDown;
      member.down_since_ns = server->heard_ns;
    } else if (!facts.open && !member.carried) {
      member.condition = ReplicaCondition::kStale;
    }
    facts.members.push_back(member);
  }
  return facts;
}

RepairPlan RepairManager::PlanOf(ChunkId chunk, const proto::ChunkRecord& record) {
  auto policy = EffectivePolicy(core_.txn(), InodeId(record.inode()));
  const RepairOptions options{.grace_ns = core_.options().repair_grace_ms * kNanosPerMilli};
  return PlanRepair(FactsOf(chunk, record),
                    core_.servers().ForPlacement(policy.ok() ? policy->storage_class() : ""), options,
                    chunk.value(), core_.now());
}

bool RepairManager::Reserved(InodeId inode) const {
  const auto found = reserved_until_.find(inode);
  return found != reserved_until_.end() && core_.now() < found->second;
}

void RepairManager::SetHealth(ChunkId chunk, const Health& health) {
  if (!health.below_quorum && !health.below_policy && !health.damaged) {
    unhealthy_.erase(chunk);
  } else if (unhealthy_.size() < core_.options().repair_queue_capacity || unhealthy_.contains(chunk)) {
    unhealthy_[chunk] = health;
  }
}

void RepairManager::Evaluate(ChunkId chunk, bool may_start) {
  auto record = ChunkRecordOf(core_.txn(), chunk);
  if (!record || record->state() == proto::CHUNK_DELETING) {
    Forget(chunk);
    return;
  }
  if (busy_.contains(chunk)) return;
  if (ResumeProcedure(chunk, *record)) return;
  const ChunkFacts facts = FactsOf(chunk, *record);
  RepairPlan plan = PlanOf(chunk, *record);
  const bool open = record->state() == proto::CHUNK_OPEN;
  SetHealth(chunk, {.below_quorum = plan.valid_copies < facts.write_quorum,
                    .below_policy = plan.valid_copies < facts.replicas,
                    .damaged = record->state() == proto::CHUNK_DAMAGED});
  if (plan.action == RepairAction::kNothing || (plan.action == RepairAction::kWait && !open)) {
    reserved_until_.erase(InodeId(record->inode()));
  }
  if (plan.action == RepairAction::kNothing) {
    queue_.Remove(chunk);
    attempts_.erase(chunk);
    lower_since_.erase(chunk);
    return;
  }
  const uint32_t rank = RepairQueue::RankOf(plan, facts);
  if (open) {
    // Worth a recall of the writer's lease only if there is something to repair it with.
    auto [since, first] = lower_since_.try_emplace(chunk, core_.now());
    const int64_t due = since->second + core_.options().lower_writer_after_ms * kNanosPerMilli;
    queue_.Remove(chunk);
    queue_.Add(chunk, rank, std::max(due, core_.now() + (may_start ? kRetryBaseNanos : 0)));
    if (may_start && core_.now() >= due) LowerWriter(chunk, *record);
    return;
  }
  lower_since_.erase(chunk);
  if (plan.action == RepairAction::kWait) {
    queue_.Remove(chunk);
    queue_.Add(chunk, rank, plan.not_before_ns);
    return;
  }
  if (may_start && Execute(chunk, *record, plan)) return;
  // What it waited for may just have come; only the pause after a failed attempt is kept.
  if (!may_start && !attempts_.contains(chunk)) queue_.Remove(chunk);
  if (!queue_.Contains(chunk)) queue_.Add(chunk, rank, core_.now());
}

bool RepairManager::ResumeProcedure(ChunkId chunk, const proto::ChunkRecord& record) {
  if (ReconfigureOp::Running(core_, chunk) != nullptr || DeleteProcedure::Concerns(core_, chunk))
    return false;
  if (record.writer_lease() != 0 || record.state() == proto::CHUNK_OPEN) {
    const auto lease = WriteLeaseOf(core_.txn(), InodeId(record.inode()));
    if (!lease || lease->vanished) RecoverOp::Ensure(core_, InodeId(record.inode()));
    return false;
  }
  if (record.state() != proto::CHUNK_DAMAGED && record.pending_epoch() == 0) return false;
  ReconfigureRequest request;
  request.chunk = chunk;
  request.purpose = replication::ReconfigurePurpose::kRepair;
  request.reason = record.state() == proto::CHUNK_DAMAGED ? "damaged: waits for members that hold its data"
                                                          : "a procedure that was interrupted is run again";
  ReconfigureOp::Start(core_, std::move(request), nullptr);
  return true;
}

void RepairManager::LowerWriter(ChunkId chunk, const proto::ChunkRecord& record) {
  proto::ChunkRecord as_sealed = record;
  as_sealed.set_state(proto::CHUNK_SEALED);
  as_sealed.clear_carriers();
  for (uint32_t member : record.members()) as_sealed.add_carriers(member);
  const RepairPlan plan = PlanOf(chunk, as_sealed);
  if (plan.action != RepairAction::kSyncMember && plan.action != RepairAction::kReplace) return;
  const InodeId inode(record.inode());
  const SessionId writer = core_.leases().Writer(inode);
  if (!writer) return;
  reserved_until_[inode] = core_.now() + kReserveNanos;
  core_.SendRecalls(core_.leases().RecallOne(inode, writer, LeaseMode::kNone, false, core_.now()));
}

void RepairManager::Pump() {
  if (pumping_ || !settled_) return;
  pumping_ = true;
  for (ChunkId chunk : queue_.Due(core_.now(), kDuePerPump)) {
    if (!limits_.HasRoom()) break;
    Evaluate(chunk, true);
  }
  pumping_ = false;
}

bool RepairManager::Execute(ChunkId chunk, const proto::ChunkRecord& record, const RepairPlan& plan) {
  if (record.state() != proto::CHUNK_SEALED || core_.inodes().Locked(InodeId(record.inode())) ||
      DeleteProcedure::Concerns(core_, chunk) || plan.sources.empty()) {
    return false;
  }
  const std::vector<ServerId> places = {plan.target, plan.sources.front()};
  if (!limits_.Start(places)) return false;
  busy_.insert(chunk);
  queue_.Remove(chunk);
  SyncMember(chunk, record, plan);
  return true;
}

void RepairManager::SyncMember(ChunkId chunk, const proto::ChunkRecord& record, const RepairPlan& plan) {
  proto::ChunkCommand command;
  command.set_chunk(chunk.value());
  auto* sync = command.mutable_sync();
  // A fresh one: the replica may have promised more than the record's epoch (a floor after a power loss, or an attempt to change the
  // configuration that was given up), and would refuse that.
  sync->set_epoch(core_.ids().NextEpoch().value());
  *sync->mutable_base() = record.sealed();
  sync->set_length(record.length());
  sync->set_rate_bytes_per_s(core_.options().repair_bytes_per_second);
  for (ServerId source : plan.sources) {
    *sync->add_sources() = core_.servers().Address(*core_.servers().Find(source));
  }
  core_.history().Add(chunk, core_.wall(),
                      "sync of " + ToString(plan.target) + " to " + ToString(FromProto(record.sealed())) +
                          " from " + ToString(plan.sources.front()) + ": " + plan.reason);
  const std::vector<ServerId> places = {plan.target, plan.sources.front()};
  core_.commander().Send(
      plan.target, std::move(command), core_.now() + core_.options().sync_timeout_ms * kNanosPerMilli,
      [this, chunk, plan, places, sealed = FromProto(record.sealed())](const CommandOutcome& outcome) {
        CountTransfer(chunk, plan.target, outcome);
        if (!outcome.status.ok()) {
          CAIRN_LOG(Warning, "sync of chunk {} to {} failed: {}", ToString(chunk), ToString(plan.target),
                    outcome.status.ToString());
          // A source that could not give the bytes may be the one that is wrong.
          for (ServerId source : plan.sources) {
            if (outcome.status.code() == StatusCode::kCorrupt ||
                outcome.status.code() == StatusCode::kStaleReplica ||
                outcome.status.code() == StatusCode::kUnknownChunk) {
              core_.audit().Query(chunk, source);
            }
          }
          Finish(chunk, places, false);
          return;
        }
        if (plan.action == RepairAction::kReplace) {
          Replace(chunk, plan, places);
          return;
        }
        core_.audit().Clear(chunk, plan.target);
        const bool recorded = core_.audit().AddCarrier(chunk, sealed, plan.target);
        if (recorded) ++counters_.repaired_chunks;
        Finish(chunk, places, recorded);
      });
}

void RepairManager::Replace(ChunkId chunk, const RepairPlan& plan, const std::vector<ServerId>& places) {
  auto record = ChunkRecordOf(core_.txn(), chunk);
  if (!record || record->state() != proto::CHUNK_SEALED || ReconfigureOp::Running(core_, chunk) != nullptr) {
    Finish(chunk, places, false);  // changed meanwhile; the copy is surplus, and erased as such
    return;
  }
  ReconfigureRequest request;
  request.chunk = chunk;
  request.purpose = replication::ReconfigurePurpose::kRepair;
  request.members = plan.members;
  request.reason = plan.reason;
  request.give_up_ns = core_.now() + core_.options().write_timeout_ms * kNanosPerMilli;
  ReconfigureOp::Start(core_, std::move(request), [this, chunk, places](const Status& status) {
    if (status.ok()) {
      ++counters_.repaired_chunks;
    } else {
      CAIRN_LOG(Warning, "replacement of a member of chunk {} failed: {}", ToString(chunk),
                status.ToString());
    }
    Finish(chunk, places, status.ok());
  });
}

void RepairManager::Finish(ChunkId chunk, const std::vector<ServerId>& places, bool ok) {
  busy_.erase(chunk);
  limits_.Finish(places);
  if (auto record = ChunkRecordOf(core_.txn(), chunk)) reserved_until_.erase(InodeId(record->inode()));
  if (ok) {
    attempts_.erase(chunk);
    Look(chunk);
  } else {
    const uint32_t attempt = std::min<uint32_t>(attempts_[chunk]++, 6);
    queue_.Add(chunk, 0, core_.now() + std::min(kRetryMaxNanos, kRetryBaseNanos << attempt));
  }
  Pump();
}

void RepairManager::CountTransfer(ChunkId chunk, ServerId server, const CommandOutcome& outcome) {
  counters_.repaired_bytes += outcome.bytes_transferred;
  counters_.repaired_bytes_differing += outcome.bytes_differing;
  core_.history().Add(chunk, core_.wall(),
                      "sync of " + ToString(server) + ": " + outcome.status.ToString() + ", " +
                          std::to_string(outcome.bytes_transferred) + " bytes sent, " +
                          std::to_string(outcome.bytes_differing) + " differed");
}

RepairManager::Counters RepairManager::counters() const {
  Counters result = counters_;
  for (const auto& [chunk, health] : unhealthy_) {
    result.below_quorum += health.below_quorum;
    result.below_policy += health.below_policy;
    result.damaged += health.damaged;
  }
  result.running = limits_.running();
  result.queued = queue_.size();
  return result;
}

std::string RepairManager::NextAttempt(ChunkId chunk) {
  if (busy_.contains(chunk)) return "a repair is running";
  if (const ReconfigureOp* running = ReconfigureOp::Running(core_, chunk)) return running->WaitReason();
  const auto when = queue_.NotBefore(chunk);
  if (!when) return "";
  auto record = ChunkRecordOf(core_.txn(), chunk);
  const std::string reason = record ? PlanOf(chunk, *record).reason : "";
  return (*when <= core_.now() ? std::string("as soon as a place is free")
                               : "in " + FormatSeconds(*when - core_.now())) +
         (reason.empty() ? "" : ": " + reason);
}

}  // namespace cairn::master
