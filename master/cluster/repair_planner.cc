#include "master/cluster/repair_planner.h"

#include <algorithm>
#include <limits>
#include <set>
#include <tuple>

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

namespace {

// The plan for one chunk under construction.
class Planner {
 public:
  Planner(const ChunkFacts& chunk, const std::vector<PlacementServer>& servers, const RepairOptions& options,
          uint64_t seed, int64_t now_ns)
      : chunk_(chunk), servers_(servers), options_(options), seed_(seed), now_ns_(now_ns) {}

  RepairPlan Run() {
    Count();
    const bool short_of_members = chunk_.members.size() < chunk_.replicas;
    const bool lacks = syncable_ != nullptr || down_ != nullptr || short_of_members;
    if (!lacks && !Wishes()) return plan_;
    if (chunk_.recovering) return Wait("its configuration is being changed", now_ns_ + options_.retry_ns);
    if (chunk_.open) {
      plan_.action = RepairAction::kLowerWriter;
      plan_.reason = lacks ? "a member was dropped while a writer has the chunk open"
                           : "a writer has the chunk open: " + wish_reason_;
      plan_.wish = !lacks;
      return plan_;
    }
    if (plan_.valid_copies == 0) {
      return Wait(durable_copies_ == 0 ? "no current copy is known on any server"
                                       : "every current copy is on a server that is down",
                  now_ns_ + options_.retry_ns);
    }
    if (chunk_.members.size() > chunk_.replicas && plan_.valid_copies >= chunk_.replicas)
      return DropSurplus();
    if (syncable_ != nullptr) return SyncMember();
    // Whatever else is to be done takes a new configuration.
    if (plan_.valid_copies < AnswersNeeded()) return WaitForAnswers();
    if (down_ != nullptr) return ReplaceDown();
    if (short_of_members) {
      return Add("the policy asks for " + std::to_string(chunk_.replicas) + " replicas, it has " +
                 std::to_string(chunk_.members.size()));
    }
    return Improve();
  }

 private:
  uint32_t WantedQuorum() const {
    return chunk_.wanted_quorum != 0 ? chunk_.wanted_quorum : chunk_.write_quorum;
  }
  // W for a configuration of `members`, of which `copies` will be valid: the policy's as soon as that can be
  // reached.
  uint32_t QuorumFor(size_t members, size_t copies) const {
    const auto wanted = std::min<uint32_t>(WantedQuorum(), static_cast<uint32_t>(members));
    if (wanted <= copies) return wanted;
    return std::min<uint32_t>(chunk_.write_quorum, static_cast<uint32_t>(members));
  }

  // R, of the configuration that is to be changed.
  size_t AnswersNeeded() const {
    const size_t members = chunk_.members.size();
    return members < chunk_.write_quorum ? 1 : members - chunk_.write_quorum + 1;
  }
  RepairPlan WaitForAnswers() {
    std::string who;
    for (const MemberFacts& member : chunk_.members) {
      if (member.condition == ReplicaCondition::kDown) who += (who.empty() ? "" : ", ") + ToString(member.server);
    }
    return Wait("only " + std::to_string(plan_.valid_copies) + " of the " + std::to_string(AnswersNeeded()) +
                    " members that must agree to a change is up; waiting for " + who +
                    " (gone for good: cairn chunk accept-loss)",
                now_ns_ + options_.retry_ns);
  }

  void Count() {
    for (const MemberFacts& member : chunk_.members) {
      switch (member.condition) {
        case ReplicaCondition::kCurrent:
          plan_.sources.push_back(member.server);
          ++plan_.valid_copies;
          ++durable_copies_;
          break;
        case ReplicaCondition::kDown:
          if (member.carried && !member.removed) ++durable_copies_;
          if (down_ == nullptr || DueTime(member) < DueTime(*down_)) down_ = &member;
          break;
        default:
          // One that leaves anyway is replaced rather than brought up to date.
          if (syncable_ == nullptr || syncable_->leaving) syncable_ = &member;
      }
    }
  }

  // When a member that is down may be replaced although a quorum of copies is left.
  int64_t DueTime(const MemberFacts& member) const {
    if (member.removed) return 0;
    return std::max(member.down_since_ns + options_.grace_ns, member.away_until_ns);
  }

  const PlacementServer* Server(ServerId id) const {
    for (const PlacementServer& server : servers_) {
      if (server.server == id) return &server;
    }
    return nullptr;
  }

