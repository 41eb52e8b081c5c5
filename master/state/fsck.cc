#include "master/state/fsck.h"

#include <algorithm>
#include <optional>
#include <set>
#include <unordered_map>
#include <utility>
#include <vector>

#include "common/replication/quorum.h"
#include "master/state/chunk_ops.h"
#include "master/state/chunk_queries.h"
#include "master/state/keys.h"
#include "master/state/queries.h"
#include "master/state/records.h"
#include "master/state/state_machine.h"
#include "master/state/trash.h"

namespace cairn::master {
namespace {

using keys::ChunkList;

// The families in the order in which they are checked; a cursor is the stage's number and the last key seen.
constexpr Family kStages[] = {
    Family::kInodes,      Family::kDentries,     Family::kDirIndex,   Family::kLinks,   Family::kChunks,
    Family::kInodeChunks, Family::kServerChunks, Family::kChunkLists, Family::kOrphans, Family::kHolds,
    Family::kTrash,       Family::kXattrs,       Family::kPolicies,   Family::kWriteLeases,
    Family::kSessionRefs, Family::kResults};
constexpr size_t kStageCount = std::size(kStages);

template <typename Record>
Record Parse(std::string_view value) {
  Record record;
  CAIRN_CHECK(record.ParseFromArray(value.data(), static_cast<int>(value.size())),
              "a stored metadata record cannot be parsed");
  return record;
}

// What the counters of the whole store should be, as far as was seen; travels in the cursor.
struct Totals {
  uint64_t inodes = 0;
  uint64_t chunks = 0;
  uint64_t deleting = 0;
  uint64_t policies = 0;
  uint64_t trash_inodes = 0;
  uint64_t trash_bytes = 0;
};
constexpr size_t kTotalsBytes = 6 * sizeof(uint64_t);

std::string Encode(const Totals& totals) {
  return keys::Key(totals.inodes, totals.chunks, totals.deleting, totals.policies, totals.trash_inodes,
                   totals.trash_bytes);
}
Totals DecodeTotals(std::string_view bytes) {
  return {keys::NumberAt(bytes, 0),  keys::NumberAt(bytes, 8),  keys::NumberAt(bytes, 16),
          keys::NumberAt(bytes, 24), keys::NumberAt(bytes, 32), keys::NumberAt(bytes, 40)};
}

class Checker {
 public:
  Checker(const MetaReader& reader, InodeId root, const Totals& totals, proto::FsckResponse* response)
      : reader_(reader), root_(root), response_(response), totals_(totals) {}

  const Totals& totals() const { return totals_; }

