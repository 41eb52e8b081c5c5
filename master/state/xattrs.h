// Rules of extended attributes as Linux has them on a local file system, and POSIX ACLs as far as they meet
// the mode. Thread-safety: pure functions.
#pragma once

#include <string>
#include <string_view>

#include "common/status.h"
#include "proto/cairn/state.pb.h"
#include "proto/cairn/types.pb.h"

namespace cairn::master {

inline constexpr std::string_view kAccessAcl = "system.posix_acl_access";
inline constexpr std::string_view kDefaultAcl = "system.posix_acl_default";
inline constexpr std::string_view kCapability = "security.capability";

// May the caller see the value of `name`? kNoAttribute for trusted.* without privilege, as Linux answers.
Status CheckXattrRead(const proto::InodeRecord& inode, const proto::Credentials& caller,
                      std::string_view name);
// May the caller set or remove it? kNotSupported: not a namespace that exists; kBufferTooSmall: a name too
// long or empty.
Status CheckXattrWrite(const proto::InodeRecord& inode, const proto::Credentials& caller,
                       std::string_view name);

// A POSIX ACL in the form in which getxattr gives it: a little-endian version 2, then (tag:2, permissions:2,
// id:4) each. kInvalidArgument if it is not valid.
Status CheckAcl(std::string_view acl);
// The permission bits (0777) that the access ACL means for the mode. Precondition: CheckAcl.
uint32_t ModeOfAcl(std::string_view acl);
// Whether the ACL says no more than a mode can. Precondition: CheckAcl.
bool IsMinimalAcl(std::string_view acl);
// The ACL with its entries for owner, mask (or group) and others set from the mode, as chmod does.
// Precondition: CheckAcl.
std::string AclWithMode(std::string_view acl, uint32_t mode);

}  // namespace cairn::master
