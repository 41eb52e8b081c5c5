// POSIX access control lists, as Linux decides by them on a local file system.
//
// An ACL is kept in the form in which getxattr(2) gives it: a little-endian version 2, then (tag:2,
// permissions:2, id:4) each, in the order owner, users, group, groups, mask, others. The mode is part of it:
// its group bits are the mask (the owning group's where there is none), so that chmod and the ACL never
// disagree. Thread-safety: pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "common/status.h"
#include "proto/cairn/state.pb.h"
#include "proto/cairn/types.pb.h"

namespace cairn::master {

inline constexpr size_t kMaxAclEntries = 1024;

// kInvalidArgument if it is not valid, kArgumentTooBig beyond kMaxAclEntries. All functions below expect a
// valid one.
Status CheckAcl(std::string_view acl);
// The permission bits (0777) that the access ACL means for the mode.
uint32_t ModeOfAcl(std::string_view acl);
// Whether the ACL says no more than a mode can.
bool IsMinimalAcl(std::string_view acl);
// A header without entries: asks for the removal of the ACL.
bool IsEmptyAcl(std::string_view acl);
// The ACL with its entries for owner, mask (or group) and others set from the mode, as chmod does.
std::string AclWithMode(std::string_view acl, uint32_t mode);

// May the caller, who is not the owner of `inode`, do `mask` (kMay* bits) by its access ACL? kAccessDenied,
// or kNeedGroups when it depends on groups that are not known.
Status CheckByAcl(const proto::InodeRecord& inode, const proto::Credentials& caller, uint32_t mask);

// What a new inode gets from its directory's default ACL when it is made with `mode` (the umask does not
// count then).
struct InheritedAcl {
  std::string access;  // empty: the mode says all
  uint32_t mode = 0;
};
InheritedAcl InheritAcl(std::string_view default_acl, uint32_t mode);

}  // namespace cairn::master
