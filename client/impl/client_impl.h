// The Client over a session, a lease cache and the data path. One class, its operations by concern:
//   lifecycle.cc    construction, end, what the session reports, requests on behalf of a caller
//   namespace.cc    names: lookup, create, remove, rename, listings
//   attributes.cc   attributes, permissions, extended attributes, policies
//   held_times.cc   times that the holder of a write lease sets alone
//   handles.cc      open and close, the table of open files
//   file_io.cc      read, write, truncate, flush
//   copy_range.cc   copies from file to file
//   sync.cc         fsync
//   lease_use.cc    entering a file under its lease, acquiring it, transitions
//   file_locks.cc   file locks: which file a handle means, handles whose locks were lost
//   access_times.cc times of last access
//   recall.cc       leases that end: recalls, evictions, the loss of the session
//   write_back.cc   commits to the master, idle write leases
//
// Threads. Callers block in their own thread. The session's reader thread only moves what it receives into
// the lease cache and the gates of files (OnReply, on_reply) and hands recalls to workers_. Invalidations of
// the kernel's caches, which may block in the kernel, run in invalidators_ and are waited for with a bound.
//
// Why a recall cannot deadlock (see also open_file.h):
//   - It runs in a worker, never in a request's thread and never in the reader thread.
//   - It waits for operations *inside* the gate. These hold the lease; they wait for chunkservers, and for
//   answers that the
//     master gives to a lease holder without recalling anything (announce, layout, chunk_trouble, write_back,
//     truncation).
//   - It does not wait for operations outside the gate, which may wait for the master to finish what the
//   recall is for.
//   - It waits for the kernel with a bound. Invalidating pages waits for locked pages, and a page may be
//   locked by a write of
//     this very mount that waits for the master (then 20 ms; its page is written under the new lease, and
//     dropped after it); invalidating names waits for the directory's lock, which a create of this very mount
//     may hold while the master lets it wait for our recall reply; then the names' own time in the kernel
//     passes, at most kNameExposureNanos.
//   - Names are invalidated after they left the cache, pages before the lease is given back and, if an
//   operation entered
//     since, once more.
//
// Thread-safety: as Client.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <tuple>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "client/cache/lease_cache.h"
#include "client/client.h"
#include "client/data/file_data.h"
#include "client/data/scheduler.h"
#include "client/impl/open_file.h"
#include "client/locks/lock_client.h"
#include "client/permission.h"
#include "client/session/convert.h"
#include "client/session/session.h"

namespace cairn::client {

// How a ClientImpl is put together; production: Client::Connect (connect.cc), tests: a scripted master and
// files in memory.
struct ClientParts {
  ClientOptions options;
  std::string host_id;
  std::unique_ptr<MasterConnector> connector;
  // Called once, after the session began; `cluster_id` is known then.
  std::function<std::function<std::unique_ptr<FileData>(InodeId inode, uint64_t chunk_bytes)>(
      const std::string& cluster_id, MasterPort* master, int64_t write_timeout_ms)>
      make_data_path;
  ServerDirectory* servers = nullptr;      // kept up to date; outlives the client
  const DataCounters* counters = nullptr;  // for Stats
  // Runs `work`, whose seals leave together at its end. Empty: they leave as they come.
  std::function<void(const std::function<void()>& work)> gather_seals;
  std::shared_ptr<void> keep_alive;  // outlives everything that make_data_path's files use
  CacheListener* listener = nullptr;
  const Clock* clock = SystemClock::Get();
  int64_t write_back_ms = 500;    // commits of closed files are gathered for so long
  size_t write_back_files = 128;  // in one request
  int64_t lock_hold_back_ms = 20;  // the kernel's delay in telling of the end of an open file
  int64_t idle_lease_ms = 1'000;  // a write lease without open files is sealed and lowered after
  int64_t idle_chunk_ms = 1'000;  // a chunk of an open file is sealed after
  // A write lease that is recalled while it is made use of stays so long after it was granted, and no longer than that between two
  // operations.
  int64_t burst_us = 2'000;
  int64_t burst_gap_us = 100;
};

class ClientImpl final : public Client, private SessionObserver, private MasterPort {
 public:
  static Result<std::unique_ptr<ClientImpl>> Start(ClientParts parts);
  ~ClientImpl() override;

