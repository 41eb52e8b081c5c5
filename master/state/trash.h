// The trash: inodes that lost their last name and are kept until their time is over. Such an inode is an orphan that the trash
// holds; purging it releases it to the same quorum delete as an orphan whose last handle was closed.
//
// Thread-safety: one thread per context or reader.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "common/ids.h"
#include "common/status.h"
#include "master/state/context.h"
#include "master/store/meta_store.h"
#include "proto/cairn/session.pb.h"
#include "proto/cairn/state.pb.h"

namespace cairn::master {

std::optional<proto::TrashRecord> TrashRecordOf(const MetaReader& reader, InodeId inode);
inline bool InTrash(const MetaReader& reader, InodeId inode) { return TrashRecordOf(reader, inode).has_value(); }
// An inode without a name that must stay: open in a session, or in the trash.
bool IsHeld(const MetaReader& reader, InodeId inode);

// Keeps the inode, which just lost its last name, if the policy of the directory says so. `record` is as afterwards, nlink 0.
bool KeepInTrash(Context& c, InodeId inode, const proto::InodeRecord& record, InodeId directory,
                 std::string_view name);
// Takes it out of the trash; the caller decides what becomes of the inode. No effect if it is not there.
void DropFromTrash(Context& c, InodeId inode);
// The space of an inode that may be in the trash changed: what its last writer still had was written back.
void CountTrashAnew(Context& c, InodeId inode, const proto::InodeRecord& record);
// After a hold went: an inode without a name that nobody holds can be reclaimed.
void NoteReleased(Context& c, InodeId inode);

// What `caller` may see of the trash.
Result<proto::TrashListResult> ListTrash(const MetaReader& reader, const proto::TrashListOp& op,
                                         const proto::Credentials& caller);
// Inodes whose time is over at `now_seconds`, the first to expire first; and those that were deleted first.
std::vector<InodeId> ExpiredTrash(const MetaReader& reader, int64_t now_seconds, size_t limit);
std::vector<InodeId> OldestTrash(const MetaReader& reader, size_t limit);

struct TrashUse {
  uint64_t inodes = 0;
  uint64_t bytes = 0;
};
TrashUse TrashUseOf(const MetaReader& reader);

}  // namespace cairn::master
