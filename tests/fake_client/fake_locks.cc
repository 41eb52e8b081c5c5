// The lock operations of FakeClient, over the table that the master uses.
#include <utility>

#include "tests/fake_client/fake_client.h"

namespace cairn::testing {

using client::LockKind;
using locks::LockOutcome;
using locks::LockSpace;
using locks::LockType;

void FakeCluster::Take(const std::vector<locks::LockDecision>& decisions, Decided* decided) {
  for (const locks::LockDecision& decision : decisions) {
    const auto wait = lock_waits_.find(decision.waiter.ticket);
    if (wait == lock_waits_.end()) continue;
    const bool granted = decision.outcome == LockOutcome::kGranted;
    decided->emplace_back(std::move(wait->second.done),
                          granted ? Status::Ok() : Status(StatusCode::kDeadlock, "deadlock"));
    lock_waits_.erase(wait);
  }
}

locks::Lock FakeClient::ToLock(const client::LockRequest& request) {
  if (!session_) session_ = SessionId(cluster_->next_session_++);
  const auto file = handles_.find(request.handle);
  return {.inode = file == handles_.end() ? InodeId{} : file->second.inode,
          .space = request.flock ? LockSpace::kFlock : LockSpace::kRecord,
          .owner = {session_, request.owner},
          .type = static_cast<LockType>(request.kind),
          .start = request.start,
          .end = request.end,
          .pid = request.pid,
          .open_description = request.open_description};
}

uint64_t FakeClient::BeginLock(const client::LockRequest& request, client::LockDone done) {
  const std::lock_guard lock(cluster_->mu_);
  const uint64_t ticket = cluster_->next_ticket_++;
  cluster_->lock_waits_[ticket] = {ToLock(request), request.wait, std::move(done)};
  return ticket;
}

void FakeClient::RunLock(uint64_t ticket) {
  FakeCluster::Decided decided;
  {
    const std::lock_guard lock(cluster_->mu_);
    const auto wait = cluster_->lock_waits_.find(ticket);
    std::vector<locks::LockDecision> decisions;
    LockOutcome outcome = LockOutcome::kConflict;
    if (!wait->second.cancelled) {
      outcome = wait->second.wait ? cluster_->locks_.SetOrWait(wait->second.lock, ticket, &decisions)
                                  : cluster_->locks_.Set(wait->second.lock, &decisions);
    }
    if (outcome != LockOutcome::kQueued) {
      Status status;
      if (wait->second.cancelled) {
        status = Status(StatusCode::kInterrupted, "interrupted");
      } else if (outcome == LockOutcome::kDeadlock) {
        status = Status(StatusCode::kDeadlock, "deadlock");
      } else if (outcome != LockOutcome::kGranted) {
        status = Status(StatusCode::kWouldBlock, "locked");
      }
      decided.emplace_back(std::move(wait->second.done), status);
      cluster_->lock_waits_.erase(wait);
    }
    cluster_->Take(decisions, &decided);
  }
  for (auto& [done, status] : decided) done(status);
}

bool FakeClient::CancelLock(uint64_t ticket, client::Cancelling) {
  client::LockDone done;
  {
    const std::lock_guard lock(cluster_->mu_);
    const auto wait = cluster_->lock_waits_.find(ticket);
    if (wait == cluster_->lock_waits_.end()) return false;
    wait->second.cancelled = true;
    if (!cluster_->locks_.Cancel({wait->second.lock.owner.session, ticket})) return true;
    done = std::move(wait->second.done);
    cluster_->lock_waits_.erase(wait);
  }
  done(Status(StatusCode::kInterrupted, "interrupted"));
  return false;
}

Result<std::optional<client::LockHolder>> FakeClient::TestLock(const Caller&,
                                                               const client::LockRequest& request) {
  const std::lock_guard lock(cluster_->mu_);
  const auto holder = cluster_->locks_.Conflict(ToLock(request));
  if (!holder) return std::optional<client::LockHolder>();
  return std::optional(client::LockHolder{.kind = static_cast<LockKind>(holder->type),
                                          .start = holder->start,
                                          .end = holder->end,
                                          .pid = holder->pid});
}

Status FakeClient::ReleaseRecordLocks(Handle handle, uint64_t owner) {
  RunLock(BeginLock({.handle = handle, .kind = LockKind::kUnlock, .owner = owner}, [](const Status&) {}));
  return Status::Ok();
}

void FakeClient::ReleaseHandleLocks(Handle handle, uint64_t flock_owner) {
  if (flock_owner == 0) return;
  RunLock(BeginLock({.handle = handle, .flock = true, .kind = LockKind::kUnlock, .owner = flock_owner},
                    [](const Status&) {}));
}

size_t FakeClient::WaitingLocks() const {
  const std::lock_guard lock(cluster_->mu_);
  return cluster_->lock_waits_.size();
}

void FakeClient::AbandonLocks() {
  std::vector<uint64_t> tickets;
  {
    const std::lock_guard lock(cluster_->mu_);
    for (const auto& [ticket, wait] : cluster_->lock_waits_) {
      if (wait.lock.owner.session == session_) tickets.push_back(ticket);
    }
  }
  for (const uint64_t ticket : tickets) CancelLock(ticket, client::Cancelling::kGiveUp);
}

}  // namespace cairn::testing