  Result<Entry> Lookup(const Caller& caller, InodeId parent, const std::string& name) override;
  int64_t NegativeValidNanos(InodeId parent) override;
  Result<Entry> GetAttr(const Caller& caller, InodeId inode) override;
  Result<Entry> SetAttr(const Caller& caller, InodeId inode, const SetAttributes& change) override;
  Status Access(const Caller& caller, InodeId inode, uint32_t mask) override;
  Result<std::string> ReadLink(const Caller& caller, InodeId inode) override;
  Result<Created> Create(const Caller& caller, InodeId parent, const std::string& name, CreateMode mode,
                         OpenFlags flags) override;
  Result<Entry> Mkdir(const Caller& caller, InodeId parent, const std::string& name, uint32_t mode) override;
  Result<Entry> Mknod(const Caller& caller, InodeId parent, const std::string& name, FileType type,
                      uint32_t mode, uint64_t rdev) override;
  Result<Entry> Symlink(const Caller& caller, InodeId parent, const std::string& name,
                        const std::string& target) override;
  Result<Entry> Link(const Caller& caller, InodeId inode, InodeId new_parent,
                     const std::string& new_name) override;
  Status Unlink(const Caller& caller, InodeId parent, const std::string& name) override;
  Status Rmdir(const Caller& caller, InodeId parent, const std::string& name) override;
  Status Rename(const Caller& caller, InodeId parent, const std::string& name, InodeId new_parent,
                const std::string& new_name, uint32_t flags) override;
  Result<std::vector<DirectoryEntry>> ReadDirectory(const Caller& caller, InodeId inode, uint64_t cursor,
                                                    size_t max, bool with_attributes) override;
  void NoteAccess(InodeId inode) override;
  Result<InodeId> ParentOf(const Caller& caller, InodeId directory) override;
  Result<std::string> GetXattr(const Caller& caller, InodeId inode, const std::string& name) override;
  Result<std::vector<std::string>> ListXattr(const Caller& caller, InodeId inode) override;
  Status SetXattr(const Caller& caller, InodeId inode, const std::string& name, const std::string& value,
                  uint32_t flags) override;
  Status RemoveXattr(const Caller& caller, InodeId inode, const std::string& name) override;
  Result<SpaceUsage> StatFs(InodeId inode) override;
  Result<PolicyPair> GetPolicy(const Caller& caller, InodeId directory) override;
  Result<PolicyPair> SetPolicy(const Caller& caller, InodeId directory, const Policy& own) override;
  Result<std::vector<TrashEntry>> ListTrash(const Caller& caller, InodeId after) override;
  Result<Entry> Undelete(const Caller& caller, InodeId inode, InodeId new_parent,
                         const std::string& new_name) override;
  Status PurgeTrash(const Caller& caller, const std::vector<InodeId>& inodes) override;

  Result<Handle> Open(const Caller& caller, InodeId inode, OpenFlags flags) override;
  bool MayKeepCache(Handle handle) override;
  Result<size_t> Read(Handle handle, uint64_t offset, std::span<std::byte> buffer,
                      const std::optional<StatusFlags>& now = std::nullopt) override;
  Result<uint64_t> Write(Handle handle, uint64_t offset, std::span<const std::byte> data,
                         const std::optional<StatusFlags>& now = std::nullopt) override;
  Result<uint64_t> CopyRange(Handle from, uint64_t from_offset, Handle to, uint64_t to_offset, uint64_t length) override;
  Result<std::optional<uint64_t>> Seek(Handle number, uint64_t offset, bool data) override;
  Status Zero(Handle handle, uint64_t offset, uint64_t length, bool keep_size) override;
  Status Flush(Handle handle) override;
  Status Fsync(Handle handle, bool data_only) override;
  Status FsyncInode(InodeId inode) override;
  Status Close(Handle handle) override;
  Status SyncAll() override;

  uint64_t BeginLock(const LockRequest& request, LockDone done) override;
  void RunLock(uint64_t ticket) override;
  bool CancelLock(uint64_t ticket, Cancelling how) override;
  Result<std::optional<LockHolder>> TestLock(const Caller& caller, const LockRequest& request) override;
  Status ReleaseRecordLocks(Handle handle, uint64_t owner) override;
  void ReleaseHandleLocks(Handle handle, uint64_t flock_owner) override;
  void AbandonLocks() override;

  void Forget(InodeId inode) override;
  ClientStats Stats() override;

  Session& session_for_tests() { return *session_; }

 private:
  using FilePtr = std::shared_ptr<OpenFile>;
  using HandlePtr = std::shared_ptr<OpenHandle>;
  using Deadline = std::chrono::steady_clock::time_point;
  using OnReplyFn = std::function<void(const proto::Reply&)>;

  explicit ClientImpl(ClientParts parts);

