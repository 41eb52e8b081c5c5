// Who may do what, as Linux decides it on a local file system. Root (uid 0) overrides everything but the
// execution of a file that nobody may execute. When the caller's supplementary groups are not known and would
// decide, the answer is kNeedGroups. Thread-safety: pure functions.
#pragma once

#include <cstdint>

#include "common/status.h"
#include "proto/cairn/state.pb.h"
#include "proto/cairn/types.pb.h"

namespace cairn::master {

inline constexpr uint32_t kSetUid = 04000;
inline constexpr uint32_t kSetGid = 02000;
inline constexpr uint32_t kSticky = 01000;

enum class Membership : uint8_t { kNo, kYes, kUnknown };
Membership InGroup(const proto::Credentials& caller, uint32_t gid);
// What to answer when membership is unknown and decides.
Status NeedGroups();

// Permission bits and access ACL for `mask` (kMayRead | kMayWrite | kMayExecute). kAccessDenied otherwise.
Status CheckMode(const proto::InodeRecord& inode, const proto::Credentials& caller, uint32_t mask);
inline bool IsRoot(const proto::Credentials& caller) { return caller.uid() == 0; }
inline bool IsOwnerOrRoot(const proto::InodeRecord& inode, const proto::Credentials& caller) {
  return IsRoot(caller) || caller.uid() == inode.uid();
}
// Adding an entry to a directory.
Status CheckAddEntry(const proto::InodeRecord& directory, const proto::Credentials& caller);
// Removing or renaming the entry that names `victim`: also the sticky bit (kNotPermitted).
Status CheckRemoveEntry(const proto::InodeRecord& directory, const proto::InodeRecord& victim,
                        const proto::Credentials& caller);

// `mode` without the set-id bits that a write or a change of owner takes away: set-uid always, set-gid where
// the group may execute (elsewhere it is no privilege).
uint32_t WithoutSetId(uint32_t mode);

}  // namespace cairn::master
