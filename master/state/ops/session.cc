// Sessions, what they have open, and the end of inodes that were unlinked while open.
#include <string>
#include <vector>

#include "master/state/chunk_ops.h"
#include "master/state/chunk_queries.h"
#include "master/state/namespace_ops.h"
#include "master/state/ops/ops.h"
#include "master/state/trash.h"

namespace cairn::master {
Status ApplyOpenSession(Context& c, const proto::OpenSessionCmd& op) {
  const SessionId session(op.session());
  if (!session) return {StatusCode::kInvalidArgument, "a session needs a number"};
  if (c.txn().Get(Family::kSessions, keys::Session(session))) {
    return {StatusCode::kAlreadyExists, "session " + ToString(session) + " exists already"};
  }
  proto::SessionRecord record;
  record.set_client_name(op.client_name());
  record.set_host_id(op.host_id());
  *record.mutable_opened() = c.now();
  Save(&c.txn(), Family::kSessions, keys::Session(session), record);
  c.effects().sessions_opened.push_back(session);
  return Status::Ok();
}

Status ApplyCloseSession(Context& c, const proto::CloseSessionCmd& op) {
  const SessionId session(op.session());
  const std::string key = keys::Session(session);
  if (!c.txn().Get(Family::kSessions, key)) return Status::Ok();  // closed already
  for (const WriteLease& lease : WriteLeasesOfSession(c.txn(), session)) {
    if (!lease.vanished) ReleaseWriteLease(c, lease.inode);
  }
  for (const InodeId inode : HoldsOfSession(c.txn(), session)) {
    RemoveHold(c, inode, session);
    NoteReleased(c, inode);
  }
  std::vector<std::string> results;
  for (auto it = c.txn().Scan(Family::kResults, key, keys::After(key)); it->Valid(); it->Next())
    results.emplace_back(it->key());
  for (const std::string& result : results) c.txn().Delete(Family::kResults, result);
  c.txn().Delete(Family::kSessions, key);
  c.effects().sessions_closed.push_back(session);
  return Status::Ok();
}

Status ApplyHoldOpen(Context& c, const proto::HoldOpenCmd& op) {
  for (const uint64_t inode : op.inodes()) {
    if (c.txn().Get(Family::kInodes, keys::Inode(InodeId(inode))))
      AddHold(c, InodeId(inode), SessionId(op.session()));
  }
  return Status::Ok();
}

Status ApplyCloseOrphans(Context& c, const proto::CloseOrphansOp& op) {
  for (const uint64_t inode : op.inodes()) {
    RemoveHold(c, InodeId(inode), c.session());
    NoteReleased(c, InodeId(inode));
  }
  return Status::Ok();
}

Status ApplyReclaimInode(Context& c, const proto::ReclaimInodeCmd& op) {
  const InodeId inode(op.inode());
  const Result<proto::InodeRecord> record = LoadInode(c.txn(), inode);
  if (!record.ok()) return Status::Ok();  // reclaimed already
  if (record->nlink() != 0 || !c.txn().Get(Family::kOrphans, keys::Inode(inode))) {
    return {StatusCode::kFailedPrecondition, "inode " + ToString(inode) + " still has a name"};
  }
  if (IsHeld(c.txn(), inode)) {
    return {StatusCode::kBusy, "inode " + ToString(inode) + " is still open in a session, or in the trash"};
  }
  RemoveInode(c, inode, *record, /*deleted_by_quorum=*/true);
  return Status::Ok();
}

}  // namespace cairn::master
