// What the holders of write leases report: sizes, times, seals, durable stamps, and the return of leases.
#include <algorithm>
#include <set>
#include <string>
#include <utility>

#include "master/state/chunk_ops.h"
#include "master/state/chunk_queries.h"
#include "master/state/effects.h"
#include "master/state/namespace_ops.h"
#include "master/state/ops/ops.h"

namespace cairn::master {
namespace {

Status Refuse(ChunkId chunk, const std::string& why) {
  return {StatusCode::kFailedPrecondition, "chunk " + ToString(chunk) + ": " + why};
}

// The chunk of a seal or durable stamp, if it belongs to the inode.
Result<proto::ChunkRecord> LoadOwnChunk(Context& c, InodeId inode, ChunkId chunk) {
  std::optional<proto::ChunkRecord> record = LoadChunk(c.txn(), chunk);
  if (!record || record->inode() != inode.value())
    return Refuse(chunk, "not a chunk of inode " + ToString(inode));
  return *std::move(record);
}

// Announced, but nothing was written: a new chunk goes, an old one is as it was.
void Unopen(Context& c, ChunkId chunk, const proto::ChunkRecord& before) {
  if (!before.sealed().epoch()) {
    DropChunk(c, chunk, before);
    return;
  }
  proto::ChunkRecord record = before;
  record.set_state(proto::CHUNK_SEALED);
  record.clear_writer_lease();
  record.clear_writer_session();
  UpdateChunk(c, chunk, &before, record);
  c.effects().chunks_sealed.push_back(chunk);
}

Status CheckCarriers(const proto::ChunkRecord& record, const proto::ChunkSeal& seal) {
  const ChunkId chunk(seal.chunk());
  std::set<uint32_t> carriers;
  for (const uint32_t server : seal.carriers()) {
    if (std::find(record.members().begin(), record.members().end(), server) == record.members().end()) {
      return Refuse(chunk, "cs" + std::to_string(server) + " confirmed a seal but is no member");
    }
    carriers.insert(server);
  }
  if (carriers.size() < record.write_quorum()) {
    return {StatusCode::kNoQuorum, "chunk " + ToString(chunk) + ": a seal needs " +
                                       std::to_string(record.write_quorum()) + " carriers, " +
                                       std::to_string(carriers.size()) + " confirmed it"};
  }
  return Status::Ok();
}

Status SealChunk(Context& c, InodeId inode, const WriteLease& lease, const proto::ChunkSeal& seal,
                 uint64_t chunk_bytes) {
  const ChunkId chunk(seal.chunk());
  if (seal.never_begun() && !LoadChunk(c.txn(), chunk)) return Status::Ok();  // a repeat
  CAIRN_ASSIGN_OR_RETURN(const proto::ChunkRecord before, LoadOwnChunk(c, inode, chunk));
  if (before.state() == proto::CHUNK_DELETING) return Status::Ok();  // cut off by a truncation meanwhile
  const Stamp stamp = FromProto(seal.stamp());
  if (before.writer_lease() == 0) {
    // A repeat of a seal that was recorded is fine, with perhaps more carriers than were known then.
    if (seal.never_begun() || stamp == FromProto(before.sealed())) return Status::Ok();
    return Refuse(chunk, "is sealed at " + ToString(FromProto(before.sealed())) + ", not open");
  }
  if (before.writer_lease() != lease.lease.value()) {
    return {StatusCode::kLeaseLost,
            "chunk " + ToString(chunk) + " is open under lease " + std::to_string(before.writer_lease())};
  }
  if (seal.never_begun()) {
    if (before.pending_epoch() != 0)
      return Refuse(chunk, "is being reconfigured; that decides what was begun");
    // A configuration that was activated under the writer stands on mutations that the seal on record does not have.
    if (FromProto(before.base()) != FromProto(before.sealed()))
      return Refuse(chunk, "was reconfigured at " + ToString(FromProto(before.base())) + "; recovery decides what was begun");
    Unopen(c, chunk, before);
    return Status::Ok();
  }
  if (stamp.epoch.value() != before.epoch()) {
    return {StatusCode::kFenced, "chunk " + ToString(chunk) + " is in epoch " +
                                     std::to_string(before.epoch()) + ", the seal is of epoch " +
                                     ToString(stamp.epoch)};
  }
  if (stamp.seq < before.base().seq() || stamp < FromProto(before.sealed())) {
    return Refuse(chunk, "a seal at " + ToString(stamp) + " is older than what is recorded");
  }
  if (seal.length() > chunk_bytes) return Refuse(chunk, "is longer than chunks of this file can be");
  CAIRN_RETURN_IF_ERROR(CheckCarriers(before, seal));
  proto::ChunkRecord record = before;
  record.set_state(proto::CHUNK_SEALED);
  *record.mutable_sealed() = seal.stamp();
  *record.mutable_carriers() = seal.carriers();
  record.set_length(seal.length());
  if (seal.has_allocated_bytes()) {
    record.set_allocated_bytes(seal.allocated_bytes());
  } else {
    record.clear_allocated_bytes();
  }
  record.clear_writer_lease();
  record.clear_writer_session();
  record.clear_detail();
  // The writer sends its truncation before it seals.
  record.clear_shrink_pending();
  record.clear_shrink_length();
  record.clear_shrink_seq();
  UpdateChunk(c, chunk, &before, record);
  ChangeAllocation(c, inode, before, record);
  c.effects().chunks_sealed.push_back(chunk);
  return Status::Ok();
}

Status RecordDurable(Context& c, InodeId inode, const proto::ChunkDurable& durable) {
  const ChunkId chunk(durable.chunk());
  CAIRN_ASSIGN_OR_RETURN(const proto::ChunkRecord before, LoadOwnChunk(c, inode, chunk));
  if (before.state() == proto::CHUNK_DELETING) return Status::Ok();
  const Stamp stamp = FromProto(durable.stamp());
  if (stamp <= FromProto(before.durable())) return Status::Ok();
  if (stamp.epoch.value() > before.epoch())
    return Refuse(chunk, "a durable stamp of epoch " + ToString(stamp.epoch) + ", which is not open yet");
  proto::ChunkRecord record = before;
  *record.mutable_durable() = durable.stamp();
  UpdateChunk(c, chunk, &before, record);
  return Status::Ok();
}

bool Later(const proto::Time& a, const proto::Time& b) {
  return std::pair(a.seconds(), a.nanos()) > std::pair(b.seconds(), b.nanos());
}

Status ApplyCommit(Context& c, const proto::InodeCommit& commit) {
  const InodeId inode(commit.inode());
  CAIRN_ASSIGN_OR_RETURN(proto::InodeRecord record, LoadInode(c.txn(), inode));
  const std::optional<WriteLease> lease = WriteLeaseOf(c.txn(), inode);
  if (!lease || lease->vanished || lease->lease.value() != commit.lease() || lease->session != c.session()) {
    return {StatusCode::kLeaseLost,
            "write lease " + std::to_string(commit.lease()) + " on inode " + ToString(inode) + " has ended"};
  }
  for (const proto::ChunkSeal& seal : commit.seals()) {
    CAIRN_RETURN_IF_ERROR(SealChunk(c, inode, *lease, seal, record.chunk_bytes()));
  }
  for (const proto::ChunkDurable& durable : commit.durable())
    CAIRN_RETURN_IF_ERROR(RecordDurable(c, inode, durable));

  CAIRN_ASSIGN_OR_RETURN(record, LoadInode(c.txn(), inode));  // its space may have changed
  if (commit.has_size()) {
    if (commit.size() > kMaxFileBytes) {
      return {StatusCode::kFileTooLarge, "a file has at most " + std::to_string(kMaxFileBytes) + " bytes"};
    }
    record.set_size(std::max(record.size(), commit.size()));
  }
  if (commit.has_atime()) *record.mutable_atime() = commit.atime();
  if (commit.has_mtime()) *record.mutable_mtime() = commit.mtime();
  // The master may have changed the inode since (chmod of a file that is being written).
  if (commit.has_ctime() && Later(commit.ctime(), record.ctime())) *record.mutable_ctime() = commit.ctime();
  record.set_generation(record.generation() + 1);
  SaveInode(&c.txn(), inode, record);
  c.effects().inodes.push_back(inode);
  if (commit.still_open()) AddHold(c, inode, c.session());
  if (commit.keep() != proto::LEASE_WRITE) ReleaseWriteLease(c, inode);
  return Status::Ok();
}

}  // namespace

Status ApplyWriteBack(Context& c, const proto::WriteBackOp& op) {
  proto::WriteBackResult* result = c.reply().mutable_write_back();
  for (const proto::InodeCommit& commit : op.commits()) {
    c.txn().SetSavepoint();
    Effects of_others;
    std::swap(of_others, c.effects());
    const Status status = ApplyCommit(c, commit);
    std::swap(of_others, c.effects());
    if (status.ok()) {
      c.txn().DropSavepoint();
      AppendEffects(std::move(of_others), &c.effects());
      continue;
    }
    c.txn().RollbackToSavepoint();
    proto::CommitFailure* failure = result->add_failures();
    failure->set_inode(commit.inode());
    failure->mutable_status()->set_code(static_cast<uint32_t>(status.code()));
    failure->mutable_status()->set_message(status.message());
  }
  // The items that were applied stay applied: the caller of this function undoes nothing when it returns ok.
  if (result->failures_size() > 0) *c.reply().mutable_status() = result->failures(0).status();
  return Status::Ok();
}

}  // namespace cairn::master
