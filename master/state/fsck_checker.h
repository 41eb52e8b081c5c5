// Looks at one record of the metadata at a time and reports what contradicts others (fsck.h has the kinds).
// Thread-safety: one thread.
#pragma once

#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>

#include "common/check.h"
#include "common/ids.h"
#include "master/state/fsck.h"
#include "master/state/keys.h"
#include "master/store/meta_store.h"
#include "proto/cairn/admin.pb.h"
#include "proto/cairn/state.pb.h"

namespace cairn::master {

template <typename Record>
Record ParseStored(std::string_view value) {
  Record record;
  CAIRN_CHECK(record.ParseFromArray(value.data(), static_cast<int>(value.size())),
              "a stored metadata record cannot be parsed");
  return record;
}

// What the counters of the whole store should be, as far as was seen; travels in the cursor.
struct FsckTotals {
  uint64_t inodes = 0;
  uint64_t chunks = 0;
  uint64_t deleting = 0;
  uint64_t policies = 0;
  uint64_t trash_inodes = 0;
  uint64_t trash_bytes = 0;
};

class FsckChecker {
 public:
  FsckChecker(const MetaReader& reader, InodeId root, const FsckTotals& totals, proto::FsckResponse* response)
      : reader_(reader), root_(root), response_(response), totals_(totals) {}

  const FsckTotals& totals() const { return totals_; }
  void Check(Family family, std::string_view key, std::string_view value);
  // When everything was seen.
  void CheckCounters();
  // Whether a chunk with this record is to be found in the list.
  static bool BelongsIn(keys::ChunkList list, const proto::ChunkRecord& record);

 private:
  // Whether the check covers an inode: everything below root_, or everything at all from the root directory.
  bool Covers(InodeId inode) const;
  void Report(const char* kind, InodeId inode, ChunkId chunk, std::string detail, InodeId leads_to = InodeId());
  size_t CountKeys(Family family, const std::string& prefix) const;

  void CheckInode(InodeId inode, const proto::InodeRecord& record);
  void CheckDirectory(InodeId inode, const proto::InodeRecord& record);
  void CheckDentry(InodeId directory, std::string_view name, const proto::DentryRecord& dentry);
  void CheckDirIndex(InodeId directory, uint64_t entry, const proto::DirIndexRecord& index);
  void CheckLink(InodeId inode, InodeId directory, std::string_view name);
  void CheckOrphan(InodeId inode);
  // What is in the trash is an orphan, and is on both lists that end it.
  void CheckTrash(std::string_view key);
  void CheckXattr(InodeId inode, std::string_view name);
  void CheckPolicy(InodeId inode);

  void CheckContent(InodeId inode, const proto::InodeRecord& record);
  void CheckChunk(ChunkId chunk, const proto::ChunkRecord& record);
  void CheckInodeChunk(InodeId inode, uint64_t index, ChunkId chunk);
  void CheckServerChunk(ServerId server, ChunkId chunk);
  void CheckListed(keys::ChunkList list, ChunkId chunk);
  // Of a store that no server joined yet, nothing is known.
  bool Known(ServerId server);

  void CheckHold(InodeId inode, SessionId session);
  // A lease whose holder is gone is marked as vanished until its chunks are recovered; any other has a session that ends it.
  void CheckWriteLease(InodeId inode, const proto::WriteLeaseRecord& lease);
  void CheckSessionRef(SessionId session, keys::SessionRef kind, InodeId inode);
  void CheckResult(SessionId session, uint64_t request);

  const MetaReader& reader_;
  mutable std::unordered_map<InodeId, bool> covers_;  // whether the check covers it
  const InodeId root_;
  proto::FsckResponse* const response_;
  FsckTotals totals_;
  std::string record_;  // being looked at
  std::optional<std::set<ServerId>> servers_;
};

}  // namespace cairn::master
