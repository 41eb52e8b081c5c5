#include "master/state/trash.h"

#include <algorithm>
#include <string>
#include <utility>

#include "master/state/chunk_queries.h"
#include "master/state/queries.h"
#include "master/state/records.h"

namespace cairn::master {
namespace {

constexpr uint32_t kMaxListed = 4096;

// A directory whose parent was purged before it: nothing but the root's policy is known then.
uint64_t SecondsKept(const MetaReader& reader, InodeId directory) {
  const auto policy = EffectivePolicy(reader, directory);
  return policy.ok() ? policy->trash_seconds() : 0;
}

void ChangeTrashCounters(Context& c, int64_t inodes, uint64_t bytes) {
  proto::Counters counters = LoadCounters(c.txn());
  if (inodes > 0) {
    counters.set_trash_inodes(counters.trash_inodes() + 1);
    counters.set_trash_bytes(counters.trash_bytes() + bytes);
  } else {
    counters.set_trash_inodes(counters.trash_inodes() - 1);
    counters.set_trash_bytes(counters.trash_bytes() - bytes);
  }
  Save(&c.txn(), Family::kMeta, keys::kCounters, counters);
}

uint64_t Sortable(const proto::Time& time) {
  return static_cast<uint64_t>(std::max<int64_t>(0, time.seconds()));
}

std::vector<InodeId> InOrder(const MetaReader& reader, keys::TrashList list, std::string upper,
                             size_t limit) {
  std::vector<InodeId> out;
  const std::string prefix(1, static_cast<char>(list));
  if (upper.empty()) upper = keys::After(prefix);
  for (auto it = reader.Scan(Family::kTrash, prefix, upper); it->Valid() && out.size() < limit; it->Next()) {
    out.push_back(InodeId(keys::NumberAt(it->key(), 9)));
  }
  return out;
}

bool MayTouch(const proto::TrashRecord& trash, const proto::InodeRecord& record,
              const proto::Credentials& caller) {
  return caller.uid() == 0 || caller.uid() == trash.deleted_by() || caller.uid() == record.uid();
}

}  // namespace

std::optional<proto::TrashRecord> TrashRecordOf(const MetaReader& reader, InodeId inode) {
  return Load<proto::TrashRecord>(reader, Family::kTrash, keys::Trash(inode));
}

bool IsHeld(const MetaReader& reader, InodeId inode) {
  return !HoldersOf(reader, inode).empty() || reader.Get(Family::kTrash, keys::Trash(inode)).has_value();
}

bool KeepInTrash(Context& c, InodeId inode, const proto::InodeRecord& record, InodeId directory,
                 std::string_view name) {
  const bool worth = IsRegular(record) || IsDirectory(record) || record.type() == proto::SYMLINK;
  const uint64_t seconds = worth ? SecondsKept(c.txn(), directory) : 0;
  if (seconds == 0) return false;
  proto::TrashRecord trash;
  trash.set_parent(directory.value());
  trash.set_name(std::string(name));
  const std::string above = PathOf(c.txn(), directory);
  trash.set_path((above == "/" ? "" : above) + "/" + std::string(name));
  trash.set_deleted_by(c.caller().uid());
  *trash.mutable_deleted() = c.now();
  *trash.mutable_expires() = c.now();
  trash.mutable_expires()->set_seconds(c.now().seconds() + static_cast<int64_t>(seconds));
  trash.set_bytes(record.allocated_bytes());
  Save(&c.txn(), Family::kTrash, keys::Trash(inode), trash);
  c.txn().Put(Family::kTrash, keys::TrashListed(keys::TrashList::kExpiry, Sortable(trash.expires()), inode),
              "");
  c.txn().Put(Family::kTrash, keys::TrashListed(keys::TrashList::kDeleted, Sortable(trash.deleted()), inode),
              "");
  c.txn().Put(Family::kOrphans, keys::Inode(inode), "");
  SaveInode(&c.txn(), inode, record);
  ChangeTrashCounters(c, +1, trash.bytes());
  return true;
}

void DropFromTrash(Context& c, InodeId inode) {
  const auto trash = TrashRecordOf(c.txn(), inode);
  if (!trash) return;
  c.txn().Delete(Family::kTrash, keys::Trash(inode));
  c.txn().Delete(Family::kTrash,
                 keys::TrashListed(keys::TrashList::kExpiry, Sortable(trash->expires()), inode));
  c.txn().Delete(Family::kTrash,
                 keys::TrashListed(keys::TrashList::kDeleted, Sortable(trash->deleted()), inode));
  ChangeTrashCounters(c, -1, trash->bytes());
}

void CountTrashAnew(Context& c, InodeId inode, const proto::InodeRecord& record) {
  auto trash = TrashRecordOf(c.txn(), inode);
  if (!trash || trash->bytes() == record.allocated_bytes()) return;
  proto::Counters counters = LoadCounters(c.txn());
  counters.set_trash_bytes(counters.trash_bytes() - trash->bytes() + record.allocated_bytes());
  Save(&c.txn(), Family::kMeta, keys::kCounters, counters);
  trash->set_bytes(record.allocated_bytes());
  Save(&c.txn(), Family::kTrash, keys::Trash(inode), *trash);
}

void NoteReleased(Context& c, InodeId inode) {
  if (c.txn().Get(Family::kOrphans, keys::Inode(inode)) && !IsHeld(c.txn(), inode)) {
    c.effects().orphans_released.push_back(inode);
  }
}

Result<proto::TrashListResult> ListTrash(const MetaReader& reader, const proto::TrashListOp& op,
                                         const proto::Credentials& caller) {
  proto::TrashListResult result;
  const uint32_t limit = op.max_entries() == 0 ? kMaxListed : std::min(op.max_entries(), kMaxListed);
  const std::string prefix(1, static_cast<char>(keys::TrashList::kInode));
  result.set_end(true);
  for (auto it = reader.Scan(Family::kTrash, keys::Trash(InodeId(op.after() + 1)), keys::After(prefix));
       it->Valid(); it->Next()) {
    if (static_cast<uint32_t>(result.entries_size()) >= limit) {
      result.set_end(false);
      break;
    }
    const InodeId inode(keys::NumberAt(it->key(), 1));
    const auto trash = TrashRecordOf(reader, inode);
    const auto record = InodeRecordOf(reader, inode);
    if (!trash || !record || !MayTouch(*trash, *record, caller)) continue;
    proto::TrashEntry* entry = result.add_entries();
    entry->set_inode(inode.value());
    entry->set_path(trash->path());
    entry->set_type(record->type());
    entry->set_size(IsDirectory(*record) ? 0 : record->size());
    entry->set_owner(record->uid());
    entry->set_deleted_by(trash->deleted_by());
    *entry->mutable_deleted() = trash->deleted();
    *entry->mutable_expires() = trash->expires();
    entry->set_parent(trash->parent());
  }
  return result;
}

std::vector<InodeId> ExpiredTrash(const MetaReader& reader, int64_t now_seconds, size_t limit) {
  return InOrder(
      reader, keys::TrashList::kExpiry,
      keys::Key(static_cast<char>(keys::TrashList::kExpiry), static_cast<uint64_t>(now_seconds) + 1), limit);
}

std::vector<InodeId> OldestTrash(const MetaReader& reader, size_t limit) {
  return InOrder(reader, keys::TrashList::kDeleted, "", limit);
}

TrashUse TrashUseOf(const MetaReader& reader) {
  const proto::Counters counters = LoadCounters(reader);
  return {counters.trash_inodes(), counters.trash_bytes()};
}

}  // namespace cairn::master
