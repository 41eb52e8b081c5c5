#include "fuse/file_system.h"

#include "fuse/interruption.h"

namespace cairn::fuse {
namespace {

void Init(void* user_data, fuse_conn_info* connection) {
  auto& fs = *static_cast<FileSystem*>(user_data);
  const auto want = [connection](unsigned capability, bool on) {
    if (on && (connection->capable & capability) != 0) connection->want |= capability;
    if (!on) connection->want &= ~capability;
  };
  // Coherence comes from leases: pages go when the client says so, not when the kernel thinks that times look
  // different.
  want(FUSE_CAP_AUTO_INVAL_DATA, false);
  want(FUSE_CAP_EXPLICIT_INVAL_DATA, true);
  // Write-behind is the client's, under a write lease.
  want(FUSE_CAP_WRITEBACK_CACHE, false);
  // The kernel asks for ACLs and decides by them as on a local file system (it implies default_permissions); the master decides
  // again. The umask is left to the master, which alone knows whether a default ACL takes its place.
  want(FUSE_CAP_POSIX_ACL, true);
  want(FUSE_CAP_DONT_MASK, true);
  want(FUSE_CAP_PARALLEL_DIROPS, true);
  want(FUSE_CAP_READDIRPLUS, true);
  want(FUSE_CAP_READDIRPLUS_AUTO, true);
  want(FUSE_CAP_ATOMIC_O_TRUNC, true);
  want(FUSE_CAP_ASYNC_READ, true);
  // Locks are the cluster's, not this kernel's.
  want(FUSE_CAP_POSIX_LOCKS, true);
  want(FUSE_CAP_FLOCK_LOCKS, true);
  // Off: the kernel waits for an asynchronous direct read or write in a way that not even SIGKILL ends.
  want(FUSE_CAP_ASYNC_DIO, false);
  want(FUSE_CAP_CACHE_SYMLINKS, true);  // the target of a symbolic link never changes
  // Measured: splicing gains nothing here, since data is checksummed and sent from user memory anyway.
  want(FUSE_CAP_SPLICE_READ, false);
  want(FUSE_CAP_SPLICE_WRITE, false);
  want(FUSE_CAP_SPLICE_MOVE, false);
  connection->max_write = 1 << 20;
  connection->max_background = 64;
  connection->congestion_threshold = 48;
  connection->time_gran = 1;
  constexpr unsigned kLinux66 = 39;  // the minor version of its protocol
  fs.SetDirectDropsPages(connection->proto_minor >= kLinux66);
  fs.SetInitialized();
}

}  // namespace

FileSystem& FileSystemOf(fuse_req_t req) { return *static_cast<FileSystem*>(fuse_req_userdata(req)); }

namespace {

client::Caller LocalCaller(fuse_req_t req) {
  const fuse_ctx* context = fuse_req_ctx(req);
  return {.uid = context->uid, .gid = context->gid, .pid = context->pid, .groups = {}, .umask = context->umask};
}

}  // namespace

client::Caller CallerOf(fuse_req_t req) { return FileSystemOf(req).ids().ToCluster(LocalCaller(req)); }

Result<client::Caller> CreatorOf(fuse_req_t req) {
  const client::Caller local = LocalCaller(req);
  CAIRN_RETURN_IF_ERROR(FileSystemOf(req).ids().MayCreate(local));
  return FileSystemOf(req).ids().ToCluster(local);
}

struct stat FileSystem::StatOf(const client::Attributes& attr, fuse_ino_t ino) const {
  return ToStat(ids().ToLocal(attr), ino);
}

RequestScope::RequestScope(fuse_req_t req, const char* operation)
    : progress_(FileSystemOf(req).requests(), operation, fuse_req_ctx(req)->pid),
      scope_([req] { return fuse_req_interrupted(req) != 0 && FatalSignalPending(fuse_req_ctx(req)->pid); }) {}

const fuse_lowlevel_ops& FileSystem::Operations() {
  static const fuse_lowlevel_ops kOperations = [] {
    fuse_lowlevel_ops ops{};
    ops.init = Init;
    AddNameOperations(ops);
    AddAttributeOperations(ops);
    AddFileOperations(ops);
    AddDirectoryOperations(ops);
    AddLockOperations(ops);
    AddXattrOperations(ops);
    return ops;
  }();
  return kOperations;
}

fuse_entry_param FileSystem::ToEntryParam(const client::Entry& entry) const {
  fuse_entry_param param{};
  param.ino = ToIno(entry.attr.inode);
  param.generation = 0;  // inode numbers are never used twice
  param.attr = StatOf(entry.attr, param.ino);
  param.attr_timeout = ToSeconds(entry.valid_ns);
  const bool names = options_.cache_names && kernel_cache_.name_timeouts();
  param.entry_timeout = names ? ToSeconds(entry.entry_valid_ns) : 0;
  return param;
}

void FileSystem::ReplyError(fuse_req_t req, const char* operation, InodeId inode, const Status& status) {
  if (!ErrorLog::IsOrdinary(status.code())) errors_.Report(operation, inode, status);
  fuse_reply_err(req, StatusCodeToErrno(status.code()));
}

void FileSystem::ReplyStatus(fuse_req_t req, const char* operation, InodeId inode, const Status& status) {
  if (status.ok()) {
    fuse_reply_err(req, 0);
  } else {
    ReplyError(req, operation, inode, status);
  }
}

void FileSystem::ReplyEntry(fuse_req_t req, const client::Entry& entry) {
  // Counted before the reply: a forget may follow it at once.
  counts_.Add(entry.attr.inode);
  const fuse_entry_param param = ToEntryParam(entry);
  if (fuse_reply_entry(req, &param) != 0 && counts_.Remove(entry.attr.inode, 1))
    client_.Forget(entry.attr.inode);
}

}  // namespace cairn::fuse
