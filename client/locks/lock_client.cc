#include "client/locks/lock_client.h"

#include <algorithm>
#include <condition_variable>
#include <utility>

#include "client/interrupt.h"
#include "client/session/convert.h"
#include "common/log.h"

namespace cairn::client {
namespace {

using locks::Lock;
using locks::LockOutcome;
using locks::LockSpace;
using locks::LockType;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr SessionId kSelf{1};  // the table holds this session's locks only
constexpr size_t kMaxDelegated = 4'096;
constexpr auto kPoll = milliseconds(50);

Lock ToLock(InodeId inode, const LockRequest& request) {
  return {.inode = inode,
          .space = request.flock ? LockSpace::kFlock : LockSpace::kRecord,
          .owner = {kSelf, request.owner},
          .type = request.kind == LockKind::kExclusive ? LockType::kExclusive
                  : request.kind == LockKind::kShared  ? LockType::kShared
                                                       : LockType::kUnlock,
          .start = request.start,
          .end = request.end,
          .pid = request.pid,
          .open_description = request.open_description};
}

void Fill(const Lock& lock, proto::FileLock* out) {
  out->set_inode(lock.inode.value());
  out->set_space(static_cast<proto::LockSpace>(lock.space));
  out->set_type(static_cast<proto::LockType>(lock.type));
  out->set_owner(lock.owner.owner);
  out->set_start(lock.start);
  out->set_end(lock.end);
  out->set_pid(lock.pid);
  out->set_open_description(lock.open_description);
}

Lock FromProto(const proto::FileLock& lock) {
  return {.inode = InodeId(lock.inode()),
          .space = static_cast<LockSpace>(lock.space()),
          .owner = {kSelf, lock.owner()},
          .type = static_cast<LockType>(lock.type()),
          .start = lock.start(),
          .end = lock.end(),
          .pid = lock.pid(),
          .open_description = lock.open_description()};
}

Status LostHandle() {
  return {StatusCode::kIoError,
          "a lock held through this descriptor was lost (the session with the master ended, or an "
          "administrator broke the lock); "
          "close it and open the file again"};
}

Status WouldBlock() {
  return {StatusCode::kWouldBlock, "the range is locked by another process of this mount"};
}

}  // namespace

void LockClient::Finish(Finished finished) {
  for (auto& [done, status] : finished) done(status);
}

void LockClient::Finish(Ops::iterator op, const Status& status, Finished* finished) {
  if (op->second.done) finished->emplace_back(std::move(op->second.done), status);
  const InodeId inode = op->second.lock.inode;
  ops_.erase(op);
  DropIfIdle(inode);
}

void LockClient::DropIfIdle(InodeId inode) {
  const auto it = files_.find(inode);
  if (it != files_.end() && it->second.asking == 0 && it->second.handles_of.empty()) files_.erase(it);
}

uint64_t LockClient::Begin(InodeId inode, const LockRequest& request, LockDone done) {
  std::lock_guard lock(mu_);
  const uint64_t ticket = next_ticket_++;
  ops_.emplace(ticket, Op{.lock = ToLock(inode, request),
                          .wait = request.wait,
                          .handle = request.handle,
                          .done = std::move(done)});
  return ticket;
}

void LockClient::Run(uint64_t ticket) {
  Finished finished;
  {
    std::lock_guard lock(mu_);
    const auto op = ops_.find(ticket);
    if (op == ops_.end()) return;
    const Lock& asked = op->second.lock;
    const auto handle = static_cast<uint64_t>(op->second.handle);
    if (stopped_) {
      Finish(op, stop_status_, &finished);
    } else if (op->second.cancel) {
      Finish(op, {StatusCode::kInterrupted, "interrupted"}, &finished);
    } else if (asked.type != LockType::kUnlock && lost_handles_.contains(handle)) {
      Finish(op, LostHandle(), &finished);
    } else {
      if (asked.type != LockType::kUnlock && handle != 0) {
        // Flock belongs to the handle alone, but is remembered as well: a lost one costs the handle.
        files_[asked.inode].handles_of[asked.owner.owner].insert(handle);
      }
      if (!DecideHere(op, &finished)) Ask(op, false);
    }
  }
  Finish(std::move(finished));
}

bool LockClient::DecideHere(Ops::iterator op, Finished* finished) {
  const Lock asked = op->second.lock;
  const auto delegated = delegated_.find(asked.inode);
  if (delegated == delegated_.end()) {
    if (asked.type != LockType::kUnlock || MayHold(asked.inode, asked.space, asked.owner.owner)) return false;
    Finish(op, Status::Ok(), finished);  // there is nothing to give back
    return true;
  }
  delegated->second = ++uses_;
  std::vector<locks::LockDecision> nobody;  // no waits are kept here
  const LockOutcome outcome = table_.Set(asked, &nobody);
  if (outcome == LockOutcome::kConflict && op->second.wait) {
    GiveBack(asked.inode, false);
    return false;
  }
  decided_here_.fetch_add(1, std::memory_order_relaxed);
  if (outcome == LockOutcome::kGranted) {
    Finish(op, Status::Ok(), finished);
  } else if (outcome == LockOutcome::kConflict) {
    if (!HoldBack(op)) Finish(op, WouldBlock(), finished);
  } else {
    Finish(op, {StatusCode::kNoLocks, "this mount holds too many locks"}, finished);
  }
  return true;
}

bool LockClient::HoldBack(Ops::iterator op) {
  if (op->second.refused_before || closing_.empty()) return false;
  const auto holder = table_.Conflict(op->second.lock);
  const auto file = files_.find(op->second.lock.inode);
  if (!holder || file == files_.end()) return false;
  const auto handles = file->second.handles_of.find(holder->owner.owner);
  if (handles == file->second.handles_of.end()) return false;
  const SteadyTime since = steady_clock::now() - milliseconds(hold_back_ms_);
  const bool ending = std::any_of(handles->second.begin(), handles->second.end(), [&](uint64_t handle) {
    const auto closing = closing_.find(handle);
    return closing != closing_.end() && closing->second >= since;
  });
  if (!ending) return false;
  op->second.state = State::kHeldBack;
  op->second.refused_before = true;
  ++held_back_;
  run_later_(hold_back_ms_, [this, ticket = op->first] {
    Finished finished;
    {
      std::lock_guard lock(mu_);
      const auto again = ops_.find(ticket);
      if (again != ops_.end() && again->second.state == State::kHeldBack) TryAgain(again, false, &finished);
    }
    Finish(std::move(finished));
  });
  return true;
}

void LockClient::TryAgain(Ops::iterator op, bool reader, Finished* finished) {
  --held_back_;
  op->second.state = State::kNew;
  if (stopped_ || !op->second.done) {
    Finish(op, stop_status_, finished);
  } else if (!DecideHere(op, finished)) {
    Ask(op, reader);
  }
}

bool LockClient::MayHold(InodeId inode, LockSpace space, uint64_t owner) const {
  if (table_.Holds(inode, space, {kSelf, owner})) return true;
  const auto file = files_.find(inode);
  return file != files_.end() && file->second.asking > 0;
}

void LockClient::Ask(Ops::iterator op, bool reader) {
  proto::Request request;
  proto::LockOp* out = request.mutable_lock();
  Fill(op->second.lock, out->mutable_lock());
  out->set_wait(op->second.wait);
  out->set_ticket(op->first);
  op->second.state = State::kAsking;
  op->second.since = steady_clock::now();
  ++files_[op->second.lock.inode].asking;
  session_->Post(std::move(request), reader);
}

void LockClient::SendCancel(uint64_t ticket, Op& op, bool reader) {
  if (std::exchange(op.cancel_sent, true)) return;
  proto::Request request;
  request.mutable_cancel_lock()->set_ticket(ticket);
  session_->Post(std::move(request), reader);
}

bool LockClient::Cancel(uint64_t ticket, Cancelling how) {
  Finished finished;
  {
    std::lock_guard lock(mu_);
    const auto it = ops_.find(ticket);
    if (it == ops_.end() || (!it->second.done && it->second.state != State::kNew)) return false;
    Op& op = it->second;
    op.cancel |= op.wait || how == Cancelling::kGiveUp;
    // Also from a thread that must not block: the keeper sends it.
    if (op.state == State::kWaiting) SendCancel(ticket, op, true);
    if (how == Cancelling::kGiveUp && op.state != State::kNew) {
      finished.emplace_back(std::exchange(op.done, nullptr), Status(StatusCode::kInterrupted, "interrupted"));
    }
  }
  const bool pending = finished.empty();
  Finish(std::move(finished));
  return pending;
}

void LockClient::Granted(Ops::iterator op, Finished* finished) {
  const Lock lock = op->second.lock;
  if (op->second.done || lock.type == LockType::kUnlock) {
    table_.Assign(lock);
    Finish(op, Status::Ok(), finished);
    return;
  }
  // Nobody waits for it any more. What the owner had there before cannot be told apart from it: then the lock
  // stays until the owner closes the file. (A flock conversion had given up the old one.)
  const bool had_some = lock.space == LockSpace::kRecord && table_.HoldsOverlapping(lock);
  table_.Assign(lock);
  Finish(op, Status::Ok(), finished);
  if (had_some) return;
  const uint64_t ticket = next_ticket_++;
  Lock unlock = lock;
  unlock.type = LockType::kUnlock;
  Ask(ops_.emplace(ticket, Op{.lock = unlock}).first, true);
}

void LockClient::OnReply(const proto::Request& request, const proto::Reply& reply) {
  Finished finished;
  {
    std::lock_guard lock(mu_);
    const Status status = FromProto(reply.status());
    if (request.has_cancel_lock()) {
      const auto op = ops_.find(request.cancel_lock().ticket());
      if (status.ok() && op != ops_.end() && op->second.state == State::kWaiting) {
        Finish(op, {StatusCode::kInterrupted, "interrupted"}, &finished);
      }
    } else if (request.has_lock()) {
      const auto op = ops_.find(request.lock().ticket());
      if (op != ops_.end() && op->second.state == State::kAsking) {
        const InodeId inode = op->second.lock.inode;
        --files_[inode].asking;
        if (!status.ok()) {
          if (status.code() == StatusCode::kWouldBlock && op->second.lock.space == LockSpace::kFlock) {
            Lock gone = op->second.lock;  // the conversion gave it up
            gone.type = LockType::kUnlock;
            table_.Assign(gone);
          }
          const bool refused = status.code() == StatusCode::kWouldBlock && op->second.done;
          if (!refused || !HoldBack(op)) Finish(op, status, &finished);
        } else if (reply.lock().queued()) {
          op->second.state = State::kWaiting;
          op->second.cancel_sent = false;
          if (op->second.lock.space == LockSpace::kFlock) {
            Lock gone = op->second.lock;
            gone.type = LockType::kUnlock;
            table_.Assign(gone);
          }
          if (op->second.cancel) SendCancel(op->first, op->second, true);
        } else {
          Granted(op, &finished);
          if (reply.lock().delegated()) TakeDelegation(inode);
        }
      }
    }
  }
  Finish(std::move(finished));
}

void LockClient::TakeDelegation(InodeId inode) {
  const auto file = files_.find(inode);
  bool busy = file != files_.end() && file->second.asking > 0;
  for (auto it = ops_.begin(); !busy && it != ops_.end(); ++it) {
    busy = it->second.lock.inode == inode && it->second.state == State::kWaiting;
  }
  if (busy) {
    // What the master answers to those requests would come after decisions that were made here.
    proto::Request request;
    request.mutable_return_locks()->set_inode(inode.value());
    request.mutable_return_locks()->set_unused(true);
    session_->Post(std::move(request), true);
    return;
  }
  delegated_[inode] = ++uses_;
  if (delegated_.size() <= kMaxDelegated) return;
  std::vector<std::pair<uint64_t, InodeId>> oldest;
  for (const auto& [other, used] : delegated_) oldest.emplace_back(used, other);
  const auto middle = oldest.begin() + static_cast<ptrdiff_t>(oldest.size() / 8);
  std::nth_element(oldest.begin(), middle, oldest.end());
  for (auto it = oldest.begin(); it != middle; ++it) GiveBack(it->second, true);
}

void LockClient::GiveBack(InodeId inode, bool reader) {
  if (delegated_.erase(inode) == 0) return;
  proto::Request request;
  proto::ReturnLocksOp* op = request.mutable_return_locks();
  op->set_inode(inode.value());
  for (const Lock& held : table_.HeldOn(inode)) Fill(held, op->add_locks());
  session_->Post(std::move(request), reader);
}

void LockClient::OnReturn(InodeId inode) {
  std::lock_guard lock(mu_);
  GiveBack(inode, true);
}

void LockClient::OnDecided(const proto::LockDecided& decided) {
  Finished finished;
  {
    std::lock_guard lock(mu_);
    const auto op = ops_.find(decided.ticket());
    if (op == ops_.end() || op->second.state != State::kWaiting) return;
    const Status status = FromProto(decided.status());
    if (status.ok()) {
      Granted(op, &finished);
    } else {
      Finish(op, status, &finished);
    }
  }
  Finish(std::move(finished));
}

Result<std::optional<LockHolder>> LockClient::Test(InodeId inode, const LockRequest& request) {
  const Lock asked = ToLock(inode, request);
  const auto found = [](const Lock& holder) {
    return LockHolder{.kind = holder.type == LockType::kExclusive ? LockKind::kExclusive : LockKind::kShared,
                      .start = holder.start,
                      .end = holder.end,
                      .pid = holder.pid};
  };
  {
    std::lock_guard lock(mu_);
    if (delegated_.contains(inode)) {
      decided_here_.fetch_add(1, std::memory_order_relaxed);
      const auto holder = table_.Conflict(asked);
      return holder ? std::optional(found(*holder)) : std::nullopt;
    }
  }
  proto::Request message;
  Fill(asked, message.mutable_test_lock()->mutable_lock());
  CAIRN_ASSIGN_OR_RETURN(const proto::Reply reply, session_->Call(std::move(message)));
  if (!reply.lock().has_holder()) return std::optional<LockHolder>();
  return std::optional(found(FromProto(reply.lock().holder())));
}

Status LockClient::Closed(InodeId inode, Handle handle, uint64_t owner) {
  struct Waiting {
    std::mutex mu;
    std::condition_variable changed;
    bool done = false;
    Status status;
  };
  auto waiting = std::make_shared<Waiting>();
  {
    std::lock_guard lock(mu_);
    const auto file = files_.find(inode);
    if (file == files_.end()) return Status::Ok();
    const bool had = file->second.handles_of.erase(owner) != 0;
    for (const auto& [other, handles] : file->second.handles_of) {
      if (handles.contains(static_cast<uint64_t>(handle)))
        closing_[static_cast<uint64_t>(handle)] = steady_clock::now();
    }
    if (!had) return Status::Ok();
    if (!MayHold(inode, LockSpace::kRecord, owner)) {
      DropIfIdle(inode);
      return Status::Ok();
    }
  }
  const LockRequest all{.kind = LockKind::kUnlock, .owner = owner};
  const uint64_t ticket = Begin(inode, all, [waiting](const Status& status) {
    std::lock_guard lock(waiting->mu);
    waiting->done = true;
    waiting->status = status;
    waiting->changed.notify_all();
  });
  Run(ticket);
  std::unique_lock lock(waiting->mu);
  while (!waiting->done) {
    waiting->changed.wait_for(lock, kPoll);
    if (waiting->done || !ThreadInterrupted()) continue;
    lock.unlock();
    Cancel(ticket, Cancelling::kGiveUp);  // it is given back all the same, when the master can be told
    lock.lock();
  }
  return waiting->status;
}

void LockClient::Released(InodeId inode, Handle handle, uint64_t flock_owner) {
  const auto number = static_cast<uint64_t>(handle);
  std::vector<std::pair<LockSpace, uint64_t>> gone;
  {
    std::lock_guard lock(mu_);
    lost_handles_.erase(number);
    closing_.erase(number);
    const auto file = files_.find(inode);
    if (file != files_.end()) {
      auto& handles_of = file->second.handles_of;
      for (auto it = handles_of.begin(); it != handles_of.end();) {
        const auto entry = it++;
        if (entry->second.erase(number) == 0) continue;
        for (const LockSpace space : {LockSpace::kRecord, LockSpace::kFlock}) {
          if (MayHold(inode, space, entry->first)) gone.emplace_back(space, entry->first);
        }
        if (entry->second.empty()) handles_of.erase(entry);
      }
      DropIfIdle(inode);
    }
    if (flock_owner != 0 && MayHold(inode, LockSpace::kFlock, flock_owner)) {
      gone.emplace_back(LockSpace::kFlock, flock_owner);
    }
  }
  std::sort(gone.begin(), gone.end());
  gone.erase(std::unique(gone.begin(), gone.end()), gone.end());
  for (const auto& [space, owner] : gone) {
    const LockRequest all{.flock = space == LockSpace::kFlock, .kind = LockKind::kUnlock, .owner = owner};
    Run(Begin(inode, all, [](const Status&) {}));
  }
  if (gone.empty()) return;
  // Those who were refused because of it are first in line.
  Finished finished;
  {
    std::lock_guard lock(mu_);
    std::vector<uint64_t> again;
    for (const auto& [ticket, op] : ops_) {
      if (held_back_ == 0) break;
      if (op.state == State::kHeldBack && op.lock.inode == inode) again.push_back(ticket);
    }
    std::sort(again.begin(), again.end());
    for (const uint64_t ticket : again) TryAgain(ops_.find(ticket), false, &finished);
  }
  Finish(std::move(finished));
}

void LockClient::Expire() {
  Finished finished;
  {
    std::lock_guard lock(mu_);
    const SteadyTime before = steady_clock::now() - milliseconds(request_timeout_ms_);
    for (auto& [ticket, op] : ops_) {
      if (op.state != State::kAsking || !op.done || op.since > before) continue;
      op.cancel = true;
      finished.emplace_back(std::exchange(op.done, nullptr),
                            Status(StatusCode::kTimeout, "the master did not answer a lock request within " +
                                                             std::to_string(request_timeout_ms_) + " ms"));
    }
  }
  Finish(std::move(finished));
}

void LockClient::Shutdown(const Status& status) {
  Finished finished;
  {
    std::lock_guard lock(mu_);
    stopped_ = true;
    stop_status_ = status;
    for (auto& [ticket, op] : ops_) {
      if (op.done && op.state != State::kNew) finished.emplace_back(std::exchange(op.done, nullptr), status);
    }
  }
  Finish(std::move(finished));
}

void LockClient::Count(uint64_t* held, uint64_t* waiting) const {
  std::lock_guard lock(mu_);
  *held = table_.held();
  *waiting = static_cast<uint64_t>(std::count_if(
      ops_.begin(), ops_.end(), [](const auto& op) { return op.second.state == State::kWaiting; }));
}

void LockClient::Claims(proto::Hello* hello) const {
  std::lock_guard lock(mu_);
  for (const Lock& held : table_.Held()) Fill(held, hello->add_locks());
  for (const auto& [inode, used] : delegated_) hello->add_delegated_locks(inode.value());
}

void LockClient::Lose(const Lock& lock, std::set<uint64_t>* handles) {
  Lock gone = lock;
  gone.type = LockType::kUnlock;
  table_.Assign(gone);
  const auto file = files_.find(lock.inode);
  if (file == files_.end()) return;
  const auto owner = file->second.handles_of.find(lock.owner.owner);
  if (owner == file->second.handles_of.end()) return;
  handles->insert(owner->second.begin(), owner->second.end());
}

void LockClient::LoseHandles(const std::set<uint64_t>& handles) {
  lost_handles_.insert(handles.begin(), handles.end());
  for (const uint64_t handle : handles) lose_handle_(static_cast<Handle>(handle));
}

void LockClient::OnLost(const proto::FileLockList& lost) {
  std::lock_guard lock(mu_);
  std::set<uint64_t> handles;
  for (const proto::FileLock& one : lost.locks()) {
    CAIRN_LOG(Warning, "a lock on inode {} (process {}) was broken by an administrator", one.inode(),
              one.pid());
    Lose(FromProto(one), &handles);
  }
  LoseHandles(handles);
}

void LockClient::OnResumed(const proto::HelloReply& reply) {
  std::lock_guard lock(mu_);
  for (const uint64_t inode : reply.lost_delegations()) delegated_.erase(InodeId(inode));
  std::set<uint64_t> handles;
  for (const proto::FileLock& one : reply.lost_locks()) {
    CAIRN_LOG(Warning, "a lock on inode {} (process {}) was lost while the master was away", one.inode(),
              one.pid());
    Lose(FromProto(one), &handles);
  }
  LoseHandles(handles);
  // What the master decided while it could not tell, or forgot, is asked for again.
  for (auto it = ops_.begin(); it != ops_.end(); ++it) {
    if (it->second.state == State::kWaiting) Ask(it, true);
  }
}

void LockClient::OnSessionLost() {
  Finished finished;
  {
    std::lock_guard lock(mu_);
    std::set<uint64_t> handles;
    const std::vector<Lock> held = table_.Held();
    for (const Lock& lock_held : held) Lose(lock_held, &handles);
    LoseHandles(handles);
    delegated_.clear();
    if (!held.empty()) {
      CAIRN_LOG(Warning,
                "{} locks were lost with the session; {} descriptors answer EIO until they are closed",
                held.size(), handles.size());
    }
    for (auto it = ops_.begin(); it != ops_.end();) {
      const auto op = it++;
      if (op->second.state != State::kWaiting) continue;  // those that ask are sent again by the session
      if (lost_handles_.contains(static_cast<uint64_t>(op->second.handle))) {
        Finish(op, LostHandle(), &finished);
      } else if (!op->second.done) {
        Finish(op, Status::Ok(), &finished);
      } else {
        Ask(op, true);
      }
    }
  }
  Finish(std::move(finished));
}

}  // namespace cairn::client
