// fsync: data on the disks of W replicas, then size, times and the stamps reached on the master's.
//
//   written bytes go to all members, a flush right behind them; W members have them on disk   (FileCore::FlushDurable)
//   -> one commit that asks the master to sync its log                                        (SyncMasterFor)
//
// The stamps are told before fsync returns, and after they are true: recovery never goes below a recorded one, also when more
// members are lost than the policy bears, so one that is recorded too early could not be recovered, and one that is missing
// could be lost without anybody noticing (the simulator finds both).
#include <utility>

#include "client/impl/client_impl.h"

namespace cairn::client {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

Status BadHandle() { return Status(StatusCode::kBadHandle, "the handle is not open for this"); }

// What fdatasync need not wait for.
bool OnlyTimes(const PendingCommit& commit) {
  return !commit.size && commit.seals.empty() && commit.durable.empty();
}

}  // namespace

Status ClientImpl::TellLostCommands() {
  if (!session_->TakeLostCommands()) return Status::Ok();
  return {StatusCode::kIoError, "the master lost power, and changes of this client with it"};
}

Status ClientImpl::SyncMaster() {
  proto::Request request;
  request.mutable_sync();
  CAIRN_RETURN_IF_ERROR(CallSystem(std::move(request)).status());
  return TellLostCommands();
}

void ClientImpl::NoteChanges(const proto::Request& request, const proto::Reply& reply) {
  if (reply.log_index() == 0 && !request.has_lease()) return;
  const auto note = [&](uint64_t inode) {
    const FilePtr file = inode == 0 ? nullptr : FindFile(InodeId(inode));
    if (!file) return;
    file->access_noted_until_ns.store(0, std::memory_order_relaxed);
    std::lock_guard lock(file->mu);
    file->changed_index = std::max(file->changed_index, reply.log_index());
    if (request.has_lease()) file->synced_tenure = 0;  // others may have had it; and it may have truncated
  };
  switch (request.op_case()) {
    case proto::Request::kWriteBack:
      for (const proto::InodeCommit& commit : request.write_back().commits()) note(commit.inode());
      break;
    case proto::Request::kAnnounce:
      return note(request.announce().inode());
    case proto::Request::kLease:
      return note(request.lease().inode());
    case proto::Request::kSetAttr:
      return note(request.set_attr().inode());
    case proto::Request::kSetXattr:
      return note(request.set_xattr().inode());
    case proto::Request::kRemoveXattr:
      return note(request.remove_xattr().inode());
    default:
      if (reply.has_entry()) note(reply.entry().attr().inode());
      if (reply.has_remove()) {
        note(reply.remove().inode_attr().inode());
        note(reply.remove().replaced_attr().inode());
      }
  }
}

Status ClientImpl::SyncMasterFor(const FilePtr& file, bool data_only) {
  // Sizes reach the master in order.
  std::unique_lock order(file->order_mu);
  std::vector<CommitItem> items(1);
  CommitItem& item = items.front();
  item.file = file;
  uint64_t tenure = 0;
  LeaseKind kind = LeaseKind::kNone;
  {
    std::lock_guard lock(file->attach_mu);
    item.lease = file->attached.number;
    tenure = file->attached.tenure;
    kind = file->attached.kind;
  }
  if (kind == LeaseKind::kWrite) TakeCommit(*file, &item.commit);
  if (data_only && !item.commit.empty() && OnlyTimes(item.commit)) {
    RestoreCommit(*file, std::exchange(item.commit, {}));
    MarkWritten(file, /*unsynced=*/false);
  }
  Status status;
  if (!item.commit.empty()) {
    PendingCommit copy = item.commit;
    proto::Request request = CommitRequest(items);
    request.mutable_write_back()->set_durable(true);
    CommitAnswered(session_->Call(std::move(request), {.raw = true}), items);
    status = item.result;
    if (!status.ok()) {
      RestoreCommit(*file, std::move(copy));
      MarkWritten(file);
    }
  } else {
    order.unlock();
    {
      std::lock_guard lock(file->mu);
      const bool known = tenure != 0 && file->synced_tenure == tenure;
      if (known && session_->Durable(file->changed_index)) return Status::Ok();  // its disk has everything
    }
    status = SyncMaster();
  }
  if (status.ok()) {
    std::lock_guard lock(file->mu);
    file->synced_tenure = tenure;
  }
  return status;
}

Status ClientImpl::SyncFile(const FilePtr& file, const Caller& caller, bool data_only) {
  CAIRN_RETURN_IF_ERROR(TellLostCommands());  // before anything is taken for synced by its index
  const Deadline deadline = steady_clock::now() + milliseconds(options_.request_timeout_ms);
  bool unsynced = false;
  {
    std::lock_guard lock(file->mu);
    unsynced = std::exchange(file->unsynced, false);
  }
  Status status;
  {
    CAIRN_ASSIGN_OR_RETURN(FileUse use, EnterIfWriting(file, deadline));
    if (!use && unsynced) {
      // Given back since the write: its chunks are sealed on W replicas, perhaps only in their memory.
      CAIRN_ASSIGN_OR_RETURN(use, Enter(file, {.kind = LeaseKind::kRead}, caller));
    }
    if (use) status = file->data->FlushDurable();
    // What was lost is in LastWriteError, and what is left was given back with the lease.
    if (status.code() == StatusCode::kLeaseLost) status = Status::Ok();
    if (status.ok()) status = use ? SyncMasterFor(file, data_only) : SyncMaster();
  }
  if (!status.ok() && unsynced) {
    std::lock_guard lock(file->mu);
    file->unsynced = true;
  }
  return status;
}

Status ClientImpl::Fsync(Handle number, bool data_only) {
  const HandlePtr handle = FindHandle(number);
  if (!handle) return BadHandle();
  const Status status = SyncFile(handle->file, handle->caller, data_only);
  const Status pending = TakeError(*handle);
  return pending.ok() ? status : pending;
}

Status ClientImpl::FsyncInode(InodeId inode) {
  if (const FilePtr file = FindFile(inode)) return SyncFile(file, Caller{}, false);
  return SyncMaster();
}

}  // namespace cairn::client
