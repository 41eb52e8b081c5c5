// Remembers and reports errors that an application sees only as EIO.
//
// Each failure is logged once with its context (a repeat of the same operation on the same inode with the
// same message is counted, and logged again after a while). The newest message of an inode can be read as the
// extended attribute `user.cairn.error` of the file, so that a person without access to the log learns which
// servers did not confirm. Thread-safety: any thread.
#pragma once

#include <cstdint>
#include <list>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>

#include "common/clock.h"
#include "common/ids.h"
#include "common/status.h"

namespace cairn::fuse {

class ErrorLog {
 public:
  explicit ErrorLog(const Clock* clock) : clock_(clock) {}

  // Whether `code` is an ordinary answer of a file system (ENOENT, EACCES, ...) rather than a failure.
  static bool IsOrdinary(StatusCode code);
  void Report(const char* operation, InodeId inode, const Status& status);
  // An operation that proves the file works again clears what is remembered.
  void Clear(InodeId inode);
  std::optional<std::string> LastError(InodeId inode) const;

 private:
  struct Record {
    InodeId inode;
    std::string message;  // "write: ..."
    int64_t logged_ns = 0;
    uint64_t repeats = 0;
  };
  static constexpr size_t kMaxRecords = 1024;
  static constexpr int64_t kRepeatNanos = 30 * kNanosPerSecond;

  const Clock* const clock_;
  mutable std::mutex mu_;
  std::list<Record> records_;                                          // newest first; guarded by mu_
  std::unordered_map<InodeId, std::list<Record>::iterator> by_inode_;  // guarded by mu_
};

}  // namespace cairn::fuse
