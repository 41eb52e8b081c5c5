#include "tests/master/fakes.h"

namespace cairn::master {

using replication::Action;
using replication::Verdict;

proto::ReplicaInfoProto FakeReplicas::Info(ChunkId chunk) const {
  proto::ReplicaInfoProto info;
  info.set_chunk(chunk.value());
  const Replica* replica = Find(chunk);
  if (replica == nullptr) return info;
  info.set_promised(replica->state.promised.value());
  *info.mutable_accepted() = ToProto(replica->state.accepted);
  *info.mutable_durable() = ToProto(replica->durable);
  info.set_length(replica->state.length);
  info.set_sealed(replica->state.sealed.value());
  info.set_tombstone(replica->state.tombstone.value());
  info.set_corrupt(replica->corrupt);
  return info;
}

proto::ChunkResult FakeReplicas::Execute(const proto::ChunkCommand& command, const Lookup& others) {
  const ChunkId chunk(command.chunk());
  proto::ChunkResult result;
  const bool known = replicas_.contains(chunk);
  const replication::ReplicaState state = known ? replicas_[chunk].state : replication::ReplicaState{};
  auto apply = [&](const Verdict& verdict, bool durable) {
    if (verdict.action == Action::kRefuse) {
      *result.mutable_status() = ToProto(verdict.status);
    } else {
      if (verdict.action == Action::kApply) replicas_[chunk].state = verdict.next;
      if (durable) replicas_[chunk].durable = replicas_[chunk].state.accepted;
    }
    *result.mutable_info() = Info(chunk);
  };
  switch (command.kind_case()) {
    case proto::ChunkCommand::kQuery:
      if (refuse_queries) {
        *result.mutable_status() = ToProto(*refuse_queries);
        break;
      }
      if (!known) *result.mutable_status() = ToProto(Status(StatusCode::kUnknownChunk, "no such chunk here"));
      *result.mutable_info() = Info(chunk);
      break;
    case proto::ChunkCommand::kFence:
      apply(replication::CheckFence(state, Epoch(command.fence().epoch())), false);
      break;
    case proto::ChunkCommand::kBegin:
      apply(replication::CheckBegin(state, Epoch(command.begin().epoch()), FromProto(command.begin().base())),
            true);
      break;
    case proto::ChunkCommand::kSeal:
      apply(replication::CheckSeal(state, FromProto(command.seal().stamp())), false);
      break;
    case proto::ChunkCommand::kPrepareDelete:
      apply(replication::CheckPrepareDelete(state, Epoch(command.prepare_delete().epoch())), true);
      break;
    case proto::ChunkCommand::kAbortDelete:
      apply(replication::CheckAbortDelete(state, Epoch(command.abort_delete().epoch())), true);
      break;
    case proto::ChunkCommand::kErase: {
      if (refuse_erasures) {
        *result.mutable_status() = ToProto(*refuse_erasures);
        break;
      }
      const Verdict verdict = replication::CheckErase(state, Epoch(command.erase().epoch()));
      if (verdict.action == Action::kRefuse) {
        *result.mutable_status() = ToProto(verdict.status);
      } else {
        replicas_.erase(chunk);
        erased.push_back(chunk);
        if (command.erase().quarantine()) quarantined.push_back(chunk);
      }
      break;
    }
    case proto::ChunkCommand::kSync: {
      if (refuse_syncs) {
        ++refused_syncs;
        *result.mutable_status() = ToProto(*refuse_syncs);
        *result.mutable_info() = Info(chunk);
        result.set_refused_here(true);
        break;
      }
      const Stamp base = FromProto(command.sync().base());
      Status last(StatusCode::kUnavailable, "no source");
      for (const proto::ServerAddress& source : command.sync().sources()) {
        FakeReplicas* from = others(source.server());
        const Replica* original = from == nullptr ? nullptr : from->Find(chunk);
        if (original == nullptr || original->state.accepted != base || original->corrupt) {
          last = Status(StatusCode::kStaleReplica, "the source does not have " + ToString(base));
          continue;
        }
        const Verdict start = replication::CheckSyncStart(state, Epoch(command.sync().epoch()), base);
        if (start.action == Action::kRefuse) {
          last = start.status;
          break;
        }
        const replication::ReplicaState pinned = start.action == Action::kApply ? start.next : state;
        const Verdict finish = replication::CheckSyncFinish(pinned, base, command.sync().length());
        if (finish.action == Action::kRefuse) {
          last = finish.status;
          break;
        }
        if (finish.action == Action::kApply) replicas_[chunk].state = finish.next;
        replicas_[chunk].durable = base;
        replicas_[chunk].corrupt = false;
        ++syncs;
        result.set_bytes_transferred(command.sync().length());
        last = Status::Ok();
        break;
      }
      *result.mutable_status() = ToProto(last);
      *result.mutable_info() = Info(chunk);
      break;
    }
    default:
      *result.mutable_status() = ToProto(Status(StatusCode::kNotSupported, "unknown command"));
  }
  return result;
}

Status FakeReplicas::Mutate(ChunkId chunk, Epoch epoch, uint64_t seq, std::optional<Stamp> begin,
                            uint64_t length) {
  replication::Mutation mutation;
  mutation.chunk = chunk;
  mutation.epoch = epoch;
  mutation.seq = seq;
  mutation.begin = begin;
  mutation.length = length;
  const replication::ReplicaState state =
      replicas_.contains(chunk) ? replicas_[chunk].state : replication::ReplicaState{};
  const Verdict verdict = replication::CheckMutation(state, mutation);
  if (verdict.action == Action::kRefuse) return verdict.status;
  if (verdict.action == Action::kApply) replicas_[chunk].state = verdict.next;
  return Status::Ok();
}

Status FakeReplicas::Seal(ChunkId chunk, Stamp stamp) {
  auto it = replicas_.find(chunk);
  if (it == replicas_.end()) return Status(StatusCode::kUnknownChunk, "no such chunk here");
  const Verdict verdict = replication::CheckSeal(it->second.state, stamp);
  if (verdict.action == Action::kRefuse) return verdict.status;
  if (verdict.action == Action::kApply) it->second.state = verdict.next;
  return Status::Ok();
}

}  // namespace cairn::master
