#include "tests/sim/server.h"

#include <memory>
#include <utility>

namespace cairn::sim {

using replication::Action;
using replication::ReplicaState;
using replication::Rule;
using replication::Verdict;

Server::Server(World* world, ReplicaObserver* observer, ServerId id, replication::Rules rules,
               std::function<Server*(ServerId)> peers)
    : world_(*world), observer_(*observer), id_(id), rules_(rules), peers_(std::move(peers)) {}

void Server::Boot() {
  world_.Start(node());
  // A sync that was running is gone with its shadow; the next one starts from the beginning.
  for (auto& [chunk, replica] : live_) replica.state.sync_base.reset();
  FlushNowAndThen();
}

void Server::CrashProcess() {
  world_.Trace(NodeName(node()) + " crashes");
  world_.Crash(node());
}

void Server::LosePower() {
  world_.Trace(NodeName(node()) + " loses power");
  world_.Crash(node());
  observer_.OnMemoryLoss(id_);
  for (auto it = live_.begin(); it != live_.end();) {
    const auto synced = disk_.find(it->first);
    const bool written_by_chance = world_.Chance(300);
    if (written_by_chance) {
      ++it;
    } else if (synced != disk_.end()) {
      if (synced->second.state != it->second.state) world_.Mark("power loss forgot changes");
      it->second = synced->second;
      ++it;
    } else {
      world_.Mark("power loss forgot a replica");
      it = live_.erase(it);
    }
  }
  FlushAll();
  needs_floor_ = true;
}

void Server::LoseDisk() {
  world_.Trace(NodeName(node()) + " loses its disk");
  world_.Crash(node());
  observer_.OnMemoryLoss(id_);
  live_.clear();
  disk_.clear();
  needs_floor_ = true;
}

void Server::CorruptOne() {
  if (live_.empty()) return;
  auto it = live_.begin();
  std::advance(it, static_cast<ptrdiff_t>(world_.Random(live_.size())));
  if (it->second.content.empty()) return;
  world_.Trace(NodeName(node()) + " has a bad block in chunk " + std::to_string(it->first.value()));
  it->second.corrupt = true;
}

void Server::Register(Epoch floor) {
  if (!needs_floor_ || floor <= floor_) return;
  world_.Trace(NodeName(node()) + " gets the epoch floor " + ToString(floor));
  world_.Mark("epoch floor given");
  floor_ = floor;
  for (auto& [chunk, replica] : live_) {
    if (replica.state.promised < floor) replica.state.promised = floor;
  }
  FlushAll();
  needs_floor_ = false;
}

// --- State
// ------------------------------------------------------------------------------------------------------------

const Replica* Server::Find(ChunkId chunk, bool on_disk) const {
  const auto& replicas = on_disk ? disk_ : live_;
  const auto found = replicas.find(chunk);
  return found == replicas.end() ? nullptr : &found->second;
}

ReplicaState Server::StateOf(ChunkId chunk) const {
  const Replica* replica = Find(chunk, false);
  return replica == nullptr ? replication::AbsentReplica(floor_) : replica->state;
}

ReplicaInfo Server::Info(ChunkId chunk) const {
  const ReplicaState state = StateOf(chunk);
  const Replica* replica = Find(chunk, false);
  ReplicaInfo info;
  info.chunk = chunk;
  info.promised = state.promised;
  info.accepted = state.accepted;
  info.durable = replica == nullptr ? Stamp{} : replica->durable;
  info.length = state.length;
  info.sealed = state.sealed;
  info.tombstone = state.tombstone;
  // Whatever it accepted before the floor may not be all it accepted then.
  info.amnesic = state.accepted.epoch < floor_;
  info.corrupt = replica != nullptr && replica->corrupt;
  return info;
}

void Server::Settle(ChunkId chunk, const Verdict& verdict, std::optional<Content> content,
                    const ReplyFn& reply) {
  if (verdict.action == Action::kApply) {
    const auto found = live_.find(chunk);
    std::optional<Replica> before;
    if (found != live_.end()) before = found->second;
    Replica& replica = live_[chunk];
    replica.state = verdict.next;
    if (content) replica.content = std::move(*content);
    observer_.OnReplicaChanged(id_, chunk, before ? &*before : nullptr, &replica);
  }
  if (reply) reply({verdict.status, Info(chunk), {}, {}});
}

Answer Server::Refused(StatusCode code, const std::string& why, ChunkId chunk) const {
  return {Status(code, why), Info(chunk), {}, {}};
}

void Server::FlushAll() {
  for (auto& [chunk, replica] : live_) replica.durable = replica.state.accepted;
  disk_ = live_;
}

void Server::FlushNowAndThen() {
  world_.AfterOn(node(), 200 + static_cast<int64_t>(world_.Random(2000)), [this] {
    FlushAll();
    FlushNowAndThen();
  });
}

// --- Requests
// ---------------------------------------------------------------------------------------------------------

#define REFUSE_WITHOUT_FLOOR(chunk)                                                          \
  if (needs_floor_) {                                                                        \
    if (reply) reply(Refused(StatusCode::kUnavailable, "waits for its epoch floor", chunk)); \
    return;                                                                                  \
  }

void Server::Query(ChunkId chunk, const ReplyFn& reply) const {
  REFUSE_WITHOUT_FLOOR(chunk);
  reply({Status::Ok(), Info(chunk), {}, {}});
}

void Server::Fence(ChunkId chunk, Epoch epoch, const ReplyFn& reply) {
  REFUSE_WITHOUT_FLOOR(chunk);
  Settle(chunk, CheckFence(StateOf(chunk), epoch, rules_), std::nullopt, reply);
}

void Server::Begin(ChunkId chunk, Epoch epoch, Stamp base, const ReplyFn& reply) {
  REFUSE_WITHOUT_FLOOR(chunk);
  const Verdict verdict = CheckBegin(StateOf(chunk), epoch, base, rules_);
  if (verdict.action == Action::kRefuse) return Settle(chunk, verdict, std::nullopt, reply);
  Settle(chunk, verdict, std::nullopt, nullptr);
  FlushAll();
  reply({Status::Ok(), Info(chunk), {}, {}});
}

void Server::Sync(ChunkId chunk, Epoch epoch, Stamp base, std::vector<ServerId> sources,
                  const ReplyFn& reply) {
  REFUSE_WITHOUT_FLOOR(chunk);
  const Verdict verdict = CheckSyncStart(StateOf(chunk), epoch, base, rules_);
  if (verdict.action == Action::kRefuse) return Settle(chunk, verdict, std::nullopt, reply);
  Settle(chunk, verdict, std::nullopt, nullptr);
  // Copying takes a while.
  world_.AfterOn(node(), 1 + static_cast<int64_t>(world_.Random(60)),
                 [this, chunk, base, sources, reply] { SyncFromNext(chunk, base, sources, 0, reply); });
}

void Server::SyncFromNext(ChunkId chunk, Stamp base, std::vector<ServerId> sources, size_t next,
                          const ReplyFn& reply) {
  while (next < sources.size() && sources[next] == id_) ++next;
  if (next >= sources.size()) {
    const auto found = live_.find(chunk);
    if (found != live_.end() && found->second.state.sync_base == base) found->second.state.sync_base.reset();
    return reply(Refused(StatusCode::kUnavailable, "no source delivered " + ToString(base), chunk));
  }
  Server* source = peers_(sources[next]);
  const auto answered = std::make_shared<bool>(false);
  world_.Call(
      node(), source->node(), "sync read of chunk " + std::to_string(chunk.value()),
      [source, chunk, base](const ReplyFn& done) { source->Read(chunk, base, true, done); },
      [this, chunk, base, sources, next, reply, answered](const Answer& answer) {
        if (*answered) return;
        *answered = true;
        if (!answer.status.ok()) return SyncFromNext(chunk, base, sources, next + 1, reply);
        const Verdict verdict = CheckSyncFinish(StateOf(chunk), base, answer.content.size(), rules_);
        if (verdict.action == Action::kRefuse) {
          world_.Mark("a sync was overtaken");
          return Settle(chunk, verdict, std::nullopt, reply);
        }
        Settle(chunk, verdict, answer.content, nullptr);
        live_[chunk].corrupt = false;
        FlushAll();
        world_.Mark("a sync was installed");
        reply({Status::Ok(), Info(chunk), {}, {}});
      });
  const uint64_t incarnation = world_.Incarnation(node());
  world_.At(world_.now() + 5000, [this, chunk, base, sources, next, reply, answered, incarnation] {
    if (std::exchange(*answered, true) || !world_.IsUp(node()) || world_.Incarnation(node()) != incarnation)
      return;
    SyncFromNext(chunk, base, sources, next + 1, reply);
  });
}

void Server::PrepareDelete(ChunkId chunk, Epoch epoch, const ReplyFn& reply) {
  REFUSE_WITHOUT_FLOOR(chunk);
  const Verdict verdict = CheckPrepareDelete(StateOf(chunk), epoch, rules_);
  Settle(chunk, verdict, std::nullopt, nullptr);
  Answer answer{verdict.status, Info(chunk), {}, {}};
  // The canary confirms what it did not record.
  if (verdict.status.ok() && !rules_.Hold(Rule::kTombstoneKept)) answer.info.tombstone = epoch;
  reply(answer);
}

void Server::AbortDelete(ChunkId chunk, Epoch epoch, const ReplyFn& reply) {
  REFUSE_WITHOUT_FLOOR(chunk);
  Settle(chunk, CheckAbortDelete(StateOf(chunk), epoch, rules_), std::nullopt, reply);
}

void Server::Erase(ChunkId chunk, Epoch epoch, const ReplyFn& reply) {
  REFUSE_WITHOUT_FLOOR(chunk);
  const Verdict verdict = CheckErase(StateOf(chunk), epoch, rules_);
  if (verdict.action == Action::kApply) {
    world_.Trace(NodeName(node()) + " erases chunk " + std::to_string(chunk.value()));
    live_.erase(chunk);
    disk_.erase(chunk);
    observer_.OnReplicaChanged(id_, chunk, nullptr, nullptr);
  } else {
    world_.Mark("an erase was refused by a higher promise");
  }
  reply({verdict.status, Info(chunk), {}, {}});
}

std::map<ChunkId, ReplicaInfo> Server::Report() const {
  std::map<ChunkId, ReplicaInfo> report;
  for (const auto& [chunk, replica] : live_) report[chunk] = Info(chunk);
  return report;
}

void Server::Mutate(NodeId writer, const replication::Mutation& mutation, uint64_t token,
                    const ReplyFn& reply) {
  const ChunkId chunk = mutation.chunk;
  REFUSE_WITHOUT_FLOOR(chunk);
  const Verdict verdict = CheckMutation(StateOf(chunk), mutation, rules_);
  if (verdict.action != Action::kApply) {
    if (verdict.status.code() == StatusCode::kFenced) world_.Mark("a mutation was fenced");
    if (verdict.status.code() == StatusCode::kSequenceGap) world_.Mark("a gap was refused");
    if (verdict.action == Action::kDuplicate) world_.Mark("a duplicate was confirmed");
    return Settle(chunk, verdict, std::nullopt, reply);
  }
  observer_.OnMutationApplied(chunk, mutation.epoch, writer);
  const Replica* replica = Find(chunk, false);
  Content content = replica == nullptr ? Content{} : replica->content;
  content.resize(mutation.seq, 0);  // 0: a mutation that is missing, which only a broken rule leaves behind
  content[mutation.seq - 1] = token;
  Settle(chunk, verdict, std::move(content), reply);
}

void Server::Seal(ChunkId chunk, Stamp stamp, const ReplyFn& reply) {
  REFUSE_WITHOUT_FLOOR(chunk);
  Settle(chunk, CheckSeal(StateOf(chunk), stamp, rules_), std::nullopt, reply);
}

void Server::Read(ChunkId chunk, Stamp want, bool exact, const ReplyFn& reply) const {
  REFUSE_WITHOUT_FLOOR(chunk);
  const Replica* replica = Find(chunk, false);
  if (replica == nullptr)
    return reply(Refused(StatusCode::kUnknownChunk, "nothing of this chunk is here", chunk));
  const Status status = CheckRead(replica->state, want, exact, rules_);
  if (!status.ok()) return reply({status, Info(chunk), {}, {}});
  if (replica->corrupt) {
    world_.Mark("a bad block was read");
    return reply(Refused(StatusCode::kCorrupt, "bad block", chunk));
  }
  reply({Status::Ok(), Info(chunk), replica->content, replica->state.accepted});
}

void Server::Flush(ChunkId chunk, const ReplyFn& reply) {
  REFUSE_WITHOUT_FLOOR(chunk);
  FlushAll();
  reply({Status::Ok(), Info(chunk), {}, {}});
}

#undef REFUSE_WITHOUT_FLOOR

}  // namespace cairn::sim
