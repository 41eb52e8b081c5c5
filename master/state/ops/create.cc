// create, mkdir, mknod, symlink, link.
#include <string>
#include <utility>

#include "master/state/chunk_ops.h"
#include "master/state/namespace_ops.h"
#include "master/state/ops/ops.h"
#include "master/state/permissions.h"
#include "master/state/queries.h"

namespace cairn::master {
namespace {

using NewInodeResult = std::pair<InodeId, proto::InodeRecord>;

// The directory to make an entry in, searched; `existing` is set when the name is taken. As on Linux an
// existing name answers before a missing write permission.
Result<Directory> OpenParent(Context& c, uint64_t parent, const std::string& name,
                             std::optional<proto::DentryRecord>* existing) {
  CAIRN_ASSIGN_OR_RETURN(Directory directory, OpenDirectory(c.txn(), InodeId(parent)));
  CAIRN_RETURN_IF_ERROR(CheckName(name));
  CAIRN_RETURN_IF_ERROR(CheckMode(directory.record, c.caller(), kMayExecute));
  *existing = LoadDentry(c.txn(), directory.inode, name);
  if (!existing->has_value()) CAIRN_RETURN_IF_ERROR(CheckAddEntry(directory.record, c.caller()));
  return directory;
}

Result<Directory> OpenParentForNew(Context& c, uint64_t parent, const std::string& name) {
  std::optional<proto::DentryRecord> existing;
  CAIRN_ASSIGN_OR_RETURN(Directory directory, OpenParent(c, parent, name, &existing));
  if (existing) return Status(StatusCode::kAlreadyExists, "'" + name + "' exists already");
  return directory;
}

// Saves a new inode and its directory and answers with both.
void Finish(Context& c, InodeId inode, const proto::InodeRecord& record, const Directory& parent) {
  SaveInode(&c.txn(), inode, record);
  SaveDirectory(c, parent);
  proto::EntryResult* entry = c.reply().mutable_entry();
  *entry->mutable_attr() = ToAttr(inode, record);
  *entry->mutable_parent_attr() = ToAttr(parent.inode, parent.record);
  if (record.type() == proto::SYMLINK) entry->set_symlink_target(record.symlink_target());
}

}  // namespace

Status ApplyCreate(Context& c, const proto::CreateOp& op) {
  std::optional<proto::DentryRecord> existing;
  CAIRN_ASSIGN_OR_RETURN(Directory parent, OpenParent(c, op.parent(), op.name(), &existing));
  if (existing) {
    if (op.exclusive()) return {StatusCode::kAlreadyExists, "'" + op.name() + "' exists already"};
    if (existing->type() == proto::DIRECTORY)
      return {StatusCode::kIsDirectory, "'" + op.name() + "' is a directory"};
    CAIRN_ASSIGN_OR_RETURN(*c.reply().mutable_entry(),
                           GetAttr(c.txn(), InodeId(existing->inode()), /*with_layout=*/true));
    *c.reply().mutable_entry()->mutable_parent_attr() = ToAttr(parent.inode, parent.record);
    return Status::Ok();
  }
  CAIRN_ASSIGN_OR_RETURN(NewInodeResult made, NewInode(c, &parent, op.name(), proto::REGULAR, op.mode()));
  auto& [inode, record] = made;
  Finish(c, inode, record, parent);
  const Epoch lease = c.NewEpoch();
  if (!op.want_write() || !c.session() || !lease) return Status::Ok();
  GrantWriteLease(c, inode, c.session(), lease);
  proto::Lease* granted = c.reply().add_leases();
  granted->set_inode(inode.value());
  granted->set_mode(proto::LEASE_WRITE);
  granted->set_number(lease.value());
  // Without enough chunkservers the file is made all the same; the first write is what fails then.
  if (c.preview() || c.command().placements_size() > 0) {
    CAIRN_RETURN_IF_ERROR(AnnounceChunks(c, inode, record, lease, c.session(), 0, 1,
                                         c.reply().mutable_entry()->mutable_layout()));
  }
  return Status::Ok();
}

Status ApplyMkdir(Context& c, const proto::MkdirOp& op) {
  CAIRN_ASSIGN_OR_RETURN(Directory parent, OpenParentForNew(c, op.parent(), op.name()));
  // mkdir(2) ignores set-id bits of the mode given; a set-gid parent still passes its own on.
  CAIRN_ASSIGN_OR_RETURN(NewInodeResult made,
                         NewInode(c, &parent, op.name(), proto::DIRECTORY, op.mode() & (0777 | kSticky)));
  auto& [inode, record] = made;
  Finish(c, inode, record, parent);
  return Status::Ok();
}

Status ApplyMknod(Context& c, const proto::MknodOp& op) {
  const bool device = op.type() == proto::CHAR_DEVICE || op.type() == proto::BLOCK_DEVICE;
  if (!device && op.type() != proto::REGULAR && op.type() != proto::FIFO && op.type() != proto::SOCKET) {
    return {StatusCode::kInvalidArgument, "mknod makes regular files, FIFOs, sockets and devices"};
  }
  CAIRN_ASSIGN_OR_RETURN(Directory parent, OpenParentForNew(c, op.parent(), op.name()));
  if (device && !IsRoot(c.caller())) return {StatusCode::kNotPermitted, "only root makes devices"};
  CAIRN_ASSIGN_OR_RETURN(NewInodeResult made, NewInode(c, &parent, op.name(), op.type(), op.mode()));
  auto& [inode, record] = made;
  if (device) record.set_rdev(op.rdev());
  Finish(c, inode, record, parent);
  return Status::Ok();
}

Status ApplySymlink(Context& c, const proto::SymlinkOp& op) {
  if (op.target().empty()) return {StatusCode::kNotFound, "a symbolic link needs a target"};
  if (op.target().size() > kMaxSymlinkBytes) {
    return {StatusCode::kNameTooLong, "a target has at most " + std::to_string(kMaxSymlinkBytes) + " bytes"};
  }
  if (op.target().find('\0') != std::string::npos)
    return {StatusCode::kInvalidArgument, "a NUL in the target"};
  CAIRN_ASSIGN_OR_RETURN(Directory parent, OpenParentForNew(c, op.parent(), op.name()));
  CAIRN_ASSIGN_OR_RETURN(NewInodeResult made, NewInode(c, &parent, op.name(), proto::SYMLINK, 0777));
  auto& [inode, record] = made;
  record.set_symlink_target(op.target());
  Finish(c, inode, record, parent);
  return Status::Ok();
}

Status ApplyLink(Context& c, const proto::LinkOp& op) {
  const InodeId inode(op.inode());
  CAIRN_ASSIGN_OR_RETURN(proto::InodeRecord record, LoadInode(c.txn(), inode));
  CAIRN_ASSIGN_OR_RETURN(Directory parent, OpenParentForNew(c, op.new_parent(), op.new_name()));
  if (IsDirectory(record)) return {StatusCode::kNotPermitted, "a directory cannot have a second name"};
  if (record.nlink() == 0)
    return {StatusCode::kNotFound, "inode " + ToString(inode) + " has no name any more"};
  if (record.nlink() >= kMaxLinks) {
    return {StatusCode::kTooManyLinks,
            "inode " + ToString(inode) + " has " + std::to_string(kMaxLinks) + " names already"};
  }
  AddEntry(c, &parent, op.new_name(), inode, record.type());
  c.TouchEntries(&parent.record);
  AddLink(c, inode, &record, parent.inode, op.new_name());
  record.set_nlink(record.nlink() + 1);
  c.Touch(&record);
  c.effects().inodes.push_back(inode);
  Finish(c, inode, record, parent);
  return Status::Ok();
}

}  // namespace cairn::master
