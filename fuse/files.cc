// create, open, read, write, flush, release, fsync, fallocate, lseek, copy_file_range.
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fuse.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>

#include "fuse/file_system.h"

namespace cairn::fuse {
namespace {

// What an answer to copy_file_range can count, in whole blocks.
constexpr size_t kMaxCopyBytes = UINT32_MAX / 4096 * 4096;

client::Handle HandleOf(const fuse_file_info* file) { return static_cast<client::Handle>(file->fh); }

void SetHandle(FileSystem& fs, fuse_file_info* file, InodeId inode, client::Handle handle) {
  file->fh = static_cast<uint64_t>(handle);
  file->keep_cache = fs.client().MayKeepCache(handle) ? 1 : 0;
  // The client appends where the file ends; the kernel would fill its pages where it believes the end to be, which other mounts move.
  const bool appends = (file->flags & O_APPEND) != 0 && (file->flags & O_ACCMODE) != O_RDONLY;
  file->direct_io = appends && fs.direct_drops_pages() ? 1 : 0;
  if ((file->flags & O_ACCMODE) == O_RDWR && file->direct_io == 0) fs.shared_mappings().Opened(inode, file->fh);
}

// Nobody will release a handle whose reply did not arrive.
void CloseUnclaimed(FileSystem& fs, InodeId inode, client::Handle handle) {
  fs.shared_mappings().Released(static_cast<uint64_t>(handle));
  const Status closed = fs.client().Close(handle);
  if (!closed.ok() && !ErrorLog::IsOrdinary(closed.code())) fs.errors().Report("close", inode, closed);
}

void Create(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode, fuse_file_info* file) {
  FileSystem& fs = FileSystemOf(req);
  const RequestScope scope(req);
  const InodeId directory = fs.ToInode(parent);
  const auto caller = CreatorOf(req);
  if (!caller.ok()) return fs.ReplyError(req, "create", directory, caller.status());
  const auto created = fs.client().Create(*caller, directory, name,
                                          {.mode = mode & 07777, .exclusive = (file->flags & O_EXCL) != 0},
                                          ToOpenFlags(file->flags));
  if (!created.ok()) return fs.ReplyError(req, "create", directory, created.status());
  const InodeId inode = created->entry.attr.inode;
  SetHandle(fs, file, inode, created->handle);
  fs.counts().Add(inode);
  const fuse_entry_param param = fs.ToEntryParam(created->entry);
  if (fuse_reply_create(req, &param, file) != 0) {
    CloseUnclaimed(fs, inode, created->handle);
    if (fs.counts().Remove(inode, 1)) fs.client().Forget(inode);
  }
}

// Writers of a file opened with O_DIRECT need not take turns in the kernel: each waits for its own replicas, and ranges that overlap
// are ordered by the client. The library of this system has no name for that flag, so the reply is made by hand (linux/fuse.h).
// Shared memory mappings of such a descriptor are refused by the kernel (docs/posix.md).
int ReplyOpen(FileSystem& fs, fuse_req_t req, const fuse_file_info* file) {
  const bool direct_writer = (file->flags & O_DIRECT) != 0 && (file->flags & O_ACCMODE) != O_RDONLY &&
                             fs.direct_drops_pages();
  if (!direct_writer) return fuse_reply_open(req, file);
  fs.shared_mappings().Released(file->fh);
  fuse_open_out reply{};
  reply.fh = file->fh;
  reply.open_flags = FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES | (file->keep_cache != 0 ? FOPEN_KEEP_CACHE : 0);
  return fuse_reply_buf(req, reinterpret_cast<const char*>(&reply), sizeof reply);
}

void Open(fuse_req_t req, fuse_ino_t ino, fuse_file_info* file) {
  FileSystem& fs = FileSystemOf(req);
  const RequestScope scope(req);
  const InodeId inode = fs.ToInode(ino);
  const auto handle = fs.client().Open(CallerOf(req), inode, ToOpenFlags(file->flags));
  if (!handle.ok()) return fs.ReplyError(req, "open", inode, handle.status());
  SetHandle(fs, file, inode, *handle);
  if (ReplyOpen(fs, req, file) != 0) CloseUnclaimed(fs, inode, *handle);
}

// Reused by the requests of one thread: fresh memory is slow to touch for the first time.
std::span<std::byte> ReadBuffer(size_t size) {
  thread_local std::unique_ptr<std::byte[]> buffer;
  thread_local size_t capacity = 0;
  if (capacity < size) {
    buffer = std::make_unique_for_overwrite<std::byte[]>(size);
    capacity = size;
  }
  return {buffer.get(), size};
}

void Read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, fuse_file_info* file) {
  FileSystem& fs = FileSystemOf(req);
  const RequestScope scope(req);
  const std::span<std::byte> buffer = ReadBuffer(size);
  const auto got = fs.client().Read(HandleOf(file), static_cast<uint64_t>(offset), buffer, ToStatusFlags(file->flags));
  if (!got.ok()) return fs.ReplyError(req, "read", fs.ToInode(ino), got.status());
  fuse_reply_buf(req, reinterpret_cast<const char*>(buffer.data()), *got);
}

void Write(fuse_req_t req, fuse_ino_t ino, const char* data, size_t size, off_t offset,
           fuse_file_info* file) {
  FileSystem& fs = FileSystemOf(req);
  const RequestScope scope(req);
  const auto written = fs.client().Write(HandleOf(file), static_cast<uint64_t>(offset),
                                         {reinterpret_cast<const std::byte*>(data), size}, ToStatusFlags(file->flags));
  if (!written.ok()) return fs.ReplyError(req, "write", fs.ToInode(ino), written.status());
  fuse_reply_write(req, size);
}

void Flush(fuse_req_t req, fuse_ino_t ino, fuse_file_info* file) {
  FileSystem& fs = FileSystemOf(req);
  const RequestScope scope(req);
  // What the process wrote goes first, then whoever waits for its locks may have them.
  const Status flushed = fs.client().Flush(HandleOf(file));
  const Status released = fs.client().ReleaseRecordLocks(HandleOf(file), file->lock_owner);
  fs.ReplyStatus(req, "close", fs.ToInode(ino), flushed.ok() ? released : flushed);
}

void Release(fuse_req_t req, fuse_ino_t ino, fuse_file_info* file) {
  FileSystem& fs = FileSystemOf(req);
  // Not interruptible: nobody waits for it, and the handle must go. The kernel ignores the answer.
  fs.shared_mappings().Released(file->fh);
  fs.client().ReleaseHandleLocks(HandleOf(file), file->flock_release ? file->lock_owner : 0);
  fs.ReplyStatus(req, "release", fs.ToInode(ino), fs.client().Close(HandleOf(file)));
}

void Fsync(fuse_req_t req, fuse_ino_t ino, int data_only, fuse_file_info* file) {
  FileSystem& fs = FileSystemOf(req);
  const RequestScope scope(req);
  const Status status = fs.client().Fsync(HandleOf(file), data_only != 0);
  if (status.ok()) fs.errors().Clear(fs.ToInode(ino));
  fs.ReplyStatus(req, "fsync", fs.ToInode(ino), status);
}

// Growing without data: a hole. Nothing is reserved on the chunkservers; a full cluster is reported by write
// and close.
Status Extend(FileSystem& fs, const client::Caller& caller, InodeId inode, client::Handle handle, uint64_t size) {
  CAIRN_ASSIGN_OR_RETURN(const client::Entry entry, fs.client().GetAttr(caller, inode));
  // The kernel holds the inode's lock, so that no other writer of this mount grows the file in between.
  if (entry.attr.size >= size) return Status::Ok();
  client::SetAttributes change;
  change.size = size;
  change.by_handle = handle;
  return fs.client().SetAttr(caller, inode, change).status();
}

void Fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length, fuse_file_info* file) {
  FileSystem& fs = FileSystemOf(req);
  const RequestScope scope(req);
  const InodeId inode = fs.ToInode(ino);
  const auto from = static_cast<uint64_t>(offset);
  const auto bytes = static_cast<uint64_t>(length);
  Status status;
  switch (mode) {
    case 0:
      status = Extend(fs, CallerOf(req), inode, HandleOf(file), from + bytes);
      break;
    case FALLOC_FL_KEEP_SIZE:
      break;
    case FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE:
    case FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE:
      status = fs.client().Zero(HandleOf(file), from, bytes, true);
      break;
    case FALLOC_FL_ZERO_RANGE:
      status = fs.client().Zero(HandleOf(file), from, bytes, false);
      break;
    default:
      status = Status(StatusCode::kNotSupported, "fallocate mode");
  }
  fs.ReplyStatus(req, "fallocate", inode, status);
}

