// The quorum writer of ONE chunk: which mutation goes to which member next, when a mutation is done, who is
// dropped.
//
// Pure core. The shell (client data path, later a chunkserver that orders a shared file) owns sockets, timers
// and the payload buffers, keyed by seq. One worked sequence, N = 3, W = 2:
//
//   ChunkWriter writer(chunk, {.config = config, .begin_needed = true});
//   seq = *writer.Submit(bytes)            // kResourceExhausted: wait until done_seq() advances
//   for (send : writer.TakeSends()) ...    // {cs1, seq, begin}, {cs2, seq, begin}, {cs3, seq, begin}; one
//   frame each writer.OnMutateReply(cs1, epoch, seq, reply.status, reply.info); writer.OnMutateReply(cs3,
//   epoch, seq, ...);          // done_seq() == seq: complete the application's write
//   writer.OnMutateReply(cs2, epoch, seq, ...);          // released_seq() == seq: drop the payload
//   writer.OnError(cs2, Status(kTimeout, ...));           // dropped for good; TakeDrops() -> report with
//   ChunkTrouble writer.below_quorum()                                 // ask ChunkTrouble(need_replacement)
//   -> new configuration writer.Reconfigure(place.config);                     // (e', base): everything
//   beyond base is sent again writer.StartSeal(); TakeSealSends(); OnSealReply(...); sealed() -> carriers()
//
// After every call the shell drains TakeSends() (and TakeSealSends()) and looks at done_seq(), released_seq()
// and below_quorum(). Sends to one member are in order of seq and must reach it in that order on one
// connection.
//
// Members. A member is dropped, and stays out until the next Reconfigure, when it answers anything but
// success, when the shell says so (OnError), or when what is done but not acknowledged by it exceeds the
// laggard bounds: a mutation never waits for a slow member. OnDisconnect/OnConnect bridge a broken
// connection: unacknowledged mutations are sent again, which is safe since a replica answers a duplicate with
// "applied".
//
// Fencing. kFenced from one member drops that member (its disk may have got an epoch floor).
// fenced_by_quorum() says that so many members answered kFenced or kDeleted that nothing more can become done
// under this epoch: either the lease is over or the master is changing the configuration; the master tells
// which (ChunkTrouble answers kLeaseLost or a new layout).
//
// Numbering. Mutations are numbered on from base.seq. After a Reconfigure mutations with seq <= base.seq are
// done, those beyond keep their numbers and are sent again under e'.
//
// Thread-safety: none; one owner calls everything.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "common/replication/quorum.h"
#include "common/replication/rules.h"
#include "common/replication/types.h"

namespace cairn::replication {

struct WriterOptions {
  Configuration config;
  // False when a quorum of the members is known to have begun the epoch at base already (after a
  // configuration change).
  bool begin_needed = true;
  // In flight to one member: sent and not answered. A single mutation above the bound still goes out alone.
  uint64_t window_bytes = 8u << 20;
  uint32_t window_count = 1024;
  // Not done yet: bounds Submit.
  uint64_t pending_bytes = 32u << 20;
  uint32_t pending_count = 8192;
  // Done, but not acknowledged by a live member: past either bound that member is dropped.
  uint64_t laggard_bytes = 16u << 20;
  uint32_t laggard_count = 8192;
  Rules rules;
};

class ChunkWriter {
 public:
  // One frame to send: mutation `seq`, carrying `begin` when set.
  struct Send {
    ServerId server;
    Epoch epoch;
    uint64_t seq = 0;
    std::optional<Stamp> begin;
    bool operator==(const Send&) const = default;
  };
  struct SealSend {
    ServerId server;
    Stamp stamp;
    bool operator==(const SealSend&) const = default;
  };

  // Precondition: ValidateConfiguration(options.config) is ok (checked).
  ChunkWriter(ChunkId chunk, WriterOptions options);

  ChunkId chunk() const { return chunk_; }
  const Configuration& config() const { return options_.config; }

  // Takes the next mutation, whose payload is `bytes` long, and answers its seq. kResourceExhausted when too
  // much is not done yet (try again when done_seq() advanced); kFailedPrecondition once a seal was started.
  Result<uint64_t> Submit(uint64_t bytes);

  // The frames that may go out now. Each is answered by exactly one OnMutateReply, OnError or OnDisconnect.
  std::vector<Send> TakeSends();

  // `epoch`: of the request; answers to requests of an earlier configuration are ignored. `info` is what the
  // replica reported (its accepted stamp must cover seq when `status` is ok).
  void OnMutateReply(ServerId server, Epoch epoch, uint64_t seq, const Status& status,
                     const ReplicaInfo& info);
  // The member failed for good (timeout, disk, refused connection, kNoSpace): it is dropped.
  void OnError(ServerId server, const Status& status);
  // The connection broke: what is in flight counts as unsent, and nothing is sent until OnConnect. The member
  // counts as live; the shell bounds the time with OnError.
  void OnDisconnect(ServerId server);
  void OnConnect(ServerId server);

