// The client library: everything that the mount and the CLI do with files goes through this.
//
// One Client is one session with the master. Leases make most calls local: what was looked up stays valid until it is
// recalled. Writes are buffered under the write lease and sent to all replicas in parallel; Close waits for the write quorum, Fsync
// for its disks and for the metadata. Errors of buffered writes surface at the next Write, Close or Fsync of a handle, once per handle.
//
//   auto client = Client::Connect(options);
//   auto created = client->Create(caller, kRootInode, "a", {.mode = 0644}, {.write = true});
//   client->Write(created->handle, 0, bytes);  client->Close(created->handle);
//
// Every wait is bounded (options.*_timeout_ms) or ends when `interrupted` returns true (see InterruptScope).
// Thread-safety: all methods may be called from any thread; calls on one handle may overlap. No method may be called from
// within a listener.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "client/types.h"
#include "common/clock.h"

namespace cairn::client {

struct ClientOptions {
  std::vector<std::string> masters;             // host:port; tried in turn
  std::string name;                             // shown to administrators; empty: host:pid
  uint64_t dirty_limit_bytes = 128ull << 20;    // buffered writes of all files; writers wait beyond it
  uint64_t window_bytes = 8ull << 20;           // in flight per file
  uint64_t read_ahead_bytes = 8ull << 20;       // per sequential stream
  uint64_t cache_bytes = 64ull << 20;           // data kept for read-ahead and write-behind
  // Cached inodes. Below what the master lets a session have (master/core/options.h): the coldest are given back 256 at a time, beyond
  // that bound the master would ask for one with every new one.
  size_t max_leases = 90'000;
  int64_t request_timeout_ms = 30'000;          // for the master to answer before an operation fails
  int64_t write_timeout_ms = 10'000;            // below the write quorum before an error (EIO)
  int64_t connect_timeout_ms = 10'000;          // first contact
  AccessTimes access_times = AccessTimes::kNever;
  int64_t access_times_ms = 10'000;             // the master hears of them so much later at most
};

// Told when something cached must go. Called from a thread of the library that holds no lock; the listener may block (it
// calls into the kernel), must not call the client, and the lease is returned only after it came back.
class CacheListener {
 public:
  virtual ~CacheListener() = default;
  // Attributes, and with `data` the cached pages, of an inode.
  virtual void InvalidateInode(InodeId inode, bool data) = 0;
  // The names of a directory, also those that were known not to exist.
  virtual void InvalidateNames(InodeId directory) = 0;
};

struct Created {
  Entry entry;
  Handle handle = Handle::kNone;
};
struct CreateMode {
  uint32_t mode = 0644;    // Caller.umask is applied to it
  bool exclusive = false;
};

// While an InterruptScope lives, waits of this thread end with kInterrupted soon after `interrupted` returns true.
class InterruptScope {
 public:
  explicit InterruptScope(std::function<bool()> interrupted);
  ~InterruptScope();
  InterruptScope(const InterruptScope&) = delete;
  InterruptScope& operator=(const InterruptScope&) = delete;
};

// Counters since the start; see docs/operations.md.
struct ClientStats {
  uint64_t master_requests = 0;        // round trips on the session, without renewals and times of last access
  uint64_t data_requests = 0;          // frames sent to chunkservers
  uint64_t bytes_read = 0, bytes_written = 0;
  uint64_t bytes_copied = 0;           // from file to file by chunkservers
  uint64_t bytes_copied_here = 0;      // of copies, what came through this client after all
  uint64_t lease_recalls = 0;
  uint64_t dirty_bytes = 0;
  uint64_t leases = 0;
  uint64_t locks_decided_here = 0;     // lock requests that needed no round trip
  uint64_t locks_held = 0, locks_waiting = 0;
  std::vector<std::string> servers_down;  // "cs3 (10.0.0.3:9410)", as the master last said
  std::string state;                   // "connected" or what it is waiting for, for people
};

class Client {
 public:
  static Result<std::unique_ptr<Client>> Connect(const ClientOptions& options, CacheListener* listener = nullptr,
                                                 const Clock* clock = SystemClock::Get());
  virtual ~Client() = default;  // flushes what can be flushed, ends the session

