// lookup, forget, and everything that makes, moves or removes names.
#include <sys/stat.h>

#include "fuse/file_system.h"

namespace cairn::fuse {
namespace {

void Lookup(fuse_req_t req, fuse_ino_t parent, const char* name) {
  FileSystem& fs = FileSystemOf(req);
  const RequestScope scope(req);
  const InodeId directory = fs.ToInode(parent);
  const auto entry = fs.client().Lookup(CallerOf(req), directory, name);
  if (entry.ok()) return fs.ReplyEntry(req, *entry);
  if (entry.code() == StatusCode::kNotFound && fs.options().cache_names &&
      fs.kernel_cache().name_timeouts()) {
    const int64_t valid_ns = fs.client().NegativeValidNanos(directory);
    if (valid_ns > 0) {
      fuse_entry_param absent{};  // ino 0: the name does not exist, and that may be remembered
      absent.entry_timeout = ToSeconds(valid_ns);
      fuse_reply_entry(req, &absent);
      return;
    }
  }
  fs.ReplyError(req, "lookup", directory, entry.status());
}

void ForgetOne(FileSystem& fs, fuse_ino_t ino, uint64_t count) {
  const InodeId inode = fs.ToInode(ino);
  if (fs.counts().Remove(inode, count)) fs.client().Forget(inode);
}

void Forget(fuse_req_t req, fuse_ino_t ino, uint64_t count) {
  ForgetOne(FileSystemOf(req), ino, count);
  fuse_reply_none(req);
}

void ForgetMulti(fuse_req_t req, size_t count, fuse_forget_data* items) {
  for (size_t i = 0; i < count; ++i) ForgetOne(FileSystemOf(req), items[i].ino, items[i].nlookup);
  fuse_reply_none(req);
}

void Mknod(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode, dev_t device) {
  FileSystem& fs = FileSystemOf(req);
  const RequestScope scope(req);
  const InodeId directory = fs.ToInode(parent);
  const auto entry =
      fs.client().Mknod(CallerOf(req), directory, name, TypeOfMode(mode), mode & 07777, device);
  if (!entry.ok()) return fs.ReplyError(req, "mknod", directory, entry.status());
  fs.ReplyEntry(req, *entry);
}

void Mkdir(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode) {
  FileSystem& fs = FileSystemOf(req);
  const RequestScope scope(req);
  const InodeId directory = fs.ToInode(parent);
  const auto caller = CreatorOf(req);
  if (!caller.ok()) return fs.ReplyError(req, "mkdir", directory, caller.status());
  const auto entry = fs.client().Mkdir(*caller, directory, name, mode & 07777);
  if (!entry.ok()) return fs.ReplyError(req, "mkdir", directory, entry.status());
  fs.ReplyEntry(req, *entry);
}

void Symlink(fuse_req_t req, const char* target, fuse_ino_t parent, const char* name) {
  FileSystem& fs = FileSystemOf(req);
  const RequestScope scope(req);
  const InodeId directory = fs.ToInode(parent);
  const auto caller = CreatorOf(req);
  if (!caller.ok()) return fs.ReplyError(req, "symlink", directory, caller.status());
  const auto entry = fs.client().Symlink(*caller, directory, name, target);
  if (!entry.ok()) return fs.ReplyError(req, "symlink", directory, entry.status());
  fs.ReplyEntry(req, *entry);
}

void Link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t new_parent, const char* new_name) {
  FileSystem& fs = FileSystemOf(req);
  const RequestScope scope(req);
  const InodeId inode = fs.ToInode(ino);
  const auto entry = fs.client().Link(CallerOf(req), inode, fs.ToInode(new_parent), new_name);
  if (!entry.ok()) return fs.ReplyError(req, "link", inode, entry.status());
  fs.ReplyEntry(req, *entry);
}

void Unlink(fuse_req_t req, fuse_ino_t parent, const char* name) {
  FileSystem& fs = FileSystemOf(req);
  const RequestScope scope(req);
  const InodeId directory = fs.ToInode(parent);
  const client::Caller caller = CallerOf(req);
  const Status status = fs.client().Unlink(caller, directory, name);
  if (!status.ok() && !ErrorLog::IsOrdinary(status.code())) {
    // The file is whole; the reason belongs to it rather than to its directory.
    if (const auto entry = fs.client().Lookup(caller, directory, name); entry.ok()) {
      return fs.ReplyError(req, "unlink", entry->attr.inode, status);
    }
  }
  fs.ReplyStatus(req, "unlink", directory, status);
}

void Rmdir(fuse_req_t req, fuse_ino_t parent, const char* name) {
  FileSystem& fs = FileSystemOf(req);
  const RequestScope scope(req);
  const InodeId directory = fs.ToInode(parent);
  const client::Caller caller = CallerOf(req);
  // Cached, since the kernel has just looked it up.
  const auto entry = fs.client().Lookup(caller, directory, name);
  const Status status = fs.client().Rmdir(caller, directory, name);
  if (status.ok() && entry.ok()) fs.removed().Add(entry->attr);
  fs.ReplyStatus(req, "rmdir", directory, status);
}

void Rename(fuse_req_t req, fuse_ino_t parent, const char* name, fuse_ino_t new_parent, const char* new_name,
            unsigned int flags) {
  FileSystem& fs = FileSystemOf(req);
  const RequestScope scope(req);
  const InodeId directory = fs.ToInode(parent);
  fs.ReplyStatus(req, "rename", directory,
                 fs.client().Rename(CallerOf(req), directory, name, fs.ToInode(new_parent), new_name, flags));
}

void ReadLink(fuse_req_t req, fuse_ino_t ino) {
  FileSystem& fs = FileSystemOf(req);
  const RequestScope scope(req);
  const auto target = fs.client().ReadLink(CallerOf(req), fs.ToInode(ino));
  if (!target.ok()) return fs.ReplyError(req, "readlink", fs.ToInode(ino), target.status());
  fs.client().NoteAccess(fs.ToInode(ino));
  fuse_reply_readlink(req, target->c_str());
}

}  // namespace

void AddNameOperations(fuse_lowlevel_ops& ops) {
  ops.lookup = Lookup;
  ops.forget = Forget;
  ops.forget_multi = ForgetMulti;
  ops.mknod = Mknod;
  ops.mkdir = Mkdir;
  ops.symlink = Symlink;
  ops.link = Link;
  ops.unlink = Unlink;
  ops.rmdir = Rmdir;
  ops.rename = Rename;
  ops.readlink = ReadLink;
}

}  // namespace cairn::fuse
