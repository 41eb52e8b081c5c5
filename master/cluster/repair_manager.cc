#include "master/cluster/repair_manager.h"

#include <algorithm>

#include "common/log.h"
#include "master/cluster/replica_audit.h"
#include "master/core/core.h"
#include "master/core/delete_procedure.h"
#include "master/core/operation.h"
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

// Has an inode to itself while a chunk of it is copied that its writer would open again at once: without
// that, a file that is written all the time would never be moved. Short, because the writer waits. Taken in
// the very step that seals the chunk, before those who wait for the lease are looked at. Reserved() is no
// substitute: it ends with the next healthy chunk of the file.
class HoldInodeOp final : public Operation {
 public:
  static OperationId Start(Core& core, InodeId inode) {
    auto op = std::make_unique<HoldInodeOp>(inode);
    const OperationId id = core.StartOperation(std::move(op));
    core.inodes().Lock(inode, id);
    core.timers().At(core.now() + kHoldNanos, [&core, id] { Release(core, id); });
    return id;
  }
  static void Release(Core& core, OperationId id) {
    auto* op = core.FindOperation<HoldInodeOp>(id);
    if (op == nullptr || op->released_) return;
    op->released_ = true;
    core.inodes().Unlock(op->inode_, id);
    core.WakeInode(op->inode_);
    core.Wake(id);
  }
  explicit HoldInodeOp(InodeId inode) : inode_(inode) {}
  Progress Step(Core&) override { return released_ ? Progress::kFinished : Progress::kWaiting; }
  std::string WaitReason() const override {
    return "a chunk of inode " + ToString(inode_) + " is being copied elsewhere";
  }

 private:
  static constexpr int64_t kHoldNanos = 3 * kNanosPerSecond;
  const InodeId inode_;
  bool released_ = false;
};

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

void RepairManager::OnServerUp() {
  const Present present = CountServers();
  hold_.OnChange(core_.now(), present.away, present.in_service);
}

void RepairManager::OnServerDown(ServerId server) {
  const Present present = CountServers();
  hold_.OnChange(core_.now(), present.away, present.in_service);
  scans_.push_back({server, ChunkId{}});
}

