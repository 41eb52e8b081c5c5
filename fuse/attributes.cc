// getattr, setattr, access, statfs.
#include <sys/statvfs.h>

#include "fuse/file_system.h"

namespace cairn::fuse {
namespace {

void ReplyAttributes(FileSystem& fs, fuse_req_t req, const client::Entry& entry) {
  const struct stat attr = ToStat(entry.attr, fs.ToIno(entry.attr.inode));
  fuse_reply_attr(req, &attr, ToSeconds(entry.valid_ns));
}

void GetAttr(fuse_req_t req, fuse_ino_t ino, fuse_file_info*) {
  FileSystem& fs = FileSystemOf(req);
  const RequestScope scope(req);
  const auto entry = fs.client().GetAttr(CallerOf(req), fs.ToInode(ino));
  if (!entry.ok()) return fs.ReplyError(req, "getattr", fs.ToInode(ino), entry.status());
  ReplyAttributes(fs, req, *entry);
}

void SetAttr(fuse_req_t req, fuse_ino_t ino, struct stat* attr, int to_set, fuse_file_info* file) {
  FileSystem& fs = FileSystemOf(req);
  const RequestScope scope(req);
  client::Caller caller = CallerOf(req);
  const client::SetAttributes change = ToSetAttributes(*attr, to_set);
  // ftruncate: the right to write was established when the file was opened; it holds although the file's mode
  // may forbid opening it now (a file created with mode 0444). The kernel let only a handle open for writing
  // come here.
  const bool by_handle =
      file != nullptr && change.size.has_value() && !change.mode && !change.uid && !change.gid;
  if (by_handle) caller = client::Caller{};
  const auto entry = fs.client().SetAttr(caller, fs.ToInode(ino), change);
  if (!entry.ok()) return fs.ReplyError(req, "setattr", fs.ToInode(ino), entry.status());
  ReplyAttributes(fs, req, *entry);
}

void Access(fuse_req_t req, fuse_ino_t ino, int mask) {
  FileSystem& fs = FileSystemOf(req);
  const RequestScope scope(req);
  fs.ReplyStatus(req, "access", fs.ToInode(ino),
                 fs.client().Access(CallerOf(req), fs.ToInode(ino), static_cast<uint32_t>(mask)));
}

void StatFs(fuse_req_t req, fuse_ino_t ino) {
  FileSystem& fs = FileSystemOf(req);
  const RequestScope scope(req);
  const InodeId inode = ino == 0 ? fs.options().root : fs.ToInode(ino);
  const auto usage = fs.client().StatFs(inode);
  if (!usage.ok()) return fs.ReplyError(req, "statfs", inode, usage.status());
  constexpr uint64_t kUnit = 4096;
  struct statvfs result {};
  result.f_bsize = 1 << 20;
  result.f_frsize = kUnit;
  result.f_blocks = usage->total_bytes / kUnit;
  result.f_bfree = usage->free_bytes / kUnit;
  result.f_bavail = usage->available_bytes / kUnit;
  result.f_files = usage->files;
  result.f_ffree = usage->files_free;
  result.f_favail = usage->files_free;
  result.f_namemax = 255;
  fuse_reply_statfs(req, &result);
}

}  // namespace

void AddAttributeOperations(fuse_lowlevel_ops& ops) {
  ops.getattr = GetAttr;
  ops.setattr = SetAttr;
  ops.access = Access;
  ops.statfs = StatFs;
}

}  // namespace cairn::fuse
