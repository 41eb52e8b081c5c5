#include "tests/sim/checker.h"

#include <algorithm>

namespace cairn::sim {
namespace {

std::string Describe(const Content& content) { return std::to_string(content.size()) + " mutations"; }

}  // namespace

bool IsPrefix(const Content& prefix, const Content& content) {
  return prefix.size() <= content.size() && std::equal(prefix.begin(), prefix.end(), content.begin());
}

void Checker::Fail(ChunkId chunk, const std::string& why) {
  world_.Fail("chunk " + std::to_string(chunk.value()) + ": " + why);
}

void Checker::OnChunk(ChunkId chunk, const replication::Configuration& config) {
  chunks_[chunk].config = config;
  chunks_[chunk].at[Stamp{}] = {};
}

bool Checker::IsDeleted(ChunkId chunk) const { return chunks_.at(chunk).deleted; }

bool Checker::HasForgotten(ChunkId id, ServerId server, const Content& content) const {
  const Replica* replica = disks_.Find(server, id, false);
  if (replica != nullptr && IsPrefix(content, replica->content)) return false;  // it got this much back
  const Chunk& chunk = chunks_.at(id);
  const auto found = chunk.forgotten.find(server);
  return found != chunk.forgotten.end() &&
         std::any_of(found->second.begin(), found->second.end(),
                     [&content](const Content& held) { return IsPrefix(content, held); });
}

void Checker::OnReplicaChanged(ServerId server, ChunkId chunk, const Replica* before, const Replica* after) {
  Chunk& each = chunks_.at(chunk);
  each.dirty = true;
  if (after == nullptr) return;
  if (const auto forgot = each.forgotten.find(server); forgot != each.forgotten.end()) {
    std::erase_if(forgot->second, [after](const Content& held) { return IsPrefix(held, after->content); });
  }
  // Who got everything back is excused no longer: what is lost from now on is another loss.
  if (IsPrefix(each.committed, after->content) && !each.given_up.contains(server)) each.excused.erase(server);
  const Stamp stamp = after->state.accepted;
  const auto [at, fresh] = each.at.try_emplace(stamp, after->content);
  if (!fresh && at->second != after->content) {
    Fail(chunk, ToString(server) + " holds other content at " + ToString(stamp) + " than was there before (" +
                    Describe(after->content) + ", " + Describe(at->second) + ")");
  }
  if (before != nullptr && stamp < before->state.accepted) {
    Fail(chunk,
         ToString(server) + " went back from " + ToString(before->state.accepted) + " to " + ToString(stamp));
  }
  const bool grew = before != nullptr && IsPrefix(before->content, after->content);
  for (size_t i = grew ? before->content.size() : 0; i < after->content.size(); ++i) {
    const auto end = after->content.begin() + static_cast<ptrdiff_t>(i + 1);
    const auto [first, created] = each.applied.try_emplace(after->content[i]);
    if (created) first->second.content.assign(after->content.begin(), end);
    if (std::equal(after->content.begin(), end, first->second.content.begin(), first->second.content.end())) {
      first->second.servers.insert(server);
    }
  }
  if (after->state.tombstone) each.tombstones[after->state.tombstone].insert(server);
  const bool new_tombstone = before == nullptr || before->state.tombstone != after->state.tombstone;
  const auto& members = each.config.members;
  const bool member = std::find(members.begin(), members.end(), server) != members.end();
  if (new_tombstone && member && !each.deleted && each.aborted_deletes.contains(after->state.tombstone)) {
    Fail(chunk, ToString(server) + " has a tombstone of epoch " + ToString(after->state.tombstone) +
                    ", a delete that was refused and taken back");
  }
}

void Checker::OnMutationApplied(ChunkId chunk, Epoch epoch, NodeId writer) {
  const auto [known, fresh] = chunks_.at(chunk).writers.try_emplace(epoch, writer);
  if (!fresh && known->second != writer) {
    Fail(chunk,
         NodeName(writer) + " and " + NodeName(known->second) + " both write in epoch " + ToString(epoch));
  }
}

void Checker::OnDeclaredLost(ServerId server) {
  OnMemoryLoss(server);
  for (auto& [chunk, each] : chunks_) each.given_up.insert(server);
}

void Checker::OnMemoryLoss(ServerId server) {
  for (auto& [chunk, each] : chunks_) {
    each.dirty = true;
    const Replica* replica = disks_.Find(server, chunk, false);
    if (replica != nullptr) each.forgotten[server].push_back(replica->content);
    const auto& members = each.config.members;
    if (std::find(members.begin(), members.end(), server) == members.end()) continue;
    if (replica != nullptr && IsPrefix(each.committed, replica->content)) each.excused.insert(server);
  }
}

void Checker::OnAcknowledged(ChunkId chunk, const replication::Configuration& config, uint64_t seq,
                             uint64_t token) {
  Chunk& each = chunks_.at(chunk);
  // A member that applied the mutation and lost its memory before the answer arrived has confirmed it all the
  // same.
  const auto applied = each.applied.find(token);
  std::set<ServerId> confirmed;
  std::set<ServerId> forgot;
  for (ServerId member : config.members) {
    if (applied == each.applied.end() || !applied->second.servers.contains(member)) continue;
    confirmed.insert(member);
    if (HasForgotten(chunk, member, applied->second.content)) forgot.insert(member);
  }
  if (confirmed.size() < config.write_quorum || applied->second.content.size() != seq) {
    return Fail(chunk, "promise 1: mutation " + std::to_string(seq) +
                           " was acknowledged but was applied by " + std::to_string(confirmed.size()) +
                           " members, W is " + std::to_string(config.write_quorum));
  }
  const Content& now = applied->second.content;
  if (IsPrefix(now, each.committed)) return;
  if (!IsPrefix(each.committed, now) && !ExcusedByMaster(chunk, now)) {
    return Fail(chunk, "promise 3: mutation " + std::to_string(seq) +
                           " was acknowledged on a history that lacks acknowledged mutations");
  }
  each.committed = now;
  each.excused = std::move(forgot);
  each.given_up.clear();
  each.dirty = true;
}

void Checker::OnSealed(ChunkId chunk, const replication::Configuration& config, Stamp stamp) {
  const Chunk& each = chunks_.at(chunk);
  const auto found = each.at.find(stamp);
  if (found == each.at.end())
    return Fail(chunk, "sealed at " + ToString(stamp) + " which no replica ever held");
  if (found->second.size() < each.committed.size()) {
    // A release that a master repeats to itself after it forgot what came later; members will tell it before
    // it grants.
    if (each.record_forgotten) return world_.Mark("a seal was recorded again by a master that forgot");
    return Fail(chunk, "promise 3: the seal " + ToString(stamp) + " lacks acknowledged mutations");
  }
  chunks_.at(chunk).record_forgotten = false;
  if (!found->second.empty()) OnAcknowledged(chunk, config, found->second.size(), found->second.back());
}

void Checker::OnFsynced(ChunkId chunk, const replication::Configuration& config, uint64_t seq) {
  Chunk& each = chunks_.at(chunk);
  if (seq > each.committed.size()) return Fail(chunk, "promise 1: fsync beyond what was acknowledged");
  Content prefix(each.committed.begin(), each.committed.begin() + static_cast<ptrdiff_t>(seq));
  uint32_t safe = 0;
  for (ServerId member : config.members) {
    const Replica* replica = disks_.Find(member, chunk, true);
    if ((replica != nullptr && IsPrefix(prefix, replica->content)) || each.excused.contains(member)) ++safe;
  }
  if (safe < config.write_quorum) {
    return Fail(chunk, "promise 1: fsync of " + Describe(prefix) + " returned but only " +
                           std::to_string(safe) + " members have them on disk or lost that disk, W is " +
                           std::to_string(config.write_quorum));
  }
  if (prefix.size() > each.fsynced.size()) each.fsynced = std::move(prefix);
}

Checker::ReadMark Checker::OnReadStart(ChunkId chunk) const {
  const Chunk& each = chunks_.at(chunk);
  return {each.committed, each.losses, each.deleted};
}

void Checker::OnReadDone(ChunkId chunk, const ReadMark& start, const Content& content, bool own) {
  const Chunk& each = chunks_.at(chunk);
  if (start.deleted) return Fail(chunk, "promise 5: a deleted chunk was read");
  if (start.losses != each.losses) return;
  if (!IsPrefix(start.committed, content)) {
    return Fail(chunk, "promise 2: a read shows " + Describe(content) + " but " + Describe(start.committed) +
                           " were acknowledged before it began");
  }
  if (!own && !IsPrefix(content, each.committed)) {
    Fail(chunk, "promise 2: a read shows mutations that were never acknowledged and may vanish");
  }
}

void Checker::OnActivated(ChunkId chunk, const replication::Configuration& config, Stamp stamp) {
  Chunk& each = chunks_.at(chunk);
  const auto found = each.at.find(stamp);
  if (found == each.at.end())
    return Fail(chunk, "activated at " + ToString(stamp) + " which no replica ever held");
  const Content& base = found->second;
  if (!IsPrefix(each.fsynced, base)) {
    return Fail(chunk, "promise 3: the base " + ToString(stamp) + " has " + Describe(base) + ", " +
                           Describe(each.fsynced) + " were fsynced");
  }
  if (!IsPrefix(each.committed, base)) {
    if (each.excused.size() < each.config.write_quorum && !ExcusedByMaster(chunk, base)) {
      return Fail(chunk, "promise 3: the base " + ToString(stamp) + " has " + Describe(base) + " but " +
                             Describe(each.committed) + " were acknowledged and only " +
                             std::to_string(each.excused.size()) + " members lost their memory, W is " +
                             std::to_string(each.config.write_quorum));
    }
    if (each.excused.size() >= each.config.write_quorum)
      world_.Mark("loss excused: W members lost their memory");
    ++each.losses;
  }
  each.committed = base;
  each.config = config;
  each.record_forgotten = false;
  each.excused.clear();
  each.given_up.clear();
  for (ServerId member : config.members) {
    if (HasForgotten(chunk, member, base)) each.excused.insert(member);
  }
  each.dirty = true;
}

void Checker::OnMoved(ChunkId chunk, const replication::Configuration& config, Stamp stamp) {
  const Chunk& each = chunks_.at(chunk);
  const auto base = each.at.find(stamp);
  if (base == each.at.end()) return;  // OnActivated tells
  for (ServerId member : config.members) {
    const Replica* replica = disks_.Find(member, chunk, false);
    const bool holds = replica != nullptr && IsPrefix(base->second, replica->content);
    if (holds || HasForgotten(chunk, member, base->second)) continue;
    return Fail(chunk, "promise 6: a move to " + ToString(stamp) + " is activated, but " + ToString(member) +
                           " has no copy yet");
  }
}

void Checker::OnMasterForgot(ChunkId chunk) {
  chunks_.at(chunk).record_forgotten = true;
  chunks_.at(chunk).dirty = true;
}

bool Checker::ExcusedByMaster(ChunkId chunk, const Content& content) {
  Chunk& each = chunks_.at(chunk);
  if (!each.record_forgotten || !IsPrefix(each.fsynced, content)) return false;
  world_.Mark("loss excused: the master lost power");
  ++each.losses;
  return true;
}

void Checker::OnGranted(ChunkId chunk, Stamp sealed) {
  Chunk& each = chunks_.at(chunk);
  const auto found = each.at.find(sealed);
  if (found == each.at.end())
    return Fail(chunk, "granted at " + ToString(sealed) + " which no replica ever held");
  if (IsPrefix(each.committed, found->second)) return;
  if (!ExcusedByMaster(chunk, found->second)) {
    return Fail(chunk, "promise 2: granted at " + ToString(sealed) + " with " + Describe(found->second) +
                           ", but " + Describe(each.committed) + " were acknowledged");
  }
  each.committed = found->second;
  each.dirty = true;
}

void Checker::OnDeleteCommitted(ChunkId chunk, const replication::Configuration& config, Epoch epoch) {
  // A member that recorded it and lost its memory before the answer arrived has confirmed it all the same.
  uint32_t tombstones = 0;
  const std::set<ServerId>& recorded = chunks_.at(chunk).tombstones[epoch];
  for (ServerId member : config.members) tombstones += recorded.contains(member) ? 1 : 0;
  if (tombstones < config.write_quorum) {
    Fail(chunk, "promise 5: the delete was committed with " + std::to_string(tombstones) +
                    " tombstones, W is " + std::to_string(config.write_quorum));
  }
}

void Checker::OnDeleteDurable(ChunkId chunk) { chunks_.at(chunk).deleted = true; }

void Checker::OnDeleteAborted(ChunkId chunk, Epoch epoch) { chunks_.at(chunk).aborted_deletes.insert(epoch); }

void Checker::CheckAll() {
  for (auto& [chunk, each] : chunks_) {
    if (!each.dirty || each.deleted) continue;
    each.dirty = false;
    const Content& kept = each.record_forgotten ? each.fsynced : each.committed;
    uint32_t safe = 0;
    for (ServerId member : each.config.members) {
      const Replica* replica = disks_.Find(member, chunk, false);
      const bool holds = kept.empty() || (replica != nullptr && IsPrefix(kept, replica->content));
      if (holds || each.excused.contains(member)) ++safe;
    }
    if (safe < each.config.write_quorum) {
      Fail(chunk, "promise 3: " + Describe(kept) + " acknowledged, but only " + std::to_string(safe) +
                      " members hold them or are excused, W is " + std::to_string(each.config.write_quorum));
    }
  }
}

}  // namespace cairn::sim
