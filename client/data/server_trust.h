// From which chunkservers this client reads last for a while: they did not answer, others that were asked after them were faster, or they
// are slow again and again. One server that is slow but not dead would otherwise cost every read that prefers it the time of a hedge.
//
// Hysteresis: kFirstNanos at first, twice as long each time that it disappoints again after it was taken back (at most kLongestNanos), and
// forgotten after kGoodAnswers in the usual time.
// Thread-safety: all methods may be called from any thread; without distrusted servers Distrusted takes no lock.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <unordered_map>

#include "common/clock.h"
#include "common/ids.h"

namespace cairn::client {

class ServerTrust {
 public:
  static constexpr int64_t kFirstNanos = 5 * kNanosPerSecond;
  static constexpr int64_t kLongestNanos = 80 * kNanosPerSecond;
  static constexpr uint32_t kGoodAnswers = 16;
  static constexpr uint32_t kSlowAnswers = 3;  // in a row

  // It did not answer, or was overtaken.
  void Disappointed(ServerId server, int64_t now_ns);
  // It answered, much later than others do.
  void AnsweredLate(ServerId server, int64_t now_ns);
  void Answered(ServerId server, int64_t now_ns);
  bool Distrusted(ServerId server, int64_t now_ns) const;

 private:
  struct Entry {
    int64_t until_ns = 0;
    int64_t next_nanos = kFirstNanos;
    uint32_t late = 0;
    uint32_t good = 0;
  };
  void DistrustLocked(Entry& entry, int64_t now_ns);

  std::atomic<size_t> known_{0};  // entries_.size()
  mutable std::mutex mu_;
  std::unordered_map<ServerId, Entry> entries_;  // guarded by mu_
};

}  // namespace cairn::client
