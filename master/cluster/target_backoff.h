// Servers that refused copies lately: how long no further ones are sent to them. Pure.
//
// A copy that its target refuses costs the whole transfer, and the chunk needs it as much as before. Without a pause per server
// every chunk that is repaired finds out for itself, again and again (each chunk's own pause doubles up to a minute, and a file that is
// written all the time asks for its repair anew). One copy that succeeds ends the pause: of several disks only one may be bad, and
// then only the chunks on it wait, each by its own pause.
//
//   Refused(cs2, "disk full", now)  -> 2 s, then 4, 8, ... 120 s
//   Waiting(cs2, now)               -> why and until when, nullptr afterwards: one round of copies tries it again
//
// Thread-safety: none; one owner.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>

#include "common/ids.h"

namespace cairn::master {

class TargetBackoff {
 public:
  static constexpr int64_t kFirstNanos = 2'000'000'000;
  static constexpr int64_t kLongestNanos = 120'000'000'000;

  struct Pause {
    uint32_t refusals = 0;  // rounds of them in a row
    int64_t until_ns = 0;
    std::string why;
  };

  void Refused(ServerId server, std::string why, int64_t now_ns) {
    Pause& pause = pauses_[server];
    // Copies that were under way together are one refusal.
    if (now_ns < pause.until_ns) return;
    const int64_t length = kFirstNanos << std::min<uint32_t>(pause.refusals, 6);
    ++pause.refusals;
    pause.until_ns = now_ns + std::min(length, kLongestNanos);
    pause.why = std::move(why);
  }
  // It took a copy, or it is another process with perhaps another disk.
  void Forget(ServerId server) { pauses_.erase(server); }
  const Pause* Waiting(ServerId server, int64_t now_ns) const {
    const auto found = pauses_.find(server);
    return found == pauses_.end() || now_ns >= found->second.until_ns ? nullptr : &found->second;
  }

 private:
  std::map<ServerId, Pause> pauses_;  // at most one per server
};

}  // namespace cairn::master
