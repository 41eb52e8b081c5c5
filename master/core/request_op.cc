#include "master/core/request_op.h"

#include <algorithm>

#include "common/log.h"
#include "master/cluster/placement.h"
#include "master/state/chunk_queries.h"
#include "master/state/queries.h"

namespace cairn::master {
namespace {

constexpr int64_t kSlowNanos = kNanosPerSecond;

// The file or directory that a request is about, for the log; 0: none.
uint64_t SubjectOf(const proto::Request& request) {
  const auto* field = proto::Request::descriptor()->FindFieldByNumber(request.op_case());
  if (field == nullptr || field->message_type() == nullptr) return 0;
  const google::protobuf::Message& op = request.GetReflection()->GetMessage(request, field);
  for (const char* name : {"inode", "parent", "from_parent"}) {
    const auto* subject = op.GetDescriptor()->FindFieldByName(name);
    if (subject != nullptr && subject->cpp_type() == google::protobuf::FieldDescriptor::CPPTYPE_UINT64)
      return op.GetReflection()->GetUInt64(op, subject);
  }
  return 0;
}

// The client logs the same session and request numbers (client/session/session.cc).
void LogAnswer(SessionId session, const proto::Request& request, const proto::Reply& reply, int64_t took_ns) {
  const bool slow = took_ns >= kSlowNanos;
  if (!slow && !LogEnabled(LogLevel::kDebug)) return;
  const auto* field = proto::Request::descriptor()->FindFieldByNumber(request.op_case());
  const std::string text =
      fmt::format("{}session={} request={} op={} inode={} took_ms={} index={} {}", slow ? "slow: " : "", session.value(),
                  request.number(), field == nullptr ? "unknown" : field->name(), SubjectOf(request),
                  took_ns / kNanosPerMilli, reply.log_index(), FromProto(reply.status()).ToString());
  LogLine(slow ? LogLevel::kInfo : LogLevel::kDebug, text);
}

bool WriterVanished(Core& core, InodeId inode) {
  const auto lease = WriteLeaseOf(core.txn(), inode);
  return lease && lease->vanished;
}

}  // namespace

Progress RequestOp::Step(Core& core) {
  if (ended_) {
    Abandon(core);
    return Progress::kFinished;
  }
  if (taken_up_ns_ == 0) taken_up_ns_ = core.request_metrics().Now();
  if (core.tail().MayBeMissing() && core.sessions().InGrace(core.now())) {
    core.WaitForGrace(id);
    return Progress::kWaiting;
  }
  return Try(core);
}

Progress RequestOp::Reply(Core& core, proto::Reply reply) {
  reply.set_number(request_.number());
  core.request_metrics().Answered(request_.op_case(), taken_up_ns_, reply.status().code() == 0);
  if (taken_up_ns_ != 0) LogAnswer(session, request_, reply, core.request_metrics().Now() - taken_up_ns_);
  core.Answer(session, std::move(reply));
  return Progress::kFinished;
}

Progress RequestOp::Fail(Core& core, const Status& status) {
  proto::Reply reply;
  *reply.mutable_status() = ToProto(status);
  return Reply(core, std::move(reply));
}

proto::LogCommand RequestOp::NewCommand() const {
  proto::LogCommand command;
  command.set_session(session.value());
  command.set_request_number(request_.number());
  command.set_acked_through(request_.acked_through());
  *command.mutable_credentials() = request_.credentials();
  return command;
}

void RequestOp::WakeAfter(Core& core, int64_t nanos) {
  core.timers().At(core.now() + nanos, [&core, me = id] { core.Wake(me); });
}

bool RequestOp::Available(Core& core, InodeId inode, Status* failure) {
  const bool blocked = core.inodes().LockedByOther(inode, id) || WriterVanished(core, inode);
  return Unblocked(core, inode, blocked, failure);
}

bool RequestOp::Recovered(Core& core, InodeId inode, Status* failure) {
  return Unblocked(core, inode, WriterVanished(core, inode), failure);
}

bool RequestOp::Unblocked(Core& core, InodeId inode, bool blocked, Status* failure) {
  if (!blocked) return true;
  const int64_t timeout_ns = core.options().write_timeout_ms * kNanosPerMilli;
  if (blocked_since_ns_ == 0) {
    blocked_since_ns_ = core.now();
    WakeAfter(core, timeout_ns);
  }
  if (core.now() - blocked_since_ns_ >= timeout_ns) {
    std::string reason = "inode " + ToString(inode) + " is busy";
    auto recovery = core.running().recoveries.find(inode);
    if (recovery != core.running().recoveries.end()) {
      if (auto* op = core.FindOperation<Operation>(recovery->second)) reason = op->WaitReason();
    }
    *failure = Status(StatusCode::kNoQuorum, "gave up after " + FormatSeconds(timeout_ns) + ": " + reason);
    core.RememberRefusal(inode, *failure);
    return false;
  }
  core.inodes().Wait(inode, id);
  return false;
}

bool RequestOp::WaitsForServers(Core& core, const Status& placement) {
  if (placement.code() != StatusCode::kNoQuorum) return false;
  if (unplaced_since_ns_ == 0) unplaced_since_ns_ = core.now();
  const int64_t left_ns = unplaced_since_ns_ + core.options().write_timeout_ms * kNanosPerMilli - core.now();
  if (left_ns <= 0) return false;
  WakeAfter(core, std::min<int64_t>(left_ns, 200 * kNanosPerMilli));
  return true;
}

bool RequestOp::WaitsForProcedure(Core& core, const proto::Reply& reply) {
  const bool opens = request_.has_announce() || request_.has_lease() || request_.has_create();
  if (!opens || reply.status().code() != static_cast<uint32_t>(StatusCode::kBusy)) return false;
  if (blocked_since_ns_ == 0) blocked_since_ns_ = core.now();
  if (core.now() - blocked_since_ns_ >= core.options().write_timeout_ms * kNanosPerMilli) return false;
  WakeAfter(core, 50 * kNanosPerMilli);
  return true;
}

Status RequestOp::AddPlacements(Core& core, const Effects& effects, InodeId parent,
                                proto::LogCommand* command) {
  for (const InodeChunk& needed : effects.placements_needed) {
    const InodeId owner = needed.inode ? needed.inode : parent;
    CAIRN_ASSIGN_OR_RETURN(const proto::Policy policy, EffectivePolicy(core.txn(), owner));
    PlacementRequest request;
    request.replicas = policy.replicas();
    request.write_quorum = policy.write_quorum();
    CAIRN_ASSIGN_OR_RETURN(request.domain, ParseFailureDomain(policy.failure_domain()));
    request.scatter_width = policy.scatter_width();
    auto placed = Place(request, core.servers().ForPlacement(policy.storage_class()), core.NextSeed());
    if (!placed.ok()) {
      core.RememberRefusal(owner, placed.status());
      return placed.status();
    }
    proto::Placement* placement = command->add_placements();
    placement->set_chunk(core.ids().NextChunk().value());
    for (ServerId server : *placed) placement->add_servers(server.value());
  }
  return Status::Ok();
}

}  // namespace cairn::master
