// Times of last access: moved here under the lease, told to the master later and by the way.
//
//   Read -> NoteRead: is it due? (relatime) -> LeaseCache::NoteAccess: seen here at once
//   WriteBackMain, every access_times_ms -> PostAccessTimes -> AccessedOp, which nobody waits for
//   a lease that goes, or a change of times from here -> PostAccess before it, on the same stream
//
// So a change of the times by somebody else, who gets the lease only afterwards, is never undone by a read
// before it.
#include <utility>

#include "client/impl/client_impl.h"

namespace cairn::client {
namespace {

constexpr size_t kFilesPerRequest = 2'048;
// After which a file that is read all the time is looked at again: its last access may be a day ago by then.
constexpr int64_t kLookAgainNanos = 3'600 * kNanosPerSecond;

}  // namespace

bool ClientImpl::NoteFileAccess(OpenFile& file) {
  TimeSpec written;
  {
    std::lock_guard lock(file.attach_mu);
    if (file.attached.kind == LeaseKind::kWrite) written = file.data->Mtime();
  }
  {
    std::lock_guard lock(file.mu);
    if (file.ignored_mtime == written) written = {};
  }
  return cache_->NoteAccess(file.inode, Now(), written, options_.access_times);
}

void ClientImpl::NoteRead(const OpenHandle& handle, bool no_atime) {
  if (options_.access_times == AccessTimes::kNever || no_atime) return;
  OpenFile& file = *handle.file;
  const int64_t now_ns = clock_->NowNanos();
  if (now_ns < file.access_noted_until_ns.load(std::memory_order_relaxed)) return;
  // Before the look: a change after it is seen by the next read.
  if (options_.access_times == AccessTimes::kRelative) {
    file.access_noted_until_ns.store(now_ns + kLookAgainNanos, std::memory_order_relaxed);
  }
  NoteFileAccess(file);
}

void ClientImpl::NoteOpened(const OpenHandle& handle) {
  // The kernel answers reads from pages that it has, and tells nobody. Whoever opens a file for reading alone, whose pages may be
  // there, is taken for a reader.
  if (options_.access_times == AccessTimes::kNever || handle.flags.no_atime) return;
  if (!handle.flags.read || handle.flags.write || !handle.may_keep_cache) return;
  if (!cache_->MayHavePages(handle.file->inode) || !NoteFileAccess(*handle.file)) return;
  if (listener_ != nullptr) listener_->InvalidateInode(handle.file->inode, /*data=*/false);
}

void ClientImpl::NoteAccess(InodeId inode) {
  cache_->NoteAccess(inode, Now(), {}, options_.access_times);
}

void ClientImpl::PostAccess(InodeId inode, const std::optional<TimeSpec>& time) {
  if (!time) return;
  proto::Request request;
  request.mutable_credentials()->set_groups_known(true);
  proto::AccessTime* file = request.mutable_accessed()->add_files();
  file->set_inode(inode.value());
  *file->mutable_atime() = ToProto(*time);
  session_->Post(std::move(request), /*elsewhere=*/false);
}

void ClientImpl::PostAccessTimes() {
  // Without leases the master may have let others change what was read here.
  while (session_->LeasesValid()) {
    const auto taken = cache_->TakeAccessed(kFilesPerRequest);
    if (taken.empty()) return;
    proto::Request request;
    request.mutable_credentials()->set_groups_known(true);
    for (const auto& [inode, time] : taken) {
      proto::AccessTime* file = request.mutable_accessed()->add_files();
      file->set_inode(inode.value());
      *file->mutable_atime() = ToProto(time);
    }
    session_->Post(std::move(request), /*elsewhere=*/false);
  }
}

Exposure ClientImpl::DropLease(InodeId inode, uint64_t number) {
  const Exposure exposure = cache_->Remove(inode, number);
  PostAccess(inode, exposure.accessed);
  return exposure;
}

void ClientImpl::OnAccessed(const proto::AccessedOp& accessed) { cache_->ApplyAccessed(accessed); }

}  // namespace cairn::client
