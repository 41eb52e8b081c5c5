// The one procedure that changes the configuration of a chunk: recovery of a vanished writer, replacement of
// a member under a live writer, repair of a sealed chunk, drain, a new N or W.
//
// Pure state machine. The shell (master) sends what TakeActions() says, reports every answer, error and
// timeout, and allocates the fresh epoch e'. Nothing of it has to survive a crash of the master: until the
// activation is durable the old configuration governs, and a new attempt takes a still higher epoch. The
// shell runs at most one attempt per chunk, and none while a delete of the chunk is being decided. Worked
// sequence, N = 3, W = 2, cs3 replaced by cs4 while cs3 is down:
//
//   Reconfiguration r({.chunk, .old = {5, {1,2,3}, 2, base}, .epoch = 7, .members = {1,2,4}, .write_quorum =
//   2, ...}); TakeActions() -> FenceMember cs1, cs2, cs3 (epoch 7) OnFenceReply(cs1, ok, {accepted 5.12}),
//   OnFenceReply(cs2, ok, {accepted 5.10})   // R = 2 answers: base = 5.12 TakeActions() -> BeginMember cs1,
//   cs4 (epoch 7 on 5.12, durable)                 // cs2 differs: it waits for a source OnBeginReply(cs1,
//   ok, {accepted 7.12}) TakeActions() -> SyncMember cs2 (to 7.12 from cs1) OnBeginReply(cs4, kStaleReplica)
//   -> SyncMember cs4 (to 7.12 from cs1) OnSyncReply(cs2, ok, {accepted 7.12})     -> Activate {config {7,
//   {1,2,4}, 2, 5.12}, stamp 7.12, carriers cs1, cs2} OnActivated()                             // the
//   master's log has it, durably; only now may anybody act under epoch 7 OnSyncReply(cs4, ok, ...) ->
//   AddCarrier cs4 (not under a live writer)
//
// Rules (docs/protocol.md): a base needs R answers without amnesia of the old configuration, or answers of
// every member not declared lost and at least R; the highest accepted stamp of all answers is the base; it is
// never below the recorded durable stamp, and below the recorded seal (or the base of the old configuration)
// only when at least W old members are amnesic or declared lost; a stamp that only damaged members hold is passed
// over for the best intact one when R voting answers are not above that (nothing more was acknowledged); at least W of the new set hold (e',
// base.seq) on disk before Activate. What cannot be decided waits, with a reason, and goes on when
// OnMemberBack or DeclareLost is called.
//
// An amnesic answer counts as one without amnesia when the chunk is sealed, not open, and the answer reaches
// the recorded seal: nothing was acknowledged beyond it that could have been forgotten.
//
// Thread-safety: none; one owner.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "common/replication/quorum.h"
#include "common/replication/rules.h"
#include "common/replication/types.h"

namespace cairn::replication {

enum class ReconfigurePurpose : uint8_t {
  kVanishedWriter,  // ends sealed
  kLiveWriter,      // a member is replaced while its writer goes on: ends open in e'
  kRepair,          // ends sealed
  kMove,            // drain, rebalancing, policy change: ends sealed
};

struct ReconfigureInput {
  ChunkId chunk;
  Configuration old;              // the last activated one
  Stamp sealed;                   // recorded seal; zero: never sealed
  bool open = false;              // a write lease may have begun a new epoch after the seal
  Stamp durable;                  // recorded durable stamp; zero: none
  std::vector<ServerId> lost;     // members of `old` that an operator declared lost
  Epoch epoch;                    // e', fresh: above every epoch handed out so far
  std::vector<ServerId> members;  // the new set
  uint32_t write_quorum = 0;      // W of the new set
  // Members that must be at base before Activate; at least write_quorum. A move that will remove copies asks
  // for N.
  uint32_t min_carriers = 0;
  ReconfigurePurpose purpose = ReconfigurePurpose::kVanishedWriter;
  // An operator's explicit, audited command: take the best of what answers, whatever the record says.
  bool accept_loss = false;
  Rules rules;
};

// The chunkserver must have recorded the promise before it answers; an absent replica answers with its
// (empty) info.
struct FenceMember {
  ServerId server;
  Epoch epoch;
  bool operator==(const FenceMember&) const = default;
};
// begin(epoch, base); answered when it is on disk.
struct BeginMember {
  ServerId server;
  Epoch epoch;
  Stamp base;
  bool operator==(const BeginMember&) const = default;
};
// Bring `server` to exactly `base`, which the sources hold, on disk when answered. `base` is (e', base.seq)
// once a new member has begun, before that the chosen base itself.
struct SyncMember {
  ServerId server;
  Epoch epoch;
  Stamp base;
  uint64_t length = 0;
  std::vector<ServerId> sources;  // tried in order
  bool operator==(const SyncMember&) const = default;
};
// Record this, durably, then call OnActivated.
struct Activate {
  Configuration config;  // epoch e', base as a writer needs it
  Stamp stamp;           // (e', base.seq): what the carriers hold; the sealed stamp when `sealed`
  uint64_t length = 0;   // bytes of the chunk
  bool sealed = false;
  std::vector<ServerId> carriers;
  bool operator==(const Activate&) const = default;
};
// After the activation one more member reached `stamp`.
struct AddCarrier {
  ServerId server;
  Stamp stamp;
  bool operator==(const AddCarrier&) const = default;
};
using ReconfigureAction = std::variant<FenceMember, BeginMember, SyncMember, Activate, AddCarrier>;

class Reconfiguration {
 public:
  enum class Phase : uint8_t {
    kFencing,       // collecting promises of the old configuration
    kInstalling,    // base is chosen; bringing members to it
    kActivating,    // Activate was given out
    kActive,        // the log has it
    kNeverWritten,  // no seal on record and no member ever saw a begin: drop the record; terminal, no
                    // activation
    kFailed,        // terminal; see failure()
  };