  // SessionObserver (lifecycle.cc, recall.cc).
  ResumeClaims Claims() override;
  void OnReply(const proto::Request& request, const proto::Reply& reply) override;
  void OnRecall(const proto::Recall& recall) override;
  void OnReconfigured(const proto::Reconfigured& notice) override;
  void OnServers(const google::protobuf::RepeatedPtrField<proto::ServerAddress>& servers) override;
  void OnResumed(const proto::HelloReply& reply, bool restarted, bool lost_tail) override;
  void OnSessionLost() override;
  void OnAccessed(const proto::AccessedOp& accessed) override;
  void OnLockNotice(const proto::Notice& notice) override;
  void AddLockClaims(proto::Hello* hello) override;

  // MasterPort (lifecycle.cc).
  Result<std::vector<ChunkPlace>> Announce(InodeId inode, Epoch lease, uint64_t first, uint32_t count,
                                           const std::vector<SealedChunk>& seals) override;
  Result<std::vector<ChunkPlace>> Layout(InodeId inode, uint64_t first, uint32_t count) override;
  Result<std::vector<ChunkPlace>> ExistingChunks(InodeId inode, uint64_t first, uint32_t count) override;
  Result<ChunkPlace> ChunkTrouble(InodeId inode, ChunkId chunk, Epoch epoch,
                                  const std::vector<MemberFailure>& members, bool need_replacement) override;

  // Sends on behalf of `caller`; with groups when the master asks for them.
  Result<proto::Reply> CallAs(const Caller& caller, proto::Request request, OnReplyFn on_reply = nullptr);
  // What the client does for itself: leases, layouts, commits.
  Result<proto::Reply> CallSystem(proto::Request request, OnReplyFn on_reply = nullptr,
                                  int64_t timeout_ms = 0);

  // Namespace.
  // From the cache if it is there (with the time that the kernel may keep it), otherwise `fallback`, which is
  // good for now only.
  Entry EntryOf(InodeId inode, const proto::Attr* fallback);
  Entry NamedEntry(InodeId parent, const std::string& name, InodeId inode, const proto::Attr* fallback);
  Attributes WithBuffered(Attributes attr) const;
  // What the cache says about a name; empty: nothing.
  std::optional<Result<Entry>> CachedName(InodeId parent, const std::string& name);
  // Fetches a part of a directory of which several names were asked for. False: not worth it, or it failed.
  bool FetchAhead(const Caller& caller, InodeId directory);
  Result<Entry> CachedOrFetched(const Caller& caller, InodeId inode);
  bool TakenForWriting(const Caller& caller, InodeId inode, bool before_write);
  // Checks x (and more) on a directory for an answer from the cache. kAskMaster when the cache cannot tell.
  Verdict CheckCached(InodeId inode, const Caller& caller, uint32_t mask);
  Result<Entry> MakeEntry(const Caller& caller, proto::Request request, InodeId parent,
                          const std::string& name);
  Result<bool> OpenHere(const Caller& caller, InodeId parent, const std::string& name);
  void NameRemoved(const proto::RemoveResult& result);
  std::vector<DirectoryEntry> FromReply(InodeId directory, const proto::ReadDirResult& result,
                                        bool with_attributes);

  // Handles.
  HandlePtr FindHandle(Handle handle);
  Handle AddHandle(HandlePtr handle);
  FilePtr FindFile(InodeId inode) const;
  // The file's entry, made when missing, with one more handle.
  FilePtr OpenFileEntry(InodeId inode, uint64_t chunk_bytes);
  Status ReleaseFile(const FilePtr& file);
  void DropIfUnused(const FilePtr& file);
  Result<Attributes> LeasedAttributes(const Caller& caller, const FilePtr& file);

  // Lease use.
  // What an operation needs of a lease.
  struct LeaseNeed {
    LeaseKind kind = LeaseKind::kRead;
    LeaseKind ask = LeaseKind::kNone;  // what is asked for when it is not held; kNone: the same
    // Where in the file it works, for the layout that comes with the lease and the chunk that is announced with it.
    std::optional<uint64_t> offset;
    bool truncate_to_zero = false;
  };
  Result<FileUse> Enter(const FilePtr& file, const LeaseNeed& need, const Caller& caller);
  // Enters if data is attached under a write lease; waits for transitions; empty otherwise. Never asks the
  // master.
  Result<FileUse> EnterIfWriting(const FilePtr& file, Deadline deadline);
  Status Acquire(const FilePtr& file, const LeaseNeed& need, const Caller& caller);
  // Notes what read and write leases are asked for in turn (OpenFile::reads_before_writes).
  void NoteGrant(OpenFile& file, const LeaseNeed& need, LeaseKind held_before);
  void AttachEntered(OpenFile& file, const HeldLease& held);
  // Closes the gate and waits until nobody is inside; false: `only_if_idle` and somebody is. `waiting` is
  // called every second.
  bool BeginTransition(OpenFile& file, bool only_if_idle, const std::function<void()>& waiting);
  void EndTransition(OpenFile& file);
  Status WaitGate(std::unique_lock<std::mutex>& lock, OpenFile& file, Deadline deadline);

