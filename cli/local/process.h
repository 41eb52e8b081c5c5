// Starting, recognising and ending the daemons of a local cluster.
//
// A pid file alone proves nothing: after a crash or a reboot its number may belong to another process. A
// daemon counts as ours only if /proc/PID/cmdline names the expected binary and the very pid file. Signals go
// through a pidfd taken before that check, so that a number which is recycled in between is never signalled.
// Thread-safety: stateless; Spawn forks, so call it from a single-threaded program.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "common/status.h"

namespace cairn::cli {

// Folder of the running executable, where the daemons' binaries lie too.
Result<std::string> BinaryDirectory();

// Pid of the live daemon `binary` that was started with `--pid-file pid_file`, or 0.
pid_t RunningDaemon(const std::string& pid_file, const std::string& binary);

// Starts a daemon in a session of its own, with standard input from /dev/null and output appended to
// `error_file`. The caller's signal mask and descriptors are not inherited. An error of exec is reported
// here.
Result<pid_t> Spawn(const std::vector<std::string>& arguments, const std::string& error_file);

// If the child `pid` has ended: "exited with code 1" or "was killed by signal 9 (Killed)"; else empty.
std::string ChildEnded(pid_t pid);

struct StopResult {
  bool was_running = false;
  bool killed = false;  // did not end on SIGTERM in time
};
// SIGTERM, then SIGKILL after `patience_ms`. Returns once the process is gone.
Result<StopResult> StopDaemon(const std::string& pid_file, const std::string& binary, int patience_ms);

// The last `lines` lines of a text file (at most 8 KiB), each indented; empty if there is none.
std::string TailOf(const std::string& path, int lines);

// A port of 127.0.0.1 that is free now, outside the range the kernel gives to outgoing connections: a daemon
// that comes back must find its port unoccupied. `taken` are not chosen.
Result<int> ChooseFreePort(const std::vector<int>& taken);
bool PortIsFree(int port);

}  // namespace cairn::cli
