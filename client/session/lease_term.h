// Until when this client may use its leases: the arithmetic of DESIGN section 5, without a network and a clock.
//
//   term.Start(sent_ns, lease_ns)      // a Hello that was sent then was answered
//   number = term.Sent(now_ns)         // a renewal leaves
//   term.Renewed(number, now_ns)       // its answer: the term is counted from when it was *sent*
//   now_ns < term.valid_until_ns()     // leases may be used
//
// The master counts from when it *received* the renewal, which is later, and adds 3 % (SessionRegistry); the client
// takes 5 % off. So it stops before the master gives anything away as long as their clocks run within 8 % of
// each other, however long either was paused.
//
// Thread-safety: valid_until_ns() may be called from any thread; the rest has one owner at a time (Session's mutex).
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <iterator>
#include <map>

#include "common/service_rules.h"

namespace cairn::client {

class LeaseTerm {
 public:
  explicit LeaseTerm(ServiceRules rules = {}) : rules_(rules) {}

  void Start(int64_t sent_ns, int64_t lease_ns) {
    lease_ns_ = lease_ns;
    sent_.clear();
    valid_until_ns_.store(sent_ns + Usable(), std::memory_order_release);
  }
  // The session was lost: nothing may be used any more.
  void End() {
    sent_.clear();
    valid_until_ns_.store(0, std::memory_order_release);
  }
  // A renewal is about to be sent; answers its number.
  uint64_t Sent(int64_t now_ns) {
    sent_.emplace(next_number_, now_ns);
    return next_number_++;
  }
  // False: the answer to a renewal of another stream, or to one that a later one has overtaken.
  bool Renewed(uint64_t number, int64_t now_ns) {
    const auto it = sent_.find(number);
    if (it == sent_.end()) return false;
    const int64_t from_ns = rules_.Hold(ServiceRule::kCountFromSending) ? it->second : now_ns;
    sent_.erase(sent_.begin(), std::next(it));
    const int64_t until_ns = std::max(from_ns + Usable(), valid_until_ns());
    valid_until_ns_.store(until_ns, std::memory_order_release);
    return true;
  }
  // Renewals without an answer.
  bool waiting() const { return !sent_.empty(); }

  int64_t valid_until_ns() const { return valid_until_ns_.load(std::memory_order_acquire); }

 private:
  int64_t Usable() const { return rules_.Hold(ServiceRule::kLeaseMargin) ? lease_ns_ / 20 * 19 : lease_ns_; }

  const ServiceRules rules_;
  int64_t lease_ns_ = 0;
  uint64_t next_number_ = 1;
  std::map<uint64_t, int64_t> sent_;  // number -> when
  std::atomic<int64_t> valid_until_ns_{0};
};

}  // namespace cairn::client
