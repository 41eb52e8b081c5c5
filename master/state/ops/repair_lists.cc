// Repairs of what is listed for sessions, of the trash, and of what belongs to an inode that is gone.
#include <algorithm>
#include <string>

#include "master/state/chunk_ops.h"
#include "master/state/chunk_queries.h"
#include "master/state/namespace_ops.h"
#include "master/state/ops/repair.h"
#include "master/state/queries.h"
#include "master/state/records.h"
#include "master/state/trash.h"

namespace cairn::master {

Result<std::string> RepairHold(Context& c, const RepairSubject& subject) {
  const InodeId inode(keys::NumberAt(subject.key, 0));
  const SessionId session(keys::NumberAt(subject.key, 8));
  const std::string ref = keys::Ref(session, keys::SessionRef::kHold, inode);
  if (InodeExists(c.txn(), inode) && SessionRecordOf(c.txn(), session)) {
    c.txn().Put(Family::kSessionRefs, ref, "");
    return "the hold is in the list of session " + ToString(session);
  }
  c.txn().Delete(Family::kHolds, subject.key);
  c.txn().Delete(Family::kSessionRefs, ref);
  NoteReleased(c, inode);
  return "the hold of session " + ToString(session) + " has ended";
}

Result<std::string> RepairStrayTrash(Context& c, const RepairSubject& subject) {
  const bool listed = subject.key[0] != static_cast<char>(keys::TrashList::kInode);
  if (listed) {
    c.txn().Delete(Family::kTrash, subject.key);
    return std::string("the entry of the list is removed; the inode is not touched");
  }
  const InodeId inode(keys::NumberAt(subject.key, 1));
  const auto record = InodeRecordOf(c.txn(), inode);
  if (!record || record->nlink() != 0) {
    DropFromTrash(c, inode);
    return std::string("it is not in the trash any more") + (record ? "; the file stays where its names are" : "");
  }
  const proto::TrashRecord trash = *TrashRecordOf(c.txn(), inode);
  const auto seconds = [](const proto::Time& time) {
    return static_cast<uint64_t>(std::max<int64_t>(0, time.seconds()));
  };
  c.txn().Put(Family::kOrphans, keys::Inode(inode), "");
  c.txn().Put(Family::kTrash, keys::TrashListed(keys::TrashList::kExpiry, seconds(trash.expires()), inode), "");
  c.txn().Put(Family::kTrash, keys::TrashListed(keys::TrashList::kDeleted, seconds(trash.deleted()), inode), "");
  return std::string("it is in the lists that end its time in the trash");
}

Result<std::string> RepairStrayXattr(Context& c, const RepairSubject& subject) {
  const InodeId inode(keys::NumberAt(subject.key, 0));
  if (!subject.alone)
    return NotRepairable("a name still leads to inode " + ToString(inode) + ", which is lost: repair the name first");
  c.txn().Delete(Family::kXattrs, subject.key);
  return "the attribute '" + std::string(subject.key.substr(8)) + "' is removed: nothing leads to its inode";
}

Result<std::string> RepairStrayPolicy(Context& c, const RepairSubject& subject) {
  c.txn().Delete(Family::kPolicies, subject.key);
  c.ChangeCounters(0, 0, 0, -1);
  return std::string("the policy is removed; what its directory has holds");
}

Result<std::string> RepairLease(Context& c, const RepairSubject& subject) {
  const InodeId inode(keys::NumberAt(subject.key, 0));
  const WriteLease lease = *WriteLeaseOf(c.txn(), inode);
  if (!InodeExists(c.txn(), inode)) {
    EndWriteLease(c, inode);
    return std::string("the write lease has ended");
  }
  c.txn().Put(Family::kSessionRefs, keys::Ref(lease.session, keys::SessionRef::kWriteLease, inode), "");
  if (lease.vanished || SessionRecordOf(c.txn(), lease.session))
    return "the write lease is in the list of session " + ToString(lease.session);
  ReleaseWriteLease(c, inode);
  return std::string("the write lease ends once what its holder left is recovered");
}

Result<std::string> RepairStraySessionEntry(Context& c, const RepairSubject& subject) {
  c.txn().Delete(Family::kSessionRefs, subject.key);
  return "session " + std::to_string(keys::NumberAt(subject.key, 0)) + " is not listed with it any more";
}

Result<std::string> RepairStrayResult(Context& c, const RepairSubject& subject) {
  c.txn().Delete(Family::kResults, subject.key);
  return std::string("the answer is forgotten: nobody can ask for it");
}

}  // namespace cairn::master
