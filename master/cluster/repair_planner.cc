#include "master/cluster/repair_planner.h"

#include <algorithm>
#include <limits>

#include "common/check.h"

namespace cairn::master {
namespace {

std::string Seconds(int64_t nanos) {
  const int64_t tenths = (nanos + 50'000'000) / 100'000'000;
  return std::to_string(tenths / 10) + "." + std::to_string(tenths % 10) + " s";
}

}  // namespace

std::string ConditionName(ReplicaCondition condition) {
  switch (condition) {
    case ReplicaCondition::kCurrent:
      return "current";
    case ReplicaCondition::kStale:
      return "stale";
    case ReplicaCondition::kMissing:
      return "missing";
    case ReplicaCondition::kCorrupt:
      return "corrupt";
    case ReplicaCondition::kDown:
      return "unreachable";
  }
  return "unknown";
}

RepairPlan PlanRepair(const ChunkFacts& chunk, const std::vector<PlacementServer>& servers,
                      const RepairOptions& options, uint64_t seed, int64_t now_ns) {
  RepairPlan plan;
  uint32_t durable_copies = 0;  // valid, counting those on servers that are down
  const MemberFacts* syncable = nullptr;
  const MemberFacts* down = nullptr;  // the one that went first
  for (const MemberFacts& member : chunk.members) {
    switch (member.condition) {
      case ReplicaCondition::kCurrent:
        plan.sources.push_back(member.server);
        ++plan.valid_copies;
        ++durable_copies;
        break;
      case ReplicaCondition::kDown:
        if (member.carried) ++durable_copies;
        if (down == nullptr || member.down_since_ns < down->down_since_ns) down = &member;
        break;
      default:
        if (syncable == nullptr) syncable = &member;
    }
  }
  const bool short_of_members = chunk.members.size() < chunk.replicas;
  if (syncable == nullptr && down == nullptr && !short_of_members) return plan;

  auto wait = [&](std::string reason, int64_t until_ns) {
    plan.action = RepairAction::kWait;
    plan.reason = std::move(reason);
    plan.not_before_ns = until_ns;
    return plan;
  };
  if (chunk.recovering) return wait("its configuration is being changed", now_ns + options.retry_ns);
  if (chunk.open) {
    plan.action = RepairAction::kLowerWriter;
    plan.reason = "a member was dropped while a writer has the chunk open";
    return plan;
  }
  if (plan.valid_copies == 0) {
    return wait(durable_copies == 0 ? "no current copy is known on any server"
                                    : "every current copy is on a server that is down",
                now_ns + options.retry_ns);
  }
  if (syncable != nullptr) {
    plan.action = RepairAction::kSyncMember;
    plan.target = syncable->server;
    plan.reason = ToString(syncable->server) + " is " + ConditionName(syncable->condition);
    return plan;
  }

  PlacementRequest request;
  request.replicas = static_cast<uint32_t>(chunk.members.size());
  request.write_quorum = 0;
  request.domain = chunk.domain;
  if (down != nullptr) {
    const int64_t grace_end = down->down_since_ns + options.grace_ns;
    if (plan.valid_copies >= chunk.write_quorum && now_ns < grace_end) {
      return wait(ToString(down->server) + " is down since " + Seconds(now_ns - down->down_since_ns) +
                      ", it is replaced after " + Seconds(options.grace_ns),
                  grace_end);
    }
    plan.reason = ToString(down->server) + " is down since " + Seconds(now_ns - down->down_since_ns);
  } else {
    request.replicas = static_cast<uint32_t>(chunk.members.size()) + 1;
    plan.reason = "the policy asks for " + std::to_string(chunk.replicas) + " replicas, it has " +
                  std::to_string(chunk.members.size());
  }
  for (const MemberFacts& member : chunk.members) {
    if (&member == down) {
      request.exclude.push_back(member.server);
    } else {
      request.keep.push_back(member.server);
    }
  }
  auto placed = Place(request, servers, seed);
  CAIRN_CHECK(placed.ok(), "a placement that requires nothing cannot fail");
  if (placed->size() < request.replicas) {
    return wait(plan.reason + "; no other server that is up has room for it in a failure domain of its own",
                now_ns + options.retry_ns);
  }
  plan.action = RepairAction::kReplace;
  plan.members = *placed;
  plan.target = placed->back();
  return plan;
}

uint32_t RepairQueue::RankOf(const RepairPlan& plan, const ChunkFacts& chunk) {
  const uint32_t below = plan.valid_copies < chunk.write_quorum ? 0 : 1;
  return std::min<uint32_t>(plan.valid_copies, 1000) * 2 + below;
}

void RepairQueue::Add(ChunkId chunk, uint32_t rank, int64_t not_before_ns) {
  auto it = entries_.find(chunk);
  if (it != entries_.end()) {
    rank = std::min(rank, it->second.rank);
    not_before_ns = std::min(not_before_ns, it->second.not_before_ns);
    Remove(chunk);
  }
  if (entries_.size() >= capacity_) {
    auto last = std::prev(by_rank_.end());
    if (std::get<0>(last->first) <= rank) return;
    Remove(last->second);
  }
  const uint64_t order = next_order_++;
  entries_[chunk] = {rank, not_before_ns, order};
  by_rank_[{rank, order}] = chunk;
  times_.insert(not_before_ns);
}

void RepairQueue::Remove(ChunkId chunk) {
  auto it = entries_.find(chunk);
  if (it == entries_.end()) return;
  by_rank_.erase({it->second.rank, it->second.order});
  times_.erase(times_.find(it->second.not_before_ns));
  entries_.erase(it);
}

std::vector<ChunkId> RepairQueue::Due(int64_t now_ns, size_t count) const {
  std::vector<ChunkId> due;
  for (auto it = by_rank_.begin(); it != by_rank_.end() && due.size() < count; ++it) {
    if (entries_.at(it->second).not_before_ns <= now_ns) due.push_back(it->second);
  }
  return due;
}

std::optional<int64_t> RepairQueue::NotBefore(ChunkId chunk) const {
  auto it = entries_.find(chunk);
  if (it == entries_.end()) return std::nullopt;
  return it->second.not_before_ns;
}

int64_t RepairQueue::NextTime() const {
  return times_.empty() ? std::numeric_limits<int64_t>::max() : *times_.begin();
}

bool RepairLimits::Start(const std::vector<ServerId>& servers) {
  if (!HasRoom()) return false;
  for (ServerId server : servers) {
    auto it = by_server_.find(server);
    if (it != by_server_.end() && it->second >= per_server_) return false;
  }
  for (ServerId server : servers) ++by_server_[server];
  ++running_;
  return true;
}

void RepairLimits::Finish(const std::vector<ServerId>& servers) {
  CAIRN_CHECK(running_ > 0);
  --running_;
  for (ServerId server : servers) {
    auto it = by_server_.find(server);
    CAIRN_CHECK(it != by_server_.end());
    if (--it->second == 0) by_server_.erase(it);
  }
}

}  // namespace cairn::master
