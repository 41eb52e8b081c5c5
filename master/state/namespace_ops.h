// Steps that the namespace operations share: entries of directories, new inodes, the end of inodes.
// Thread-safety: one thread per context.
#pragma once

#include <string_view>

#include "common/ids.h"
#include "common/status.h"
#include "master/state/context.h"

namespace cairn::master {

// A directory being changed. Saved once, when the operation has done everything else.
struct Directory {
  InodeId inode;
  proto::InodeRecord record;
};
Result<Directory> OpenDirectory(const MetaReader& reader, InodeId inode);
void SaveDirectory(Context& c, const Directory& directory);

// Adds an entry under a new entry number. Counts a subdirectory's "..". Precondition: the name is free.
void AddEntry(Context& c, Directory* directory, std::string_view name, InodeId inode, proto::FileType type);
// Removes the entry. Precondition: it exists, as `dentry`.
void RemoveEntry(Context& c, Directory* directory, std::string_view name, const proto::DentryRecord& dentry);
// Lets an existing entry lead to another inode, keeping its number (rename's exchange).
void ReplaceEntry(Context& c, Directory* directory, std::string_view name, const proto::DentryRecord& dentry,
                  InodeId inode, proto::FileType type);
// Gives an entry another name in the same directory, keeping its number: a listing under way shows it exactly
// once.
void RenameEntry(Context& c, Directory* directory, std::string_view name, const proto::DentryRecord& dentry,
                 std::string_view new_name);

// A new inode for `name` in `parent`, with owner, group and mode as Linux gives them, and its entry. Saves
// neither the inode (the caller completes it) nor the directory.
Result<std::pair<InodeId, proto::InodeRecord>> NewInode(Context& c, Directory* parent, std::string_view name,
                                                        proto::FileType type, uint32_t mode);

// Records in the inode that (directory, name) leads to it / does not any more / was renamed. The caller saves
// the inode.
void AddLink(Context& c, InodeId inode, proto::InodeRecord* record, InodeId directory, std::string_view name);
void RemoveLink(Context& c, InodeId inode, proto::InodeRecord* record, InodeId directory,
                std::string_view name);
void MoveLink(Context& c, InodeId inode, proto::InodeRecord* record, InodeId directory, std::string_view name,
              InodeId new_directory, std::string_view new_name);

// A non-directory lost the name (directory, name), whose entry is removed already: one link less, or the end
// of the inode, or an orphan when a session has it open (opens of the command, `open_here`, persisted holds).
// `record` is as afterwards.
void DropName(Context& c, InodeId inode, proto::InodeRecord* record, InodeId directory, std::string_view name,
              bool open_here);

// Tells the session that removed a name whether the inode goes on without one: open there, or in the trash.
void SetKept(Context& c, InodeId inode, proto::RemoveResult* result);

// Takes the inode's record, attributes, policy, chunks, holds and write lease away. deleted_by_quorum: W
// tombstones of every chunk were confirmed.
void RemoveInode(Context& c, InodeId inode, const proto::InodeRecord& record, bool deleted_by_quorum);

// kHolds and its list by session.
void AddHold(Context& c, InodeId inode, SessionId session);
void RemoveHold(Context& c, InodeId inode, SessionId session);

}  // namespace cairn::master
