// Rules of extended attributes as Linux has them on a local file system. Thread-safety: pure functions.
#pragma once

#include <string>
#include <string_view>

#include "common/status.h"
#include "proto/cairn/state.pb.h"
#include "proto/cairn/types.pb.h"

namespace cairn::master {

inline constexpr std::string_view kAccessAcl = "system.posix_acl_access";
inline constexpr std::string_view kDefaultAcl = "system.posix_acl_default";
inline bool IsAcl(std::string_view name) { return name == kAccessAcl || name == kDefaultAcl; }
inline constexpr std::string_view kCapability = "security.capability";

// May the caller see the value of `name`? kNoAttribute for trusted.* without privilege, as Linux answers.
Status CheckXattrRead(const proto::InodeRecord& inode, const proto::Credentials& caller,
                      std::string_view name);
// May the caller set or remove it? kNotSupported: not a namespace that exists; kBufferTooSmall: a name too
// long or empty.
Status CheckXattrWrite(const proto::InodeRecord& inode, const proto::Credentials& caller,
                       std::string_view name);

}  // namespace cairn::master
