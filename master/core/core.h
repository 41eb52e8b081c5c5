// The master's one thread: owns the metadata transaction, leases, sessions, chunkservers and all operations
// under way.
//
//   round:  drain the inbox -> handle each message, step operations -> run timers
//           -> one commit of everything that was applied (group commit) -> send everything that was said
//           meanwhile
//
// Nothing leaves before the commit that it depends on, so an answer that was sent survives a crash of the
// process; what must survive power loss as well is held back until the sync thread published a durable index
// that covers it.
//
// Thread-safety: everything belongs to the core thread, except inbox(), PublishDurable and the accessors
// marked so.
#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "common/clock.h"
#include "common/ids.h"
#include "master/cluster/chunk_history.h"
#include "master/cluster/commander.h"
#include "master/cluster/server_registry.h"
#include "master/core/channels.h"
#include "master/core/event_queue.h"
#include "master/core/id_allocator.h"
#include "master/core/log_tail.h"
#include "master/core/operation.h"
#include "master/core/options.h"
#include "master/core/request_metrics.h"
#include "master/core/timers.h"
#include "master/leases/lease_table.h"
#include "master/leases/session_registry.h"
#include "master/state/state_machine.h"
#include "master/store/meta_store.h"
#include "master/store/meta_txn.h"

namespace cairn::master {

class DeleteProcedure;
class Erasure;
class FileLocks;
class EventLog;
class Rebalancer;
class RepairManager;
class ReplicaAudit;
class ServerKeeper;
class TrashKeeper;

enum class SessionEnd : uint8_t {
  kGoodbye,  // by its client
  kLost,     // not renewed, or a recall was not answered
};

// Procedures that must not run twice for one object.
struct RunningProcedures {
  std::unordered_map<ChunkId, OperationId> reconfigurations;
  std::unordered_map<InodeId, OperationId> recoveries;
  std::unordered_map<InodeId, OperationId> reclaims;
  std::map<ChunkId, std::shared_ptr<DeleteProcedure>> deletes;
};

class Core {
 public:
  // `store` must be initialized or empty, and outlive the core.
  Core(const CoreOptions& options, MetaStore* store, const Clock* clock);
  ~Core();
  Core(const Core&) = delete;
  Core& operator=(const Core&) = delete;

  // Loads what was recorded, reserves ids, starts the grace period. Call once, before anything else.
  Status Start();
  // One round; waits up to `max_wait_ns` for something to do. An error means that the process has to stop.
  Status RunOnce(int64_t max_wait_ns);
  // When the next round is due although nothing comes in, on the clock given.
  int64_t NextWakeup() const;
  // Any thread: the inbox, and what is on disk.
  EventQueue& inbox() { return inbox_; }
  void PublishDurable(uint64_t log_index);
  // `request` is called by the core thread after a commit for whose durability somebody waits: the log is to be
  // synced at once. Set before the first RunOnce; without it waiters wait for whoever syncs the log.
  void SetSyncRequest(std::function<void()> request) { request_sync_ = std::move(request); }
  uint64_t committed_index() const { return committed_index_.load(std::memory_order_acquire); }
  uint64_t durable_index() const { return durable_index_.load(std::memory_order_acquire); }
  MetaStore& store() { return *store_; }

  // --- For operations and the managers; core thread only. ---
  const CoreOptions& options() const { return options_; }
  int64_t now() const { return now_ns_; }
  int64_t wall() const { return wall_ns_; }
  RequestMetrics& request_metrics() { return request_metrics_; }
  MetaTxn& txn() { return txn_; }
  LeaseTable& leases() { return leases_; }
  InodeQueue& inodes() { return inodes_; }
  SessionRegistry& sessions() { return sessions_; }
  ServerRegistry& servers() { return servers_; }
  const ServerRegistry& servers() const { return servers_; }
  Commander& commander() { return commander_; }
  IdAllocator& ids() { return *ids_; }
  Timers& timers() { return timers_; }
  ChunkHistory& history() { return history_; }
  RunningProcedures& running() { return running_; }
  RepairManager& repair() { return *repair_; }
  Erasure& erasure() { return *erasure_; }
  ReplicaAudit& audit() { return *audit_; }
  FileLocks& file_locks() { return *file_locks_; }
  EventLog& events() { return *events_; }
  ServerKeeper& server_keeper() { return *server_keeper_; }
  Rebalancer& rebalancer() { return *rebalancer_; }
  const std::string& cluster_id() const { return cluster_id_; }
  uint64_t incarnation() const { return incarnation_; }
  uint64_t log_index() const { return log_index_; }
  proto::Time TimeNow() const;
  uint64_t NextSeed();

  // Applies a command to the state machine and acts on its effects (leases, recoveries, deletions, repair).
  // Fills in the time.
  ApplyResult Apply(proto::LogCommand& command);
  ApplyResult Preview(proto::LogCommand& command);
  // A command that was applied before and lost with the end of the log: as it was, with its time and ids.
  ApplyResult ApplyAgain(const proto::LogCommand& command);
  LogTail& tail() { return *tail_; }
  // Why mutations are refused at present (the master's disk is nearly full), or ok.
  Status MutationsAllowed() const;
  // Why the session gets no further write lease (it has as many as it may), or ok.
  Status RoomForWriteLease(SessionId session) const;

