#include "master/state/chunk_ops.h"

#include <algorithm>
#include <string>
#include <utility>

#include "common/checksum.h"
#include "master/state/chunk_queries.h"
#include "master/state/queries.h"
#include "master/state/trash.h"

namespace cairn::master {
namespace {

using keys::ChunkList;

bool IsOpen(const proto::ChunkRecord* record) { return record != nullptr && record->writer_lease() != 0; }

void SetListed(Context& c, ChunkList list, InodeId inode, ChunkId chunk, bool was, bool is) {
  if (was == is) return;
  const std::string key = keys::Listed(list, inode, chunk);
  if (is) {
    c.txn().Put(Family::kChunkLists, key, "");
  } else {
    c.txn().Delete(Family::kChunkLists, key);
  }
}

bool HasMember(const proto::ChunkRecord* record, uint32_t server) {
  if (record == nullptr) return false;
  const auto& members = record->members();
  return std::find(members.begin(), members.end(), server) != members.end();
}

void UpdateServers(Context& c, ChunkId chunk, const proto::ChunkRecord* before,
                   const proto::ChunkRecord* after) {
  if (before != nullptr) {
    for (const uint32_t server : before->members()) {
      if (!HasMember(after, server))
        c.txn().Delete(Family::kServerChunks, keys::ServerChunk(ServerId(server), chunk));
    }
  }
  if (after != nullptr) {
    for (const uint32_t server : after->members()) {
      if (!HasMember(before, server))
        c.txn().Put(Family::kServerChunks, keys::ServerChunk(ServerId(server), chunk), "");
    }
  }
}

void UpdateLists(Context& c, ChunkId chunk, const proto::ChunkRecord* before,
                 const proto::ChunkRecord* after) {
  const InodeId inode(before != nullptr ? before->inode() : after->inode());
  const auto in_state = [](const proto::ChunkRecord* record, proto::ChunkState state) {
    return record != nullptr && record->state() == state;
  };
  const auto pending = [](const proto::ChunkRecord* record) {
    return record != nullptr && record->pending_epoch() != 0;
  };
  SetListed(c, ChunkList::kOpen, inode, chunk, IsOpen(before), IsOpen(after));
  SetListed(c, ChunkList::kReconfiguring, InodeId(0), chunk, pending(before), pending(after));
  SetListed(c, ChunkList::kDamaged, InodeId(0), chunk, in_state(before, proto::CHUNK_DAMAGED),
            in_state(after, proto::CHUNK_DAMAGED));
  SetListed(c, ChunkList::kDeleting, InodeId(0), chunk, in_state(before, proto::CHUNK_DELETING),
            in_state(after, proto::CHUNK_DELETING));
  UpdateServers(c, chunk, before, after);
}

Status AllocateChunk(Context& c, InodeId inode, uint64_t index, Epoch lease, SessionId session,
                     const proto::Policy& policy,
                     google::protobuf::RepeatedPtrField<proto::ChunkLayout>* layouts) {
  const proto::Placement* placement = c.NextPlacement();
  if (placement == nullptr) {
    if (c.preview()) {
      c.effects().placements_needed.push_back({inode, index});
      return Status::Ok();
    }
    return {StatusCode::kNoQuorum, "no servers were chosen for chunk " + std::to_string(index) +
                                       " of inode " + ToString(inode) + ": " +
                                       std::to_string(policy.write_quorum()) + " are needed"};
  }
  const auto& servers = placement->servers();
  if (static_cast<uint32_t>(servers.size()) < policy.write_quorum()) {
    return {StatusCode::kNoQuorum, "only " + std::to_string(servers.size()) + " of the " +
                                       std::to_string(policy.replicas()) +
                                       " servers wanted are available, and the write quorum is " +
                                       std::to_string(policy.write_quorum()) + ": start more chunkservers"};
  }
  const ChunkId chunk(placement->chunk());
  if (!chunk || LoadChunk(c.txn(), chunk)) {
    return {StatusCode::kFailedPrecondition, "chunk number " + ToString(chunk) + " is in use"};
  }
  proto::ChunkRecord record;
  record.set_inode(inode.value());
  record.set_index(index);
  record.set_state(proto::CHUNK_OPEN);
  record.set_replicas(policy.replicas());
  record.set_write_quorum(policy.write_quorum());
  record.set_epoch(lease.value());
  for (const uint32_t server : servers) {
    if (server == 0 || HasMember(&record, server)) {
      return {StatusCode::kFailedPrecondition, "the placement of chunk " + ToString(chunk) + " is not valid"};
    }
    record.add_members(server);
  }
  record.set_writer_lease(lease.value());
  record.set_writer_session(session.value());
  UpdateChunk(c, chunk, nullptr, record);
  c.txn().Put(Family::kInodeChunks, keys::InodeChunk(inode, index), keys::Chunk(chunk));
  c.ChangeCounters(0, +1, 0, 0);
  c.effects().chunks_allocated.push_back(chunk);
  *layouts->Add() = LayoutOf(chunk, record);
  return Status::Ok();
}

Status OpenChunk(Context& c, InodeId inode, uint64_t index, ChunkId chunk, Epoch lease, SessionId session,
                 google::protobuf::RepeatedPtrField<proto::ChunkLayout>* layouts) {
  std::optional<proto::ChunkRecord> record = LoadChunk(c.txn(), chunk);
  if (!record || !BelongsTo(*record, inode, index))
    return {StatusCode::kDamaged, LostRecordDetail(chunk)};
  if (record->state() == proto::CHUNK_DAMAGED) {
    return {StatusCode::kDamaged, "chunk " + ToString(chunk) + " waits for its members: " + record->detail()};
  }
  if (record->pending_epoch() != 0) {
    return {StatusCode::kBusy,
            "chunk " + ToString(chunk) + " is being reconfigured: " + record->pending_reason()};
  }
  if (IsOpen(&*record)) {
    if (record->writer_lease() != lease.value()) {
      return {StatusCode::kBusy,
              "chunk " + ToString(chunk) + " is open under lease " + std::to_string(record->writer_lease())};
    }
    *layouts->Add() = LayoutOf(chunk, *record);
    return Status::Ok();
  }
  // Replicas refuse the sealed epoch for good: a chunk that was sealed under this very lease needs a fresh
  // one.
  const Epoch taken(std::max(record->epoch(), record->sealed().epoch()));
  const Epoch epoch = lease > taken ? lease : c.NewEpoch();
  if (epoch <= taken) {
    return {StatusCode::kFailedPrecondition,
            "opening chunk " + ToString(chunk) + " needs an epoch above " + ToString(taken)};
  }
  const proto::ChunkRecord before = *record;
  record->set_state(proto::CHUNK_OPEN);
  record->set_epoch(epoch.value());
  *record->mutable_base() = record->sealed();
  record->set_writer_lease(lease.value());
  record->set_writer_session(session.value());
  UpdateChunk(c, chunk, &before, *record);
  c.effects().chunks_opened.push_back(chunk);
  *layouts->Add() = LayoutOf(chunk, *record);
  return Status::Ok();
}

}  // namespace

void UpdateChunk(Context& c, ChunkId chunk, const proto::ChunkRecord* before,
                 const proto::ChunkRecord& after) {
  SaveChunk(&c.txn(), chunk, after);
  UpdateLists(c, chunk, before, &after);
}

void DropChunk(Context& c, ChunkId chunk, const proto::ChunkRecord& record) {
  const bool deleting = record.state() == proto::CHUNK_DELETING;
  UpdateLists(c, chunk, &record, nullptr);
  c.txn().Delete(Family::kChunks, keys::Chunk(chunk));
  if (!deleting)
    c.txn().Delete(Family::kInodeChunks, keys::InodeChunk(InodeId(record.inode()), record.index()));
  c.ChangeCounters(0, deleting ? 0 : -1, deleting ? -1 : 0, 0);
  c.effects().chunks_dropped.push_back(chunk);
}

Status AnnounceChunks(Context& c, InodeId inode, const proto::InodeRecord& record, Epoch lease,
                      SessionId session, uint64_t first, uint32_t count,
                      google::protobuf::RepeatedPtrField<proto::ChunkLayout>* layouts) {
  if (count == 0) return Status::Ok();
  if (count > kMaxAnnounce) {
    return {StatusCode::kInvalidArgument,
            "at most " + std::to_string(kMaxAnnounce) + " chunks may be announced at once"};
  }
  if (record.chunk_bytes() == 0) return {StatusCode::kInvalidArgument, "only regular files have chunks"};
  const uint64_t last = first + count - 1;
  if (last < first || last > (kMaxFileBytes - 1) / record.chunk_bytes()) {
    return {StatusCode::kFileTooLarge, "a file has at most " + std::to_string(kMaxFileBytes) + " bytes"};
  }
  CAIRN_ASSIGN_OR_RETURN(const proto::Policy policy, EffectivePolicy(c.txn(), inode));
  std::vector<ChunkAt> present;
  for (const ChunkAt& at : ChunksOfInode(c.txn(), inode, first, count)) {
    if (at.index <= last) present.push_back(at);
  }
  auto next = present.begin();
  for (uint64_t index = first; index <= last; ++index) {
    if (next != present.end() && next->index == index) {
      CAIRN_RETURN_IF_ERROR(OpenChunk(c, inode, index, next->chunk, lease, session, layouts));
      ++next;
    } else {
      CAIRN_RETURN_IF_ERROR(AllocateChunk(c, inode, index, lease, session, policy, layouts));
    }
  }
  return Status::Ok();
}

void DeleteChunk(Context& c, ChunkId chunk, const proto::ChunkRecord& before, bool deleted_by_quorum) {
  proto::ChunkRecord record = before;
  record.set_state(proto::CHUNK_DELETING);
  // Erasing names this epoch: above whatever the writer may still send under its lease.
  if (c.NewEpoch() > Epoch(record.epoch())) record.set_epoch(c.NewEpoch().value());
  record.clear_writer_lease();
  record.clear_writer_session();
  record.clear_pending_epoch();
  record.clear_pending_reason();
  record.clear_shrink_pending();
  *record.mutable_deleting_since() = c.now();
  record.set_deleted_by_quorum(deleted_by_quorum);
  UpdateChunk(c, chunk, &before, record);
  const InodeId inode(before.inode());
  if (ChunkAtIndex(c.txn(), inode, before.index()) == chunk)
    c.txn().Delete(Family::kInodeChunks, keys::InodeChunk(inode, before.index()));
  c.effects().chunks_deleting.push_back(chunk);
}

uint64_t DeleteChunks(Context& c, InodeId inode, uint64_t first, bool deleted_by_quorum) {
  uint64_t allocated = 0;
  int64_t count = 0;
  for (const ChunkAt& at : ChunksOfInode(c.txn(), inode, first, SIZE_MAX)) {
    const std::optional<proto::ChunkRecord> record = LoadChunk(c.txn(), at.chunk);
    if (!record || !BelongsTo(*record, inode, at.index)) {
      // fsck names it; the place goes with the file, somebody else's chunk stays.
      c.txn().Delete(Family::kInodeChunks, keys::InodeChunk(inode, at.index));
      continue;
    }
    allocated += AllocatedBytes(*record);
    DeleteChunk(c, at.chunk, *record, deleted_by_quorum);
    ++count;
  }
  if (count > 0) c.ChangeCounters(0, -count, count, 0);
  return allocated;
}

void ChangeAllocation(Context& c, InodeId inode, const proto::ChunkRecord& before, const proto::ChunkRecord& after) {
  const uint64_t old_bytes = AllocatedBytes(before);
  const uint64_t new_bytes = AllocatedBytes(after);
  if (old_bytes == new_bytes) return;
  Result<proto::InodeRecord> record = LoadInode(c.txn(), inode);
  if (!record.ok()) return;
  CAIRN_CHECK(record->allocated_bytes() >= old_bytes, "the space of a file fell below that of its chunks");
  record->set_allocated_bytes(record->allocated_bytes() - old_bytes + new_bytes);
  SaveInode(&c.txn(), inode, *record);
  if (record->nlink() == 0) CountTrashAnew(c, inode, *record);
}

void GrantWriteLease(Context& c, InodeId inode, SessionId session, Epoch lease) {
  proto::WriteLeaseRecord record;
  record.set_session(session.value());
  record.set_lease(lease.value());
  Save(&c.txn(), Family::kWriteLeases, keys::Inode(inode), record);
  c.txn().Put(Family::kSessionRefs, keys::Ref(session, keys::SessionRef::kWriteLease, inode), "");
  c.effects().leases_granted.push_back({inode, session, lease});
}

void EndWriteLease(Context& c, InodeId inode) {
  const std::optional<WriteLease> lease = WriteLeaseOf(c.txn(), inode);
  if (!lease) return;
  c.txn().Delete(Family::kWriteLeases, keys::Inode(inode));
  c.txn().Delete(Family::kSessionRefs, keys::Ref(lease->session, keys::SessionRef::kWriteLease, inode));
  c.effects().leases_ended.push_back({inode, lease->session, lease->lease});
}

void ReleaseWriteLease(Context& c, InodeId inode) {
  const std::optional<WriteLease> lease = WriteLeaseOf(c.txn(), inode);
  if (!lease) return;
  const std::vector<ChunkId> open = OpenChunksOf(c.txn(), inode);
  if (open.empty()) {
    EndWriteLease(c, inode);
    return;
  }
  proto::WriteLeaseRecord record;
  record.set_session(lease->session.value());
  record.set_lease(lease->lease.value());
  record.set_vanished(true);
  Save(&c.txn(), Family::kWriteLeases, keys::Inode(inode), record);
  c.effects().chunks_to_recover.insert(c.effects().chunks_to_recover.end(), open.begin(), open.end());
}

void EndVanishedLeaseIfResolved(Context& c, InodeId inode) {
  const std::optional<WriteLease> lease = WriteLeaseOf(c.txn(), inode);
  if (lease && lease->vanished && OpenChunksOf(c.txn(), inode).empty()) EndWriteLease(c, inode);
}

}  // namespace cairn::master