  void Check(Family family, std::string_view key, std::string_view value) {
    switch (family) {
      case Family::kInodes:
        return CheckInode(InodeId(keys::NumberAt(key, 0)), Parse<proto::InodeRecord>(value));
      case Family::kDentries:
        return CheckDentry(InodeId(keys::NumberAt(key, 0)), key.substr(8), Parse<proto::DentryRecord>(value));
      case Family::kDirIndex:
        return CheckDirIndex(InodeId(keys::NumberAt(key, 0)), keys::NumberAt(key, 8),
                             Parse<proto::DirIndexRecord>(value));
      case Family::kLinks:
        return CheckLink(InodeId(keys::NumberAt(key, 0)), InodeId(keys::NumberAt(key, 8)), key.substr(16));
      case Family::kChunks:
        return CheckChunk(ChunkId(keys::NumberAt(key, 0)), Parse<proto::ChunkRecord>(value));
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
        return CheckWriteLease(InodeId(keys::NumberAt(key, 0)), Parse<proto::WriteLeaseRecord>(value));
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
  void CheckCounters() {
    if (root_ != kRootInode) return;
    const proto::Counters counters = LoadCounters(reader_);
    const auto check = [&](const char* what, uint64_t counted, uint64_t there) {
      if (counted == there) return;
      Report("wrong-counter", {}, {},
             std::string("the counter of ") + what + " says " + std::to_string(counted) + ", there are " +
                 std::to_string(there));
    };
    check("inodes", counters.inodes(), totals_.inodes);
    check("chunks", counters.chunks(), totals_.chunks);
    check("chunks being deleted", counters.deleting(), totals_.deleting);
    check("policies", counters.policies(), totals_.policies);
    check("inodes in the trash", counters.trash_inodes(), totals_.trash_inodes);
    check("bytes in the trash", counters.trash_bytes(), totals_.trash_bytes);
  }

 private:
  // Whether the check covers an inode: everything below root_, or everything at all from the root directory.
  bool Covers(InodeId inode) const {
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

  void Report(const char* kind, InodeId inode, ChunkId chunk, std::string detail) {
    proto::FsckProblem* problem = response_->add_problems();
    problem->set_kind(kind);
    problem->set_inode(inode.value());
    problem->set_chunk(chunk.value());
    if (inode && InodeExists(reader_, inode)) problem->set_path(PathOf(reader_, inode));
    problem->set_detail(std::move(detail));
  }

  size_t CountKeys(Family family, const std::string& prefix) const {
    size_t count = 0;
    for (auto it = reader_.Scan(family, prefix, keys::After(prefix)); it->Valid(); it->Next()) ++count;
    return count;
  }

  void CheckInode(InodeId inode, const proto::InodeRecord& record) {
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

  void CheckDirectory(InodeId inode, const proto::InodeRecord& record) {
    uint64_t entries = 0;
    uint32_t subdirectories = 0;
    const std::string prefix = keys::Key(inode);
    for (auto it = reader_.Scan(Family::kDentries, prefix, keys::After(prefix)); it->Valid(); it->Next()) {
      ++entries;
      if (Parse<proto::DentryRecord>(it->value()).type() == proto::DIRECTORY) ++subdirectories;
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

  void CheckContent(InodeId inode, const proto::InodeRecord& record) {
    uint64_t allocated = 0;
    const std::string prefix = keys::Key(inode);
    for (auto it = reader_.Scan(Family::kInodeChunks, prefix, keys::After(prefix)); it->Valid(); it->Next()) {
      const uint64_t index = keys::NumberAt(it->key(), 8);
      const ChunkId chunk(keys::NumberAt(it->value(), 0));
      const auto chunk_record = LoadChunk(reader_, chunk);
      if (!chunk_record) continue;  // said by the stage of inode-chunks
      allocated += AllocatedBytes(*chunk_record);
      const bool written = chunk_record->state() == proto::CHUNK_SEALED && chunk_record->length() > 0;
      if (written && record.chunk_bytes() != 0 &&
          index >= (record.size() + record.chunk_bytes() - 1) / record.chunk_bytes()) {
        Report("chunk-beyond-size", inode, chunk,
               "chunk " + std::to_string(index) + " lies beyond the size of " +
                   std::to_string(record.size()) + " bytes");
      }
    }
    if (allocated != record.allocated_bytes()) {
      Report("wrong-allocation", inode, {},
             "the record counts " + std::to_string(record.allocated_bytes()) + " bytes, the chunks have " +
                 std::to_string(allocated));
    }
  }

  void CheckDentry(InodeId directory, std::string_view name, const proto::DentryRecord& dentry) {
    if (!Covers(directory)) return;
    const InodeId inode(dentry.inode());
    const std::string quoted = "'" + std::string(name) + "' in directory " + ToString(directory);
    const auto record = InodeRecordOf(reader_, inode);
    if (!record)
      return Report("missing-inode", directory, {},
                    quoted + " leads to inode " + ToString(inode) + ", which does not exist");
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
      Report("missing-link", inode, {}, quoted + " is not among the names that the inode knows");
    }
  }

  void CheckDirIndex(InodeId directory, uint64_t entry, const proto::DirIndexRecord& index) {
    if (!Covers(directory)) return;
    const auto dentry = LoadDentry(reader_, directory, index.name());
    if (!dentry || dentry->entry() != entry) {
      Report("stray-index", directory, {},
             "number " + std::to_string(entry) + " lists '" + index.name() +
                 "', which is not an entry of that number");
    }
  }

  void CheckLink(InodeId inode, InodeId directory, std::string_view name) {
    if (!Covers(directory)) return;
    const auto dentry = LoadDentry(reader_, directory, name);
    if (!dentry || dentry->inode() != inode.value()) {
      Report("stray-link", inode, {},
             "the name '" + std::string(name) + "' in directory " + ToString(directory) +
                 " does not lead to the inode");
    }
  }

  void CheckChunk(ChunkId chunk, const proto::ChunkRecord& record) {
    const InodeId inode(record.inode());
    const bool deleting = record.state() == proto::CHUNK_DELETING;
    ++(deleting ? totals_.deleting : totals_.chunks);
    if (root_ != kRootInode && (deleting || !Covers(inode))) return;
    response_->set_chunks_checked(response_->chunks_checked() + 1);
    if (!deleting && ChunkAtIndex(reader_, inode, record.index()) != chunk) {
      Report("stray-chunk", inode, chunk,
             "the file does not have it as its chunk " + std::to_string(record.index()));
    }
    if (!deleting) {
      const Status valid = replication::ValidateConfiguration(ConfigurationOf(record));
      if (!valid.ok()) Report("bad-configuration", inode, chunk, valid.message());
      for (uint32_t carrier : record.carriers()) {
        if (std::find(record.members().begin(), record.members().end(), carrier) == record.members().end()) {
          Report("bad-configuration", inode, chunk,
                 "cs" + std::to_string(carrier) + " is a carrier but no member");
        }
      }
    }
    for (uint32_t member : record.members()) {
      if (!Known(ServerId(member))) {
        Report("unknown-server", inode, chunk, "its member cs" + std::to_string(member) + " never joined this cluster");
      }
      if (!reader_.Get(Family::kServerChunks, keys::ServerChunk(ServerId(member), chunk))) {
        Report("missing-server-entry", inode, chunk,
               "it is not in the list of its member cs" + std::to_string(member));
      }
    }
    for (ChunkList list :
         {ChunkList::kOpen, ChunkList::kReconfiguring, ChunkList::kDamaged, ChunkList::kDeleting}) {
      const InodeId listed_under = list == ChunkList::kOpen ? inode : InodeId{};
      const bool listed =
          reader_.Get(Family::kChunkLists, keys::Listed(list, listed_under, chunk)).has_value();
      if (!listed && BelongsIn(list, record)) {
        Report("wrong-list", inode, chunk, std::string("it is missing in list ") + static_cast<char>(list));
      }
    }
  }

  // Of a store that no server joined yet, nothing is known.
  bool Known(ServerId server) {
    if (!servers_) {
      servers_.emplace();
      for (auto it = reader_.Scan(Family::kServers, "", ""); it->Valid(); it->Next())
        servers_->insert(ServerId(keys::SmallNumberAt(it->key(), 0)));
    }
    return servers_->empty() || servers_->contains(server);
  }

  static bool BelongsIn(ChunkList list, const proto::ChunkRecord& record) {
    switch (list) {
      case ChunkList::kOpen:
        // A chunk whose writer vanished stays listed while it waits as damaged.
        return record.writer_lease() != 0;
      case ChunkList::kReconfiguring:
        return record.pending_epoch() != 0 && record.state() != proto::CHUNK_DELETING;
      case ChunkList::kDamaged:
        return record.state() == proto::CHUNK_DAMAGED;
      case ChunkList::kDeleting:
        return record.state() == proto::CHUNK_DELETING;
    }
    return false;
  }

  void CheckInodeChunk(InodeId inode, uint64_t index, ChunkId chunk) {
    if (!Covers(inode)) return;
    const auto record = LoadChunk(reader_, chunk);
    if (!record)
      return Report("missing-chunk", inode, chunk,
                    "chunk " + std::to_string(index) + " of the file has no record");
    if (record->inode() != inode.value() || record->index() != index) {
      Report("missing-chunk", inode, chunk,
             "chunk " + std::to_string(index) + " of the file belongs to inode " +
                 std::to_string(record->inode()));
    }
  }

  void CheckServerChunk(ServerId server, ChunkId chunk) {
    if (root_ != kRootInode) return;
    const auto record = LoadChunk(reader_, chunk);
    if (!record || std::find(record->members().begin(), record->members().end(), server.value()) ==
                       record->members().end()) {
      Report("stray-server-entry", record ? InodeId(record->inode()) : InodeId{}, chunk,
             "it is in the list of " + ToString(server) + ", which is not a member");
    }
  }

  void CheckListed(ChunkList list, ChunkId chunk) {
    if (root_ != kRootInode) return;
    const auto record = LoadChunk(reader_, chunk);
    if (!record || !BelongsIn(list, *record)) {
      Report("wrong-list", record ? InodeId(record->inode()) : InodeId{}, chunk,
             std::string("it is in list ") + static_cast<char>(list) + ", where it does not belong");
    }
  }

  void CheckOrphan(InodeId inode) {
    if (root_ != kRootInode) return;
    const auto record = InodeRecordOf(reader_, inode);
    if (!record || record->nlink() != 0) {
      Report("stray-orphan", inode, {},
             record ? "it is listed as an orphan but has names" : "an orphan without an inode");
    }
  }

  void CheckHold(InodeId inode, SessionId session) {
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

  // What is in the trash is an orphan, and is on both lists that end it.
  void CheckTrash(std::string_view key) {
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

  void CheckXattr(InodeId inode, std::string_view name) {
    if (root_ != kRootInode || InodeExists(reader_, inode)) return;
    Report("stray-xattr", inode, {}, "the attribute '" + std::string(name) + "' belongs to an inode that does not exist");
  }

  void CheckPolicy(InodeId inode) {
    ++totals_.policies;
    if (root_ != kRootInode) return;
    const auto record = InodeRecordOf(reader_, inode);
    if (!record || !IsDirectory(*record))
      Report("stray-policy", inode, {}, "it has a policy of its own and is no directory");
  }

  // A lease whose holder is gone is marked as vanished until its chunks are recovered; any other has a session that ends it.
  void CheckWriteLease(InodeId inode, const proto::WriteLeaseRecord& lease) {
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

  void CheckSessionRef(SessionId session, keys::SessionRef kind, InodeId inode) {
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

  void CheckResult(SessionId session, uint64_t request) {
    if (root_ != kRootInode || SessionRecordOf(reader_, session)) return;
    Report("stray-result", {}, {},
           "the answer to request " + std::to_string(request) + " of session " + ToString(session) +
               ", which has ended, is kept");
  }

  const MetaReader& reader_;
  mutable std::unordered_map<InodeId, bool> covers_;  // whether the check covers it
  const InodeId root_;
  proto::FsckResponse* const response_;
  Totals totals_;
  std::optional<std::set<ServerId>> servers_;
};

}  // namespace

Result<proto::FsckResponse> CheckPage(const MetaReader& reader, InodeId inode, const std::string& cursor,
                                      uint32_t max_items) {
  if (!InodeExists(reader, inode))
    return Status(StatusCode::kStaleHandle, "inode " + ToString(inode) + " does not exist");
  size_t stage = 0;
  std::string after;
  Totals totals;
  if (!cursor.empty()) {
    stage = static_cast<unsigned char>(cursor[0]);
    if (stage >= kStageCount || cursor.size() < 1 + kTotalsBytes)
      return Status(StatusCode::kInvalidArgument, "this is not a cursor of a metadata check");
    totals = DecodeTotals(std::string_view(cursor).substr(1));
    after = cursor.substr(1 + kTotalsBytes);
  }
  proto::FsckResponse response;
  Checker checker(reader, inode, totals, &response);
  uint32_t items = 0;
  const uint32_t limit = std::max<uint32_t>(1, max_items);
  for (; stage < kStageCount; ++stage, after.clear()) {
    // The first key above `after`: a zero byte is the smallest thing that can follow.
    const std::string lower = after.empty() ? std::string() : after + '\0';
    std::string last;
    for (auto it = reader.Scan(kStages[stage], lower, ""); it->Valid(); it->Next()) {
      if (items == limit) {
        response.set_cursor(std::string(1, static_cast<char>(stage)) + Encode(checker.totals()) +
                            (last.empty() ? after : last));
        CAIRN_RETURN_IF_ERROR(reader.status());
        return response;
      }
      last = std::string(it->key());
      checker.Check(kStages[stage], last, std::string(it->value()));
      ++items;
    }
  }
  checker.CheckCounters();
  CAIRN_RETURN_IF_ERROR(reader.status());
  return response;
}

}  // namespace cairn::master
