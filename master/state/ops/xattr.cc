// setxattr, removexattr.
#include "master/state/acl.h"
#include "master/state/ops/ops.h"
#include "master/state/permissions.h"
#include "master/state/xattrs.h"

namespace cairn::master {
namespace {

constexpr uint32_t kCreateOnly = 1;   // XATTR_CREATE
constexpr uint32_t kReplaceOnly = 2;  // XATTR_REPLACE
// All names of an inode fit into what listxattr(2) can answer.
constexpr size_t kMaxListBytes = 65536;

Status CheckListSize(Context& c, InodeId inode, const std::string& name) {
  size_t bytes = name.size() + 1;
  const std::string prefix = keys::Inode(inode);
  for (auto it = c.txn().Scan(Family::kXattrs, prefix, keys::After(prefix)); it->Valid(); it->Next()) {
    bytes += it->key().size() - prefix.size() + 1;
  }
  if (bytes <= kMaxListBytes) return Status::Ok();
  return {StatusCode::kNoSpace,
          "the attribute names of an inode take at most " + std::to_string(kMaxListBytes) + " bytes"};
}

void Finish(Context& c, InodeId inode, proto::InodeRecord* record) {
  c.Touch(record);
  SaveInode(&c.txn(), inode, *record);
  c.effects().inodes.push_back(inode);
  *c.reply().mutable_entry()->mutable_attr() = ToAttr(inode, *record);
}

Status CheckFlags(uint32_t flags, bool exists, const std::string& name) {
  if ((flags & ~(kCreateOnly | kReplaceOnly)) != 0 || flags == (kCreateOnly | kReplaceOnly)) {
    return {StatusCode::kInvalidArgument, "attribute flags " + std::to_string(flags) + " are not supported"};
  }
  if (exists && (flags & kCreateOnly) != 0)
    return {StatusCode::kAlreadyExists, "attribute '" + name + "' exists already"};
  if (!exists && (flags & kReplaceOnly) != 0)
    return {StatusCode::kNoAttribute, "no attribute '" + name + "'"};
  return Status::Ok();
}

Status SetAccessAcl(Context& c, const std::string& acl, proto::InodeRecord* record) {
  uint32_t mode = (record->mode() & ~0777u) | ModeOfAcl(acl);
  if ((mode & kSetGid) != 0 && !IsRoot(c.caller())) {
    const Membership membership = InGroup(c.caller(), record->gid());
    if (membership == Membership::kUnknown) return NeedGroups();
    if (membership == Membership::kNo) mode &= ~kSetGid;
  }
  record->set_mode(mode);
  // An ACL that says no more than the mode is not kept, as on Linux.
  if (IsMinimalAcl(acl)) {
    record->clear_access_acl();
  } else {
    record->set_access_acl(acl);
  }
  return Status::Ok();
}

Status SetAcl(Context& c, const proto::SetXattrOp& op, InodeId inode, proto::InodeRecord* record) {
  const bool access = op.name() == kAccessAcl;
  const bool exists = !(access ? record->access_acl() : record->default_acl()).empty();
  CAIRN_RETURN_IF_ERROR(CheckFlags(op.flags(), exists, op.name()));
  if (IsEmptyAcl(op.value())) {
    access ? record->clear_access_acl() : record->clear_default_acl();
  } else {
    CAIRN_RETURN_IF_ERROR(CheckAcl(op.value()));
    if (access) {
      CAIRN_RETURN_IF_ERROR(SetAccessAcl(c, op.value(), record));
    } else {
      record->set_default_acl(op.value());
    }
  }
  Finish(c, inode, record);
  return Status::Ok();
}

}  // namespace

Status ApplySetXattr(Context& c, const proto::SetXattrOp& op) {
  const InodeId inode(op.inode());
  CAIRN_ASSIGN_OR_RETURN(proto::InodeRecord record, LoadInode(c.txn(), inode));
  CAIRN_RETURN_IF_ERROR(CheckXattrWrite(record, c.caller(), op.name()));
  if (op.value().size() > kMaxXattrValueBytes) {
    return {StatusCode::kArgumentTooBig,
            "an attribute has at most " + std::to_string(kMaxXattrValueBytes) + " bytes"};
  }
  if (IsAcl(op.name())) return SetAcl(c, op, inode, &record);
  const std::string key = keys::Xattr(inode, op.name());
  const bool exists = record.xattrs() > 0 && c.txn().Get(Family::kXattrs, key).has_value();
  CAIRN_RETURN_IF_ERROR(CheckFlags(op.flags(), exists, op.name()));
  if (!exists) {
    if (record.xattrs() > 0) CAIRN_RETURN_IF_ERROR(CheckListSize(c, inode, op.name()));
    record.set_xattrs(record.xattrs() + 1);
  }
  c.txn().Put(Family::kXattrs, key, op.value());
  Finish(c, inode, &record);
  return Status::Ok();
}

Status ApplyRemoveXattr(Context& c, const proto::RemoveXattrOp& op) {
  const InodeId inode(op.inode());
  CAIRN_ASSIGN_OR_RETURN(proto::InodeRecord record, LoadInode(c.txn(), inode));
  CAIRN_RETURN_IF_ERROR(CheckXattrWrite(record, c.caller(), op.name()));
  if (IsAcl(op.name())) {
    // Removing one that is not there succeeds, as on Linux.
    op.name() == kAccessAcl ? record.clear_access_acl() : record.clear_default_acl();
    Finish(c, inode, &record);
    return Status::Ok();
  }
  const std::string key = keys::Xattr(inode, op.name());
  if (record.xattrs() == 0 || !c.txn().Get(Family::kXattrs, key)) {
    return {StatusCode::kNoAttribute, "no attribute '" + op.name() + "'"};
  }
  c.txn().Delete(Family::kXattrs, key);
  record.set_xattrs(record.xattrs() - 1);
  Finish(c, inode, &record);
  return Status::Ok();
}

}  // namespace cairn::master
