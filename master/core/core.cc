#include "master/core/core.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "common/log.h"
#include "master/cluster/erasure.h"
#include "master/cluster/event_log.h"
#include "master/cluster/rebalancer.h"
#include "master/cluster/repair_manager.h"
#include "master/cluster/replica_audit.h"
#include "master/core/file_locks.h"
#include "master/cluster/server_keeper.h"
#include "master/cluster/trash_keeper.h"
#include "master/core/messages.h"
#include "master/state/chunk_queries.h"

namespace cairn::master {
namespace {

constexpr size_t kMaxEventsPerRound = 4096;
constexpr int64_t kPeriodNanos = 200 * kNanosPerMilli;
constexpr int64_t kFullDiskRetryNanos = 200 * kNanosPerMilli;
constexpr size_t kMaxRefusals = 4096;
// What a command reads it reads again when it is applied, and much of it (the directory, the session) the next command too.
constexpr size_t kReadCacheBytes = 8u << 20;

LeaseTable::Options LeaseOptionsOf(const CoreOptions& options) {
  // A holder below its quorum learns that only after the write timeout, and then still has to answer: it must not lose its
  // session for that. One that is gone is found sooner, because it does not renew.
  return {.max_read_leases_per_session = options.max_read_leases_per_session,
          .recall_timeout_ns = (options.session_lease_ms + options.write_timeout_ms) * kNanosPerMilli};
}

SessionRegistry::Options SessionOptionsOf(const CoreOptions& options) {
  // Clocks may differ by 1 %, and a wake-up may be late: 3 % of the lease covers both.
  const int64_t lease_ns = options.session_lease_ms * kNanosPerMilli;
  const bool margin = options.rules.Hold(ServiceRule::kLeaseMargin);
  return {.lease_ns = lease_ns, .rules = options.rules, .drift_ns = margin ? lease_ns * 3 / 100 : 0};
}

}  // namespace

Core::Core(const CoreOptions& options, MetaStore* store, const Clock* clock)
    : options_(options),
      request_metrics_(options.metrics, clock),
      store_(store),
      clock_(clock),
      txn_(store->Latest(), kReadCacheBytes),
      leases_(LeaseOptionsOf(options)),
      sessions_(SessionOptionsOf(options)),
      servers_({.silence_ns = options.server_silence_ms * kNanosPerMilli}),
      commander_({}, [this](ServerId server, proto::MasterToChunkserver message) {
        SendToServer(server, std::move(message));
      }) {
  repair_ = std::make_unique<RepairManager>(*this);
  erasure_ = std::make_unique<Erasure>(*this);
  audit_ = std::make_unique<ReplicaAudit>(*this);
  file_locks_ = std::make_unique<FileLocks>(*this);
  tail_ = std::make_unique<LogTail>(*this);
  events_ = std::make_unique<EventLog>(*this);
  server_keeper_ = std::make_unique<ServerKeeper>(*this);
  trash_keeper_ = std::make_unique<TrashKeeper>(*this);
  rebalancer_ = std::make_unique<Rebalancer>(*this);
}

Core::~Core() = default;

Status Core::Start() {
  now_ns_ = clock_->NowNanos();
  wall_ns_ = clock_->WallNanos();
  incarnation_ = static_cast<uint64_t>(wall_ns_);
  seed_ = incarnation_;
  cluster_id_ = store_->cluster().ToString();
  if (!IsInitialized(txn_)) Initialize(TimeNow(), &txn_);
  log_index_ = AppliedIndex(txn_);
  CAIRN_ASSIGN_OR_RETURN(incarnation_, tail_->Start(incarnation_, log_index_));
  ids_.emplace(ReservedIds(txn_), IdAllocator::Blocks{});
  free_bytes_ = store_->free_bytes();
  CAIRN_RETURN_IF_ERROR(ReserveIds(true));
  LoadState();
  events_->Add(Severity::kInfo, "master.started",
               "the master started (version " + options_.version + ", " +
                   std::to_string(servers_.all().size()) + " servers and " +
                   std::to_string(sessions_.all().size()) + " sessions on record)");
  return CommitRound();
}

proto::Time Core::TimeNow() const {
  proto::Time time;
  time.set_seconds(wall_ns_ / kNanosPerSecond);
  time.set_nanos(static_cast<uint32_t>(wall_ns_ % kNanosPerSecond));
  return time;
}

uint64_t Core::NextSeed() {
  seed_ = seed_ * 6364136223846793005ull + 1442695040888963407ull;
  return seed_;
}

Status Core::ReserveIds(bool wait) {
  proto::LogCommand command;
  *command.mutable_reserve_ids() = ids_->Reserve();
  Apply(command);
  if (!wait) {
    when_durable_.emplace(log_index_, [this] { ids_->Reserved(); });  // long ahead of use: no hurry
    return Status::Ok();
  }
  CAIRN_RETURN_IF_ERROR(CommitRound());
  if (options_.rules.Hold(ServiceRule::kIdsReservedDurably)) {
    CAIRN_RETURN_IF_ERROR(store_->SyncLog());
    PublishDurable(committed_index());
  }
  ids_->Reserved();
  return Status::Ok();
}

void Core::EnsureIds() {
  if (ids_->Exhausted()) {
    // Asked for long before this point; the disk is slower than the cluster grows, so wait for it.
    Status status = CommitRound();
    if (status.ok()) status = store_->SyncLog();
    if (!status.ok()) {
      failed_ = status;
      return;
    }
    PublishDurable(committed_index());
    RunDurable();
    if (ids_->Exhausted()) failed_ = ReserveIds(true);
    return;
  }
  if (ids_->WantsReservation()) {
    const Status status = ReserveIds(false);
    if (!status.ok()) failed_ = status;
  }
}

void Core::PublishDurable(uint64_t log_index) {
  uint64_t before = durable_index_.load(std::memory_order_relaxed);
  while (before < log_index && !durable_index_.compare_exchange_weak(before, log_index)) {
  }
}

int64_t Core::NextWakeup() const {
  return std::min({next_periodic_ns_, timers_.NextTime(), commander_.NextDeadline()});
}

Status Core::RunOnce(int64_t max_wait_ns) {
  const int64_t until = NextWakeup();
  const int64_t wait = std::clamp<int64_t>(until - clock_->NowNanos(), 0, max_wait_ns);
  std::deque<Event> events = inbox_.Drain(kMaxEventsPerRound, std::chrono::nanoseconds(wait));
  now_ns_ = clock_->NowNanos();
  wall_ns_ = clock_->WallNanos();
  for (Event& event : events) {
    EnsureIds();
    if (!failed_.ok()) return failed_;
    Handle(event);
    RunOperations();
  }
  RunDurable();
  commander_.Expire(now_ns_);
  timers_.Run(now_ns_);
  if (now_ns_ >= next_periodic_ns_) {
    next_periodic_ns_ = now_ns_ + kPeriodNanos;
    RunPeriodic();
  }
  RunOperations();
  if (!failed_.ok()) return failed_;
  return CommitRound();
}

void Core::Handle(Event& event) {
  if (auto* message = std::get_if<SessionMessageEvent>(&event)) {
    SessionMessages::Handle(*this, message->channel, *message->message);
    after_commit_.push_back([channel = message->channel] { channel->Consumed(); });
  } else if (auto* closed = std::get_if<SessionClosedEvent>(&event)) {
    if (Session* session = sessions_.FindByChannel(closed->channel.get())) sessions_.Detach(*session);
    tail_->Closed(closed->channel.get());
  } else if (auto* server_message = std::get_if<ServerMessageEvent>(&event)) {
    ServerMessages::Handle(*this, server_message->channel, *server_message->message);
    after_commit_.push_back([channel = server_message->channel] { channel->Consumed(); });
  } else if (auto* server_closed = std::get_if<ServerClosedEvent>(&event)) {
    ServerMessages::Closed(*this, server_closed->channel, "its stream broke");
  } else if (auto* call = std::get_if<CallEvent>(&event)) {
    call->call(*this);
  }
}

OperationId Core::StartOperation(std::unique_ptr<Operation> operation) {
  const OperationId id = next_operation_++;
  operation->id = id;
  operations_.emplace(id, std::move(operation));
  runnable_.insert(id);
  return id;
}

void Core::RunTail() {
  if (!tail_->HasHeld()) return;
  if (sessions_.InGrace(now_ns_) && options_.rules.Hold(ServiceRule::kTailWaitsForAll)) return;
  // Who did not come back ends first: the end of the log may have given to others what those hold on record.
  EndExpiredSessions();
  std::vector<LogTail::Held> ready = tail_->Run();
  Status status = CommitRound();
  if (status.ok()) status = store_->SyncLog();
  if (!status.ok()) {
    failed_ = status;
    return;
  }
  PublishDurable(committed_index());
  for (LogTail::Held& held : ready) SessionMessages::Resume(*this, held);
}

void Core::RunOperations() {
  RunTail();
  while (!runnable_.empty() && failed_.ok()) {
    const OperationId id = *runnable_.begin();
    runnable_.erase(runnable_.begin());
    auto it = operations_.find(id);
    if (it == operations_.end()) continue;
    const std::vector<InodeId> waited = inodes_.StopWaiting(id);
    grace_waiters_.erase(id);
    Operation* operation = it->second.get();  // stays valid: the map's nodes do not move
    if (operation->Step(*this) == Progress::kFinished) {
      inodes_.StopWaiting(id);
      grace_waiters_.erase(id);
      operations_.erase(id);
    }
    for (InodeId inode : waited) {
      if (!inodes_.IsWaiting(inode, id)) WakeInode(inode);
    }
  }
}

void Core::WakeInode(InodeId inode) {
  for (OperationId waiter : inodes_.Waiters(inode)) Wake(waiter);
}

void Core::WakeGraceWaiters() {
  for (OperationId waiter : grace_waiters_) Wake(waiter);
}

void Core::EndExpiredSessions() {
  for (SessionId expired : sessions_.Expired(now_ns_)) {
    if (Session* session = sessions_.Find(expired)) {
      const std::string reason = session->doomed.empty() ? "it was not renewed in time" : session->doomed;
      EndSession(*session, SessionEnd::kLost, reason);
    }
  }
}

void Core::RunPeriodic() {
  for (ServerId silent : servers_.Silent(now_ns_)) {
    ServerMessages::Down(*this, *servers_.Find(silent),
                         "no heartbeat for " + FormatSeconds(options_.server_silence_ms * kNanosPerMilli));
  }
  for (SessionId overdue : leases_.OverdueSessions(now_ns_)) {
    if (Session* session = sessions_.Find(overdue)) StopRenewing(*session, "it did not answer a recall in time");
  }
  EndExpiredSessions();
  const bool in_grace = sessions_.InGrace(now_ns_);
  if (in_grace_ && !in_grace) CAIRN_LOG(Info, "the grace period is over");
  in_grace_ = in_grace;
  if (!in_grace) {
    if (!tail_->HasHeld()) tail_->Complete();
    WakeGraceWaiters();
  }
  free_bytes_ = store_->free_bytes();
  file_locks_->Tick();
  audit_->Tick();
  erasure_->Tick();
  repair_->Tick();
  server_keeper_->Tick();
  trash_keeper_->Tick();
  rebalancer_->Tick();
  events_->Tick();
}

Status Core::MutationsAllowed() const {
  if (free_bytes_ >= options_.min_free_bytes) return Status::Ok();
  return Status(StatusCode::kNoSpace,
                "the master's disk has " + std::to_string(free_bytes_ >> 20) + " MiB left, changes need " +
                    std::to_string(options_.min_free_bytes >> 20) + " MiB; make room in its data directory");
}

Status Core::RoomForWriteLease(SessionId session) const {
  if (leases_.WriteLeaseCount(session) < options_.max_write_leases_per_session) return Status::Ok();
  return Status(StatusCode::kResourceExhausted,
                "the session writes " + std::to_string(options_.max_write_leases_per_session) +
                    " files at a time, its limit (--max-write-leases of the master): close some");
}

void Core::WhenDurable(uint64_t log_index, std::function<void()> call) {
  when_durable_.emplace(log_index, std::move(call));
  sync_wanted_ = true;
}

void Core::RunDurable() {
  const uint64_t durable = durable_index();
  while (!when_durable_.empty() && when_durable_.begin()->first <= durable) {
    auto call = std::move(when_durable_.begin()->second);
    when_durable_.erase(when_durable_.begin());
    call();
  }
}

Status Core::CommitRound() {
  commander_.Flush();
  if (!txn_.empty()) {
    CAIRN_RETURN_IF_ERROR(txn_.status());
    SetAppliedIndex(log_index_, &txn_);
    Status status = store_->Commit(&txn_);
    if (!status.ok()) {
      // The transaction is as it was and everything that depends on it is still held back, so with a full
      // disk the round can be committed as soon as there is space; nothing else can be done meanwhile.
      CAIRN_LOG(Error, "commit of the metadata failed: {}", status.ToString());
      if (status.code() == StatusCode::kNoSpace) {
        timers_.At(now_ns_ + kFullDiskRetryNanos, [] {});
        return Status::Ok();
      }
      return status;
    }
    committed_index_.store(log_index_, std::memory_order_release);
    if (options_.metadata_sync_always) {
      CAIRN_RETURN_IF_ERROR(store_->SyncLog());
      PublishDurable(log_index_);
    }
  }
  // Every waiter's index is committed by now, so one sync that starts after this covers them all.
  if (std::exchange(sync_wanted_, false) && request_sync_ && committed_index() > durable_index()) request_sync_();
  FlushOutbox();
  return Status::Ok();
}

void Core::FlushOutbox() {
  for (auto& [session, orders] : recall_outbox_) {
    Session* holder = sessions_.Find(session);
    if (holder == nullptr || holder->channel == nullptr) continue;  // sent again when it is back
    proto::MasterMessage message;
    for (const RecallOrder& order : orders) {
      const HeldLease* lease = leases_.Find(order.inode, session);
      if (lease == nullptr || lease->number != order.number) continue;
      proto::RecallItem* item = message.mutable_recall()->add_items();
      item->set_inode(order.inode.value());
      item->set_number(order.number.value());
      item->set_keep(static_cast<proto::LeaseMode>(order.keep));
      item->set_deleting(order.deleting);
    }
    if (message.has_recall()) session_outbox_.emplace_back(holder->channel, std::move(message));
  }
  recall_outbox_.clear();
  tail_->Attach(&session_outbox_);
  const uint64_t durable = durable_index();
  for (auto& [channel, message] : session_outbox_) {
    message.set_durable_index(durable);
    channel->Send(std::move(message));
  }
  session_outbox_.clear();
  for (auto& [channel, message] : server_outbox_) channel->Send(std::move(message));
  server_outbox_.clear();
  auto calls = std::move(after_commit_);
  after_commit_.clear();
  for (auto& call : calls) call();
}

void Core::Send(SessionId id, proto::MasterMessage message) {
  Session* session = sessions_.Find(id);
  if (session == nullptr || session->channel == nullptr) return;
  session_outbox_.emplace_back(session->channel, std::move(message));
}

void Core::Answer(SessionId id, proto::Reply reply) {
  Session* session = sessions_.Find(id);
  if (session == nullptr) return;
  session->in_flight.erase(reply.number());
  proto::MasterMessage message;
  *message.mutable_reply() = std::move(reply);
  Send(id, std::move(message));
}

void Core::SendToServer(ServerId id, proto::MasterToChunkserver message) {
  ServerInfo* server = servers_.Find(id);
  if (server == nullptr || server->channel == nullptr) return;
  server_outbox_.emplace_back(server->channel, std::move(message));
}

void Core::SendRecalls(const std::vector<RecallOrder>& orders) {
  for (const RecallOrder& order : orders) recall_outbox_[order.session].push_back(order);
}

void Core::RememberRefusal(InodeId inode, const Status& status) {
  if (!refusals_.contains(inode)) refusal_order_.push_back(inode);
  refusals_[inode] = status.ToString();
  while (refusal_order_.size() > kMaxRefusals) {
    refusals_.erase(refusal_order_.front());
    refusal_order_.pop_front();
  }
}

std::optional<std::string> Core::RefusalOf(InodeId inode) const {
  auto it = refusals_.find(inode);
  if (it == refusals_.end()) return std::nullopt;
  return it->second;
}

}  // namespace cairn::master
