// For tests of the data plane: a server of it without master, and a client that waits.
#pragma once

#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "chunkserver/data_service.h"
#include "common/net/data_client.h"
#include "common/net/event_loop.h"
#include "tests/chunkserver/memory_store.h"

namespace cairn::chunkserver {

inline constexpr Uuid kTestCluster{0x1111, 0x2222};

std::vector<std::byte> Pattern(size_t bytes, uint64_t seed);

// A mutation with the checksums of its data.
wire::MutateRequest WriteRequest(ChunkId chunk, Stamp stamp, std::optional<Stamp> begin, uint64_t offset,
                                 const std::vector<std::byte>& data);

// Blocking calls to one server.
class Caller {
 public:
  explicit Caller(net::Peer peer, Uuid cluster = kTestCluster);

  struct Reply {
    Status status;
    wire::Bytes meta;
    net::SharedBytes data;
  };
  std::future<Reply> Send(wire::MessageType type, wire::Bytes meta, std::vector<std::byte> data = {},
                          int64_t timeout_ms = 60'000);
  // The status of the transport or, when that is fine, the reply.
  Result<wire::MutateReply> Mutate(const wire::MutateRequest& request, std::vector<std::byte> data = {});
  Result<std::pair<wire::ReadReply, std::vector<std::byte>>> Read(const wire::ReadRequest& request);
  Result<wire::BatchReply> Seal(const wire::SealRequest& request);
  Result<wire::BatchReply> Begin(const wire::BeginRequest& request);
  Result<wire::BatchReply> Query(const wire::QueryRequest& request);
  Result<wire::BatchReply> Flush(const wire::FlushRequest& request);
  Result<wire::DigestsReply> Digests(const wire::DigestsRequest& request);

  net::DataClient& client() { return client_; }

 private:
  Result<wire::BatchReply> Batch(wire::MessageType type, wire::Bytes meta);

  const net::Peer peer_;
  net::EventLoopThread loop_;
  net::DataClient client_;
};

struct Damage {
  ChunkId chunk;
  uint64_t offset;
};

// Disks in memory behind a data plane.
class DataNode {
 public:
  explicit DataNode(ServerId server, size_t disks = 1, DataServiceOptions options = {},
                    Uuid cluster = kTestCluster);
  ~DataNode();

  net::Peer peer() const { return {server_, "127.0.0.1:" + std::to_string(service_->port())}; }
  uint16_t port() const { return service_->port(); }
  MemoryStore& store(size_t disk = 0) { return *stores_[disk]; }
  DiskSet& disks() { return *disks_; }
  DataService& service() { return *service_; }
  std::vector<Damage> damages();
  DamageSink damage_sink();

 private:
  const ServerId server_;
  std::vector<MemoryStore*> stores_;
  net::EventLoopThread loops_[2];
  std::unique_ptr<DiskSet> disks_;
  ServerIdentity identity_;
  WorkerPool readers_{"read", 2, 1000};
  std::mutex mu_;
  std::vector<Damage> damages_;
  std::unique_ptr<DataService> service_;
};

// A set of memory stores; `stores` gets the pointers.
std::unique_ptr<DiskSet> MemoryDisks(size_t count, std::vector<MemoryStore*>* stores);

}  // namespace cairn::chunkserver
