// undelete, and the end of what is in the trash.
#include "master/state/trash.h"

#include "master/state/namespace_ops.h"
#include "master/state/ops/ops.h"
#include "master/state/permissions.h"
#include "master/state/queries.h"

namespace cairn::master {
namespace {

Status CheckMayTouch(const Context& c, const proto::TrashRecord& trash, const proto::InodeRecord& record,
                     const proto::Credentials& caller) {
  if (caller.uid() == trash.deleted_by() || IsOwnerOrRoot(record, caller)) return Status::Ok();
  return {StatusCode::kNotPermitted, "'" + trash.path() + "' in the trash belongs to uid " +
                                         std::to_string(record.uid()) + " and was deleted by uid " +
                                         std::to_string(trash.deleted_by())};
}

}  // namespace

Status ApplyUndelete(Context& c, const proto::UndeleteOp& op) {
  const InodeId inode(op.inode());
  const auto trash = TrashRecordOf(c.txn(), inode);
  if (!trash) return {StatusCode::kNotFound, "nothing with number " + ToString(inode) + " is in the trash"};
  CAIRN_ASSIGN_OR_RETURN(proto::InodeRecord record, LoadInode(c.txn(), inode));
  CAIRN_RETURN_IF_ERROR(CheckMayTouch(c, *trash, record, c.caller()));
  const InodeId where(op.new_parent() == 0 ? trash->parent() : op.new_parent());
  const std::string name = op.new_name().empty() ? trash->name() : op.new_name();
  Result<Directory> parent = OpenDirectory(c.txn(), where);
  if (!parent.ok()) {
    return {StatusCode::kNotFound,
            "the directory of '" + trash->path() +
                "' is gone, too: restore it first, or say where the file shall go (--to)"};
  }
  CAIRN_RETURN_IF_ERROR(CheckName(name));
  CAIRN_RETURN_IF_ERROR(CheckAddEntry(parent->record, c.caller()));
  if (LoadDentry(c.txn(), where, name)) {
    return {StatusCode::kAlreadyExists, "'" + name + "' exists there already: say another place with --to"};
  }
  DropFromTrash(c, inode);
  c.txn().Delete(Family::kOrphans, keys::Inode(inode));
  AddEntry(c, &*parent, name, inode, record.type());
  c.TouchEntries(&parent->record);
  SaveDirectory(c, *parent);
  record.set_nlink(IsDirectory(record) ? 2 : 1);
  record.set_parent(where.value());
  record.set_name(name);
  c.Touch(&record);
  SaveInode(&c.txn(), inode, record);
  c.effects().inodes.push_back(inode);
  proto::EntryResult* entry = c.reply().mutable_entry();
  *entry->mutable_attr() = ToAttr(inode, record);
  *entry->mutable_parent_attr() = ToAttr(where, parent->record);
  return Status::Ok();
}

Status ApplyTrashPurge(Context& c, const proto::TrashPurgeOp& op) {
  for (const uint64_t number : op.inodes()) {
    const InodeId inode(number);
    const auto trash = TrashRecordOf(c.txn(), inode);
    if (!trash) continue;
    CAIRN_ASSIGN_OR_RETURN(const proto::InodeRecord record, LoadInode(c.txn(), inode));
    if (c.session()) CAIRN_RETURN_IF_ERROR(CheckMayTouch(c, *trash, record, c.caller()));
    DropFromTrash(c, inode);
    NoteReleased(c, inode);
  }
  return Status::Ok();
}

}  // namespace cairn::master
