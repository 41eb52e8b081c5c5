// A mounted file system: the session with the kernel and the threads that serve it.
//
//   CAIRN_ASSIGN_OR_RETURN(auto mount, MountSession::Mount(fs, cache, options));   // visible, threads run,
//   it answers
//   ... mount->WaitEnded() returns when somebody unmounts it ...
//   mount->Stop();                                                        // unmounts, even with files open
// Thread-safety: WaitEnded from any thread; Mount and Stop from one.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "common/status.h"
#include "fuse/file_system.h"
#include "fuse/options.h"

namespace cairn::fuse {

class MountSession {
 public:
  // `ended` is called once, by a thread of the session, when the loop ends for whatever reason.
  static Result<std::unique_ptr<MountSession>> Mount(FileSystem& fs, KernelCache& cache,
                                                     const MountOptions& options,
                                                     std::function<void()> ended);
  ~MountSession();
  MountSession(const MountSession&) = delete;
  MountSession& operator=(const MountSession&) = delete;

  // Ends the mount: unmounts if it still is mounted (with files open: data is synced, then the mount is
  // detached), ends the threads after the requests in progress.
  void Stop();
  const std::string& device() const { return device_; }  // "0:53"

 private:
  MountSession(FileSystem& fs, KernelCache& cache, const MountOptions& options, std::function<void()> ended);
  Status Begin();
  bool StillMounted() const;
  void RaiseReadAhead() const;

  // Constant after Begin.
  FileSystem& fs_;
  KernelCache& cache_;
  const MountOptions options_;
  const std::function<void()> ended_;
  fuse_session* session_ = nullptr;
  std::string device_;  // "0:53", to recognise our own mount
  std::thread loop_;

  std::mutex mu_;
  std::condition_variable loop_ended_cv_;
  bool loop_ended_ = false;  // guarded by mu_
  bool stopped_ = false;     // used by the owner's thread only
};

}  // namespace cairn::fuse
