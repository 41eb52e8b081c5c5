#include "client/data/server_trust.h"

#include <algorithm>

namespace cairn::client {

void ServerTrust::DistrustLocked(Entry& entry, int64_t now_ns) {
  entry.late = entry.good = 0;
  if (now_ns < entry.until_ns) return;  // asked before it was distrusted
  entry.until_ns = now_ns + entry.next_nanos;
  entry.next_nanos = std::min(2 * entry.next_nanos, kLongestNanos);
}

void ServerTrust::Disappointed(ServerId server, int64_t now_ns) {
  std::lock_guard lock(mu_);
  DistrustLocked(entries_[server], now_ns);
  known_.store(entries_.size(), std::memory_order_release);
}

void ServerTrust::AnsweredLate(ServerId server, int64_t now_ns) {
  std::lock_guard lock(mu_);
  Entry& entry = entries_[server];
  entry.good = 0;
  if (++entry.late >= kSlowAnswers) DistrustLocked(entry, now_ns);
  known_.store(entries_.size(), std::memory_order_release);
}

void ServerTrust::Answered(ServerId server, int64_t now_ns) {
  if (known_.load(std::memory_order_acquire) == 0) return;
  std::lock_guard lock(mu_);
  const auto found = entries_.find(server);
  if (found == entries_.end()) return;
  Entry& entry = found->second;
  entry.late = 0;
  if (now_ns < entry.until_ns || ++entry.good < kGoodAnswers) return;
  entries_.erase(found);
  known_.store(entries_.size(), std::memory_order_release);
}

bool ServerTrust::Distrusted(ServerId server, int64_t now_ns) const {
  if (known_.load(std::memory_order_acquire) == 0) return false;
  std::lock_guard lock(mu_);
  const auto found = entries_.find(server);
  return found != entries_.end() && now_ns < found->second.until_ns;
}

}  // namespace cairn::client