void RepairManager::OnServerReported(ServerId server) {
  refusing_.Forget(server);
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

RepairManager::Present RepairManager::CountServers() const {
  Present present;
  for (const auto& [id, server] : core_.servers().all()) {
    if (server.mode == proto::SERVER_REMOVED) continue;
    ++present.in_service;
    if (!server.reported) ++present.away;
  }
  return present;
}

void RepairManager::MeasureSpeed() {
  constexpr double kFollowSeconds = 30;
  const double passed = static_cast<double>(core_.now() - measured_ns_) / 1e9;
  const uint64_t bytes = counters_.repaired_bytes - measured_bytes_;
  measured_bytes_ = counters_.repaired_bytes;
  if (measured_ns_ != 0 && (bytes > 0 || limits_.running() > 0)) {
    busy_seconds_ += passed;
    busy_bytes_ += static_cast<double>(bytes);
    if (busy_seconds_ > kFollowSeconds) {
      busy_seconds_ /= 2;
      busy_bytes_ /= 2;
    }
  }
  measured_ns_ = core_.now();
}

void RepairManager::Tick() {
  MeasureSpeed();
  if (!hold_.Over(core_.now(), CountServers().away)) return;
  std::erase_if(reserved_until_,
                [&](const auto& entry) { return entry.second <= core_.now(); });  // of files that are gone
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
    facts.wanted_quorum = policy->write_quorum();
    facts.scatter_width = policy->scatter_width();
    auto domain = ParseFailureDomain(policy->failure_domain());
    if (domain.ok()) facts.domain = *domain;
  }
  for (uint32_t value : record.members()) {
    MemberFacts member;
    member.server = ServerId(value);
    const ServerInfo* server = core_.servers().Find(member.server);
    const ReplicaDifference* difference = core_.audit().Find(chunk, member.server);
    member.carried = Carries(record, member.server);
    if (server != nullptr) {
      member.removed = server->mode == proto::SERVER_REMOVED;
      member.leaving = member.removed || server->mode == proto::SERVER_DRAINING;
      if (server->in_maintenance())
        member.away_until_ns = core_.now() + server->maintenance_until_wall_ns - core_.wall();
    }
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
  auto servers = core_.servers().ForPlacement(policy.ok() ? policy->storage_class() : "");
  for (PlacementServer& server : servers) {
    if (const TargetBackoff::Pause* pause = refusing_.Waiting(server.server, core_.now())) {
      server.refuses_until_ns = pause->until_ns;
      server.refusal = pause->why;
    }
  }
  return PlanRepair(FactsOf(chunk, record), servers, options, chunk.value(), core_.now());
}

bool RepairManager::Reserved(InodeId inode) const {
  const auto found = reserved_until_.find(inode);
  return found != reserved_until_.end() && core_.now() < found->second;
}

void RepairManager::SetHealth(ChunkId chunk, const Health& health) {
  if (!health.below_quorum && !health.below_policy && !health.damaged && !health.misplaced) {
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
                    .damaged = record->state() == proto::CHUNK_DAMAGED,
                    .misplaced = plan.wish});
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
    const int64_t due = std::max(since->second + core_.options().lower_writer_after_ms * kNanosPerMilli,
                                 PauseOf(chunk));
    queue_.Remove(chunk);
    queue_.Add(chunk, rank, std::max(due, core_.now() + (may_start ? kRetryBaseNanos : 0)));
    if (may_start && core_.now() >= due) LowerWriter(chunk, *record);
    return;
  }
  // A chunk that is sealed and opened all the time, as by two mounts in turn, would win every race against its repair.
  const auto tried = attempts_.find(chunk);
  const bool lowered = lower_since_.erase(chunk) > 0 || (tried != attempts_.end() && tried->second.overtaken);
  if (plan.action == RepairAction::kWait) {
    queue_.Remove(chunk);
    queue_.Add(chunk, rank, plan.not_before_ns);
    return;
  }
  if (may_start && core_.now() >= PauseOf(chunk) && Execute(chunk, *record, plan, lowered)) return;
  // What it waited for may just have come; only the pause after a failed attempt is kept.
  if (!may_start && !attempts_.contains(chunk)) queue_.Remove(chunk);
  if (!queue_.Contains(chunk)) queue_.Add(chunk, rank, std::max(core_.now(), PauseOf(chunk)));
}

int64_t RepairManager::PauseOf(ChunkId chunk) const {
  const auto tried = attempts_.find(chunk);
  return tried == attempts_.end() || tried->second.overtaken ? 0 : tried->second.not_before_ns;
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
  if (plan.action == RepairAction::kNothing || plan.action == RepairAction::kWait) return;
  const InodeId inode(record.inode());
  const SessionId writer = core_.leases().Writer(inode);
  if (!writer) return;
  reserved_until_[inode] = core_.now() + kReserveNanos;
  core_.SendRecalls(core_.leases().RecallOne(inode, writer, LeaseMode::kNone, false, core_.now()));
}

void RepairManager::OnSealed(ChunkId chunk) {
  if (!hold_.over() || !lower_since_.contains(chunk)) {
    Look(chunk);
    return;
  }
  Evaluate(chunk, true);
}

void RepairManager::Pump() {
  if (pumping_ || !hold_.over()) return;
  pumping_ = true;
  for (ChunkId chunk : queue_.Due(core_.now(), kDuePerPump)) {
    if (!limits_.HasRoom()) break;
    Evaluate(chunk, true);
  }
  pumping_ = false;
}

