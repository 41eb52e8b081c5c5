// The segments of one disk: appending records to the active one, and making them durable by group commit.
//
//   log->Append(&record, payload)     the bytes are in the memory of the OS; record.extents know their place
//   log->Sync()                       everything appended before is on disk; concurrent callers share one
//   fdatasync
//
// A segment is synced before its successor takes records, so only the last segment can have a torn tail.
//
// Thread-safety: Append, Roll, StartAppending, Punch and Remove are serialised by the caller (the store's
// lock); everything else from any thread.
#pragma once

#include <atomic>
#include <condition_variable>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "chunkserver/store/disk_health.h"
#include "chunkserver/store/record.h"
#include "chunkserver/store/segment_file.h"
#include "chunkserver/store/segment_writer.h"
#include "chunkserver/store/store_env.h"
#include "common/status.h"

namespace cairn::chunkserver {

struct SegmentLogOptions {
  std::string directory;
  Uuid disk;
  uint64_t segment_bytes = 256ull << 20;
  // Records with at least so much payload are written past the page cache; 0: none.
  uint64_t direct_bytes = 64ull << 10;
  StoreEnv* env = nullptr;
  DiskHealth* health = nullptr;
};

class SegmentLog {
 public:
  // Lists the segments; reads nothing.
  static Result<std::unique_ptr<SegmentLog>> Open(const SegmentLogOptions& options);

  // Numbers of the files, ascending.
  std::vector<uint32_t> Segments() const;
  bool Exists(uint32_t number) const;
  Result<std::shared_ptr<SegmentFile>> File(uint32_t number) const;

  // Continues behind `end` (the file is cut there), or in a new segment when end.segment is 0 or full.
  // Everything before is synced when this returns. `after`: new segments are numbered above it.
  Status StartAppending(LogPosition end, uint32_t after);
  // Where a record went, and how far syncing was at the moment that it became part of the log.
  struct Place {
    LogPosition begin;
    LogPosition end;
    LogPosition synced;
    LogPosition target;  // of the data sync that runs (or ran last): it does not cover this record
  };
  // Appends and sets the extents' places. kNoSpace leaves the log as it was; other errors fail the disk.
  Status Append(Record* record, std::span<const std::span<const std::byte>> payload, Place* place);
  // Syncs the active segment and starts the next one.
  Status Roll();
  Status Sync();

  LogPosition end() const { return LogPosition::Unpack(end_.load(std::memory_order_acquire)); }
  LogPosition synced() const { return LogPosition::Unpack(synced_.load(std::memory_order_acquire)); }

  Status Read(LogPosition at, std::span<std::byte> out) const;
  // Gives [begin, end) of the segment back to the file system, shrunk to whole blocks. Returns the bytes.
  Result<uint64_t> Punch(uint32_t number, uint64_t begin, uint64_t end);
  Status Remove(uint32_t number);
  // After Remove: the removal survives a loss of power.
  Status SyncDirectory(SyncPoint point);

 private:
  explicit SegmentLog(const SegmentLogOptions& options) : options_(options), writer_(options.env) {}
  Status StartSegment(uint32_t number);
  // What an append that failed means for the disk.
  Status Failed(const Status& error);
  bool SyncedOften(LogPosition end);
  Status SyncTo(LogPosition want);

  // Constant after construction.
  const SegmentLogOptions options_;

  mutable std::mutex files_mu_;
  std::map<uint32_t, bool> numbers_;  // guarded by files_mu_
  // The most recently used files stay open; guarded by files_mu_.
  mutable std::list<std::shared_ptr<SegmentFile>> open_files_;
  mutable std::unordered_map<uint32_t, std::list<std::shared_ptr<SegmentFile>>::iterator> open_index_;

  // Guarded by the caller's lock.
  SegmentWriter writer_;
  uint64_t written_back_ = 0;  // offset up to which writeback of the active segment was started

  std::mutex sync_mu_;
  std::condition_variable sync_done_;
  bool syncing_ = false;                 // guarded by sync_mu_
  std::shared_ptr<SegmentFile> active_;  // changed under the caller's lock and sync_mu_
  LogPosition sync_target_;              // guarded by sync_mu_
  int close_syncs_ = 0;                  // guarded by sync_mu_: syncs in a row that found little to do
  std::atomic<uint64_t> end_{0};         // changed under the caller's lock and sync_mu_
  std::atomic<uint64_t> synced_{0};      // changed under sync_mu_
};

}  // namespace cairn::chunkserver
