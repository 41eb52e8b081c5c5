// Exit codes of `cairn`: those of all binaries (common/daemon.h) and two of its own. Scripts rely on them: do
// not change the values.
#pragma once

#include "common/daemon.h"
#include "common/status.h"

namespace cairn::cli {

inline constexpr int kExitMismatch = 6;       // --verify or fsck found a difference or a defect
inline constexpr int kExitInterrupted = 130;  // Ctrl-C; no partial file is left under a final name

inline int ExitCodeOf(const Status& status) {
  switch (status.code()) {
    case StatusCode::kOk:
      return kExitOk;
    case StatusCode::kUnavailable:
    case StatusCode::kTimeout:
    case StatusCode::kNoQuorum:
      return kExitUnavailable;
    case StatusCode::kWrongCluster:
    case StatusCode::kVersionMismatch:
      return kExitIdentity;
    case StatusCode::kInterrupted:
      return kExitInterrupted;
    default:
      return kExitFailure;
  }
}

}  // namespace cairn::cli