std::optional<RepairManager::Places> RepairManager::TakePlaces(const RepairPlan& plan, uint64_t length) {
  Places places{.servers = {}, .weight = RepairLimits::WeightOf(length)};
  if (plan.action == RepairAction::kConfigure) {
    places.weight = 1;
  } else {
    // The least busy source; a server that is being emptied should not have to send everything itself.
    const auto least = [&](ServerId a, ServerId b) { return limits_.Taken(a) < limits_.Taken(b); };
    places.servers = {plan.target, *std::min_element(plan.sources.begin(), plan.sources.end(), least)};
  }
  if (!limits_.Start(places.servers, places.weight)) return std::nullopt;
  return places;
}

bool RepairManager::Execute(ChunkId chunk, const proto::ChunkRecord& record, const RepairPlan& plan,
                            bool lowered) {
  const InodeId inode(record.inode());
  if (record.state() != proto::CHUNK_SEALED || core_.inodes().Locked(inode) ||
      DeleteProcedure::Concerns(core_, chunk) || plan.sources.empty()) {
    return false;
  }
  auto places = TakePlaces(plan, record.length());
  if (!places) return false;
  if (lowered) places->hold = HoldInodeOp::Start(core_, inode);
  busy_.insert(chunk);
  queue_.Remove(chunk);
  if (plan.action == RepairAction::kConfigure) {
    Replace(chunk, plan, *places);
  } else {
    SyncMember(chunk, record, plan, *places);
  }
  return true;
}

RepairManager::MoveStart RepairManager::Move(ChunkId chunk, ServerId from, ServerId to,
                                             const std::string& reason, std::function<void(bool)> done) {
  auto record = ChunkRecordOf(core_.txn(), chunk);
  if (!record || busy_.contains(chunk) || record->pending_epoch() != 0 ||
      ReconfigureOp::Running(core_, chunk) != nullptr ||
      refusing_.Waiting(to, core_.now()) != nullptr || PlanOf(chunk, *record).action != RepairAction::kNothing) {
    return MoveStart::kNotNow;
  }
  RepairPlan plan;
  plan.action = RepairAction::kReplace;
  plan.wish = true;
  plan.target = to;
  plan.reason = reason;
  plan.write_quorum = record->write_quorum();
  for (uint32_t member : record->members()) {
    plan.sources.push_back(ServerId(member));
    if (ServerId(member) != from) plan.members.push_back(ServerId(member));
  }
  plan.members.push_back(to);
  plan.valid_copies = static_cast<uint32_t>(plan.sources.size());
  if (!limits_.HasRoom() || !limits_.HasRoom(to, RepairLimits::WeightOf(record->length())))
    return MoveStart::kNoPlace;
  if (!Execute(chunk, *record, plan)) return MoveStart::kNotNow;
  move_done_[chunk] = std::move(done);
  return MoveStart::kStarted;
}

