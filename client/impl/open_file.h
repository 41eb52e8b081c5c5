// A regular file that is open here, or whose buffered writes the master has not been told about yet: its
// data, and the gate between operations and the end of the lease.
//
// An operation enters (users + 1), works under the lease, and leaves. A recall, the lowering of an idle
// lease, an eviction and the loss of the session are transitions: one at a time per file, each closes the
// gate (new operations wait in front of it, not inside), waits until nobody is inside, changes data and
// lease, and opens the gate again. An operation that has to ask the master for the lease waits *outside*,
// because the master may be waiting for a transition of this very file; when the reply grants the lease, the
// session's reader thread enters on the operation's behalf, before it handles a recall that may follow.
//
// Locks: mu is held for moments only (the reader thread takes it); attach_mu while data is attached or
// detached; order_mu by appends, truncations and commits, so that sizes told to the master are in order;
// write_mu shared by writes, alone by what must not have a write beside it. order_mu before write_mu before
// attach_mu before mu. Thread-safety: members as marked.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>

#include "client/cache/lease_cache.h"
#include "client/data/file_data.h"

namespace cairn::client {

// Is there nothing left that a commit with this answer could be applied to?
inline bool IsOver(const Status& status) {
  return status.code() == StatusCode::kLeaseLost || status.code() == StatusCode::kStaleHandle ||
         status.code() == StatusCode::kNotFound || status.code() == StatusCode::kCancelled;
}

struct OpenFile {
  OpenFile(InodeId id, uint64_t bytes, std::unique_ptr<FileData> file_data)
      : inode(id), chunk_bytes(bytes), data(std::move(file_data)) {}

  const InodeId inode;
  const uint64_t chunk_bytes;
  const std::unique_ptr<FileData> data;

  std::mutex order_mu;
  std::shared_mutex write_mu;

  // Until when (on the client's clock) reading does not move the time of last access again; 0 after each change.
  std::atomic<int64_t> access_noted_until_ns{0};

  std::mutex attach_mu;
  HeldLease attached;  // guarded by attach_mu; what data was attached with

  std::mutex mu;
  std::condition_variable changed;
  // Guarded by mu:
  int users = 0;            // operations inside
  uint64_t entered = 0;     // operations that ever entered
  // For those who write in bursts, on the steady clock: when the lease was granted, and when the last operation left.
  std::chrono::steady_clock::time_point granted{};
  std::chrono::steady_clock::time_point left{};
  // Programs here read this file just before they write it, so a read asks for the write lease at once (Client::Read). Found out
  // by a read lease that had to be exchanged a moment after it came; given up when a lease goes that was so taken in vain.
  bool reads_before_writes = false;
  bool taken_by_read = false;  // the write lease held was asked for by a read, and nothing was written since
  static constexpr int64_t kNever = INT64_MIN / 2;
  int64_t read_granted_ns = kNever;  // the last read lease, on the client's clock
  uint64_t last_write = 0;           // offset
  int64_t last_write_ns = kNever;
  int acquiring = 0;        // operations that wait for the master to grant the lease
  bool transition = false;  // the gate is closed
  int handles = 0;
  bool orphan = false;                    // its last name is gone; CloseOrphans at the last close
  bool held_at_master = false;            // the master was told that it is open here
  bool written = false;                   // since the last commit that the master answered
  bool unsynced = false;                  // written since the last fsync
  // What is known of the inode's metadata at the master: the newest change that this client asked for, and the tenure of the
  // lease under which the last sync ended. While that tenure lasts nobody else changes it.
  uint64_t changed_index = 0;
  uint64_t synced_tenure = 0;  // 0: not synced yet, or something changed in a way that is not numbered
  int64_t idle_since_ns = 0;              // last close, on the client's clock
  std::optional<TimeSpec> ignored_mtime;  // of a write that came before an explicit change of the time
  std::optional<HeldTimes> times;  // that were set here, and the master was not told about yet (impl/held_times.cc)
};

// An open handle.
struct OpenHandle {
  std::shared_ptr<OpenFile> file;
  Caller caller;
  OpenFlags flags;
  bool may_keep_cache = false;
  // A lock held through this handle was lost: what its owner believes to be alone with may be somebody else's.
  std::atomic<bool> lock_lost{false};
  std::mutex mu;
  uint64_t errors_seen = 0;  // guarded by mu; WriteError::number
};

// An operation inside the gate.
class FileUse {
 public:
  FileUse() = default;
  explicit FileUse(std::shared_ptr<OpenFile> file) : file_(std::move(file)) {}
  FileUse(FileUse&& other) noexcept = default;
  FileUse& operator=(FileUse&& other) noexcept {
    Leave();
    file_ = std::move(other.file_);
    return *this;
  }
  ~FileUse() { Leave(); }
  explicit operator bool() const { return file_ != nullptr; }
  void Leave() {
    if (!file_) return;
    {
      std::lock_guard lock(file_->mu);
      --file_->users;
      file_->left = std::chrono::steady_clock::now();
      file_->changed.notify_all();
    }
    file_.reset();
  }

 private:
  std::shared_ptr<OpenFile> file_;
};

}  // namespace cairn::client
