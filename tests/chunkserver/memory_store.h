// A ChunkStore in memory for tests of what is built on one. It follows the acceptance rules of
// common/replication/replica.h; its disk can be made to fail, its blocks can be damaged, its flushes can be
// held up.
//
// Thread-safety: all methods may be called from any thread.
#pragma once

#include <atomic>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "chunkserver/store/chunk_store.h"

namespace cairn::chunkserver {

class MemoryStore final : public ChunkStore {
 public:
  explicit MemoryStore(uint64_t free_bytes = 1ull << 30) : free_bytes_(free_bytes) {
    identity_.disk = Uuid::Random();
  }

  // What a test does to the disk.
  void Fail(const std::string& why);
  void DamageBlock(ChunkId chunk, uint64_t block);  // flips a bit; the checksum stays
  void HoldFlushes(bool hold);
  void SetFree(uint64_t bytes) { free_bytes_ = bytes; }
  std::function<void()> on_read;  // runs before each read
  int flushes() const { return flushes_; }
  int flushes_waiting() const { return flushes_waiting_; }
  int reclaims() const { return reclaims_; }
  Epoch floor() const;
  Epoch epoch_floor() const override { return floor(); }

  const DiskIdentity& identity() const override { return identity_; }
  Status SetIdentity(Uuid cluster, Uuid server_uuid, ServerId server) override;
  bool amnesic() const override { return amnesic_; }
  Status SetAmnesic() override {
    amnesic_ = true;
    return Status::Ok();
  }
  Status SetEpochFloor(Epoch floor) override;
  bool failed() const override { return failed_; }
  Status failure() const override;
  StoreUsage Usage() const override;
  Status Mutate(const wire::MutateRequest& request, std::span<const std::byte> data,
                replication::ReplicaInfo* info) override;
  Status Begin(ChunkId chunk, Epoch epoch, Stamp base, replication::ReplicaInfo* info) override;
  Status Fence(ChunkId chunk, Epoch epoch, replication::ReplicaInfo* info) override;
  Status Seal(ChunkId chunk, Stamp stamp, replication::ReplicaInfo* info) override;
  Status PrepareDelete(ChunkId chunk, Epoch epoch, replication::ReplicaInfo* info) override;
  Status AbortDelete(ChunkId chunk, Epoch epoch, replication::ReplicaInfo* info) override;
  Status Erase(ChunkId chunk, Epoch epoch, bool quarantine) override;
  Status Query(ChunkId chunk, replication::ReplicaInfo* info) const override;
  Status ForEach(const std::function<bool(const replication::ReplicaInfo&)>& visit) const override;
  Result<ReadData> Read(const wire::ReadRequest& request, bool verify) const override;
  Result<std::vector<wire::Digest>> Digests(const wire::DigestsRequest& request,
                                            uint64_t* chunk_length) const override;
  Result<wire::ExtentsReply> Extents(const wire::ExtentsRequest& request) const override;
  Result<uint64_t> AllocatedBytes(ChunkId chunk) const override;
  Status Flush() override;
  Status SyncStart(ChunkId chunk, Epoch epoch, Stamp base, uint64_t length) override;
  Status SyncWrite(ChunkId chunk, uint64_t offset, std::span<const std::byte> data,
                   std::span<const uint32_t> checksums) override;
  Status SyncFinish(ChunkId chunk, Stamp base, replication::ReplicaInfo* info) override;
  void SyncAbandon(ChunkId chunk) override;
  Status MarkCorrupt(ChunkId chunk, uint64_t offset) override;
  Result<uint64_t> Reclaim() override;

 private:
  struct Content {
    std::vector<std::byte> bytes;     // whole blocks
    std::vector<uint32_t> checksums;  // one per block
    void Resize(ChunkId chunk, uint64_t length);
    void Seal(ChunkId chunk, uint64_t first_block, uint64_t last_block);  // recomputes checksums
  };
  struct Replica {
    replication::ReplicaState state;
    Stamp durable;
    Content content;
    bool corrupt = false;
    std::unique_ptr<Content> shadow;
    uint64_t shadow_length = 0;
  };

  Status CheckDisk() const;  // mu_ held
  replication::ReplicaInfo InfoOf(ChunkId chunk, const Replica& replica) const;
  Status Change(ChunkId chunk, replication::ReplicaInfo* info,
                const std::function<replication::Verdict(const replication::ReplicaState&)>& check);
  Status Verify(ChunkId chunk, const Replica& replica, uint64_t first_block, uint64_t blocks) const;

  std::atomic<uint64_t> free_bytes_;
  DiskIdentity identity_;
  std::atomic<bool> amnesic_{false};
  std::atomic<bool> failed_{false};
  std::atomic<int> flushes_{0};
  std::atomic<int> flushes_waiting_{0};
  std::atomic<int> reclaims_{0};

  mutable std::mutex mu_;
  std::condition_variable flush_go_;
  bool hold_flushes_ = false;
  std::string failure_;
  Epoch floor_;
  std::map<ChunkId, Replica> replicas_;
};

}  // namespace cairn::chunkserver
