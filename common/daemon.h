// What every daemon of Cairn does at its start and end: signals, pid file, descriptor limit, going to the
// background.
//
//   int main(...) {
//     DaemonOptions options = ...;                     // from flags
//     auto daemon = Daemon::Start(options);            // logging is set up, SIGTERM/SIGINT are caught from
//     here on
//     ... open stores, listen ...
//     daemon->Ready();                                 // writes the pid file; with background: the starter's
//     exit 0 daemon->WaitForShutdown();                       // SIGTERM or SIGINT
//   }
//
// With options.background the process that the user started waits until Ready() (exit 0) or until the daemon
// ends before that (exit with its code, its errors having gone to the user's stderr as well as to the log).
//
// Thread-safety: Start before any other thread exists (it forks and blocks signals for all threads made
// later); RequestShutdown and ShutdownRequested from any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "common/log.h"
#include "common/status.h"

namespace cairn {

// Exit codes of all binaries (documented in docs/operations.md).
inline constexpr int kExitOk = 0;
inline constexpr int kExitFailure = 1;      // the operation failed; the message says why
inline constexpr int kExitUsage = 2;        // wrong flags or configuration
inline constexpr int kExitUnavailable = 3;  // the cluster, or the quorum, cannot be reached
inline constexpr int kExitIdentity = 4;     // data of another cluster, server or format
inline constexpr int kExitInUse = 5;        // address, directory or mount point in use

struct DaemonOptions {
  LogOptions log;
  std::string pid_file;  // empty: none
  bool background = false;
  uint64_t max_open_files = 65'536;  // soft limit raised up to this or the hard limit, whichever is lower
};

class Daemon {
 public:
  static Result<std::unique_ptr<Daemon>> Start(const DaemonOptions& options);
  ~Daemon();  // removes the pid file
  Daemon(const Daemon&) = delete;
  Daemon& operator=(const Daemon&) = delete;

  // Start-up succeeded. Errors of writing the pid file are returned.
  Status Ready();
  // Blocks until SIGTERM, SIGINT or RequestShutdown. SIGHUP is ignored; SIGPIPE too.
  void WaitForShutdown();
  void RequestShutdown();
  bool ShutdownRequested() const;

 private:
  Daemon() = default;
  struct State;
  std::unique_ptr<State> state_;
};

// Replaces `path` by `content` atomically (temporary file, fsync, rename, fsync of the directory).
Status WriteFileAtomically(const std::string& path, const std::string& content);
// A file of at most max_bytes. kNotFound when it is absent; kInvalidArgument when it is larger.
Result<std::string> ReadSmallFile(const std::string& path, size_t max_bytes = 1 << 20);
// /etc/machine-id, or the host name where there is none.
std::string HostIdentity();
// /proc/sys/kernel/random/boot_id: changes at every boot of this machine.
std::string BootIdentity();

}  // namespace cairn
