// The file operations of FakeClient.
#include <algorithm>
#include <cstring>

#include "tests/fake_client/fake_client.h"

namespace cairn::testing {

using client::FileType;

FakeClient::~FakeClient() {
  const std::lock_guard lock(cluster_->mu_);
  for (const auto& [handle, file] : handles_) {
    --cluster_->inodes_.at(file.inode).open_handles;
    cluster_->DropIfUnused(file.inode);
  }
}

Result<FakeClient::OpenFile> FakeClient::FindHandle(Handle handle) const {
  const auto it = handles_.find(handle);
  if (it == handles_.end()) return Status(StatusCode::kBadHandle, "no such handle");
  return it->second;
}

FakeClient::Handle FakeClient::NewHandle(FakeInode& inode, client::OpenFlags flags) {
  const auto handle = static_cast<Handle>(next_handle_++);
  handles_[handle] = {inode.attr.inode, flags};
  ++inode.open_handles;
  if (flags.truncate && flags.write) FakeCluster::Resize(inode, 0);
  return handle;
}

Result<FakeClient::Handle> FakeClient::Open(const Caller&, InodeId id, client::OpenFlags flags) {
  std::unique_lock lock(cluster_->mu_);
  CAIRN_RETURN_IF_ERROR(cluster_->Enter(lock, "open"));
  CAIRN_ASSIGN_OR_RETURN(FakeInode * inode, cluster_->Find(id));
  if (inode->attr.type == FileType::kDirectory) return Status(StatusCode::kIsDirectory, "is a directory");
  return NewHandle(*inode, flags);
}

Result<size_t> FakeClient::Read(Handle handle, uint64_t offset, std::span<std::byte> buffer,
                                const std::optional<client::StatusFlags>&) {
  std::unique_lock lock(cluster_->mu_);
  CAIRN_RETURN_IF_ERROR(cluster_->Enter(lock, "read"));
  CAIRN_ASSIGN_OR_RETURN(const OpenFile file, FindHandle(handle));
  const FakeInode& inode = cluster_->inodes_.at(file.inode);
  if (!file.flags.read) return Status(StatusCode::kBadHandle, "not open for reading");
  if (offset >= inode.attr.size) return size_t{0};
  const size_t total = std::min<uint64_t>(buffer.size(), inode.attr.size - offset);
  for (size_t done = 0; done < total;) {
    const uint64_t at = offset + done;
    const size_t piece = std::min<uint64_t>(total - done, kFakeBlockBytes - at % kFakeBlockBytes);
    const auto block = inode.blocks.find(at / kFakeBlockBytes);
    if (block == inode.blocks.end()) {
      std::memset(buffer.data() + done, 0, piece);
    } else {
      std::memcpy(buffer.data() + done, block->second.data() + at % kFakeBlockBytes, piece);
    }
    done += piece;
  }
  return total;
}

Result<uint64_t> FakeClient::Write(Handle handle, uint64_t offset, std::span<const std::byte> data,
                                   const std::optional<client::StatusFlags>& now) {
  std::unique_lock lock(cluster_->mu_);
  CAIRN_RETURN_IF_ERROR(cluster_->Enter(lock, "write"));
  CAIRN_ASSIGN_OR_RETURN(const OpenFile file, FindHandle(handle));
  FakeInode& inode = cluster_->inodes_.at(file.inode);
  if (!file.flags.write) return Status(StatusCode::kBadHandle, "not open for writing");
  if (now ? now->append : file.flags.append) offset = inode.attr.size;
  for (size_t done = 0; done < data.size();) {
    const uint64_t at = offset + done;
    const size_t piece = std::min<uint64_t>(data.size() - done, kFakeBlockBytes - at % kFakeBlockBytes);
    auto& block = inode.blocks[at / kFakeBlockBytes];
    std::memcpy(block.data() + at % kFakeBlockBytes, data.data() + done, piece);
    done += piece;
  }
  inode.attr.size = std::max<uint64_t>(inode.attr.size, offset + data.size());
  inode.attr.mtime = inode.attr.ctime = FakeCluster::Now();
  return offset;
}

Result<uint64_t> FakeClient::CopyRange(Handle from, uint64_t from_offset, Handle to, uint64_t to_offset, uint64_t length) {
  std::vector<std::byte> buffer(std::min<uint64_t>(length, 1u << 20));
  CAIRN_ASSIGN_OR_RETURN(const size_t got, Read(from, from_offset, buffer));
  if (got != 0) CAIRN_RETURN_IF_ERROR(Write(to, to_offset, std::span(buffer).first(got)).status());
  std::unique_lock lock(cluster_->mu_);
  cluster_->copied_bytes_ += got;
  return uint64_t{got};
}

Result<std::optional<uint64_t>> FakeClient::Seek(Handle handle, uint64_t offset, bool data) {
  std::unique_lock lock(cluster_->mu_);
  CAIRN_RETURN_IF_ERROR(cluster_->Enter(lock, "seek"));
  CAIRN_ASSIGN_OR_RETURN(const OpenFile file, FindHandle(handle));
  const FakeInode& inode = cluster_->inodes_.at(file.inode);
  const uint64_t size = inode.attr.size;
  for (uint64_t at = offset; at < size; at = (at / kFakeBlockBytes + 1) * kFakeBlockBytes) {
    if (inode.blocks.contains(at / kFakeBlockBytes) == data) return std::optional(at);
  }
  return data || offset >= size ? std::optional<uint64_t>() : std::optional(size);
}

Status FakeClient::Zero(Handle handle, uint64_t offset, uint64_t length, bool keep_size) {
  std::unique_lock lock(cluster_->mu_);
  CAIRN_RETURN_IF_ERROR(cluster_->Enter(lock, "zero"));
  CAIRN_ASSIGN_OR_RETURN(const OpenFile file, FindHandle(handle));
  FakeInode& inode = cluster_->inodes_.at(file.inode);
  const uint64_t end = offset + length;
  for (auto it = inode.blocks.begin(); it != inode.blocks.end();) {
    const uint64_t from = it->first * kFakeBlockBytes;
    const uint64_t first = std::max(from, offset);
    const uint64_t last = std::min(from + kFakeBlockBytes, end);
    if (first >= last) {
      ++it;
    } else if (last - first == kFakeBlockBytes) {
      it = inode.blocks.erase(it);
    } else {
      std::memset(it->second.data() + (first - from), 0, last - first);
      ++it;
    }
  }
  if (!keep_size) inode.attr.size = std::max(inode.attr.size, end);
  inode.attr.mtime = inode.attr.ctime = FakeCluster::Now();
  return Status::Ok();
}

Status FakeClient::Flush(Handle handle) {
  std::unique_lock lock(cluster_->mu_);
  CAIRN_RETURN_IF_ERROR(cluster_->Enter(lock, "flush"));
  return FindHandle(handle).status();
}

Status FakeClient::Fsync(Handle handle, bool) {
  std::unique_lock lock(cluster_->mu_);
  CAIRN_RETURN_IF_ERROR(cluster_->Enter(lock, "fsync"));
  return FindHandle(handle).status();
}

Status FakeClient::FsyncInode(InodeId inode) {
  std::unique_lock lock(cluster_->mu_);
  CAIRN_RETURN_IF_ERROR(cluster_->Enter(lock, "fsync_inode"));
  return cluster_->Find(inode).status();
}

Status FakeClient::Close(Handle handle) {
  std::unique_lock lock(cluster_->mu_);
  const Status outcome = cluster_->Enter(lock, "close");
  CAIRN_ASSIGN_OR_RETURN(const OpenFile file, FindHandle(handle));
  handles_.erase(handle);
  --cluster_->inodes_.at(file.inode).open_handles;
  cluster_->DropIfUnused(file.inode);
  return outcome;
}

Status FakeClient::SyncAll() {
  std::unique_lock lock(cluster_->mu_);
  return cluster_->Enter(lock, "sync_all");
}

void FakeClient::Forget(InodeId) {
  std::unique_lock lock(cluster_->mu_);
  // Counted; nothing is cached here.
  const Status ignored = cluster_->Enter(lock, "forget");
  static_cast<void>(ignored);
}

}  // namespace cairn::testing
