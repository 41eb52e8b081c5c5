#include "master/cluster/server_keeper.h"

#include "common/log.h"
#include "master/cluster/disk_roster.h"
#include "master/cluster/event_log.h"
#include "master/cluster/repair_manager.h"
#include "master/core/core.h"
#include "master/core/messages.h"
#include "master/state/chunk_queries.h"

namespace cairn::master {
namespace {

constexpr int64_t kPeriodNanos = kNanosPerSecond / 5;
constexpr size_t kForgetPage = 500;

}  // namespace

Status ServerKeeper::Apply(ServerId server, proto::LogCommand command) {
  const ApplyResult result = core_.Apply(command);
  if (!result.ok()) return FromProto(result.reply.status());
  for (const ServerEntry& entry : AllServers(core_.txn())) {
    if (entry.server == server) core_.servers().TakeRecord(server, entry.record);
  }
  return Status::Ok();
}

Status ServerKeeper::SetLabels(ServerId server, const proto::SetServerLabelsCmd& labels) {
  proto::LogCommand command;
  *command.mutable_set_server_labels() = labels;
  CAIRN_RETURN_IF_ERROR(Apply(server, command));
  core_.repair().OnServerReported(server);  // what is in one failure domain may be another matter now
  ServerMessages::TellSessions(core_);
  return Status::Ok();
}

Status ServerKeeper::SetDisks(ServerId server, const std::vector<proto::DiskRecord>& disks) {
  proto::LogCommand command;
  command.mutable_set_server_disks()->set_server(server.value());
  for (const proto::DiskRecord& disk : disks) *command.mutable_set_server_disks()->add_disks() = disk;
  return Apply(server, command);
}

void ServerKeeper::OnRegistered(ServerId server, const proto::Register& request, proto::RegisterReply* reply) {
  const ServerInfo* info = core_.servers().Find(server);
  const DiskRecords recorded(info->roster.begin(), info->roster.end());
  RosterChange change = ReconcileDisks(recorded, request.disks(), core_.TimeNow());
  if (change.changed) {
    const Status recorded_now = SetDisks(server, {change.disks.begin(), change.disks.end()});
    if (!recorded_now.ok()) CAIRN_LOG(Error, "the disks of {}: {}", ToString(server), recorded_now.message());
  }
  for (const auto& [kind, text] : change.events) {
    core_.events().Add(kind == "disk.missing" ? Severity::kWarning : Severity::kInfo, kind,
                       ToString(server) + ": " + text, {.server = server});
  }
  for (const std::string& disk : change.missing) reply->add_missing_disks(disk);
  if (!change.missing.empty() && reply->epoch_floor() == 0)
    reply->set_epoch_floor(core_.ids().NextEpoch().value());
  for (const proto::DiskRecord& disk : change.disks) {
    if (disk.draining()) reply->add_draining_disks(disk.disk_uuid());
  }
}

void ServerKeeper::OnHeartbeat(const ServerInfo& server, const proto::Heartbeat& heartbeat,
                               proto::HeartbeatReply* reply) {
  std::vector<proto::DiskRecord> disks = server.roster;
  bool settled = false;
  for (proto::DiskRecord& disk : disks) {
    if (disk.draining()) reply->add_draining_disks(disk.disk_uuid());
    if (!heartbeat.missing_disks_taken() || !disk.missing() || disk.absence_settled()) continue;
    disk.set_absence_settled(true);
    settled = true;
  }
  TellDrainedDisks(server);
  if (settled) (void)SetDisks(server.id, disks);
}

void ServerKeeper::TellDrainedDisks(const ServerInfo& server) {
  for (const proto::DiskRecord& record : server.roster) {
    if (!record.draining()) {
      drained_told_.erase(record.disk_uuid());
      continue;
    }
    for (const proto::DiskInfo& disk : server.disks) {
      if (disk.disk_uuid() != record.disk_uuid() || !disk.draining() || disk.failed() || disk.chunks() > 0) continue;
      if (!drained_told_.insert(disk.disk_uuid()).second) continue;
      core_.events().Add(Severity::kInfo, "disk.drained",
                         ToString(server.id) + ": disk " + disk.path() + " (" + disk.disk_uuid() +
                             ") is empty: stop the server, leave it out, start it, then `cairn disk forget`",
                         {.server = server.id});
    }
  }
}

Status ServerKeeper::SetMode(ServerId server, proto::ServerMode mode, int64_t until_wall_ns,
                             const std::string& reason, const std::string& by, uint64_t drain_chunks) {
  proto::LogCommand command;
  auto* set = command.mutable_set_server_mode();
  set->set_server(server.value());
  set->set_mode(mode);
  set->set_reason(reason);
  set->set_operator_(by);
  set->set_drain_chunks(drain_chunks);
  if (until_wall_ns != 0) {
    set->mutable_maintenance_until()->set_seconds(until_wall_ns / kNanosPerSecond);
    set->mutable_maintenance_until()->set_nanos(static_cast<uint32_t>(until_wall_ns % kNanosPerSecond));
  }
  CAIRN_RETURN_IF_ERROR(Apply(server, command));
  // One that is removed as soon as it is empty was drained all the same.
  if (auto drain = drains_.find(server); drain != drains_.end()) TickDrain(server, drain->second);
  drains_.erase(server);
  core_.repair().OnServerReported(server);  // a scan over its chunks
  return Status::Ok();
}

bool ServerKeeper::Drained(ServerId server) const {
  return ChunksOfServer(core_.txn(), server, ChunkId{}, 1).empty();
}

int64_t ServerKeeper::DrainSeenSince(ServerId server) const {
  auto it = drains_.find(server);
  return it == drains_.end() ? core_.now() : it->second.since_ns;
}

void ServerKeeper::Tick() {
  if (core_.now() < next_ns_) return;
  next_ns_ = core_.now() + kPeriodNanos;
  std::vector<ServerId> over;
  for (const auto& [id, server] : core_.servers().all()) {
    if (server.mode == proto::SERVER_DRAINING) {
      auto [it, first] = drains_.try_emplace(id);
      if (first) it->second.since_ns = core_.now();
      TickDrain(id, it->second);
    } else if (server.mode == proto::SERVER_REMOVED) {
      ForgetDeleted(id);
    } else if (server.in_maintenance() && core_.wall() >= server.maintenance_until_wall_ns) {
      over.push_back(id);
    }
  }
  for (ServerId id : over) {
    const bool up = core_.servers().IsUp(id);
    (void)SetMode(id, proto::SERVER_IN_SERVICE, 0, "", "", 0);
    core_.events().Add(up ? Severity::kInfo : Severity::kWarning, "maintenance.over",
                       "the maintenance of " + ToString(id) + " is over" +
                           (up ? "" : " and it is not back: its copies are replaced now"),
                       {.server = id});
  }
}

void ServerKeeper::TickDrain(ServerId server, Drain& drain) {
  if (drain.done) return;
  if (!Drained(server)) {
    drain.seen_full = true;
    return;
  }
  drain.done = true;
  if (!drain.seen_full) return;  // told before a restart
  core_.events().Add(Severity::kInfo, "drain.finished",
                     ToString(server) + " is empty after " + FormatSeconds(core_.now() - drain.since_ns) +
                         ": it can be stopped and removed (cairn server remove " + ToString(server) + ")",
                     {.server = server});
}

// A deleted chunk waits until each member erased its copy. One that was removed never will.
void ServerKeeper::ForgetDeleted(ServerId server) {
  ChunkId& cursor = forget_from_[server];
  const std::vector<ChunkId> page = ChunksOfServer(core_.txn(), server, cursor, kForgetPage);
  for (ChunkId chunk : page) {
    auto record = ChunkRecordOf(core_.txn(), chunk);
    if (!record || record->state() != proto::CHUNK_DELETING) continue;
    proto::LogCommand command;
    command.mutable_chunk_erased()->set_chunk(chunk.value());
    command.mutable_chunk_erased()->set_server(server.value());
    core_.Apply(command);
  }
  cursor = page.size() < kForgetPage ? ChunkId{} : page.back();
}

}  // namespace cairn::master
