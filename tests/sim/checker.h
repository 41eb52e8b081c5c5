// Watches the whole simulated cluster with a god's eye and fails the run at the first step that breaks a
// promise of DESIGN section 4. It knows nothing of how the cores decide, only what applications were told and
// what disks hold.
//
// A chunk's content is the list of the tokens of its mutations, one per seq. Per chunk the checker keeps
//   committed: what applications may rely on: acknowledged to a writer, shown to a reader, or activated as a
//   base; fsynced:   the prefix of it that an fsync covered; excused:   members that held `committed` and
//   lost their memory (power, disk) since it was last known to be on W.
//
// 1. At each acknowledgement at least W members hold everything up to it; at each fsync at least W hold it on
// disk.
// 2. A read shows everything committed before it began and nothing that was never committed.
// 3. After every step: members that hold `committed` plus excused ones are at least W (so the loss of W - 1
// is survived),
//    and a new base contains `committed` unless W members are excused, and `fsynced` always.
// 5. A delete is committed with at least W tombstones; a refused one leaves no tombstone; what is deleted is
// never read.
// 6. A move takes a copy away only when all members of the new configuration hold the content.
// Also: equal stamps mean equal content, one writer per epoch and chunk, stamps of a replica
// never go back except by a loss of power or disk.
//
// Thread-safety: none.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "common/replication/replica.h"
#include "tests/sim/world.h"

namespace cairn::sim {

using Content = std::vector<uint64_t>;

// One replica as the simulated disk keeps it.
struct Replica {
  replication::ReplicaState state;
  Content content;
  Stamp durable;
  bool corrupt = false;
};

// What the checker can see of the disks: everything.
class DiskView {
 public:
  virtual ~DiskView() = default;
  // Null when the server holds nothing of the chunk. on_disk: what would survive a loss of power.
  virtual const Replica* Find(ServerId server, ChunkId chunk, bool on_disk) const = 0;
};

// Told of everything that happens on the disks.
class ReplicaObserver {
 public:
  virtual ~ReplicaObserver() = default;
  // before, after: null for none.
  virtual void OnReplicaChanged(ServerId server, ChunkId chunk, const Replica* before, const Replica* after) = 0;
  virtual void OnMutationApplied(ChunkId chunk, Epoch epoch, NodeId writer) = 0;
  // Before a server forgets: who held what.
  virtual void OnMemoryLoss(ServerId server) = 0;
};

class Checker final : public ReplicaObserver {
 public:
  Checker(World* world, const DiskView* disks) : world_(*world), disks_(*disks) {}

  void OnChunk(ChunkId chunk, const replication::Configuration& config);

  // Disk events.
  void OnReplicaChanged(ServerId server, ChunkId chunk, const Replica* before, const Replica* after) override;
  void OnMutationApplied(ChunkId chunk, Epoch epoch, NodeId writer) override;
  void OnMemoryLoss(ServerId server) override;
  // An operator declares it lost. What it holds may be given up from now on, also if it comes back before that is
  // activated: members may have begun the epoch without it, and their stamps are higher.
  void OnDeclaredLost(ServerId server);

  // What applications are told.
  void OnAcknowledged(ChunkId chunk, const replication::Configuration& config, uint64_t seq, uint64_t token);
  // The master recorded a writer's seal: readers will be shown this.
  void OnSealed(ChunkId chunk, const replication::Configuration& config, Stamp stamp);
  void OnFsynced(ChunkId chunk, const replication::Configuration& config, uint64_t seq);
  struct ReadMark {
    Content committed;
    uint64_t losses = 0;
    bool deleted = false;
  };
  ReadMark OnReadStart(ChunkId chunk) const;
  // own: the writer reads what it wrote itself, which may go beyond what is committed.
  void OnReadDone(ChunkId chunk, const ReadMark& start, const Content& content, bool own);

  // What the master's log says (durably).
  void OnActivated(ChunkId chunk, const replication::Configuration& config, Stamp stamp);
  // A move is about to remove copies: every copy that stays must be there.
  void OnMoved(ChunkId chunk, const replication::Configuration& config, Stamp stamp);
  // A lease is granted on what the record says is sealed.
  void OnGranted(ChunkId chunk, Stamp sealed);
  // The master lost power and with it what its log said last about the chunk: only fsynced data is promised
  // until the record is established again.
  void OnMasterForgot(ChunkId chunk);
  void OnDeleteCommitted(ChunkId chunk, const replication::Configuration& config, Epoch epoch);
  void OnDeleteDurable(ChunkId chunk);
  // Every member acknowledged the abort of the delete of `epoch`: no tombstone of it may be seen from now on.
  void OnDeleteAborted(ChunkId chunk, Epoch epoch);

  // After every step.
  void CheckAll();

  bool IsDeleted(ChunkId chunk) const;
  const Content& committed(ChunkId chunk) const { return chunks_.at(chunk).committed; }
  uint32_t ExcusedMembers(ChunkId chunk) const {
    return static_cast<uint32_t>(chunks_.at(chunk).excused.size());
  }

 private:
  // A mutation as it was first applied: the history that ends with it, and who ever held exactly that.
  struct Applied {
    Content content;
    std::set<ServerId> servers;
  };
  struct Chunk {
    replication::Configuration config;
    Content committed;
    Content fsynced;
    std::set<ServerId> excused;
    std::set<ServerId> given_up;  // of those, declared lost: coming back ends the excuse of the others only
    // What a server held when it lost its memory, each time, and has not got back since.
    std::map<ServerId, std::vector<Content>> forgotten;
    uint64_t losses = 0;
    bool deleted = false;
    bool record_forgotten = false;
    bool dirty = true;
    std::map<Stamp, Content> at;
    std::map<uint64_t, Applied> applied;  // by token
    std::map<Epoch, NodeId> writers;
    std::map<Epoch, std::set<ServerId>> tombstones;  // who ever recorded one, by epoch
    std::set<Epoch> aborted_deletes;
  };

  // Whether `server` held `content` when it lost its memory, and did not get it back.
  bool HasForgotten(ChunkId id, ServerId server, const Content& content) const;
  // Whether losing what `content` lacks is excused by a loss of power of the master; counts it.
  bool ExcusedByMaster(ChunkId chunk, const Content& content);
  void Fail(ChunkId chunk, const std::string& why);

  World& world_;
  const DiskView& disks_;
  std::map<ChunkId, Chunk> chunks_;
};

bool IsPrefix(const Content& prefix, const Content& content);

}  // namespace cairn::sim
