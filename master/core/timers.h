// Things the core does later. Thread-safety: none; owned by the core thread.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <utility>

namespace cairn::master {

class Timers {
 public:
  using Id = std::pair<int64_t, uint64_t>;

  Id At(int64_t when_ns, std::function<void()> call) {
    const Id id{when_ns, next_++};
    calls_.emplace(id, std::move(call));
    return id;
  }
  void Cancel(Id id) { calls_.erase(id); }
  int64_t NextTime() const {
    return calls_.empty() ? std::numeric_limits<int64_t>::max() : calls_.begin()->first.first;
  }
  // Runs everything due at `now_ns`, also what those calls add for times up to then.
  void Run(int64_t now_ns) {
    while (!calls_.empty() && calls_.begin()->first.first <= now_ns) {
      auto call = std::move(calls_.begin()->second);
      calls_.erase(calls_.begin());
      call();
    }
  }

 private:
  uint64_t next_ = 0;
  std::map<Id, std::function<void()>> calls_;
};

}  // namespace cairn::master
