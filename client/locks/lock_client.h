// The file locks of one client: requests to the master, what is held, and files whose locks are decided here.
//
//   const uint64_t ticket = locks.Begin(request, done);   // `done` is called exactly once, from any thread
//   locks.Run(ticket);                                    // returns at once, also when the lock has to be
//   waited for locks.Cancel(ticket, Cancelling::kAsk);               // a signal came: done(kInterrupted), or
//   the lock after all
//
// No thread waits for a lock: a request is posted, its answer (or the decision that follows when it had to
// wait) is handled by the session's reader thread, which calls `done`.
//
// What is held is kept as the master's answers come in, so that closing a file without locks costs nothing, a
// restarted master can be told, and files that only this client locks are decided without a request
// (delegation; see master/core/file_locks.h). A request that would have to wait gives the right to decide
// back first: waits are all at the master, so it sees every deadlock.
//
// Whoever gave up (a killed process, a time limit) leaves its request here until the outcome is known: a wait
// is cancelled, and a lock that was granted all the same is given back.
//
// When the session is lost, or an administrator breaks a lock, the handles through which its owner locked the
// file are lost: `lose_handle` is called, the file's data may be somebody else's by now.
//
// The kernel reports the end of an open file (Released) without waiting for it, right after the close
// (Closed). Who asks for a lock just then and must not wait would be refused by an owner that is gone, so
// such a refusal is held back for a moment, until the open file has ended or it turns out that somebody else
// has it open as well.
//
// Thread-safety: any thread; those marked [reader] only from the session's reader thread.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "client/session/session.h"
#include "client/types.h"
#include "common/locks/lock_table.h"

namespace cairn::client {

class LockClient {
 public:
  using RunLater = std::function<void(int64_t delay_ms, std::function<void()> work)>;
  LockClient(Session* session, int64_t request_timeout_ms, std::function<void(Handle)> lose_handle,
             RunLater run_later, int64_t hold_back_ms)
      : session_(session),
        request_timeout_ms_(request_timeout_ms),
        lose_handle_(std::move(lose_handle)),
        run_later_(std::move(run_later)),
        hold_back_ms_(hold_back_ms) {}

  uint64_t Begin(InodeId inode, const LockRequest& request, LockDone done);
  void Run(uint64_t ticket);
  // False when `done` was called or is being called.
  bool Cancel(uint64_t ticket, Cancelling how);
  Result<std::optional<LockHolder>> Test(InodeId inode, const LockRequest& request);
  // A process closed a descriptor: its record locks on the file go.
  Status Closed(InodeId inode, Handle handle, uint64_t owner);
  // The open file is gone: what it owned itself goes (flock, open file descriptions). Does not wait.
  void Released(InodeId inode, Handle handle, uint64_t flock_owner);
  // Ends requests that the master has not answered for too long. Now and then.
  void Expire();
  // Every request ends with `status`; nothing is begun any more.
  void Shutdown(const Status& status);
  void Count(uint64_t* held, uint64_t* waiting) const;

  // [reader]
  void Claims(proto::Hello* hello) const;
  void OnReply(const proto::Request& request, const proto::Reply& reply);
  void OnDecided(const proto::LockDecided& decided);
  void OnLost(const proto::FileLockList& lost);
  void OnReturn(InodeId inode);
  void OnResumed(const proto::HelloReply& reply);
  void OnSessionLost();

  uint64_t decided_here() const { return decided_here_.load(std::memory_order_relaxed); }

 private:
  using SteadyTime = std::chrono::steady_clock::time_point;
  enum class State : uint8_t { kNew, kAsking, kWaiting, kHeldBack };
  struct Op {
    locks::Lock lock;
    bool wait = false;
    Handle handle = Handle::kNone;
    LockDone done;  // empty: nobody waits for it any more
    State state = State::kNew;
    bool cancel = false;  // as soon as it waits
    bool cancel_sent = false;
    bool refused_before = false;  // held back once
    SteadyTime since{};
  };
  struct FileState {
    int asking = 0;  // requests on their way
    // Record locks: which handles each owner used. A process is removed when it closes a descriptor of the
    // file, so an owner that is left when a handle goes is that open file itself.
    std::map<uint64_t, std::set<uint64_t>> handles_of;
  };
  using Ops = std::unordered_map<uint64_t, Op>;
  // Calls made after mu_ was released.
  using Finished = std::vector<std::pair<LockDone, Status>>;

  static void Finish(Finished finished);
  // All with mu_ held.
  void Finish(Ops::iterator op, const Status& status, Finished* finished);
  bool DecideHere(Ops::iterator op, Finished* finished);
  // The lock in the way belongs to an open file that is being closed: true, the request is tried again soon.
  bool HoldBack(Ops::iterator op);
  void TryAgain(Ops::iterator op, bool reader, Finished* finished);
  void Ask(Ops::iterator op, bool reader);
  void SendCancel(uint64_t ticket, Op& op, bool reader);
  void Granted(Ops::iterator op, Finished* finished);
  void TakeDelegation(InodeId inode);
  void GiveBack(InodeId inode, bool reader);
  void Lose(const locks::Lock& lock, std::set<uint64_t>* handles);
  void DropIfIdle(InodeId inode);
  bool MayHold(InodeId inode, locks::LockSpace space, uint64_t owner) const;
  void LoseHandles(const std::set<uint64_t>& handles);

  Session* const session_;
  const int64_t request_timeout_ms_;
  const std::function<void(Handle)> lose_handle_;
  const RunLater run_later_;
  const int64_t hold_back_ms_;
  std::atomic<uint64_t> decided_here_{0};

  mutable std::mutex mu_;
  // Guarded by mu_:
  bool stopped_ = false;
  Status stop_status_;
  uint64_t next_ticket_ = 1;
  Ops ops_;
  std::unordered_map<InodeId, FileState> files_;
  locks::LockTable table_;                 // what this session holds
  std::map<InodeId, uint64_t> delegated_;  // with the time of the last use
  uint64_t uses_ = 0;
  std::set<uint64_t> lost_handles_;
  std::map<uint64_t, SteadyTime> closing_;  // handles with locks that somebody has just closed
  size_t held_back_ = 0;
};

}  // namespace cairn::client