void Seek(fuse_req_t req, fuse_ino_t ino, off_t offset, int whence, fuse_file_info* file) {
  FileSystem& fs = FileSystemOf(req);
  const RequestScope scope(req);
  if (offset < 0) {
    fuse_reply_err(req, ENXIO);
    return;
  }
  const auto found = fs.client().Seek(HandleOf(file), static_cast<uint64_t>(offset), whence == SEEK_DATA);
  if (!found.ok()) return fs.ReplyError(req, "lseek", fs.ToInode(ino), found.status());
  if (found->has_value()) {
    fuse_reply_lseek(req, static_cast<off_t>(**found));
  } else {
    fuse_reply_err(req, ENXIO);
  }
}

// The kernel has checked permissions, overlap and limits, has cut the range at the end of the source that it knows, has written back
// dirty pages of both files and drops the target's pages when the answer comes. It holds the target's lock until then, so an answer
// covers no more than what is copied in about a second.
void CopyFileRange(fuse_req_t req, fuse_ino_t ino_in, off_t from, fuse_file_info* in, fuse_ino_t /*ino_out*/, off_t to,
                   fuse_file_info* out, size_t length, int flags) {
  FileSystem& fs = FileSystemOf(req);
  const RequestScope scope(req);
  if (flags != 0 || from < 0 || to < 0) {
    fuse_reply_err(req, EINVAL);
    return;
  }
  const auto copied = fs.client().CopyRange(HandleOf(in), static_cast<uint64_t>(from), HandleOf(out),
                                            static_cast<uint64_t>(to), std::min<size_t>(length, kMaxCopyBytes));
  if (!copied.ok()) return fs.ReplyError(req, "copy_file_range", fs.ToInode(ino_in), copied.status());
  fuse_reply_write(req, *copied);
}

}  // namespace

void AddFileOperations(fuse_lowlevel_ops& ops) {
  ops.create = Create;
  ops.open = Open;
  ops.read = Read;
  ops.write = Write;
  ops.flush = Flush;
  ops.release = Release;
  ops.fsync = Fsync;
  ops.fallocate = Fallocate;
  ops.lseek = Seek;
  ops.copy_file_range = CopyFileRange;
}

}  // namespace cairn::fuse
