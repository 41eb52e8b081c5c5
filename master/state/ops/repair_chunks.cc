// Repairs of chunk records and of the lists that lead to them.
#include <algorithm>
#include <set>
#include <string>

#include "common/replication/quorum.h"
#include "master/state/chunk_ops.h"
#include "master/state/chunk_queries.h"
#include "master/state/fsck_checker.h"
#include "master/state/ops/repair.h"
#include "master/state/queries.h"
#include "master/state/records.h"

namespace cairn::master {
namespace {

using keys::ChunkList;

InodeId ListedUnder(ChunkList list, const proto::ChunkRecord& record) {
  return list == ChunkList::kOpen ? InodeId(record.inode()) : InodeId{};
}

// What the list would have led to goes on: a delete, a recovery, a procedure that was interrupted.
void Resume(Context& c, ChunkList list, ChunkId chunk, const proto::ChunkRecord& record) {
  switch (list) {
    case ChunkList::kOpen: {
      const auto lease = WriteLeaseOf(c.txn(), InodeId(record.inode()));
      if (!lease || lease->vanished) c.effects().chunks_to_recover.push_back(chunk);
      return;
    }
    case ChunkList::kDeleting:
      c.effects().chunks_deleting.push_back(chunk);
      return;
    case ChunkList::kReconfiguring:
    case ChunkList::kDamaged:
      c.effects().chunks_configured.push_back(chunk);
      return;
  }
}

}  // namespace

Result<std::string> RepairMissingChunk(Context& c, const RepairSubject& subject) {
  const ChunkId chunk(keys::NumberAt(*c.txn().Get(Family::kInodeChunks, subject.key), 0));
  const std::string part = "chunk " + std::to_string(keys::NumberAt(subject.key, 8)) + " of the file";
  if (LoadChunk(c.txn(), chunk)) {
    return NotRepairable("two places claim chunk " + ToString(chunk) + ", and which of them it belongs to is written nowhere. Reading " +
                         part + " fails; restore the metadata from a backup, or remove the file: the other keeps the chunk");
  }
  return NotRepairable("which servers hold " + part + ", and at which stamp, was written in its record only. Reading it fails rather than "
                       "showing zeros; restore the metadata from a backup (cairn master restore), or remove the file");
}

Result<std::string> RepairStrayChunk(Context& c, const RepairSubject& subject) {
  const ChunkId chunk(keys::NumberAt(subject.key, 0));
  const proto::ChunkRecord record = *LoadChunk(c.txn(), chunk);
  const InodeId inode(record.inode());
  const auto file = InodeRecordOf(c.txn(), inode);
  if (!file) {
    if (!subject.alone) {
      return NotRepairable("a name leads to inode " + ToString(inode) + ", whose record is lost while its data is here: nothing is deleted; "
                           "restore the metadata from a backup (cairn master restore)");
    }
    DeleteChunk(c, chunk, record, /*deleted_by_quorum=*/false);
    c.ChangeCounters(0, -1, +1, 0);
    return std::string("it is deleted: nothing leads to its file");
  }
  if (!IsRegular(*file))
    return NotRepairable("inode " + ToString(inode) + " is no regular file: what the chunk was part of is written nowhere");
  if (const auto other = ChunkAtIndex(c.txn(), inode, record.index())) {
    return NotRepairable("the file has chunk " + ToString(*other) + " at this place. This one is kept and not shown; what its copies hold "
                         "says cairn chunk explain " + ToString(chunk));
  }
  c.txn().Put(Family::kInodeChunks, keys::InodeChunk(inode, record.index()), keys::Chunk(chunk));
  c.effects().inodes.push_back(inode);
  return "the file has it as its chunk " + std::to_string(record.index()) + " again";
}

Result<std::string> RepairBadConfiguration(Context& c, const RepairSubject& subject) {
  const ChunkId chunk(keys::NumberAt(subject.key, 0));
  const proto::ChunkRecord before = *LoadChunk(c.txn(), chunk);
  if (before.state() != proto::CHUNK_SEALED || before.pending_epoch() != 0) {
    return NotRepairable("it is " + ChunkStateName(before) + ": how many confirmations its data has is known when it is sealed, and then it "
                         "can be repaired");
  }
  const std::set<uint32_t> members(before.members().begin(), before.members().end());
  proto::ChunkRecord record = before;
  record.clear_carriers();
  for (const uint32_t carrier : before.carriers()) {
    if (members.contains(carrier)) record.add_carriers(carrier);
  }
  if (record.carriers_size() == 0)
    return NotRepairable("no member is known to hold its data at the seal: restore the metadata from a backup, or see cairn chunk explain");
  // Any W that the known copies at the seal fulfil keeps the promise: who recovers the chunk does not go below the seal.
  if (record.write_quorum() == 0 || record.write_quorum() > members.size()) {
    uint32_t quorum = static_cast<uint32_t>(members.size()) / 2 + 1;
    if (const auto policy = EffectivePolicy(c.txn(), InodeId(before.inode())); policy.ok()) quorum = policy->write_quorum();
    record.set_write_quorum(std::min(quorum, static_cast<uint32_t>(record.carriers_size())));
  }
  const Status valid = replication::ValidateConfiguration(ConfigurationOf(record));
  if (!valid.ok())
    return NotRepairable("its members and epoch cannot be known from other records (" + valid.message() + ")");
  if (static_cast<uint32_t>(record.carriers_size()) < record.write_quorum()) {
    return NotRepairable("only " + std::to_string(record.carriers_size()) + " members are known to hold its data, " +
                         std::to_string(record.write_quorum()) + " are needed: when more have answered it can be repaired");
  }
  UpdateChunk(c, chunk, &before, record);
  c.effects().chunks_configured.push_back(chunk);
  c.effects().inodes.push_back(InodeId(before.inode()));
  return "write quorum " + std::to_string(record.write_quorum()) + " of " + std::to_string(members.size()) + " members, " +
         std::to_string(record.carriers_size()) + " of which hold its data";
}

Result<std::string> RepairServerEntry(Context& c, const RepairSubject& subject) {
  if (subject.family == Family::kServerChunks) {
    const ChunkId listed(keys::NumberAt(subject.key, 4));
    if (!subject.alone && !LoadChunk(c.txn(), listed)) {
      return NotRepairable("a file lists the chunk, whose record is lost: this entry keeps the copy from being erased until the metadata is "
                           "restored from a backup or the file is removed");
    }
    c.txn().Delete(Family::kServerChunks, subject.key);
    return ToString(ServerId(keys::SmallNumberAt(subject.key, 0))) + " does not list it any more";
  }
  const ChunkId chunk(keys::NumberAt(subject.key, 0));
  const proto::ChunkRecord record = *LoadChunk(c.txn(), chunk);
  for (const uint32_t member : record.members())
    c.txn().Put(Family::kServerChunks, keys::ServerChunk(ServerId(member), chunk), "");
  c.effects().chunks_configured.push_back(chunk);
  return std::string("all its members list it");
}

Result<std::string> RepairWrongList(Context& c, const RepairSubject& subject) {
  if (subject.family == Family::kChunkLists) {
    c.txn().Delete(Family::kChunkLists, subject.key);
    return std::string("it is taken from the list");
  }
  const ChunkId chunk(keys::NumberAt(subject.key, 0));
  const proto::ChunkRecord record = *LoadChunk(c.txn(), chunk);
  for (const ChunkList list :
       {ChunkList::kOpen, ChunkList::kReconfiguring, ChunkList::kDamaged, ChunkList::kDeleting}) {
    const std::string key = keys::Listed(list, ListedUnder(list, record), chunk);
    if (!FsckChecker::BelongsIn(list, record) || c.txn().Get(Family::kChunkLists, key)) continue;
    c.txn().Put(Family::kChunkLists, key, "");
    Resume(c, list, chunk, record);
  }
  return "it is listed as " + ChunkStateName(record);
}

Result<std::string> RepairUnknownServer(Context& c, const RepairSubject& subject) {
  const proto::ChunkRecord record = *LoadChunk(c.txn(), ChunkId(keys::NumberAt(subject.key, 0)));
  return NotRepairable("a member is not struck off without the others: re-replication puts another server in its place once " +
                       std::to_string(ReadQuorumOf(record)) + " members have answered; cairn chunk explain says what it waits for");
}

}  // namespace cairn::master
