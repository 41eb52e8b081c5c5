// What applications were told, and whether it can be true: the promises of DESIGN sections 4 and 5 as programs see
// them, across all clients of the simulated service.
//
// A file is an ever longer list of tokens. `write` puts one at its end and returns at once (write-behind); from then on
// every read, by whichever client, must show it: that is what "as if there were only one machine" means. It may be
// missing only if its writer died or lost its lease before the token was on W replicas, or was told so by EIO, or if
// more was lost than is promised to survive. What is missing once never comes back; what was shown once never vanishes.
// A name is a register: it leads to the file made last under it, until that is removed.
//
// Also watched: equal stamps mean equal content, one writer per epoch and chunk, stamps go back only by a loss of
// memory; and nobody uses a lease while another client holds one against it.
//
// Thread-safety: none.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "tests/sim/checker.h"

namespace cairn::sim::service {

class History final : public ReplicaObserver {
 public:
  explicit History(World* world) : world_(*world) {}

  // --- Disks ---
  void OnReplicaChanged(ServerId server, ChunkId chunk, const Replica* before, const Replica* after) override;
  void OnMutationApplied(ChunkId chunk, Epoch epoch, NodeId writer) override;
  void OnMemoryLoss(ServerId server) override;

  // --- Files ---
  void OnWritten(InodeId inode, uint64_t token, NodeId client);
  // On W replicas; on W disks and in the master's log.
  void OnAcknowledged(InodeId inode, uint64_t token);
  void OnFsynced(InodeId inode, uint64_t token);
  // Its application heard an error for it.
  void OnToldLost(InodeId inode, uint64_t token);
  // The client died, lost its session or a lease: what it had not got to W replicas may be lost.
  void OnClientLost(NodeId client);
  void OnLeaseLost(InodeId inode, NodeId client);
  // The end of its log went with it.
  void OnMasterPowerLoss();

  struct ReadMark {
    InodeId inode;
    size_t written = 0;
    std::set<uint64_t> promised;  // acknowledged or shown before the read began
  };
  ReadMark OnReadStart(InodeId inode) const;
  // own: by the writer, who sees what is not acknowledged yet and may still be lost.
  void OnReadDone(const ReadMark& mark, const Content& content, const std::string& who, bool own = false);

  // --- Names ---
  // Answer a number for OnCreated/OnRemoved; without those the outcome stays open.
  size_t OnCreateStart(const std::string& name);
  void OnCreated(const std::string& name, size_t attempt, InodeId inode);
  void OnCreateFailed(const std::string& name, size_t attempt);
  void OnRemoveStart(const std::string& name);
  // It was refused or done: from now on it removes nothing any more.
  void OnRemoveEnd(const std::string& name) { --removes_open_[name]; }
  void OnRemoved(const std::string& name, InodeId inode);
  // A lookup that began at `start` found `inode`, or nothing.
  void OnLookedUp(const std::string& name, int64_t start, InodeId inode, const std::string& who);

  bool MayLose() const;
  // The master lost the end of its log a short while ago: it knows less than clients do.
  bool MasterForgot() const { return master_lost_at_ && world_.now() - *master_lost_at_ < 15'000; }

 private:
  struct Token {
    NodeId client = 0;
    size_t place = 0;
    bool acknowledged = false;
    bool fsynced = false;
    bool shown = false;
    bool excused = false;    // its writer was lost before it was acknowledged
    bool told_lost = false;  // an application heard EIO
    bool gone = false;
  };
  struct File {
    std::vector<uint64_t> order;
    std::map<uint64_t, Token> tokens;
  };
  struct Binding {
    InodeId inode;  // 0: not known (yet)
    int64_t create_start = 0;
    std::optional<int64_t> created;
    std::optional<int64_t> remove_start;
    std::optional<int64_t> removed;
    bool never = false;  // the create failed
  };
  struct Chunk {
    std::map<Stamp, Content> at;
    std::map<Epoch, NodeId> writers;
  };
  void Fail(const std::string& why) { world_.Fail(why); }
  void LookAtTail();

  World& world_;
  std::map<InodeId, File> files_;
  std::map<std::string, std::vector<Binding>> names_;
  std::map<std::string, int> removes_open_;
  std::map<ChunkId, Chunk> chunks_;
  int memory_losses_ = 0;
  std::optional<int64_t> master_lost_at_;
  std::optional<int64_t> client_lost_at_;
  bool tail_lost_ = false;
};

}  // namespace cairn::sim::service
