// When a request of the kernel counts as interrupted.
//
// The kernel reports every signal that reaches a waiting process. Local file systems let only fatal signals
// end an operation; a program that takes SIGALRM or SIGCHLD does not expect EINTR from write(2) or close(2).
// So a wait is given up only when the process is about to die: the pending signal is SIGKILL, or one whose
// default action ends the process. Thread-safety: any thread.
#pragma once

#include <sys/types.h>

#include <string>

namespace cairn::fuse {

// Text of /proc/TID/status -> whether a fatal signal is pending.
bool FatalSignalIn(const std::string& status);
// For a live thread; true as well if it is gone already.
bool FatalSignalPending(pid_t thread);

}  // namespace cairn::fuse
