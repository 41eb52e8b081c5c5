// Bytes that were fetched here for writes which are still to come (wire::StageRequest): kept for one connection, each under a token,
// until the write takes them, the connection ends or they are too old.
//
//   area.Reserve(n)                       when the request comes: nothing is fetched that there is no room for
//   token = area.Keep(request, bytes, …)  when the bytes are there; or area.Release(n) when they could not be had
//   area.Find(token, mutation)            the write
//   area.Drop(token)                      it was carried out, or refused for good
//
// Bounds: bytes and pieces per connection, bytes of all connections together, age.
// Thread-safety: StagingBudget any thread; StagingArea the loop of its connection.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>

#include "common/net/shared_bytes.h"
#include "common/status.h"
#include "common/wire/messages.h"

namespace cairn::chunkserver {

struct StagingLimits {
  uint64_t bytes_per_connection = 32ull << 20;
  size_t pieces_per_connection = 1024;
  uint64_t bytes = 128ull << 20;  // of all connections
  int64_t keep_ms = 30'000;
};

// What all connections have staged together.
class StagingBudget {
 public:
  explicit StagingBudget(uint64_t limit_bytes) : limit_bytes_(limit_bytes) {}
  bool TryAcquire(uint64_t bytes);
  void Release(uint64_t bytes) { used_bytes_.fetch_sub(bytes); }
  uint64_t used_bytes() const { return used_bytes_.load(); }

 private:
  const uint64_t limit_bytes_;
  std::atomic<uint64_t> used_bytes_{0};
};

class StagingArea {
 public:
  StagingArea(std::shared_ptr<StagingBudget> budget, StagingLimits limits)
      : budget_(std::move(budget)), limits_(limits) {}
  ~StagingArea() { Close(); }
  StagingArea(const StagingArea&) = delete;
  StagingArea& operator=(const StagingArea&) = delete;

  // kResourceExhausted: no room now, or the connection has ended.
  Status Reserve(uint64_t bytes);
  void Release(uint64_t bytes);
  // Keeps bytes for which room was reserved. 0: the connection has ended.
  uint64_t Keep(const wire::StageRequest& request, net::SharedBytes bytes, int64_t now_ns);
  // What was staged under the token for exactly this write.
  std::optional<net::SharedBytes> Find(uint64_t token, const replication::Mutation& write) const;
  void Drop(uint64_t token);
  void Expire(int64_t now_ns);
  // The connection has ended: everything goes.
  void Close();

  uint64_t bytes() const { return bytes_; }

 private:
  struct Piece {
    ChunkId chunk;
    uint64_t offset = 0;
    net::SharedBytes bytes;
    int64_t staged_ns = 0;
  };

  const std::shared_ptr<StagingBudget> budget_;
  const StagingLimits limits_;
  std::map<uint64_t, Piece> pieces_;  // by token, which is in order of their age
  uint64_t next_token_ = 1;
  uint64_t bytes_ = 0;        // reserved and kept
  size_t reserved_ = 0;       // requests under way
  bool closed_ = false;
};

}  // namespace cairn::chunkserver
