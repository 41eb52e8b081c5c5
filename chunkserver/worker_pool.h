// A few threads for work that blocks on a disk or on a peer, behind a bounded queue.
//
// Thread-safety: all methods may be called from any thread, except the destructor.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace cairn::chunkserver {

class WorkerPool {
 public:
  WorkerPool(const std::string& name, size_t threads, size_t max_queued);
  ~WorkerPool();  // as Stop
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  // False when the queue is full or the pool was stopped; the task is then not taken.
  [[nodiscard]] bool TrySubmit(std::function<void()> task);
  // Runs what is queued, then ends the threads.
  void Stop();
  size_t queued() const;

 private:
  void Run();

  const size_t max_queued_;
  mutable std::mutex mu_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> queue_;  // guarded by mu_
  bool stopping_ = false;                    // guarded by mu_
  std::vector<std::thread> threads_;
};

}  // namespace cairn::chunkserver
