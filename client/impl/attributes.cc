// Attributes, permissions, extended attributes, policies.
#include <algorithm>
#include <utility>

#include "client/impl/client_impl.h"

namespace cairn::client {
namespace {

constexpr std::string_view kCapability = "security.capability";
// Whoever wrote a file so short a time ago does so again when the kernel looks for what a write takes away.
constexpr int64_t kStillWritingNanos = kNanosPerSecond;

// Attributes that are made up by the master are not counted in has_xattrs.
bool IsVirtual(const std::string& name) {
  return name.starts_with("cairn.") || name.starts_with("user.cairn.");
}

}  // namespace

Attributes ClientImpl::WithBuffered(Attributes attr) const {
  if (attr.type != FileType::kRegular) return attr;
  const FilePtr file = FindFile(attr.inode);
  if (!file) return attr;
  {
    std::lock_guard lock(file->attach_mu);
    if (file->attached.kind != LeaseKind::kWrite) return attr;
  }
  const uint64_t size = file->data->Size();
  const int64_t blocks = static_cast<int64_t>(attr.blocks_512) + file->data->AllocatedChange() / 512;
  attr.blocks_512 = static_cast<uint64_t>(std::max<int64_t>(blocks, 0));
  attr.size = size;
  const TimeSpec mtime = file->data->Mtime();
  std::lock_guard lock(file->mu);
  if (mtime != TimeSpec{} && file->ignored_mtime != mtime) {
    if (attr.mtime < mtime || file->written) attr.mtime = mtime;
    if (attr.ctime < mtime) attr.ctime = mtime;
  }
  return attr;
}

Result<Entry> ClientImpl::CachedOrFetched(const Caller& caller, InodeId inode) {
  if (cache_->Find(inode)) {
    Entry entry = EntryOf(inode, nullptr);
    if (entry.attr.inode == inode) return entry;
  }
  if (TakenForWriting(caller, inode, false)) {
    Entry entry = EntryOf(inode, nullptr);
    if (entry.attr.inode == inode) return entry;
  }
  proto::Request request;
  proto::GetAttrOp* op = request.mutable_get_attr();
  op->set_inode(inode.value());
  op->set_want_lease(true);
  op->set_want_layout(true);
  CAIRN_ASSIGN_OR_RETURN(const proto::Reply reply, CallAs(caller, std::move(request)));
  return EntryOf(inode, &reply.entry().attr());
}

// Where a write follows, the lease for it is taken now: what the kernel asks for before it is answered from that.
bool ClientImpl::TakenForWriting(const Caller& caller, InodeId inode, bool before_write) {
  const FilePtr file = FindFile(inode);
  if (!file) return false;
  LeaseNeed need{.kind = LeaseKind::kRead, .ask = LeaseKind::kWrite};
  {
    std::lock_guard lock(file->mu);
    const bool writes = clock_->NowNanos() - file->last_write_ns < kStillWritingNanos;
    if (file->handles == 0 || !(before_write ? writes : file->reads_before_writes)) return false;
    need.offset = file->last_write;
  }
  return Enter(file, need, caller).ok();
}

Result<Entry> ClientImpl::GetAttr(const Caller& caller, InodeId inode) {
  return CachedOrFetched(caller, inode);
}

Status ClientImpl::Access(const Caller& caller, InodeId inode, uint32_t mask) {
  CAIRN_ASSIGN_OR_RETURN(const Entry entry, CachedOrFetched(caller, inode));
  switch (CheckPermission(entry.attr, caller, mask, session_->squash_root())) {
    case Verdict::kAllowed:
      return Status::Ok();
    case Verdict::kDenied:
      return Status(StatusCode::kAccessDenied, "permission denied for inode " + ToString(inode));
    case Verdict::kAskMaster:
      break;
  }
  proto::Request request;
  request.mutable_access()->set_inode(inode.value());
  request.mutable_access()->set_mask(mask);
  return CallAs(caller, std::move(request)).status();
}

Result<Entry> ClientImpl::SetAttr(const Caller& caller, InodeId inode, const SetAttributes& change) {
  if (change.size) {
    CAIRN_ASSIGN_OR_RETURN(const Entry entry, CachedOrFetched(caller, inode));
    if (entry.attr.type == FileType::kDirectory)
      return Status(StatusCode::kIsDirectory, "a directory has no size to set");
    if (entry.attr.type != FileType::kRegular)
      return Status(StatusCode::kInvalidArgument, "not a regular file");
    const FilePtr file = OpenFileEntry(inode, entry.attr.chunk_bytes);
    const HandlePtr handle = FindHandle(change.by_handle);
    const bool open_for_write = handle && handle->file == file && handle->flags.write;
    Status status = open_for_write ? Status::Ok() : Access(caller, inode, kMayWrite);
    if (status.ok()) status = TruncateFile(caller, file, *change.size, open_for_write);
    const Status released = ReleaseFile(file);
    if (!status.ok()) return status;
    if (!released.ok()) return released;
  }
  const bool more = change.mode || change.uid || change.gid || change.atime || change.mtime ||
                    change.atime_now || change.mtime_now || change.kill_priv;
  if (!more) return CachedOrFetched(caller, inode);
  const FilePtr file = FindFile(inode);
  if (file) {
    CAIRN_ASSIGN_OR_RETURN(const std::optional<Entry> changed, SetHeldTimes(caller, file, change));
    if (changed) return *changed;
    if (change.atime || change.mtime || change.atime_now || change.mtime_now) CAIRN_RETURN_IF_ERROR(TellTimes(file));
  }
  proto::Request request;
  proto::SetAttrOp* op = request.mutable_set_attr();
  op->set_inode(inode.value());
  if (change.mode) op->set_mode(*change.mode);
  if (change.uid) op->set_uid(*change.uid);
  if (change.gid) op->set_gid(*change.gid);
  if (change.atime) *op->mutable_atime() = ToProto(*change.atime);
  if (change.mtime) *op->mutable_mtime() = ToProto(*change.mtime);
  op->set_atime_now(change.atime_now);
  op->set_mtime_now(change.mtime_now);
  op->set_kill_priv(change.kill_priv);
  if (change.atime || change.atime_now) PostAccess(inode, cache_->TakeAccess(inode));
  if (file && (change.mtime || change.mtime_now)) {
    // Writes before this must not move the time again when they are committed. order_mu: no commit with an
    // older time is on its way behind this request.
    std::lock_guard order(file->order_mu);
    const TimeSpec buffered = file->data->Mtime();
    {
      std::lock_guard lock(file->mu);
      if (buffered != TimeSpec{}) file->ignored_mtime = buffered;
    }
    CAIRN_ASSIGN_OR_RETURN(const proto::Reply reply, CallAs(caller, std::move(request)));
    return EntryOf(inode, &reply.entry().attr());
  }
  CAIRN_ASSIGN_OR_RETURN(const proto::Reply reply, CallAs(caller, std::move(request)));
  return EntryOf(inode, &reply.entry().attr());
}

Result<InodeId> ClientImpl::ParentOf(const Caller& caller, InodeId directory) {
  if (const auto view = cache_->Find(directory); view && view->parent) return view->parent;
  proto::Request request;
  request.mutable_get_attr()->set_inode(directory.value());
  request.mutable_get_attr()->set_want_lease(true);
  CAIRN_ASSIGN_OR_RETURN(const proto::Reply reply, CallAs(caller, std::move(request)));
  if (reply.entry().attr().type() != proto::DIRECTORY) {
    return Status(StatusCode::kNotDirectory, "inode " + ToString(directory) + " is not a directory");
  }
  const InodeId parent(reply.entry().attr().parent());
  return parent ? parent : directory;
}

Result<std::string> ClientImpl::GetXattr(const Caller& caller, InodeId inode, const std::string& name) {
  // The kernel asks for security.capability before every write: without any attribute the answer is here.
  const auto known_absent = [&] {
    const auto view = cache_->Find(inode);
    return view && !view->has_xattrs && !IsVirtual(name);
  };
  if (known_absent() || (name == kCapability && TakenForWriting(caller, inode, true) && known_absent())) {
    return Status(StatusCode::kNoAttribute, name + ": no such attribute");
  }
  proto::Request request;
  request.mutable_get_xattr()->set_inode(inode.value());
  request.mutable_get_xattr()->set_name(name);
  CAIRN_ASSIGN_OR_RETURN(proto::Reply reply, CallAs(caller, std::move(request)));
  return std::move(*reply.mutable_bytes()->mutable_value());
}

Result<std::vector<std::string>> ClientImpl::ListXattr(const Caller& caller, InodeId inode) {
  if (const auto view = cache_->Find(inode); view && !view->has_xattrs) return std::vector<std::string>();
  proto::Request request;
  request.mutable_list_xattr()->set_inode(inode.value());
  CAIRN_ASSIGN_OR_RETURN(const proto::Reply reply, CallAs(caller, std::move(request)));
  const auto& names = reply.list_xattr().names();
  return std::vector<std::string>(names.begin(), names.end());
}

Status ClientImpl::SetXattr(const Caller& caller, InodeId inode, const std::string& name,
                            const std::string& value, uint32_t flags) {
  proto::Request request;
  proto::SetXattrOp* op = request.mutable_set_xattr();
  op->set_inode(inode.value());
  op->set_name(name);
  op->set_value(value);
  op->set_flags(flags);
  return CallAs(caller, std::move(request)).status();
}

Status ClientImpl::RemoveXattr(const Caller& caller, InodeId inode, const std::string& name) {
  proto::Request request;
  request.mutable_remove_xattr()->set_inode(inode.value());
  request.mutable_remove_xattr()->set_name(name);
  return CallAs(caller, std::move(request)).status();
}

Result<SpaceUsage> ClientImpl::StatFs(InodeId inode) {
  proto::Request request;
  request.mutable_stat_fs()->set_inode(inode.value());
  CAIRN_ASSIGN_OR_RETURN(const proto::Reply reply, CallSystem(std::move(request)));
  const proto::StatFsResult& result = reply.stat_fs();
  return SpaceUsage{.total_bytes = result.total_bytes(),
                    .free_bytes = result.free_bytes(),
                    .available_bytes = result.available_bytes(),
                    .files = result.files(),
                    .files_free = result.files_free(),
                    .trash_bytes = result.trash_bytes()};
}

Result<PolicyPair> ClientImpl::GetPolicy(const Caller& caller, InodeId directory) {
  proto::Request request;
  request.mutable_get_policy()->set_inode(directory.value());
  CAIRN_ASSIGN_OR_RETURN(const proto::Reply reply, CallAs(caller, std::move(request)));
  return PolicyPair{FromProto(reply.policy().own()), FromProto(reply.policy().effective())};
}

Result<PolicyPair> ClientImpl::SetPolicy(const Caller& caller, InodeId directory, const Policy& own) {
  proto::Request request;
  request.mutable_set_policy()->set_inode(directory.value());
  *request.mutable_set_policy()->mutable_policy() = ToProto(own);
  CAIRN_ASSIGN_OR_RETURN(const proto::Reply reply, CallAs(caller, std::move(request)));
  return PolicyPair{FromProto(reply.policy().own()), FromProto(reply.policy().effective())};
}

}  // namespace cairn::client
