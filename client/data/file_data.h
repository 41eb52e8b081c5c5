// The data of one regular file as this client sees it: write-behind under a write lease, reads with
// read-ahead under any lease. Sits between the lease cache (client/session, which decides *whether* data may
// be used) and the data plane.
//
// The owner keeps the lease state right: Attach* when a lease was granted, FlushAndSeal + Detach before one
// is given back. While detached every call answers kLeaseLost; the owner gets a lease and calls again.
//
// Thread-safety: all methods may be called from any thread. Methods that do I/O block; none blocks the data
// plane's loop.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "client/data/byte_budget.h"
#include "client/data/copy_part.h"
#include "client/data/server_directory.h"
#include "client/types.h"
#include "common/clock.h"
#include "common/ids.h"
#include "common/replication/types.h"
#include "common/status.h"

namespace cairn::net {
class DataClient;
}

namespace cairn::client {

// One chunk of the file; mirrors proto ChunkLayout with strong types.
struct ChunkPlace {
  uint64_t index = 0;
  ChunkId chunk;  // zero: hole
  replication::Configuration config;
  Stamp sealed;  // readers ask for exactly this; zero: not sealed
  std::vector<ServerId> carriers;
  uint64_t length = 0;
  uint64_t allocated_bytes = 0;  // of it, without holes, as the master counts it
  bool damaged = false;
  std::string detail;
};

struct SealedChunk {
  ChunkId chunk;
  Stamp stamp;
  uint64_t length = 0;
  std::vector<ServerId> carriers;
  bool never_begun = false;
  uint64_t allocated_bytes = 0;  // of the length, without holes
  int64_t allocated_change = 0;  // against what the master counted before
};
struct DurableChunk {
  ChunkId chunk;
  Stamp stamp;
};

// What the master has to be told (proto InodeCommit without the lease fields).
// Times that somebody set, and the holder of the write lease decided alone (impl/held_times.cc). What is not there stays as it is.
struct HeldTimes {
  std::optional<TimeSpec> atime, mtime;
  TimeSpec ctime;

