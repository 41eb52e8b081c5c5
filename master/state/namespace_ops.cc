#include "master/state/namespace_ops.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "master/state/acl.h"
#include "master/state/chunk_ops.h"
#include "master/state/chunk_queries.h"
#include "master/state/permissions.h"
#include "master/state/queries.h"
#include "master/state/trash.h"

namespace cairn::master {
namespace {

// Entry numbers descend from here: what is made while a directory is read comes before every cursor in use,
// so a program that adds an entry for each one it reads comes to an end
// (docs/decisions/directory-cursors.md).
constexpr uint64_t kFirstEntry = 1ull << 62;

void PutEntry(Context& c, InodeId directory, std::string_view name, uint64_t entry, InodeId inode,
              proto::FileType type) {
  proto::DentryRecord dentry;
  dentry.set_inode(inode.value());
  dentry.set_type(type);
  dentry.set_entry(entry);
  Save(&c.txn(), Family::kDentries, keys::Dentry(directory, name), dentry);
  proto::DirIndexRecord index;
  index.set_name(std::string(name));
  index.set_inode(inode.value());
  index.set_type(type);
  Save(&c.txn(), Family::kDirIndex, keys::DirIndex(directory, entry), index);
}

void CountSubdirectory(Directory* directory, proto::FileType type, int by) {
  if (type == proto::DIRECTORY)
    directory->record.set_nlink(directory->record.nlink() + static_cast<uint32_t>(by));
}

}  // namespace

Result<Directory> OpenDirectory(const MetaReader& reader, InodeId inode) {
  CAIRN_ASSIGN_OR_RETURN(proto::InodeRecord record, LoadDirectory(reader, inode));
  if (record.nlink() == 0)  // in the trash: for its users it is gone
    return Status(StatusCode::kStaleHandle, "directory " + ToString(inode) + " was deleted");
  return Directory{inode, std::move(record)};
}

void SaveDirectory(Context& c, const Directory& directory) {
  SaveInode(&c.txn(), directory.inode, directory.record);
  c.effects().directories.push_back(directory.inode);
}

void AddEntry(Context& c, Directory* directory, std::string_view name, InodeId inode, proto::FileType type) {
  proto::InodeRecord& record = directory->record;
  record.set_last_entry(record.last_entry() == 0 ? kFirstEntry : record.last_entry() - 1);
  PutEntry(c, directory->inode, name, record.last_entry(), inode, type);
  record.set_size(record.size() + 1);
  CountSubdirectory(directory, type, +1);
}

void RemoveEntry(Context& c, Directory* directory, std::string_view name, const proto::DentryRecord& dentry) {
  c.txn().Delete(Family::kDentries, keys::Dentry(directory->inode, name));
  c.txn().Delete(Family::kDirIndex, keys::DirIndex(directory->inode, dentry.entry()));
  CAIRN_CHECK(directory->record.size() > 0, "an entry of an empty directory");
  directory->record.set_size(directory->record.size() - 1);
  CountSubdirectory(directory, dentry.type(), -1);
}

void ReplaceEntry(Context& c, Directory* directory, std::string_view name, const proto::DentryRecord& dentry,
                  InodeId inode, proto::FileType type) {
  CountSubdirectory(directory, dentry.type(), -1);
  CountSubdirectory(directory, type, +1);
  PutEntry(c, directory->inode, name, dentry.entry(), inode, type);
}

void RenameEntry(Context& c, Directory* directory, std::string_view name, const proto::DentryRecord& dentry,
                 std::string_view new_name) {
  c.txn().Delete(Family::kDentries, keys::Dentry(directory->inode, name));
  PutEntry(c, directory->inode, new_name, dentry.entry(), InodeId(dentry.inode()), dentry.type());
}

Result<std::pair<InodeId, proto::InodeRecord>> NewInode(Context& c, Directory* parent, std::string_view name,
                                                        proto::FileType type, uint32_t mode) {
  mode &= 07777;
  proto::InodeRecord record;
  record.set_type(type);
  if (type == proto::SYMLINK) {
    // Its mode means nothing and is always 0777.
  } else if (const std::string& inherited = parent->record.default_acl(); !inherited.empty()) {
    InheritedAcl acl = InheritAcl(inherited, mode);
    mode = acl.mode;
    record.set_access_acl(std::move(acl.access));
    if (type == proto::DIRECTORY) record.set_default_acl(inherited);
  } else {
    mode &= ~(c.caller().umask() & 0777);
  }
  record.set_uid(c.caller().uid());
  record.set_gid(c.caller().gid());
  const proto::InodeRecord& directory = parent->record;
  if ((directory.mode() & kSetGid) != 0) {
    record.set_gid(directory.gid());
    if (type == proto::DIRECTORY) {
      mode |= kSetGid;
    } else if ((mode & (kSetGid | 0010)) == (kSetGid | 0010) && !IsRoot(c.caller())) {
      // Nobody may make a set-gid program for a group that is not their own.
      const Membership membership = InGroup(c.caller(), directory.gid());
      if (membership == Membership::kUnknown) return NeedGroups();
      if (membership == Membership::kNo) mode &= ~kSetGid;
    }
  }
  CAIRN_ASSIGN_OR_RETURN(const InodeId inode, c.NewInode());
  record.set_mode(mode);
  record.set_nlink(type == proto::DIRECTORY ? 2 : 1);
  *record.mutable_atime() = c.now();
  *record.mutable_mtime() = c.now();
  *record.mutable_ctime() = c.now();
  *record.mutable_btime() = c.now();
  record.set_generation(1);
  record.set_parent(parent->inode.value());
  record.set_name(std::string(name));
  if (type == proto::REGULAR) {
    CAIRN_ASSIGN_OR_RETURN(const proto::Policy policy, EffectivePolicy(c.txn(), parent->inode));
    record.set_chunk_bytes(policy.chunk_bytes());
  }
  AddEntry(c, parent, name, inode, type);
  c.TouchEntries(&parent->record);
  c.ChangeCounters(+1, 0, 0, 0);
  return std::make_pair(inode, std::move(record));
}

void AddLink(Context& c, InodeId inode, proto::InodeRecord* record, InodeId directory,
             std::string_view name) {
  if (record->parent() == 0) {
    record->set_parent(directory.value());
    record->set_name(std::string(name));
  } else {
    c.txn().Put(Family::kLinks, keys::Link(inode, directory, name), "");
  }
}

void RemoveLink(Context& c, InodeId inode, proto::InodeRecord* record, InodeId directory,
                std::string_view name) {
  if (record->parent() != directory.value() || record->name() != name) {
    c.txn().Delete(Family::kLinks, keys::Link(inode, directory, name));
    return;
  }
  record->clear_parent();
  record->clear_name();
  if (record->nlink() <= 1) return;
  // Another of its names takes the place in the record.
  const std::string prefix = keys::Inode(inode);
  std::string next;
  if (const auto it = c.txn().Scan(Family::kLinks, prefix, keys::After(prefix)); it->Valid())
    next = it->key();
  if (next.empty()) return;  // fsck reports it
  record->set_parent(keys::NumberAt(next, 8));
  record->set_name(next.substr(16));
  c.txn().Delete(Family::kLinks, next);
}

void MoveLink(Context& c, InodeId inode, proto::InodeRecord* record, InodeId directory, std::string_view name,
              InodeId new_directory, std::string_view new_name) {
  if (record->parent() == directory.value() && record->name() == name) {
    record->set_parent(new_directory.value());
    record->set_name(std::string(new_name));
  } else {
    c.txn().Delete(Family::kLinks, keys::Link(inode, directory, name));
    c.txn().Put(Family::kLinks, keys::Link(inode, new_directory, new_name), "");
  }
}

void DropName(Context& c, InodeId inode, proto::InodeRecord* record, InodeId directory, std::string_view name,
              bool open_here) {
  RemoveLink(c, inode, record, directory, name);
  record->set_nlink(record->nlink() - 1);
  c.Touch(record);
  c.effects().inodes.push_back(inode);
  if (record->nlink() > 0) {
    SaveInode(&c.txn(), inode, *record);
    return;
  }
  // What this session said before about the inode being open is settled by what it says now.
  if (c.session()) RemoveHold(c, inode, c.session());
  if (open_here && c.session()) AddHold(c, inode, c.session());
  for (const proto::SessionOpens& open : c.command().opens()) {
    if (open.inode() == inode.value()) AddHold(c, inode, SessionId(open.session()));
  }
  // Its holders write back what they have, as for any file that stays.
  if (KeepInTrash(c, inode, *record, directory, name)) return;
  c.effects().last_name_gone.push_back(inode);
  if (HoldersOf(c.txn(), inode).empty()) {
    RemoveInode(c, inode, *record, /*deleted_by_quorum=*/true);
    return;
  }
  SaveInode(&c.txn(), inode, *record);
  c.txn().Put(Family::kOrphans, keys::Inode(inode), "");
  c.effects().orphans.push_back(inode);
}

void SetKept(Context& c, InodeId inode, proto::RemoveResult* result) {
  result->set_in_trash(inode && InTrash(c.txn(), inode));
  bool held = !c.effects().orphans.empty();
  if (result->in_trash()) {
    const std::vector<SessionId> holders = HoldersOf(c.txn(), inode);
    held = std::find(holders.begin(), holders.end(), c.session()) != holders.end();
  }
  result->set_orphaned(held);
}

void RemoveInode(Context& c, InodeId inode, const proto::InodeRecord& record, bool deleted_by_quorum) {
  if (IsRegular(record)) DeleteChunks(c, inode, /*first=*/0, deleted_by_quorum);
  EndWriteLease(c, inode);
  for (const SessionId session : HoldersOf(c.txn(), inode)) RemoveHold(c, inode, session);
  DropFromTrash(c, inode);
  const std::string prefix = keys::Inode(inode);
  if (record.xattrs() > 0) {
    std::vector<std::string> names;
    for (auto it = c.txn().Scan(Family::kXattrs, prefix, keys::After(prefix)); it->Valid(); it->Next())
      names.emplace_back(it->key());
    for (const std::string& key : names) c.txn().Delete(Family::kXattrs, key);
  }
  if (IsDirectory(record) && c.txn().Get(Family::kPolicies, prefix)) {
    c.txn().Delete(Family::kPolicies, prefix);
    c.ChangeCounters(0, 0, 0, -1);
  }
  c.txn().Delete(Family::kOrphans, prefix);
  c.txn().Delete(Family::kInodes, prefix);
  c.ChangeCounters(-1, 0, 0, 0);
  c.effects().inodes_removed.push_back(inode);
}

void AddHold(Context& c, InodeId inode, SessionId session) {
  // A session that ended meanwhile has nothing open; its hold would keep the inode for ever.
  if (!c.txn().Get(Family::kSessions, keys::Session(session))) return;
  c.txn().Put(Family::kHolds, keys::Hold(inode, session), "");
  c.txn().Put(Family::kSessionRefs, keys::Ref(session, keys::SessionRef::kHold, inode), "");
}

void RemoveHold(Context& c, InodeId inode, SessionId session) {
  const std::string key = keys::Hold(inode, session);
  if (!c.txn().Get(Family::kHolds, key)) return;
  c.txn().Delete(Family::kHolds, key);
  c.txn().Delete(Family::kSessionRefs, keys::Ref(session, keys::SessionRef::kHold, inode));
}

}  // namespace cairn::master
