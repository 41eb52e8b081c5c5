#include "tests/fake_client/fake_cluster.h"

#include <algorithm>
#include <chrono>
#include <ctime>

#include "client/interrupt.h"

namespace cairn::testing {

using client::FileType;

client::TimeSpec FakeCluster::Now() {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  return {.seconds = now.tv_sec, .nanos = static_cast<uint32_t>(now.tv_nsec)};
}

FakeCluster::FakeCluster() {
  FakeInode& root = inodes_[kRootInode];
  root.attr.inode = kRootInode;
  root.attr.type = FileType::kDirectory;
  root.attr.mode = 0755;
  root.attr.nlink = 2;
  root.attr.atime = root.attr.mtime = root.attr.ctime = root.attr.btime = Now();
  root.parent = kRootInode;
  root.policy = {.replicas = 3, .write_quorum = 2, .chunk_bytes = 64 << 20, .failure_domain = "server"};
}

void FakeCluster::Fail(const std::string& operation, Status status, int times) {
  const std::lock_guard lock(mu_);
  failures_[operation] = {std::move(status), times};
}

void FakeCluster::Hold(const std::string& operation) {
  const std::lock_guard lock(mu_);
  held_.insert(operation);
}

void FakeCluster::Release(const std::string& operation) {
  const std::lock_guard lock(mu_);
  held_.erase(operation);
  changed_.notify_all();
}

void FakeCluster::AwaitHeld(const std::string& operation) {
  std::unique_lock lock(mu_);
  changed_.wait(lock, [&] { return waiting_[operation] > 0; });
}

bool FakeCluster::AwaitHeldTogether(const std::string& operation, int count) {
  std::unique_lock lock(mu_);
  return changed_.wait_for(lock, std::chrono::seconds(30), [&] { return waiting_[operation] >= count; });
}

int FakeCluster::Calls(const std::string& operation) {
  const std::lock_guard lock(mu_);
  return calls_[operation];
}

void FakeCluster::Corrupt(InodeId inode, uint64_t offset) {
  const std::lock_guard lock(mu_);
  inodes_.at(inode).blocks[offset / kFakeBlockBytes][offset % kFakeBlockBytes] ^= std::byte{1};
}

uint64_t FakeCluster::copied_bytes() {
  std::lock_guard lock(mu_);
  return copied_bytes_;
}

size_t FakeCluster::inodes() {
  const std::lock_guard lock(mu_);
  return inodes_.size();
}

Status FakeCluster::Enter(std::unique_lock<std::mutex>& lock, const std::string& operation) {
  ++calls_[operation];
  if (held_.contains(operation)) {
    ++waiting_[operation];
    changed_.notify_all();
    while (held_.contains(operation)) {
      changed_.wait_for(lock, std::chrono::milliseconds(20));
      if (client::ThreadInterrupted()) {
        --waiting_[operation];
        return {StatusCode::kInterrupted, operation + " interrupted"};
      }
    }
    --waiting_[operation];
  }
  const auto failure = failures_.find(operation);
  if (failure == failures_.end()) return Status::Ok();
  Status status = failure->second.first;
  if (--failure->second.second <= 0) failures_.erase(failure);
  return status;
}

Result<FakeInode*> FakeCluster::Find(InodeId inode) {
  const auto it = inodes_.find(inode);
  if (it == inodes_.end()) return Status(StatusCode::kStaleHandle, "inode " + ToString(inode) + " is gone");
  return &it->second;
}

Result<FakeInode*> FakeCluster::FindDirectory(InodeId inode) {
  CAIRN_ASSIGN_OR_RETURN(FakeInode * found, Find(inode));
  if (found->attr.type != FileType::kDirectory) return Status(StatusCode::kNotDirectory, "not a directory");
  return found;
}

FakeInode& FakeCluster::NewInode(FileType type, uint32_t mode, const client::Caller& caller) {
  const InodeId id{next_inode_++};
  FakeInode& inode = inodes_[id];
  inode.attr.inode = id;
  inode.attr.type = type;
  inode.attr.mode = mode;
  inode.attr.uid = caller.uid;
  inode.attr.gid = caller.gid;
  inode.attr.chunk_bytes = type == FileType::kRegular ? 64 << 20 : 0;
  inode.attr.nlink = type == FileType::kDirectory ? 1 : 0;
  inode.attr.atime = inode.attr.mtime = inode.attr.ctime = inode.attr.btime = Now();
  return inode;
}

void FakeCluster::AddName(FakeInode& directory, const std::string& name, FakeInode& inode) {
  directory.names[name] = inode.attr.inode;
  directory.cursors[name] = next_cursor_++;
  ++inode.attr.nlink;
  if (inode.attr.type == FileType::kDirectory) {
    inode.parent = directory.attr.inode;
    ++directory.attr.nlink;
  }
  directory.attr.mtime = directory.attr.ctime = inode.attr.ctime = Now();
}

void FakeCluster::RemoveName(FakeInode& directory, const std::string& name) {
  FakeInode& inode = inodes_.at(directory.names.at(name));
  directory.names.erase(name);
  directory.cursors.erase(name);
  --inode.attr.nlink;
  if (inode.attr.type == FileType::kDirectory) --directory.attr.nlink;
  directory.attr.mtime = directory.attr.ctime = inode.attr.ctime = Now();
}

void FakeCluster::DropIfUnused(InodeId id) {
  const auto it = inodes_.find(id);
  if (it == inodes_.end() || it->second.open_handles > 0) return;
  const uint32_t unused = it->second.attr.type == FileType::kDirectory ? 1 : 0;
  if (it->second.attr.nlink <= unused) inodes_.erase(it);
}

client::Entry FakeCluster::EntryOf(const FakeInode& inode) const {
  client::Entry entry{.attr = inode.attr, .valid_ns = valid_ns, .entry_valid_ns = valid_ns};
  if (inode.attr.type == FileType::kDirectory) entry.attr.size = inode.names.size();
  if (inode.attr.type == FileType::kSymlink) entry.attr.size = inode.target.size();
  entry.attr.blocks_512 = inode.blocks.size() * (kFakeBlockBytes / 512);
  return entry;
}

void FakeCluster::Resize(FakeInode& inode, uint64_t size) {
  if (size < inode.attr.size) {
    inode.blocks.erase(inode.blocks.lower_bound((size + kFakeBlockBytes - 1) / kFakeBlockBytes),
                       inode.blocks.end());
    if (const auto last = inode.blocks.find(size / kFakeBlockBytes); last != inode.blocks.end()) {
      std::fill(last->second.begin() + static_cast<ptrdiff_t>(size % kFakeBlockBytes), last->second.end(),
                std::byte{0});
    }
  }
  inode.attr.size = size;
}

}  // namespace cairn::testing
