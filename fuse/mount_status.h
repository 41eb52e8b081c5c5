// Tells people what a mount is doing and what it waits for: on request (`cairn mount status`) and in the log.
//
// The answer is one JSON object, written to whoever connects to a socket in the abstract namespace that is
// named after the mount's device number (`StatusSocketName`); it needs neither the kernel's FUSE side nor the
// master. Requests that wait for long are logged. Thread-safety: construct and destroy from one thread.
#pragma once

#include <atomic>
#include <string>
#include <thread>

#include "fuse/file_system.h"
#include "fuse/options.h"

namespace cairn::fuse {

class MountStatus {
 public:
  // `device`: "0:53", as in /proc/self/mountinfo.
  MountStatus(FileSystem& fs, const MountOptions& options, const std::string& device, const Clock* clock);
  ~MountStatus();
  MountStatus(const MountStatus&) = delete;
  MountStatus& operator=(const MountStatus&) = delete;

  std::string Json() const;

 private:
  void Main();
  void Answer();
  void LogWaits();

  // Constant after construction.
  FileSystem& fs_;
  const MountOptions options_;
  const Clock* const clock_;
  const int64_t started_ns_;
  int listener_ = -1;
  int wake_ = -1;

  int64_t logged_ns_ = 0;  // of the thread
  bool waiting_ = false;   // of the thread
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

}  // namespace cairn::fuse