void RepairManager::SyncMember(ChunkId chunk, const proto::ChunkRecord& record, const RepairPlan& plan,
                               const Places& places) {
  proto::ChunkCommand command;
  command.set_chunk(chunk.value());
  auto* sync = command.mutable_sync();
  // A fresh one: the replica may have promised more than the record's epoch (a floor after a power loss, or
  // an attempt to change the configuration that was given up), and would refuse that.
  sync->set_epoch(core_.ids().NextEpoch().value());
  *sync->mutable_base() = record.sealed();
  sync->set_length(record.length());
  sync->set_rate_bytes_per_s(core_.options().repair_bytes_per_second);
  const ServerId first = places.servers.back();
  *sync->add_sources() = core_.servers().Address(*core_.servers().Find(first));
  for (ServerId source : plan.sources) {
    if (source != first) *sync->add_sources() = core_.servers().Address(*core_.servers().Find(source));
  }
  core_.history().Add(chunk, core_.wall(),
                      "sync of " + ToString(plan.target) + " to " + ToString(FromProto(record.sealed())) +
                          " from " + ToString(first) + ": " + plan.reason);
  core_.commander().Send(
      plan.target, std::move(command), core_.now() + core_.options().sync_timeout_ms * kNanosPerMilli,
      [this, chunk, plan, places, sealed = FromProto(record.sealed())](const CommandOutcome& outcome) {
        CountTransfer(chunk, plan.target, outcome);
        if (plan.wish) counters_.moved_bytes += outcome.bytes_transferred;
        if (outcome.refused_here) refusing_.Refused(plan.target, outcome.status.message(), core_.now());
        if (outcome.status.ok()) refusing_.Forget(plan.target);
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
          const auto now = ChunkRecordOf(core_.txn(), chunk);
          Finish(chunk, places, false, now && (now->state() == proto::CHUNK_OPEN || FromProto(now->sealed()) != sealed));
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

void RepairManager::Replace(ChunkId chunk, const RepairPlan& plan, const Places& places) {
  auto record = ChunkRecordOf(core_.txn(), chunk);
  if (!record || record->state() != proto::CHUNK_SEALED || ReconfigureOp::Running(core_, chunk) != nullptr) {
    Finish(chunk, places, false);  // changed meanwhile; the copy is surplus, and erased as such
    return;
  }
  std::vector<ServerId> former;
  for (uint32_t member : record->members()) {
    if (std::find(plan.members.begin(), plan.members.end(), ServerId(member)) == plan.members.end())
      former.push_back(ServerId(member));
  }
  ReconfigureRequest request;
  request.chunk = chunk;
  request.purpose =
      plan.wish ? replication::ReconfigurePurpose::kMove : replication::ReconfigurePurpose::kRepair;
  request.members = plan.members;
  request.write_quorum = plan.write_quorum;
  // A copy that is still good is given up only when all the others are there.
  if (plan.wish) request.min_carriers = static_cast<uint32_t>(plan.members.size());
  request.reason = plan.reason;
  request.give_up_ns = core_.now() + core_.options().write_timeout_ms * kNanosPerMilli;
  ReconfigureOp::Start(core_, std::move(request), [this, chunk, plan, places, former](const Status& status) {
    if (status.ok()) {
      ++(plan.wish ? counters_.moved_chunks : counters_.repaired_chunks);
      AskFormerMembers(chunk, former);
    } else {
      CAIRN_LOG(Warning, "replacement of a member of chunk {} failed: {}", ToString(chunk),
                status.ToString());
    }
    Finish(chunk, places, status.ok());
  });
}

void RepairManager::AskFormerMembers(ChunkId chunk, const std::vector<ServerId>& former) {
  for (ServerId server : former) {
    if (core_.servers().IsUp(server)) core_.audit().Query(chunk, server);
  }
}

void RepairManager::Finish(ChunkId chunk, const Places& places, bool ok, bool overtaken) {
  busy_.erase(chunk);
  limits_.Finish(places.servers, places.weight);
  HoldInodeOp::Release(core_, places.hold);
  if (auto record = ChunkRecordOf(core_.txn(), chunk)) reserved_until_.erase(InodeId(record->inode()));
  if (auto move = move_done_.find(chunk); move != move_done_.end()) {
    auto done = std::move(move->second);
    move_done_.erase(move);
    done(ok);
    Look(chunk);
    Pump();
    return;  // nothing to retry: the chunk lacks nothing
  }
  if (ok) {
    attempts_.erase(chunk);
    Look(chunk);
  } else {
    Attempts& attempts = attempts_[chunk];
    attempts.overtaken = overtaken;
    const uint32_t attempt = std::min<uint32_t>(attempts.failed++, 6);
    attempts.not_before_ns = core_.now() + std::min(kRetryMaxNanos, kRetryBaseNanos << attempt);
    queue_.Add(chunk, 0, attempts.not_before_ns);
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
    result.misplaced += health.misplaced;
  }
  if (busy_seconds_ > 0) result.bytes_per_second = static_cast<uint64_t>(busy_bytes_ / busy_seconds_);
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
