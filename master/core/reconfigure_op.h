// Runs the one configuration procedure (common/replication/recovery.h) for one chunk: sends what the pure
// core says, records intent and activation in the log, and waits until the activation is on disk before
// anybody may act under the new epoch.
//
// Whoever needs the outcome passes a callback; there is at most one procedure per chunk (Running says so). A
// procedure that cannot be decided waits and goes on by itself when servers come back.
//
// Thread-safety: core thread only.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/replication/recovery.h"
#include "master/cluster/commander.h"
#include "master/core/operation.h"
#include "proto/cairn/state.pb.h"

namespace cairn::master {

struct ReconfigureRequest {
  ChunkId chunk;
  replication::ReconfigurePurpose purpose = replication::ReconfigurePurpose::kVanishedWriter;
  std::vector<ServerId> members;  // empty: those of the present configuration
  uint32_t write_quorum = 0;      // 0: as now
  uint32_t min_carriers = 0;
  bool accept_loss = false;
  std::string reason;      // for people: in the record, log and history
  int64_t give_up_ns = 0;  // 0: never; otherwise the time after which it fails with its wait reason
};

// ok: the chunk is activated (or was dropped as never begun) and that is on disk.
using ReconfigureDone = std::function<void(const Status&)>;

class ReconfigureOp final : public Operation {
 public:
  // Starts it. Precondition: none runs for this chunk.
  static OperationId Start(Core& core, ReconfigureRequest request, ReconfigureDone done);
  // The procedure of the chunk, nullptr when there is none.
  static ReconfigureOp* Running(Core& core, ChunkId chunk);
  // A server is up again (all of its commands had failed).
  static void OnServerUp(Core& core, ServerId server);

  ReconfigureOp(Core& core, ReconfigureRequest request, ReconfigureDone done);
  Progress Step(Core& core) override;
  std::string WaitReason() const override;
  const ReconfigureRequest& request() const { return request_; }
  // members: the new set; empty: as it was.
  void DeclareLossAccepted(Core& core, std::vector<ServerId> members);
  // Also called when it ended.
  void AddListener(ReconfigureDone done) { done_.push_back(std::move(done)); }

 private:
  bool Begin(Core& core);
  void Perform(Core& core, replication::ReconfigureAction action);
  void Command(Core& core, ServerId server, proto::ChunkCommand command, int64_t timeout_ms,
               std::function<void(replication::Reconfiguration&, const CommandOutcome&)> answer);
  void OnActivate(Core& core, const replication::Activate& activate);
  void TellWriter(Core& core);
  Progress Finish(Core& core, const Status& status);
  void ArmRetry(Core& core);

  ReconfigureRequest request_;
  std::vector<ReconfigureDone> done_;
  std::unique_ptr<replication::Reconfiguration> procedure_;
  int64_t started_ns_ = 0;
  bool activated_ = false;  // logged; waits for the disk
  bool dropped_ = false;
  bool retry_armed_ = false;
  bool reported_damaged_ = false;
  uint32_t attempts_ = 0;
  uint64_t final_index_ = 0;  // log index of the outcome
};

}  // namespace cairn::master
