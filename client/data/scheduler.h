// Threads for work that may block (calls to the master) and for what is due later (idle flushes, retries,
// time limits).
//
// Threads are started as work arrives while all others are busy, up to a bound, and end after some idle time:
// one file whose replicas are being replaced must not keep the others from announcing their next chunks.
// Thread-safety: all methods may be called from any thread.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <thread>
#include <unordered_map>

namespace cairn::client {

class Scheduler {
 public:
  using Work = std::function<void()>;

  explicit Scheduler(size_t max_threads = 32);
  ~Scheduler();  // runs what is queued, forgets what is only due later, joins
  Scheduler(const Scheduler&) = delete;
  Scheduler& operator=(const Scheduler&) = delete;

  void Run(Work work);
  void RunAfter(int64_t delay_ms, Work work);

 private:
  void WorkerLoop(uint64_t worker);
  void TimerLoop();
  void EnqueueLocked(Work work);

  const size_t max_threads_;  // constant after construction

  std::mutex mu_;
  std::condition_variable work_ready_;
  std::condition_variable timer_changed_;
  // guarded by mu_:
  std::deque<Work> queue_;
  std::multimap<std::chrono::steady_clock::time_point, Work> due_;
  std::unordered_map<uint64_t, std::thread> workers_;
  std::deque<std::thread> ended_;
  uint64_t next_worker_ = 0;
  size_t idle_ = 0;
  bool stopping_ = false;

  std::thread timer_;
};

}  // namespace cairn::client
