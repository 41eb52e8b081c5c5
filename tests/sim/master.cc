#include "tests/sim/master.h"

#include <algorithm>
#include <utility>

namespace cairn::sim {

using replication::Configuration;
using replication::ReconfigurePurpose;

Master::Master(World* world, Checker* checker, ClientPort* clients, std::vector<Server*> servers,
               replication::Rules rules)
    : world_(*world), checker_(*checker), clients_(*clients), servers_(std::move(servers)), rules_(rules) {}

void Master::AddChunk(ChunkId chunk, uint32_t replicas, uint32_t write_quorum) {
  Record record;
  record.config.epoch = NewEpoch();
  for (uint32_t i = 0; i < replicas; ++i) {
    record.config.members.push_back(servers_[(chunk.value() + i) % servers_.size()]->id());
  }
  record.config.write_quorum = write_quorum;
  checker_.OnChunk(chunk, record.config);
  records_[chunk] = record;
  Sync();
}

Epoch Master::NewEpoch() {
  if (next_epoch_ >= reserved_) reserved_ = next_epoch_ + 16;
  return Epoch{next_epoch_++};
}

void Master::Boot() {
  world_.Start(kMaster);
  next_epoch_ = reserved_;
  work_.clear();
  // That a session has ended is in the log: nobody renews it after a restart.
  std::erase_if(sessions_, [](const auto& session) { return !session.second.lost; });
  server_heard_at_.clear();
  reported_.clear();
  grace_until_ = world_.now() + kLeaseMs + 200;
  for (auto& [chunk, record] : records_) {
    Work& work = work_[chunk];
    if (record.open && !record.deleted) {
      work.holders.push_back({record.owner, record.owner_session, record.owner_nonce, Wish::kWrite});
      Session& session = sessions_[record.owner];
      if (!session.lost || session.number < record.owner_session) {
        session = {record.owner_session, world_.now(), false, false};
      }
    }
  }
  Sync();  // what the log holds governs, whether or not the previous master got to act upon it
  Tick();
}

void Master::CrashProcess() {
  world_.Trace("master crashes");
  world_.Crash(kMaster);
}

void Master::LosePower() {
  world_.Trace("master loses power");
  world_.Crash(kMaster);
  for (const auto& [chunk, record] : records_) {
    if (synced_.at(chunk).sealed != record.sealed) world_.Mark("the master forgot a seal");
    if (synced_.at(chunk).open != record.open) world_.Mark("the master forgot a lease");
    if (synced_.at(chunk).deleted != record.deleted) world_.Mark("the master forgot a delete");
    if (synced_.at(chunk).config != record.config || synced_.at(chunk).sealed != record.sealed) {
      checker_.OnMasterForgot(chunk);
    }
  }
  records_ = synced_;
}

void Master::Sync() {
  synced_ = records_;
  for (const auto& [chunk, record] : records_) {
    if (record.deleted) checker_.OnDeleteDurable(chunk);
  }
}

// The log's sync comes a little later; what must be durable first waits for it.
void Master::LogAndThen(std::function<void()> then) {
  world_.AfterOn(kMaster, 2 + static_cast<int64_t>(world_.Random(40)), [this, then = std::move(then)] {
    Sync();
    then();
  });
}

void Master::DeclareLost(ServerId server) {
  if (IsUp(server)) return;
  world_.Trace("an operator declares " + ToString(server) + " lost");
  world_.Mark("a member was declared lost");
  lost_.insert(server);
  checker_.OnDeclaredLost(server);
  for (auto& [chunk, work] : work_) {
    if (work.change) {
      work.change->DeclareLost(server);
      RunChange(chunk);
    }
  }
}

bool Master::IsUp(ServerId server) const {
  const auto found = server_heard_at_.find(server);
  return found != server_heard_at_.end() && world_.now() - found->second < 1000;
}

void Master::CallServer(ServerId server, const std::string& what,
                        std::function<void(Server&, const ReplyFn&)> serve, ReplyFn on_reply) {
  Server* target = &ServerOf(server);
  world_.Call(
      kMaster, target->node(), what,
      [target, serve = std::move(serve)](const ReplyFn& reply) { serve(*target, reply); },
      std::move(on_reply));
}

// --- Sessions and leases
// ----------------------------------------------------------------------------------------------

void Master::OnRenew(NodeId client, uint64_t session, const ReplyFn& reply) {
  Session& known = sessions_[client];
  if (session > known.number) known = {session, world_.now(), false, false};
  if (session < known.number) return;
  if (known.lost) return clients_.OnSessionLost(client, session);
  if (known.evicted) return;
  known.heard_at = world_.now();
  reply({});
}

bool Master::SessionAlive(const Party& party) const {
  const auto found = sessions_.find(party.client);
  return found != sessions_.end() && found->second.number == party.session && !found->second.lost;
}

void Master::OnWish(NodeId client, uint64_t session, ChunkId chunk, uint64_t nonce, Wish wish) {
  const Party party{client, session, nonce, wish};
  if (!SessionAlive(party)) return;
  Work& work = work_[chunk];
  const auto same = [nonce, client](const Party& each) {
    return each.client == client && each.nonce == nonce;
  };
  for (const Party& holder : work.holders) {
    if (same(holder)) return SendGrant(chunk, holder);
  }
  if (work.deletion && same(work.deletion_for)) return;
  if (std::any_of(work.waiting.begin(), work.waiting.end(), same)) return;
  work.waiting.push_back(party);
  Drive(chunk);
}

void Master::OnRelease(NodeId client, const Release& release, const ReplyFn& reply) {
  Work& work = work_[release.chunk];
  Record& record = records_.at(release.chunk);
  const auto same = [&](const Party& each) { return each.client == client && each.nonce == release.nonce; };
  const auto holder = std::find_if(work.holders.begin(), work.holders.end(), same);
  if (!release.held) std::erase_if(work.waiting, same);
  if (holder == work.holders.end()) return reply({});
  if (holder->wish == Wish::kWrite && release.held) {
    // While the configuration changes, the procedure decides; the client asks again or is told that its lease
    // is over.
    if (work.change) return;
    if (release.sealed && release.stamp.epoch == record.config.epoch) {
      record.sealed = release.stamp;
      record.carriers = release.carriers;
      record.open = false;
      checker_.OnSealed(release.chunk, record.config, release.stamp);
      work.newer_than_record = false;
    } else if ((!release.sealed || record.sealed == release.stamp) && record.config.base == record.sealed) {
      record.open = false;  // never begun, or opened again and not begun since
    }
  }
  work.holders.erase(holder);
  reply({});
  Drive(release.chunk);
}

// The announcement of the next write brings the seal along.
void Master::OnReopen(NodeId client, const Release& release) {
  Work& work = work_[release.chunk];
  Record& record = records_.at(release.chunk);
  const auto holder = std::find_if(work.holders.begin(), work.holders.end(), [&](const Party& each) {
    return each.client == client && each.nonce == release.nonce && each.wish == Wish::kWrite;
  });
  if (holder == work.holders.end() || !SessionAlive(*holder))
    return clients_.OnLeaseLost(client, release.chunk, release.nonce);
  if (work.change || !record.open) return;
  if (record.config.epoch != release.stamp.epoch) {
    // The answer was lost: the same again. Or the configuration changed while it was being sealed.
    if (record.sealed == release.stamp && record.config.base == release.stamp)
      return SendGrant(release.chunk, *holder);
    return clients_.OnLeaseLost(client, release.chunk, release.nonce);
  }
  record.sealed = release.stamp;
  record.carriers = release.carriers;
  checker_.OnSealed(release.chunk, record.config, release.stamp);
  work.newer_than_record = false;
  record.config.epoch = NewEpoch();
  record.config.base = release.stamp;
  world_.Mark("a chunk was opened again under its lease");
  world_.Trace("master opens chunk " + std::to_string(release.chunk.value()) + " again for " +
               NodeName(client) + " in epoch " + ToString(record.config.epoch) + " on " +
               ToString(release.stamp));
  SendGrant(release.chunk, *holder);
}

void Master::OnTrouble(NodeId client, ChunkId chunk, uint64_t nonce, Epoch epoch,
                       const std::set<ServerId>& dropped) {
  Work& work = work_[chunk];
  Record& record = records_.at(chunk);
  const auto same = [&](const Party& each) { return each.client == client && each.nonce == nonce; };
  if (std::none_of(work.holders.begin(), work.holders.end(), same)) {
    return clients_.OnLeaseLost(client, chunk, nonce);
  }
  if (work.change || world_.now() < grace_until_) return;
  if (record.config.epoch > epoch) return clients_.OnReconfigured(client, chunk, nonce, record.config);
  std::set<ServerId> avoid = dropped;
  std::vector<ServerId> keep;
  for (ServerId member : record.config.members) {
    if (IsUp(member)) keep.push_back(member);
  }
  world_.Mark("a live writer asked for a replacement");
  StartChange(chunk, ReconfigurePurpose::kLiveWriter,
              ChooseMembers(keep, avoid, record.config.members.size()), record.config.write_quorum);
}

void Master::OnDurable(NodeId client, ChunkId chunk, uint64_t nonce, Stamp stamp, const ReplyFn& reply) {
  Work& work = work_[chunk];
  Record& record = records_.at(chunk);
  const auto same = [&](const Party& each) { return each.client == client && each.nonce == nonce; };
  const bool held = std::any_of(work.holders.begin(), work.holders.end(), same);
  if (!held || work.change || stamp.epoch != record.config.epoch) return;
  record.durable = std::max(record.durable, stamp);
  LogAndThen([reply] { reply({}); });
}

void Master::DropExpiredHolders(ChunkId chunk) {
  Work& work = work_[chunk];
  std::erase_if(work.holders, [this](const Party& holder) { return !SessionAlive(holder); });
  std::erase_if(work.waiting, [this](const Party& party) { return !SessionAlive(party); });
}

// Before the first grant since this master started, R members must have told where they are.
bool Master::AskMembers(ChunkId chunk) {
  Work& work = work_[chunk];
  const Record& record = records_.at(chunk);
  if (work.heard.size() >= ReadQuorum(record.config)) return true;
  if (world_.now() < work.retry_at) return false;
  work.retry_at = world_.now() + 300;
  for (ServerId member : record.config.members) {
    CallServer(
        member, "query chunk " + std::to_string(chunk.value()),
        [chunk](Server& server, const ReplyFn& reply) { server.Query(chunk, reply); },
        [this, chunk, member](const Answer& answer) {
          if (!answer.status.ok()) return;
          MergeReplica(member, chunk, answer.info);
          work_[chunk].heard.insert(member);
          Drive(chunk);
        });
  }
  return false;
}

void Master::Tell(const Party& party, ChunkId chunk, Status status) {
  Grant grant;
  grant.chunk = chunk;
  grant.nonce = party.nonce;
  grant.wish = party.wish;
  grant.status = std::move(status);
  clients_.OnGrant(party.client, grant);
}

void Master::SendGrant(ChunkId chunk, const Party& party) {
  const Record& record = records_.at(chunk);
  if (work_[chunk].change) return;
  Grant grant;
  grant.chunk = chunk;
  grant.nonce = party.nonce;
  grant.wish = party.wish;
  grant.config = record.config;
  grant.sealed = record.sealed;
  grant.carriers = record.carriers;
  clients_.OnGrant(party.client, grant);
}

void Master::GrantTo(ChunkId chunk, const Party& party) {
  Record& record = records_.at(chunk);
  checker_.OnGranted(chunk, record.sealed);
  if (party.wish == Wish::kWrite) {
    record.config.epoch = NewEpoch();
    record.config.base = record.sealed;
    record.open = true;
    record.owner = party.client;
    record.owner_session = party.session;
    record.owner_nonce = party.nonce;
    world_.Trace("master grants chunk " + std::to_string(chunk.value()) + " to " + NodeName(party.client) +
                 " in epoch " + ToString(record.config.epoch) + " on " + ToString(record.sealed));
  }
  work_[chunk].holders.push_back(party);
  work_[chunk].holders.back().granted_at = world_.now();
  SendGrant(chunk, party);
}

void Master::Recall(ChunkId chunk) {
  for (Party& holder : work_[chunk].holders) {
    if (holder.recalled_at == 0) holder.recalled_at = world_.now();
    if (world_.now() - holder.recalled_at > 1500 && !sessions_[holder.client].evicted) {
      // Who does not answer loses the session. Its term runs out first: until then it may read under its
      // leases.
      world_.Mark("a session was evicted because a recall was not answered");
      sessions_[holder.client].evicted = true;
    }
    clients_.OnRecall(holder.client, chunk, holder.nonce);
  }
}

void Master::Drive(ChunkId chunk) {
  Work& work = work_[chunk];
  const Record& record = records_.at(chunk);
  if (record.deleted) {
    for (const Party& party : work.waiting) Tell(party, chunk, Status(StatusCode::kNotFound, "deleted"));
    work.waiting.clear();
    work.holders.clear();
    return;
  }
  if (world_.now() < grace_until_ || work.change || work.deletion) return;
  DropExpiredHolders(chunk);
  const bool writer = std::any_of(work.holders.begin(), work.holders.end(),
                                  [](const Party& p) { return p.wish == Wish::kWrite; });
  if (record.open && !writer) {
    world_.Mark("a vanished writer's chunk was recovered");
    uint32_t write_quorum = record.config.write_quorum;
    if (restless_ && write_quorum < record.config.members.size() && world_.Chance(150)) {
      ++write_quorum;
      world_.Mark("a policy changed under a writer");
    }
    return StartChange(chunk, ReconfigurePurpose::kVanishedWriter, record.config.members, write_quorum);
  }
  if (!writer && !AskMembers(chunk)) return;
  const bool nobody_carries = record.sealed != Stamp{} && record.carriers.empty();
  if (nobody_carries) world_.Mark("no member carried the recorded seal");
  if (work.newer_than_record) world_.Mark("a replica was newer than the record");
  if (!writer && (work.newer_than_record || nobody_carries)) {
    return StartChange(chunk, ReconfigurePurpose::kRepair, record.config.members, record.config.write_quorum);
  }
  if (work.waiting.empty()) {
    // Leases that nobody wants are called back after a while, in case the holder has forgotten them.
    const auto old = [this](const Party& holder) { return world_.now() - holder.granted_at > 4000; };
    if (std::any_of(work.holders.begin(), work.holders.end(), old)) Recall(chunk);
    return;
  }
  const Party next = work.waiting.front();
  if (next.wish == Wish::kRead ? writer : !work.holders.empty()) return Recall(chunk);
  work.waiting.pop_front();
  if (next.wish == Wish::kDelete) {
    StartDelete(chunk, next);
  } else {
    GrantTo(chunk, next);
    Drive(chunk);
  }
}

void Master::Tick() {
  for (auto& [client, session] : sessions_) {
    if (world_.now() < grace_until_ || session.lost) continue;
    if (world_.now() - session.heard_at <= kLeaseMs) continue;
    world_.Trace("master gives up the session of " + NodeName(client));
    world_.Mark("a session expired");
    session.lost = true;
  }
  for (auto& [chunk, record] : records_) {
    RetryWork(chunk);
    Drive(chunk);
    Repair(chunk);
  }
  if (restless_ && world_.Chance(30)) MoveSomething();
  if (world_.Chance(200)) Sync();
  world_.AfterOn(kMaster, 100, [this] { Tick(); });
}

std::vector<ChunkId> Master::chunks() const {
  std::vector<ChunkId> chunks;
  for (const auto& [chunk, record] : records_) chunks.push_back(chunk);
  return chunks;
}

}  // namespace cairn::sim