  // Preconditions (checked): old and the new set are valid, e' is above old.epoch.
  explicit Reconfiguration(ReconfigureInput input);

  std::vector<ReconfigureAction> TakeActions();

  // Errors and timeouts are reported with their status through the same call. kFenced means that a member
  // promised more than e': the attempt fails, a new one needs an epoch above highest_promise(). info.amnesic
  // must be set for a replica that an amnesic disk holds or may have forgotten (also for an absent one).
  void OnFenceReply(ServerId server, const Status& status, const ReplicaInfo& info);
  void OnBeginReply(ServerId server, const Status& status, const ReplicaInfo& info);
  void OnSyncReply(ServerId server, const Status& status, const ReplicaInfo& info);
  void OnActivated();
  // The server can be reached again: what failed with it is asked again.
  void OnMemberBack(ServerId server);
  // Asks again whatever failed, of every member (a retry timer).
  void Retry();
  // An operator declared a member of the old configuration lost.
  void DeclareLost(ServerId server);

  Phase phase() const { return phase_; }
  ChunkId chunk() const { return input_.chunk; }
  const ReconfigureInput& input() const { return input_; }
  // Why it is not further, for people: which members are waited for, what they answered. Empty in a terminal
  // phase.
  std::string WaitReason() const;
  // The answers so far do not allow a base although enough members answered: the chunk is `damaged` until
  // members come back.
  bool damaged() const { return phase_ == Phase::kFencing && damaged_; }
  // An asked member has not answered yet.
  bool outstanding() const;
  // kActive and nothing more will come, or a terminal phase.
  bool finished() const;
  const Status& failure() const { return failure_; }
  Epoch highest_promise() const { return highest_promise_; }
  // Chosen from kInstalling on.
  Stamp base() const { return base_; }
  uint64_t length() const { return length_; }
  // The new members at (e', base.seq).
  std::vector<ServerId> Carriers() const;

 private:
  enum class Ask : uint8_t { kNone, kSent, kAnswered, kError };
  enum class Install : uint8_t { kNone, kBeginSent, kNeedsSync, kSyncSent, kDone, kError };
  struct Member {
    ServerId server;
    bool in_old = false;
    bool in_new = false;
    bool lost = false;
    Ask fence = Ask::kNone;
    Install install = Install::kNone;
    ReplicaInfo info;  // of the fence answer
    Status problem;    // last error
  };

  Member* Find(ServerId server);
  bool Votes(const Member& member) const;
  void SendFence(Member& member);
  void TryToChooseBase();
  const Member* Best() const;
  const Member* BestIntact() const;
  bool IntactAt(Stamp stamp) const;
  bool NothingAcknowledgedAbove(Stamp stamp) const;
  void ChooseBase(const Member& best);
  bool RecordAllows(Stamp base);
  void InstallAll();
  void SendBegin(Member& member);
  void SendWaitingSyncs();
  std::vector<ServerId> LeavingHolders() const;
  void OnInstalled(Member& member);
  void OnInstallError(Member& member, const Status& status, const ReplicaInfo& info);
  void TryToActivate();
  void Fail(Status status);
  Stamp Target() const { return {input_.epoch, base_.seq}; }
  uint32_t Required() const;

  ReconfigureInput input_;
  std::vector<Member> members_;
  std::vector<ReconfigureAction> actions_;
  Phase phase_ = Phase::kFencing;
  bool damaged_ = false;
  bool base_damaged_ = false;  // no intact member answered that it holds the base
  std::string damage_;
  Status failure_;
  Epoch highest_promise_;
  Stamp base_;
  uint64_t length_ = 0;
};

}  // namespace cairn::replication
