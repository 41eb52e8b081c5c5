// Opening and closing, and the table of files in use.
#include <utility>

#include "client/impl/client_impl.h"

namespace cairn::client {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

ClientImpl::FilePtr ClientImpl::FindFile(InodeId inode) const {
  std::lock_guard lock(files_mu_);
  const auto it = files_.find(inode);
  return it == files_.end() ? nullptr : it->second;
}

ClientImpl::FilePtr ClientImpl::OpenFileEntry(InodeId inode, uint64_t chunk_bytes) {
  std::lock_guard lock(files_mu_);
  FilePtr& file = files_[inode];
  if (!file) file = std::make_shared<OpenFile>(inode, chunk_bytes, make_file_data_(inode, chunk_bytes));
  std::lock_guard file_lock(file->mu);
  ++file->handles;
  return file;
}

void ClientImpl::DropIfUnused(const FilePtr& file) {
  {
    std::lock_guard lock(write_back_mu_);
    if (written_.contains(file->inode)) return;
  }
  std::lock_guard lock(files_mu_);
  {
    std::lock_guard file_lock(file->mu);
    if (file->handles > 0 || file->users > 0 || file->transition || file->acquiring > 0 || file->written)
      return;
  }
  const auto it = files_.find(file->inode);
  if (it != files_.end() && it->second == file) files_.erase(it);
}

Status ClientImpl::ReleaseFile(const FilePtr& file) {
  bool orphan = false;
  bool hold = false;
  {
    std::lock_guard lock(file->mu);
    if (--file->handles > 0) return Status::Ok();
    file->idle_since_ns = clock_->NowNanos();
    orphan = std::exchange(file->orphan, false);
    hold = std::exchange(file->held_at_master, false);
  }
  if (!orphan) {
    if (hold) {
      // The master keeps its chunks for our sake when the last name goes: it may stop doing so.
      std::lock_guard lock(write_back_mu_);
      holds_to_close_.push_back(file->inode);
    }
    DropIfUnused(file);
    return Status::Ok();
  }
  // Nobody can read it any more: what is buffered is dropped, and the master reclaims its chunks.
  BeginTransition(*file, false, [] {});
  {
    std::lock_guard lock(file->attach_mu);
    file->data->Discard();
    file->data->Detach();
    file->attached = {};
    DropTimes(*file);
  }
  EndTransition(*file);
  {
    std::lock_guard lock(write_back_mu_);
    written_.erase(file->inode);
  }
  {
    std::lock_guard lock(file->mu);
    file->written = false;
  }
  cache_->Forget(file->inode);
  DropIfUnused(file);
  proto::Request request;
  request.mutable_close_orphans()->add_inodes(file->inode.value());
  return CallSystem(std::move(request)).status();
}

Result<Attributes> ClientImpl::LeasedAttributes(const Caller& caller, const FilePtr& file) {
  Attributes attr;
  for (int attempt = 0; attempt < 3; ++attempt) {
    // Under a lease a recall asks whether the file is open here, and its handle is counted already.
    const Entry cached = EntryOf(file->inode, nullptr);
    if (cached.attr.inode == file->inode) return cached.attr;
    proto::Request request;
    if (attempt == 0) {
      request.mutable_get_attr()->set_inode(file->inode.value());
      request.mutable_get_attr()->set_want_lease(true);
      request.mutable_get_attr()->set_want_layout(true);
    } else {
      request.mutable_lease()->set_inode(file->inode.value());
      request.mutable_lease()->set_mode(proto::LEASE_READ);
    }
    CAIRN_ASSIGN_OR_RETURN(const proto::Reply reply, attempt == 0 ? CallAs(caller, std::move(request))
                                                                  : CallSystem(std::move(request)));
    attr = FromProto(reply.has_entry() ? reply.entry().attr() : reply.layout().attr());
  }
  return attr;  // recalled again and again: as of a moment ago
}

Result<Handle> ClientImpl::Open(const Caller& caller, InodeId inode, OpenFlags flags) {
  CAIRN_ASSIGN_OR_RETURN(const Entry entry, CachedOrFetched(caller, inode));
  if (entry.attr.type == FileType::kDirectory) {
    return Status(StatusCode::kIsDirectory, "inode " + ToString(inode) + " is a directory");
  }
  if (entry.attr.type != FileType::kRegular) {
    return Status(StatusCode::kInvalidArgument, "inode " + ToString(inode) + " is not a regular file");
  }
  auto handle = std::make_shared<OpenHandle>();
  handle->file = OpenFileEntry(inode, entry.attr.chunk_bytes);
  handle->caller = caller;
  handle->flags = flags;
  const auto open = [&]() -> Status {
    CAIRN_ASSIGN_OR_RETURN(const Attributes attr, LeasedAttributes(caller, handle->file));
    {
      std::lock_guard lock(handle->file->mu);
      handle->file->read_granted_ns = OpenFile::kNever;  // opening is no reading
    }
    const uint32_t mask = (flags.read ? kMayRead : 0) | (flags.write || flags.truncate ? kMayWrite : 0);
    switch (CheckPermission(attr, caller, mask, session_->squash_root())) {
      case Verdict::kAllowed:
        break;
      case Verdict::kDenied:
        return Status(StatusCode::kAccessDenied, "permission denied for inode " + ToString(inode));
      case Verdict::kAskMaster:
        CAIRN_RETURN_IF_ERROR(Access(caller, inode, mask));
        break;
    }
    if (flags.truncate) CAIRN_RETURN_IF_ERROR(TruncateFile(caller, handle->file, 0, true));
    return Status::Ok();
  };
  const Status status = open();
  if (!status.ok()) {
    (void)ReleaseFile(handle->file);  // the reason above is the one to report
    return status;
  }
  handle->errors_seen = handle->file->data->LastWriteError().number;
  // Pages from an earlier open are as good as the lease: they are invalidated whenever one ends.
  const auto view = cache_->Find(inode);
  handle->may_keep_cache = view && view->valid_ns > 0 && !flags.truncate;
  NoteOpened(*handle);
  return AddHandle(std::move(handle));
}

Handle ClientImpl::AddHandle(HandlePtr handle) {
  std::lock_guard lock(handles_mu_);
  const uint64_t number = next_handle_++;
  handles_.emplace(number, std::move(handle));
  return static_cast<Handle>(number);
}

ClientImpl::HandlePtr ClientImpl::FindHandle(Handle handle) {
  std::lock_guard lock(handles_mu_);
  const auto it = handles_.find(static_cast<uint64_t>(handle));
  return it == handles_.end() ? nullptr : it->second;
}

bool ClientImpl::MayKeepCache(Handle handle) {
  const HandlePtr open = FindHandle(handle);
  return open && open->may_keep_cache;
}

Status ClientImpl::Close(Handle handle) {
  HandlePtr open;
  {
    std::lock_guard lock(handles_mu_);
    const auto it = handles_.find(static_cast<uint64_t>(handle));
    if (it == handles_.end()) return Status(StatusCode::kBadHandle, "the handle is not open");
    open = std::move(it->second);
    handles_.erase(it);
  }
  Status status;
  bool orphan_closing = false;
  {
    std::lock_guard lock(open->file->mu);
    orphan_closing = open->file->orphan && open->file->handles == 1;
  }
  if (open->flags.write && !orphan_closing) {
    status = FlushFile(open->file);
    const Status pending = TakeError(*open);
    if (!pending.ok()) status = pending;
  }
  const Status released = ReleaseFile(open->file);
  // The file is closed and gone; that the master could not be told about an orphan is no failure of the
  // file's data.
  (void)released;
  return status;
}

void ClientImpl::Forget(InodeId inode) { cache_->MakeCold(inode); }

}  // namespace cairn::client