  // Operations.
  OperationId StartOperation(std::unique_ptr<Operation> operation);
  // Steps it later in this round. Ids of operations that ended are ignored.
  void Wake(OperationId operation) { runnable_.insert(operation); }
  void WakeInode(InodeId inode);
  void WakeGraceWaiters();
  void WaitForGrace(OperationId operation) { grace_waiters_.insert(operation); }
  template <typename T>
  T* FindOperation(OperationId operation) {
    auto it = operations_.find(operation);
    return it == operations_.end() ? nullptr : dynamic_cast<T*>(it->second.get());
  }
  bool OperationExists(OperationId operation) const { return operations_.contains(operation); }

  // Speaking to sessions. Sent after this round's commit.
  void Send(SessionId session, proto::MasterMessage message);
  void Answer(SessionId session, proto::Reply reply);
  void SendRecalls(const std::vector<RecallOrder>& orders);
  // Runs `call` once `log_index` is on disk, and asks for the log to be synced right after this round's commit.
  void WhenDurable(uint64_t log_index, std::function<void()> call);

  // Leases: true when others hold no more than `leave` on the inode; otherwise recalls are sent and
  // `operation` waits.
  bool OthersAtMost(InodeId inode, SessionId session, LeaseMode leave, bool deleting, OperationId operation);
  // A read lease if nothing stands against it (grace, writers, waiting operations); adds it to the reply.
  void OfferReadLease(InodeId inode, SessionId session, proto::Reply* reply);
  // The session gave a lease back (recall answered, released, lowered by a write-back).
  void LeaseReturned(InodeId inode, SessionId session, Epoch number, LeaseMode keep);

  void EndSession(Session& session, SessionEnd end, const std::string& reason);
  // It broke a rule, but may use what it was granted until the term of its last renewal is over: ends then.
  void StopRenewing(Session& session, const std::string& reason);
  // The reply that a person sees for an inode through the virtual attribute user.cairn.error.
  void RememberRefusal(InodeId inode, const Status& status);
  std::optional<std::string> RefusalOf(InodeId inode) const;

  // Requests of clients by kind (number of the field in Request), for people.
  void CountRequest(int kind) { ++request_counts_[kind]; }
  const std::unordered_map<int, uint64_t>& request_counts() const { return request_counts_; }

  // Runs on the core thread as soon as possible; for administration. Any thread.
  bool Post(std::function<void(Core&)> call) { return inbox_.Push(CallEvent{std::move(call)}); }

  void SendToServer(ServerId server, proto::MasterToChunkserver message);

 private:
  friend class SessionMessages;
  friend class ServerMessages;

  void Handle(Event& event);
  void RunOperations();
  void RunPeriodic();
  void EndExpiredSessions();
  Status CommitRound();
  void FlushOutbox();
  void ActOnEffects(const Effects& effects, const proto::LogCommand& command);
  void LoadState();
  Status ReserveIds(bool wait);
  void EnsureIds();
  void RunDurable();
  // Once nobody is missing any more: what clients brought back is applied, then their Hellos are answered.
  void RunTail();

  const CoreOptions options_;
  RequestMetrics request_metrics_;
  MetaStore* const store_;
  const Clock* const clock_;
  EventQueue inbox_;
  std::atomic<uint64_t> committed_index_{0};
  std::atomic<uint64_t> durable_index_{0};

  StateMachine machine_;
  MetaTxn txn_;
  std::string cluster_id_;
  uint64_t incarnation_ = 0;
  uint64_t log_index_ = 0;
  int64_t now_ns_ = 0;
  int64_t wall_ns_ = 0;
  uint64_t seed_ = 0;
  Status failed_;
  int64_t next_periodic_ns_ = 0;
  uint64_t free_bytes_ = UINT64_MAX;
  bool in_grace_ = false;

  LeaseTable leases_;
  InodeQueue inodes_;
  SessionRegistry sessions_;
  ServerRegistry servers_;
  Commander commander_;
  std::optional<IdAllocator> ids_;
  Timers timers_;
  ChunkHistory history_;
  RunningProcedures running_;
  std::unique_ptr<RepairManager> repair_;
  std::unique_ptr<Erasure> erasure_;
  std::unique_ptr<ReplicaAudit> audit_;
  std::unique_ptr<FileLocks> file_locks_;
  std::unique_ptr<LogTail> tail_;
  std::unique_ptr<EventLog> events_;
  std::unique_ptr<ServerKeeper> server_keeper_;
  std::unique_ptr<TrashKeeper> trash_keeper_;
  std::unique_ptr<Rebalancer> rebalancer_;

  OperationId next_operation_ = 1;
  std::unordered_map<OperationId, std::unique_ptr<Operation>> operations_;
  std::set<OperationId> runnable_;
  std::set<OperationId> grace_waiters_;
  std::multimap<uint64_t, std::function<void()>> when_durable_;
  bool sync_wanted_ = false;  // somebody waits for durability since the last request for a sync
  std::function<void()> request_sync_;

  std::vector<std::pair<std::shared_ptr<SessionChannel>, proto::MasterMessage>> session_outbox_;
  std::vector<std::pair<std::shared_ptr<ServerChannel>, proto::MasterToChunkserver>> server_outbox_;
  std::vector<std::function<void()>> after_commit_;
  std::map<SessionId, std::vector<RecallOrder>> recall_outbox_;

  std::unordered_map<int, uint64_t> request_counts_;
  std::unordered_map<InodeId, std::string> refusals_;
  std::deque<InodeId> refusal_order_;
};

}  // namespace cairn::master