  // `newer` were set after these.
  void Merge(const HeldTimes& newer) {
    if (newer.atime) atime = newer.atime;
    if (newer.mtime) mtime = newer.mtime;
    ctime = std::max(ctime, newer.ctime);
  }
  void ApplyTo(Attributes* attr) const {
    if (atime) attr->atime = *atime;
    if (mtime) attr->mtime = *mtime;
    attr->ctime = std::max(attr->ctime, ctime);
  }
};

struct PendingCommit {
  std::optional<uint64_t> size;
  std::optional<TimeSpec> mtime;  // of the last write; it comes after a time that was asked for
  std::optional<HeldTimes> times;  // not of FileData
  std::vector<SealedChunk> seals;
  std::vector<DurableChunk> durable;
  bool empty() const { return !size && !mtime && !times && seals.empty() && durable.empty(); }
};
// What the seals of a commit add to the space that the master counts, in bytes.
inline int64_t AllocatedChange(const PendingCommit& commit) {
  int64_t change = 0;
  for (const SealedChunk& seal : commit.seals) change += seal.allocated_change;
  return change;
}

struct MemberFailure {
  ServerId server;
  Status status;
};

// What FileData needs from the master; implemented over the session. Calls block; bounded by the client's
// timeouts.
class MasterPort {
 public:
  virtual ~MasterPort() = default;
  // `seals` have not been told yet; they reach the master before the announcement, which may open those chunks again.
  virtual Result<std::vector<ChunkPlace>> Announce(InodeId inode, Epoch lease, uint64_t first, uint32_t count,
                                                   const std::vector<SealedChunk>& seals) = 0;
  virtual Result<std::vector<ChunkPlace>> Layout(InodeId inode, uint64_t first, uint32_t count) = 0;
  // The first `count` chunks that exist from `first` on, however far apart; fewer: there are no more.
  virtual Result<std::vector<ChunkPlace>> ExistingChunks(InodeId inode, uint64_t first, uint32_t count) = 0;
  // need_replacement: waits for the new configuration. Otherwise only a report; returns soon.
  virtual Result<ChunkPlace> ChunkTrouble(InodeId inode, ChunkId chunk, Epoch epoch,
                                          const std::vector<MemberFailure>& members,
                                          bool need_replacement) = 0;
};

// Counters of the data path, summed over all files of a client.
struct DataCounters {
  std::atomic<uint64_t> requests{0};    // frames sent to chunkservers
  std::atomic<uint64_t> bytes_read{0};  // asked for by callers
  std::atomic<uint64_t> bytes_written{0};
  std::atomic<uint64_t> mutations{0};       // each sent to N members
  std::atomic<uint64_t> read_failovers{0};  // a carrier was given up for another one
  std::atomic<uint64_t> hedged_reads{0};
  std::atomic<uint64_t> corrupt_replies{0};  // read replies whose checksums did not match
  std::atomic<uint64_t> dropped_members{0};  // laggards and failures left out of their epoch
  std::atomic<uint64_t> reconfigurations{0};
  std::atomic<uint64_t> read_ahead_bytes{0};  // fetched ahead of the caller
  std::atomic<uint64_t> bytes_copied{0};      // from file to file by chunkservers
  std::atomic<uint64_t> bytes_copied_here{0}; // of copies that chunkservers could not make (all) by themselves
};

struct FileDataOptions {
  uint64_t window_bytes = 8ull << 20;      // in flight per file
  uint64_t read_ahead_bytes = 8ull << 20;  // per sequential stream
  int64_t write_timeout_ms = 10'000;       // below the write quorum before an error
  int64_t read_timeout_ms = 10'000;        // no carrier answered before an error
  int64_t laggard_timeout_ms = 10'000;     // a member that answers nothing for so long is dropped
  int64_t seal_grace_ms = 200;             // after W replicas confirmed a seal, for the others to be listed as carriers
  int64_t report_again_ms = 2'000;         // while a member is left out of a chunk that is being written
  uint64_t laggard_bytes =
      64ull << 20;      // buffered for a member that is behind the quorum before it is dropped
  std::string host_id;  // of this machine: its own chunkserver is the nearest
  std::string zone;
};

class Scheduler;     // client/data/scheduler.h
class SealGatherer;  // client/data/seal_gatherer.h

// What all files of one client share. Everything pointed to outlives every FileData made with it.
struct FileDataContext {
  net::DataClient* data_client = nullptr;
  const ServerDirectory* servers = nullptr;
  MasterPort* master = nullptr;
  const Clock* clock = nullptr;
  ByteBudget* dirty_budget = nullptr;  // limit: ClientOptions::dirty_limit_bytes
  ByteBudget* clean_budget = nullptr;  // limit: ClientOptions::cache_bytes
  Scheduler* scheduler = nullptr;  // threads for what may block and timers: calls to the master, idle flushes
  SealGatherer* seals = nullptr;
  DataCounters* counters = nullptr;
  FileDataOptions options;
};

// The latest failure of write-behind. An open handle remembers `number` and reports `status` once when it has
// grown.
struct WriteError {
  uint64_t number = 0;  // failures so far
  Status status;
};

class FileData {
 public:
  virtual ~FileData() = default;

  virtual void AttachRead(uint64_t size, std::vector<ChunkPlace> known) = 0;
  virtual void AttachWrite(Epoch lease, uint64_t size, std::vector<ChunkPlace> known) = 0;
  // Forgets clean data and layouts. Precondition: nothing dirty, or the lease was lost (dirty data is then
  // dropped and every open handle gets an error).
  virtual void Detach() = 0;

  virtual uint64_t Size() const = 0;   // with buffered growth
  virtual TimeSpec Mtime() const = 0;  // of the last buffered write; zero: none
  virtual uint64_t DirtyBytes() const = 0;
  virtual WriteError LastWriteError() const = 0;
  // Bytes by which what was written here and is not sealed yet changes the space that the master counts; an upper bound between
  // two flushes.
  virtual int64_t AllocatedChange() const = 0;
  // lseek(2) with SEEK_DATA or SEEK_HOLE from `offset`; nullopt: there is no data, or the offset is at the end or beyond.
  virtual Result<std::optional<uint64_t>> Seek(uint64_t offset, bool data) = 0;

