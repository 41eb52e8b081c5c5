// Files in memory behind the FileData contract, shared by the clients of a test as if they were the
// chunkservers. Records what was asked of it. Thread-safety: all methods may be called from any thread.
#pragma once

#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "client/data/file_data.h"

namespace cairn::client::testing {

// What the replicas hold.
struct Replicas {
  std::mutex mu;
  std::map<uint64_t, std::string> files;  // guarded by mu
  std::vector<std::string> log;  // guarded by mu: "flush 7", "seal 7", "durable 7", "detach 7", "discard 7"
  std::function<void(uint64_t inode)> before_seal;  // set before use; called without mu
  Status flush_error;                               // guarded by mu: given to the next flushes

  void Note(const std::string& what, uint64_t inode) {
    std::lock_guard lock(mu);
    log.push_back(what + " " + std::to_string(inode));
  }
  int CountOf(const std::string& what) {
    std::lock_guard lock(mu);
    int count = 0;
    for (const std::string& line : log) count += line == what;
    return count;
  }
};

class FakeFileData final : public FileData {
 public:
  FakeFileData(Replicas* replicas, InodeId inode) : replicas_(replicas), inode_(inode.value()) {}

  void AttachRead(uint64_t size, std::vector<ChunkPlace>) override {
    std::lock_guard lock(mu_);
    mode_ = 1;
    size_ = size;
  }
  void AttachWrite(Epoch, uint64_t size, std::vector<ChunkPlace>) override {
    std::lock_guard lock(mu_);
    mode_ = 2;
    size_ = size;
    told_ = size;
  }
  void Detach() override {
    std::lock_guard lock(mu_);
    if (dirty_) {
      error_ = {error_.number + 1, Status(StatusCode::kIoError, "buffered data was lost with the lease")};
    }
    dirty_ = false;
    mode_ = 0;
    mtime_ = {};
    commit_ = {};
    replicas_->Note("detach", inode_);
  }
  uint64_t Size() const override {
    std::lock_guard lock(mu_);
    return size_;
  }
  TimeSpec Mtime() const override {
    std::lock_guard lock(mu_);
    return mtime_;
  }
  uint64_t DirtyBytes() const override {
    std::lock_guard lock(mu_);
    return dirty_ ? buffer_.size() : 0;
  }
  WriteError LastWriteError() const override {
    std::lock_guard lock(mu_);
    return error_;
  }
  Result<size_t> Read(uint64_t offset, std::span<std::byte> out) override {
    std::lock_guard lock(mu_);
    if (mode_ == 0) return Status(StatusCode::kLeaseLost, "detached");
    std::string all;
    if (dirty_) {
      all = buffer_;
    } else {
      std::lock_guard shared(replicas_->mu);
      all = replicas_->files[inode_];
    }
    all.resize(size_);
    if (offset >= all.size()) return size_t{0};
    const size_t count = std::min(out.size(), all.size() - offset);
    std::memcpy(out.data(), all.data() + offset, count);
    return count;
  }
  Status Write(uint64_t offset, std::span<const std::byte> data, TimeSpec now) override {
    std::lock_guard lock(mu_);
    if (mode_ != 2) return Status(StatusCode::kLeaseLost, "detached");
    LoadLocked();
    if (buffer_.size() < offset + data.size()) buffer_.resize(offset + data.size());
    std::memcpy(buffer_.data() + offset, data.data(), data.size());
    size_ = std::max(size_, offset + data.size());
    ChangedLocked(now);
    return Status::Ok();
  }
  int64_t AllocatedChange() const override { return 0; }
  Result<std::optional<uint64_t>> Seek(uint64_t offset, bool data) override {
    std::lock_guard lock(mu_);
    if (offset >= size_) return std::optional<uint64_t>();
    return std::optional(data ? offset : size_);
  }
  Status Zero(uint64_t offset, uint64_t length, TimeSpec) override {
    std::lock_guard lock(mu_);
    LoadLocked();
    buffer_.resize(size_);
    for (uint64_t i = offset; i < std::min(size_, offset + length); ++i) buffer_[i] = 0;
    return Status::Ok();
  }
  // Nothing here has a name for chunkservers: copies go through the client.
  Result<std::vector<CopyPart>> PlanCopy(uint64_t offset, uint64_t length, uint64_t) override {
    std::lock_guard lock(mu_);
    if (mode_ == 0) return Status(StatusCode::kLeaseLost, "detached");
    if (offset >= size_) return std::vector<CopyPart>();
    return std::vector<CopyPart>{{.kind = CopyPart::kBytes, .length = std::min(length, size_ - offset)}};
  }
  Result<uint64_t> CopyParts(uint64_t, std::span<const CopyPart>, TimeSpec, CopyMode) override {
    std::lock_guard lock(mu_);
    if (mode_ != 2) return Status(StatusCode::kLeaseLost, "detached");
    return uint64_t{0};
  }
  Result<uint64_t> TruncationSeq(uint64_t) override { return uint64_t{0}; }
  void CancelTruncation() override {}
  Status Truncate(uint64_t size, TimeSpec now) override {
    std::lock_guard lock(mu_);
    if (mode_ != 2) return Status(StatusCode::kLeaseLost, "detached");
    LoadLocked();
    buffer_.resize(size);
    size_ = size;
    ChangedLocked(now);
    return Status::Ok();
  }
  Status Flush() override {
    std::lock_guard lock(mu_);
    return FlushLocked("flush");
  }
  Status FlushDurable() override {
    std::lock_guard lock(mu_);
    const bool news = dirty_;
    CAIRN_RETURN_IF_ERROR(FlushLocked("durable"));
    if (news) commit_.durable.push_back({ChunkId(inode_), {Epoch(1), ++durable_seq_}});
    return Status::Ok();
  }
  PendingCommit TakeCommit() override {
    std::lock_guard lock(mu_);
    if (commit_.size) told_ = commit_.size;
    return std::exchange(commit_, {});
  }
  void RestoreCommit(PendingCommit commit) override {
    std::lock_guard lock(mu_);
    if (commit.size && !commit_.size) commit_.size = commit.size;
    if (commit.mtime && !commit_.mtime) commit_.mtime = commit.mtime;
    if (commit_.durable.empty()) commit_.durable = commit.durable;
    if (commit.size) told_.reset();
  }
  Result<PendingCommit> FlushAndSeal(const std::function<void(uint64_t dirty)>& progress) override {
    if (replicas_->before_seal) replicas_->before_seal(inode_);
    std::lock_guard lock(mu_);
    progress(dirty_ ? buffer_.size() : 0);
    CAIRN_RETURN_IF_ERROR(FlushLocked("seal"));
    return std::exchange(commit_, {});
  }
  IdleSeals SealIdle(int64_t) override { return {.closed = true}; }
  void Discard() override {
    std::lock_guard lock(mu_);
    dirty_ = false;
    commit_ = {};
    replicas_->Note("discard", inode_);
  }
  void OnReconfigured(ChunkPlace) override { replicas_->Note("reconfigured", inode_); }

