// unlink, rmdir.
#include "master/state/namespace_ops.h"
#include "master/state/ops/ops.h"
#include "master/state/permissions.h"
#include "master/state/queries.h"
#include "master/state/trash.h"

namespace cairn::master {
namespace {

struct Victim {
  Directory parent;
  proto::DentryRecord dentry;
  proto::InodeRecord record;
};

Result<Victim> FindVictim(Context& c, uint64_t parent, const std::string& name) {
  Victim victim;
  CAIRN_ASSIGN_OR_RETURN(victim.parent, OpenDirectory(c.txn(), InodeId(parent)));
  CAIRN_RETURN_IF_ERROR(CheckName(name));
  CAIRN_RETURN_IF_ERROR(CheckMode(victim.parent.record, c.caller(), kMayExecute));
  const std::optional<proto::DentryRecord> dentry = LoadDentry(c.txn(), victim.parent.inode, name);
  if (!dentry) return Status(StatusCode::kNotFound, "no entry '" + name + "'");
  victim.dentry = *dentry;
  CAIRN_ASSIGN_OR_RETURN(victim.record, LoadInode(c.txn(), InodeId(dentry->inode())));
  CAIRN_RETURN_IF_ERROR(CheckRemoveEntry(victim.parent.record, victim.record, c.caller()));
  return victim;
}

}  // namespace

Status ApplyUnlink(Context& c, const proto::UnlinkOp& op) {
  CAIRN_ASSIGN_OR_RETURN(Victim victim, FindVictim(c, op.parent(), op.name()));
  if (IsDirectory(victim.record)) return {StatusCode::kIsDirectory, "'" + op.name() + "' is a directory"};
  const InodeId inode(victim.dentry.inode());
  RemoveEntry(c, &victim.parent, op.name(), victim.dentry);
  c.TouchEntries(&victim.parent.record);
  SaveDirectory(c, victim.parent);
  DropName(c, inode, &victim.record, victim.parent.inode, op.name(), op.open_here());
  proto::RemoveResult* result = c.reply().mutable_remove();
  *result->mutable_parent_attr() = ToAttr(victim.parent.inode, victim.parent.record);
  *result->mutable_inode_attr() = ToAttr(inode, victim.record);
  SetKept(c, inode, result);
  return Status::Ok();
}

Status ApplyRmdir(Context& c, const proto::RmdirOp& op) {
  CAIRN_ASSIGN_OR_RETURN(Victim victim, FindVictim(c, op.parent(), op.name()));
  if (!IsDirectory(victim.record))
    return {StatusCode::kNotDirectory, "'" + op.name() + "' is not a directory"};
  if (victim.record.size() > 0) {
    return {StatusCode::kNotEmpty,
            "'" + op.name() + "' has " + std::to_string(victim.record.size()) + " entries"};
  }
  const InodeId inode(victim.dentry.inode());
  RemoveEntry(c, &victim.parent, op.name(), victim.dentry);
  c.TouchEntries(&victim.parent.record);
  SaveDirectory(c, victim.parent);
  victim.record.set_nlink(0);
  c.Touch(&victim.record);
  // With what is in the trash below it, an undelete of a tree finds the directory as it was.
  if (!KeepInTrash(c, inode, victim.record, victim.parent.inode, op.name()))
    RemoveInode(c, inode, victim.record, /*deleted_by_quorum=*/false);
  c.effects().directories.push_back(inode);
  proto::RemoveResult* result = c.reply().mutable_remove();
  *result->mutable_parent_attr() = ToAttr(victim.parent.inode, victim.parent.record);
  *result->mutable_inode_attr() = ToAttr(inode, victim.record);
  return Status::Ok();
}

}  // namespace cairn::master
