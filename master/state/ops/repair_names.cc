// Repairs of names: what leads to an inode, and what the inode knows of it.
#include <algorithm>
#include <string>
#include <utility>

#include "master/state/chunk_queries.h"
#include "master/state/namespace_ops.h"
#include "master/state/ops/repair.h"
#include "master/state/queries.h"
#include "master/state/records.h"
#include "master/state/trash.h"

namespace cairn::master {
namespace {

constexpr char kLostAndFound[] = "lost+found";

std::string Where(InodeId directory, std::string_view name) {
  return "'" + ReadableName(name) + "' in directory " + ToString(directory);
}

bool HasAny(const MetaReader& reader, Family family, InodeId inode) {
  const std::string prefix = keys::Inode(inode);
  return reader.Scan(family, prefix, keys::After(prefix))->Valid();
}

bool LeadsTo(const MetaReader& reader, InodeId directory, std::string_view name, InodeId inode) {
  const auto dentry = LoadDentry(reader, directory, name);
  return dentry && dentry->inode() == inode.value();
}

size_t LinkCount(const MetaReader& reader, InodeId inode) {
  const std::string prefix = keys::Inode(inode);
  size_t count = 0;
  for (auto it = reader.Scan(Family::kLinks, prefix, keys::After(prefix)); it->Valid(); it->Next()) ++count;
  return count;
}

// Where the name may be made anew: the directory is there, the name is free, and no directory would come to lie in itself.
bool PlaceIsFree(Context& c, InodeId directory, std::string_view name, InodeId inode, const proto::InodeRecord& record) {
  return OpenDirectory(c.txn(), directory).ok() && CheckName(name).ok() && !LoadDentry(c.txn(), directory, name) &&
         !(IsDirectory(record) && IsBelow(c.txn(), directory, inode));
}

Status PutName(Context& c, InodeId directory, std::string_view name, InodeId inode, proto::FileType type) {
  CAIRN_ASSIGN_OR_RETURN(Directory parent, OpenDirectory(c.txn(), directory));
  AddEntry(c, &parent, name, inode, type);
  c.TouchEntries(&parent.record);
  SaveDirectory(c, parent);
  return Status::Ok();
}

// Counts that are wrong already stay so; the check finds them by themselves.
void TakeNameAway(Context& c, InodeId directory, std::string_view name, const proto::DentryRecord& dentry) {
  c.txn().Delete(Family::kDentries, keys::Dentry(directory, name));
  const std::string number = keys::DirIndex(directory, dentry.entry());
  const auto index = Load<proto::DirIndexRecord>(c.txn(), Family::kDirIndex, number);
  if (index && index->name() == name) c.txn().Delete(Family::kDirIndex, number);
  auto record = LoadDirectory(c.txn(), directory);
  if (!record.ok()) return;
  if (record->size() > 0) record->set_size(record->size() - 1);
  if (dentry.type() == proto::DIRECTORY && record->nlink() > 2) record->set_nlink(record->nlink() - 1);
  c.TouchEntries(&*record);
  SaveDirectory(c, {directory, *std::move(record)});
}

// lost+found below the root, made when it is needed: for root alone, as what is found there had rights of its own.
Result<InodeId> LostAndFound(Context& c) {
  if (const auto dentry = LoadDentry(c.txn(), kRootInode, kLostAndFound)) {
    if (OpenDirectory(c.txn(), InodeId(dentry->inode())).ok()) return InodeId(dentry->inode());
    return NotRepairable("it would go to /lost+found, which is no directory: give that another name");
  }
  CAIRN_ASSIGN_OR_RETURN(Directory root, OpenDirectory(c.txn(), kRootInode));
  CAIRN_ASSIGN_OR_RETURN(auto made, NewInode(c, &root, kLostAndFound, proto::DIRECTORY, 0700));
  SaveInode(&c.txn(), made.first, made.second);
  SaveDirectory(c, root);
  return made.first;
}

// Names the inode in lost+found and in its record, which the caller saves.
Result<std::string> Reconnect(Context& c, InodeId inode, proto::InodeRecord* record) {
  CAIRN_ASSIGN_OR_RETURN(const InodeId found, LostAndFound(c));
  std::string name = "#" + ToString(inode);
  for (int n = 1; LoadDentry(c.txn(), found, name); ++n) name = "#" + ToString(inode) + "." + std::to_string(n);
  CAIRN_RETURN_IF_ERROR(PutName(c, found, name, inode, record->type()));
  record->set_parent(found.value());
  record->set_name(name);
  return "it is now /lost+found/" + name;
}

// A directory whose record is lost while its entries are there. Who may use it is not known: root.
Status RebuildDirectory(Context& c, InodeId inode, InodeId parent, std::string_view name) {
  proto::InodeRecord record;
  record.set_type(proto::DIRECTORY);
  record.set_mode(0700);
  record.set_nlink(2);
  *record.mutable_atime() = c.now();
  *record.mutable_mtime() = c.now();
  *record.mutable_ctime() = c.now();
  *record.mutable_btime() = c.now();
  record.set_generation(1);
  record.set_parent(parent.value());
  record.set_name(std::string(name));
  const std::string prefix = keys::Inode(inode);
  for (auto it = c.txn().Scan(Family::kDentries, prefix, keys::After(prefix)); it->Valid(); it->Next()) {
    proto::DentryRecord dentry;
    if (!dentry.ParseFromArray(it->value().data(), static_cast<int>(it->value().size()))) continue;
    record.set_size(record.size() + 1);
    if (dentry.type() == proto::DIRECTORY) record.set_nlink(record.nlink() + 1);
    record.set_last_entry(record.last_entry() == 0 ? dentry.entry() : std::min(record.last_entry(), dentry.entry()));
  }
  if (const auto first = c.txn().Scan(Family::kDirIndex, prefix, keys::After(prefix)); first->Valid())
    record.set_last_entry(std::min(record.last_entry(), keys::NumberAt(first->key(), 8)));
  for (auto it = c.txn().Scan(Family::kXattrs, prefix, keys::After(prefix)); it->Valid(); it->Next())
    record.set_xattrs(record.xattrs() + 1);
  SaveInode(&c.txn(), inode, record);
  c.ChangeCounters(+1, 0, 0, 0);
  c.effects().directories.push_back(inode);
  return Status::Ok();
}

// An inode that has names gets one of them into its record: its own word first, then another name that it knows, then lost+found.
Result<std::string> NameAgain(Context& c, InodeId inode, proto::InodeRecord record, bool alone) {
  const InodeId parent(record.parent());
  const size_t links = IsDirectory(record) ? 0 : LinkCount(c.txn(), inode);
  const std::string prefix = keys::Inode(inode);
  std::string other;  // a name beyond the recorded one that leads to it
  if (!IsDirectory(record)) {
    for (auto it = c.txn().Scan(Family::kLinks, prefix, keys::After(prefix)); it->Valid() && other.empty(); it->Next()) {
      if (LeadsTo(c.txn(), InodeId(keys::NumberAt(it->key(), 8)), it->key().substr(16), inode)) other = it->key();
    }
  }
  std::string done;
  if (alone && PlaceIsFree(c, parent, record.name(), inode, record) && (other.empty() || record.nlink() == links + 1)) {
    CAIRN_RETURN_IF_ERROR(PutName(c, parent, record.name(), inode, record.type()));
    done = "its name " + Where(parent, record.name()) + " leads to it again";
  } else if (!other.empty()) {
    record.set_parent(keys::NumberAt(other, 8));
    record.set_name(other.substr(16));
    c.txn().Delete(Family::kLinks, other);
    done = "its name is " + Where(InodeId(record.parent()), record.name());
  } else if (alone) {
    CAIRN_ASSIGN_OR_RETURN(done, Reconnect(c, inode, &record));
  } else {
    return NotRepairable("a name that it does not know leads to it: when that is repaired this is, too; check again");
  }
  c.Touch(&record);
  SaveInode(&c.txn(), inode, record);
  c.effects().inodes.push_back(inode);
  return done;
}

// Whether what the record holds, beside its type, belongs to an inode of that type.
bool Fits(Context& c, InodeId inode, const proto::InodeRecord& record, proto::FileType type) {
  const bool regular = record.chunk_bytes() != 0 || HasAny(c.txn(), Family::kInodeChunks, inode);
  const bool symlink = !record.symlink_target().empty();
  const bool directory = HasAny(c.txn(), Family::kDentries, inode) || record.last_entry() != 0;
  const bool device = record.rdev() != 0;
  switch (type) {
    case proto::REGULAR:
      return regular && !symlink && !directory && !device;
    case proto::SYMLINK:
      return symlink && !regular && !directory && !device;
    case proto::DIRECTORY:
      return !regular && !symlink && !device && (directory || record.nlink() >= 2);
    default:
      return !regular && !symlink && !directory;
  }
}

}  // namespace

Result<std::string> RepairMissingInode(Context& c, const RepairSubject& subject) {
  if (subject.family == Family::kHolds) return RepairHold(c, subject);
  const InodeId directory(keys::NumberAt(subject.key, 0));
  const std::string name(subject.key.substr(8));
  if (!InodeExists(c.txn(), directory)) {
    // Names below a directory whose record is lost. Who leads to it is repaired first, if somebody does.
    if (!subject.alone) return NotRepairable("its directory is lost, and a name leads to that: when it is repaired this is, too");
    CAIRN_RETURN_IF_ERROR(RebuildDirectory(c, directory, kRootInode, ""));
    CAIRN_ASSIGN_OR_RETURN(proto::InodeRecord record, LoadInode(c.txn(), directory));
    CAIRN_ASSIGN_OR_RETURN(const std::string where, Reconnect(c, directory, &record));
    SaveInode(&c.txn(), directory, record);
    return "the directory, inode " + ToString(directory) + ", is there again, for root only: " + where;
  }
  const proto::DentryRecord dentry = *LoadDentry(c.txn(), directory, name);
  const InodeId inode(dentry.inode());
  if (HasAny(c.txn(), Family::kDentries, inode) && dentry.type() == proto::DIRECTORY) {
    CAIRN_RETURN_IF_ERROR(RebuildDirectory(c, inode, directory, name));
    return std::string("the directory is there again with its entries, for root only: owner and mode are lost");
  }
  if (!subject.alone || HasAny(c.txn(), Family::kInodeChunks, inode) || HasAny(c.txn(), Family::kDentries, inode)) {
    return NotRepairable("the record of inode " + ToString(inode) + " is lost while its data is there: owner, mode and chunk size are written "
                         "nowhere else. Nothing of it is deleted; restore the metadata from a backup (cairn master restore)");
  }
  TakeNameAway(c, directory, name, dentry);
  return "the name is removed: nothing of inode " + ToString(inode) + " is left";
}

Result<std::string> RepairWrongParent(Context& c, const RepairSubject& subject) {
  const InodeId inode(keys::NumberAt(subject.key, 0));
  CAIRN_ASSIGN_OR_RETURN(proto::InodeRecord record, LoadInode(c.txn(), inode));
  return NameAgain(c, inode, std::move(record), subject.alone);
}

Result<std::string> RepairWrongType(Context& c, const RepairSubject& subject) {
  const InodeId directory(keys::NumberAt(subject.key, 0));
  const std::string_view name = subject.key.substr(8);
  proto::DentryRecord dentry = *LoadDentry(c.txn(), directory, name);
  const InodeId inode(dentry.inode());
  CAIRN_ASSIGN_OR_RETURN(proto::InodeRecord record, LoadInode(c.txn(), inode));
  const bool by_record = Fits(c, inode, record, record.type());
  const bool by_name = Fits(c, inode, record, dentry.type());
  if (by_record == by_name) {
    return NotRepairable(std::string("what the inode holds ") + (by_record ? "fits both types" : "fits neither type") +
                         ": which is right is written nowhere; restore the metadata from a backup, or remove the name");
  }
  c.effects().inodes.push_back(inode);
  c.effects().directories.push_back(directory);
  if (by_name) {
    record.set_type(dentry.type());
    c.Touch(&record);
    SaveInode(&c.txn(), inode, record);
    return std::string("the inode has the type of its name: that is what it holds");
  }
  dentry.set_type(record.type());
  Save(&c.txn(), Family::kDentries, subject.key, dentry);
  const std::string number = keys::DirIndex(directory, dentry.entry());
  if (auto index = Load<proto::DirIndexRecord>(c.txn(), Family::kDirIndex, number); index && index->name() == name) {
    index->set_type(record.type());
    Save(&c.txn(), Family::kDirIndex, number, *index);
  }
  return std::string("the name has the type of the inode: that is what it holds");
}

Result<std::string> RepairMissingLink(Context& c, const RepairSubject& subject) {
  const InodeId directory(keys::NumberAt(subject.key, 0));
  const std::string name(subject.key.substr(8));
  const proto::DentryRecord dentry = *LoadDentry(c.txn(), directory, name);
  const InodeId inode(dentry.inode());
  CAIRN_ASSIGN_OR_RETURN(proto::InodeRecord record, LoadInode(c.txn(), inode));
  const bool has_name = record.nlink() > 0 && LeadsTo(c.txn(), InodeId(record.parent()), record.name(), inode);
  if (IsDirectory(record) && has_name) {
    TakeNameAway(c, directory, name, dentry);
    c.effects().inodes.push_back(inode);
    return "the name is removed: a directory has one, and this one stays " + PathOf(c.txn(), inode);
  }
  if (IsDirectory(record) && (directory == inode || IsBelow(c.txn(), directory, inode)))
    return NotRepairable("the directory would lie in itself: remove the name, or restore the metadata from a backup");
  if (record.nlink() == 0) {
    // The name was not removed, so neither was the file.
    record.set_nlink(IsDirectory(record) ? 2 : 1);
    DropFromTrash(c, inode);
    c.txn().Delete(Family::kOrphans, keys::Inode(inode));
  }
  if (has_name) {
    c.txn().Put(Family::kLinks, keys::Link(inode, directory, name), "");
  } else {
    record.set_parent(directory.value());
    record.set_name(name);
  }
  c.Touch(&record);
  SaveInode(&c.txn(), inode, record);
  c.effects().inodes.push_back(inode);
  return std::string("the inode knows the name");
}

Result<std::string> RepairStrayLink(Context& c, const RepairSubject& subject) {
  const InodeId inode(keys::NumberAt(subject.key, 0));
  const InodeId directory(keys::NumberAt(subject.key, 8));
  const std::string name(subject.key.substr(16));
  const auto record = InodeRecordOf(c.txn(), inode);
  // The link count tells a name that was lost from one that never was.
  if (record && record->nlink() == 1 + LinkCount(c.txn(), inode) && PlaceIsFree(c, directory, name, inode, *record)) {
    CAIRN_RETURN_IF_ERROR(PutName(c, directory, name, inode, record->type()));
    c.effects().inodes.push_back(inode);
    return "the name " + Where(directory, name) + " leads to it again, as its link count says";
  }
  c.txn().Delete(Family::kLinks, subject.key);
  c.effects().inodes.push_back(inode);
  return "the inode does not list the name " + Where(directory, name) + " any more";
}

Result<std::string> RepairMissingIndex(Context& c, const RepairSubject& subject) {
  const InodeId directory(keys::NumberAt(subject.key, 0));
  const std::string name(subject.key.substr(8));
  proto::DentryRecord dentry = *LoadDentry(c.txn(), directory, name);
  CAIRN_ASSIGN_OR_RETURN(Directory parent, OpenDirectory(c.txn(), directory));
  if (const auto taken =
          Load<proto::DirIndexRecord>(c.txn(), Family::kDirIndex, keys::DirIndex(directory, dentry.entry()))) {
    const auto owner = LoadDentry(c.txn(), directory, taken->name());
    if (owner && taken->name() != name && owner->entry() == dentry.entry()) {  // another entry's number
      parent.record.set_last_entry(parent.record.last_entry() - 1);
      dentry.set_entry(parent.record.last_entry());
      Save(&c.txn(), Family::kDentries, subject.key, dentry);
    }
  }
  proto::DirIndexRecord index;
  index.set_name(name);
  index.set_inode(dentry.inode());
  index.set_type(dentry.type());
  Save(&c.txn(), Family::kDirIndex, keys::DirIndex(directory, dentry.entry()), index);
  c.Touch(&parent.record);
  SaveDirectory(c, parent);
  return std::string("listings of the directory show it again");
}

Result<std::string> RepairStrayIndex(Context& c, const RepairSubject& subject) {
  const InodeId directory(keys::NumberAt(subject.key, 0));
  const uint64_t entry = keys::NumberAt(subject.key, 8);
  const auto index = *Load<proto::DirIndexRecord>(c.txn(), Family::kDirIndex, subject.key);
  const InodeId inode(index.inode());
  c.effects().directories.push_back(directory);
  const auto record = InodeRecordOf(c.txn(), inode);
  const bool known = record && record->nlink() > 0 &&
                     ((record->parent() == directory.value() && record->name() == index.name()) ||
                      c.txn().Get(Family::kLinks, keys::Link(inode, directory, index.name())).has_value());
  if (known && PlaceIsFree(c, directory, index.name(), inode, *record)) {
    proto::DentryRecord dentry;  // counted already: only this record was lost
    dentry.set_inode(index.inode());
    dentry.set_type(record->type());
    dentry.set_entry(entry);
    Save(&c.txn(), Family::kDentries, keys::Dentry(directory, index.name()), dentry);
    c.effects().inodes.push_back(inode);
    return "the name " + Where(directory, index.name()) + " leads to inode " + ToString(inode) + " again";
  }
  c.txn().Delete(Family::kDirIndex, subject.key);
  return std::string("listings do not show it any more");
}

Result<std::string> RepairStrayOrphan(Context& c, const RepairSubject& subject) {
  const InodeId inode(keys::NumberAt(subject.key, 0));
  if (subject.family == Family::kOrphans) {
    c.txn().Delete(Family::kOrphans, subject.key);
    return std::string("it is taken from the list of orphans");
  }
  CAIRN_ASSIGN_OR_RETURN(proto::InodeRecord record, LoadInode(c.txn(), inode));
  if (record.parent() != 0) {
    // A file that lost its last name has none in its record: what is wrong is the link count.
    record.set_nlink(1);
    if (!LeadsTo(c.txn(), InodeId(record.parent()), record.name(), inode))
      return NameAgain(c, inode, std::move(record), subject.alone);
    c.Touch(&record);
    SaveInode(&c.txn(), inode, record);
    c.effects().inodes.push_back(inode);
    return std::string("it has a name: the link count becomes 1 (was 0)");
  }
  if (!subject.alone) return NotRepairable("a name still leads to it: when that is repaired this is, too; check again");
  c.txn().Put(Family::kOrphans, keys::Inode(inode), "");
  NoteReleased(c, inode);
  return std::string("it is in the list of orphans: deleted once nobody has it open");
}

}  // namespace cairn::master
