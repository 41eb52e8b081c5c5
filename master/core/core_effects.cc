// The part of the core that turns effects of applied commands into leases, recoveries, deletions and repair,
// and that loads what was under way before a restart.
#include <algorithm>

#include "common/log.h"
#include "master/cluster/erasure.h"
#include "master/cluster/event_log.h"
#include "master/cluster/repair_manager.h"
#include "master/cluster/replica_audit.h"
#include "master/core/core.h"
#include "master/core/file_locks.h"
#include "master/core/reclaim_op.h"
#include "master/core/recover_op.h"
#include "master/state/chunk_queries.h"
#include "master/state/queries.h"
#include "master/state/trash.h"

namespace cairn::master {
namespace {

constexpr size_t kPage = 1000;

}  // namespace

ApplyResult Core::Apply(proto::LogCommand& command) {
  *command.mutable_now() = TimeNow();
  ++log_index_;
  ApplyResult result = machine_.Apply(command, log_index_, &txn_);
  if (!txn_.status().ok()) {
    failed_ = txn_.status().WithContext("reading the metadata");
    return result;
  }
  if (result.repeated) return result;
  tail_->Keep(log_index_, command, !result.ok());
  ActOnEffects(result.effects, command);
  return result;
}

ApplyResult Core::ApplyAgain(const proto::LogCommand& command) {
  ++log_index_;
  ApplyResult result = machine_.Apply(command, log_index_, &txn_);
  if (!txn_.status().ok()) {
    failed_ = txn_.status().WithContext("reading the metadata");
    return result;
  }
  if (result.repeated) return result;
  ActOnEffects(result.effects, command);
  // What came after that seal may be lost for good, but not on its members, which reported while the chunk was open.
  for (ChunkId chunk : result.effects.chunks_sealed) {
    const auto record = ChunkRecordOf(txn_, chunk);
    if (!record) continue;
    for (uint32_t member : record->members()) audit_->Ask(chunk, ServerId(member));
  }
  return result;
}

ApplyResult Core::Preview(proto::LogCommand& command) {
  *command.mutable_now() = TimeNow();
  ApplyResult result = machine_.Preview(command, &txn_);
  if (!txn_.status().ok()) failed_ = txn_.status().WithContext("reading the metadata");
  return result;
}

void Core::ActOnEffects(const Effects& effects, const proto::LogCommand& command) {
  for (const LeaseChange& ended : effects.leases_ended) {
    const HeldLease* held = leases_.Find(ended.inode, ended.session);
    if (held != nullptr && held->number == ended.lease) {
      leases_.Returned(ended.inode, ended.session, ended.lease, LeaseMode::kNone);
    }
    WakeInode(ended.inode);
  }
  for (InodeId gone : effects.inodes_removed) {
    for (const HeldLease& held : leases_.Holders(gone)) {
      leases_.Returned(gone, held.session, held.number, LeaseMode::kNone);
    }
    file_locks_->InodeGone(gone);
    WakeInode(gone);
  }
  for (const LeaseChange& granted : effects.leases_granted) {
    if (!leases_.Compatible(granted.inode, granted.session, LeaseMode::kWrite)) {
      for (const HeldLease& held : leases_.Holders(granted.inode)) {
        if (held.session == granted.session) continue;
        if (held.mode == LeaseMode::kRead && held.number > granted.lease) {
          // A grant of the past, brought back after a loss of power: the reader came after it, and reads until it answers.
          SendRecalls(leases_.RecallOne(granted.inode, held.session, LeaseMode::kNone, false, now_ns_));
          continue;
        }
        // Only a bug can bring two writers here; the epochs keep the data safe, the older holder loses.
        CAIRN_LOG(Error, "inode {}: write lease {} granted to session {} beside session {}", granted.inode.value(),
                  granted.lease.value(), granted.session.value(), held.session.value());
        leases_.Returned(granted.inode, held.session, held.number, LeaseMode::kNone);
      }
    }
    SendRecalls(leases_.Grant(granted.inode, granted.session, LeaseMode::kWrite, granted.lease, now_ns_));
  }

  std::vector<InodeId> to_recover;
  for (ChunkId chunk : effects.chunks_to_recover) {
    auto record = ChunkRecordOf(txn_, chunk);
    if (!record) continue;
    const InodeId inode(record->inode());
    if (std::find(to_recover.begin(), to_recover.end(), inode) == to_recover.end())
      to_recover.push_back(inode);
    history_.Add(
        chunk, wall_ns_,
        "its writer (session " + std::to_string(record->writer_session()) + ") is gone: recovery starts");
  }
  for (InodeId inode : to_recover) RecoverOp::Ensure(*this, inode);

  for (ChunkId chunk : effects.chunks_deleting) {
    history_.Add(chunk, wall_ns_, "its delete was committed");
    erasure_->Add(chunk, log_index_);
    repair_->Forget(chunk);
  }
  for (ChunkId chunk : effects.chunks_dropped) repair_->Forget(chunk);
  for (ChunkId chunk : effects.chunks_damaged) {
    auto record = ChunkRecordOf(txn_, chunk);
    history_.Add(chunk, wall_ns_, "damaged: " + (record ? record->detail() : std::string()));
    events_->Add(Severity::kError, "chunk.damaged",
                 "chunk " + ToString(chunk) + " waits for its members: " + (record ? record->detail() : ""),
                 {.chunk = chunk, .inode = InodeId(record ? record->inode() : 0)});
  }
  for (ChunkId chunk : effects.chunks_sealed) {
    if (auto record = ChunkRecordOf(txn_, chunk)) {
      if (record->sealed().epoch() == record->epoch()) {
        // Those who confirmed the seal are current, whatever was noted before.
        for (uint32_t carrier : record->carriers()) audit_->Clear(chunk, ServerId(carrier));
      } else {
        // The writer never began: the older seal stands, and nobody confirmed it now. What its members reported while the chunk
        // was open was not compared.
        for (uint32_t member : record->members()) audit_->Ask(chunk, ServerId(member));
      }
      if (record->carriers_size() >= record->members_size() &&
          record->members_size() >= static_cast<int>(record->replicas()) && !repair_->Lowering(chunk)) {
        continue;  // all there: nothing to look at
      }
    }
    repair_->OnSealed(chunk);
  }
  for (ChunkId chunk : effects.chunks_configured) repair_->Look(chunk);
  for (InodeId orphan : effects.orphans_released) ReclaimOp::Ensure(*this, orphan);
  for (InodeId changed : effects.policies_changed) {
    auto policy = EffectivePolicy(txn_, changed);
    events_->Add(Severity::kInfo, "policy.changed",
                 "the policy of " + PathOf(txn_, changed) + " is now " +
                     (policy.ok() ? std::to_string(policy->replicas()) + " replicas, write quorum " +
                                        std::to_string(policy->write_quorum())
                                  : policy.status().message()),
                 {.inode = changed, .by = "uid " + std::to_string(command.credentials().uid())});
  }
  if (!effects.policies_changed.empty()) repair_->StartScan();
}

bool Core::OthersAtMost(InodeId inode, SessionId session, LeaseMode leave, bool deleting,
                        OperationId operation) {
  if (!leases_.OthersHoldMore(inode, session, leave)) return true;
  if (!options_.rules.Hold(ServiceRule::kRecallBeforeGrant)) {
    for (const HeldLease& held : leases_.Holders(inode)) {
      if (held.session != session) leases_.Returned(inode, held.session, held.number, leave);
    }
    return true;
  }
  SendRecalls(leases_.RecallOthers(inode, session, leave, deleting, now_ns_));
  inodes_.Wait(inode, operation);
  return false;
}

void Core::OfferReadLease(InodeId inode, SessionId session, proto::Reply* reply) {
  const HeldLease* held = leases_.Find(inode, session);
  if (held != nullptr && held->mode == LeaseMode::kWrite) return;
  if (held != nullptr && held->recalled) return;
  if (held == nullptr) {
    if (sessions_.InGrace(now_ns_) || inodes_.HasWaiters(inode) || inodes_.Locked(inode)) return;
    if (!leases_.Compatible(inode, session, LeaseMode::kRead)) return;
    auto recorded = WriteLeaseOf(txn_, inode);
    if (recorded && recorded->session != session) return;
    if (recorded && recorded->vanished) return;
    SendRecalls(leases_.Grant(inode, session, LeaseMode::kRead, ids_->NextEpoch(), now_ns_));
    held = leases_.Find(inode, session);
  } else {
    leases_.Touch(inode, session);
  }
  for (const proto::Lease& lease : reply->leases()) {
    if (lease.inode() == inode.value()) return;
  }
  proto::Lease* lease = reply->add_leases();
  lease->set_inode(inode.value());
  lease->set_mode(proto::LEASE_READ);
  lease->set_number(held->number.value());
}

void Core::LeaseReturned(InodeId inode, SessionId session, Epoch number, LeaseMode keep) {
  leases_.Returned(inode, session, number, keep);
  WakeInode(inode);
}

void Core::StopRenewing(Session& session, const std::string& reason) {
  if (!session.doomed.empty()) return;
  CAIRN_LOG(Warning, "session {} ({}) is not renewed any more: {}", session.id.value(), session.client_name,
            reason);
  session.doomed = reason;
  if (!options_.rules.Hold(ServiceRule::kTermRunsOut)) EndSession(session, SessionEnd::kLost, reason);
}

void Core::EndSession(Session& session, SessionEnd end, const std::string& reason) {
  const SessionId id = session.id;
  if (end == SessionEnd::kGoodbye) {
    CAIRN_LOG(Info, "session {} ({}) said goodbye", id.value(), session.client_name);
  } else {
    events_->Add(Severity::kWarning, "session.lost",
                 "session " + std::to_string(id.value()) + " (" + session.client_name + ") ends: " + reason);
  }
  if (session.channel != nullptr) {
    after_commit_.push_back([channel = session.channel, reason] {
      channel->Close(Status(StatusCode::kSessionUnknown, "the session ended: " + reason));
    });
  }
  std::vector<OperationId> operations;
  for (const auto& [number, operation] : session.in_flight) operations.push_back(operation);
  sessions_.Remove(id);
  for (InodeId inode : leases_.DropSession(id)) WakeInode(inode);
  file_locks_->SessionEnded(id);
  proto::LogCommand command;
  command.mutable_close_session()->set_session(id.value());
  Apply(command);
  for (OperationId operation : operations) {
    if (auto* op = FindOperation<Operation>(operation)) {
      op->OnSessionEnded(*this);
      Wake(operation);
    }
  }
  if (!sessions_.InGrace(now_ns_)) WakeGraceWaiters();
}

void Core::LoadState() {
  for (const ServerEntry& server : AllServers(txn_)) {
    servers_.AddKnown(server.server, server.record, now_ns_);
  }
  for (const SessionEntry& entry : AllSessions(txn_)) {
    sessions_.AddMissing(entry.session, entry.record.client_name(), entry.record.host_id());
  }
  sessions_.StartGrace(now_ns_);
  in_grace_ = sessions_.InGrace(now_ns_);

  size_t write_leases = 0;
  for (InodeId after;;) {
    const std::vector<WriteLease> page = AllWriteLeases(txn_, after, kPage);
    for (const WriteLease& lease : page) {
      after = lease.inode;
      if (lease.vanished || sessions_.Find(lease.session) == nullptr) {
        RecoverOp::Ensure(*this, lease.inode);
        continue;
      }
      leases_.Grant(lease.inode, lease.session, LeaseMode::kWrite, lease.lease, now_ns_);
      ++write_leases;
    }
    if (page.size() < kPage) break;
  }
  // Procedures that the stop interrupted: members may have promised or begun their epoch, so each is run
  // again.
  for (ChunkId after;;) {
    const std::vector<ChunkId> page = ReconfiguringChunks(txn_, after, kPage);
    for (ChunkId chunk : page) repair_->Look(chunk);
    if (page.size() < kPage) break;
    after = page.back();
  }
  for (ChunkId after;;) {
    const std::vector<ChunkId> page = DeletingChunks(txn_, after, kPage);
    for (ChunkId chunk : page) erasure_->Add(chunk, log_index_);
    if (page.size() < kPage) break;
    after = page.back();
  }
  for (InodeId after;;) {
    const std::vector<InodeId> page = Orphans(txn_, after, kPage);
    for (InodeId orphan : page) {
      if (!IsHeld(txn_, orphan)) ReclaimOp::Ensure(*this, orphan);
    }
    if (page.size() < kPage) break;
    after = page.back();
  }
  repair_->StartScan();
  CAIRN_LOG(Info, "cluster {}: log index {}, {} servers, {} sessions and {} write leases recorded, grace {}",
            cluster_id_, log_index_, servers_.all().size(), sessions_.all().size(), write_leases,
            FormatSeconds(sessions_.GraceLeft(now_ns_)));
}

}  // namespace cairn::master
