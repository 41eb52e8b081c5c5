#include "client/data/scheduler.h"

#include <utility>

namespace cairn::client {
namespace {
constexpr std::chrono::seconds kIdleBeforeEnd{10};
}  // namespace

Scheduler::Scheduler(size_t max_threads) : max_threads_(max_threads), timer_([this] { TimerLoop(); }) {}

Scheduler::~Scheduler() {
  {
    std::lock_guard lock(mu_);
    stopping_ = true;
    due_.clear();
  }
  work_ready_.notify_all();
  timer_changed_.notify_all();
  timer_.join();
  std::unordered_map<uint64_t, std::thread> workers;
  std::deque<std::thread> ended;
  {
    std::lock_guard lock(mu_);
    workers.swap(workers_);
    ended.swap(ended_);
  }
  for (auto& [id, thread] : workers) thread.join();
  for (std::thread& thread : ended) thread.join();
}

void Scheduler::Run(Work work) {
  std::lock_guard lock(mu_);
  EnqueueLocked(std::move(work));
}

void Scheduler::EnqueueLocked(Work work) {
  queue_.push_back(std::move(work));
  for (std::thread& thread : ended_) thread.join();  // they have released mu_ for the last time already
  ended_.clear();
  if (idle_ >= queue_.size()) {
    work_ready_.notify_one();
  } else if (workers_.size() < max_threads_ && !stopping_) {
    const uint64_t id = next_worker_++;
    workers_.emplace(id, std::thread([this, id] { WorkerLoop(id); }));
  }
}

void Scheduler::RunAfter(int64_t delay_ms, Work work) {
  std::lock_guard lock(mu_);
  if (stopping_) return;
  const auto at = std::chrono::steady_clock::now() + std::chrono::milliseconds(delay_ms);
  auto it = due_.emplace(at, std::move(work));
  if (it == due_.begin()) timer_changed_.notify_one();
}

void Scheduler::WorkerLoop(uint64_t worker) {
  std::unique_lock lock(mu_);
  for (;;) {
    if (queue_.empty()) {
      if (stopping_) return;
      ++idle_;
      const bool woken =
          work_ready_.wait_for(lock, kIdleBeforeEnd, [&] { return stopping_ || !queue_.empty(); });
      --idle_;
      if (!woken) {
        auto self = workers_.find(worker);
        if (self == workers_.end()) return;  // the destructor took the thread and joins it
        ended_.push_back(std::move(self->second));
        workers_.erase(self);
        return;
      }
      continue;
    }
    Work work = std::move(queue_.front());
    queue_.pop_front();
    lock.unlock();
    work();
    work = nullptr;  // what it captured goes before the lock is taken again
    lock.lock();
  }
}

void Scheduler::TimerLoop() {
  std::unique_lock lock(mu_);
  while (!stopping_) {
    if (due_.empty()) {
      timer_changed_.wait(lock);
      continue;
    }
    const auto at = due_.begin()->first;
    if (std::chrono::steady_clock::now() < at) {
      timer_changed_.wait_until(lock, at);
      continue;
    }
    Work work = std::move(due_.begin()->second);
    due_.erase(due_.begin());
    EnqueueLocked(std::move(work));
  }
}

}  // namespace cairn::client
