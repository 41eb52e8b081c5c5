// Write leases and the announcement of chunks under them.
#include "master/state/chunk_ops.h"
#include "master/state/chunk_queries.h"
#include "master/state/namespace_ops.h"
#include "master/state/ops/ops.h"

namespace cairn::master {

Status ApplyAnnounce(Context& c, const proto::AnnounceOp& op) {
  const InodeId inode(op.inode());
  CAIRN_ASSIGN_OR_RETURN(const proto::InodeRecord record, LoadInode(c.txn(), inode));
  const std::optional<WriteLease> lease = WriteLeaseOf(c.txn(), inode);
  if (!lease || lease->vanished || lease->lease.value() != op.lease() || lease->session != c.session()) {
    return {StatusCode::kLeaseLost,
            "write lease " + std::to_string(op.lease()) + " on inode " + ToString(inode) + " has ended"};
  }
  proto::LayoutResult* layout = c.reply().mutable_layout();
  CAIRN_RETURN_IF_ERROR(AnnounceChunks(c, inode, record, lease->lease, lease->session, op.first(), op.count(),
                                       layout->mutable_chunks()));
  *layout->mutable_attr() = ToAttr(inode, record);
  return Status::Ok();
}

Status ApplyGrantWriteLease(Context& c, const proto::GrantWriteLeaseCmd& op) {
  const InodeId inode(op.inode());
  const SessionId session(op.session());
  CAIRN_ASSIGN_OR_RETURN(const proto::InodeRecord record, LoadInode(c.txn(), inode));
  if (!IsRegular(record)) return {StatusCode::kInvalidArgument, "only regular files have write leases"};
  if (!c.txn().Get(Family::kSessions, keys::Session(session))) {
    return {StatusCode::kSessionUnknown, "session " + ToString(session) + " does not exist"};
  }
  const std::optional<WriteLease> held = WriteLeaseOf(c.txn(), inode);
  if (held && (held->vanished || held->session != session)) {
    return {StatusCode::kBusy, "inode " + ToString(inode) + " is under write lease " + ToString(held->lease) +
                                   " of session " + ToString(held->session) +
                                   (held->vanished ? ", which waits for recovery" : "")};
  }
  const Epoch lease = held ? held->lease : c.NewEpoch();
  if (!lease) return {StatusCode::kFailedPrecondition, "the command carries no lease number"};
  if (!held) {
    GrantWriteLease(c, inode, session, lease);
    // Under the lease the session is asked whether it has the file open; a hold from before would outlive its
    // close.
    RemoveHold(c, inode, session);
    if (record.nlink() == 0) AddHold(c, inode, session);
  }
  proto::LayoutResult* layout = c.reply().mutable_layout();
  CAIRN_RETURN_IF_ERROR(
      AnnounceChunks(c, inode, record, lease, session, op.first(), op.count(), layout->mutable_chunks()));
  *layout->mutable_attr() = ToAttr(inode, record);
  proto::Lease* granted = c.reply().add_leases();
  granted->set_inode(inode.value());
  granted->set_mode(proto::LEASE_WRITE);
  granted->set_number(lease.value());
  return Status::Ok();
}

Status ApplyEndWriteLease(Context& c, const proto::EndWriteLeaseCmd& op) {
  const InodeId inode(op.inode());
  const std::optional<WriteLease> lease = WriteLeaseOf(c.txn(), inode);
  // A repeat, or a later lease: nothing to end.
  if (!lease || lease->lease.value() != op.lease()) return Status::Ok();
  ReleaseWriteLease(c, inode);
  return Status::Ok();
}

}  // namespace cairn::master
