#include "fuse/convert.h"

#include <fcntl.h>
#include <sys/stat.h>

namespace cairn::fuse {
namespace {

timespec ToTimespec(const client::TimeSpec& time) {
  return {.tv_sec = time.seconds, .tv_nsec = static_cast<long>(time.nanos)};
}

client::TimeSpec FromTimespec(const timespec& time) {
  return {.seconds = time.tv_sec, .nanos = static_cast<uint32_t>(time.tv_nsec)};
}

// What stat(2) shows as the preferred size of a request.
constexpr blksize_t kPreferredIoBytes = 1 << 20;

}  // namespace

mode_t ModeOfType(client::FileType type) {
  switch (type) {
    case client::FileType::kRegular:
      return S_IFREG;
    case client::FileType::kDirectory:
      return S_IFDIR;
    case client::FileType::kSymlink:
      return S_IFLNK;
    case client::FileType::kFifo:
      return S_IFIFO;
    case client::FileType::kSocket:
      return S_IFSOCK;
    case client::FileType::kCharDevice:
      return S_IFCHR;
    case client::FileType::kBlockDevice:
      return S_IFBLK;
  }
  return S_IFREG;
}

client::FileType TypeOfMode(mode_t mode) {
  switch (mode & S_IFMT) {
    case S_IFDIR:
      return client::FileType::kDirectory;
    case S_IFLNK:
      return client::FileType::kSymlink;
    case S_IFIFO:
      return client::FileType::kFifo;
    case S_IFSOCK:
      return client::FileType::kSocket;
    case S_IFCHR:
      return client::FileType::kCharDevice;
    case S_IFBLK:
      return client::FileType::kBlockDevice;
    default:
      return client::FileType::kRegular;
  }
}

struct stat ToStat(const client::Attributes& attr, fuse_ino_t ino) {
  struct stat result {};
  result.st_ino = ino;
  result.st_mode = ModeOfType(attr.type) | (attr.mode & 07777);
  result.st_nlink = attr.nlink;
  result.st_uid = attr.uid;
  result.st_gid = attr.gid;
  result.st_rdev = attr.rdev;
  result.st_size = static_cast<off_t>(attr.size);
  result.st_blocks = static_cast<blkcnt_t>(attr.blocks_512);
  result.st_blksize = kPreferredIoBytes;
  result.st_atim = ToTimespec(attr.atime);
  result.st_mtim = ToTimespec(attr.mtime);
  result.st_ctim = ToTimespec(attr.ctime);
  return result;
}

double ToSeconds(int64_t nanos) { return nanos <= 0 ? 0.0 : static_cast<double>(nanos) / 1e9; }

client::SetAttributes ToSetAttributes(const struct stat& attr, int to_set) {
  client::SetAttributes change;
  if ((to_set & FUSE_SET_ATTR_MODE) != 0) change.mode = attr.st_mode & 07777;
  if ((to_set & FUSE_SET_ATTR_UID) != 0) change.uid = attr.st_uid;
  if ((to_set & FUSE_SET_ATTR_GID) != 0) change.gid = attr.st_gid;
  if ((to_set & FUSE_SET_ATTR_SIZE) != 0) change.size = static_cast<uint64_t>(attr.st_size);
  if ((to_set & FUSE_SET_ATTR_ATIME_NOW) != 0) {
    change.atime_now = true;
  } else if ((to_set & FUSE_SET_ATTR_ATIME) != 0) {
    change.atime = FromTimespec(attr.st_atim);
  }
  if ((to_set & FUSE_SET_ATTR_MTIME_NOW) != 0) {
    change.mtime_now = true;
  } else if ((to_set & FUSE_SET_ATTR_MTIME) != 0) {
    change.mtime = FromTimespec(attr.st_mtim);
  }
  change.kill_priv =
      (to_set & (FUSE_SET_ATTR_KILL_SUID | FUSE_SET_ATTR_KILL_SGID | FUSE_SET_ATTR_KILL_PRIV)) != 0;
  return change;
}

client::StatusFlags ToStatusFlags(int flags) {
  const client::OpenFlags all = ToOpenFlags(flags);
  return {.append = all.append, .direct = all.direct, .sync = all.sync, .no_atime = all.no_atime};
}

client::OpenFlags ToOpenFlags(int flags) {
  const int access = flags & O_ACCMODE;
  return {.read = access != O_WRONLY,
          .write = access != O_RDONLY,
          .append = (flags & O_APPEND) != 0,
          .truncate = (flags & O_TRUNC) != 0,
          .direct = (flags & O_DIRECT) != 0,
          .sync = (flags & (O_SYNC | O_DSYNC)) != 0,
          .no_atime = (flags & O_NOATIME) != 0};
}

}  // namespace cairn::fuse