  // A member that the policy would rather have elsewhere: leaving, twice in one failure domain, of a wrong
  // storage class.
  const MemberFacts* Misplaced(std::string* reason) const {
    for (const MemberFacts& member : chunk_.members) {
      if (!member.leaving) continue;
      *reason = ToString(member.server) + (member.removed ? " was removed" : " is being drained");
      return &member;
    }
    std::set<std::string> domains;
    for (const MemberFacts& member : chunk_.members) {
      const PlacementServer* server = Server(member.server);
      if (server == nullptr) continue;
      if (!server->in_class) {
        *reason = ToString(member.server) + " has no disk of the policy's storage class";
        return &member;
      }
      if (!domains.insert(FailureDomainKey(*server, chunk_.domain)).second) {
        *reason = "two copies are in one failure domain (" + ToString(member.server) + ")";
        return &member;
      }
    }
    return nullptr;
  }

  bool Wishes() {
    if (chunk_.members.size() > chunk_.replicas) {
      wish_reason_ = "the policy asks for " + std::to_string(chunk_.replicas) + " replicas, it has " +
                     std::to_string(chunk_.members.size());
      return true;
    }
    if (Misplaced(&wish_reason_) != nullptr) return true;
    if (WantedQuorum() == chunk_.write_quorum || WantedQuorum() > chunk_.members.size()) return false;
    wish_reason_ = "the policy asks for a write quorum of " + std::to_string(WantedQuorum()) + ", it has " +
                   std::to_string(chunk_.write_quorum);
    return true;
  }

  RepairPlan Wait(std::string reason, int64_t until_ns) {
    plan_.action = RepairAction::kWait;
    plan_.reason = std::move(reason);
    plan_.not_before_ns = until_ns;
    return plan_;
  }

  // The worst members go: not current, leaving, doubled in a failure domain, then the fullest server.
  RepairPlan DropSurplus() {
    std::vector<const MemberFacts*> stay;
    for (const MemberFacts& member : chunk_.members) stay.push_back(&member);
    while (stay.size() > chunk_.replicas) {
      auto cost = [&](const MemberFacts* member) {
        const PlacementServer* server = Server(member->server);
        int doubled = 0;
        for (const MemberFacts* other : stay) {
          const PlacementServer* one = Server(other->server);
          if (other != member && one != nullptr && server != nullptr &&
              FailureDomainKey(*one, chunk_.domain) == FailureDomainKey(*server, chunk_.domain)) {
            doubled = 1;
          }
        }
        const bool current = member->condition == ReplicaCondition::kCurrent;
        const uint64_t used = server == nullptr ? UINT64_MAX : UINT64_MAX - server->free_bytes;
        return std::make_tuple(current ? 0 : 1, member->leaving ? 1 : 0,
                               server != nullptr && !server->in_class ? 1 : 0, doubled, used,
                               member->server.value());
      };
      stay.erase(std::max_element(stay.begin(), stay.end(),
                                  [&](const auto* a, const auto* b) { return cost(a) < cost(b); }));
    }
    plan_.action = RepairAction::kConfigure;
    plan_.wish = true;
    for (const MemberFacts* member : stay) plan_.members.push_back(member->server);
    plan_.write_quorum = QuorumFor(stay.size(), stay.size());
    plan_.reason = "the policy asks for " + std::to_string(chunk_.replicas) + " replicas, it has " +
                   std::to_string(chunk_.members.size());
    return plan_;
  }

  RepairPlan SyncMember() {
    if (syncable_->leaving) {
      const std::string reason = ToString(syncable_->server) + " is " + ConditionName(syncable_->condition) +
                                 (syncable_->removed ? " and was removed" : " and is being drained");
      if (Exchange(*syncable_, reason)) return plan_;
    }
    if (const PlacementServer* server = Server(syncable_->server); server != nullptr && server->refuses_until_ns != 0) {
      const std::string reason = ToString(syncable_->server) + " is " + ConditionName(syncable_->condition) +
                                 " and refuses copies (" + server->refusal + ")";
      if (Exchange(*syncable_, reason)) return plan_;
      return Wait(reason, server->refuses_until_ns);
    }
    plan_.action = RepairAction::kSyncMember;
    plan_.target = syncable_->server;
    plan_.reason = ToString(syncable_->server) + " is " + ConditionName(syncable_->condition);
    return plan_;
  }

  RepairPlan ReplaceDown() {
    const int64_t due_ns = DueTime(*down_);
    const std::string away =
        ToString(down_->server) + " is down since " + Seconds(now_ns_ - down_->down_since_ns);
    if (plan_.valid_copies >= chunk_.write_quorum && now_ns_ < due_ns) {
      return Wait(
          down_->away_until_ns > now_ns_
              ? ToString(down_->server) + " is in maintenance for another " + Seconds(due_ns - now_ns_)
              : away + ", it is replaced after " + Seconds(options_.grace_ns),
          due_ns);
    }
    const std::string reason = down_->removed ? ToString(down_->server) + " was removed" : away;
    if (Exchange(*down_, reason)) return plan_;
    return NoPlace(reason, options_.retry_ns);
  }

