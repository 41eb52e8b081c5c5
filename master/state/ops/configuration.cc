// The one configuration procedure as the log sees it, and what else changes a chunk without its writer.
#include <algorithm>
#include <set>
#include <string>

#include "master/state/chunk_ops.h"
#include "master/state/chunk_queries.h"
#include "master/state/ops/ops.h"
#include "master/state/queries.h"

namespace cairn::master {
namespace {

Result<proto::ChunkRecord> LoadLiveChunk(Context& c, ChunkId chunk) {
  std::optional<proto::ChunkRecord> record = LoadChunk(c.txn(), chunk);
  if (!record) return Status(StatusCode::kUnknownChunk, "chunk " + ToString(chunk) + " does not exist");
  if (record->state() == proto::CHUNK_DELETING)
    return Status(StatusCode::kDeleted, "chunk " + ToString(chunk) + " is being deleted");
  return *std::move(record);
}

Status Refuse(ChunkId chunk, const std::string& why) {
  return {StatusCode::kFailedPrecondition, "chunk " + ToString(chunk) + ": " + why};
}

template <typename Servers>
bool Contains(const Servers& servers, uint32_t server) {
  return std::find(servers.begin(), servers.end(), server) != servers.end();
}

Status CheckMembers(ChunkId chunk, const proto::ActivateConfigurationCmd& op) {
  const std::set<uint32_t> members(op.members().begin(), op.members().end());
  if (members.empty() || members.contains(0) || members.size() != static_cast<size_t>(op.members_size()) ||
      members.size() > kMaxReplicas) {
    return Refuse(chunk, "the members of a configuration are 1 to " + std::to_string(kMaxReplicas) +
                             " different servers");
  }
  if (op.write_quorum() == 0 || op.write_quorum() > members.size()) {
    return Refuse(chunk, "a write quorum of " + std::to_string(op.write_quorum()) + " does not fit " +
                             std::to_string(members.size()) + " members");
  }
  const std::set<uint32_t> carriers(op.carriers().begin(), op.carriers().end());
  for (const uint32_t server : carriers) {
    if (!members.contains(server))
      return Refuse(chunk, "cs" + std::to_string(server) + " carries the base but is no member");
  }
  if (carriers.size() < op.write_quorum()) {
    return {StatusCode::kNoQuorum, "chunk " + ToString(chunk) + ": activation needs " +
                                       std::to_string(op.write_quorum()) + " members with the base, " +
                                       std::to_string(carriers.size()) + " have it"};
  }
  return Status::Ok();
}

// Nothing acknowledged may get lost: the base is not below what was made durable or sealed.
Status CheckFloors(ChunkId chunk, const proto::ChunkRecord& record,
                   const proto::ActivateConfigurationCmd& op) {
  if (record.has_loss()) return Status::Ok();
  const Stamp base = FromProto(op.base());
  if (base < FromProto(record.durable())) {
    return {StatusCode::kDamaged, "chunk " + ToString(chunk) + ": recovery at " + ToString(base) +
                                      " would lose what is durable at " +
                                      ToString(FromProto(record.durable()))};
  }
  if (base < FromProto(record.sealed()) && !op.below_seal()) {
    return {StatusCode::kDamaged, "chunk " + ToString(chunk) + ": recovery at " + ToString(base) +
                                      " would lose what is sealed at " +
                                      ToString(FromProto(record.sealed()))};
  }
  return Status::Ok();
}

void ClearPending(proto::ChunkRecord* record) {
  record->clear_pending_epoch();
  record->clear_pending_reason();
}

void ClearWriter(proto::ChunkRecord* record) {
  record->clear_writer_lease();
  record->clear_writer_session();
}

// Up to which length of the chunk the file's size may be taken from it: not beyond a truncation that did not
// get through.
uint64_t LengthForSize(const proto::ChunkRecord& record, const proto::ActivateConfigurationCmd& op) {
  const bool applied = record.shrink_seq() != 0 && op.base().seq() >= record.shrink_seq();
  if (!record.shrink_pending() || applied) return op.length();
  return std::min(op.length(), record.shrink_length());
}

void GrowFile(Context& c, const proto::ChunkRecord& record, uint64_t length) {
  const InodeId inode(record.inode());
  Result<proto::InodeRecord> file = LoadInode(c.txn(), inode);
  if (!file.ok() || length == 0) return;
  const uint64_t size = record.index() * file->chunk_bytes() + length;
  if (size <= file->size()) return;
  file->set_size(size);
  *file->mutable_mtime() = c.now();
  c.Touch(&*file);
  SaveInode(&c.txn(), inode, *file);
  c.effects().inodes.push_back(inode);
}

void ActivateNeverBegun(Context& c, ChunkId chunk, const proto::ChunkRecord& before) {
  if (before.sealed().epoch() == 0) {
    DropChunk(c, chunk, before);
    return;
  }
  proto::ChunkRecord record = before;
  record.set_state(proto::CHUNK_SEALED);
  record.clear_detail();
  ClearPending(&record);
  ClearWriter(&record);
  UpdateChunk(c, chunk, &before, record);
  c.effects().chunks_sealed.push_back(chunk);
}

void Seal(Context& c, ChunkId chunk, const proto::ChunkRecord& before,
          const proto::ActivateConfigurationCmd& op, proto::ChunkRecord* record) {
  record->set_state(proto::CHUNK_SEALED);
  *record->mutable_sealed() = ToProto({Epoch(op.epoch()), op.base().seq()});
  *record->mutable_carriers() = op.carriers();
  record->set_length(op.length());
  record->clear_shrink_pending();
  record->clear_shrink_length();
  record->clear_shrink_seq();
  // A durable stamp above the base (its loss was accepted) would refuse every later recovery.
  if (FromProto(record->durable()) > FromProto(record->sealed()))
    *record->mutable_durable() = record->sealed();
  ClearWriter(record);
  // Which of it are holes is not known here; what was recorded holds as long as nothing was written beyond the seal.
  if (FromProto(op.base()) != FromProto(before.sealed()) || before.length() != record->length())
    record->clear_allocated_bytes();
  UpdateChunk(c, chunk, &before, *record);
  ChangeAllocation(c, InodeId(record->inode()), before, *record);
  if (op.vanished_writer()) GrowFile(c, *record, LengthForSize(before, op));
  c.effects().chunks_sealed.push_back(chunk);
}

}  // namespace

Status ApplyBeginReconfiguration(Context& c, const proto::BeginReconfigurationCmd& op) {
  const ChunkId chunk(op.chunk());
  CAIRN_ASSIGN_OR_RETURN(const proto::ChunkRecord before, LoadLiveChunk(c, chunk));
  if (op.epoch() <= std::max(before.epoch(), before.pending_epoch())) {
    return {StatusCode::kFenced, "chunk " + ToString(chunk) + " needs an epoch above " +
                                     std::to_string(std::max(before.epoch(), before.pending_epoch()))};
  }
  proto::ChunkRecord record = before;
  record.set_pending_epoch(op.epoch());
  record.set_pending_reason(op.reason());
  UpdateChunk(c, chunk, &before, record);
  return Status::Ok();
}

Status ApplyActivateConfiguration(Context& c, const proto::ActivateConfigurationCmd& op) {
  const ChunkId chunk(op.chunk());
  CAIRN_ASSIGN_OR_RETURN(const proto::ChunkRecord before, LoadLiveChunk(c, chunk));
  const InodeId inode(before.inode());
  if (op.epoch() == 0 || op.epoch() != before.pending_epoch()) {
    if (op.epoch() == before.epoch() && before.pending_epoch() == 0) return Status::Ok();  // a repeat
    return {StatusCode::kFenced, "chunk " + ToString(chunk) + ": epoch " + std::to_string(op.epoch()) +
                                     " is not the one being configured (" +
                                     std::to_string(before.pending_epoch()) + ")"};
  }
  if (op.never_begun()) {
    ActivateNeverBegun(c, chunk, before);
    EndVanishedLeaseIfResolved(c, inode);
    return Status::Ok();
  }
  CAIRN_RETURN_IF_ERROR(CheckMembers(chunk, op));
  CAIRN_RETURN_IF_ERROR(CheckFloors(chunk, before, op));
  CAIRN_ASSIGN_OR_RETURN(const proto::InodeRecord file, LoadInode(c.txn(), inode));
  if (op.length() > file.chunk_bytes()) return Refuse(chunk, "is longer than chunks of this file can be");
  if (!op.sealed() && before.writer_lease() == 0) return Refuse(chunk, "has no writer who could go on");
  proto::ChunkRecord record = before;
  record.set_epoch(op.epoch());
  *record.mutable_members() = op.members();
  record.set_write_quorum(op.write_quorum());
  *record.mutable_base() = op.base();
  record.clear_detail();
  record.clear_loss();
  ClearPending(&record);
  CAIRN_ASSIGN_OR_RETURN(const proto::Policy policy, EffectivePolicy(c.txn(), inode));
  record.set_replicas(std::max(policy.replicas(), op.write_quorum()));
  if (op.sealed()) {
    Seal(c, chunk, before, op, &record);
  } else {
    record.set_state(proto::CHUNK_OPEN);
    UpdateChunk(c, chunk, &before, record);
  }
  c.effects().chunks_configured.push_back(chunk);
  c.effects().inodes.push_back(inode);
  EndVanishedLeaseIfResolved(c, inode);
  return Status::Ok();
}

Status ApplyReportCarriers(Context& c, const proto::ReportCarriersCmd& op) {
  const ChunkId chunk(op.chunk());
  CAIRN_ASSIGN_OR_RETURN(const proto::ChunkRecord before, LoadLiveChunk(c, chunk));
  if (before.writer_lease() != 0 || FromProto(op.stamp()) != FromProto(before.sealed())) {
    return Refuse(chunk, "is not sealed at " + ToString(FromProto(op.stamp())));
  }
  proto::ChunkRecord record = before;
  record.clear_carriers();
  for (const uint32_t server : op.carriers()) {
    if (!Contains(before.members(), server))
      return Refuse(chunk, "cs" + std::to_string(server) + " is no member");
    if (!Contains(record.carriers(), server)) record.add_carriers(server);
  }
  // Enough members hold the data again: what it waited for.
  if (record.state() == proto::CHUNK_DAMAGED &&
      static_cast<uint32_t>(record.carriers_size()) >= record.write_quorum()) {
    record.set_state(proto::CHUNK_SEALED);
    record.clear_detail();
    c.effects().chunks_sealed.push_back(chunk);
  }
  UpdateChunk(c, chunk, &before, record);
  c.effects().chunks_configured.push_back(chunk);
  c.effects().inodes.push_back(InodeId(before.inode()));
  return Status::Ok();
}

Status ApplyMarkDamaged(Context& c, const proto::MarkDamagedCmd& op) {
  const ChunkId chunk(op.chunk());
  CAIRN_ASSIGN_OR_RETURN(const proto::ChunkRecord before, LoadLiveChunk(c, chunk));
  proto::ChunkRecord record = before;
  record.set_state(proto::CHUNK_DAMAGED);
  record.set_detail(op.detail());
  ClearPending(&record);
  UpdateChunk(c, chunk, &before, record);
  c.effects().chunks_damaged.push_back(chunk);
  c.effects().inodes.push_back(InodeId(before.inode()));
  return Status::Ok();
}

Status ApplyAcceptLoss(Context& c, const proto::AcceptLossCmd& op) {
  const ChunkId chunk(op.chunk());
  CAIRN_ASSIGN_OR_RETURN(const proto::ChunkRecord before, LoadLiveChunk(c, chunk));
  if (op.reason().empty()) return {StatusCode::kInvalidArgument, "accepting a loss needs a reason"};
  proto::ChunkRecord record = before;
  proto::LossAccepted* loss = record.mutable_loss();
  *loss->mutable_when() = c.now();
  loss->set_reason(op.reason());
  loss->set_operator_(op.operator_());
  UpdateChunk(c, chunk, &before, record);
  c.effects().chunks_configured.push_back(chunk);
  return Status::Ok();
}

Status ApplyChunkErased(Context& c, const proto::ChunkErasedCmd& op) {
  const ChunkId chunk(op.chunk());
  const std::optional<proto::ChunkRecord> before = LoadChunk(c.txn(), chunk);
  if (!before) return Status::Ok();  // erased everywhere already
  if (before->state() != proto::CHUNK_DELETING) return Refuse(chunk, "is not being deleted");
  proto::ChunkRecord record = *before;
  record.clear_members();
  for (const uint32_t server : before->members()) {
    if (server != op.server()) record.add_members(server);
  }
  if (record.members_size() == 0) {
    DropChunk(c, chunk, *before);
  } else {
    UpdateChunk(c, chunk, &*before, record);
  }
  return Status::Ok();
}

}  // namespace cairn::master
