// Decides whether a set of chunks (one file) may be deleted: W tombstones of every chunk first.
//
// Pure state machine; the shell (master) sends what TakeActions() says, keeps the deadline, and owns the log:
//
//   QuorumDelete d(targets, epoch);            // epoch fresh, leases recalled, no configuration change under
//   way TakeActions() -> PrepareDelete{chunk, server, epoch} for every member of every chunk
//   OnPrepareReply(...) until committable()    // W of each
//   log the unlink; d.OnCommitted(); reply; later, durable and past the grace time: erase everywhere
//
//   deadline first: failure = d.Refuse(higher epoch);   // names who did not confirm; the file stays whole
//   TakeActions() -> AbortDelete{chunk, server, higher epoch} to every member, also to those that never
//   answered: a prepare that is still under way must meet the higher promise OnAbortReply(...);
//   OnMemberBack(...) repeats; finished() when every member took it
//
// Once committable() was acted upon there is no way back, and once Refuse() was called there is none forward:
// late tombstones count for nothing. The master's durable log is the only authority: after a crash of the
// master, tombstones on chunks that are still referenced are aborted under a fresh epoch.
//
// Thread-safety: none; one owner.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "common/replication/quorum.h"
#include "common/replication/rules.h"
#include "common/replication/types.h"

namespace cairn::replication {

struct DeleteTarget {
  ChunkId chunk;
  Configuration config;  // the last activated one
};

struct PrepareDelete {
  ChunkId chunk;
  ServerId server;
  Epoch epoch;
  bool operator==(const PrepareDelete&) const = default;
};
struct AbortDelete {
  ChunkId chunk;
  ServerId server;
  Epoch epoch;
  bool operator==(const AbortDelete&) const = default;
};
using DeleteAction = std::variant<PrepareDelete, AbortDelete>;

class QuorumDelete {
 public:
  enum class Phase : uint8_t {
    kPreparing,
    kCommitted,  // the log has it
    kAborting,   // refused; taking tombstones back
  };

  // Precondition (checked): the configurations are valid, `epoch` is above each of theirs, no chunk twice.
  // Without targets the delete is committable at once.
  QuorumDelete(std::vector<DeleteTarget> targets, Epoch epoch, Rules rules = {});

  std::vector<DeleteAction> TakeActions();

  // Errors and timeouts come through the same calls. info.tombstone must name this epoch for the answer to
  // count.
  void OnPrepareReply(ChunkId chunk, ServerId server, const Status& status, const ReplicaInfo& info);
  void OnAbortReply(ChunkId chunk, ServerId server, const Status& status);
  // What failed at this server is asked again (also: its commands were lost with its stream).
  void OnMemberBack(ServerId server);
  void Retry();

  Phase phase() const { return phase_; }
  Epoch epoch() const { return epoch_; }
  // W tombstones of every chunk are recorded.
  bool committable() const { return phase_ == Phase::kPreparing && chunks_below_quorum_ == 0; }
  // A member promised more than this epoch: this attempt cannot count it. Refuse and try again with a higher
  // epoch.
  bool epoch_too_low() const { return highest_promise_ > epoch_ || fenced_; }
  // As far as the answers told; a refusal need not say.
  Epoch highest_promise() const { return highest_promise_; }
  // Every member that could still answer has; without committable() waiting longer helps only if somebody
  // comes back.
  bool outstanding() const;

  // Precondition: committable().
  void OnCommitted();
  // Gives up. Answers kNoQuorum naming the chunks below W, the servers and their reasons. Precondition:
  // kPreparing, abort_epoch above epoch().
  Status Refuse(Epoch abort_epoch);
  // kCommitted, or every member acknowledged the abort (or cannot hold the tombstone any more).
  bool finished() const;
  // Members that have not acknowledged the abort yet.
  std::vector<ServerId> AbortPending() const;

 private:
  enum class Answer : uint8_t { kNone, kSent, kYes, kError };
  struct Member {
    ServerId server;
    Answer prepare = Answer::kNone;
    Answer abort = Answer::kNone;
    Status problem;
  };
  struct Chunk {
    ChunkId chunk;
    uint32_t write_quorum = 0;
    uint32_t tombstones = 0;
    std::vector<Member> members;
  };

  Member* Find(ChunkId chunk, ServerId server, Chunk** owner);
  void Send(const Chunk& chunk, Member& member);
  uint32_t Required(const Chunk& chunk) const;

  std::vector<Chunk> chunks_;  // sorted by id
  const Epoch epoch_;
  const Rules rules_;
  Epoch abort_epoch_;
  Epoch highest_promise_;
  bool fenced_ = false;  // a member refused because it promised more
  Phase phase_ = Phase::kPreparing;
  size_t chunks_below_quorum_ = 0;
  std::vector<DeleteAction> actions_;
};

}  // namespace cairn::replication