  // Replaces `out` by a new server, if there is one.
  bool Exchange(const MemberFacts& out, const std::string& reason) {
    PlacementRequest request;
    request.replicas = static_cast<uint32_t>(chunk_.members.size());
    request.exclude.push_back(out.server);
    for (const MemberFacts& member : chunk_.members) {
      if (&member != &out) request.keep.push_back(member.server);
    }
    const bool valid = out.condition == ReplicaCondition::kCurrent;
    return PlaceOne(std::move(request), reason, plan_.valid_copies + 1 - (valid ? 1 : 0));
  }

  RepairPlan Add(const std::string& reason) {
    PlacementRequest request;
    request.replicas = static_cast<uint32_t>(chunk_.members.size()) + 1;
    for (const MemberFacts& member : chunk_.members) request.keep.push_back(member.server);
    if (PlaceOne(std::move(request), reason, plan_.valid_copies + 1)) return plan_;
    return NoPlace(reason, options_.retry_ns);
  }

  bool PlaceOne(PlacementRequest request, const std::string& reason, size_t copies) {
    request.write_quorum = 0;
    request.domain = chunk_.domain;
    request.scatter_width = chunk_.scatter_width;
    auto placed = Place(request, servers_, seed_);
    CAIRN_CHECK(placed.ok(), "a placement that requires nothing cannot fail");
    if (placed->size() < request.replicas) return false;
    plan_.action = RepairAction::kReplace;
    plan_.members = *placed;
    plan_.target = placed->back();
    plan_.write_quorum = QuorumFor(placed->size(), copies);
    plan_.reason = reason;
    return true;
  }

  RepairPlan NoPlace(const std::string& reason, int64_t retry_ns) {
    std::string refusing;
    for (const PlacementServer& server : servers_) {
      if (server.refuses_until_ns == 0) continue;
      refusing += (refusing.empty() ? "; " : ", ") + ToString(server.server) + " refuses copies (" + server.refusal + ")";
    }
    return Wait(reason + "; no other server that is up has room for it in a failure domain of its own" + refusing,
                now_ns_ + retry_ns);
  }

  RepairPlan Improve() {
    plan_.wish = true;
    std::string reason;
    if (const MemberFacts* misplaced = Misplaced(&reason)) {
      if (Exchange(*misplaced, reason)) return plan_;
      // W need not wait for a server that may never come.
      if (WantedQuorum() == chunk_.write_quorum) return NoPlace(reason, options_.wish_retry_ns);
    }
    plan_.action = RepairAction::kConfigure;
    for (const MemberFacts& member : chunk_.members) plan_.members.push_back(member.server);
    plan_.write_quorum = WantedQuorum();
    plan_.reason = "the policy asks for a write quorum of " + std::to_string(WantedQuorum()) + ", it has " +
                   std::to_string(chunk_.write_quorum);
    return plan_;
  }

  const ChunkFacts& chunk_;
  const std::vector<PlacementServer>& servers_;
  const RepairOptions& options_;
  const uint64_t seed_;
  const int64_t now_ns_;
  RepairPlan plan_;
  uint32_t durable_copies_ = 0;  // valid, counting those on servers that are down
  const MemberFacts* syncable_ = nullptr;
  const MemberFacts* down_ = nullptr;  // the one that is due first
  std::string wish_reason_;
};

}  // namespace

RepairPlan PlanRepair(const ChunkFacts& chunk, const std::vector<PlacementServer>& servers,
                      const RepairOptions& options, uint64_t seed, int64_t now_ns) {
  return Planner(chunk, servers, options, seed, now_ns).Run();
}

uint32_t RepairQueue::RankOf(const RepairPlan& plan, const ChunkFacts& chunk) {
  const uint32_t below = plan.valid_copies < chunk.write_quorum ? 0 : 1;
  // What lacks nothing comes after everything that does.
  return (plan.wish ? 10'000 : 0) + std::min<uint32_t>(plan.valid_copies, 1000) * 2 + below;
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

bool RepairLimits::Start(const std::vector<ServerId>& servers, uint32_t weight) {
  if (!HasRoom()) return false;
  for (ServerId server : servers) {
    if (!HasRoom(server, weight)) return false;
  }
  for (ServerId server : servers) by_server_[server] += weight;
  taken_ += weight;
  ++running_;
  return true;
}

void RepairLimits::Finish(const std::vector<ServerId>& servers, uint32_t weight) {
  CAIRN_CHECK(running_ > 0 && taken_ >= weight);
  --running_;
  taken_ -= weight;
  for (ServerId server : servers) {
    auto it = by_server_.find(server);
    CAIRN_CHECK(it != by_server_.end() && it->second >= weight);
    it->second -= weight;
    if (it->second == 0) by_server_.erase(it);
  }
}

}  // namespace cairn::master
