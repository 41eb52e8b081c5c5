// A simulated chunkserver: replicas on a simulated disk, decided by the production rules of replica.h.
//
// A crash of the process forgets nothing but what was in its memory (a running sync). A loss of power puts
// each replica back to what was synced last, or leaves what happened to be written: the disk is then amnesic,
// and the server answers nobody until the master gave it an epoch floor. A loss of the disk forgets
// everything.
//
// Thread-safety: none.
#pragma once

#include <functional>
#include <map>
#include <optional>

#include "common/replication/rules.h"
#include "tests/sim/checker.h"
#include "tests/sim/world.h"

namespace cairn::sim {

class Server {
 public:
  // `peers` answers with the server of an id, for syncs.
  Server(World* world, ReplicaObserver* observer, ServerId id, replication::Rules rules,
         std::function<Server*(ServerId)> peers);

  ServerId id() const { return id_; }
  NodeId node() const { return static_cast<NodeId>(id_.value()); }

  // Lifecycle.
  void Boot();
  void CrashProcess();
  void LosePower();
  void LoseDisk();
  void CorruptOne();  // one block of one replica goes bad

  // Control plane. Every request answers with status and the replica's info.
  void Register(Epoch floor);  // the master knows; an amnesic disk starts to answer
  bool needs_floor() const { return needs_floor_; }
  // Whether the master must give a floor before this server answers anybody: true after a loss of power.
  bool answers() const { return !needs_floor_; }
  void Query(ChunkId chunk, const ReplyFn& reply) const;
  void Fence(ChunkId chunk, Epoch epoch, const ReplyFn& reply);
  void Begin(ChunkId chunk, Epoch epoch, Stamp base, const ReplyFn& reply);
  void Sync(ChunkId chunk, Epoch epoch, Stamp base, std::vector<ServerId> sources, const ReplyFn& reply);
  void PrepareDelete(ChunkId chunk, Epoch epoch, const ReplyFn& reply);
  void AbortDelete(ChunkId chunk, Epoch epoch, const ReplyFn& reply);
  void Erase(ChunkId chunk, Epoch epoch, const ReplyFn& reply);
  std::map<ChunkId, ReplicaInfo> Report() const;

  // Data plane.
  void Mutate(NodeId writer, const replication::Mutation& mutation, uint64_t token, const ReplyFn& reply);
  void Seal(ChunkId chunk, Stamp stamp, const ReplyFn& reply);
  void Read(ChunkId chunk, Stamp want, bool exact, const ReplyFn& reply) const;
  void Flush(ChunkId chunk, const ReplyFn& reply);

  const Replica* Find(ChunkId chunk, bool on_disk) const;

 private:
  replication::ReplicaState StateOf(ChunkId chunk) const;
  ReplicaInfo Info(ChunkId chunk) const;
  // Installs the verdict (state, and content when given) and answers.
  void Settle(ChunkId chunk, const replication::Verdict& verdict, std::optional<Content> content,
              const ReplyFn& reply);
  void SyncFromNext(ChunkId chunk, Stamp base, std::vector<ServerId> sources, size_t next,
                    const ReplyFn& reply);
  void FlushAll();
  void FlushNowAndThen();
  Answer Refused(StatusCode code, const std::string& why, ChunkId chunk) const;

  World& world_;
  ReplicaObserver& observer_;
  const ServerId id_;
  const replication::Rules rules_;
  const std::function<Server*(ServerId)> peers_;
  std::map<ChunkId, Replica> live_;
  std::map<ChunkId, Replica> disk_;
  Epoch floor_;
  bool needs_floor_ = false;
};

}  // namespace cairn::sim