  // Namespace.
  virtual Result<Entry> Lookup(const Caller&, InodeId parent, const std::string& name) = 0;  // kNotFound: see NegativeValidNanos
  // How long a failed lookup in `parent` may be cached (its directory lease); 0: not at all.
  virtual int64_t NegativeValidNanos(InodeId parent) = 0;
  virtual Result<Entry> GetAttr(const Caller&, InodeId inode) = 0;
  virtual Result<Entry> SetAttr(const Caller&, InodeId inode, const SetAttributes&) = 0;
  virtual Status Access(const Caller&, InodeId inode, uint32_t mask) = 0;
  virtual Result<std::string> ReadLink(const Caller&, InodeId inode) = 0;
  virtual Result<Created> Create(const Caller&, InodeId parent, const std::string& name, CreateMode, OpenFlags) = 0;
  virtual Result<Entry> Mkdir(const Caller&, InodeId parent, const std::string& name, uint32_t mode) = 0;
  virtual Result<Entry> Mknod(const Caller&, InodeId parent, const std::string& name, FileType, uint32_t mode, uint64_t rdev) = 0;
  virtual Result<Entry> Symlink(const Caller&, InodeId parent, const std::string& name, const std::string& target) = 0;
  virtual Result<Entry> Link(const Caller&, InodeId inode, InodeId new_parent, const std::string& new_name) = 0;
  virtual Status Unlink(const Caller&, InodeId parent, const std::string& name) = 0;
  virtual Status Rmdir(const Caller&, InodeId parent, const std::string& name) = 0;
  virtual Status Rename(const Caller&, InodeId parent, const std::string& name, InodeId new_parent,
                        const std::string& new_name, uint32_t flags) = 0;
  // Entries after `cursor` (0: from the start), at most `max`; an empty answer is the end. "." and ".." are not included.
  virtual Result<std::vector<DirectoryEntry>> ReadDirectory(const Caller&, InodeId inode, uint64_t cursor, size_t max,
                                                            bool with_attributes) = 0;
  // A program read the directory or the target of the symbolic link: its time of last access moves as access_times says. (For
  // files, Read does that.)
  virtual void NoteAccess(InodeId inode) = 0;
  virtual Result<InodeId> ParentOf(const Caller&, InodeId directory) = 0;
  virtual Result<std::string> GetXattr(const Caller&, InodeId inode, const std::string& name) = 0;
  virtual Result<std::vector<std::string>> ListXattr(const Caller&, InodeId inode) = 0;
  virtual Status SetXattr(const Caller&, InodeId inode, const std::string& name, const std::string& value, uint32_t flags) = 0;
  virtual Status RemoveXattr(const Caller&, InodeId inode, const std::string& name) = 0;
  virtual Result<SpaceUsage> StatFs(InodeId inode) = 0;
  // SetPolicyOp and GetPolicyOp. Set replaces what the directory has of its own; root of the cluster only (kNotPermitted).
  virtual Result<PolicyPair> GetPolicy(const Caller&, InodeId directory) = 0;
  virtual Result<PolicyPair> SetPolicy(const Caller&, InodeId directory, const Policy& own) = 0;
  // The trash (session.proto). List: those after `after`, empty at the end. Undelete: where it was when
  // new_parent is none; the name has to be given (that of its entry, for example).
  virtual Result<std::vector<TrashEntry>> ListTrash(const Caller&, InodeId after) = 0;
  virtual Result<Entry> Undelete(const Caller&, InodeId inode, InodeId new_parent,
                                 const std::string& new_name) = 0;
  virtual Status PurgeTrash(const Caller&, const std::vector<InodeId>& inodes) = 0;

