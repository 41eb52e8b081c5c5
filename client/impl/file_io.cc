// Reading, writing, truncating, flushing.
#include <algorithm>
#include <utility>

#include "client/impl/client_impl.h"

namespace cairn::client {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

// An operation that finds its data detached begins again under a new lease.
constexpr int kAttempts = 4;

Status BadHandle() { return Status(StatusCode::kBadHandle, "the handle is not open for this"); }

StatusFlags FlagsNow(const OpenHandle& handle, const std::optional<StatusFlags>& now) {
  const OpenFlags& opened = handle.flags;
  return now.value_or(StatusFlags{opened.append, opened.direct, opened.sync, opened.no_atime});
}

}  // namespace

Status ClientImpl::TakeError(OpenHandle& handle) {
  const WriteError error = handle.file->data->LastWriteError();
  std::lock_guard lock(handle.mu);
  if (error.number <= handle.errors_seen) return Status::Ok();
  handle.errors_seen = error.number;
  return error.status;
}

void ClientImpl::BeforeAttempt(const FilePtr& file, int attempt) {
  // Once is a transition that came in between. Again means that the chunks of this lease are closed (giving
  // it back was begun and could not be told to the master): only a new one helps.
  if (attempt >= 2) LowerIdle({file}, LeaseKind::kNone);
}

Result<size_t> ClientImpl::Read(Handle number, uint64_t offset, std::span<std::byte> buffer,
                                const std::optional<StatusFlags>& now) {
  const HandlePtr handle = FindHandle(number);
  if (!handle || !handle->flags.read) return BadHandle();
  return ReadFile(*handle, offset, buffer, FlagsNow(*handle, now).no_atime);
}

Result<size_t> ClientImpl::ReadFile(OpenHandle& handle, uint64_t offset, std::span<std::byte> buffer, bool no_atime) {
  const FilePtr& file = handle.file;
  Result<size_t> result = size_t{0};
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    BeforeAttempt(file, attempt);
    LeaseNeed need{.kind = LeaseKind::kRead, .offset = offset};
    if (handle.flags.write) {
      std::lock_guard lock(file->mu);
      if (file->reads_before_writes) need.ask = LeaseKind::kWrite;
    }
    CAIRN_ASSIGN_OR_RETURN(const FileUse use, Enter(file, need, handle.caller));
    CAIRN_RETURN_IF_ERROR(CheckLockKept(handle));
    result = file->data->Read(offset, buffer);
    if (result.ok()) NoteRead(handle, no_atime);  // under the lease
    if (result.code() != StatusCode::kLeaseLost) return result;
  }
  return result;
}

void ClientImpl::NoteWrite(OpenFile& file, uint64_t offset) {
  std::lock_guard lock(file.mu);
  file.taken_by_read = false;
  file.last_write = offset;
  file.last_write_ns = clock_->NowNanos();
}

void ClientImpl::MarkWritten(const FilePtr& file, bool unsynced) {
  file->access_noted_until_ns.store(0, std::memory_order_relaxed);
  {
    std::lock_guard lock(file->mu);
    file->unsynced |= unsynced;
    if (std::exchange(file->written, true)) return;
  }
  std::lock_guard lock(write_back_mu_);
  written_.emplace(file->inode, file);
}

Result<uint64_t> ClientImpl::Write(Handle number, uint64_t offset, std::span<const std::byte> data,
                                   const std::optional<StatusFlags>& now) {
  const HandlePtr handle = FindHandle(number);
  if (!handle || !handle->flags.write) return BadHandle();
  CAIRN_RETURN_IF_ERROR(TakeError(*handle));
  const StatusFlags flags = FlagsNow(*handle, now);
  const uint64_t asked = offset;
  const Status written = WriteFile(*handle, &offset, data, flags.append);
  // A kernel that believed the end to be elsewhere has put the bytes into its pages there.
  if (offset != asked && listener_ != nullptr) {
    invalidators_->Run([this, inode = handle->file->inode] { listener_->InvalidateInode(inode, true); });
  }
  CAIRN_RETURN_IF_ERROR(AfterWrite(*handle, written, flags));
  return offset;
}

Status ClientImpl::WriteFile(OpenHandle& handle, uint64_t* offset, std::span<const std::byte> data, bool append) {
  const FilePtr& file = handle.file;
  Status status;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    BeforeAttempt(file, attempt);
    // Where an append will end up is a guess: others may have gone on to the next chunk.
    const uint64_t around = append ? std::max(*offset, file->data->Size()) : *offset;
    CAIRN_ASSIGN_OR_RETURN(const FileUse use,
                           Enter(file, {.kind = LeaseKind::kWrite, .offset = around}, handle.caller));
    CAIRN_RETURN_IF_ERROR(CheckLockKept(handle));
    // Appends of one mount follow one another; those of several mounts do because only one holds the lease.
    std::unique_lock<std::mutex> order;
    if (append) {
      order = std::unique_lock(file->order_mu);
      *offset = file->data->Size();
    }
    std::shared_lock shared(file->write_mu);
    status = file->data->Write(*offset, data, Now());
    shared.unlock();
    if (status.code() == StatusCode::kLeaseLost) continue;
    NoteWrite(*file, *offset);
    MarkWritten(file);
    break;
  }
  return status;
}