  // Everything up to done_seq() is on W members. Never goes back.
  uint64_t done_seq() const { return done_seq_; }
  // Payloads up to released_seq() are needed no more: done, and acknowledged by every live member.
  uint64_t released_seq() const { return released_seq_; }
  // The last seq given out; base.seq when nothing was submitted.
  uint64_t last_seq() const { return last_seq_; }
  bool idle() const { return done_seq_ == last_seq_; }
  Stamp done_stamp() const { return {options_.config.epoch, done_seq_}; }
  // What `server` has acknowledged in this epoch; nothing when it has not, or is no member. A dropped
  // member's answers up to its drop count: it applied them.
  std::optional<uint64_t> acked_seq(ServerId server) const;
  // A member that may serve a reader who wants at least `seq` of this epoch.
  bool Carries(ServerId server, uint64_t seq) const;

  bool is_live(ServerId server) const;
  uint32_t live_members() const;
  // Fewer than W live members are left: what is not done now cannot become done without a new configuration.
  bool below_quorum() const { return live_members() < options_.config.write_quorum; }
  bool fenced_by_quorum() const;
  // Members dropped since the configuration began, with reasons; TakeDrops gives each of them once.
  std::vector<MemberProblem> dropped() const;
  std::vector<MemberProblem> TakeDrops();
  // kNoQuorum naming who did not confirm and why: `what` failed below W.
  Status QuorumError(std::string_view what) const;

  // The master activated `config` (same chunk, higher epoch, base chosen by recovery). Errors, after which
  // this writer is of no use: kIoError when `base` is below what was already released (acknowledged mutations
  // are lost: power failed on W members before they were durable); kFailedPrecondition when `base` is beyond
  // anything submitted here (another writer) or the epoch is not higher.
  Status Reconfigure(Configuration config);

  // Durable stamps that members reported (flush replies, mutate replies) count by W.
  void OnDurable(ServerId server, const ReplicaInfo& info);
  // Everything up to this seq is on the disks of W members.
  uint64_t durable_seq() const { return durable_seq_; }

  // No mutation was ever sent under this epoch and no begin is known: no replica has it open, there is
  // nothing to seal.
  bool never_begun() const { return !begun_; }
  // No mutation is taken any more. kFailedPrecondition when never_begun(). Idempotent. A member gets its seal
  // right behind the last mutation that it is sent (TakeSends first): it confirms the seal only if it has
  // applied everything, so W confirmations also say that everything is done. A seal that came too early is
  // refused without harm and sent again once the member acknowledged everything. A member that has sealed
  // refuses mutations that are sent again because its answers were lost; the seal is then asked for again.
  // Reconfigure takes an unfinished seal back.
  Status StartSeal();
  bool sealing() const { return sealing_; }
  std::vector<SealSend> TakeSealSends();
  void OnSealReply(ServerId server, Stamp stamp, const Status& status);
  // W members confirmed the seal.
  bool sealed() const { return sealing_ && carriers_.size() >= options_.config.write_quorum; }
  // Every live member answered; no further carrier will come.
  bool seal_settled() const { return sealing_ && seal_missing().empty(); }
  // Live members that have not answered the seal.
  std::vector<ServerId> seal_missing() const;
  Stamp seal_stamp() const { return {options_.config.epoch, last_seq_}; }
  // kNoQuorum naming who did not confirm the seal and why.
  Status SealError() const;
  // Who confirmed the seal, in order of confirmation.
  const std::vector<ServerId>& carriers() const { return carriers_; }

 private:
  // kEarly: sent behind mutations that are not acknowledged yet. kTooEarly: that was refused. kAsk: to be sent whatever was
  // acknowledged.
  enum class SealState : uint8_t { kNone, kEarly, kTooEarly, kAsk, kSent, kConfirmed };
  struct Member {
    ServerId server;
    bool live = true;
    bool connected = true;
    bool drop_taken = false;
    SealState seal = SealState::kNone;
    bool seal_asked = false;  // a seal was sent in this epoch
    Status problem;
    std::optional<uint64_t> acked;    // in this epoch
    std::optional<uint64_t> durable;  // in this epoch
    uint64_t next_seq = 0;            // the next to send
  };

  Member* Find(ServerId server);
  const Member* Find(ServerId server) const;
  void StartEpoch();
  void Drop(Member& member, Status problem);
  void OnAnswerOfDropped(Member& member, const Status& status);
  void Advance();
  void DropLaggards();
  bool FitsWindow(const Member& member) const;
  // Payload bytes of all mutations up to and including `seq`. Precondition: released_seq_ <= seq <=
  // last_seq_.
  uint64_t BytesThrough(uint64_t seq) const;
  uint64_t AckedOrBase(const Member& member) const;

  const ChunkId chunk_;
  WriterOptions options_;
  std::vector<Member> members_;
  std::deque<uint64_t> ends_;    // BytesThrough of (released_seq_, last_seq_]
  uint64_t released_bytes_ = 0;  // BytesThrough(released_seq_)
  uint64_t last_seq_ = 0;
  uint64_t done_seq_ = 0;
  uint64_t released_seq_ = 0;
  uint64_t durable_seq_ = 0;
  bool begun_ = false;
  bool sealing_ = false;
  std::vector<ServerId> carriers_;
};

}  // namespace cairn::replication
