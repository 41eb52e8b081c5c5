// What each request of the data plane does, without sockets: decoded message in, reply out.
//
// Thread-safety: all methods may be called from any thread.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "chunkserver/disk_set.h"
#include "chunkserver/server_identity.h"
#include "common/checksum.h"
#include "common/net/shared_bytes.h"
#include "common/wire/messages.h"

namespace cairn::chunkserver {

// A stored block did not match its checksum.
using DamageSink =
    std::function<void(ChunkId chunk, uint64_t offset, uint64_t length, const std::string& detail)>;

// Chunks are at most this long; a range beyond is nonsense.
inline constexpr uint64_t kMaxChunkBytes = 1ull << 36;

struct ReadAnswer {
  wire::ReadReply reply;
  net::SharedBytes data;
};

class RequestHandler {
 public:
  RequestHandler(DiskSet* disks, const ServerIdentity* identity, DamageSink damage);

  // A refusal is in the reply's status; it also carries who we are, where that may be told.
  wire::HelloReply Hello(const wire::HelloRequest& request) const;

  wire::MutateReply Mutate(const wire::MutateRequest& request, std::span<const std::byte> data) const;
  ReadAnswer Read(const wire::ReadRequest& request) const;
  // The answer, or what is left to do by a thread that may wait for a disk.
  std::variant<ReadAnswer, std::function<ReadAnswer()>> StartRead(const wire::ReadRequest& request) const;
  wire::BatchReply Seal(const wire::SealRequest& request) const;
  wire::BatchReply Begin(const wire::BeginRequest& request) const;
  wire::BatchReply Query(const wire::QueryRequest& request) const;
  wire::DigestsReply Digests(const wire::DigestsRequest& request) const;
  wire::ExtentsReply Extents(const wire::ExtentsRequest& request) const;
  // `done` runs once, on some thread.
  void Flush(wire::FlushRequest request, std::function<void(wire::BatchReply)> done) const;

 private:
  Status CheckRead(const wire::ReadRequest& request) const;
  ReadAnswer Answer(const wire::ReadRequest& request, Result<ReadData> read) const;
  Status CheckMutation(const wire::MutateRequest& request, std::span<const std::byte> data) const;

  DiskSet* const disks_;
  const ServerIdentity* const identity_;
  const DamageSink damage_;
};

}  // namespace cairn::chunkserver
