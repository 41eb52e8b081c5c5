// LockOp, TestLockOp, CancelLockOp, ReturnLocksOp, and the same for administrators.
#include "common/log.h"
#include "master/core/admin.h"
#include "master/core/file_locks.h"
#include "master/core/request_op.h"
#include "master/state/queries.h"

namespace cairn::master {
namespace {

using locks::Lock;
using locks::LockOutcome;
using locks::LockSpace;
using locks::LockType;

constexpr int64_t kAdminWaitNanos = 2 * kNanosPerSecond;

std::string Describe(const Lock& lock) {
  return std::string(lock.type == LockType::kExclusive ? "exclusively" : "shared") + " by session " +
         std::to_string(lock.owner.session.value());
}

const char* KindOf(const Lock& lock) {
  if (lock.space == LockSpace::kFlock) return "flock";
  return lock.open_description ? "ofd" : "posix";
}

}  // namespace

Progress FileLockOp::Try(Core& core) {
  // Everything waits here, also what only gives back: requests of one session stay in order.
  if (core.sessions().InGrace(core.now())) {
    core.WaitForGrace(id);
    return Progress::kWaiting;
  }
  switch (request_.op_case()) {
    case proto::Request::kLock:
      return Lock(core);
    case proto::Request::kTestLock:
      return Test(core);
    case proto::Request::kCancelLock:
      if (!core.file_locks().Cancel(session, request_.cancel_lock().ticket())) {
        return Fail(core, Status(StatusCode::kNotFound, "nothing waits under this ticket"));
      }
      return Reply(core, {});
    default:
      core.file_locks().Return(session, request_.return_locks());
      return Reply(core, {});
  }
}

Progress FileLockOp::Lock(Core& core) {
  const proto::LockOp& op = request_.lock();
  const Status valid = CheckLock(op.lock());
  if (!valid.ok()) return Fail(core, valid);
  const locks::Lock lock = FromProto(op.lock(), session);
  FileLocks& table = core.file_locks();
  if (!table.Settled(lock.inode, session, id)) return Progress::kWaiting;
  if (lock.type != LockType::kUnlock && !InodeExists(core.txn(), lock.inode)) {
    return Fail(core, Status(StatusCode::kStaleHandle, "inode " + ToString(lock.inode) + " is gone"));
  }
  const LockOutcome outcome = table.Set(lock, op.wait(), op.ticket());
  proto::Reply reply;
  switch (outcome) {
    case LockOutcome::kGranted:
      if (lock.type != LockType::kUnlock) {
        reply.mutable_lock()->set_delegated(table.Delegate(lock.inode, session));
      }
      return Reply(core, std::move(reply));
    case LockOutcome::kQueued:
      reply.mutable_lock()->set_queued(true);
      return Reply(core, std::move(reply));
    case LockOutcome::kConflict: {
      const auto holder = table.Conflict(lock);
      return Fail(core, Status(StatusCode::kWouldBlock,
                               "the range is locked" + (holder ? " " + Describe(*holder) : std::string())));
    }
    case LockOutcome::kDeadlock:
      return Fail(core, Status(StatusCode::kDeadlock,
                               "waiting for this lock would never end: its holders wait for the caller"));
    case LockOutcome::kTooMany:
      return Fail(core, Status(StatusCode::kNoLocks, "the client holds or waits for too many locks"));
  }
  return Progress::kFinished;
}

Progress FileLockOp::Test(Core& core) {
  const proto::FileLock& asked = request_.test_lock().lock();
  const Status valid = CheckLock(asked);
  if (!valid.ok()) return Fail(core, valid);
  const locks::Lock lock = FromProto(asked, session);
  if (!core.file_locks().Settled(lock.inode, session, id)) return Progress::kWaiting;
  proto::Reply reply;
  reply.mutable_lock();
  if (const auto holder = core.file_locks().Conflict(lock)) {
    *reply.mutable_lock()->mutable_holder() = ToProto(*holder);
    // A process number of another machine would name somebody else here.
    if (holder->owner.session != session) reply.mutable_lock()->mutable_holder()->set_pid(0);
  }
  return Reply(core, std::move(reply));
}

proto::LockStatus FileLocks::StatusOf(const Lock& lock, bool waiting) const {
  proto::LockStatus status;
  status.set_inode(lock.inode.value());
  status.set_path(PathOf(core_.txn(), lock.inode));
  status.set_kind(KindOf(lock));
  status.set_type(lock.type == LockType::kExclusive ? "exclusive" : "shared");
  status.set_start(lock.start);
  status.set_end(lock.end);
  status.set_to_end(lock.end == locks::kMaxOffset);
  status.set_session(lock.owner.session.value());
  if (const Session* session = core_.sessions().Find(lock.owner.session))
    status.set_client_name(session->client_name);
  status.set_owner(lock.owner.owner);
  status.set_pid(lock.pid);
  status.set_waiting(waiting);
  return status;
}

void FileLocks::Fill(InodeId inode, proto::LocksResponse* response) const {
  for (const Lock& lock : inode ? table_.HeldOn(inode) : table_.Held())
    *response->add_locks() = StatusOf(lock, false);
  for (const auto& waiting : inode ? table_.WaitersOn(inode) : table_.Waiters()) {
    *response->add_locks() = StatusOf(waiting.request, true);
  }
}

std::vector<Lock> FileLocks::Break(InodeId inode, SessionId session, uint64_t owner) {
  std::vector<Lock> broken;
  std::map<SessionId, proto::MasterMessage> notices;
  for (const Lock& lock : table_.HeldOn(inode)) {
    if (session && lock.owner.session != session) continue;
    if (owner != 0 && lock.owner.owner != owner) continue;
    broken.push_back(lock);
    *notices[lock.owner.session].mutable_notice()->mutable_locks_lost()->add_locks() = ToProto(lock);
  }
  // The owners hear of it before anybody else hears that he has the lock.
  for (auto& [holder, message] : notices) core_.Send(holder, std::move(message));
  for (const Lock& lock : broken) {
    Lock unlock = lock;
    unlock.type = LockType::kUnlock;
    std::vector<locks::LockDecision> decided;
    table_.Set(unlock, &decided);
    Tell(decided);
    Contend(lock.inode, lock.owner.session);
  }
  return broken;
}

namespace {

// Waits until no client decides about the files meant, at most kAdminWaitNanos.
class AdminLocksOp final : public Operation {
 public:
  AdminLocksOp(InodeId inode, std::function<void(Core&, std::vector<std::string> notes)> then)
      : inode_(inode), then_(std::move(then)) {}

