// The repair loop: finds chunks that are not what their policy asks for, and runs the plans of
// repair_planner.h within limits.
//
// A chunk is looked at when something about it changed (sealed with laggards, a replica differs, a server
// went down or reported), and by a slow scan over everything, so that nothing that was missed stays missed.
//
// Thread-safety: none; owned by the core thread.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>

#include "common/ids.h"
#include "master/cluster/repair_planner.h"
#include "proto/cairn/state.pb.h"

namespace cairn::master {

class Core;
struct CommandOutcome;

class RepairManager {
 public:
  struct Counters {
    uint64_t repaired_chunks = 0;
    uint64_t repaired_bytes = 0;
    uint64_t repaired_bytes_differing = 0;
    uint64_t below_quorum = 0;
    uint64_t below_policy = 0;
    uint64_t damaged = 0;
    uint64_t running = 0;
    uint64_t queued = 0;
  };

  explicit RepairManager(Core& core);

  // Something about the chunk changed: evaluate it soon.
  void Look(ChunkId chunk);
  // The chunk is gone.
  void Forget(ChunkId chunk);
  void OnServerDown(ServerId server);
  void OnServerReported(ServerId server);
  // Everything is looked at again from the start.
  void StartScan();
  void Tick();
  // A sync of this chunk ended (of a configuration procedure, too).
  void CountTransfer(ChunkId chunk, ServerId server, const CommandOutcome& outcome);

  bool Busy(ChunkId chunk) const { return busy_.contains(chunk); }
  Counters counters() const;
  // What is known of the members, for plans and for people.
  ChunkFacts FactsOf(ChunkId chunk, const proto::ChunkRecord& record) const;
  RepairPlan PlanOf(ChunkId chunk, const proto::ChunkRecord& record);
  // "in 12.3 s: cs3 is down ...", or empty when nothing is planned.
  std::string NextAttempt(ChunkId chunk);

  // The file's writer was asked to step back so that a chunk can be repaired, which has not happened yet: a
  // write lease given out now would open the chunk again, and a file that is written all the time would never be
  // whole.
  bool Reserved(InodeId inode) const;

 private:
  struct Scan {
    ServerId server;  // zero: all chunks
    ChunkId cursor;
  };
  struct Health {
    bool below_quorum = false;
    bool below_policy = false;
    bool damaged = false;
  };

  // After a start of the master: has every server that is known said what it has, or had the time to?
  bool Settled();
  void RunLooks();
  void RunScans();
  void Pump();
  void Evaluate(ChunkId chunk, bool may_start);
  bool Execute(ChunkId chunk, const proto::ChunkRecord& record, const RepairPlan& plan);
  void SyncMember(ChunkId chunk, const proto::ChunkRecord& record, const RepairPlan& plan);
  void Replace(ChunkId chunk, const RepairPlan& plan, const std::vector<ServerId>& places);
  void LowerWriter(ChunkId chunk, const proto::ChunkRecord& record);
  bool ResumeProcedure(ChunkId chunk, const proto::ChunkRecord& record);
  void SetHealth(ChunkId chunk, const Health& health);
  void Finish(ChunkId chunk, const std::vector<ServerId>& places, bool ok);

  Core& core_;
  RepairQueue queue_;
  RepairLimits limits_;
  std::deque<ChunkId> looks_;
  std::unordered_set<ChunkId> looking_;
  std::deque<Scan> scans_;
  int64_t next_scan_ns_ = 0;
  std::unordered_set<ChunkId> busy_;
  std::unordered_map<ChunkId, uint32_t> attempts_;    // failed in a row
  std::unordered_map<ChunkId, int64_t> lower_since_;  // open with a dropped member
  std::unordered_map<InodeId, int64_t> reserved_until_;
  std::unordered_map<ChunkId, Health> unhealthy_;
  Counters counters_;
  bool pumping_ = false;
  bool settled_ = false;
  int64_t started_ns_ = 0;
};

}  // namespace cairn::master
