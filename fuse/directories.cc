// opendir, readdir, readdirplus, releasedir, fsyncdir.
//
// Listing keeps no state: the kernel's offset is the cursor of the entry before (plus 2, since "." and ".."
// come first), and each request asks the client for about as many entries as fit into its buffer. Entries
// kept from one request to the next would carry attributes whose lease may be gone by then.
#include <fcntl.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "fuse/file_system.h"

namespace cairn::fuse {
namespace {

constexpr off_t kAfterDot = 1;
constexpr off_t kAfterDotDot = 2;
constexpr size_t kPlainEntryBytes = 24 + 16;  // fuse_dirent and a usual name
constexpr size_t kPlusEntryBytes = 152 + 16;  // fuse_direntplus and a usual name
constexpr size_t kMaxEntries = 4096;
constexpr uint64_t kNoAccessTime = 1;  // fuse_file_info::fh of a directory opened with O_NOATIME

// The answer under construction.
class Listing {
 public:
  Listing(fuse_req_t req, size_t size, bool plus) : req_(req), plus_(plus), buffer_(size) {}

  // False if it does not fit any more.
  bool Add(const char* name, const fuse_entry_param& param, off_t next) {
    char* at = buffer_.data() + used_;
    const size_t left = buffer_.size() - used_;
    const size_t need = plus_ ? fuse_add_direntry_plus(req_, at, left, name, &param, next)
                              : fuse_add_direntry(req_, at, left, name, &param.attr, next);
    if (need > left) return false;
    used_ += need;
    return true;
  }
  int Reply() { return fuse_reply_buf(req_, buffer_.data(), used_); }
  bool plus() const { return plus_; }

 private:
  fuse_req_t req_;
  const bool plus_;
  std::vector<char> buffer_;
  size_t used_ = 0;
};

// Without a node id the kernel takes just name, number and type.
fuse_entry_param NameOnly(fuse_ino_t ino, client::FileType type) {
  fuse_entry_param param{};
  param.attr.st_ino = ino;
  param.attr.st_mode = ModeOfType(type);
  return param;
}

bool AddDots(FileSystem& fs, const client::Caller& caller, InodeId directory, off_t offset,
             Listing& listing) {
  const fuse_ino_t self = fs.ToIno(directory);
  if (offset < kAfterDot && !listing.Add(".", NameOnly(self, client::FileType::kDirectory), kAfterDot))
    return false;
  if (offset >= kAfterDotDot) return true;
  fuse_ino_t above = self;
  if (self != FUSE_ROOT_ID) {
    const auto parent = fs.client().ParentOf(caller, directory);
    if (parent.ok()) above = fs.ToIno(*parent);
  }
  return listing.Add("..", NameOnly(above, client::FileType::kDirectory), kAfterDotDot);
}

void ReadDirectory(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, const fuse_file_info* file, bool plus) {
  FileSystem& fs = FileSystemOf(req);
  const RequestScope scope(req);
  const client::Caller caller = CallerOf(req);
  const InodeId directory = fs.ToInode(ino);
  Listing listing(req, size, plus);
  if (!AddDots(fs, caller, directory, offset, listing)) {
    listing.Reply();
    return;
  }
  const uint64_t cursor = offset <= kAfterDotDot ? 0 : static_cast<uint64_t>(offset - kAfterDotDot);
  const size_t max = std::clamp<size_t>(size / (plus ? kPlusEntryBytes : kPlainEntryBytes), 4, kMaxEntries);
  const auto entries = fs.client().ReadDirectory(caller, directory, cursor, max, plus);
  if (!entries.ok()) return fs.ReplyError(req, "readdir", directory, entries.status());
  if (file->fh != kNoAccessTime && fs.options().directory_access_times) fs.client().NoteAccess(directory);
  std::vector<InodeId> counted;
  for (const client::DirectoryEntry& entry : *entries) {
    const bool whole = plus && entry.entry.has_value();
    const fuse_entry_param param =
        whole ? fs.ToEntryParam(*entry.entry) : NameOnly(fs.ToIno(entry.inode), entry.type);
    if (!listing.Add(entry.name.c_str(), param, static_cast<off_t>(entry.cursor) + kAfterDotDot)) break;
    if (whole) {
      fs.counts().Add(entry.inode);
      counted.push_back(entry.inode);
    }
  }
  if (listing.Reply() != 0) {
    for (const InodeId inode : counted) {
      if (fs.counts().Remove(inode, 1)) fs.client().Forget(inode);
    }
  }
}

void OpenDir(fuse_req_t req, fuse_ino_t, fuse_file_info* file) {
  // Permissions were checked by the kernel (default_permissions), and by the master when entries are read.
  file->fh = (file->flags & O_NOATIME) != 0 ? kNoAccessTime : 0;
  fuse_reply_open(req, file);
}

void ReadDir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, fuse_file_info* file) {
  ReadDirectory(req, ino, size, offset, file, false);
}

void ReadDirPlus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, fuse_file_info* file) {
  ReadDirectory(req, ino, size, offset, file, true);
}

void ReleaseDir(fuse_req_t req, fuse_ino_t, fuse_file_info*) { fuse_reply_err(req, 0); }

void FsyncDir(fuse_req_t req, fuse_ino_t ino, int, fuse_file_info*) {
  FileSystem& fs = FileSystemOf(req);
  const RequestScope scope(req);
  fs.ReplyStatus(req, "fsyncdir", fs.ToInode(ino), fs.client().FsyncInode(fs.ToInode(ino)));
}

}  // namespace

void AddDirectoryOperations(fuse_lowlevel_ops& ops) {
  ops.opendir = OpenDir;
  ops.readdir = ReadDir;
  ops.readdirplus = ReadDirPlus;
  ops.releasedir = ReleaseDir;
  ops.fsyncdir = FsyncDir;
}

}  // namespace cairn::fuse
