#include <algorithm>

#include "common/log.h"
#include "master/cluster/placement.h"
#include "master/cluster/repair_manager.h"
#include "master/cluster/replica_audit.h"
#include "master/core/reconfigure_op.h"
#include "master/core/request_op.h"
#include "master/state/chunk_queries.h"
#include "master/state/queries.h"

namespace cairn::master {
namespace {

constexpr int64_t kRetryNanos = 500 * kNanosPerMilli;

bool Contains(const std::vector<ServerId>& list, ServerId server) {
  return std::find(list.begin(), list.end(), server) != list.end();
}

}  // namespace

void ChunkTroubleRequestOp::NoteTroubles(Core& core) {
  const proto::ChunkTroubleOp& op = request_.chunk_trouble();
  const ChunkId chunk(op.chunk());
  for (const proto::MemberTrouble& member : op.members()) {
    const Status status = FromProto(member.status());
    core.history().Add(chunk, core.wall(),
                       "session " + ToString(session) + " reports " + ToString(ServerId(member.server())) +
                           ": " + status.ToString());
    core.audit().OnTrouble(chunk, ServerId(member.server()), status);
  }
  core.repair().Look(chunk);
}

std::vector<ServerId> ChunkTroubleRequestOp::ChooseMembers(Core& core, const proto::ChunkRecord& record,
                                                           std::string* problem) {
  const proto::ChunkTroubleOp& op = request_.chunk_trouble();
  std::vector<ServerId> good;
  std::vector<ServerId>
      troubled;  // up, but the writer could not write there: better than nobody, a sync brings it back
  for (uint32_t id_value : record.members()) {
    const ServerId member(id_value);
    if (!core.servers().IsUp(member)) continue;
    const bool trouble =
        std::any_of(op.members().begin(), op.members().end(), [&](const proto::MemberTrouble& one) {
          return one.server() == id_value && one.status().code() != 0;
        });
    (trouble ? troubled : good).push_back(member);
  }
  auto policy = EffectivePolicy(core.txn(), InodeId(record.inode()));
  PlacementRequest request;
  request.replicas = record.replicas();
  request.write_quorum = 0;
  request.keep = good;
  request.exclude = troubled;
  std::string storage_class;
  if (policy.ok()) {
    auto domain = ParseFailureDomain(policy->failure_domain());
    if (domain.ok()) request.domain = *domain;
    storage_class = policy->storage_class();
    request.scatter_width = policy->scatter_width();
  }
  auto placed = Place(request, core.servers().ForPlacement(storage_class), core.NextSeed());
  std::vector<ServerId> members = placed.ok() ? *placed : good;
  for (ServerId server : troubled) {
    if (members.size() < record.replicas() && !Contains(members, server)) members.push_back(server);
  }
  // Down members complete the set, so that they are brought up to date when they come back.
  for (uint32_t id_value : record.members()) {
    if (members.size() < record.write_quorum()) break;
    if (members.size() < record.replicas() && !Contains(members, ServerId(id_value)))
      members.push_back(ServerId(id_value));
  }
  if (members.size() >= record.write_quorum()) return members;

  std::string reasons;
  for (uint32_t id_value : record.members()) {
    std::string reason = core.servers().DownReason(ServerId(id_value), core.now());
    for (const proto::MemberTrouble& one : op.members()) {
      if (reason.empty() && one.server() == id_value && one.status().code() != 0) {
        reason = ToString(ServerId(id_value)) + " " + one.status().message();
      }
    }
    if (!reason.empty()) reasons += (reasons.empty() ? "" : ", ") + reason;
  }
  *problem = "write refused: " + std::to_string(good.size()) + " of the " +
             std::to_string(record.write_quorum()) + " confirmations required for chunk " +
             ToString(ChunkId(op.chunk())) + " (" + reasons + ")";
  return {};
}

Progress ChunkTroubleRequestOp::Try(Core& core) {
  const proto::ChunkTroubleOp& op = request_.chunk_trouble();
  const ChunkId chunk(op.chunk());
  if (!noted_) {
    noted_ = true;
    NoteTroubles(core);
    deadline_ns_ = core.now() + core.options().write_timeout_ms * kNanosPerMilli;
    if (!op.need_replacement()) return Reply(core, {});
  }
  auto record = ChunkRecordOf(core.txn(), chunk);
  if (!record || record->inode() != op.inode()) {
    return Fail(core, Status(StatusCode::kLeaseLost,
                             "chunk " + ToString(chunk) + " is not part of the file any more"));
  }
  auto lease = WriteLeaseOf(core.txn(), InodeId(op.inode()));
  if (!lease || lease->session != session || lease->vanished || record->state() == proto::CHUNK_SEALED) {
    return Fail(core, Status(StatusCode::kLeaseLost, "the session does not hold the write lease of inode " +
                                                         std::to_string(op.inode())));
  }
  auto answer = [&] {
    proto::Reply reply;
    *reply.mutable_layout()->add_chunks() = LayoutOf(chunk, *record);
    reply.set_log_index(core.log_index());
    return Reply(core, std::move(reply));
  };
  if (finished_) {
    if (outcome_.ok()) return answer();
    core.RememberRefusal(InodeId(op.inode()), outcome_);
    CAIRN_LOG(Warning, "session {}: {}", session.value(), outcome_.message());
    return Fail(core, outcome_);
  }
  if (running_) return Progress::kWaiting;
  if (record->epoch() > op.epoch())
    return answer();  // changed already; the writer asks with what it knew before

  auto done = [&core, me = id](const Status& status) {
    auto* self = core.FindOperation<ChunkTroubleRequestOp>(me);
    if (self == nullptr) return;
    self->finished_ = true;
    self->outcome_ = status;
    core.Wake(me);
  };
  if (ReconfigureOp* other = ReconfigureOp::Running(core, chunk)) {
    running_ = true;
    other->AddListener(done);
    return Progress::kWaiting;
  }
  std::string problem;
  std::vector<ServerId> members = ChooseMembers(core, *record, &problem);
  if (members.empty()) {
    if (core.now() >= deadline_ns_) {
      const Status refusal(StatusCode::kNoQuorum, problem);
      core.RememberRefusal(InodeId(op.inode()), refusal);
      CAIRN_LOG(Warning, "session {}: {}", session.value(), refusal.message());
      return Fail(core, refusal);
    }
    WakeAfter(core, std::min(kRetryNanos, std::max<int64_t>(deadline_ns_ - core.now(), kNanosPerMilli)));
    return Progress::kWaiting;
  }
  running_ = true;
  ReconfigureRequest request;
  request.chunk = chunk;
  request.purpose = replication::ReconfigurePurpose::kLiveWriter;
  request.members = std::move(members);
  request.reason = "its writer is below the quorum";
  request.give_up_ns = deadline_ns_;
  ReconfigureOp::Start(core, std::move(request), done);
  return Progress::kWaiting;
}

}  // namespace cairn::master