  // File operations.
  static Status CheckLockKept(const OpenHandle& handle);
  Result<std::vector<CopyPart>> PlanCopy(OpenHandle& from, uint64_t offset, uint64_t length, uint64_t max_bytes);
  Result<uint64_t> CopyParts(OpenHandle& to, uint64_t offset, std::span<const CopyPart> parts, FileData::CopyMode mode);
  Result<uint64_t> CopyHere(OpenHandle& from, uint64_t from_offset, OpenHandle& to, uint64_t to_offset, uint64_t length);
  // What Read and Write do for a handle that was found.
  Result<size_t> ReadFile(OpenHandle& handle, uint64_t offset, std::span<std::byte> buffer, bool no_atime);
  // Moves *offset to the end for a handle that appends.
  Status WriteFile(OpenHandle& handle, uint64_t* offset, std::span<const std::byte> data, bool append);
  // What O_DIRECT and O_SYNC add to a write; the file's error, if it has one by now, in place of `status`.
  Status AfterWrite(OpenHandle& handle, Status status, const StatusFlags& flags);
  void BeforeAttempt(const FilePtr& file, int attempt);
  Status TakeError(OpenHandle& handle);
  Status TruncateFile(const Caller& caller, const FilePtr& file, uint64_t size, bool open_for_write);
  Status FlushFile(const FilePtr& file);
  Status SyncFile(const FilePtr& file, const Caller& caller, bool data_only);
  // The part of a sync that concerns the master: tells it what there is to tell, and waits for its disk where
  // that is needed.
  Status SyncMasterFor(const FilePtr& file, bool data_only);
  // Remembers which files a mutation that was answered has changed.
  void NoteChanges(const proto::Request& request, const proto::Reply& reply);
  Status SyncMaster();
  // An error, once, after the master lost changes of this client for good.
  Status TellLostCommands();
  // For what reads that come before writes ask for (OpenFile::reads_before_writes).
  void NoteWrite(OpenFile& file, uint64_t offset);
  // Something is to be committed; `unsynced`: and to be synced by the next fsync.
  void MarkWritten(const FilePtr& file, bool unsynced = true);
  TimeSpec Now() const { return TimeFromNanos(clock_->WallNanos()); }

  // Times of last access.
  bool NoteFileAccess(OpenFile& file);
  void NoteRead(const OpenHandle& handle, bool no_atime);
  void NoteOpened(const OpenHandle& handle);
  void PostAccess(InodeId inode, const std::optional<TimeSpec>& time);
  void PostAccessTimes();
  // The lease leaves the cache; before it is given back.
  Exposure DropLease(InodeId inode, uint64_t number);

  // Times that are set under the write lease.
  // The file after a change that the holder of its lease may make alone; nullopt: the master decides.
  Result<std::optional<Entry>> SetHeldTimes(const Caller& caller, const FilePtr& file, const SetAttributes& change);
  bool DecidesAlone(const NodeView& view, const Caller& caller, const SetAttributes& change) const;
  // Before the master sets others.
  Status TellTimes(const FilePtr& file);
  static void DropTimes(OpenFile& file);  // the inode is gone
  static void LoseTimes(OpenFile& file);  // the lease is

  // Recalls.
  // False when the same recall is under way already, or was answered (then it is answered again).
  bool BeginRecall(const proto::RecallItem& item);
  void FinishRecall(const proto::RecallItem& item, proto::RecallReply answer);
  void HandleRecall(proto::RecallItem item);
  // Whoever is just writing many small pieces goes on for a moment before the lease is given away.
  void LetBurstGoOn(OpenFile& file);
  void ReturnLease(const FilePtr& file, const proto::RecallItem& item, proto::RecallReply* answer);
  void InvalidateExposure(const Exposure& exposure);
  void InvalidateInodeBounded(InodeId inode, const FilePtr& file);
  void DropLost(std::vector<Exposure> exposures);
  void Evict();

