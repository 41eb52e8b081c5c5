// The data of one regular file as this client sees it: write-behind under a write lease, reads with read-ahead under any
// lease. Sits between the lease cache (client/session, which decides *whether* data may be used) and the data plane.
//
// The owner keeps the lease state right: Attach* when a lease was granted, FlushAndSeal + Detach before one is given back.
// While detached every call answers kLeaseLost; the owner gets a lease and calls again.
//
// Thread-safety: all methods may be called from any thread. Methods that do I/O block; none blocks the data plane's loop.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "client/types.h"
#include "common/ids.h"
#include "common/replication/types.h"
#include "common/status.h"

namespace cairn::client {

// One chunk of the file; mirrors proto ChunkLayout with strong types.
struct ChunkPlace {
  uint64_t index = 0;
  ChunkId chunk;                       // zero: hole
  replication::Configuration config;
  Stamp sealed;                        // readers ask for exactly this; zero: not sealed
  std::vector<ServerId> carriers;
  uint64_t length = 0;
  bool damaged = false;
  std::string detail;
};

struct SealedChunk {
  ChunkId chunk;
  Stamp stamp;
  uint64_t length = 0;
  std::vector<ServerId> carriers;
  bool never_begun = false;
};
struct DurableChunk { ChunkId chunk; Stamp stamp; };

// What the master has to be told (proto InodeCommit without the lease fields).
struct PendingCommit {
  std::optional<uint64_t> size;
  std::optional<TimeSpec> mtime;
  std::vector<SealedChunk> seals;
  std::vector<DurableChunk> durable;
  bool empty() const { return !size && !mtime && seals.empty() && durable.empty(); }
};

struct MemberFailure { ServerId server; Status status; };

// What FileData needs from the master; implemented over the session. Calls block; bounded by the client's timeouts.
class MasterPort {
 public:
  virtual ~MasterPort() = default;
  virtual Result<std::vector<ChunkPlace>> Announce(InodeId inode, Epoch lease, uint64_t first, uint32_t count) = 0;
  virtual Result<std::vector<ChunkPlace>> Layout(InodeId inode, uint64_t first, uint32_t count) = 0;
  // need_replacement: waits for the new configuration. Otherwise only a report; returns soon.
  virtual Result<ChunkPlace> ChunkTrouble(InodeId inode, ChunkId chunk, Epoch epoch,
                                          const std::vector<MemberFailure>& members, bool need_replacement) = 0;
};

class FileData {
 public:
  virtual ~FileData() = default;

  virtual void AttachRead(uint64_t size, std::vector<ChunkPlace> known) = 0;
  virtual void AttachWrite(Epoch lease, uint64_t size, std::vector<ChunkPlace> known) = 0;
  // Forgets clean data and layouts. Precondition: nothing dirty, or the lease was lost (dirty data is then dropped and
  // every open handle gets an error).
  virtual void Detach() = 0;

  virtual uint64_t Size() const = 0;           // with buffered growth
  virtual TimeSpec Mtime() const = 0;          // of the last buffered write; zero: none
  virtual uint64_t DirtyBytes() const = 0;

  virtual Result<size_t> Read(uint64_t offset, std::span<std::byte> buffer) = 0;
  virtual Status Write(uint64_t offset, std::span<const std::byte> data, TimeSpec now) = 0;
  virtual Status Zero(uint64_t offset, uint64_t length) = 0;   // within the size
  // The master has logged the new size (shrinking) or growth is local: truncates the boundary chunk, drops what is beyond.
  virtual Status Truncate(uint64_t size, TimeSpec now) = 0;

  virtual Status Flush() = 0;                  // on W replicas, in memory
  virtual Status FlushDurable() = 0;           // on W replicas, on disk, every chunk up to what was written
  // The commit that the master must apply (size, times, durable stamps, seals so far); taken once, put back with Restore.
  virtual PendingCommit TakeCommit() = 0;
  virtual void RestoreCommit(PendingCommit commit) = 0;
  // Flushes, seals every chunk opened under the lease, returns all that is left to commit. `progress` is told the dirty bytes left.
  virtual Result<PendingCommit> FlushAndSeal(const std::function<void(uint64_t dirty)>& progress) = 0;
  // Drops buffered data without writing it (the file is being deleted and is not open).
  virtual void Discard() = 0;
  // The master changed a chunk's configuration under us.
  virtual void OnReconfigured(ChunkPlace place) = 0;
};

}  // namespace cairn::client
