#include "master/state/fsck_checker.h"

#include <string>
#include <utility>
#include <vector>

#include "master/state/chunk_queries.h"
#include "master/state/queries.h"
#include "master/state/records.h"
#include "master/state/state_machine.h"

namespace cairn::master {

using keys::ChunkList;

void FsckChecker::Check(Family family, std::string_view key, std::string_view value) {
  record_ = FsckRecord(family, key);
  switch (family) {
    case Family::kInodes:
      return CheckInode(InodeId(keys::NumberAt(key, 0)), ParseStored<proto::InodeRecord>(value));
    case Family::kDentries:
      return CheckDentry(InodeId(keys::NumberAt(key, 0)), key.substr(8), ParseStored<proto::DentryRecord>(value));
    case Family::kDirIndex:
      return CheckDirIndex(InodeId(keys::NumberAt(key, 0)), keys::NumberAt(key, 8),
                           ParseStored<proto::DirIndexRecord>(value));
    case Family::kLinks:
      return CheckLink(InodeId(keys::NumberAt(key, 0)), InodeId(keys::NumberAt(key, 8)), key.substr(16));
    case Family::kChunks:
      return CheckChunk(ChunkId(keys::NumberAt(key, 0)), ParseStored<proto::ChunkRecord>(value));
    case Family::kInodeChunks:
      return CheckInodeChunk(InodeId(keys::NumberAt(key, 0)), keys::NumberAt(key, 8),
                             ChunkId(keys::NumberAt(value, 0)));
    case Family::kServerChunks:
      return CheckServerChunk(ServerId(keys::SmallNumberAt(key, 0)), ChunkId(keys::NumberAt(key, 4)));
    case Family::kChunkLists:
      return CheckListed(static_cast<ChunkList>(key[0]), ChunkId(keys::NumberAt(key, 9)));
    case Family::kOrphans:
      return CheckOrphan(InodeId(keys::NumberAt(key, 0)));
    case Family::kHolds:
      return CheckHold(InodeId(keys::NumberAt(key, 0)), SessionId(keys::NumberAt(key, 8)));
    case Family::kTrash:
      return CheckTrash(key);
    case Family::kXattrs:
      return CheckXattr(InodeId(keys::NumberAt(key, 0)), key.substr(8));
    case Family::kPolicies:
      return CheckPolicy(InodeId(keys::NumberAt(key, 0)));
    case Family::kWriteLeases:
      return CheckWriteLease(InodeId(keys::NumberAt(key, 0)), ParseStored<proto::WriteLeaseRecord>(value));
    case Family::kSessionRefs:
      return CheckSessionRef(SessionId(keys::NumberAt(key, 0)), static_cast<keys::SessionRef>(key[8]),
                             InodeId(keys::NumberAt(key, 9)));
    case Family::kResults:
      return CheckResult(SessionId(keys::NumberAt(key, 0)), keys::NumberAt(key, 8));
    default:
      return;
  }
}

// When everything was seen.
void FsckChecker::CheckCounters() {
  if (root_ != kRootInode) return;
  const proto::Counters counters = LoadCounters(reader_);
  std::string detail;
  std::vector<int64_t> deltas;
  const auto check = [&](const char* what, uint64_t counted, uint64_t there) {
    deltas.push_back(static_cast<int64_t>(there - counted));
    if (counted == there) return;
    detail += (detail.empty() ? "" : "; ") + std::string("the counter of ") + what + " says " +
              std::to_string(counted) + ", there are " + std::to_string(there);
  };
  check("inodes", counters.inodes(), totals_.inodes);
  check("chunks", counters.chunks(), totals_.chunks);
  check("policies", counters.policies(), totals_.policies);
  check("chunks being deleted", counters.deleting(), totals_.deleting);
  check("inodes in the trash", counters.trash_inodes(), totals_.trash_inodes);
  check("bytes in the trash", counters.trash_bytes(), totals_.trash_bytes);
  if (detail.empty()) return;
  record_ = FsckRecord(Family::kMeta, keys::kCounters);
  Report("wrong-counter", {}, {}, std::move(detail));
  response_->mutable_problems()->rbegin()->mutable_deltas()->Add(deltas.begin(), deltas.end());
}

// Whether the check covers an inode: everything below root_, or everything at all from the root directory.
bool FsckChecker::Covers(InodeId inode) const {
  if (root_ == kRootInode) return true;
  // Each directory above is looked at once in a page: in a deep tree the walks share most of their way.
  std::vector<InodeId> walked;
  bool covers = false;
  for (int depth = 0; depth < kMaxDepth; ++depth) {
    if (inode == root_) covers = true;
    if (covers || inode == kRootInode) break;
    if (const auto known = covers_.find(inode); known != covers_.end()) {
      covers = known->second;
      break;
    }
    walked.push_back(inode);
    const auto record = InodeRecordOf(reader_, inode);
    if (!record || record->parent() == 0) break;
    inode = InodeId(record->parent());
  }
  // Who is further up may be within the bound though this one is not.
  if (walked.size() < static_cast<size_t>(kMaxDepth) || covers) {
    for (const InodeId seen : walked) covers_.emplace(seen, covers);
  }
  return covers;
}

void FsckChecker::Report(const char* kind, InodeId inode, ChunkId chunk, std::string detail, InodeId leads_to) {
  proto::FsckProblem* problem = response_->add_problems();
  problem->set_kind(kind);
  problem->set_inode(inode.value());
  problem->set_chunk(chunk.value());
  if (inode && InodeExists(reader_, inode)) problem->set_path(PathOf(reader_, inode));
  problem->set_detail(std::move(detail));
  problem->set_record(record_);
  problem->set_leads_to(leads_to.value());
}

size_t FsckChecker::CountKeys(Family family, const std::string& prefix) const {
  size_t count = 0;
  for (auto it = reader_.Scan(family, prefix, keys::After(prefix)); it->Valid(); it->Next()) ++count;
  return count;
}

void FsckChecker::CheckHold(InodeId inode, SessionId session) {
  if (root_ != kRootInode) return;
  if (!InodeExists(reader_, inode)) {
    return Report("missing-inode", inode, {},
                  "session " + ToString(session) + " holds an inode that does not exist");
  }
  if (!SessionRecordOf(reader_, session)) {
    return Report("stray-hold", inode, {},
                  "session " + ToString(session) + " holds it, which has ended: it would be kept for ever");
  }
  if (!reader_.Get(Family::kSessionRefs, keys::Ref(session, keys::SessionRef::kHold, inode))) {
    Report("missing-hold", inode, {},
           "the hold of session " + ToString(session) + " would not end with the session");
  }
}

// A lease whose holder is gone is marked as vanished until its chunks are recovered; any other has a session that ends it.
void FsckChecker::CheckWriteLease(InodeId inode, const proto::WriteLeaseRecord& lease) {
  if (root_ != kRootInode) return;
  const SessionId session(lease.session());
  if (!InodeExists(reader_, inode)) {
    return Report("stray-lease", inode, {},
                  "session " + ToString(session) + " holds the write lease of an inode that does not exist");
  }
  if (!lease.vanished() && !SessionRecordOf(reader_, session)) {
    return Report("stray-lease", inode, {},
                  "session " + ToString(session) + " holds its write lease and has ended: nobody else may write");
  }
  if (!reader_.Get(Family::kSessionRefs, keys::Ref(session, keys::SessionRef::kWriteLease, inode))) {
    Report("missing-lease-entry", inode, {},
           "the write lease of session " + ToString(session) + " would not end with the session");
  }
}

void FsckChecker::CheckSessionRef(SessionId session, keys::SessionRef kind, InodeId inode) {
  if (root_ != kRootInode) return;
  bool there = false;
  if (kind == keys::SessionRef::kHold) {
    there = reader_.Get(Family::kHolds, keys::Hold(inode, session)).has_value();
  } else {
    const auto lease = Load<proto::WriteLeaseRecord>(reader_, Family::kWriteLeases, keys::Inode(inode));
    there = lease && lease->session() == session.value();
  }
  if (there) return;
  Report("stray-session-entry", inode, {},
         "session " + ToString(session) + " is listed with a " +
             (kind == keys::SessionRef::kHold ? "hold" : "write lease") + " that it does not have");
}

void FsckChecker::CheckResult(SessionId session, uint64_t request) {
  if (root_ != kRootInode || SessionRecordOf(reader_, session)) return;
  Report("stray-result", {}, {},
         "the answer to request " + std::to_string(request) + " of session " + ToString(session) +
             ", which has ended, is kept");
}

}  // namespace cairn::master
