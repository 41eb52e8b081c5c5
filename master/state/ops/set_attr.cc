// setattr: chmod, chown, utimes, truncate.
#include <algorithm>

#include "master/state/acl.h"
#include "master/state/chunk_ops.h"
#include "master/state/chunk_queries.h"
#include "master/state/ops/ops.h"
#include "master/state/permissions.h"
#include "master/state/queries.h"
#include "master/state/xattrs.h"

namespace cairn::master {
namespace {

void DropCapability(Context& c, InodeId inode, proto::InodeRecord* record) {
  const std::string key = keys::Xattr(inode, kCapability);
  if (record->xattrs() == 0 || !c.txn().Get(Family::kXattrs, key)) return;
  c.txn().Delete(Family::kXattrs, key);
  record->set_xattrs(record->xattrs() - 1);
}

Status ChangeOwner(Context& c, const proto::SetAttrOp& op, InodeId inode, proto::InodeRecord* record) {
  const proto::Credentials& caller = c.caller();
  if (!IsRoot(caller)) {
    if (caller.uid() != record->uid() || (op.has_uid() && op.uid() != record->uid())) {
      return {StatusCode::kNotPermitted, "only root gives a file to another owner"};
    }
    if (op.has_gid() && op.gid() != record->gid()) {
      const Membership membership = InGroup(caller, op.gid());
      if (membership == Membership::kUnknown) return NeedGroups();
      if (membership == Membership::kNo)
        return {StatusCode::kNotPermitted, "the owner is not in group " + std::to_string(op.gid())};
    }
  }
  if (op.has_uid()) record->set_uid(op.uid());
  if (op.has_gid()) record->set_gid(op.gid());
  if (!IsDirectory(*record)) {
    record->set_mode(WithoutSetId(record->mode()));
    DropCapability(c, inode, record);
  }
  return Status::Ok();
}

Status ChangeMode(Context& c, uint32_t mode, proto::InodeRecord* record) {
  const proto::Credentials& caller = c.caller();
  if (!IsOwnerOrRoot(*record, caller)) return {StatusCode::kNotPermitted, "only the owner changes the mode"};
  if (record->type() == proto::SYMLINK)
    return {StatusCode::kNotSupported, "a symbolic link has no mode of its own"};
  mode &= 07777;
  if ((mode & kSetGid) != 0 && !IsRoot(caller)) {
    const Membership membership = InGroup(caller, record->gid());
    if (membership == Membership::kUnknown) return NeedGroups();
    if (membership == Membership::kNo) mode &= ~kSetGid;
  }
  record->set_mode(mode);
  if (!record->access_acl().empty()) record->set_access_acl(AclWithMode(record->access_acl(), mode));
  return Status::Ok();
}

Status ChangeTimes(Context& c, const proto::SetAttrOp& op, proto::InodeRecord* record) {
  if (!IsOwnerOrRoot(*record, c.caller())) {
    if (op.has_atime() || op.has_mtime()) return {StatusCode::kNotPermitted, "only the owner sets times"};
    CAIRN_RETURN_IF_ERROR(CheckMode(*record, c.caller(), kMayWrite));
  }
  if (op.atime().nanos() > 999'999'999 || op.mtime().nanos() > 999'999'999) {
    return {StatusCode::kInvalidArgument, "nanoseconds are below 1,000,000,000"};
  }
  if (op.has_atime()) *record->mutable_atime() = op.atime();
  if (op.has_mtime()) *record->mutable_mtime() = op.mtime();
  if (op.atime_now()) *record->mutable_atime() = c.now();
  if (op.mtime_now()) *record->mutable_mtime() = c.now();
  return Status::Ok();
}

// Chunks beyond the new size go to the deleting queue; the chunk in which it ends is cut by its writer.
void ShrinkChunks(Context& c, const proto::SetAttrOp& op, InodeId inode, proto::InodeRecord* record) {
  const uint64_t chunk_bytes = record->chunk_bytes();
  const uint64_t boundary = op.size() / chunk_bytes;
  const uint64_t rest = op.size() % chunk_bytes;
  const uint64_t freed =
      DeleteChunks(c, inode, rest == 0 ? boundary : boundary + 1, /*deleted_by_quorum=*/false);
  CAIRN_CHECK(record->allocated_bytes() >= freed, "the space of a file fell below that of its chunks");
  record->set_allocated_bytes(record->allocated_bytes() - freed);
  if (rest == 0) return;
  const std::optional<ChunkId> chunk = ChunkAtIndex(c.txn(), inode, boundary);
  if (!chunk) return;
  std::optional<proto::ChunkRecord> cut = LoadChunk(c.txn(), *chunk);
  if (!cut || !BelongsTo(*cut, inode, boundary)) return;  // damaged: opening it says so
  const bool open = cut->writer_lease() != 0;
  if (!open && cut->length() <= rest) return;
  const proto::ChunkRecord before = *cut;
  cut->set_shrink_length(cut->shrink_pending() ? std::min(cut->shrink_length(), rest) : rest);
  cut->set_shrink_pending(true);
  cut->set_shrink_seq(op.shrink_seq());
  UpdateChunk(c, *chunk, &before, *cut);
}

Status ChangeSize(Context& c, const proto::SetAttrOp& op, InodeId inode, proto::InodeRecord* record) {
  if (IsDirectory(*record)) return {StatusCode::kIsDirectory, "a directory has no size to set"};
  if (!IsRegular(*record)) return {StatusCode::kInvalidArgument, "only regular files have a size to set"};
  if (op.size() > kMaxFileBytes) {
    return {StatusCode::kFileTooLarge, "a file has at most " + std::to_string(kMaxFileBytes) + " bytes"};
  }
  if (!op.open_for_write()) CAIRN_RETURN_IF_ERROR(CheckMode(*record, c.caller(), kMayWrite));
  if (c.session() && !c.preview()) {
    const std::optional<WriteLease> lease = WriteLeaseOf(c.txn(), inode);
    if (!lease || lease->session != c.session() || lease->vanished) {
      return {StatusCode::kLeaseLost,
              "the size of inode " + ToString(inode) + " changes under its write lease only"};
    }
  }
  // Whatever size is recorded: under the lease the file may have grown beyond it, and its holder takes every chunk beyond the
  // new size for gone. A chunk that stayed would be handed out to it again, and its mutations be taken for repeats.
  ShrinkChunks(c, op, inode, record);
  record->set_size(op.size());
  *record->mutable_mtime() = c.now();
  if (!IsRoot(c.caller())) {
    record->set_mode(WithoutSetId(record->mode()));
    DropCapability(c, inode, record);
  }
  return Status::Ok();
}

}  // namespace

Status ApplySetAttr(Context& c, const proto::SetAttrOp& op) {
  const InodeId inode(op.inode());
  CAIRN_ASSIGN_OR_RETURN(proto::InodeRecord record, LoadInode(c.txn(), inode));
  if (op.has_size()) CAIRN_RETURN_IF_ERROR(ChangeSize(c, op, inode, &record));
  if (op.has_atime() || op.has_mtime() || op.atime_now() || op.mtime_now())
    CAIRN_RETURN_IF_ERROR(ChangeTimes(c, op, &record));
  if (op.kill_priv() && !IsDirectory(record)) {
    record.set_mode(WithoutSetId(record.mode()));
    DropCapability(c, inode, &record);
  }
  if (op.has_uid() || op.has_gid()) CAIRN_RETURN_IF_ERROR(ChangeOwner(c, op, inode, &record));
  if (op.has_mode()) CAIRN_RETURN_IF_ERROR(ChangeMode(c, op.mode(), &record));
  c.Touch(&record);
  SaveInode(&c.txn(), inode, record);
  c.effects().inodes.push_back(inode);
  *c.reply().mutable_entry()->mutable_attr() = ToAttr(inode, record);
  return Status::Ok();
}

}  // namespace cairn::master
