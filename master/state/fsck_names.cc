// The part of the metadata check that looks at names, inodes, the trash and policies.
#include "master/state/fsck_checker.h"

#include <algorithm>
#include <string>

#include "master/state/queries.h"
#include "master/state/records.h"
#include "master/state/trash.h"

namespace cairn::master {

void FsckChecker::CheckInode(InodeId inode, const proto::InodeRecord& record) {
  ++totals_.inodes;
  if (!Covers(inode)) return;
  response_->set_inodes_checked(response_->inodes_checked() + 1);
  const size_t xattrs = CountKeys(Family::kXattrs, keys::Key(inode));
  if (xattrs != record.xattrs()) {
    Report(
        "wrong-xattr-count", inode, {},
        "the record counts " + std::to_string(record.xattrs()) + ", there are " + std::to_string(xattrs));
  }
  if (inode != kRootInode && record.nlink() > 0) {
    const auto dentry = LoadDentry(reader_, InodeId(record.parent()), record.name());
    if (!dentry || dentry->inode() != inode.value()) {
      Report("wrong-parent", inode, {},
             "its recorded name '" + record.name() + "' in directory " + std::to_string(record.parent()) +
                 " does not lead to it");
    }
  }
  if (IsDirectory(record)) {
    CheckDirectory(inode, record);
  } else if (record.nlink() > 0) {
    const size_t names = 1 + CountKeys(Family::kLinks, keys::Key(inode));
    if (names != record.nlink()) {
      Report("wrong-nlink", inode, {},
             "the link count is " + std::to_string(record.nlink()) + ", there are " +
                 std::to_string(names) + " names");
    }
  } else if (!reader_.Get(Family::kOrphans, keys::Inode(inode))) {
    Report("stray-orphan", inode, {},
           "it has no name and is not in the list of orphans: nothing would reclaim it");
  }
  if (IsRegular(record)) CheckContent(inode, record);
}

void FsckChecker::CheckDirectory(InodeId inode, const proto::InodeRecord& record) {
  uint64_t entries = 0;
  uint32_t subdirectories = 0;
  const std::string prefix = keys::Key(inode);
  for (auto it = reader_.Scan(Family::kDentries, prefix, keys::After(prefix)); it->Valid(); it->Next()) {
    ++entries;
    if (ParseStored<proto::DentryRecord>(it->value()).type() == proto::DIRECTORY) ++subdirectories;
  }
  if (entries != record.size()) {
    Report("wrong-entry-count", inode, {},
           "the record counts " + std::to_string(record.size()) + " entries, there are " +
               std::to_string(entries));
  }
  if (record.nlink() != 0 && record.nlink() != subdirectories + 2) {
    Report("wrong-nlink", inode, {},
           "the link count is " + std::to_string(record.nlink()) + ", there are " +
               std::to_string(subdirectories) + " subdirectories");
  }
}

void FsckChecker::CheckDentry(InodeId directory, std::string_view name, const proto::DentryRecord& dentry) {
  if (!Covers(directory)) return;
  const InodeId inode(dentry.inode());
  const std::string quoted = "'" + std::string(name) + "' in directory " + ToString(directory);
  if (!InodeExists(reader_, directory)) Report("missing-inode", directory, {}, quoted + ": the directory does not exist");
  const auto record = InodeRecordOf(reader_, inode);
  if (!record)
    return Report("missing-inode", directory, {},
                  quoted + " leads to inode " + ToString(inode) + ", which does not exist", inode);
  if (record->type() != dentry.type())
    Report("wrong-type", inode, {}, quoted + " names another type than the inode has");
  const auto index =
      Load<proto::DirIndexRecord>(reader_, Family::kDirIndex, keys::DirIndex(directory, dentry.entry()));
  if (!index || index->name() != name || index->inode() != dentry.inode()) {
    Report("missing-index", directory, {},
           quoted + " is not listed under its number " + std::to_string(dentry.entry()));
  }
  const bool primary = InodeId(record->parent()) == directory && record->name() == name;
  if (!primary && !reader_.Get(Family::kLinks, keys::Link(inode, directory, name))) {
    Report("missing-link", inode, {}, quoted + " is not among the names that the inode knows", inode);
  }
}

void FsckChecker::CheckDirIndex(InodeId directory, uint64_t entry, const proto::DirIndexRecord& index) {
  if (!Covers(directory)) return;
  const auto dentry = LoadDentry(reader_, directory, index.name());
  if (!dentry || dentry->entry() != entry) {
    Report("stray-index", directory, {},
           "number " + std::to_string(entry) + " lists '" + index.name() +
               "', which is not an entry of that number");
  }
}

void FsckChecker::CheckLink(InodeId inode, InodeId directory, std::string_view name) {
  if (!Covers(directory)) return;
  const auto dentry = LoadDentry(reader_, directory, name);
  if (!dentry || dentry->inode() != inode.value()) {
    Report("stray-link", inode, {},
           "the name '" + std::string(name) + "' in directory " + ToString(directory) +
               " does not lead to the inode");
  }
}

void FsckChecker::CheckOrphan(InodeId inode) {
  if (root_ != kRootInode) return;
  const auto record = InodeRecordOf(reader_, inode);
  if (!record || record->nlink() != 0) {
    Report("stray-orphan", inode, {},
           record ? "it is listed as an orphan but has names" : "an orphan without an inode");
  }
}

void FsckChecker::CheckXattr(InodeId inode, std::string_view name) {
  if (root_ != kRootInode || InodeExists(reader_, inode)) return;
  Report("stray-xattr", inode, {}, "the attribute '" + std::string(name) + "' belongs to an inode that does not exist");
}

void FsckChecker::CheckPolicy(InodeId inode) {
  ++totals_.policies;
  if (root_ != kRootInode) return;
  const auto record = InodeRecordOf(reader_, inode);
  if (!record || !IsDirectory(*record))
    Report("stray-policy", inode, {}, "it has a policy of its own and is no directory");
}

// What is in the trash is an orphan, and is on both lists that end it.
void FsckChecker::CheckTrash(std::string_view key) {
  if (root_ != kRootInode) return;
  const bool listed = key[0] != static_cast<char>(keys::TrashList::kInode);
  const InodeId inode(keys::NumberAt(key, listed ? 9 : 1));
  if (listed) {
    if (!InTrash(reader_, inode))
      Report("stray-trash", inode, {}, "it is on a list of the trash but not in it");
    return;
  }
  const auto record = InodeRecordOf(reader_, inode);
  ++totals_.trash_inodes;
  totals_.trash_bytes += TrashRecordOf(reader_, inode)->bytes();
  if (!record || record->nlink() != 0 || !reader_.Get(Family::kOrphans, keys::Inode(inode)))
    return Report("stray-trash", inode, {},
                  record ? "it is in the trash but no orphan" : "an entry of the trash without an inode");
  const auto trash = TrashRecordOf(reader_, inode);
  const auto seconds = static_cast<uint64_t>(std::max<int64_t>(0, trash->expires().seconds()));
  if (!reader_.Get(Family::kTrash, keys::TrashListed(keys::TrashList::kExpiry, seconds, inode)))
    Report("stray-trash", inode, {}, "it is in the trash but would never expire");
}

}  // namespace cairn::master
