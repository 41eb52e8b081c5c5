#include "master/state/xattrs.h"

#include "master/state/permissions.h"
#include "master/state/queries.h"
#include "master/state/records.h"
#include "master/state/state_machine.h"

namespace cairn::master {
namespace {

Status CheckXattrName(std::string_view name) {
  if (name.empty() || name.size() > kMaxXattrNameBytes) {
    return {StatusCode::kBufferTooSmall,
            "the name of an attribute has 1 to " + std::to_string(kMaxXattrNameBytes) + " bytes"};
  }
  if (name.find('\0') != std::string_view::npos)
    return {StatusCode::kInvalidArgument, "a NUL in the name of an attribute"};
  return Status::Ok();
}

bool AllowsUserXattrs(const proto::InodeRecord& inode) {
  return inode.type() == proto::REGULAR || inode.type() == proto::DIRECTORY;
}
Status UnknownNamespace(std::string_view name) {
  return {StatusCode::kNotSupported,
          "attribute '" + std::string(name) + "' is in no namespace that exists here"};
}

}  // namespace

Status CheckXattrRead(const proto::InodeRecord& inode, const proto::Credentials& caller,
                      std::string_view name) {
  CAIRN_RETURN_IF_ERROR(CheckXattrName(name));
  if (name.starts_with("user.")) {
    if (!AllowsUserXattrs(inode))
      return {StatusCode::kNoAttribute, "no attribute '" + std::string(name) + "'"};
    return CheckMode(inode, caller, kMayRead);
  }
  if (name.starts_with("trusted.")) {
    if (IsRoot(caller)) return Status::Ok();
    return {StatusCode::kNoAttribute, "no attribute '" + std::string(name) + "'"};
  }
  if (name.starts_with("security.") || IsAcl(name)) return Status::Ok();
  return UnknownNamespace(name);
}

Status CheckXattrWrite(const proto::InodeRecord& inode, const proto::Credentials& caller,
                       std::string_view name) {
  CAIRN_RETURN_IF_ERROR(CheckXattrName(name));
  if (name.starts_with("user.")) {
    if (name == "user.") return {StatusCode::kInvalidArgument, "'user.' is not the name of an attribute"};
    if (!AllowsUserXattrs(inode)) {
      return {StatusCode::kNotPermitted, "user attributes exist on regular files and directories only"};
    }
    if (IsDirectory(inode) && (inode.mode() & kSticky) != 0 && !IsOwnerOrRoot(inode, caller)) {
      return {StatusCode::kNotPermitted, "user attributes of a sticky directory belong to its owner"};
    }
    return CheckMode(inode, caller, kMayWrite);
  }
  if (name.starts_with("trusted.") || name.starts_with("security.")) {
    if (IsRoot(caller)) return Status::Ok();
    return {StatusCode::kNotPermitted, "only root changes '" + std::string(name) + "'"};
  }
  if (IsAcl(name)) {
    if (inode.type() == proto::SYMLINK) return {StatusCode::kNotSupported, "a symbolic link has no ACL"};
    if (!IsOwnerOrRoot(inode, caller)) return {StatusCode::kNotPermitted, "only the owner changes an ACL"};
    if (name == kDefaultAcl && !IsDirectory(inode))
      return {StatusCode::kAccessDenied, "only directories have a default ACL"};
    return Status::Ok();
  }
  return UnknownNamespace(name);
}

}  // namespace cairn::master
