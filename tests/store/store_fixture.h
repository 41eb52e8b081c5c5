// A store in a temporary directory, an environment whose disk can be full, fail or lose power, and short
// forms of the requests that tests make.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "chunkserver/store/chunk_store.h"
#include "chunkserver/store/store_env.h"
#include "common/checksum.h"

namespace cairn::chunkserver {

class TestEnv final : public SystemStoreEnv {
 public:
  Uuid BootId() const override { return boot; }
  uint64_t WallSeconds() const override { return wall_seconds; }
  Result<FileSystemSpace> Space(const std::string& directory) const override;
  ssize_t Pwritev(int fd, const iovec* parts, int count, int64_t offset) override;
  int SyncFile(int fd, SyncPoint point) override;
  // Size and contents of the segment file as of its last data sync.
  uint64_t SyncedSize(const std::filesystem::path& path);
  std::string SyncedContent(const std::filesystem::path& path);

  Uuid boot{1, 1};
  std::atomic<uint64_t> wall_seconds{1'700'000'000};
  std::atomic<int64_t> free_bytes{-1};   // -1: the real value
  std::atomic<int> write_error{0};       // errno of every write while not 0
  std::atomic<int64_t> write_limit{-1};  // bytes that may still be written before ENOSPC
  std::atomic<int> sync_error{0};        // errno of the next fdatasync
  std::atomic<uint64_t> syncs{0};

 private:
  std::mutex mu_;
  std::map<std::string, std::string> synced_;  // guarded by mu_
};

using Bytes = std::vector<std::byte>;
Bytes Pattern(size_t size, uint64_t seed);

class StoreFixture : public ::testing::Test {
 protected:
  StoreFixture();
  ~StoreFixture() override;

  StoreOptions Options();
  Result<std::unique_ptr<ChunkStore>> TryOpen();
  void OpenStore();  // fails the test if it cannot
  void Reopen();     // clean close, open again
  // What a crash at this moment would leave, as another directory; the store goes on with its own.
  std::string CopyDirectory();
  // Closes the store and continues with what CopyDirectory returned.
  void ContinueWith(const std::string& copy);

  // One mutation that continues the chunk under `epoch_`, beginning it if that is not open.
  Status Write(ChunkId chunk, uint64_t offset, const Bytes& data);
  Status Truncate(ChunkId chunk, uint64_t length);
  Status Zero(ChunkId chunk, uint64_t offset, uint64_t length);
  Status Erase(ChunkId chunk, bool quarantine = false);
  replication::ReplicaInfo Info(ChunkId chunk);
  bool Known(ChunkId chunk);
  // All bytes, read in requests of `step`, checked against the checksums that came with them.
  Result<Bytes> ReadAll(ChunkId chunk, bool verify = true, uint32_t step = wire::kMaxTransferBytes);
  static std::vector<std::filesystem::path> Segments(const std::string& directory);
  static uint64_t AllocatedBytes(const std::string& directory);
  static void FlipByte(const std::filesystem::path& file, uint64_t offset);
  // What a loss of power leaves of a file: of every page for which lost() says so only what was synced.
  static void LosePages(const std::filesystem::path& file, const std::string& synced,
                        const std::function<bool(uint64_t page)>& lost);
  // Offset of `needle` in the file; fails the test when it is not there.
  static uint64_t Find(const std::filesystem::path& file, const Bytes& needle);

  std::string root_;
  std::string directory_;
  TestEnv env_;
  StoreOptions base_options_;
  std::unique_ptr<ChunkStore> store_;
  Epoch epoch_{10};

 private:
  Status Apply(replication::Mutation mutation, const Bytes& data);
  int copies_ = 0;
};

}  // namespace cairn::chunkserver