  // Files.
  virtual Result<Handle> Open(const Caller&, InodeId inode, OpenFlags) = 0;
  // May the kernel keep the pages it has from an earlier open (nothing changed since)?
  virtual bool MayKeepCache(Handle) = 0;
  // Reads up to buffer.size() bytes; fewer only at the end of the file. `now`: absent when they are as the file was opened.
  virtual Result<size_t> Read(Handle, uint64_t offset, std::span<std::byte> buffer,
                              const std::optional<StatusFlags>& now = std::nullopt) = 0;
  // With append, offset is ignored and the end of the file is used. Returns the offset written at.
  virtual Result<uint64_t> Write(Handle, uint64_t offset, std::span<const std::byte> data,
                                 const std::optional<StatusFlags>& now = std::nullopt) = 0;
  // fallocate modes: keep_size (allocate nothing, promise nothing beyond size), punch and zero.
  virtual Status Zero(Handle, uint64_t offset, uint64_t length, bool keep_size) = 0;
  // copy_file_range(2): the chunkservers copy by themselves what they can, the rest goes through here. Holes stay holes. Answers how
  // many bytes were copied; 0 only at the end of `from`. Fewer than asked for: its end, an interruption, or simply enough for one call.
  virtual Result<uint64_t> CopyRange(Handle from, uint64_t from_offset, Handle to, uint64_t to_offset, uint64_t length) = 0;
  // lseek(2) with SEEK_DATA (or SEEK_HOLE); nullopt stands for ENXIO.
  virtual Result<std::optional<uint64_t>> Seek(Handle, uint64_t offset, bool data) = 0;
  // Everything written through this handle is on W replicas (memory); returns and clears the handle's pending error.
  virtual Status Flush(Handle) = 0;
  // As Flush, and durable on W replicas and at the master (data_only: the size too, other attributes not).
  virtual Status Fsync(Handle, bool data_only) = 0;
  virtual Status FsyncInode(InodeId inode) = 0;       // directories: durable at the master
  virtual Status Close(Handle) = 0;                   // as Flush; the handle is gone afterwards whatever is returned
  virtual Status SyncAll() = 0;                       // every dirty file as Fsync

  // File locks of the whole cluster (client/locks/lock_client.h). BeginLock names a request; RunLock starts it and never waits;
  // `done` is called once, from any thread, and must not block: ok, kWouldBlock, kInterrupted, kDeadlock, ...
  virtual uint64_t BeginLock(const LockRequest&, LockDone done) = 0;
  virtual void RunLock(uint64_t ticket) = 0;
  // A signal came. False when `done` was called, or is being called.
  virtual bool CancelLock(uint64_t ticket, Cancelling) = 0;
  virtual Result<std::optional<LockHolder>> TestLock(const Caller&, const LockRequest&) = 0;
  // A process (`owner`) closed a descriptor of the handle: its record locks on the file go.
  virtual Status ReleaseRecordLocks(Handle, uint64_t owner) = 0;
  // Before Close: what the open file owns itself goes. flock_owner: 0 if it has no flock.
  virtual void ReleaseHandleLocks(Handle, uint64_t flock_owner) = 0;
  // Every lock request ends with kCancelled, and none is begun any more: nobody is there for the answers.
  virtual void AbandonLocks() = 0;

  // The kernel forgot an inode: nothing about it needs to be kept for its sake.
  virtual void Forget(InodeId inode) = 0;
  virtual ClientStats Stats() = 0;
};

// Paths over a Client, for the CLI: resolves with symlinks (at most 40), on behalf of `caller`.
// Errors as open(2) gives them for a path.
Result<Entry> ResolvePath(Client& client, const Caller& caller, const std::string& path, bool follow_last);
// The same with every directory on the way, from the root; `path` of a step is without symlinks.
struct PathStep { std::string path; Entry entry; };
Result<std::vector<PathStep>> ResolveSteps(Client& client, const Caller& caller, const std::string& path, bool follow_last);
// The directory that holds the last component of `path`, and that component.
struct ParentAndName { InodeId parent; std::string name; };
Result<ParentAndName> ResolveParent(Client& client, const Caller& caller, const std::string& path);

}  // namespace cairn::client
