// What to do for one chunk that is not healthy, and which chunks come first. Pure: facts in, a plan out.
//
// Priorities: fewest valid copies first, then chunks below W, then chunks below N. A missing or down member
// is given `grace` before it is replaced as long as W valid copies exist; a stale or corrupt member on a
// server that is up is synced at once.
//
// Thread-safety: pure functions and values; RepairQueue is owned by one thread.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "common/ids.h"
#include "master/cluster/placement.h"

namespace cairn::master {

enum class ReplicaCondition : uint8_t {
  kCurrent,  // carries the sealed stamp
  kStale,    // has an older or other state, its server is up
  kMissing,  // its server is up and does not have it
  kCorrupt,  // holds a block that failed its checksum
  kDown,     // its server is down; what it carries is what was last known
};
std::string ConditionName(ReplicaCondition condition);

struct MemberFacts {
  ServerId server;
  ReplicaCondition condition = ReplicaCondition::kCurrent;
  bool carried = false;       // kDown: it was a carrier when last heard of
  int64_t down_since_ns = 0;  // kDown
  bool leaving = false;       // its server is being drained or was removed
  // kDown: an administrator announced that it is away until then (maintenance); 0: the usual grace. Removed
  // servers: no grace.
  int64_t away_until_ns = 0;
  bool removed = false;
};

struct ChunkFacts {
  ChunkId chunk;
  bool open = false;          // a writer has it open
  bool recovering = false;    // its configuration is being changed
  uint32_t replicas = 3;      // N of the policy
  uint32_t write_quorum = 2;  // W of the configuration
  uint32_t wanted_quorum = 0;  // W of the policy; 0: as write_quorum
  uint32_t scatter_width = 0;  // of the policy
  FailureDomain domain = FailureDomain::kServer;
  std::vector<MemberFacts> members;
};

enum class RepairAction : uint8_t {
  kNothing,      // healthy
  kWait,         // not healthy; the reason says what it waits for
  kSyncMember,   // bring `target`, a member, to the sealed stamp
  kReplace,      // copy to `target`, then make `members` the configuration
  kConfigure,    // nothing to copy: make `members` and `write_quorum` the configuration
  kLowerWriter,  // open with a dropped member: recall the write lease so that it can be sealed and repaired
};

struct RepairPlan {
  RepairAction action = RepairAction::kNothing;
  ServerId target;
  std::vector<ServerId> sources;  // valid copies on servers that are up
  std::vector<ServerId> members;  // kReplace, kConfigure: the configuration afterwards
  uint32_t write_quorum = 0;      // kReplace, kConfigure: W afterwards; 0: as now
  bool wish = false;  // the chunk has all the copies it is entitled to; this only moves or renames them
                      // (drain, policy)
  std::string reason;
  int64_t not_before_ns = 0;  // kWait: when to look again
  uint32_t valid_copies = 0;  // on servers that are up
};

struct RepairOptions {
  int64_t grace_ns = 30'000'000'000;
  int64_t retry_ns = 1'000'000'000;  // kWait without a known time
  int64_t wish_retry_ns = 10'000'000'000;  // kWait of a chunk that lacks nothing
};

// Order: copies that are missing or wrong first; then surplus members are dropped (a lower N); then members
// that leave are replaced, copy first; then members in a wrong failure domain or storage class; then W.
RepairPlan PlanRepair(const ChunkFacts& chunk, const std::vector<PlacementServer>& servers,
                      const RepairOptions& options, uint64_t seed, int64_t now_ns);

// Chunks waiting for repair, most endangered first. Bounded: when full, the least endangered ones are left to
// the next scan.
class RepairQueue {
 public:
  explicit RepairQueue(size_t capacity) : capacity_(capacity) {}

  // rank: lower is more urgent (RankOf). A chunk that is queued already keeps the more urgent rank and the
  // earlier time.
  void Add(ChunkId chunk, uint32_t rank, int64_t not_before_ns);
  void Remove(ChunkId chunk);
  bool Contains(ChunkId chunk) const { return entries_.contains(chunk); }
  // The most urgent chunk whose time has come; it stays queued until Remove or Add.
  std::vector<ChunkId> Due(int64_t now_ns, size_t count) const;
  // When the chunk is tried next; nullopt when it is not queued.
  std::optional<int64_t> NotBefore(ChunkId chunk) const;
  int64_t NextTime() const;
  size_t size() const { return entries_.size(); }

  static uint32_t RankOf(const RepairPlan& plan, const ChunkFacts& chunk);

 private:
  struct Entry {
    uint32_t rank;
    int64_t not_before_ns;
    uint64_t order;
  };
  const size_t capacity_;
  uint64_t next_order_ = 0;
  std::unordered_map<ChunkId, Entry> entries_;
  std::map<std::tuple<uint32_t, uint64_t>, ChunkId> by_rank_;
  std::multiset<int64_t> times_;
};

// Concurrency limits of repair: per server (as source or target) and for the cluster. A small chunk costs
// round trips and syncs rather than bandwidth, so several of them take the place of a large one.
class RepairLimits {
 public:
  static constexpr uint32_t kFull = 4;  // what one large chunk takes
  static uint32_t WeightOf(uint64_t chunk_bytes) {
    return chunk_bytes >= (4u << 20) ? kFull : chunk_bytes >= (1u << 20) ? 2 : 1;
  }

  RepairLimits(uint32_t per_server, uint32_t cluster)
      : per_server_(per_server * kFull), cluster_(cluster * kFull) {}
  bool HasRoom() const { return taken_ < cluster_; }
  bool HasRoom(ServerId server, uint32_t weight) const { return Taken(server) + weight <= per_server_; }
  uint32_t Taken(ServerId server) const {
    auto it = by_server_.find(server);
    return it == by_server_.end() ? 0 : it->second;
  }
  // Takes a place for the servers, or answers false and takes nothing.
  bool Start(const std::vector<ServerId>& servers, uint32_t weight);
  void Finish(const std::vector<ServerId>& servers, uint32_t weight);
  uint32_t running() const { return running_; }

 private:
  const uint32_t per_server_;
  const uint32_t cluster_;
  uint32_t taken_ = 0;
  uint32_t running_ = 0;
  std::unordered_map<ServerId, uint32_t> by_server_;
};

}  // namespace cairn::master
