#include "master/core/reconfigure_op.h"

#include <algorithm>

#include "common/log.h"
#include "master/cluster/commander.h"
#include "master/cluster/repair_manager.h"
#include "master/cluster/replica_audit.h"
#include "master/core/core.h"
#include "master/core/delete_procedure.h"
#include "master/state/chunk_queries.h"

namespace cairn::master {
namespace {

constexpr int64_t kRetryNanos = kNanosPerSecond;
constexpr int64_t kBusyNanos = 200 * kNanosPerMilli;
constexpr uint32_t kMaxAttempts = 10;

using replication::Reconfiguration;
using replication::ReconfigurePurpose;

std::string Names(const std::vector<ServerId>& servers) {
  std::string text;
  for (ServerId server : servers) text += (text.empty() ? "" : " ") + ToString(server);
  return text;
}

}  // namespace

ReconfigureOp::ReconfigureOp(Core& core, ReconfigureRequest request, ReconfigureDone done)
    : request_(std::move(request)), started_ns_(core.now()) {
  if (done) done_.push_back(std::move(done));
}

OperationId ReconfigureOp::Start(Core& core, ReconfigureRequest request, ReconfigureDone done) {
  const ChunkId chunk = request.chunk;
  CAIRN_CHECK(!core.running().reconfigurations.contains(chunk), "two configuration procedures for one chunk");
  const OperationId id =
      core.StartOperation(std::make_unique<ReconfigureOp>(core, std::move(request), std::move(done)));
  core.running().reconfigurations[chunk] = id;
  return id;
}

ReconfigureOp* ReconfigureOp::Running(Core& core, ChunkId chunk) {
  auto it = core.running().reconfigurations.find(chunk);
  return it == core.running().reconfigurations.end() ? nullptr
                                                     : core.FindOperation<ReconfigureOp>(it->second);
}

void ReconfigureOp::OnServerUp(Core& core, ServerId server) {
  for (const auto& [chunk, id] : core.running().reconfigurations) {
    auto* op = core.FindOperation<ReconfigureOp>(id);
    if (op == nullptr || op->procedure_ == nullptr) continue;
    op->procedure_->OnMemberBack(server);
    core.Wake(id);
  }
}

void ReconfigureOp::DeclareLossAccepted(Core& core, std::vector<ServerId> members) {
  request_.accept_loss = true;
  if (!members.empty()) request_.members = std::move(members);
  if (activated_) return;
  procedure_.reset();  // starts again under a fresh epoch, with the operator's word
  core.Wake(id);
}

std::string ReconfigureOp::WaitReason() const {
  std::string reason = "chunk " + ToString(request_.chunk) + ": " + request_.reason;
  if (activated_) return reason + ", waits for the master's disk";
  if (procedure_ != nullptr) {
    const std::string waits = procedure_->WaitReason();
    if (!waits.empty()) reason += ": " + waits;
  }
  return reason;
}

bool ReconfigureOp::Begin(Core& core) {
  auto record = ChunkRecordOf(core.txn(), request_.chunk);
  CAIRN_CHECK(record.has_value());
  // A writer was faster than the repair that saw the chunk sealed. Its epoch must not end under it: what it
  // has not written yet would be lost. From here on no writer can open the chunk, because the record names
  // the epoch under way.
  const bool ends_sealed_by_plan =
      request_.purpose == ReconfigurePurpose::kRepair || request_.purpose == ReconfigurePurpose::kMove;
  if (ends_sealed_by_plan && record->writer_lease() != 0 && !request_.accept_loss) {
    Finish(core, Status(StatusCode::kBusy, "a writer has chunk " + ToString(request_.chunk) + " open"));
    return false;
  }
  if (request_.purpose == ReconfigurePurpose::kLiveWriter && record->writer_lease() == 0) {
    // It sealed the chunk meanwhile; what an attempt left half done is for repair to bring to an end.
    Finish(core,
           Status(StatusCode::kLeaseLost, "chunk " + ToString(request_.chunk) + " has no writer any more"));
    return false;
  }
  ++attempts_;
  replication::ReconfigureInput input;
  input.chunk = request_.chunk;
  input.old = ConfigurationOf(*record);
  input.sealed = FromProto(record->sealed());
  input.open = record->state() == proto::CHUNK_OPEN || record->writer_lease() != 0;
  input.durable = FromProto(record->durable());
  input.epoch = core.ids().NextEpoch();
  input.members = request_.members.empty() ? input.old.members : request_.members;
  input.write_quorum = request_.write_quorum != 0 ? request_.write_quorum : record->write_quorum();
  input.min_carriers = std::max(request_.min_carriers, input.write_quorum);
  input.purpose = request_.purpose;
  input.accept_loss = request_.accept_loss || record->has_loss();
  // Removed servers were declared lost. So is, by the operator who accepts the loss now, whoever cannot be
  // asked now (not what an earlier word on record would mean after a restart, when nobody is up yet).
  const bool somebody_up = std::any_of(input.old.members.begin(), input.old.members.end(),
                                       [&](ServerId member) { return core.servers().IsUp(member); });
  for (ServerId member : input.old.members) {
    const ServerInfo* server = core.servers().Find(member);
    const bool removed = server == nullptr || server->mode == proto::SERVER_REMOVED;
    if (removed || (request_.accept_loss && somebody_up && !server->up)) input.lost.push_back(member);
  }

  proto::LogCommand command;
  auto* begin = command.mutable_begin_reconfiguration();
  begin->set_chunk(request_.chunk.value());
  begin->set_epoch(input.epoch.value());
  begin->set_reason(request_.reason);
  command.set_new_epoch(input.epoch.value());
  const ApplyResult result = core.Apply(command);
  if (!result.ok()) {
    Finish(core, FromProto(result.reply.status()));
    return false;
  }
  core.history().Add(request_.chunk, core.wall(),
                     "configuration procedure under epoch " + ToString(input.epoch) + " for " +
                         Names(input.members) + ": " + request_.reason);
  procedure_ = std::make_unique<Reconfiguration>(std::move(input));
  return true;
}

Progress ReconfigureOp::Step(Core& core) {
  if (activated_) {
    const bool waits = core.options().rules.Hold(ServiceRule::kActivationDurable);
    if (core.durable_index() < final_index_ && waits) return Progress::kWaiting;
    if (!dropped_ && procedure_->phase() == Reconfiguration::Phase::kActivating) {
      procedure_->OnActivated();
      TellWriter(core);
      auto done = std::move(done_);
      done_.clear();
      for (auto& call : done) call(Status::Ok());
    }
    if (dropped_) return Finish(core, Status::Ok());
    for (auto& action : procedure_->TakeActions()) Perform(core, action);
    // What failed after the activation is left to repair.
    if (procedure_->finished() || !procedure_->outstanding()) return Finish(core, Status::Ok());
    return Progress::kWaiting;
  }

  auto record = ChunkRecordOf(core.txn(), request_.chunk);
  if (!record || record->state() == proto::CHUNK_DELETING) return Finish(core, Status::Ok());
  if (procedure_ == nullptr) {
    if (DeleteProcedure::Concerns(core, request_.chunk)) {
      core.timers().At(core.now() + kBusyNanos, [&core, me = id] { core.Wake(me); });
      return Progress::kWaiting;
    }
    if (!Begin(core)) return Progress::kFinished;
  }
  // Perform may answer at once (a server that is down), which gives new actions; a refused activation ends
  // the attempt.
  for (int round = 0; round < 64; ++round) {
    auto actions = procedure_->TakeActions();
    if (actions.empty()) break;
    for (auto& action : actions) {
      Perform(core, action);
      if (procedure_ == nullptr) return Progress::kWaiting;
    }
  }
  switch (procedure_->phase()) {
    case Reconfiguration::Phase::kNeverWritten: {
      proto::LogCommand command;
      auto* activate = command.mutable_activate_configuration();
      activate->set_chunk(request_.chunk.value());
      activate->set_epoch(procedure_->input().epoch.value());
      activate->set_never_begun(true);
      activate->set_sealed(true);
      const ApplyResult result = core.Apply(command);
      if (!result.ok()) return Finish(core, FromProto(result.reply.status()));
      core.history().Add(request_.chunk, core.wall(),
                         "never begun: nothing was written under its last lease");
      activated_ = dropped_ = true;
      final_index_ = core.log_index();
      core.WhenDurable(final_index_, [&core, me = id] { core.Wake(me); });
      return Progress::kWaiting;
    }
    case Reconfiguration::Phase::kFailed: {
      const Status failure = procedure_->failure();
      if (attempts_ >= kMaxAttempts) return Finish(core, failure);
      procedure_.reset();
      core.timers().At(core.now() + kBusyNanos, [&core, me = id] { core.Wake(me); });
      return Progress::kWaiting;
    }
    default:
      break;
  }
  if (activated_) return Progress::kWaiting;
  if (procedure_->damaged() && !procedure_->outstanding() && !reported_damaged_) {
    reported_damaged_ = true;
    proto::LogCommand command;
    command.mutable_mark_damaged()->set_chunk(request_.chunk.value());
    command.mutable_mark_damaged()->set_detail(procedure_->WaitReason());
    core.Apply(command);
    CAIRN_LOG(Warning, "{}", WaitReason());
  }
  if (request_.give_up_ns != 0 && core.now() >= request_.give_up_ns &&
      procedure_->phase() != Reconfiguration::Phase::kActivating) {
    return Finish(core, Status(StatusCode::kNoQuorum, WaitReason()));
  }
  ArmRetry(core);
  return Progress::kWaiting;
}

void ReconfigureOp::ArmRetry(Core& core) {
  if (retry_armed_) return;
  retry_armed_ = true;
  int64_t when = core.now() + kRetryNanos;
  if (request_.give_up_ns != 0)
    when = std::min(when, std::max(request_.give_up_ns, core.now() + kNanosPerMilli));
  core.timers().At(when, [&core, me = id] {
    auto* op = core.FindOperation<ReconfigureOp>(me);
    if (op == nullptr) return;
    op->retry_armed_ = false;
    if (op->procedure_ != nullptr && !op->activated_) op->procedure_->Retry();
    core.Wake(me);
  });
}

void ReconfigureOp::Command(Core& core, ServerId server, proto::ChunkCommand command, int64_t timeout_ms,
                            std::function<void(Reconfiguration&, const CommandOutcome&)> answer) {
  command.set_chunk(request_.chunk.value());
  if (!core.servers().IsUp(server)) {
    CommandOutcome outcome;
    outcome.status = Status(StatusCode::kUnavailable, core.servers().DownReason(server, core.now()));
    answer(*procedure_, outcome);
    return;
  }
  core.commander().Send(
      server, std::move(command), core.now() + timeout_ms * kNanosPerMilli,
      [&core, me = id, attempt = attempts_, answer = std::move(answer)](const CommandOutcome& outcome) {
        auto* op = core.FindOperation<ReconfigureOp>(me);
        if (op == nullptr || op->procedure_ == nullptr || op->attempts_ != attempt) return;
        answer(*op->procedure_, outcome);
        core.Wake(me);
      });
}

void ReconfigureOp::Perform(Core& core, replication::ReconfigureAction action) {
  const int64_t timeout_ms = core.options().command_timeout_ms;
  if (const auto* fence = std::get_if<replication::FenceMember>(&action)) {
    proto::ChunkCommand command;
    command.mutable_fence()->set_epoch(fence->epoch.value());
    Command(core, fence->server, std::move(command), timeout_ms,
            [server = fence->server](Reconfiguration& procedure, const CommandOutcome& outcome) {
              procedure.OnFenceReply(server, outcome.status, outcome.info);
            });
  } else if (const auto* begin = std::get_if<replication::BeginMember>(&action)) {
    proto::ChunkCommand command;
    command.mutable_begin()->set_epoch(begin->epoch.value());
    *command.mutable_begin()->mutable_base() = ToProto(begin->base);
    command.mutable_begin()->set_durable(true);
    Command(core, begin->server, std::move(command), timeout_ms,
            [server = begin->server](Reconfiguration& procedure, const CommandOutcome& outcome) {
              procedure.OnBeginReply(server, outcome.status, outcome.info);
            });
  } else if (const auto* sync = std::get_if<replication::SyncMember>(&action)) {
    proto::ChunkCommand command;
    auto* order = command.mutable_sync();
    order->set_epoch(sync->epoch.value());
    *order->mutable_base() = ToProto(sync->base);
    order->set_length(sync->length);
    order->set_rate_bytes_per_s(core.options().repair_bytes_per_second);
    for (ServerId source : sync->sources) {
      if (const ServerInfo* info = core.servers().Find(source))
        *order->add_sources() = core.servers().Address(*info);
    }
    Command(core, sync->server, std::move(command), core.options().sync_timeout_ms,
            [&core, chunk = request_.chunk, server = sync->server](Reconfiguration& procedure,
                                                                   const CommandOutcome& outcome) {
              core.repair().CountTransfer(chunk, server, outcome);
              procedure.OnSyncReply(server, outcome.status, outcome.info);
            });
  } else if (const auto* activate = std::get_if<replication::Activate>(&action)) {
    OnActivate(core, *activate);
  } else if (const auto* carrier = std::get_if<replication::AddCarrier>(&action)) {
    core.audit().AddCarrier(request_.chunk, carrier->stamp, carrier->server);
  }
}

void ReconfigureOp::OnActivate(Core& core, const replication::Activate& activate) {
  auto record = ChunkRecordOf(core.txn(), request_.chunk);
  CAIRN_CHECK(record.has_value());
  proto::LogCommand command;
  auto* order = command.mutable_activate_configuration();
  order->set_chunk(request_.chunk.value());
  order->set_epoch(activate.config.epoch.value());
  for (ServerId member : activate.config.members) order->add_members(member.value());
  order->set_write_quorum(activate.config.write_quorum);
  *order->mutable_base() = ToProto(activate.config.base);
  order->set_length(activate.length);
  for (ServerId carrier : activate.carriers) order->add_carriers(carrier.value());
  order->set_sealed(activate.sealed);
  // Replicas newer than a sealed record have had a writer that the record knows nothing of (a loss of power
  // took its lease away): its bytes count as much as those of any writer that vanished. Otherwise they would
  // stay beyond the end of the file and come to light when somebody else makes it longer.
  const bool forgotten_writer =
      record->state() == proto::CHUNK_SEALED && activate.config.base > FromProto(record->sealed());
  order->set_vanished_writer(request_.purpose == ReconfigurePurpose::kVanishedWriter || forgotten_writer);
  order->set_below_seal(activate.config.base < FromProto(record->sealed()));
  const ApplyResult result = core.Apply(command);
  if (!result.ok()) {
    // The record changed under the procedure (a delete was committed): nothing to activate any more.
    CAIRN_LOG(Warning, "activation of chunk {} refused: {}", ToString(request_.chunk),
              result.reply.status().message());
    procedure_.reset();
    core.Wake(id);
    return;
  }
  core.history().Add(request_.chunk, core.wall(),
                     "configuration " + ToString(activate.config.epoch) + " of " +
                         Names(activate.config.members) + " is active at " + ToString(activate.stamp) +
                         ", carried by " + Names(activate.carriers));
  activated_ = true;
  final_index_ = core.log_index();
  core.WhenDurable(final_index_, [&core, me = id] { core.Wake(me); });
  if (!core.options().rules.Hold(ServiceRule::kActivationDurable)) core.Wake(id);
}

// The writer need not have asked for the change, and need not wait for a refusal to hear of it.
void ReconfigureOp::TellWriter(Core& core) {
  const auto record = ChunkRecordOf(core.txn(), request_.chunk);
  if (!record || record->writer_lease() == 0 || record->state() != proto::CHUNK_OPEN) return;
  proto::MasterMessage message;
  proto::Reconfigured* notice = message.mutable_notice()->mutable_reconfigured();
  notice->set_inode(record->inode());
  *notice->mutable_layout() = LayoutOf(request_.chunk, *record);
  core.Send(SessionId(record->writer_session()), std::move(message));
}

Progress ReconfigureOp::Finish(Core& core, const Status& status) {
  core.running().reconfigurations.erase(request_.chunk);
  auto done = std::move(done_);
  done_.clear();
  for (auto& call : done) call(status);
  core.repair().Look(request_.chunk);
  return Progress::kFinished;
}

}  // namespace cairn::master
