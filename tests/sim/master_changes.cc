// The part of the simulated master that changes chunks: configuration changes, deletes, repair, moves,
// reports.
#include <algorithm>
#include <utility>

#include "tests/sim/master.h"

namespace cairn::sim {

using namespace replication;  // NOLINT: the actions of the cores, in a file that does little else

namespace {

bool Contains(const std::vector<ServerId>& servers, ServerId server) {
  return std::find(servers.begin(), servers.end(), server) != servers.end();
}
std::string Number(ChunkId chunk) { return "chunk " + std::to_string(chunk.value()); }

}  // namespace

// --- Configuration changes
// --------------------------------------------------------------------------------------------

void Master::StartChange(ChunkId chunk, ReconfigurePurpose purpose, std::vector<ServerId> members,
                         uint32_t write_quorum) {
  const Record& record = records_.at(chunk);
  Work& work = work_[chunk];
  ReconfigureInput input;
  input.chunk = chunk;
  input.old = record.config;
  input.sealed = record.sealed;
  input.open = record.open || work.newer_than_record;
  input.durable = record.durable;
  for (ServerId member : record.config.members) {
    if (lost_.contains(member)) input.lost.push_back(member);
  }
  input.epoch = NewEpoch();
  input.members = std::move(members);
  input.write_quorum = write_quorum;
  if (purpose == ReconfigurePurpose::kMove) input.min_carriers = static_cast<uint32_t>(input.members.size());
  input.purpose = purpose;
  input.rules = rules_;
  world_.Trace("master changes the configuration of " + Number(chunk) + " in epoch " + ToString(input.epoch));
  work.change = std::make_unique<Reconfiguration>(std::move(input));
  work.activating = false;
  ++work.serial;
  work.retry_at = world_.now() + 500;
  RunChange(chunk);
}

void Master::RunChange(ChunkId chunk) {
  Work& work = work_[chunk];
  const uint64_t serial = work.serial;
  for (const ReconfigureAction& action : work.change->TakeActions()) {
    SendChangeAction(chunk, action);
    if (!work.change || work.serial != serial) return;
  }
  if (work.change->damaged()) world_.Mark("a chunk waited as damaged");
  if (work.change->finished()) FinishChange(chunk);
}

void Master::SendChangeAction(ChunkId chunk, const ReconfigureAction& action) {
  const uint64_t serial = work_[chunk].serial;
  const auto answered = [this, chunk, serial](
                            void (Reconfiguration::*event)(ServerId, const Status&, const ReplicaInfo&),
                            ServerId server) {
    return [this, chunk, serial, event, server](const Answer& answer) {
      Work& work = work_[chunk];
      if (!work.change || work.serial != serial) return;
      ((*work.change).*event)(server, answer.status, answer.info);
      RunChange(chunk);
    };
  };
  if (const auto* fence = std::get_if<FenceMember>(&action)) {
    CallServer(
        fence->server, "fence " + Number(chunk) + " in epoch " + ToString(fence->epoch),
        [chunk, epoch = fence->epoch](Server& server, const ReplyFn& reply) {
          server.Fence(chunk, epoch, reply);
        },
        answered(&Reconfiguration::OnFenceReply, fence->server));
  } else if (const auto* begin = std::get_if<BeginMember>(&action)) {
    CallServer(
        begin->server,
        "begin " + Number(chunk) + " in epoch " + ToString(begin->epoch) + " on " + ToString(begin->base),
        [chunk, epoch = begin->epoch, base = begin->base](Server& server, const ReplyFn& reply) {
          server.Begin(chunk, epoch, base, reply);
        },
        answered(&Reconfiguration::OnBeginReply, begin->server));
  } else if (const auto* sync = std::get_if<SyncMember>(&action)) {
    world_.Mark("a configuration change synced a member");
    CallServer(
        sync->server, "sync " + Number(chunk) + " to " + ToString(sync->base),
        [chunk, sync = *sync](Server& server, const ReplyFn& reply) {
          server.Sync(chunk, sync.epoch, sync.base, sync.sources, reply);
        },
        answered(&Reconfiguration::OnSyncReply, sync->server));
  } else if (const auto* activate = std::get_if<Activate>(&action)) {
    OnActivate(chunk, *activate);
  } else if (const auto* carrier = std::get_if<AddCarrier>(&action)) {
    Record& record = records_.at(chunk);
    if (!record.open && record.sealed == carrier->stamp) NoteCarrier(record, carrier->server, true);
  }
}

void Master::OnActivate(ChunkId chunk, const Activate& activate) {
  Work& work = work_[chunk];
  work.activating = true;
  const uint64_t serial = work.serial;
  LogAndThen([this, chunk, serial, activate] {
    Work& now = work_[chunk];
    if (!now.change || now.serial != serial) return;
    Record& record = records_.at(chunk);
    const std::vector<ServerId> before = record.config.members;
    record.config = activate.config;
    record.durable = std::max(record.durable, activate.stamp);
    record.carriers = activate.carriers;
    if (activate.sealed) {
      record.sealed = activate.stamp;
      record.open = false;
    }
    Sync();
    world_.Trace("master activates " + Number(chunk) + " at " + ToString(activate.stamp) + " with " +
                 std::to_string(activate.carriers.size()) + " of " +
                 std::to_string(activate.config.members.size()) + " members");
    if (now.change->input().purpose == ReconfigurePurpose::kMove)
      checker_.OnMoved(chunk, activate.config, activate.stamp);
    checker_.OnActivated(chunk, activate.config, activate.stamp);
    now.newer_than_record = false;
    now.activating = false;
    for (ServerId old : before) {
      if (Contains(activate.config.members, old)) continue;
      world_.Mark("a member was moved away");
      CallServer(
          old, "erase " + Number(chunk) + " in epoch " + ToString(activate.config.epoch),
          [chunk, epoch = activate.config.epoch](Server& server, const ReplyFn& reply) {
            server.Erase(chunk, epoch, reply);
          },
          [](const Answer&) {});
    }
    now.change->OnActivated();
    if (!activate.sealed) {
      for (const Party& holder : now.holders) {
        clients_.OnReconfigured(holder.client, chunk, holder.nonce, record.config);
      }
    }
    RunChange(chunk);
  });
}

void Master::FinishChange(ChunkId chunk) {
  Work& work = work_[chunk];
  const Reconfiguration& change = *work.change;
  if (change.phase() == Reconfiguration::Phase::kFailed) {
    world_.Mark("a configuration change met a higher promise");
    world_.Trace("the change of " + Number(chunk) + " failed: " + change.failure().ToString());
  } else if (change.phase() == Reconfiguration::Phase::kNeverWritten) {
    world_.Mark("a chunk was found never written");
    // Dropped; the next write of this part of the file gets another chunk. A member that was not heard may
    // hold something of this one, so its id must not come back.
    Record& record = records_.at(chunk);
    record.delete_epoch = change.input().epoch;
    checker_.OnActivated(chunk, {change.input().epoch, record.config.members, record.config.write_quorum, {}},
                         Stamp{});
    record.deleted = true;
    ChunkId next = records_.rbegin()->first;
    next = ChunkId{next.value() + 1};
    AddChunk(next, ReplicaCount(record.config), record.config.write_quorum);
    world_.AfterOn(kMaster, 0, [this, chunk] { Drive(chunk); });
  }
  work.change.reset();
  ++work.serial;
  Drive(chunk);
}

void Master::RetryWork(ChunkId chunk) {
  Work& work = work_[chunk];
  if (world_.now() < work.retry_at) return;
  if (work.change && !work.activating) {
    work.retry_at = world_.now() + 500;
    const Reconfiguration::Phase phase = work.change->phase();
    // Late members of an active configuration are a matter for repair; an attempt may be given up at any
    // point before.
    const bool give_up = world_.Chance(work.change->input().purpose == ReconfigurePurpose::kMove ? 300 : 50);
    if (phase == Reconfiguration::Phase::kActive || give_up) {
      if (phase != Reconfiguration::Phase::kActive)
        world_.Mark("a configuration change was given up half way");
      work.change.reset();
      ++work.serial;
      return;
    }
    std::set<ServerId> members(work.change->input().members.begin(), work.change->input().members.end());
    members.insert(work.change->input().old.members.begin(), work.change->input().old.members.end());
    for (ServerId member : members) work.change->OnMemberBack(member);
    RunChange(chunk);
  }
  if (work.deletion) {
    work.retry_at = world_.now() + 500;
    for (ServerId member : records_.at(chunk).config.members) work.deletion->OnMemberBack(member);
    RunDelete(chunk, nullptr);
  }
  for (const auto& abort : std::vector(work.aborts)) {
    work.retry_at = world_.now() + 500;
    for (ServerId member : abort->AbortPending()) abort->OnMemberBack(member);
    RunDelete(chunk, abort);
  }
}

// --- Deletes
// ----------------------------------------------------------------------------------------------------------

void Master::StartDelete(ChunkId chunk, const Party& party) {
  Work& work = work_[chunk];
  work.deletion = std::make_unique<QuorumDelete>(
      std::vector<DeleteTarget>{{chunk, records_.at(chunk).config}}, NewEpoch(), rules_);
  work.deletion_for = party;
  // Sometimes too short for anybody to answer: refusals are as interesting as deletes.
  work.deletion_deadline =
      world_.now() + (world_.Chance(500) ? 2 + static_cast<int64_t>(world_.Random(10)) : 1500);
  work.retry_at = world_.now() + 500;
  ++work.serial;
  world_.AfterOn(kMaster, work.deletion_deadline - world_.now(), [this, chunk, serial = work.serial] {
    if (work_[chunk].deletion && work_[chunk].serial == serial) EndDelete(chunk);
  });
  RunDelete(chunk, nullptr);
}

void Master::RunDelete(ChunkId chunk, std::shared_ptr<QuorumDelete> abort) {
  Work& work = work_[chunk];
  const uint64_t serial = work.serial;
  QuorumDelete& deletion = abort ? *abort : *work.deletion;
  for (const DeleteAction& action : deletion.TakeActions()) {
    if (const auto* prepare = std::get_if<PrepareDelete>(&action)) {
      CallServer(
          prepare->server, "prepare-delete " + Number(chunk) + " in epoch " + ToString(prepare->epoch),
          [chunk, epoch = prepare->epoch](Server& server, const ReplyFn& reply) {
            server.PrepareDelete(chunk, epoch, reply);
          },
          [this, chunk, serial, member = prepare->server](const Answer& answer) {
            Work& now = work_[chunk];
            if (!now.deletion || now.serial != serial) return;
            now.deletion->OnPrepareReply(chunk, member, answer.status, answer.info);
            if (now.deletion->committable() || now.deletion->epoch_too_low()) EndDelete(chunk);
          });
    } else if (const auto* undo = std::get_if<AbortDelete>(&action)) {
      CallServer(
          undo->server, "abort-delete " + Number(chunk) + " in epoch " + ToString(undo->epoch),
          [chunk, epoch = undo->epoch](Server& server, const ReplyFn& reply) {
            server.AbortDelete(chunk, epoch, reply);
          },
          [this, chunk, abort, member = undo->server](const Answer& answer) {
            abort->OnAbortReply(chunk, member, answer.status);
            if (!abort->finished()) return;
            Work& now = work_[chunk];
            if (std::erase(now.aborts, abort) > 0) checker_.OnDeleteAborted(chunk, abort->epoch());
          });
    }
  }
}

void Master::EndDelete(ChunkId chunk) {
  Work& work = work_[chunk];
  Record& record = records_.at(chunk);
  std::shared_ptr<QuorumDelete> deletion = std::move(work.deletion);
  ++work.serial;
  if (deletion->committable()) {
    checker_.OnDeleteCommitted(chunk, record.config, deletion->epoch());
    deletion->OnCommitted();
    record.deleted = true;
    record.delete_epoch = deletion->epoch();
    world_.Mark("a delete was committed");
    world_.Trace("master commits the delete of " + Number(chunk));
    Tell(work.deletion_for, chunk, Status::Ok());
    // Bytes go only once the log is durable; Repair and reports see to it.
    LogAndThen([] {});
  } else {
    const Status failure = deletion->Refuse(NewEpoch());
    world_.Mark("a delete was refused");
    world_.Trace(failure.ToString());
    Tell(work.deletion_for, chunk, failure);
    work.aborts.push_back(deletion);
    RunDelete(chunk, deletion);
  }
  Drive(chunk);
}

// --- Repair, moves, reports
// -------------------------------------------------------------------------------------------

std::vector<ServerId> Master::ChooseMembers(const std::vector<ServerId>& keep,
                                            const std::set<ServerId>& avoid, size_t count) {
  std::vector<ServerId> chosen;
  const auto consider = [&](ServerId server) {
    if (chosen.size() < count && !Contains(chosen, server)) chosen.push_back(server);
  };
  for (ServerId server : keep) {
    if (!avoid.contains(server)) consider(server);
  }
  const size_t start = world_.Random(servers_.size());
  for (size_t i = 0; i < servers_.size(); ++i) {
    const ServerId server = servers_[(start + i) % servers_.size()]->id();
    if (IsUp(server) && !avoid.contains(server)) consider(server);
  }
  for (ServerId server : keep) consider(server);
  for (const Server* server : servers_) consider(server->id());
  return chosen;
}

void Master::MoveSomething() {
  std::vector<ChunkId> idle;
  for (const auto& [chunk, record] : records_) {
    const Work& work = work_[chunk];
    if (record.deleted || record.open || work.change || work.deletion || record.sealed == Stamp{}) continue;
    if (!work.holders.empty() || world_.now() < grace_until_) continue;
    idle.push_back(chunk);
  }
  if (idle.empty()) return;
  const ChunkId chunk = idle[world_.Random(idle.size())];
  const Record& record = records_.at(chunk);
  // Sometimes the policy changes as well; W stays above 1 where it was, so that the loss of one member stays
  // harmless.
  uint32_t replicas = static_cast<uint32_t>(record.config.members.size());
  uint32_t write_quorum = record.config.write_quorum;
  if (world_.Chance(250) && replicas >= 3) {
    replicas = 3 + static_cast<uint32_t>(world_.Random(servers_.size() - 2));
    write_quorum = std::max(2u, Majority(replicas));
    world_.Mark("a policy changed");
  }
  std::set<ServerId> avoid{record.config.members[world_.Random(record.config.members.size())]};
  StartChange(chunk, ReconfigurePurpose::kMove, ChooseMembers(record.config.members, avoid, replicas),
              write_quorum);
}

void Master::Repair(ChunkId chunk) {
  Record& record = records_.at(chunk);
  Work& work = work_[chunk];
  if (record.deleted || record.open || work.change || work.deletion || record.sealed == Stamp{}) return;
  for (ServerId member : record.config.members) {
    if (Contains(record.carriers, member) || !IsUp(member) || record.carriers.empty()) continue;
    if (!work.syncing.insert(member).second) continue;
    world_.AfterOn(kMaster, 1500, [this, chunk, member] { work_[chunk].syncing.erase(member); });
    // A fresh epoch: the target may have promised more than the configuration's.
    const Epoch epoch = NewEpoch();
    CallServer(
        member, "repair " + Number(chunk) + " to " + ToString(record.sealed) + " in epoch " + ToString(epoch),
        [chunk, epoch, base = record.sealed, sources = record.carriers](
            Server& server, const ReplyFn& reply) { server.Sync(chunk, epoch, base, sources, reply); },
        [this, chunk, member, base = record.sealed](const Answer& answer) {
          Record& now = records_.at(chunk);
          if (!answer.status.ok() || now.open || now.sealed != base) return;
          world_.Mark("a stale or damaged replica was repaired");
          NoteCarrier(now, member, true);
        });
  }
}

void Master::NoteCarrier(Record& record, ServerId server, bool carries) {
  const bool listed = Contains(record.carriers, server);
  if (carries && !listed && Contains(record.config.members, server)) record.carriers.push_back(server);
  if (!carries && listed) std::erase(record.carriers, server);
}

void Master::OnHeartbeat(ServerId server) { server_heard_at_[server] = world_.now(); }

void Master::OnRegister(ServerId server, bool needs_floor, const ReplyFn& reply) {
  if (lost_.erase(server) > 0) {
    // Attempts that counted it as lost start again: what it holds shall not be given up without need.
    for (auto& [chunk, work] : work_) {
      if (!work.change || work.activating || !Contains(work.change->input().old.members, server)) continue;
      if (work.change->phase() == Reconfiguration::Phase::kActive) continue;
      world_.Mark("a member declared lost came back in time");
      work.change.reset();
      ++work.serial;
    }
  }
  Answer answer;
  if (needs_floor) answer.info.promised = NewEpoch();
  reply(answer);
}

void Master::OnReport(ServerId server, const std::map<ChunkId, ReplicaInfo>& report) {
  for (const auto& [chunk, info] : report) MergeReplica(server, chunk, info);
  for (auto& [chunk, record] : records_) {
    // A full report that does not name the chunk: the replica is gone.
    if (!record.deleted && !record.open && !report.contains(chunk)) NoteCarrier(record, server, false);
  }
}

void Master::MergeReplica(ServerId server, ChunkId chunk, const ReplicaInfo& info) {
  Record& record = records_.at(chunk);
  Work& work = work_[chunk];
  const auto erase = [&](Epoch epoch) {
    CallServer(
        server, "erase " + Number(chunk) + " in epoch " + ToString(epoch),
        [chunk, epoch](Server& target, const ReplyFn& reply) { target.Erase(chunk, epoch, reply); },
        [](const Answer&) {});
  };
  if (record.deleted) {
    // The delete is durable when the synced log has it too. Any promise above its epoch is one that a fence
    // left behind.
    if (synced_.at(chunk).deleted) erase(std::max(record.delete_epoch, info.promised));
    return;
  }
  if (work.change || work.deletion) return;
  if (!Contains(record.config.members, server)) {
    erase(record.config.epoch);
    return;
  }
  if (info.tombstone && work.aborts.empty()) {
    world_.Mark("a tombstone on a living chunk was aborted");
    CallServer(
        server, "abort-delete " + Number(chunk),
        [chunk, epoch = NewEpoch()](Server& target, const ReplyFn& reply) {
          target.AbortDelete(chunk, epoch, reply);
        },
        [](const Answer&) {});
  }
  if (record.open) return;
  NoteCarrier(record, server, info.accepted == record.sealed && !info.corrupt);
  if (info.accepted > record.sealed) work.newer_than_record = true;
}

std::string Master::Unhealthy(ChunkId chunk) const {
  const Record& record = records_.at(chunk);
  const Work& work = work_.at(chunk);
  if (record.deleted) {
    for (const Server* server : servers_) {
      if (server->Find(chunk, false) != nullptr)
        return ToString(server->id()) + " still holds a deleted chunk";
    }
    return {};
  }
  if (work.change) return "a configuration change waits: " + work.change->WaitReason();
  if (work.deletion || !work.aborts.empty()) return "a delete is being decided or taken back";
  if (record.open) return "it is open";
  if (record.sealed != Stamp{} && record.carriers.size() < record.config.members.size()) {
    return std::to_string(record.carriers.size()) + " of " + std::to_string(record.config.members.size()) +
           " members carry " + ToString(record.sealed);
  }
  return {};
}

}  // namespace cairn::sim
