// A simulated master: leases, epochs, configuration changes, deletes and repair around the production cores
// Reconfiguration and QuorumDelete. Its records are a log: a crash of the process keeps all of it, a loss of
// power only what was synced. Everything else (leases of readers, changes under way, who is up) is memory.
//
// It follows DESIGN section 5: write leases are persisted, after a restart a grace period of a lease term
// passes before anything is granted, and before the first grant of a chunk R of its members must have been
// heard, since the record may be older than the replicas.
//
// Thread-safety: none.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "common/replication/deletion.h"
#include "common/replication/recovery.h"
#include "tests/sim/checker.h"
#include "tests/sim/server.h"
#include "tests/sim/world.h"

namespace cairn::sim {

inline constexpr int64_t kLeaseMs = 2000;

enum class Wish : uint8_t { kRead, kWrite, kDelete };

// What the master grants; for kDelete only the outcome.
struct Grant {
  ChunkId chunk;
  uint64_t nonce = 0;
  Wish wish = Wish::kRead;
  Status status;
  replication::Configuration config;
  Stamp sealed;
  std::vector<ServerId> carriers;
};

struct Release {
  ChunkId chunk;
  uint64_t nonce = 0;
  bool held = false;    // false: this client knows nothing (any more) of such a lease
  bool sealed = false;  // a writer's chunk, sealed at `stamp` by `carriers`; false: never begun
  Stamp stamp;
  std::vector<ServerId> carriers;
};

// Messages to clients; the simulation connects them.
class ClientPort {
 public:
  virtual ~ClientPort() = default;
  virtual void OnGrant(NodeId client, const Grant& grant) = 0;
  virtual void OnRecall(NodeId client, ChunkId chunk, uint64_t nonce) = 0;
  virtual void OnReconfigured(NodeId client, ChunkId chunk, uint64_t nonce,
                              const replication::Configuration& config) = 0;
  virtual void OnLeaseLost(NodeId client, ChunkId chunk, uint64_t nonce) = 0;
  virtual void OnSessionLost(NodeId client, uint64_t session) = 0;
};

class Master {
 public:
  Master(World* world, Checker* checker, ClientPort* clients, std::vector<Server*> servers,
         replication::Rules rules);

  void AddChunk(ChunkId chunk, uint32_t replicas, uint32_t write_quorum);
  void Boot();
  void CrashProcess();
  void LosePower();
  void DeclareLost(ServerId server);
  // Background moves and policy changes; off during convergence.
  void set_restless(bool restless) { restless_ = restless; }

  // From clients.
  void OnRenew(NodeId client, uint64_t session, const ReplyFn& reply);
  void OnWish(NodeId client, uint64_t session, ChunkId chunk, uint64_t nonce, Wish wish);
  void OnRelease(NodeId client, const Release& release, const ReplyFn& reply);
  // The chunk was sealed while its lease stays, and is to be opened again in a fresh epoch on that seal.
  void OnReopen(NodeId client, const Release& release);
  void OnTrouble(NodeId client, ChunkId chunk, uint64_t nonce, Epoch epoch,
                 const std::set<ServerId>& dropped);
  void OnDurable(NodeId client, ChunkId chunk, uint64_t nonce, Stamp stamp, const ReplyFn& reply);
  // From servers.
  void OnHeartbeat(ServerId server);
  void OnRegister(ServerId server, bool needs_floor, const ReplyFn& reply);
  void OnReport(ServerId server, const std::map<ChunkId, ReplicaInfo>& report);

  // Convergence: why the chunk is not healthy yet; empty when it is deleted everywhere or on N members,
  // sealed and free.
  std::string Unhealthy(ChunkId chunk) const;
  std::vector<ChunkId> chunks() const;
  Stamp sealed(ChunkId chunk) const { return records_.at(chunk).sealed; }
  bool deleted(ChunkId chunk) const { return records_.at(chunk).deleted; }
  const replication::Configuration& config(ChunkId chunk) const { return records_.at(chunk).config; }

