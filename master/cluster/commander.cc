#include "master/cluster/commander.h"

#include <limits>

#include "common/check.h"

namespace cairn::master {

replication::ReplicaInfo FromProto(const proto::ReplicaInfoProto& info) {
  replication::ReplicaInfo result;
  result.chunk = ChunkId(info.chunk());
  result.promised = Epoch(info.promised());
  result.accepted = FromProto(info.accepted());
  result.durable = FromProto(info.durable());
  result.length = info.length();
  result.sealed = Epoch(info.sealed());
  result.tombstone = Epoch(info.tombstone());
  result.amnesic = info.amnesic();
  result.corrupt = info.corrupt();
  return result;
}

Status FromProto(const proto::StatusProto& status) {
  if (status.code() == 0) return Status::Ok();
  const auto code =
      IsKnownStatusCode(status.code()) ? static_cast<StatusCode>(status.code()) : StatusCode::kIoError;
  return Status(code, status.message());
}

proto::StatusProto ToProto(const Status& status) {
  proto::StatusProto result;
  result.set_code(static_cast<uint32_t>(status.code()));
  if (!status.ok()) result.set_message(status.message());
  return result;
}

void Commander::Send(ServerId server, proto::ChunkCommand command, int64_t deadline_ns, Done done) {
  const uint64_t id = next_call_++;
  calls_[id] = Call{server, 0, deadline_ns, std::move(done)};
  deadlines_[{deadline_ns, id}] = id;
  servers_[server].waiting.push_back({id, std::move(command)});
}

void Commander::Flush() {
  for (auto& [server, state] : servers_) {
    while (!state.waiting.empty() && state.outstanding < options_.max_outstanding) {
      proto::MasterToChunkserver message;
      proto::Command* batch = message.mutable_command();
      const uint64_t number = next_batch_++;
      batch->set_number(number);
      std::vector<uint64_t>& members = state.batches[number];
      while (!state.waiting.empty() && members.size() < options_.max_batch) {
        Waiting& next = state.waiting.front();
        auto call = calls_.find(next.call);
        if (call == calls_.end()) {  // its deadline passed before it was sent
          state.waiting.pop_front();
          continue;
        }
        const bool alone = next.command.has_sync();
        if (alone && !members.empty()) break;
        call->second.batch = number;
        members.push_back(next.call);
        *batch->add_chunks() = std::move(next.command);
        state.waiting.pop_front();
        ++state.outstanding;
        if (alone) break;
      }
      if (members.empty()) {
        state.batches.erase(number);
        continue;
      }
      send_(server, std::move(message));
    }
  }
}

void Commander::Finish(uint64_t id, const CommandOutcome& outcome) {
  auto it = calls_.find(id);
  if (it == calls_.end()) return;  // timed out before
  Done done = std::move(it->second.done);
  deadlines_.erase({it->second.deadline_ns, id});
  calls_.erase(it);
  done(outcome);
}

void Commander::OnResult(ServerId server, const proto::CommandResult& result) {
  auto state = servers_.find(server);
  if (state == servers_.end()) return;
  auto batch = state->second.batches.find(result.number());
  if (batch == state->second.batches.end()) return;
  const std::vector<uint64_t> members = std::move(batch->second);
  state->second.batches.erase(batch);
  state->second.outstanding -= members.size();
  for (size_t i = 0; i < members.size(); ++i) {
    CommandOutcome outcome;
    outcome.answered = true;
    if (static_cast<int>(i) < result.results_size()) {
      const proto::ChunkResult& one = result.results(static_cast<int>(i));
      outcome.status = FromProto(one.status());
      outcome.has_info = one.has_info();
      if (one.has_info()) outcome.info = FromProto(one.info());
      outcome.bytes_transferred = one.bytes_transferred();
      outcome.bytes_differing = one.bytes_differing();
      outcome.refused_here = one.refused_here();
    } else {
      outcome.status =
          Status(StatusCode::kMalformed, ToString(server) + " answered fewer commands than it was sent");
    }
    Finish(members[i], outcome);
  }
}

void Commander::OnServerDown(ServerId server, const Status& status) {
  auto it = servers_.find(server);
  if (it == servers_.end()) return;
  std::vector<uint64_t> failed;
  for (const auto& [number, members] : it->second.batches)
    failed.insert(failed.end(), members.begin(), members.end());
  for (const Waiting& waiting : it->second.waiting) failed.push_back(waiting.call);
  servers_.erase(it);
  for (uint64_t call : failed) Finish(call, CommandOutcome{.status = status});
}

void Commander::Expire(int64_t now_ns) {
  while (!deadlines_.empty() && deadlines_.begin()->first.first <= now_ns) {
    const uint64_t id = deadlines_.begin()->second;
    const ServerId server = calls_.at(id).server;
    Finish(id, CommandOutcome{
                   .status = Status(StatusCode::kTimeout, ToString(server) + " did not answer in time")});
  }
}

int64_t Commander::NextDeadline() const {
  return deadlines_.empty() ? std::numeric_limits<int64_t>::max() : deadlines_.begin()->first.first;
}

}  // namespace cairn::master
