// Runs a quorum delete (common/replication/deletion.h) for the chunks of one file: sends prepare-delete to
// all members, and after a refusal takes the tombstones back until every member that can be reached
// acknowledged it.
//
//   auto procedure = DeleteProcedure::Start(core, chunks, timeout_ns, wake);   // wake: an operation to step
//   on news procedure->state() == kReady -> apply the command, procedure->Committed() procedure->state() ==
//   kRefused -> procedure->refusal() names who did not confirm; the abort goes on by itself
//
// Thread-safety: core thread only.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "common/replication/deletion.h"
#include "master/leases/inode_queue.h"

namespace cairn::master {

class Core;

class DeleteProcedure : public std::enable_shared_from_this<DeleteProcedure> {
 public:
  enum class State : uint8_t { kPreparing, kReady, kRefused };

  // Precondition: the chunks exist, and no configuration procedure runs for them.
  static std::shared_ptr<DeleteProcedure> Start(Core& core, const std::vector<ChunkId>& chunks,
                                                int64_t timeout_ns, OperationId wake);
  // A server is up again: procedures that wait for it go on.
  static void OnServerUp(Core& core, ServerId server);
  // Takes back a tombstone found on a replica of a chunk that is still referenced (after a crash of the
  // master).
  static void AbortStray(Core& core, ChunkId chunk, ServerId server);
  // True while tombstones of the chunk are being prepared or taken back.
  static bool Concerns(Core& core, ChunkId chunk);
  // May a new delete of the chunk start? One that is still taking tombstones back gives way: the new one's
  // epochs are higher, so its prepare or its own abort replaces whatever the old one left.
  static bool MayStart(Core& core, ChunkId chunk);

  State state() const { return state_; }
  const Status& refusal() const { return refusal_; }
  const std::vector<ChunkId>& chunks() const { return chunks_; }
  void Committed();
  // Gives up although the time has not come (the world changed meanwhile).
  void Refuse();

 private:
  DeleteProcedure(Core& core, std::vector<ChunkId> chunks, OperationId wake);
  bool Prepare();
  void PrepareAgain();
  void Perform();
  void OnPrepared();
  void OnDeadline();
  void RetryAborts();
  void EndIfDone();
  void Unregister();

  Core& core_;
  std::vector<ChunkId> chunks_;  // sorted
  const OperationId wake_;
  std::optional<replication::QuorumDelete> decision_;
  State state_ = State::kPreparing;
  Status refusal_;
  int64_t started_ns_ = 0;
  int64_t deadline_ns_ = 0;
  bool retry_armed_ = false;
  bool again_armed_ = false;
  bool superseded_ = false;
};

}  // namespace cairn::master
