// File locks of a client; the rules are in client/locks.
#include <utility>

#include "client/impl/client_impl.h"

namespace cairn::client {

uint64_t ClientImpl::BeginLock(const LockRequest& request, LockDone done) {
  const HandlePtr handle = FindHandle(request.handle);
  return locks_->Begin(handle ? handle->file->inode : InodeId{}, request, std::move(done));
}

void ClientImpl::RunLock(uint64_t ticket) { locks_->Run(ticket); }

bool ClientImpl::CancelLock(uint64_t ticket, Cancelling how) { return locks_->Cancel(ticket, how); }

Result<std::optional<LockHolder>> ClientImpl::TestLock(const Caller&, const LockRequest& request) {
  const HandlePtr handle = FindHandle(request.handle);
  if (!handle) return Status(StatusCode::kBadHandle, "the handle is not open");
  return locks_->Test(handle->file->inode, request);
}

Status ClientImpl::ReleaseRecordLocks(Handle number, uint64_t owner) {
  const HandlePtr handle = FindHandle(number);
  return handle ? locks_->Closed(handle->file->inode, number, owner) : Status::Ok();
}

void ClientImpl::ReleaseHandleLocks(Handle number, uint64_t flock_owner) {
  if (const HandlePtr handle = FindHandle(number)) locks_->Released(handle->file->inode, number, flock_owner);
}

void ClientImpl::AbandonLocks() {
  locks_->Shutdown({StatusCode::kCancelled, "the mount is being taken away"});
}

Status ClientImpl::CheckLockKept(const OpenHandle& handle) {
  if (!handle.lock_lost.load(std::memory_order_relaxed)) return Status::Ok();
  return {StatusCode::kIoError,
          "a lock held through this descriptor was lost (the session with the master ended, or an "
          "administrator broke "
          "it), and the file may have changed since; close it and open it again"};
}

void ClientImpl::OnLockNotice(const proto::Notice& notice) {
  if (notice.has_lock_decided()) locks_->OnDecided(notice.lock_decided());
  if (notice.has_locks_lost()) locks_->OnLost(notice.locks_lost());
  if (notice.return_locks() != 0) locks_->OnReturn(InodeId(notice.return_locks()));
}

void ClientImpl::AddLockClaims(proto::Hello* hello) { locks_->Claims(hello); }

}  // namespace cairn::client
