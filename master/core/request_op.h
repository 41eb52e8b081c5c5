// Operations that answer one request of a session.
//
// Thread-safety: core thread only.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "master/core/core.h"
#include "master/core/delete_procedure.h"
#include "master/core/operation.h"
#include "proto/cairn/log.pb.h"
#include "proto/cairn/session.pb.h"

namespace cairn::master {

class RequestOp : public Operation {
 public:
  RequestOp(SessionId asking, proto::Request request) : request_(std::move(request)) { session = asking; }
  Progress Step(Core& core) final;
  void OnSessionEnded(Core& core) override { ended_ = true; }

 protected:
  // One evaluation from the start. The session is alive.
  virtual Progress Try(Core& core) = 0;
  // The session is gone: give up what was begun.
  virtual void Abandon(Core& core) {}

  Progress Reply(Core& core, proto::Reply reply);
  Progress Fail(Core& core, const Status& status);
  // False while another operation has the inode to itself, or its last writer is being recovered: `this`
  // waits for it. When that takes longer than the write timeout, *failure says what it waited for.
  bool Available(Core& core, InodeId inode, Status* failure);
  // The same for those who only look at it: what a writer that vanished had acknowledged is known after its recovery.
  bool Recovered(Core& core, InodeId inode, Status* failure);
  // No place for a chunk because too few servers are up: true while it is worth waiting for them (they may
  // just restart).
  bool WaitsForServers(Core& core, const Status& placement);
  // A chunk's configuration is just being changed (kBusy): true while it is worth waiting for the end of
  // that.
  bool WaitsForProcedure(Core& core, const proto::Reply& reply);
  // Places the chunks that the preview asked for; `parent` stands for an inode that does not exist yet.
  Status AddPlacements(Core& core, const Effects& effects, InodeId parent, proto::LogCommand* command);
  proto::LogCommand NewCommand() const;
  void WakeAfter(Core& core, int64_t nanos);

  const proto::Request request_;

 private:
  bool Unblocked(Core& core, InodeId inode, bool blocked, Status* failure);

  bool ended_ = false;
  int64_t taken_up_ns_ = 0;  // 0: not yet
  int64_t blocked_since_ns_ = 0;
  int64_t unplaced_since_ns_ = 0;
};

// Reads: answered from the metadata; where attributes or layout are shown, a writer elsewhere is lowered
// first so that they are right.
class ReadOp final : public RequestOp {
 public:
  using RequestOp::RequestOp;

 protected:
  Progress Try(Core& core) override;

 private:
  Progress TryLookup(Core& core);
  Progress TryGetAttr(Core& core);
  Progress TryReadDir(Core& core);
  Progress TryLayout(Core& core);
  Progress TryGetXattr(Core& core);
  Progress TryStatFs(Core& core);
};

// Changes of the namespace: recalls what others hold, deletes by quorum where a file loses its last name,
// applies.
class MutationOp final : public RequestOp {
 public:
  using RequestOp::RequestOp;
  std::string WaitReason() const override;

 protected:
  Progress Try(Core& core) override;
  void Abandon(Core& core) override;

 private:
  bool BuildCommand(proto::LogCommand* command) const;
  bool NeedsRecalls() const;
  bool FreesSpace() const;
  InodeId ParentForPlacement() const;
  bool Unimpeded(Core& core, const Effects& effects, Status* failure);
  bool StartDelete(Core& core, const Effects& effects);
  void UnlockVictims(Core& core);
  Progress ApplyNow(Core& core, const Effects& preview, proto::LogCommand command);

  std::shared_ptr<DeleteProcedure> procedure_;
  std::vector<InodeId> victims_;  // locked during the quorum delete
};

// LeaseOp.
class LeaseRequestOp final : public RequestOp {
 public:
  using RequestOp::RequestOp;

 protected:
  Progress Try(Core& core) override;

 private:
  Progress GrantWrite(Core& core, InodeId inode);
  // Places what the command needs and applies it; nullopt: it was applied.
  std::optional<Progress> ApplyPlaced(Core& core, InodeId inode, proto::LogCommand command);
  Progress Answer(Core& core, InodeId inode);

  bool truncated_ = false;
};

// LockOp, TestLockOp, CancelLockOp, ReturnLocksOp.
class FileLockOp final : public RequestOp {
 public:
  using RequestOp::RequestOp;

 protected:
  Progress Try(Core& core) override;

 private:
  Progress Lock(Core& core);
  Progress Test(Core& core);
};

// ReleaseOp, WriteBackOp, CloseOrphansOp, SyncOp, AccessedOp: need no recall of others.
class WriterOp final : public RequestOp {
 public:
  using RequestOp::RequestOp;

 protected:
  Progress Try(Core& core) override;

 private:
  Progress Release(Core& core);
  Progress WriteBack(Core& core);
  Progress Sync(Core& core);
  Progress Accessed(Core& core);

  uint64_t wait_index_ = 0;
  std::optional<proto::Reply> written_back_;  // applied; the answer waits for the disk
};

// ChunkTroubleOp: a report for repair, or the configuration procedure on behalf of a writer below W.
class ChunkTroubleRequestOp final : public RequestOp {
 public:
  using RequestOp::RequestOp;

 protected:
  Progress Try(Core& core) override;

 private:
  void NoteTroubles(Core& core);
  std::vector<ServerId> ChooseMembers(Core& core, const proto::ChunkRecord& record, std::string* problem);

  bool noted_ = false;
  bool running_ = false;
  bool finished_ = false;
  Status outcome_;
  int64_t deadline_ns_ = 0;
};

// A holder gave its write lease back (recall answered, released) with or without a last commit: applies what
// it says, lets the lease end, and starts the recovery of chunks that it left unresolved. `keep` is what the
// holder goes on with.
void TakeBackWriteLease(Core& core, InodeId inode, SessionId session, Epoch number, LeaseMode keep,
                        const proto::InodeCommit* commit);
// Remembers, or forgets, that a session without a lease has the inode open.
void NoteOpen(Core& core, SessionId session, InodeId inode, bool still_open);

}  // namespace cairn::master
