#include <algorithm>
#include <memory>

#include "common/log.h"
#include "master/cluster/event_log.h"
#include "master/cluster/repair_manager.h"
#include "master/cluster/replica_audit.h"
#include "master/core/admin.h"
#include "master/core/delete_procedure.h"
#include "master/core/reconfigure_op.h"
#include "master/state/chunk_queries.h"
#include "master/state/queries.h"

namespace cairn::master {
namespace {

constexpr int64_t kQueryNanos = 3 * kNanosPerSecond;
constexpr int64_t kAcceptLossWaitNanos = 10 * kNanosPerSecond;

std::string StateOf(const proto::ChunkRecord& record, const replication::ReplicaInfo& info) {
  if (info.tombstone) return "tombstone";
  if (info.corrupt) return "corrupt";
  const Stamp sealed = FromProto(record.sealed());
  if (record.state() == proto::CHUNK_OPEN) {
    return info.accepted.epoch == Epoch(record.epoch()) || info.accepted == FromProto(record.base())
               ? "current"
               : "stale";
  }
  return info.accepted == sealed ? "current" : "stale";
}

struct Explanation {
  proto::ExplainChunkResponse response;
  proto::ChunkRecord record;
  size_t waiting = 0;
  std::function<void(proto::ExplainChunkResponse)> done;
};

void FillRecord(Core& core, ChunkId chunk, Explanation* explanation) {
  const proto::ChunkRecord& record = explanation->record;
  proto::ExplainChunkResponse& response = explanation->response;
  const InodeId inode(record.inode());
  response.set_chunk(chunk.value());
  response.set_inode(record.inode());
  response.set_index(record.index());
  response.set_epoch(record.epoch());
  response.set_replicas(record.replicas());
  response.set_write_quorum(record.write_quorum());
  *response.mutable_base() = record.base();
  *response.mutable_sealed() = record.sealed();
  *response.mutable_durable() = record.durable();
  response.set_length(record.length());
  response.set_state(ReconfigureOp::Running(core, chunk) != nullptr ? "recovering" : ChunkStateName(record));
  response.set_writer_session(record.writer_session());
  if (InodeExists(core.txn(), inode)) {
    response.set_path(PathOf(core.txn(), inode));
    response.set_chunks_of_inode(ChunksOfInode(core.txn(), inode, 0, SIZE_MAX).size());
  }
  if (!record.detail().empty()) response.add_reasons(record.detail());
  if (!record.pending_reason().empty())
    response.add_reasons("procedure under way: " + record.pending_reason());
  if (record.has_loss()) {
    response.add_reasons("loss accepted by " + record.loss().operator_() + ": " + record.loss().reason());
  }
  const RepairPlan plan = core.repair().PlanOf(chunk, record);
  if (!plan.reason.empty()) response.add_reasons(plan.reason);
  if (DeleteProcedure::Concerns(core, chunk)) response.add_reasons("a delete is being decided or taken back");
  response.set_next_attempt(core.repair().NextAttempt(chunk));
}

void FillAnswer(Core& core, const proto::ChunkRecord& record, const CommandOutcome& outcome, ChunkId chunk,
                proto::ReplicaStatus* replica) {
  replica->set_reachable(outcome.answered);
  const ReplicaDifference* noted = core.audit().Find(chunk, ServerId(replica->server()));
  if (!outcome.answered) {
    replica->set_state("unreachable");
    replica->set_detail(outcome.status.message());
  } else if (outcome.status.code() == StatusCode::kUnknownChunk) {
    replica->set_state("missing");
  } else if (!outcome.status.ok() || !outcome.has_info) {
    replica->set_state("unknown");
    replica->set_detail(outcome.status.ToString());
  } else {
    replica->set_state(StateOf(record, outcome.info));
    replica->set_promised(outcome.info.promised.value());
    *replica->mutable_accepted() = ToProto(outcome.info.accepted);
    *replica->mutable_durable() = ToProto(outcome.info.durable);
    replica->set_length(outcome.info.length);
  }
  if (noted != nullptr && replica->detail().empty()) replica->set_detail(noted->detail);
}

// Who goes on with the chunk: the members that are up, and others in the place of those that are not. Empty, so that the old ones
// are waited for, when there are too few servers for the write quorum.
std::vector<ServerId> MembersAfterLoss(Core& core, const proto::ChunkRecord& record) {
  PlacementRequest request;
  request.replicas = std::max<uint32_t>(record.replicas(), record.write_quorum());
  request.write_quorum = 0;
  for (uint32_t value : record.members()) {
    const ServerId member(value);
    (core.servers().IsUp(member) ? request.keep : request.exclude).push_back(member);
  }
  std::string storage_class;
  if (auto policy = EffectivePolicy(core.txn(), InodeId(record.inode())); policy.ok()) {
    storage_class = policy->storage_class();
    request.scatter_width = policy->scatter_width();
    if (auto domain = ParseFailureDomain(policy->failure_domain()); domain.ok()) request.domain = *domain;
  }
  auto placed = Place(request, core.servers().ForPlacement(storage_class), core.NextSeed());
  if (!placed.ok() || placed->size() < record.write_quorum()) return {};
  return *placed;
}

}  // namespace

void ExplainChunk(Core& core, const proto::ExplainChunkRequest& request,
                  std::function<void(proto::ExplainChunkResponse)> done) {
  auto explanation = std::make_shared<Explanation>();
  explanation->done = std::move(done);
  auto refuse = [&](StatusCode code, std::string message) {
    *explanation->response.mutable_status() = ToProto(Status(code, std::move(message)));
    explanation->done(std::move(explanation->response));
  };
  ChunkId chunk(request.chunk());
  if (!chunk) {
    auto found = ChunkAtIndex(core.txn(), InodeId(request.inode()), request.index());
    if (!found) {
      return refuse(StatusCode::kNotFound, "inode " + std::to_string(request.inode()) +
                                               " has no chunk number " + std::to_string(request.index()) +
                                               " (a hole, or empty)");
    }
    chunk = *found;
  }
  auto record = ChunkRecordOf(core.txn(), chunk);
  explanation->response.set_chunk(chunk.value());
  for (const std::string& event : core.history().Of(chunk)) explanation->response.add_history(event);
  if (!record) return refuse(StatusCode::kNotFound, "chunk " + ToString(chunk) + " is not recorded");
  explanation->record = *record;
  FillRecord(core, chunk, explanation.get());

  const auto& members = explanation->record.members();
  explanation->waiting = static_cast<size_t>(members.size()) + 1;
  auto finish_one = [explanation] {
    if (--explanation->waiting == 0) explanation->done(std::move(explanation->response));
  };
  for (int i = 0; i < members.size(); ++i) {
    proto::ReplicaStatus* replica = explanation->response.add_members();
    replica->set_server(members[i]);
    if (const ServerInfo* server = core.servers().Find(ServerId(members[i])))
      replica->set_address(server->address);
  }
  for (int i = 0; i < members.size(); ++i) {
    const ServerId server(members[i]);
    if (!core.servers().IsUp(server)) {
      CommandOutcome outcome;
      outcome.status = Status(StatusCode::kUnavailable, core.servers().DownReason(server, core.now()));
      FillAnswer(core, explanation->record, outcome, chunk, explanation->response.mutable_members(i));
      finish_one();
      continue;
    }
    proto::ChunkCommand command;
    command.set_chunk(chunk.value());
    command.mutable_query();
    core.commander().Send(server, std::move(command), core.now() + kQueryNanos,
                          [&core, explanation, finish_one, chunk, i](const CommandOutcome& outcome) {
                            FillAnswer(core, explanation->record, outcome, chunk,
                                       explanation->response.mutable_members(i));
                            finish_one();
                          });
  }
  finish_one();
}

void AcceptLoss(Core& core, const proto::AcceptLossRequest& request,
                std::function<void(proto::AcceptLossResponse)> done) {
  const ChunkId chunk(request.chunk());
  proto::AcceptLossResponse response;
  auto record = ChunkRecordOf(core.txn(), chunk);
  Status status;
  if (!record) {
    status = Status(StatusCode::kNotFound, "chunk " + ToString(chunk) + " is not recorded");
  } else if (request.reason().empty() || request.operator_().empty()) {
    status =
        Status(StatusCode::kInvalidArgument, "accepting a loss needs a reason and the name of who decides");
  }
  if (status.ok()) {
    proto::LogCommand command;
    command.mutable_accept_loss()->set_chunk(chunk.value());
    command.mutable_accept_loss()->set_reason(request.reason());
    command.mutable_accept_loss()->set_operator_(request.operator_());
    status = FromProto(core.Apply(command).reply.status());
  }
  if (!status.ok()) {
    *response.mutable_status() = ToProto(status);
    done(std::move(response));
    return;
  }
  core.events().Add(
      Severity::kWarning, "loss.accepted",
      "the loss of the newest data of chunk " + ToString(chunk) + " was accepted: " + request.reason(),
      {.chunk = chunk, .inode = InodeId(record->inode()), .by = request.operator_()});
  core.history().Add(chunk, core.wall(), "loss accepted by " + request.operator_() + ": " + request.reason());

  // Answered when the procedure ends, or after a while with what it still waits for.
  auto answer = std::make_shared<std::function<void(proto::AcceptLossResponse)>>(std::move(done));
  auto respond = [answer](const Status& outcome, std::string text) {
    if (!*answer) return;
    proto::AcceptLossResponse result;
    *result.mutable_status() = ToProto(outcome);
    result.set_outcome(std::move(text));
    (*answer)(std::move(result));
    *answer = nullptr;
  };
  auto finished = [respond](const Status& outcome) {
    respond(outcome,
            outcome.ok() ? "the chunk goes on with the newest data that was left" : outcome.message());
  };
  if (ReconfigureOp* running = ReconfigureOp::Running(core, chunk)) {
    running->AddListener(finished);
    running->DeclareLossAccepted(core, MembersAfterLoss(core, *record));
  } else {
    ReconfigureRequest procedure;
    procedure.chunk = chunk;
    procedure.purpose = record->writer_lease() != 0 ? replication::ReconfigurePurpose::kVanishedWriter
                                                    : replication::ReconfigurePurpose::kRepair;
    procedure.accept_loss = true;
    procedure.members = MembersAfterLoss(core, *record);
    procedure.reason = "an operator accepted the loss of what no reachable member holds";
    ReconfigureOp::Start(core, std::move(procedure), finished);
  }
  core.timers().At(core.now() + kAcceptLossWaitNanos, [&core, chunk, respond] {
    ReconfigureOp* running = ReconfigureOp::Running(core, chunk);
    respond(Status::Ok(),
            "recorded; still waiting: " + (running != nullptr ? running->WaitReason() : std::string()));
  });
}

}  // namespace cairn::master
