// Repairs of what is counted or added up in one record from others.
#include <algorithm>
#include <string>

#include "master/state/chunk_queries.h"
#include "master/state/ops/repair.h"
#include "master/state/queries.h"
#include "master/state/records.h"
#include "master/state/trash.h"

namespace cairn::master {
namespace {

Result<proto::InodeRecord> SubjectInode(Context& c, const RepairSubject& subject) {
  return LoadInode(c.txn(), InodeId(keys::NumberAt(subject.key, 0)));
}

void SaveSubject(Context& c, const RepairSubject& subject, proto::InodeRecord* record) {
  const InodeId inode(keys::NumberAt(subject.key, 0));
  c.Touch(record);
  SaveInode(&c.txn(), inode, *record);
  c.effects().inodes.push_back(inode);
  if (IsDirectory(*record)) c.effects().directories.push_back(inode);
}

std::string FromTo(const std::string& what, uint64_t from, uint64_t to) {
  return what + " becomes " + std::to_string(to) + " (was " + std::to_string(from) + ")";
}

}  // namespace

Result<std::string> RepairWrongNlink(Context& c, const RepairSubject& subject) {
  CAIRN_ASSIGN_OR_RETURN(proto::InodeRecord record, SubjectInode(c, subject));
  const std::string prefix(subject.key);
  uint32_t links = IsDirectory(record) ? 2 : 1;
  if (IsDirectory(record)) {
    for (auto it = c.txn().Scan(Family::kDentries, prefix, keys::After(prefix)); it->Valid(); it->Next()) {
      proto::DentryRecord dentry;
      if (dentry.ParseFromArray(it->value().data(), static_cast<int>(it->value().size())) &&
          dentry.type() == proto::DIRECTORY)
        ++links;
    }
  } else {
    for (auto it = c.txn().Scan(Family::kLinks, prefix, keys::After(prefix)); it->Valid(); it->Next()) ++links;
  }
  std::string done = FromTo("the link count", record.nlink(), links);
  record.set_nlink(links);
  SaveSubject(c, subject, &record);
  return done;
}

Result<std::string> RepairWrongEntryCount(Context& c, const RepairSubject& subject) {
  CAIRN_ASSIGN_OR_RETURN(proto::InodeRecord record, SubjectInode(c, subject));
  const std::string prefix(subject.key);
  uint64_t entries = 0;
  for (auto it = c.txn().Scan(Family::kDentries, prefix, keys::After(prefix)); it->Valid(); it->Next()) ++entries;
  std::string done = FromTo("the number of entries", record.size(), entries);
  record.set_size(entries);
  SaveSubject(c, subject, &record);
  return done;
}

Result<std::string> RepairWrongXattrCount(Context& c, const RepairSubject& subject) {
  CAIRN_ASSIGN_OR_RETURN(proto::InodeRecord record, SubjectInode(c, subject));
  const std::string prefix(subject.key);
  uint32_t count = 0;
  for (auto it = c.txn().Scan(Family::kXattrs, prefix, keys::After(prefix)); it->Valid(); it->Next()) ++count;
  std::string done = FromTo("the number of attributes", record.xattrs(), count);
  record.set_xattrs(count);
  SaveSubject(c, subject, &record);
  return done;
}

Result<std::string> RepairWrongAllocation(Context& c, const RepairSubject& subject) {
  CAIRN_ASSIGN_OR_RETURN(proto::InodeRecord record, SubjectInode(c, subject));
  const InodeId inode(keys::NumberAt(subject.key, 0));
  uint64_t allocated = 0;
  for (const ChunkAt& at : ChunksOfInode(c.txn(), inode, 0, SIZE_MAX)) {
    if (const auto chunk = ChunkRecordOf(c.txn(), at.chunk)) allocated += AllocatedBytes(*chunk);
  }
  std::string done = FromTo("the space of the file in bytes", record.allocated_bytes(), allocated);
  record.set_allocated_bytes(allocated);
  SaveSubject(c, subject, &record);
  if (record.nlink() == 0) CountTrashAnew(c, inode, record);
  return done;
}

// The chunk holds bytes that were acknowledged, the size says only how far they are shown: the larger one loses nothing.
Result<std::string> RepairChunkBeyondSize(Context& c, const RepairSubject& subject) {
  CAIRN_ASSIGN_OR_RETURN(proto::InodeRecord record, SubjectInode(c, subject));
  uint64_t size = record.size();
  for (const ChunkAt& at : ChunksOfInode(c.txn(), InodeId(keys::NumberAt(subject.key, 0)), 0, SIZE_MAX)) {
    const auto chunk = ChunkRecordOf(c.txn(), at.chunk);
    if (!chunk || chunk->state() != proto::CHUNK_SEALED || chunk->length() == 0) continue;
    const uint64_t length =
        chunk->shrink_pending() ? std::min(chunk->length(), chunk->shrink_length()) : chunk->length();
    size = std::max(size, at.index * record.chunk_bytes() + length);
  }
  std::string done = FromTo("the size of the file", record.size(), size);
  record.set_size(size);
  SaveSubject(c, subject, &record);
  return done;
}

Result<std::string> RepairCounters(Context& c, const proto::RepairMetadataCmd& op) {
  proto::Counters counters = LoadCounters(c.txn());
  if (op.deltas_size() != 6) return Status(StatusCode::kInvalidArgument, "a repair of the counters carries six numbers");
  // What ordinary commands did since the count keeps the difference; a repair may have been part of it.
  if (counters.repairs() != op.repairs())
    return Status(StatusCode::kNotFound, "other repairs came first: the counters are counted anew by the next check");
  const auto plus = [](uint64_t value, int64_t delta) { return value + static_cast<uint64_t>(delta); };
  counters.set_inodes(plus(counters.inodes(), op.deltas(0)));
  counters.set_chunks(plus(counters.chunks(), op.deltas(1)));
  counters.set_policies(plus(counters.policies(), op.deltas(2)));
  counters.set_deleting(plus(counters.deleting(), op.deltas(3)));
  counters.set_trash_inodes(plus(counters.trash_inodes(), op.deltas(4)));
  counters.set_trash_bytes(plus(counters.trash_bytes(), op.deltas(5)));
  Save(&c.txn(), Family::kMeta, keys::kCounters, counters);
  return "the counters say what there is: " + std::to_string(counters.inodes()) + " inodes, " +
         std::to_string(counters.chunks()) + " chunks";
}

}  // namespace cairn::master
