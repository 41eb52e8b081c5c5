#include "client/data/file_data.h"

#include <utility>

#include "client/data/file_core.h"

namespace cairn::client {
namespace {

// The handle that the session side owns. The core lives as long as answers to its requests may arrive.
class FileDataHandle final : public FileData {
 public:
  FileDataHandle(const FileDataContext& context, InodeId inode, uint64_t chunk_bytes)
      : core_(std::make_shared<FileCore>(context, inode, chunk_bytes)) {}
  ~FileDataHandle() override { core_->Shutdown(); }

  void AttachRead(uint64_t size, std::vector<ChunkPlace> known) override {
    core_->AttachRead(size, std::move(known));
  }
  void AttachWrite(Epoch lease, uint64_t size, std::vector<ChunkPlace> known) override {
    core_->AttachWrite(lease, size, std::move(known));
  }
  void Detach() override { core_->Detach(); }
  uint64_t Size() const override { return core_->Size(); }
  TimeSpec Mtime() const override { return core_->Mtime(); }
  uint64_t DirtyBytes() const override { return core_->DirtyBytes(); }
  WriteError LastWriteError() const override { return core_->LastWriteError(); }
  int64_t AllocatedChange() const override { return core_->AllocatedChange(); }
  Result<std::optional<uint64_t>> Seek(uint64_t offset, bool data) override {
    return core_->Seek(offset, data);
  }
  Result<size_t> Read(uint64_t offset, std::span<std::byte> buffer) override {
    return core_->Read(offset, buffer);
  }
  Status Write(uint64_t offset, std::span<const std::byte> data, TimeSpec now) override {
    return core_->Write(offset, data, now);
  }
  Status Zero(uint64_t offset, uint64_t length, TimeSpec now) override { return core_->Zero(offset, length, now); }
  Result<std::vector<CopyPart>> PlanCopy(uint64_t offset, uint64_t length, uint64_t max_bytes) override {
    return core_->PlanCopy(offset, length, max_bytes);
  }
  Result<uint64_t> CopyParts(uint64_t offset, std::span<const CopyPart> parts, TimeSpec now, CopyMode mode) override {
    return core_->CopyParts(offset, parts, now, mode);
  }
  Result<uint64_t> TruncationSeq(uint64_t size) override { return core_->TruncationSeq(size); }
  void CancelTruncation() override { core_->CancelTruncation(); }
  Status Truncate(uint64_t size, TimeSpec now) override { return core_->Truncate(size, now); }
  Status Flush() override { return core_->Flush(); }
  Status FlushDurable() override { return core_->FlushDurable(); }
  PendingCommit TakeCommit() override { return core_->TakeCommit(); }
  void RestoreCommit(PendingCommit commit) override { core_->RestoreCommit(std::move(commit)); }
  Result<PendingCommit> FlushAndSeal(const std::function<void(uint64_t dirty)>& progress) override {
    return core_->FlushAndSeal(progress);
  }
  IdleSeals SealIdle(int64_t idle_ms) override { return core_->SealIdle(idle_ms); }
  void Discard() override { core_->Discard(); }
  void OnReconfigured(ChunkPlace place) override { core_->OnReconfigured(std::move(place)); }

 private:
  const std::shared_ptr<FileCore> core_;
};

}  // namespace

std::unique_ptr<FileData> MakeFileData(const FileDataContext& context, InodeId inode, uint64_t chunk_bytes) {
  return std::make_unique<FileDataHandle>(context, inode, chunk_bytes);
}

}  // namespace cairn::client