Status ClientImpl::AfterWrite(OpenHandle& handle, Status status, const StatusFlags& flags) {
  if (status.ok() && flags.direct && !flags.sync) status = FlushFile(handle.file);
  if (status.ok() && flags.sync) status = SyncFile(handle.file, handle.caller, false);
  if (status.ok()) return status;
  const Status pending = TakeError(handle);  // reported now, not once more at close
  return pending.ok() ? status : pending;
}

Status ClientImpl::Zero(Handle number, uint64_t offset, uint64_t length, bool keep_size) {
  const HandlePtr handle = FindHandle(number);
  if (!handle || !handle->flags.write) return BadHandle();
  if (length == 0 || offset + length < offset)
    return Status(StatusCode::kInvalidArgument, "empty or endless range");
  CAIRN_RETURN_IF_ERROR(TakeError(*handle));
  const FilePtr& file = handle->file;
  Status status;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    BeforeAttempt(file, attempt);
    LeaseNeed need{.kind = LeaseKind::kWrite};
    if (offset < file->data->Size()) need.offset = offset;
    CAIRN_ASSIGN_OR_RETURN(const FileUse use, Enter(file, need, handle->caller));
    CAIRN_RETURN_IF_ERROR(CheckLockKept(*handle));
    std::lock_guard order(file->order_mu);
    std::unique_lock exclusive(file->write_mu);
    const uint64_t size = file->data->Size();
    status = Status::Ok();
    if (offset < size) status = file->data->Zero(offset, std::min(length, size - offset), Now());
    // What grows is a hole, which reads as zeros.
    if (status.ok() && !keep_size && offset + length > size)
      status = file->data->Truncate(offset + length, Now());
    if (status.code() == StatusCode::kLeaseLost) continue;
    MarkWritten(file);
    break;
  }
  return status;
}

Result<std::optional<uint64_t>> ClientImpl::Seek(Handle number, uint64_t offset, bool data) {
  const HandlePtr handle = FindHandle(number);
  if (!handle) return BadHandle();
  const FilePtr& file = handle->file;
  Result<std::optional<uint64_t>> result = std::optional<uint64_t>();
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    BeforeAttempt(file, attempt);
    CAIRN_ASSIGN_OR_RETURN(const FileUse use, Enter(file, {.kind = LeaseKind::kRead, .offset = offset}, handle->caller));
    result = file->data->Seek(offset, data);
    if (result.code() != StatusCode::kLeaseLost) return result;
  }
  return result;
}

Status ClientImpl::TruncateFile(const Caller& caller, const FilePtr& file, uint64_t size,
                                bool open_for_write) {
  Status status;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    BeforeAttempt(file, attempt);
    bool truncate_with_lease = false;
    if (size == 0) {
      // Without the write lease, truncation comes with the request for it: one round trip.
      truncate_with_lease = cache_->Lease(file->inode).kind != LeaseKind::kWrite;
    }
    LeaseNeed need{.kind = LeaseKind::kWrite, .truncate_to_zero = truncate_with_lease};
    if (size != 0 && size < file->data->Size()) need.offset = size;  // the chunk that is cut off
    CAIRN_ASSIGN_OR_RETURN(const FileUse use, Enter(file, need, caller));
    std::lock_guard order(file->order_mu);
    const TimeSpec now = Now();
    std::unique_lock exclusive(file->write_mu);
    if (!truncate_with_lease && size < file->data->Size()) {
      // Logged at the master first: a writer that vanishes must not leave a size beyond bytes that are gone.
      // The order lock keeps commits with the old size from overtaking this. Inside the gate: the master
      // answers a lease holder at once.
      proto::Request request;
      proto::SetAttrOp* op = request.mutable_set_attr();
      op->set_inode(file->inode.value());
      op->set_size(size);
      op->set_open_for_write(open_for_write);
      auto seq = file->data->TruncationSeq(size);
      if (seq.code() == StatusCode::kLeaseLost) {
        status = seq.status();
        continue;
      }
      if (!seq.ok()) return seq.status();
      op->set_shrink_seq(*seq);
      if (const Status logged = CallAs(caller, std::move(request)).status(); !logged.ok()) {
        file->data->CancelTruncation();
        return logged;
      }
    }
    status = file->data->Truncate(size, now);
    if (status.code() == StatusCode::kLeaseLost) continue;
    MarkWritten(file);
    break;
  }
  return status;
}

Status ClientImpl::FlushFile(const FilePtr& file) {
  const Deadline deadline = steady_clock::now() + milliseconds(options_.request_timeout_ms);
  CAIRN_ASSIGN_OR_RETURN(const FileUse use, EnterIfWriting(file, deadline));
  if (!use) return Status::Ok();  // the lease was given back, which flushed everything
  const Status status = file->data->Flush();
  return status.code() == StatusCode::kLeaseLost ? Status::Ok()
                                                 : status;  // what was lost is in LastWriteError
}

Status ClientImpl::Flush(Handle number) {
  const HandlePtr handle = FindHandle(number);
  if (!handle) return BadHandle();
  if (!handle->flags.write) return Status::Ok();
  const Status status = FlushFile(handle->file);
  const Status pending = TakeError(*handle);
  return pending.ok() ? status : pending;
}

}  // namespace cairn::client
