// The kernel's requests that are being served: what they are and since when, so that somebody who asks why a
// program hangs gets an answer. Thread-safety: any thread.
#pragma once

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <list>
#include <mutex>
#include <vector>

#include "common/clock.h"
#include "fuse/operation_metrics.h"

namespace cairn::fuse {

class RequestsInProgress {
 public:
  struct Request {
    const char* operation = "";  // a literal
    pid_t thread = 0;
    int64_t since_ns = 0;
  };
  using Entry = std::list<Request>::iterator;

  explicit RequestsInProgress(const Clock* clock, OperationMetrics* metrics = nullptr)
      : clock_(clock), metrics_(metrics) {}

 private:
  struct Shard {
    mutable std::mutex mu;
    std::list<Request> requests;  // guarded by mu
  };
  static constexpr size_t kShards = 16;

 public:
  class Scope {
   public:
    Scope(RequestsInProgress& all, const char* operation, pid_t thread)
        : all_(all), shard_(all.shards_[static_cast<size_t>(thread) % kShards]) {
      const std::lock_guard lock(shard_.mu);
      shard_.requests.push_back({operation, thread, all.clock_->NowNanos()});
      entry_ = std::prev(shard_.requests.end());
    }
    ~Scope() {
      if (all_.metrics_ != nullptr)
        all_.metrics_->Served(entry_->operation, all_.clock_->NowNanos() - entry_->since_ns);
      const std::lock_guard lock(shard_.mu);
      shard_.requests.erase(entry_);
    }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    RequestsInProgress& all_;
    Shard& shard_;
    Entry entry_;
  };

  // All of them, those that wait longest first.
  std::vector<Request> All() const;

 private:
  const Clock* const clock_;
  OperationMetrics* const metrics_;  // may be null
  std::array<Shard, kShards> shards_;
};

}  // namespace cairn::fuse
