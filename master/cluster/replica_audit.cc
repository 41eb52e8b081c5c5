#include "master/cluster/replica_audit.h"

#include <algorithm>

#include "common/log.h"
#include "master/cluster/erasure.h"
#include "master/cluster/repair_manager.h"
#include "master/core/core.h"
#include "master/core/delete_procedure.h"
#include "master/core/reconfigure_op.h"
#include "master/core/recover_op.h"
#include "master/state/chunk_queries.h"
#include "master/state/keys.h"

namespace cairn::master {
namespace {

constexpr size_t kPage = 2000;
constexpr size_t kMaxLater = 100'000;
constexpr size_t kLaterPerTick = 500;
constexpr int64_t kSurplusRetryNanos = 5 * kNanosPerSecond;
constexpr int64_t kSurplusFirstNanos = kNanosPerSecond;
constexpr int64_t kAskAgainNanos = kNanosPerSecond;

bool IsMember(const proto::ChunkRecord& record, ServerId server) {
  return std::find(record.members().begin(), record.members().end(), server.value()) !=
         record.members().end();
}
bool IsCarrier(const proto::ChunkRecord& record, ServerId server) {
  return std::find(record.carriers().begin(), record.carriers().end(), server.value()) !=
         record.carriers().end();
}

}  // namespace

void ReplicaAudit::OnRegistered(ServerId server) {
  differences_.erase(server);
  unknown_.erase(server);
  Report& report = reports_[server];
  report = Report{};
  report.chunks_below = core_.ids().chunks_next().value();
}

void ReplicaAudit::OnDown(ServerId server) {
  differences_.erase(server);
  unknown_.erase(server);
  reports_.erase(server);
}

void ReplicaAudit::OnDiskFailed(ServerId server) {
  const auto it = reports_.find(server);
  if (it == reports_.end()) return;
  it->second.outdated = true;
  if (!it->second.complete) return;
  it->second.chunks_below = core_.ids().chunks_next().value();
  it->second.cursor = ChunkId{};
}

void ReplicaAudit::OnReport(ServerId server, const proto::ReplicaReport& report) {
  auto it = reports_.find(server);
  if (it == reports_.end() || it->second.complete) return;
  for (const proto::ReplicaInfoProto& replica : report.replicas()) {
    const replication::ReplicaInfo info = FromProto(replica);
    it->second.seen.insert(info.chunk);
    Compare(server, info);
  }
  if (!report.last()) return;
  it->second.complete = true;
  core_.servers().Find(server)->reported = true;
  CAIRN_LOG(Info, "{} reported {} replicas", ToString(server), it->second.seen.size());
}

void ReplicaAudit::Compare(ServerId server, const replication::ReplicaInfo& info) {
  const ChunkId chunk = info.chunk;
  auto record = ChunkRecordOf(core_.txn(), chunk);
  if (!record) {
    if (chunk.value() >= core_.ids().chunks_reserved_below()) {
      CAIRN_LOG(Error, "{} holds chunk {}, which this cluster never allocated; it is left alone",
                ToString(server), ToString(chunk));
      return;
    }
    if (core_.txn().Get(Family::kServerChunks, keys::ServerChunk(server, chunk))) {
      // Deleting a chunk takes it from this list, too: the record was lost, and what is here may be acknowledged data.
      CAIRN_LOG(Error, "{} holds chunk {}, whose record is lost; it is kept, see cairn fsck --repair", ToString(server),
                ToString(chunk));
      return;
    }
    // A session that is still missing may bring its unrecorded tail back, so wait for the end of the grace
    // period.
    Postpone(server, info,
             core_.sessions().GraceLeft(core_.now()) + core_.options().delete_grace_ms * kNanosPerMilli);
    return;
  }
  if (record->state() == proto::CHUNK_DELETING) {
    core_.erasure().Add(chunk, core_.log_index());
    return;
  }
  if (!IsMember(*record, server)) {
    Postpone(server, info, kSurplusFirstNanos);
    return;
  }
  if (info.tombstone) DeleteProcedure::AbortStray(core_, chunk, server);
  if (record->state() != proto::CHUNK_SEALED) return;  // its writer or its recovery looks after it
  const Stamp sealed = FromProto(record->sealed());
  if (info.corrupt) {
    Note(chunk, server, ReplicaCondition::kCorrupt, "holds a block that failed its checksum");
  } else if (info.accepted == sealed) {
    Clear(chunk, server);
    if (!IsCarrier(*record, server)) AddCarrier(chunk, sealed, server);
  } else if (info.accepted > sealed) {
    Postpone(server, info, core_.sessions().GraceLeft(core_.now()));
  } else {
    Note(chunk, server, ReplicaCondition::kStale,
         "accepted " + ToString(info.accepted) + ", sealed is " + ToString(sealed));
  }
}

bool ReplicaAudit::ShouldHave(ServerId server, ChunkId chunk) {
  auto record = ChunkRecordOf(core_.txn(), chunk);
  if (!record) return false;
  if (record->state() == proto::CHUNK_DELETING) {  // nothing there to erase any more
    core_.erasure().Add(chunk, core_.log_index());
    return false;
  }
  return record->state() == proto::CHUNK_SEALED && IsMember(*record, server);
}

void ReplicaAudit::Missing(ServerId server, ChunkId chunk) {
  if (ShouldHave(server, chunk)) Note(chunk, server, ReplicaCondition::kMissing, "the server does not have it");
}

void ReplicaAudit::Note(ChunkId chunk, ServerId server, ReplicaCondition condition, std::string detail) {
  auto [it, inserted] = differences_[server].try_emplace(chunk);
  if (inserted || it->second.condition != condition) {
    core_.history().Add(chunk, core_.wall(),
                        ToString(server) + " is " + ConditionName(condition) + ": " + detail);
  }
  it->second = {condition, std::move(detail)};
  core_.repair().Look(chunk);
}

const ReplicaDifference* ReplicaAudit::Find(ChunkId chunk, ServerId server) const {
  auto it = differences_.find(server);
  if (it == differences_.end()) return nullptr;
  auto difference = it->second.find(chunk);
  return difference == it->second.end() ? nullptr : &difference->second;
}

void ReplicaAudit::Clear(ChunkId chunk, ServerId server) {
  auto it = differences_.find(server);
  if (it != differences_.end()) it->second.erase(chunk);
}

bool ReplicaAudit::AddCarrier(ChunkId chunk, Stamp stamp, ServerId server) {
  auto record = ChunkRecordOf(core_.txn(), chunk);
  if (!record) return false;
  proto::LogCommand command;
  auto* report = command.mutable_report_carriers();
  report->set_chunk(chunk.value());
  *report->mutable_stamp() = ToProto(stamp);
  for (uint32_t carrier : record->carriers()) {
    if (ServerId(carrier) != server && Find(chunk, ServerId(carrier)) == nullptr)
      report->add_carriers(carrier);
  }
  report->add_carriers(server.value());
  return core_.Apply(command).ok();
}

void ReplicaAudit::ForgetChunk(ChunkId chunk) {
  for (auto& [server, differences] : differences_) differences.erase(chunk);
}

void ReplicaAudit::OnDamage(ServerId server, const proto::DamageReport& damage) {
  auto record = ChunkRecordOf(core_.txn(), ChunkId(damage.chunk()));
  if (!record || !IsMember(*record, server)) return;
  CAIRN_LOG(Warning, "{}: chunk {} is damaged at byte {}: {}", ToString(server),
            ToString(ChunkId(damage.chunk())), damage.offset(), damage.detail());
  Note(ChunkId(damage.chunk()), server, ReplicaCondition::kCorrupt,
       "block at byte " + std::to_string(damage.offset()) + " failed its checksum: " + damage.detail());
}

void ReplicaAudit::OnTrouble(ChunkId chunk, ServerId server, const Status& status) {
  auto record = ChunkRecordOf(core_.txn(), chunk);
  if (!record || !IsMember(*record, server) || status.ok()) return;
  if (status.code() == StatusCode::kCorrupt) {
    Note(chunk, server, ReplicaCondition::kCorrupt, "a reader found: " + status.message());
  } else if (record->state() == proto::CHUNK_OPEN) {
    // Its writer goes on without it: out of this epoch until a sync.
    if (core_.servers().IsUp(server)) {
      Note(chunk, server, ReplicaCondition::kStale, "dropped by its writer: " + status.ToString());
    }
  } else {
    Query(chunk, server);
  }
}

void ReplicaAudit::Ask(ChunkId chunk, ServerId server) {
  if (core_.servers().IsUp(server) && unknown_[server].insert(chunk).second) Query(chunk, server);
}

bool ReplicaAudit::Unknown(ChunkId chunk, ServerId server) const {
  const auto it = unknown_.find(server);
  return it != unknown_.end() && it->second.contains(chunk);
}

void ReplicaAudit::Query(ChunkId chunk, ServerId server) {
  if (!core_.servers().IsUp(server)) return;
  proto::ChunkCommand command;
  command.set_chunk(chunk.value());
  command.mutable_query();
  core_.commander().Send(server, std::move(command),
                         core_.now() + core_.options().command_timeout_ms * kNanosPerMilli,
                         [this, chunk, server](const CommandOutcome& outcome) { OnAnswer(chunk, server, outcome); });
}

void ReplicaAudit::OnAnswer(ChunkId chunk, ServerId server, const CommandOutcome& outcome) {
  const bool unknown = Unknown(chunk, server);
  const StatusCode code = outcome.status.code();
  const bool has = outcome.answered && outcome.status.ok() && outcome.has_info;
  const bool has_not = outcome.answered && code == StatusCode::kUnknownChunk;
  const bool disk_failed = outcome.answered && code == StatusCode::kIoError && unknown;  // nor did it report the chunk
  if (has || has_not || disk_failed) {
    if (unknown) unknown_[server].erase(chunk);
    if (!has) return Missing(server, chunk);
    replication::ReplicaInfo info = outcome.info;
    info.chunk = chunk;
    return Compare(server, info);
  }
  if (!unknown) return;
  // Too busy, or its answer was lost: nothing is known yet, and no report will say it.
  core_.timers().At(core_.now() + kAskAgainNanos, [this, chunk, server] {
    if (!Unknown(chunk, server)) return;
    if (ShouldHave(server, chunk)) return Query(chunk, server);
    unknown_[server].erase(chunk);
  });
}

void ReplicaAudit::Postpone(ServerId server, const replication::ReplicaInfo& info, int64_t delay_ns) {
  later_.push_back({server, info, core_.now() + delay_ns});
  if (later_.size() > kMaxLater) later_.pop_front();
}

void ReplicaAudit::Erase(const Later& copy, Epoch epoch, bool quarantine, const std::string& why) {
  const ChunkId chunk = copy.info.chunk;
  CAIRN_LOG(Info, "{} erases chunk {}: {}", ToString(copy.server), ToString(chunk), why);
  core_.history().Add(chunk, core_.wall(), ToString(copy.server) + " erases its copy: " + why);
  proto::ChunkCommand command;
  command.set_chunk(chunk.value());
  command.mutable_erase()->set_epoch(epoch.value());
  command.mutable_erase()->set_quarantine(quarantine);
  core_.commander().Send(copy.server, std::move(command), core_.now() + core_.options().command_timeout_ms * kNanosPerMilli,
                         [this, copy](const CommandOutcome& outcome) {
                           if (outcome.status.ok() || outcome.status.code() == StatusCode::kUnknownChunk) return;
                           CAIRN_LOG(Warning, "{} did not erase chunk {}: {}", ToString(copy.server), ToString(copy.info.chunk),
                                     outcome.status.ToString());
                           Postpone(copy.server, copy.info, kSurplusRetryNanos);
                         });
}

bool ReplicaAudit::IsSurplusErasable(ChunkId chunk) const {
  auto record = ChunkRecordOf(core_.txn(), chunk);
  if (!record || record->state() != proto::CHUNK_SEALED) return false;
  if (core_.running().reconfigurations.contains(chunk) || core_.repair().Busy(chunk)) return false;
  // Only when the copies that stay are all there now, on servers that are up.
  uint32_t current = 0;
  for (uint32_t member : record->members()) {
    const ServerId id(member);
    const auto report = reports_.find(id);
    if (report == reports_.end() || !report->second.complete || report->second.chunks_below != 0) continue;
    if (IsCarrier(*record, id) && core_.servers().IsUp(id) && Find(chunk, id) == nullptr && !Unknown(chunk, id)) ++current;
  }
  return current >= record->replicas();
}

void ReplicaAudit::Tick() {
  FindMissing();
  const size_t count = std::min(later_.size(), kLaterPerTick);
  for (size_t i = 0; i < count; ++i) {
    Later later = std::move(later_.front());
    later_.pop_front();
    if (!core_.servers().IsUp(later.server)) continue;  // it reports again when it is back
    if (later.not_before_ns > core_.now()) {
      later_.push_back(std::move(later));
      continue;
    }
    const ChunkId chunk = later.info.chunk;
    auto record = ChunkRecordOf(core_.txn(), chunk);
    if (!record) {
      if (core_.durable_index() <
          core_.committed_index()) {  // a delete that is not on disk yet could come back
        later_.push_back(std::move(later));
        continue;
      }
      Erase(later, core_.ids().NextEpoch(), !later.info.tombstone, "it belongs to no file");
    } else if (record->state() == proto::CHUNK_DELETING) {
      core_.erasure().Add(chunk, core_.log_index());
    } else if (!IsMember(*record, later.server)) {
      if (IsSurplusErasable(chunk)) {
        // Its space is wanted (a full disk is being emptied). What is newer than the record should not be; it is not thrown away.
        const bool newer = later.info.accepted > FromProto(record->sealed());
        Erase(later, Epoch(record->epoch()), newer, "surplus: the chunk has all its copies elsewhere");
      } else {
        Postpone(later.server, later.info, kSurplusRetryNanos);
      }
    } else if (record->state() == proto::CHUNK_SEALED && later.info.accepted > FromProto(record->sealed())) {
      if (ReconfigureOp::Running(core_, chunk) != nullptr) continue;
      ReconfigureRequest request;
      request.chunk = chunk;
      request.purpose = replication::ReconfigurePurpose::kRepair;
      request.reason =
          ToString(later.server) + " has " + ToString(later.info.accepted) + ", newer than the record";
      ReconfigureOp::Start(core_, std::move(request), nullptr);
    }
  }
}

void ReplicaAudit::FindMissing() {
  for (auto& [server, report] : reports_) {
    if (!report.complete || report.chunks_below == 0) continue;
    const std::vector<ChunkId> page = ChunksOfServer(core_.txn(), server, report.cursor, kPage);
    for (ChunkId chunk : page) {
      report.cursor = chunk;
      if (chunk.value() >= report.chunks_below) break;
      // A report is as old as its beginning: the server may have been given the chunk since, by a recovery or by its writer.
      if ((report.outdated || !report.seen.contains(chunk)) && ShouldHave(server, chunk)) Ask(chunk, server);
    }
    if (page.size() < kPage || report.cursor.value() >= report.chunks_below) {
      report.seen = {};
      report.chunks_below = 0;  // done
      report.outdated = false;
      core_.repair().OnServerReported(server);
    }
  }
}

}  // namespace cairn::master
