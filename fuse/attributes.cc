// getattr, setattr, access, statfs.
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "fuse/file_system.h"

namespace cairn::fuse {
namespace {

void ReplyAttributes(FileSystem& fs, fuse_req_t req, const client::Entry& entry) {
  const struct stat attr = fs.StatOf(entry.attr, fs.ToIno(entry.attr.inode));
  fuse_reply_attr(req, &attr, ToSeconds(entry.valid_ns));
}

void GetAttr(fuse_req_t req, fuse_ino_t ino, fuse_file_info*) {
  FileSystem& fs = FileSystemOf(req);
  const RequestScope scope(req);
  const auto entry = fs.client().GetAttr(CallerOf(req), fs.ToInode(ino));
  if (entry.code() == StatusCode::kStaleHandle) {
    // A directory that was removed here while somebody has it open: fstat(2) shows that it has no name any more.
    if (const auto gone = fs.removed().Find(fs.ToInode(ino))) {
      const struct stat attr = fs.StatOf(*gone, ino);
      fuse_reply_attr(req, &attr, 0);
      return;
    }
  }
  if (!entry.ok()) return fs.ReplyError(req, "getattr", fs.ToInode(ino), entry.status());
  ReplyAttributes(fs, req, *entry);
}

// A write to a set-id file by somebody else than its owner: the kernel takes the bits away with a change of the mode in the writer's
// name (nobody else's change of the mode gets here without being the owner's or root's). That is no chmod, and needs no right to one.
void RecognizeKillPriv(FileSystem& fs, const client::Caller& caller, InodeId inode, client::SetAttributes& change) {
  if (!change.mode || change.uid || change.gid || caller.uid == 0) return;
  const auto entry = fs.client().GetAttr(caller, inode);
  if (!entry.ok() || entry->attr.uid == caller.uid || (entry->attr.mode & ~*change.mode & (S_ISUID | S_ISGID)) == 0) return;
  change.mode.reset();
  change.kill_priv = true;
}

void SetAttr(fuse_req_t req, fuse_ino_t ino, struct stat* attr, int to_set, fuse_file_info* file) {
  FileSystem& fs = FileSystemOf(req);
  const RequestScope scope(req);
  client::SetAttributes change = ToSetAttributes(*attr, to_set);
  // The kernel lets only a handle that is open for writing come here.
  if (file != nullptr && change.size) change.by_handle = static_cast<client::Handle>(file->fh);
  if (const Status mapped = fs.ids().ToCluster(&change); !mapped.ok())
    return fs.ReplyError(req, "setattr", fs.ToInode(ino), mapped);
  const client::Caller caller = CallerOf(req);
  RecognizeKillPriv(fs, caller, fs.ToInode(ino), change);
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
