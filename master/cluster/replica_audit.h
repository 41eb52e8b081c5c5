// Compares what chunkservers report with the record of each chunk, and remembers only the differences: which
// listed replica is not what the record says. Agreement costs no memory.
//
//   not recorded, but listed for the server     -> the record was lost (fsck): kept
//   not recorded, id below the allocation limit -> deleted long ago: erased (into quarantine) after the grace period
//   being deleted                               -> erased
//   not a member (any more)                     -> surplus: erased when the chunk has all its copies, by complete reports;
//                                                  into quarantine when it is newer than the record
//   a tombstone, although referenced            -> taken back
//   accepted above the seal                     -> the record lost its tail: the configuration procedure decides
//   accepted below the seal, corrupt, missing   -> repaired
//   accepted == seal, not listed as carrier     -> recorded as carrier
//
// Thread-safety: none; owned by the core thread.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <unordered_map>
#include <unordered_set>

#include "common/ids.h"
#include "common/replication/types.h"
#include "common/status.h"
#include "master/cluster/repair_planner.h"
#include "proto/cairn/cluster.pb.h"

namespace cairn::master {

class Core;
struct CommandOutcome;

struct ReplicaDifference {
  ReplicaCondition condition = ReplicaCondition::kStale;
  std::string detail;
};

class ReplicaAudit {
 public:
  explicit ReplicaAudit(Core& core) : core_(core) {}

  void OnRegistered(ServerId server);
  void OnReport(ServerId server, const proto::ReplicaReport& report);
  void OnDown(ServerId server);
  // Which chunks one of its disks had, only the server knows: it is asked about all of them.
  void OnDiskFailed(ServerId server);
  void OnDamage(ServerId server, const proto::DamageReport& damage);
  // A client could not use this replica.
  void OnTrouble(ChunkId chunk, ServerId server, const Status& status);
  // A live answer of the replica (query): compared like a report. *status not ok and unknown_chunk: it is
  // missing.
  void Compare(ServerId server, const replication::ReplicaInfo& info);
  void Missing(ServerId server, ChunkId chunk);
  // Asks the replica itself and compares its answer, if there is one.
  void Query(ChunkId chunk, ServerId server);
  // The same for a listed replica of which no report tells anything: asked until it is answered.
  void Ask(ChunkId chunk, ServerId server);
  void Tick();

  const ReplicaDifference* Find(ChunkId chunk, ServerId server) const;
  void Clear(ChunkId chunk, ServerId server);
  // Records `server` as one more carrier of the seal; carriers known to differ are left out. False when the
  // record changed.
  bool AddCarrier(ChunkId chunk, Stamp stamp, ServerId server);
  void ForgetChunk(ChunkId chunk);

 private:
  struct Report {
    std::unordered_set<ChunkId> seen;
    uint64_t chunks_below = 0;  // allocated before the report began
    bool complete = false;
    bool outdated = false;  // a disk failed since: what it says is there may be gone
    ChunkId cursor;  // of the search for missing ones
  };
  struct Later {
    ServerId server;
    replication::ReplicaInfo info;
    int64_t not_before_ns = 0;
  };

  void Note(ChunkId chunk, ServerId server, ReplicaCondition condition, std::string detail);
  void Erase(const Later& copy, Epoch epoch, bool quarantine, const std::string& why);
  void OnAnswer(ChunkId chunk, ServerId server, const CommandOutcome& outcome);
  bool Unknown(ChunkId chunk, ServerId server) const;
  void Postpone(ServerId server, const replication::ReplicaInfo& info, int64_t delay_ns);
  // Whether the record says so. A chunk that is being deleted has one server less to be erased from.
  bool ShouldHave(ServerId server, ChunkId chunk);
  void FindMissing();
  bool IsSurplusErasable(ChunkId chunk) const;

  Core& core_;
  std::map<ServerId, std::unordered_map<ChunkId, ReplicaDifference>> differences_;
  std::map<ServerId, Report> reports_;
  std::map<ServerId, std::unordered_set<ChunkId>> unknown_;  // being asked about
  std::deque<Later> later_;  // bounded; what falls out comes again with the next report
};

}  // namespace cairn::master
