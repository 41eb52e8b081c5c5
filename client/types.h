// Values of the client library's interface. Thread-safety: values.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "common/ids.h"
#include "common/status.h"

namespace cairn::client {

// Supplementary groups as /proc has them, in those of the cluster. Outlives the client.
class GroupMap {
 public:
  virtual ~GroupMap() = default;
  virtual uint32_t GroupToCluster(uint32_t local_gid) const = 0;
};

// Who calls: the master checks permissions with it. Groups are fetched only when an answer depends on them.
struct Caller {
  uint32_t uid = 0;
  uint32_t gid = 0;
  // Process whose supplementary groups count (read from /proc when asked for); 0: the groups below.
  int32_t pid = 0;
  const GroupMap* group_map = nullptr;  // for what is read from /proc; null: they are the same
  std::vector<uint32_t> groups;
  // Taken from the mode of what is created, unless the directory has a default ACL.
  uint32_t umask = 0;
};

enum class FileType : uint8_t { kRegular = 1, kDirectory, kSymlink, kFifo, kSocket, kCharDevice, kBlockDevice };

struct TimeSpec {
  int64_t seconds = 0;
  uint32_t nanos = 0;
  auto operator<=>(const TimeSpec&) const = default;
};

struct Attributes {
  InodeId inode;
  FileType type = FileType::kRegular;
  uint32_t mode = 0;       // 07777
  uint32_t nlink = 0;
  uint32_t uid = 0;
  uint32_t gid = 0;
  uint64_t rdev = 0;
  uint64_t size = 0;       // bytes
  uint64_t blocks_512 = 0;
  uint64_t chunk_bytes = 0;
  TimeSpec atime, mtime, ctime, btime;
  uint64_t generation = 0;
  bool has_acl = false;
};

// How long (nanoseconds) an answer may be cached by the kernel: what is left of the lease it rests on; 0 without one.
struct Entry {
  Attributes attr;
  int64_t valid_ns = 0;        // attributes
  int64_t entry_valid_ns = 0;  // the name
};

struct DirectoryEntry {
  std::string name;
  InodeId inode;
  FileType type = FileType::kRegular;
  uint64_t cursor = 0;         // pass to ReadDirectory to go on after this entry
  std::optional<Entry> entry;  // with attributes when asked for
};

// Opaque handle of an open file.
enum class Handle : uint64_t { kNone = 0 };

struct SetAttributes {
  std::optional<uint32_t> mode, uid, gid;
  std::optional<uint64_t> size;
  std::optional<TimeSpec> atime, mtime;
  bool atime_now = false;
  bool mtime_now = false;
  bool kill_priv = false;
  // ftruncate: the size is changed through this handle, which is open for writing. The right to it was established then, and
  // holds whatever the mode says now.
  Handle by_handle = Handle::kNone;
};

struct SpaceUsage {
  uint64_t total_bytes = 0, free_bytes = 0, available_bytes = 0, files = 0, files_free = 0;
  uint64_t trash_bytes = 0;  // of deleted files that are kept; counted as used
};

// When reading moves the time of last access.
enum class AccessTimes : uint8_t {
  kNever,
  kRelative,  // when it is not after the last change, or a day old: as local file systems do by default
  kAlways,
};

struct OpenFlags {
  bool read = true;
  bool write = false;
  bool append = false;
  bool truncate = false;
  bool direct = false;   // O_DIRECT: a write returns after W replicas applied it
  bool sync = false;     // O_SYNC / O_DSYNC: a write returns after it is durable on W replicas
  bool no_atime = false; // O_NOATIME: reading does not move the time of last access
};

// Those of OpenFlags that fcntl(F_SETFL) may change while a file is open.
struct StatusFlags {
  bool append = false;
  bool direct = false;
  bool sync = false;
  bool no_atime = false;
};

// How files below a directory are stored; 0 or empty is inherited from the parent directory.
struct Policy {
  uint32_t replicas = 0;       // N
  uint32_t write_quorum = 0;   // W, 1 <= W <= N; 0 with replicas set means majority
  uint64_t chunk_bytes = 0;    // power of two, for files created from now on
  std::string failure_domain;  // "server", "rack" or "zone"
  std::string storage_class;   // tag that disks must carry
  std::optional<uint32_t> scatter_width;  // copysets: how many others a server shares chunks with; 0: any; absent: inherited
  std::optional<uint64_t> trash_seconds;  // how long deleted files are kept; 0: not at all; absent: inherited
  bool operator==(const Policy&) const = default;
};
struct PolicyPair {
  Policy own;        // as set on this directory
  Policy effective;  // with what it inherits
};

// A deleted file that is kept for a while.
struct TrashEntry {
  InodeId inode;
  std::string path;  // where it was
  FileType type = FileType::kRegular;
  uint64_t size = 0;
  uint32_t owner = 0;
  uint32_t deleted_by = 0;
  TimeSpec deleted;
  TimeSpec expires;
  InodeId parent;  // the directory it was in
};

enum class LockKind : uint8_t { kUnlock, kShared, kExclusive };
struct LockRequest {
  Handle handle = Handle::kNone;
  bool flock = false;             // otherwise a record lock (fcntl)
  LockKind kind = LockKind::kShared;
  uint64_t owner = 0;             // the kernel's: the files of a process, or an open file
  uint64_t start = 0;
  uint64_t end = INT64_MAX;       // inclusive
  int32_t pid = 0;
  bool wait = false;
  bool open_description = false;  // known to be F_OFD_*: never EDEADLK
};
// A lock that is in the way of another one.
struct LockHolder {
  LockKind kind = LockKind::kShared;
  uint64_t start = 0;
  uint64_t end = INT64_MAX;
  int32_t pid = 0;  // 0: on another mount
};
using LockDone = std::function<void(const Status&)>;
enum class Cancelling : uint8_t {
  kAsk,     // the caller still waits for the outcome: the lock, or kInterrupted
  kGiveUp,  // the caller is gone: kInterrupted at once, and nothing is kept
};

}  // namespace cairn::client