  // Write-back.
  struct CommitItem {
    FilePtr file;
    uint64_t lease = 0;
    PendingCommit commit;
    LeaseKind keep = LeaseKind::kWrite;
    bool still_open = false;
    Status result;
  };
  void WriteBackMain(int64_t started_ns);
  void WriteBackRound(bool everything);
  // Seals what is idle; sorts the files into those whose lease can be lowered, those to be committed, and
  // those not yet.
  struct Due {
    std::vector<FilePtr> lower;
    std::vector<FilePtr> commit;
    bool sealing = false;  // answers are expected any moment
  };
  Due FindDue(const std::vector<FilePtr>& files, bool everything);
  void TakeCommit(OpenFile& file, PendingCommit* commit);
  // What the file's commit is besides what its data says. To be called with every commit that is taken of it.
  void CompleteCommit(OpenFile& file, PendingCommit* commit);
  // Puts back what the master did not get.
  static void RestoreCommit(OpenFile& file, PendingCommit commit);
  proto::Request CommitRequest(const std::vector<CommitItem>& items);
  void CommitAnswered(const Result<proto::Reply>& reply, std::vector<CommitItem>& items);
  // Sends the commits in one request; sets each item's result.
  void SendCommits(std::vector<CommitItem>& items);
  // Closes the file's gate for the end of its write lease; false: not now, or there is none.
  bool BeginLowering(const FilePtr& file, LeaseKind keep, CommitItem* item);
  void SealForCommit(CommitItem& item);
  void LowerIdle(std::vector<FilePtr> files, LeaseKind keep);
  // The last write-back (last_write_back.cc). With nothing heard of any server for give_up_ms the waits for it end.
  void SealAll();
  std::vector<FilePtr> WrittenFiles();
  void FlushWritten(const std::vector<FilePtr>& files, std::vector<Status>* results);
  void LimitWaits(int64_t give_up_ms);
  void NoteProgress();
  bool GaveUp() const { return give_up_ms_ > 0 && std::chrono::steady_clock::now() >= give_up_at_.load(); }
  void CloseHolds();

  // Constant after construction.
  const std::shared_ptr<void> keep_alive_;  // first, so that it goes last
  const ClientOptions options_;
  CacheListener* const listener_;
  const Clock* const clock_;
  ServerDirectory* const servers_;
  const DataCounters* const counters_;
  std::atomic<uint64_t> copied_here_{0};  // by CopyHere
  const int64_t write_back_ms_;
  const size_t write_back_files_;
  const int64_t idle_lease_ms_;
  const int64_t idle_chunk_ms_;
  const std::chrono::microseconds burst_;
  const std::chrono::microseconds burst_gap_;
  const std::function<void(const std::function<void()>& work)> gather_seals_;
  std::unique_ptr<MasterConnector> connector_;
  std::function<std::unique_ptr<FileData>(InodeId, uint64_t)> make_file_data_;

  std::unique_ptr<LeaseCache> cache_;
  std::unique_ptr<Scheduler> workers_;
  std::unique_ptr<Scheduler> invalidators_;
  std::unique_ptr<Session> session_;
  std::unique_ptr<LockClient> locks_;

  std::atomic<uint64_t> recalls_{0};
  std::atomic<bool> evicting_{false};
  std::atomic<bool> stopping_{false};
  std::atomic<std::chrono::steady_clock::time_point> give_up_at_{std::chrono::steady_clock::time_point::max()};
  std::atomic<int64_t> give_up_ms_{0};  // 0: waits are not limited
  std::atomic<bool> gave_up_before_{false};

  mutable std::mutex files_mu_;
  // Guarded by files_mu_:
  std::unordered_map<InodeId, FilePtr> files_;

  std::mutex handles_mu_;
  // Guarded by handles_mu_:
  std::unordered_map<uint64_t, HandlePtr> handles_;
  uint64_t next_handle_ = 1;

  std::mutex recalls_mu_;
  // Guarded by recalls_mu_. A broken stream may swallow an answer; the master then asks again, and the commit
  // that went with the lease must be in every answer until one has arrived.
  struct AnsweredRecall {
    proto::LeaseMode keep;
    proto::RecallReply answer;
  };
  std::set<std::tuple<uint64_t, uint64_t, int>> running_recalls_;  // inode, number, keep
  std::unordered_map<uint64_t, AnsweredRecall> answered_recalls_;  // newest per inode; bounded
  std::deque<uint64_t> answered_order_;

  std::mutex write_back_mu_;
  std::condition_variable write_back_wake_;
  // Guarded by write_back_mu_:
  std::unordered_map<InodeId, FilePtr>
      written_;                          // files with a write lease: commits and lowering are due some time
  std::vector<InodeId> holds_to_close_;  // the master was told that they are open, and they are not any more
  bool write_back_stop_ = false;

  std::atomic<uint64_t> write_back_rounds_{0};
  std::atomic<bool> seals_under_way_{false};
  std::thread write_back_;
};

}  // namespace cairn::client
