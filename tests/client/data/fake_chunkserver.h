// A chunkserver in this process: the real framing and the real acceptance rules over replicas in memory, with
// switches for what real ones do to clients.
#pragma once

#include <atomic>
#include <cstddef>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "common/replication/replica.h"
#include "common/wire/messages.h"
#include "tests/net/test_server.h"

namespace cairn::client::testing {

inline constexpr Uuid kTestCluster{0xCA1, 0x2};

struct FakeReplica {
  replication::ReplicaState state;
  Stamp durable;
  std::vector<std::byte> bytes;
  std::vector<uint32_t> checksums;  // per block, padded, as stored
};

class FakeChunkserver {
 public:
  explicit FakeChunkserver(ServerId id);
  ~FakeChunkserver();

  ServerId id() const { return id_; }
  std::string address();
  void Kill();   // connections break, further ones are refused; the replicas stay
  void Start();  // at a new address
  bool running();

  // Requests are taken but answered only after Release, in their order.
  void Hold();
  void Release();
  size_t held();
  // Every request takes so long.
  void Slow(int delay_ms) { delay_ms_ = delay_ms; }
  void BreakConnections();
  // Everything of that kind is refused with `status` until it is ok again.
  void Refuse(wire::MessageType type, Status status);

  // The store, for the fake master and for inspection.
  std::optional<FakeReplica> Find(ChunkId chunk);
  void Put(ChunkId chunk, FakeReplica replica);
  bool Fence(ChunkId chunk, Epoch epoch, FakeReplica* now);
  void Corrupt(ChunkId chunk, uint64_t offset);
  // What is staged is forgotten, as by a restart or after a while.
  void ForgetStaged();
  // Answers stage requests with checksums of other bytes.
  void StageWrong(bool wrong) { stage_wrong_ = wrong; }
  size_t staged();

  std::map<wire::MessageType, int> requests();
  size_t connections();
  uint64_t read_bytes() const { return read_bytes_; }
  uint64_t bad_checksums() const { return bad_checksums_; }

 private:
  void OnFrame(net::FrameConnection& connection, net::Frame frame);
  void Answer(net::FrameConnection& connection, uint8_t type, uint64_t id, std::span<const std::byte> meta,
              const net::SharedBytes& data);
  wire::MutateReply Mutate(const wire::MutateRequest& request, std::span<const std::byte> data);
  wire::ReadReply Read(const wire::ReadRequest& request, std::vector<std::byte>* data);
  wire::ExtentsReply Extents(const wire::ExtentsRequest& request);
  wire::StageReply Stage(const wire::StageRequest& request);
  wire::MutateReply MutateStaged(const wire::MutateStagedRequest& request);
  template <typename Item, typename Check>
  wire::BatchReply Batch(const std::vector<Item>& items, Check check);
  replication::ReplicaInfo Info(ChunkId chunk);

  struct Held {
    std::weak_ptr<net::FrameConnection> connection;
    uint8_t type;
    uint64_t id;
    std::vector<std::byte> meta;
    net::SharedBytes data;
  };

  const ServerId id_;
  std::mutex server_mu_;  // guards server_; never taken on the loop's thread
  std::unique_ptr<net::TestServer> server_;

  std::mutex mu_;
  // guarded by mu_:
  std::map<ChunkId, FakeReplica> replicas_;
  std::map<wire::MessageType, Status> refused_;
  std::map<wire::MessageType, int> requests_;
  std::map<uint64_t, std::vector<std::byte>> staged_;
  uint64_t next_token_ = 1;
  bool holding_ = false;
  std::deque<Held> held_;
  std::atomic<int> delay_ms_{0};
  std::atomic<uint64_t> read_bytes_{0};
  std::atomic<uint64_t> bad_checksums_{0};
  std::atomic<bool> stage_wrong_{false};
};

}  // namespace cairn::client::testing
