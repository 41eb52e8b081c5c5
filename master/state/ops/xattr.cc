// setxattr, removexattr.
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

void Remove(Context& c, InodeId inode, const std::string& name, proto::InodeRecord* record) {
  c.txn().Delete(Family::kXattrs, keys::Xattr(inode, name));
  record->set_xattrs(record->xattrs() - 1);
  if (name == kAccessAcl) record->set_has_acl(false);
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
  if ((op.flags() & ~(kCreateOnly | kReplaceOnly)) != 0 || op.flags() == (kCreateOnly | kReplaceOnly)) {
    return {StatusCode::kInvalidArgument,
            "attribute flags " + std::to_string(op.flags()) + " are not supported"};
  }
  const std::string key = keys::Xattr(inode, op.name());
  const bool exists = record.xattrs() > 0 && c.txn().Get(Family::kXattrs, key).has_value();
  if (exists && (op.flags() & kCreateOnly) != 0)
    return {StatusCode::kAlreadyExists, "attribute '" + op.name() + "' exists already"};
  if (!exists && (op.flags() & kReplaceOnly) != 0)
    return {StatusCode::kNoAttribute, "no attribute '" + op.name() + "'"};
  if (op.name() == kAccessAcl || op.name() == kDefaultAcl) CAIRN_RETURN_IF_ERROR(CheckAcl(op.value()));
  if (op.name() == kAccessAcl) {
    uint32_t mode = (record.mode() & ~0777u) | ModeOfAcl(op.value());
    if ((mode & kSetGid) != 0 && !IsRoot(c.caller())) {
      const Membership membership = InGroup(c.caller(), record.gid());
      if (membership == Membership::kUnknown) return NeedGroups();
      if (membership == Membership::kNo) mode &= ~kSetGid;
    }
    record.set_mode(mode);
    // An ACL that says no more than the mode is not kept, as on Linux.
    if (IsMinimalAcl(op.value())) {
      if (exists) Remove(c, inode, op.name(), &record);
      Finish(c, inode, &record);
      return Status::Ok();
    }
    record.set_has_acl(true);
  }
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
  if (record.xattrs() == 0 || !c.txn().Get(Family::kXattrs, keys::Xattr(inode, op.name()))) {
    return {StatusCode::kNoAttribute, "no attribute '" + op.name() + "'"};
  }
  Remove(c, inode, op.name(), &record);
  Finish(c, inode, &record);
  return Status::Ok();
}

}  // namespace cairn::master
