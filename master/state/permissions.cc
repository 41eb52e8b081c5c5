#include "master/state/permissions.h"

#include <algorithm>

#include "master/state/acl.h"
#include "master/state/queries.h"

namespace cairn::master {

Membership InGroup(const proto::Credentials& caller, uint32_t gid) {
  if (caller.gid() == gid) return Membership::kYes;
  const auto& groups = caller.groups();
  if (std::find(groups.begin(), groups.end(), gid) != groups.end()) return Membership::kYes;
  return caller.groups_known() ? Membership::kNo : Membership::kUnknown;
}

Status NeedGroups() {
  return {StatusCode::kNeedGroups, "the answer depends on the caller's supplementary groups"};
}

Status CheckMode(const proto::InodeRecord& inode, const proto::Credentials& caller, uint32_t mask) {
  mask &= kMayRead | kMayWrite | kMayExecute;
  if (mask == 0) return Status::Ok();
  const uint32_t mode = inode.mode();
  const auto denied = [&] {
    return Status(StatusCode::kAccessDenied, "permission denied for uid " + std::to_string(caller.uid()));
  };
  if (IsRoot(caller)) {
    const bool may_execute = inode.type() == proto::DIRECTORY || (mode & 0111) != 0;
    return (mask & kMayExecute) == 0 || may_execute ? Status::Ok() : denied();
  }
  if (caller.uid() == inode.uid()) return (mode >> 6 & mask) == mask ? Status::Ok() : denied();
  // With group bits of zero the mask leaves nothing to grant, and Linux goes by the mode alone.
  if (!inode.access_acl().empty() && (mode & 0070) != 0) return CheckByAcl(inode, caller, mask);
  const bool as_group = (mode >> 3 & mask) == mask;
  const bool as_other = (mode & mask) == mask;
  if (as_group == as_other) return as_group ? Status::Ok() : denied();
  switch (InGroup(caller, inode.gid())) {
    case Membership::kYes:
      return as_group ? Status::Ok() : denied();
    case Membership::kNo:
      return as_other ? Status::Ok() : denied();
    case Membership::kUnknown:
      break;
  }
  return NeedGroups();
}

Status CheckAddEntry(const proto::InodeRecord& directory, const proto::Credentials& caller) {
  return CheckMode(directory, caller, kMayWrite | kMayExecute);
}

Status CheckRemoveEntry(const proto::InodeRecord& directory, const proto::InodeRecord& victim,
                        const proto::Credentials& caller) {
  CAIRN_RETURN_IF_ERROR(CheckMode(directory, caller, kMayWrite | kMayExecute));
  if ((directory.mode() & kSticky) != 0 && !IsRoot(caller) && caller.uid() != directory.uid() &&
      caller.uid() != victim.uid()) {
    return {StatusCode::kNotPermitted,
            "the directory is sticky: only owners may remove or rename its entries"};
  }
  return Status::Ok();
}

uint32_t WithoutSetId(uint32_t mode) {
  mode &= ~kSetUid;
  if ((mode & 0010) != 0) mode &= ~kSetGid;
  return mode;
}

}  // namespace cairn::master
