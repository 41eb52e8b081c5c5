// When repair may judge what is lost: not while most servers are away at once (a start of the master, a switch or a room without power), for
// they usually come back together, and what the first of them lacks the next ones have.
//
// Held until every server reported, or none came or went for kQuietNanos, at most kLongestNanos from its beginning. While nobody comes or
// goes for longer, those that are away count as lost: then it is over, until most are away and one of them returns.
// Thread-safety: none.
#pragma once

#include <cstdint>

#include "common/clock.h"

namespace cairn::master {

class OutageHold {
 public:
  static constexpr int64_t kQuietNanos = 8 * kNanosPerSecond;
  static constexpr int64_t kLongestNanos = 30 * kNanosPerSecond;

  // A server came or went. away: of the servers in service, those that are down or have not reported yet.
  void OnChange(int64_t now_ns, uint32_t away, uint32_t in_service) {
    if (over_) {
      if (away * 2 <= in_service) return;
      over_ = false;
      began_ns_ = now_ns;
    }
    changed_ns_ = now_ns;
  }
  // Asked often; `away` as above.
  bool Over(int64_t now_ns, uint32_t away) {
    if (over_) return true;
    if (began_ns_ == 0) began_ns_ = changed_ns_ = now_ns;
    over_ = away == 0 || now_ns - changed_ns_ >= kQuietNanos || now_ns - began_ns_ >= kLongestNanos;
    return over_;
  }
  bool over() const { return over_; }

 private:
  bool over_ = false;
  int64_t began_ns_ = 0;
  int64_t changed_ns_ = 0;
};

}  // namespace cairn::master
