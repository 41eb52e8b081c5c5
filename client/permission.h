// Permission checks on cached attributes, by the same rules as the master's: an answer from the cache must
// not give a caller what the master would refuse. Thread-safety: pure functions, except that GroupsOf reads
// /proc.
#pragma once

#include <cstdint>
#include <vector>

#include "client/types.h"

namespace cairn::client {

// Bits as in access(2).
inline constexpr uint32_t kMayExecute = 1;
inline constexpr uint32_t kMayWrite = 2;
inline constexpr uint32_t kMayRead = 4;

enum class Verdict {
  kAllowed,
  kDenied,
  kAskMaster,  // an access control list decides, or root is somebody else at the master
};

Verdict CheckPermission(const Attributes& attr, const Caller& caller, uint32_t mask,
                        bool squash_root = false);

// Supplementary groups: of the process, or those given. A process that has ended has none.
std::vector<uint32_t> GroupsOf(const Caller& caller);

}  // namespace cairn::client