 private:
  void LoadLocked() {
    if (dirty_) return;
    std::lock_guard shared(replicas_->mu);
    buffer_ = replicas_->files[inode_];
    buffer_.resize(size_);
  }
  void ChangedLocked(TimeSpec now) {
    dirty_ = true;
    mtime_ = now;
    if (told_ != size_) commit_.size = size_;
    commit_.mtime = now;
  }
  Status FlushLocked(const std::string& what) {
    if (mode_ == 0) return Status(StatusCode::kLeaseLost, "detached");
    replicas_->Note(what, inode_);
    std::lock_guard shared(replicas_->mu);
    if (!replicas_->flush_error.ok()) {
      error_ = {error_.number + 1, replicas_->flush_error};
      dirty_ = false;
      return replicas_->flush_error;
    }
    if (dirty_) replicas_->files[inode_] = buffer_;
    dirty_ = false;
    return Status::Ok();
  }

  Replicas* const replicas_;
  const uint64_t inode_;
  mutable std::mutex mu_;
  // guarded by mu_
  int mode_ = 0;
  bool dirty_ = false;
  uint64_t size_ = 0;
  TimeSpec mtime_;
  std::string buffer_;
  PendingCommit commit_;
  uint64_t durable_seq_ = 0;
  std::optional<uint64_t> told_;  // the size that was taken last
  WriteError error_;
};

}  // namespace cairn::client::testing
