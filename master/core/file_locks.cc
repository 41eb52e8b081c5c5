#include "master/core/file_locks.h"

#include <algorithm>

#include "common/log.h"
#include "master/core/core.h"
#include "master/state/queries.h"

namespace cairn::master {
namespace {

using locks::Lock;
using locks::LockDecision;
using locks::LockOutcome;
using locks::LockSpace;
using locks::LockType;

constexpr size_t kMaxContended = 10'000;
constexpr size_t kMaxDelegations = 10'000;  // of one session
constexpr int kAloneForDelegation = 16;

proto::MasterMessage Decided(uint64_t ticket, const Status& status) {
  proto::MasterMessage message;
  proto::LockDecided* decided = message.mutable_notice()->mutable_lock_decided();
  decided->set_ticket(ticket);
  *decided->mutable_status() = ToProto(status);
  return message;
}

}  // namespace

Lock FromProto(const proto::FileLock& lock, SessionId session) {
  return {.inode = InodeId(lock.inode()),
          .space = static_cast<LockSpace>(lock.space()),
          .owner = {session, lock.owner()},
          .type = static_cast<LockType>(lock.type()),
          .start = lock.start(),
          .end = lock.end(),
          .pid = lock.pid(),
          .open_description = lock.open_description()};
}

proto::FileLock ToProto(const Lock& lock) {
  proto::FileLock out;
  out.set_inode(lock.inode.value());
  out.set_space(static_cast<proto::LockSpace>(lock.space));
  out.set_type(static_cast<proto::LockType>(lock.type));
  out.set_owner(lock.owner.owner);
  out.set_start(lock.start);
  out.set_end(lock.end);
  out.set_pid(lock.pid);
  out.set_open_description(lock.open_description);
  return out;
}

Status CheckLock(const proto::FileLock& lock) {
  if (!proto::LockSpace_IsValid(lock.space()) || !proto::LockType_IsValid(lock.type())) {
    return {StatusCode::kNotSupported, "this master does not know that kind of lock"};
  }
  if (lock.start() > lock.end() || lock.end() > locks::kMaxOffset) {
    return {StatusCode::kInvalidArgument, "a lock needs a range within 0 .. 2^63 - 1"};
  }
  return Status::Ok();
}

void FileLocks::Contend(InodeId inode, SessionId session) {
  const auto [it, fresh] = contended_.try_emplace(inode);
  it->second = {session, 0};
  if (!fresh) return;
  contended_order_.push_back(inode);
  if (contended_order_.size() > kMaxContended) {
    contended_.erase(contended_order_.front());
    contended_order_.pop_front();
  }
}

void FileLocks::NoteUse(InodeId inode, SessionId session) {
  const auto it = contended_.find(inode);
  if (it == contended_.end()) return;
  if (it->second.last == session) {
    ++it->second.alone;
  } else {
    it->second = {session, 0};
  }
}

void FileLocks::SendRecall(InodeId inode, SessionId session) {
  proto::MasterMessage message;
  message.mutable_notice()->set_return_locks(inode.value());
  core_.Send(session, std::move(message));
}

bool FileLocks::Settled(InodeId inode, SessionId session, OperationId operation) {
  const auto it = delegations_.find(inode);
  if (it == delegations_.end() || it->second.session == session) return true;
  Delegation& delegation = it->second;
  if (session) Contend(inode, session);
  delegation.waiting.insert(operation);
  if (!delegation.recalled) {
    delegation.recalled = true;
    // As for leases: one that is alive answers at once.
    delegation.deadline_ns =
        core_.now() + (core_.options().session_lease_ms + core_.options().write_timeout_ms) * kNanosPerMilli;
    SendRecall(inode, delegation.session);
  }
  return false;
}

void FileLocks::EndDelegation(InodeId inode) {
  const auto it = delegations_.find(inode);
  if (it == delegations_.end()) return;
  const auto of = delegated_to_.find(it->second.session);
  of->second.erase(inode);
  if (of->second.empty()) delegated_to_.erase(of);
  for (const OperationId operation : it->second.waiting) core_.Wake(operation);
  delegations_.erase(it);
}

void FileLocks::Tell(const std::vector<LockDecision>& decided) {
  for (const LockDecision& decision : decided) {
    const Status status =
        decision.outcome == LockOutcome::kGranted
            ? Status::Ok()
            : Status(StatusCode::kDeadlock,
                     "waiting for this lock would never end: its holders wait for the caller");
    core_.Send(decision.waiter.session, Decided(decision.waiter.ticket, status));
  }
}

LockOutcome FileLocks::Set(const Lock& request, bool wait, uint64_t ticket) {
  std::vector<LockDecision> decided;
  const LockOutcome outcome =
      wait ? table_.SetOrWait(request, ticket, &decided) : table_.Set(request, &decided);
  Tell(decided);
  if (outcome == LockOutcome::kConflict || outcome == LockOutcome::kQueued) {
    Contend(request.inode, request.owner.session);
  } else {
    NoteUse(request.inode, request.owner.session);
  }
  return outcome;
}

bool FileLocks::Cancel(SessionId session, uint64_t ticket) { return table_.Cancel({session, ticket}); }

bool FileLocks::Delegate(InodeId inode, SessionId session) {
  const auto it = delegations_.find(inode);
  if (it != delegations_.end()) return it->second.session == session && !it->second.recalled;
  const auto contended = contended_.find(inode);
  if (contended != contended_.end() && contended->second.alone < kAloneForDelegation) return false;
  const auto of = delegated_to_.find(session);
  if (of != delegated_to_.end() && of->second.size() >= kMaxDelegations) return false;
  for (const Lock& held : table_.HeldOn(inode)) {
    if (held.owner.session != session) return false;
  }
  if (!table_.WaitersOn(inode).empty()) return false;
  delegations_[inode] = {.session = session};
  delegated_to_[session].insert(inode);
  return true;
}

void FileLocks::Return(SessionId session, const proto::ReturnLocksOp& op) {
  const InodeId inode(op.inode());
  const auto it = delegations_.find(inode);
  if (it == delegations_.end() || it->second.session != session) return;  // repeated, or over meanwhile
  if (!op.unused()) {
    for (const Lock& held : table_.HeldOn(inode)) {
      Lock gone = held;
      gone.type = LockType::kUnlock;
      table_.Assign(gone);
    }
    for (const proto::FileLock& lock : op.locks()) {
      Lock held = FromProto(lock, session);
      held.inode = inode;
      if (CheckLock(lock).ok() && held.type != LockType::kUnlock) table_.Assign(held);
    }
  }
  EndDelegation(inode);
}

void FileLocks::Claim(SessionId session, const proto::Hello& hello, bool after_restart,
                      proto::HelloReply* reply) {
  std::set<uint64_t> delegated;
  for (const uint64_t number : hello.delegated_locks()) {
    const InodeId inode(number);
    const auto it = delegations_.find(inode);
    bool kept = it != delegations_.end() && it->second.session == session;
    if (!kept && after_restart && it == delegations_.end() && InodeExists(core_.txn(), inode)) {
      kept = table_.HeldOn(inode).empty() && table_.WaitersOn(inode).empty();
      if (kept) {
        delegations_[inode] = {.session = session};
        delegated_to_[session].insert(inode);
      }
    }
    if (kept) {
      delegated.insert(number);
    } else {
      reply->add_lost_delegations(number);
    }
  }
  for (const proto::FileLock& claim : hello.locks()) {
    const Lock lock = FromProto(claim, session);
    if (!CheckLock(claim).ok() || lock.type == LockType::kUnlock) continue;
    if (delegated.contains(claim.inode())) {
      if (after_restart) table_.Assign(lock);
      continue;
    }
    bool kept = false;
    if (after_restart) {
      std::vector<LockDecision> decided;
      kept = InodeExists(core_.txn(), lock.inode) && table_.Set(lock, &decided) == LockOutcome::kGranted;
      Tell(decided);
    } else {
      kept = table_.Covers(lock);
    }
    if (!kept) *reply->add_lost_locks() = claim;
  }
}

void FileLocks::Resumed(SessionId session) {
  const auto of = delegated_to_.find(session);
  if (of == delegated_to_.end()) return;
  for (InodeId inode : of->second) {
    if (delegations_.at(inode).recalled) SendRecall(inode, session);
  }
}

void FileLocks::SessionEnded(SessionId session) {
  std::vector<LockDecision> decided;
  table_.DropSession(session, &decided);
  Tell(decided);
  const auto of = delegated_to_.find(session);
  if (of == delegated_to_.end()) return;
  const std::set<InodeId> inodes = of->second;
  for (InodeId inode : inodes) EndDelegation(inode);
}

void FileLocks::InodeGone(InodeId inode) {
  for (const locks::WaiterKey& waiter : table_.DropInode(inode)) {
    core_.Send(waiter.session, Decided(waiter.ticket, {StatusCode::kStaleHandle, "the file is gone"}));
  }
  EndDelegation(inode);
  contended_.erase(inode);
}

void FileLocks::Tick() {
  std::set<SessionId> overdue;
  for (const auto& [inode, delegation] : delegations_) {
    if (delegation.recalled && core_.now() >= delegation.deadline_ns) overdue.insert(delegation.session);
  }
  for (SessionId session : overdue) {
    if (Session* found = core_.sessions().Find(session)) {
      core_.StopRenewing(*found, "it did not give back the locks of a file in time");
    } else {
      SessionEnded(session);
    }
  }
}

std::vector<InodeId> FileLocks::Delegated() const {
  std::vector<InodeId> inodes;
  for (const auto& [inode, delegation] : delegations_) inodes.push_back(inode);
  return inodes;
}

SessionId FileLocks::DecidedBy(InodeId inode) const {
  const auto it = delegations_.find(inode);
  return it == delegations_.end() ? SessionId{} : it->second.session;
}

}  // namespace cairn::master