 private:
  struct Record {
    replication::Configuration config;
    Stamp sealed;
    Stamp durable;
    std::vector<ServerId> carriers;
    bool open = false;  // a write lease was granted and neither released nor recovered
    NodeId owner = 0;
    uint64_t owner_session = 0;
    uint64_t owner_nonce = 0;
    bool deleted = false;
    Epoch delete_epoch;
  };
  struct Party {
    NodeId client = 0;
    uint64_t session = 0;
    uint64_t nonce = 0;
    Wish wish = Wish::kRead;
    int64_t granted_at = 0;
    int64_t recalled_at = 0;  // 0: not recalled
  };
  struct Work {  // volatile, per chunk
    std::deque<Party> waiting;
    std::vector<Party> holders;
    std::unique_ptr<replication::Reconfiguration> change;
    std::unique_ptr<replication::QuorumDelete> deletion;
    Party deletion_for;
    int64_t deletion_deadline = 0;
    std::vector<std::shared_ptr<replication::QuorumDelete>> aborts;
    uint64_t serial = 0;  // distinguishes changes and deletes from their predecessors
    bool activating = false;
    int64_t retry_at = 0;
    std::set<ServerId> heard;  // members that answered since this master started
    bool newer_than_record = false;
    std::set<ServerId> syncing;
  };
  struct Session {
    uint64_t number = 0;
    int64_t heard_at = 0;
    bool lost = false;
    bool evicted = false;  // not renewed any more: it ends when its term is over
  };

  Epoch NewEpoch();
  void Sync();
  void LogAndThen(std::function<void()> then);
  bool IsUp(ServerId server) const;
  Server& ServerOf(ServerId id) { return *servers_[id.value() - 1]; }
  void CallServer(ServerId server, const std::string& what,
                  std::function<void(Server&, const ReplyFn&)> serve, ReplyFn on_reply);

  void Tick();
  void Drive(ChunkId chunk);
  void DropExpiredHolders(ChunkId chunk);
  bool SessionAlive(const Party& party) const;
  bool AskMembers(ChunkId chunk);
  void GrantTo(ChunkId chunk, const Party& party);
  void SendGrant(ChunkId chunk, const Party& party);
  void Recall(ChunkId chunk);
  void Tell(const Party& party, ChunkId chunk, Status status);

  // master_changes.cc
  void StartChange(ChunkId chunk, replication::ReconfigurePurpose purpose, std::vector<ServerId> members,
                   uint32_t write_quorum);
  void RunChange(ChunkId chunk);
  void SendChangeAction(ChunkId chunk, const replication::ReconfigureAction& action);
  void OnActivate(ChunkId chunk, const replication::Activate& activate);
  void FinishChange(ChunkId chunk);
  void StartDelete(ChunkId chunk, const Party& party);
  void RunDelete(ChunkId chunk, std::shared_ptr<replication::QuorumDelete> abort);
  void EndDelete(ChunkId chunk);
  void RetryWork(ChunkId chunk);
  void Repair(ChunkId chunk);
  void MoveSomething();
  std::vector<ServerId> ChooseMembers(const std::vector<ServerId>& keep, const std::set<ServerId>& avoid,
                                      size_t count);
  void MergeReplica(ServerId server, ChunkId chunk, const ReplicaInfo& info);
  void NoteCarrier(Record& record, ServerId server, bool carries);

  World& world_;
  Checker& checker_;
  ClientPort& clients_;
  const std::vector<Server*> servers_;
  const replication::Rules rules_;
  bool restless_ = true;

  std::map<ChunkId, Record> records_;
  std::map<ChunkId, Record> synced_;
  std::set<ServerId> lost_;
  uint64_t reserved_ = 1;  // epochs below may have been given out; durable ahead of use

  uint64_t next_epoch_ = 1;
  std::map<ChunkId, Work> work_;
  std::map<NodeId, Session> sessions_;
  std::map<ServerId, int64_t> server_heard_at_;
  std::set<ServerId> reported_;  // since this master started
  int64_t grace_until_ = 0;
};

}  // namespace cairn::sim