  virtual Result<size_t> Read(uint64_t offset, std::span<std::byte> buffer) = 0;
  virtual Status Write(uint64_t offset, std::span<const std::byte> data, TimeSpec now) = 0;
  virtual Status Zero(uint64_t offset, uint64_t length, TimeSpec now) = 0;  // within the size
  // Names the bytes of [offset, offset + length), as far as the file reaches, so that chunkservers can copy them: as they are now,
  // flushed. Ends early after `max_bytes` of data or many parts; empty only at the end of the file.
  virtual Result<std::vector<CopyPart>> PlanCopy(uint64_t offset, uint64_t length, uint64_t max_bytes) = 0;
  // Writes the parts, one after the other, from `offset` on; returns when they are on W replicas. Fewer bytes than the parts have:
  // the next one could not be copied this way, or the caller was interrupted. `at_once`: the parts are of this very file, whose
  // stamps change with the first write, so everything is staged before anything is written (they are then at most
  // kStageWindowBytes).
  struct CopyMode { bool at_once = false; };
  virtual Result<uint64_t> CopyParts(uint64_t offset, std::span<const CopyPart> parts, TimeSpec now, CopyMode mode) = 0;
  // The number that the truncation of the boundary chunk to `size` will have (SetAttrOp.shrink_seq); 0: none
  // is needed. Call it before the master logs the new size, with no write in between it and Truncate.
  // Until then nothing is sent to chunks that will go.
  virtual Result<uint64_t> TruncationSeq(uint64_t size) = 0;
  // The master did not log it after all.
  virtual void CancelTruncation() = 0;
  // The master has logged the new size (shrinking) or growth is local: truncates the boundary chunk, drops
  // what is beyond.
  virtual Status Truncate(uint64_t size, TimeSpec now) = 0;

  virtual Status Flush() = 0;         // on W replicas, in memory
  // On W replicas, on disk, every chunk up to what was written. The stamps reached are part of the next commit.
  virtual Status FlushDurable() = 0;
  // The commit that the master must apply (size, times, durable stamps, seals so far); taken once, put back
  // with Restore.
  virtual PendingCommit TakeCommit() = 0;
  virtual void RestoreCommit(PendingCommit commit) = 0;
  // Flushes, seals every chunk opened under the lease, returns all that is left to commit. `progress` is told
  // the dirty bytes left. On an error the lease can still be given back: TakeCommit has the seals that were
  // possible, Detach drops the rest (and counts a WriteError); the master then runs the configuration
  // procedure for the chunks that stay unsealed.
  virtual Result<PendingCommit> FlushAndSeal(const std::function<void(uint64_t dirty)>& progress) = 0;
  // Seals, in the background and under the lease that stays, every chunk that was not written to for idle_ms or that the writer
  // has left behind; their next write opens them again. Never blocks. Call it again: what could not be sealed yet is tried again
  // then (a quorum that is missing is replaced meanwhile).
  struct IdleSeals {
    bool closed = false;   // nothing written under the lease is open any more: giving it back needs no chunkserver
    bool to_tell = false;  // there are seals that the master was not told about
  };
  virtual IdleSeals SealIdle(int64_t idle_ms) = 0;
  // Drops buffered data without writing it (the file is being deleted and is not open).
  virtual void Discard() = 0;
  // The master changed a chunk's configuration under us.
  virtual void OnReconfigured(ChunkPlace place) = 0;
};

// Staged at the members and not written yet, of one copy.
inline constexpr uint64_t kStageWindowBytes = 8ull << 20;

// Detached at first. The destructor waits for requests under way to end (they are cancelled) and drops what
// is dirty.
std::unique_ptr<FileData> MakeFileData(const FileDataContext& context, InodeId inode, uint64_t chunk_bytes);

}  // namespace cairn::client
