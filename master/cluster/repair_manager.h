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
#include <functional>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>

#include "common/ids.h"
#include "master/cluster/outage_hold.h"
#include "master/cluster/repair_planner.h"
#include "master/cluster/target_backoff.h"
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
    uint64_t misplaced = 0;   // all copies there, but the policy or a drain wants them elsewhere, fewer, or with another W
    uint64_t moved_chunks = 0;  // since the master started, of those
    uint64_t moved_bytes = 0;
    uint64_t bytes_per_second = 0;  // copied while at least one copy ran, recently
    uint64_t running = 0;
    uint64_t queued = 0;
  };

  explicit RepairManager(Core& core);

  // Something about the chunk changed: evaluate it soon.
  void Look(ChunkId chunk);
  // The chunk is gone.
  void Forget(ChunkId chunk);
  void OnServerUp();
  void OnServerDown(ServerId server);
  void OnServerReported(ServerId server);
  // Everything is looked at again from the start.
  void StartScan();
  void Tick();
  // A sync of this chunk ended (of a configuration procedure, too).
  void CountTransfer(ChunkId chunk, ServerId server, const CommandOutcome& outcome);

  // A chunk was sealed. One that waits for its writer is taken in hand before the writer opens it again.
  void OnSealed(ChunkId chunk);
  bool Lowering(ChunkId chunk) const { return lower_since_.contains(chunk); }

  // Moves one copy of a healthy sealed chunk, copy first (rebalancing). `done` is called once, later, when kStarted.
  enum class MoveStart : uint8_t { kStarted, kNotNow, kNoPlace };
  MoveStart Move(ChunkId chunk, ServerId from, ServerId to, const std::string& reason, std::function<void(bool)> done);
  bool settled() const { return hold_.over(); }

  bool Busy(ChunkId chunk) const { return busy_.contains(chunk); }
  Counters counters() const;
  // What is known of the members, for plans and for people.
  ChunkFacts FactsOf(ChunkId chunk, const proto::ChunkRecord& record) const;
  RepairPlan PlanOf(ChunkId chunk, const proto::ChunkRecord& record);
  // "in 12.3 s: cs3 is down ...", or empty when nothing is planned.
  std::string NextAttempt(ChunkId chunk);

  // The file's writer was asked to step back so that a chunk can be repaired, which has not happened yet: a
  // write lease given out now would open the chunk again, and a file that is written all the time would never be
  // whole. This guard covers the time from the recall until the chunk is in hand, which a place for the copy may take a while
  // to become free for; it keeps off write leases only, and another chunk of the file that turns out healthy ends it. While the
  // copy runs, HoldInodeOp (repair_manager.cc) keeps everybody off, for a much shorter time.
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
    bool misplaced = false;
  };
  struct Places {
    std::vector<ServerId> servers;
    uint32_t weight = 0;
    uint64_t hold = 0;  // operation that keeps the writer from opening the chunk again; 0: none
  };

  struct Present {
    uint32_t away = 0;  // down, or up without having said what it has
    uint32_t in_service = 0;
  };
  Present CountServers() const;
  void RunLooks();
  void RunScans();
  void Pump();
  void Evaluate(ChunkId chunk, bool may_start);
  // lowered: its writer gave the chunk up for this, and would open it again at once.
  bool Execute(ChunkId chunk, const proto::ChunkRecord& record, const RepairPlan& plan, bool lowered = false);
  void SyncMember(ChunkId chunk, const proto::ChunkRecord& record, const RepairPlan& plan, const Places& places);
  void Replace(ChunkId chunk, const RepairPlan& plan, const Places& places);
  // Members that the new configuration left out are asked what they have: it is erased as surplus once the others are verified.
  void AskFormerMembers(ChunkId chunk, const std::vector<ServerId>& former);
  std::optional<Places> TakePlaces(const RepairPlan& plan, uint64_t length);
  void LowerWriter(ChunkId chunk, const proto::ChunkRecord& record);
  bool ResumeProcedure(ChunkId chunk, const proto::ChunkRecord& record);
  // Until when a chunk whose last attempt failed is left alone; 0: it is not.
  int64_t PauseOf(ChunkId chunk) const;
  void SetHealth(ChunkId chunk, const Health& health);
  void Finish(ChunkId chunk, const Places& places, bool ok, bool overtaken = false);

  void MeasureSpeed();

  Core& core_;
  // Speed of copying: bytes and the time in which something ran, halved now and then so that it follows.
  int64_t measured_ns_ = 0;
  uint64_t measured_bytes_ = 0;
  double busy_seconds_ = 0;
  double busy_bytes_ = 0;
  RepairQueue queue_;
  RepairLimits limits_;
  std::deque<ChunkId> looks_;
  std::unordered_set<ChunkId> looking_;
  std::deque<Scan> scans_;
  int64_t next_scan_ns_ = 0;
  std::unordered_set<ChunkId> busy_;
  std::unordered_map<ChunkId, std::function<void(bool)>> move_done_;
  struct Attempts {
    uint32_t failed = 0;        // in a row
    int64_t not_before_ns = 0;  // the pause after the last one, which holds even when a writer has the chunk open meanwhile
    bool overtaken = false;  // the last one failed because a writer opened the chunk meanwhile
  };
  std::unordered_map<ChunkId, Attempts> attempts_;
  TargetBackoff refusing_;
  std::unordered_map<ChunkId, int64_t> lower_since_;  // open with a dropped member
  std::unordered_map<InodeId, int64_t> reserved_until_;
  std::unordered_map<ChunkId, Health> unhealthy_;
  Counters counters_;
  bool pumping_ = false;
  OutageHold hold_;
};

}  // namespace cairn::master
