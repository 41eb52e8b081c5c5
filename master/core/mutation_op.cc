#include <algorithm>

#include "common/log.h"
#include "master/core/reconfigure_op.h"
#include "master/core/request_op.h"
#include "master/state/chunk_queries.h"

namespace cairn::master {
namespace {

constexpr int64_t kBusyNanos = 200 * kNanosPerMilli;

std::vector<ChunkId> Sorted(std::vector<ChunkId> chunks) {
  std::sort(chunks.begin(), chunks.end());
  return chunks;
}

bool Contains(const std::vector<InodeId>& list, InodeId inode) {
  return std::find(list.begin(), list.end(), inode) != list.end();
}

}  // namespace

bool MutationOp::BuildCommand(proto::LogCommand* command) const {
  *command = NewCommand();
  switch (request_.op_case()) {
    case proto::Request::kCreate:
      *command->mutable_create() = request_.create();
      return true;
    case proto::Request::kMkdir:
      *command->mutable_mkdir() = request_.mkdir();
      return true;
    case proto::Request::kMknod:
      *command->mutable_mknod() = request_.mknod();
      return true;
    case proto::Request::kSymlink:
      *command->mutable_symlink() = request_.symlink();
      return true;
    case proto::Request::kLink:
      *command->mutable_link() = request_.link();
      return true;
    case proto::Request::kUnlink:
      *command->mutable_unlink() = request_.unlink();
      return true;
    case proto::Request::kRmdir:
      *command->mutable_rmdir() = request_.rmdir();
      return true;
    case proto::Request::kRename:
      *command->mutable_rename() = request_.rename();
      return true;
    case proto::Request::kSetAttr:
      *command->mutable_set_attr() = request_.set_attr();
      return true;
    case proto::Request::kSetXattr:
      *command->mutable_set_xattr() = request_.set_xattr();
      return true;
    case proto::Request::kRemoveXattr:
      *command->mutable_remove_xattr() = request_.remove_xattr();
      return true;
    case proto::Request::kAnnounce:
      *command->mutable_announce() = request_.announce();
      return true;
    case proto::Request::kSetPolicy:
      *command->mutable_set_policy() = request_.set_policy();
      return true;
    case proto::Request::kUndelete:
      *command->mutable_undelete() = request_.undelete();
      return true;
    case proto::Request::kTrashPurge:
      *command->mutable_trash_purge() = request_.trash_purge();
      return true;
    default:
      return false;
  }
}

// The holder of a write lease announces under it; nobody else can hold anything on that inode.
bool MutationOp::NeedsRecalls() const { return request_.op_case() != proto::Request::kAnnounce; }

// Allowed although the master's disk is nearly full: what makes room again.
bool MutationOp::FreesSpace() const {
  return request_.op_case() == proto::Request::kUnlink || request_.op_case() == proto::Request::kRmdir ||
         request_.op_case() == proto::Request::kRemoveXattr ||
         request_.op_case() == proto::Request::kTrashPurge;
}

InodeId MutationOp::ParentForPlacement() const {
  return request_.op_case() == proto::Request::kCreate ? InodeId(request_.create().parent()) : InodeId{};
}

std::string MutationOp::WaitReason() const {
  return procedure_ != nullptr ? "a delete waits for its confirmations" : "a change waits for recalls";
}

void MutationOp::UnlockVictims(Core& core) {
  for (InodeId victim : victims_) {
    core.inodes().Unlock(victim, id);
    core.WakeInode(victim);
  }
  victims_.clear();
}

void MutationOp::Abandon(Core& core) {
  if (procedure_ != nullptr) procedure_->Refuse();
  UnlockVictims(core);
}

bool MutationOp::Unimpeded(Core& core, const Effects& effects, Status* failure) {
  std::vector<InodeId> touched = effects.inodes;
  for (InodeId inode : effects.directories) touched.push_back(inode);
  for (InodeId inode : effects.last_name_gone) touched.push_back(inode);
  for (const LeaseChange& granted : effects.leases_granted) touched.push_back(granted.inode);
  bool free = true;
  for (InodeId inode : touched) {
    if (!inode) continue;  // the one that the command makes
    const bool directory = Contains(effects.directories, inode);
    if (!directory && !Available(core, inode, failure)) {
      free = false;
      if (!failure->ok()) return false;
    }
  }
  if (!free) return false;
  for (InodeId inode : touched) {
    if (!inode) continue;
    const bool deleting = Contains(effects.last_name_gone, inode);
    if (!core.OthersAtMost(inode, session, LeaseMode::kNone, deleting, id)) free = false;
  }
  return free;
}

bool MutationOp::StartDelete(Core& core, const Effects& effects) {
  for (ChunkId chunk : effects.chunks_deleting) {
    if (!DeleteProcedure::MayStart(core, chunk) || ReconfigureOp::Running(core, chunk) != nullptr)
      return false;
  }
  victims_ = effects.last_name_gone;
  for (InodeId victim : victims_) core.inodes().Lock(victim, id);
  procedure_ = DeleteProcedure::Start(core, effects.chunks_deleting,
                                      core.options().write_timeout_ms * kNanosPerMilli, id);
  if (procedure_->state() != DeleteProcedure::State::kPreparing) core.Wake(id);
  return true;
}

Progress MutationOp::Try(Core& core) {
  if (procedure_ != nullptr && procedure_->state() == DeleteProcedure::State::kRefused) {
    const Status refusal = procedure_->refusal();
    for (InodeId victim : victims_) core.RememberRefusal(victim, refusal);
    CAIRN_LOG(Warning, "session {}: {}", session.value(), refusal.message());
    UnlockVictims(core);
    return Fail(core, refusal);
  }
  if (!FreesSpace()) {
    const Status allowed = core.MutationsAllowed();
    if (!allowed.ok()) return Fail(core, allowed);
  }
  proto::LogCommand command;
  if (!BuildCommand(&command)) {
    return Fail(core, Status(StatusCode::kNotSupported, "this master does not know the request"));
  }
  // Without a lease the file is made all the same; who wants to write to it asks again, and is told why not.
  if (command.has_create() && command.create().want_write() && !core.RoomForWriteLease(session).ok())
    command.mutable_create()->set_want_write(false);
  // Opening a chunk again and erasing deleted ones may need an epoch above every one before.
  command.set_new_epoch(core.ids().NextEpoch().value());
  ApplyResult preview = core.Preview(command);
  if (!preview.repeated && WaitsForProcedure(core, preview.reply)) return Progress::kWaiting;
  if (!preview.ok() || preview.repeated) {
    if (procedure_ != nullptr) procedure_->Refuse();
    UnlockVictims(core);
    if (preview.repeated || preview.reply.status().code() == static_cast<uint32_t>(StatusCode::kNeedGroups)) {
      return Reply(core, std::move(preview.reply));
    }
    return Reply(core, core.Apply(command).reply);  // stores the outcome for a repeat
  }
  if (NeedsRecalls()) {
    if (core.sessions().InGrace(core.now())) {
      core.WaitForGrace(id);
      return Progress::kWaiting;
    }
    Status failure;
    if (!Unimpeded(core, preview.effects, &failure)) {
      if (failure.ok()) return Progress::kWaiting;
      Abandon(core);
      return Fail(core, failure);
    }
  }

  const bool removes =
      request_.op_case() == proto::Request::kUnlink || request_.op_case() == proto::Request::kRename;
  if (removes && procedure_ == nullptr && !preview.effects.chunks_deleting.empty()) {
    if (!StartDelete(core, preview.effects)) {
      WakeAfter(core, kBusyNanos);
      return Progress::kWaiting;
    }
  }
  if (procedure_ != nullptr) {
    if (procedure_->state() == DeleteProcedure::State::kPreparing) {
      // No optional leases on what changes with the commit, so that it need not recall again.
      for (InodeId directory : preview.effects.directories) core.inodes().Wait(directory, id);
      return Progress::kWaiting;
    }
    if (procedure_->state() == DeleteProcedure::State::kRefused) {
      core.Wake(id);
      return Progress::kWaiting;
    }
    if (Sorted(preview.effects.chunks_deleting) != procedure_->chunks()) {
      // The file got another name, was opened or replaced meanwhile: take the tombstones back and look again.
      procedure_->Refuse();
      procedure_.reset();
      UnlockVictims(core);
      core.Wake(id);
      return Progress::kWaiting;
    }
  }
  return ApplyNow(core, preview.effects, std::move(command));
}

Progress MutationOp::ApplyNow(Core& core, const Effects& preview, proto::LogCommand command) {
  const Status placed = AddPlacements(core, preview, ParentForPlacement(), &command);
  if (!placed.ok()) return WaitsForServers(core, placed) ? Progress::kWaiting : Fail(core, placed);
  switch (request_.op_case()) {
    case proto::Request::kCreate:
    case proto::Request::kMkdir:
    case proto::Request::kMknod:
    case proto::Request::kSymlink:
      command.set_new_inode(core.ids().NextInode().value());
      break;
    default:
      break;
  }
  ApplyResult result = core.Apply(command);
  if (procedure_ != nullptr) {
    if (result.ok()) {
      procedure_->Committed();
    } else {
      procedure_->Refuse();
    }
  }
  UnlockVictims(core);
  for (InodeId directory : preview.directories) core.WakeInode(directory);
  for (InodeId inode : preview.inodes) core.WakeInode(inode);
  proto::Reply reply = std::move(result.reply);
  if (result.ok()) {
    for (const LeaseChange& granted : result.effects.leases_granted) {
      const bool told =
          std::any_of(reply.leases().begin(), reply.leases().end(),
                      [&](const proto::Lease& lease) { return lease.inode() == granted.inode.value(); });
      if (granted.session != session || told) continue;
      proto::Lease* lease = reply.add_leases();
      lease->set_inode(granted.inode.value());
      lease->set_mode(proto::LEASE_WRITE);
      lease->set_number(granted.lease.value());
    }
    if (reply.has_entry()) core.OfferReadLease(InodeId(reply.entry().attr().inode()), session, &reply);
  }
  return Reply(core, std::move(reply));
}

}  // namespace cairn::master
