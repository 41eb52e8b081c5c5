// Fake chunkservers, a fake master and all that a FileData needs, in one process.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "client/data/file_data.h"
#include "client/data/scheduler.h"
#include "client/data/seal_gatherer.h"
#include "common/net/data_client.h"
#include "common/net/event_loop.h"
#include "tests/client/data/fake_chunkserver.h"

namespace cairn::client::testing {

// Knows one file. Places chunks on the first N running servers and runs the configuration procedure on their
// stores.
class FakeMaster final : public MasterPort {
 public:
  FakeMaster(std::vector<std::unique_ptr<FakeChunkserver>>* servers, uint32_t replicas, uint32_t quorum,
             uint64_t first_chunk = 100)
      : servers_(servers), replicas_(replicas), quorum_(quorum), next_chunk_(first_chunk) {}

  Epoch NewLease();
  Result<std::vector<ChunkPlace>> Announce(InodeId inode, Epoch lease, uint64_t first, uint32_t count,
                                           const std::vector<SealedChunk>& seals) override;
  Result<std::vector<ChunkPlace>> Layout(InodeId inode, uint64_t first, uint32_t count) override;
  Result<std::vector<ChunkPlace>> ExistingChunks(InodeId inode, uint64_t first, uint32_t count) override;
  Result<ChunkPlace> ChunkTrouble(InodeId inode, ChunkId chunk, Epoch epoch,
                                  const std::vector<MemberFailure>& members, bool need_replacement) override;
  // What the session side does with a commit.
  void Apply(const PendingCommit& commit);
  // The file shrank: chunks beyond are gone.
  void Shrink(uint64_t size, uint64_t chunk_bytes);

  void RefuseAnnounce(Status status);
  void EndLease();  // from now on: kLeaseLost
  std::vector<ChunkPlace> Chunks();
  ChunkPlace Chunk(uint64_t index);
  std::vector<MemberFailure> Reports();
  int announces() { return Count(announces_); }
  int layouts() { return Count(layouts_); }

 private:
  int Count(const int& value) {
    std::lock_guard lock(mu_);
    return value;
  }
  FakeChunkserver* Server(ServerId id);
  Result<ChunkPlace> ReconfigureLocked(ChunkPlace& place);

  std::vector<std::unique_ptr<FakeChunkserver>>* const servers_;
  const uint32_t replicas_;
  const uint32_t quorum_;

  std::mutex mu_;
  // guarded by mu_:
  std::map<uint64_t, ChunkPlace> chunks_;
  uint64_t next_epoch_ = 10;
  uint64_t next_chunk_;
  Status refuse_announce_;
  bool lease_ended_ = false;
  std::vector<MemberFailure> reports_;
  int announces_ = 0;
  int layouts_ = 0;
};

// For tests that wait for a refusal.
inline FileDataOptions ShortTimeouts() { return {.write_timeout_ms = 1200, .read_timeout_ms = 600}; }

struct ClusterOptions {
  int servers = 3;
  uint32_t replicas = 3;
  uint32_t quorum = 2;
  uint64_t chunk_bytes = 4 << 20;
  uint64_t dirty_limit_bytes = 64 << 20;
  const Clock* clock = nullptr;  // of the files; null: the system's
  FileDataOptions data = {.write_timeout_ms = 30'000,
                          .read_timeout_ms = 30'000};  // generous: loaded machines
};

class FakeCluster {
 public:
  explicit FakeCluster(ClusterOptions options = {});
  ~FakeCluster();

  FakeChunkserver& server(int number) {
    return *servers_.at(static_cast<size_t>(number - 1));
  }  // cs1, cs2, ...
  FakeMaster& master() { return master_; }
  DataCounters& counters() { return counters_; }
  SealGatherer& seals() { return *seals_; }
  ByteBudget& dirty() { return dirty_; }
  ByteBudget& clean() { return clean_; }
  void Kill(int number) { server(number).Kill(); }
  void Restart(int number);

  std::unique_ptr<FileData> NewFile() { return MakeFileData(context_, InodeId(7), options_.chunk_bytes); }
  // Another file of the same servers, which another master knows.
  FakeMaster& other_master() { return other_master_; }
  std::unique_ptr<FileData> NewOtherFile();
  // A write lease as the session side grants it.
  void OpenForWriting(FileData& file, uint64_t size = 0) { file.AttachWrite(master_.NewLease(), size, {}); }
  // Gives the lease back with everything committed.
  Status Release(FileData& file);

  int requests(wire::MessageType type);
  // Waits until `condition` holds; false after a generous time.
  template <typename Condition>
  static bool Eventually(Condition condition) {
    for (int i = 0; i < 3000; ++i) {
      if (condition()) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return condition();
  }

 private:
  void PublishAddresses();

  const ClusterOptions options_;
  std::vector<std::unique_ptr<FakeChunkserver>> servers_;
  FakeMaster master_;
  FakeMaster other_master_;
  ServerDirectory directory_;
  ByteBudget dirty_;
  ByteBudget clean_{64 << 20};
  DataCounters counters_;
  net::EventLoopThread loop_{"test-data"};
  std::optional<net::DataClient> client_;
  std::optional<Scheduler> scheduler_;
  std::optional<SealGatherer> seals_;
  FileDataContext context_;
};

std::vector<std::byte> Pattern(size_t bytes, uint32_t seed);

}  // namespace cairn::client::testing
