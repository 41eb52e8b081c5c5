// The file locks of all sessions, and who decides them.
//
// The table is in memory only: a client names what it holds when it resumes its session, and until all
// sessions of before a restart are back (or gone) no lock request is decided (docs/decisions/file-locks.md).
//
// Delegation. While only one session locks a file, that session decides about it without asking; the master
// then does not know what is held. When another session asks, the right is recalled (Notice.return_locks,
// answered by ReturnLocksOp), and whoever asked waits as an operation. A file that was recalled is delegated
// again only after a row of requests of one session alone, so files that are really shared are decided here.
//
// Thread-safety: core thread only.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "common/locks/lock_table.h"
#include "master/core/operation.h"
#include "proto/cairn/admin.pb.h"
#include "proto/cairn/session.pb.h"

namespace cairn::master {

class Core;

class FileLocks {
 public:
  explicit FileLocks(Core& core) : core_(core) {}

  // True when the table is right for the file as far as `session` is concerned. Otherwise the right to decide
  // is being recalled from another session, and `operation` is woken when it came back.
  bool Settled(InodeId inode, SessionId session, OperationId operation);
  locks::LockOutcome Set(const locks::Lock& request, bool wait, uint64_t ticket);
  bool Cancel(SessionId session, uint64_t ticket);
  std::optional<locks::Lock> Conflict(const locks::Lock& request) const { return table_.Conflict(request); }
  // After a request was granted: may the session decide from now on?
  bool Delegate(InodeId inode, SessionId session);
  void Return(SessionId session, const proto::ReturnLocksOp& op);

  // A session is back with what it holds. Answers what it lost.
  void Claim(SessionId session, const proto::Hello& hello, bool after_restart, proto::HelloReply* reply);
  // Repeats what a resumed session may have missed.
  void Resumed(SessionId session);
  void SessionEnded(SessionId session);
  void InodeGone(InodeId inode);
  // Ends sessions that do not give back the right to decide.
  void Tick();

  // For administrators.
  std::vector<InodeId> Delegated() const;
  SessionId DecidedBy(InodeId inode) const;
  void Fill(InodeId inode, proto::LocksResponse* response) const;
  std::vector<locks::Lock> Break(InodeId inode, SessionId session, uint64_t owner);
  proto::LockStatus StatusOf(const locks::Lock& lock, bool waiting) const;

  const locks::LockTable& table() const { return table_; }

 private:
  struct Delegation {
    SessionId session;
    bool recalled = false;
    int64_t deadline_ns = 0;
    std::set<OperationId> waiting;
  };
  // What happened last on a file that several sessions wanted.
  struct Contention {
    SessionId last;
    int alone = 0;  // requests in a row of `last`
  };

  void Tell(const std::vector<locks::LockDecision>& decided);
  void NoteUse(InodeId inode, SessionId session);
  void Contend(InodeId inode, SessionId session);
  void SendRecall(InodeId inode, SessionId session);
  void EndDelegation(InodeId inode);

  Core& core_;
  locks::LockTable table_;
  std::map<InodeId, Delegation> delegations_;
  std::map<SessionId, std::set<InodeId>> delegated_to_;
  std::unordered_map<InodeId, Contention> contended_;  // bounded
  std::deque<InodeId> contended_order_;
};

locks::Lock FromProto(const proto::FileLock& lock, SessionId session);
proto::FileLock ToProto(const locks::Lock& lock);
// kInvalidArgument for what no kernel asks.
Status CheckLock(const proto::FileLock& lock);

// Answers when the files concerned are decided here, or after a while.
void ListLocks(Core& core, const proto::LocksRequest& request,
               std::function<void(proto::LocksResponse)> done);
void BreakLocks(Core& core, const proto::BreakLocksRequest& request,
                std::function<void(proto::BreakLocksResponse)> done);

}  // namespace cairn::master