  Progress Step(Core& core) override {
    if (core.sessions().InGrace(core.now())) {
      core.WaitForGrace(id);
      return Progress::kWaiting;
    }
    FileLocks& locks = core.file_locks();
    std::vector<InodeId> inodes = {inode_};
    if (!inode_) inodes = locks.Delegated();
    std::vector<std::string> notes;
    for (InodeId inode : inodes) {
      if (locks.Settled(inode, SessionId{}, id)) continue;
      notes.push_back("inode " + ToString(inode) + ": session " + ToString(locks.DecidedBy(inode)) +
                      " decides its locks and does not answer; what is shown of it may be old");
    }
    if (!notes.empty() && deadline_ns_ == 0) {
      deadline_ns_ = core.now() + kAdminWaitNanos;
      core.timers().At(deadline_ns_, [&core, me = id] { core.Wake(me); });
    }
    if (!notes.empty() && core.now() < deadline_ns_) return Progress::kWaiting;
    then_(core, std::move(notes));
    return Progress::kFinished;
  }

 private:
  const InodeId inode_;
  const std::function<void(Core&, std::vector<std::string>)> then_;
  int64_t deadline_ns_ = 0;
};

}  // namespace

void ListLocks(Core& core, const proto::LocksRequest& request,
               std::function<void(proto::LocksResponse)> done) {
  const InodeId inode(request.inode());
  core.StartOperation(std::make_unique<AdminLocksOp>(
      inode, [inode, done = std::move(done)](Core& at, std::vector<std::string> notes) {
        proto::LocksResponse response;
        at.file_locks().Fill(inode, &response);
        for (std::string& note : notes) response.add_notes(std::move(note));
        done(std::move(response));
      }));
}

void BreakLocks(Core& core, const proto::BreakLocksRequest& request,
                std::function<void(proto::BreakLocksResponse)> done) {
  if (request.inode() == 0) {
    proto::BreakLocksResponse response;
    *response.mutable_status() =
        ToProto(Status(StatusCode::kInvalidArgument, "locks are broken file by file; name one"));
    return done(std::move(response));
  }
  core.StartOperation(std::make_unique<AdminLocksOp>(
      InodeId(request.inode()), [request, done = std::move(done)](Core& at, std::vector<std::string> notes) {
        proto::BreakLocksResponse response;
        if (!notes.empty()) {
          *response.mutable_status() = ToProto(Status(StatusCode::kUnavailable, notes.front()));
          return done(std::move(response));
        }
        for (const Lock& lock :
             at.file_locks().Break(InodeId(request.inode()), SessionId(request.session()), request.owner())) {
          *response.add_broken() = at.file_locks().StatusOf(lock, false);
          CAIRN_LOG(Warning, "{} broke a {} lock of inode {}, held {}", request.operator_(), KindOf(lock),
                    lock.inode.value(), Describe(lock));
        }
        done(std::move(response));
      }));
}

}  // namespace cairn::master
