#include "master/core/delete_procedure.h"

#include <algorithm>
#include <utility>

#include "common/check.h"
#include "common/log.h"
#include "master/cluster/commander.h"
#include "master/core/core.h"
#include "master/core/reconfigure_op.h"
#include "master/state/chunk_queries.h"

namespace cairn::master {
namespace {

constexpr int64_t kRetryNanos = kNanosPerSecond;
constexpr int64_t kAgainNanos = 100 * kNanosPerMilli;

}  // namespace

DeleteProcedure::DeleteProcedure(Core& core, std::vector<ChunkId> chunks, OperationId wake)
    : core_(core), chunks_(std::move(chunks)), wake_(wake) {
  std::sort(chunks_.begin(), chunks_.end());
}

std::shared_ptr<DeleteProcedure> DeleteProcedure::Start(Core& core, const std::vector<ChunkId>& chunks,
                                                        int64_t timeout_ns, OperationId wake) {
  std::shared_ptr<DeleteProcedure> procedure(new DeleteProcedure(core, chunks, wake));
  procedure->started_ns_ = core.now();
  procedure->deadline_ns_ = core.now() + timeout_ns;
  for (ChunkId chunk : procedure->chunks_) {
    auto old = core.running().deletes.find(chunk);
    if (old != core.running().deletes.end() && old->second->state_ == State::kRefused) {
      auto replaced = old->second;
      replaced->superseded_ = true;
      replaced->Unregister();
    }
    CAIRN_CHECK(!core.running().deletes.contains(chunk), "two deletes of one chunk");
    core.running().deletes[chunk] = procedure;
  }
  if (!procedure->Prepare()) return procedure;
  core.timers().At(procedure->deadline_ns_, [weak = std::weak_ptr(procedure)] {
    if (auto self = weak.lock()) self->OnDeadline();
  });
  return procedure;
}

bool DeleteProcedure::Concerns(Core& core, ChunkId chunk) { return core.running().deletes.contains(chunk); }

bool DeleteProcedure::MayStart(Core& core, ChunkId chunk) {
  auto it = core.running().deletes.find(chunk);
  return it == core.running().deletes.end() || it->second->state_ == State::kRefused;
}

void DeleteProcedure::OnServerUp(Core& core, ServerId server) {
  std::vector<std::shared_ptr<DeleteProcedure>> all;
  for (const auto& [chunk, procedure] : core.running().deletes) {
    if (std::find(all.begin(), all.end(), procedure) == all.end()) all.push_back(procedure);
  }
  for (const auto& procedure : all) {
    procedure->decision_->OnMemberBack(server);
    procedure->Perform();
  }
}

void DeleteProcedure::AbortStray(Core& core, ChunkId chunk, ServerId server) {
  if (Concerns(core, chunk) || !core.servers().IsUp(server)) return;
  proto::ChunkCommand command;
  command.set_chunk(chunk.value());
  command.mutable_abort_delete()->set_epoch(core.ids().NextEpoch().value());
  core.commander().Send(
      server, std::move(command), core.now() + core.options().command_timeout_ms * kNanosPerMilli,
      [&core, chunk, server](const CommandOutcome& outcome) {
        core.history().Add(chunk, core.wall(),
                           "tombstone on " + ToString(server) + " taken back: " + outcome.status.ToString());
      });
}

bool DeleteProcedure::Prepare() {
  std::vector<replication::DeleteTarget> targets;
  for (ChunkId chunk : chunks_) {
    auto record = ChunkRecordOf(core_.txn(), chunk);
    CAIRN_CHECK(record.has_value());
    targets.push_back({chunk, ConfigurationOf(*record)});
  }
  decision_.emplace(std::move(targets), core_.ids().NextEpoch());
  Perform();
  return true;
}

void DeleteProcedure::Perform() {
  if (superseded_) return;
  const int64_t timeout_ns = core_.options().command_timeout_ms * kNanosPerMilli;
  for (int round = 0; round < 64; ++round) {
    const auto actions = decision_->TakeActions();
    if (actions.empty()) break;
    for (const auto& action : actions) {
      proto::ChunkCommand command;
      ChunkId chunk;
      ServerId server;
      const bool prepare = std::holds_alternative<replication::PrepareDelete>(action);
      if (prepare) {
        const auto& one = std::get<replication::PrepareDelete>(action);
        chunk = one.chunk;
        server = one.server;
        command.mutable_prepare_delete()->set_epoch(one.epoch.value());
      } else {
        const auto& one = std::get<replication::AbortDelete>(action);
        chunk = one.chunk;
        server = one.server;
        command.mutable_abort_delete()->set_epoch(one.epoch.value());
      }
      command.set_chunk(chunk.value());
      if (!core_.servers().IsUp(server)) {
        const Status down(StatusCode::kUnavailable, core_.servers().DownReason(server, core_.now()));
        if (prepare) {
          decision_->OnPrepareReply(chunk, server, down, {});
        } else {
          decision_->OnAbortReply(chunk, server, down);
        }
        continue;
      }
      core_.commander().Send(
          server, std::move(command), core_.now() + timeout_ns,
          [self = shared_from_this(), chunk, server, prepare, epoch = decision_->epoch()](const CommandOutcome& outcome) {
            if (epoch != self->decision_->epoch()) return;  // of an attempt that was given up
            if (prepare) {
              self->decision_->OnPrepareReply(chunk, server, outcome.status, outcome.info);
            } else {
              self->decision_->OnAbortReply(chunk, server, outcome.status);
            }
            self->Perform();
          });
    }
  }
  if (state_ == State::kPreparing) OnPrepared();
  EndIfDone();
}

void DeleteProcedure::OnPrepared() {
  if (decision_->committable()) {
    state_ = State::kReady;
    core_.Wake(wake_);
    return;
  }
  if (decision_->epoch_too_low()) {
    if (std::exchange(again_armed_, true)) return;
    core_.timers().At(core_.now() + kAgainNanos, [weak = weak_from_this()] {
      auto self = weak.lock();
      if (self == nullptr) return;
      self->again_armed_ = false;
      if (self->state_ == State::kPreparing) self->PrepareAgain();
    });
    return;
  }
  if (!decision_->outstanding() && !retry_armed_) {
    retry_armed_ = true;
    core_.timers().At(core_.now() + kRetryNanos, [weak = weak_from_this()] {
      auto self = weak.lock();
      if (self == nullptr) return;
      self->retry_armed_ = false;
      if (self->state_ != State::kPreparing) return;
      self->decision_->Retry();
      self->Perform();
    });
  }
}

// A member promised more than this attempt's epoch: after losing power it was told a floor, or another procedure came first. The
// prepares of a higher epoch replace those that were recorded.
void DeleteProcedure::PrepareAgain() {
  for (ChunkId chunk : chunks_) {
    if (!ChunkRecordOf(core_.txn(), chunk)) return Refuse();
    if (ReconfigureOp::Running(core_, chunk) != nullptr) return OnPrepared();  // looked at again a little later
  }
  Prepare();
}

void DeleteProcedure::OnDeadline() {
  if (state_ == State::kPreparing) Refuse();
}

void DeleteProcedure::Refuse() {
  if (state_ == State::kRefused || decision_->phase() != replication::QuorumDelete::Phase::kPreparing) return;
  refusal_ = decision_->Refuse(core_.ids().NextEpoch());
  state_ = State::kRefused;
  for (ChunkId chunk : chunks_) {
    core_.history().Add(chunk, core_.wall(), "delete refused: " + refusal_.message());
  }
  core_.Wake(wake_);
  Perform();
  RetryAborts();
}

void DeleteProcedure::RetryAborts() {
  if (superseded_) return;
  if (decision_->finished()) {
    EndIfDone();
    return;
  }
  core_.timers().At(core_.now() + kRetryNanos, [weak = weak_from_this()] {
    auto self = weak.lock();
    if (self == nullptr) return;
    // A server that is down is not asked in vain: it is asked when it is back, and what it then reports is
    // looked at.
    bool reachable = false;
    for (ServerId server : self->decision_->AbortPending()) reachable |= self->core_.servers().IsUp(server);
    if (reachable && !self->decision_->outstanding()) {
      self->decision_->Retry();
      self->Perform();
    }
    self->RetryAborts();
  });
}

void DeleteProcedure::Committed() {
  decision_->OnCommitted();
  EndIfDone();
}

void DeleteProcedure::EndIfDone() {
  bool done = decision_->finished();
  if (!done && state_ == State::kRefused && !decision_->outstanding()) {
    // Only servers that are down are left; their tombstones are found in their reports and taken back then.
    const auto pending = decision_->AbortPending();
    done = std::none_of(pending.begin(), pending.end(),
                        [&](ServerId server) { return core_.servers().IsUp(server); });
  }
  if (done) Unregister();
}

void DeleteProcedure::Unregister() {
  auto self = shared_from_this();
  for (ChunkId chunk : chunks_) {
    auto it = core_.running().deletes.find(chunk);
    if (it != core_.running().deletes.end() && it->second == self) core_.running().deletes.erase(it);
  }
}

}  // namespace cairn::master
