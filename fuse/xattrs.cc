// Extended attributes, and those of the mount's own: user.cairn.error (see error_log.h) and user.cairn.stats.
#include <cerrno>
#include <cstring>
#include <string_view>

#include "fuse/file_system.h"

namespace cairn::fuse {
namespace {

constexpr std::string_view kCapability = "security.capability";
constexpr std::string_view kErrorName = "user.cairn.error";
// Of the mount's root: what this mount has asked for since it started, as JSON.
constexpr std::string_view kStatsName = "user.cairn.stats";

std::string StatsJson(const client::ClientStats& stats) {
  std::string json = "{";
  const auto add = [&](const char* name, uint64_t value) {
    if (json.size() > 1) json += ", ";
    json += "\"" + std::string(name) + "\": " + std::to_string(value);
  };
  add("master_requests", stats.master_requests);
  add("data_requests", stats.data_requests);
  add("bytes_read", stats.bytes_read);
  add("bytes_written", stats.bytes_written);
  add("bytes_copied", stats.bytes_copied);
  add("bytes_copied_here", stats.bytes_copied_here);
  add("lease_recalls", stats.lease_recalls);
  add("dirty_bytes", stats.dirty_bytes);
  add("leases", stats.leases);
  return json + "}";
}

void ReplyValue(fuse_req_t req, std::string_view value, size_t size) {
  if (size == 0) {
    fuse_reply_xattr(req, value.size());
  } else if (value.size() > size) {
    fuse_reply_err(req, ERANGE);
  } else {
    fuse_reply_buf(req, value.data(), value.size());
  }
}

void GetXattr(fuse_req_t req, fuse_ino_t ino, const char* name, size_t size) {
  FileSystem& fs = FileSystemOf(req);
  const RequestScope scope(req);
  const InodeId inode = fs.ToInode(ino);
  if (name == kStatsName && ino == FUSE_ROOT_ID) return ReplyValue(req, StatsJson(fs.client().Stats()), size);
  if (name == kErrorName) {
    // What failed here; otherwise what the master refused, to whomever.
    if (const auto error = fs.errors().LastError(inode)) return ReplyValue(req, *error, size);
  }
  const auto value = fs.client().GetXattr(CallerOf(req), inode, name);
  if (!value.ok()) return fs.ReplyError(req, "getxattr", inode, value.status());
  ReplyValue(req, IsAclName(name) ? fs.ids().AclToLocal(*value) : *value, size);
}

void ListXattr(fuse_req_t req, fuse_ino_t ino, size_t size) {
  FileSystem& fs = FileSystemOf(req);
  const RequestScope scope(req);
  const auto names = fs.client().ListXattr(CallerOf(req), fs.ToInode(ino));
  if (!names.ok()) return fs.ReplyError(req, "listxattr", fs.ToInode(ino), names.status());
  std::string list;
  for (const std::string& name : *names) list.append(name).push_back('\0');
  ReplyValue(req, list, size);
}

void SetXattr(fuse_req_t req, fuse_ino_t ino, const char* name, const char* value, size_t size, int flags) {
  FileSystem& fs = FileSystemOf(req);
  const RequestScope scope(req);
  const InodeId inode = fs.ToInode(ino);
  if (name == kErrorName || name == kStatsName) {
    fuse_reply_err(req, EPERM);
    return;
  }
  Result<std::string> stored = std::string(value, size);
  if (IsAclName(name)) stored = fs.ids().AclToCluster(*std::move(stored));
  if (!stored.ok()) return fs.ReplyError(req, "setxattr", inode, stored.status());
  fs.ReplyStatus(req, "setxattr", inode,
                 fs.client().SetXattr(CallerOf(req), inode, name, *stored, static_cast<uint32_t>(flags)));
}

void RemoveXattr(fuse_req_t req, fuse_ino_t ino, const char* name) {
  FileSystem& fs = FileSystemOf(req);
  const RequestScope scope(req);
  const InodeId inode = fs.ToInode(ino);
  if (name == kErrorName) {
    fs.errors().Clear(inode);
    fuse_reply_err(req, 0);
    return;
  }
  const client::Caller caller = CallerOf(req);
  if (name == kCapability && fuse_req_ctx(req)->uid != 0) {
    // The kernel, because this caller writes to the file; it lets nobody without privilege remove it otherwise.
    client::SetAttributes change;
    change.kill_priv = true;
    fs.ReplyStatus(req, "removexattr", inode, fs.client().SetAttr(caller, inode, change).status());
    return;
  }
  fs.ReplyStatus(req, "removexattr", inode, fs.client().RemoveXattr(caller, inode, name));
}

}  // namespace

void AddXattrOperations(fuse_lowlevel_ops& ops) {
  ops.getxattr = GetXattr;
  ops.listxattr = ListXattr;
  ops.setxattr = SetXattr;
  ops.removexattr = RemoveXattr;
}

}  // namespace cairn::fuse
