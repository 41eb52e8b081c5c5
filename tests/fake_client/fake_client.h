// One session with a FakeCluster. Thread-safety: any thread.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tests/fake_client/fake_cluster.h"

namespace cairn::testing {

class FakeClient final : public client::Client {
 public:
  using Caller = client::Caller;
  using Entry = client::Entry;
  using Handle = client::Handle;

  explicit FakeClient(std::shared_ptr<FakeCluster> cluster) : cluster_(std::move(cluster)) {}
  ~FakeClient() override;

  Result<Entry> Lookup(const Caller&, InodeId parent, const std::string& name) override;
  int64_t NegativeValidNanos(InodeId parent) override;
  Result<Entry> GetAttr(const Caller&, InodeId inode) override;
  Result<Entry> SetAttr(const Caller&, InodeId inode, const client::SetAttributes&) override;
  Status Access(const Caller&, InodeId inode, uint32_t mask) override;
  Result<std::string> ReadLink(const Caller&, InodeId inode) override;
  Result<client::Created> Create(const Caller&, InodeId parent, const std::string& name, client::CreateMode,
                                 client::OpenFlags) override;
  Result<Entry> Mkdir(const Caller&, InodeId parent, const std::string& name, uint32_t mode) override;
  Result<Entry> Mknod(const Caller&, InodeId parent, const std::string& name, client::FileType, uint32_t mode,
                      uint64_t rdev) override;
  Result<Entry> Symlink(const Caller&, InodeId parent, const std::string& name,
                        const std::string& target) override;
  Result<Entry> Link(const Caller&, InodeId inode, InodeId new_parent, const std::string& new_name) override;
  Status Unlink(const Caller&, InodeId parent, const std::string& name) override;
  Status Rmdir(const Caller&, InodeId parent, const std::string& name) override;
  Status Rename(const Caller&, InodeId parent, const std::string& name, InodeId new_parent,
                const std::string& new_name, uint32_t flags) override;
  Result<std::vector<client::DirectoryEntry>> ReadDirectory(const Caller&, InodeId inode, uint64_t cursor,
                                                            size_t max, bool with_attributes) override;
  void NoteAccess(InodeId) override {}
  Result<InodeId> ParentOf(const Caller&, InodeId directory) override;
  Result<std::string> GetXattr(const Caller&, InodeId inode, const std::string& name) override;
  Result<std::vector<std::string>> ListXattr(const Caller&, InodeId inode) override;
  Status SetXattr(const Caller&, InodeId inode, const std::string& name, const std::string& value,
                  uint32_t flags) override;
  Status RemoveXattr(const Caller&, InodeId inode, const std::string& name) override;
  Result<client::SpaceUsage> StatFs(InodeId inode) override;
  Result<client::PolicyPair> GetPolicy(const Caller&, InodeId directory) override;
  Result<client::PolicyPair> SetPolicy(const Caller&, InodeId directory, const client::Policy& own) override;
  // Nothing is ever in the trash here.
  Result<std::vector<client::TrashEntry>> ListTrash(const Caller&, InodeId) override {
    return std::vector<client::TrashEntry>();
  }
  Result<Entry> Undelete(const Caller&, InodeId inode, InodeId, const std::string&) override {
    return Status(StatusCode::kNotFound, "nothing with number " + ToString(inode) + " is in the trash");
  }
  Status PurgeTrash(const Caller&, const std::vector<InodeId>&) override { return Status::Ok(); }

  Result<Handle> Open(const Caller&, InodeId inode, client::OpenFlags) override;
  bool MayKeepCache(Handle) override { return false; }
  Result<size_t> Read(Handle, uint64_t offset, std::span<std::byte> buffer,
                      const std::optional<client::StatusFlags>& now = std::nullopt) override;
  Result<uint64_t> Write(Handle, uint64_t offset, std::span<const std::byte> data,
                         const std::optional<client::StatusFlags>& now = std::nullopt) override;
  Status Zero(Handle, uint64_t offset, uint64_t length, bool keep_size) override;
  Result<uint64_t> CopyRange(Handle from, uint64_t from_offset, Handle to, uint64_t to_offset, uint64_t length) override;
  Result<std::optional<uint64_t>> Seek(Handle, uint64_t offset, bool data) override;
  Status Flush(Handle) override;
  Status Fsync(Handle, bool data_only) override;
  Status FsyncInode(InodeId inode) override;
  Status Close(Handle) override;
  Status SyncAll() override;
  uint64_t BeginLock(const client::LockRequest& request, client::LockDone done) override;
  void RunLock(uint64_t ticket) override;
  bool CancelLock(uint64_t ticket, client::Cancelling) override;
  Result<std::optional<client::LockHolder>> TestLock(const Caller&, const client::LockRequest&) override;
  Status ReleaseRecordLocks(Handle, uint64_t owner) override;
  void ReleaseHandleLocks(Handle, uint64_t flock_owner) override;
  void AbandonLocks() override;
  size_t WaitingLocks() const;  // for tests: requests that are queued
  void Forget(InodeId inode) override;
  client::ClientStats Stats() override { return {}; }

 private:
  struct OpenFile {
    InodeId inode;
    client::OpenFlags flags;
  };
  // With the cluster's lock held.
  locks::Lock ToLock(const client::LockRequest& request);
  Result<OpenFile> FindHandle(Handle handle) const;
  Handle NewHandle(FakeInode& inode, client::OpenFlags flags);
  Result<Entry> Make(const Caller& caller, InodeId parent, const std::string& name, client::FileType type,
                     uint32_t mode, const std::function<void(FakeInode&)>& fill);

  const std::shared_ptr<FakeCluster> cluster_;
  std::map<Handle, OpenFile> handles_;  // guarded by cluster_->mu_
  uint64_t next_handle_ = 1;            // guarded by cluster_->mu_
  SessionId session_{};                 // constant after the first lock; guarded by cluster_->mu_
};

}  // namespace cairn::testing
