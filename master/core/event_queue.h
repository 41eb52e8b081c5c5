// The core's inbox. Streams are bounded where they are read (each stops reading while its window of
// unconsumed messages is full), so the queue holds at most streams × window messages; calls are refused
// beyond their own bound.
//
// Thread-safety: Push and Wake from any thread, Drain from the core thread.
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>

#include "master/core/channels.h"

namespace cairn::master {

class EventQueue {
 public:
  explicit EventQueue(size_t max_calls = 1024) : max_calls_(max_calls) {}

  // For an owner that waits for more than this queue: called, without a lock and by whichever thread, when there is something
  // to drain. Set before use.
  void SetWaker(std::function<void()> waker) { waker_ = std::move(waker); }

  // False for a CallEvent when too many of them wait, and for everything after Close.
  bool Push(Event event) {
    const bool is_call = std::holds_alternative<CallEvent>(event);
    {
      std::lock_guard lock(mu_);
      if (closed_ || (is_call && calls_ >= max_calls_)) return false;
      if (is_call) ++calls_;
      events_.push_back(std::move(event));
    }
    Notify();
    return true;
  }

  // Makes a waiting Drain return.
  void Wake() {
    {
      std::lock_guard lock(mu_);
      woken_ = true;
    }
    Notify();
  }

  // Up to `limit` events, in order; waits at most `wait` for the first one. An empty answer: nothing came, or
  // Wake.
  std::deque<Event> Drain(size_t limit, std::chrono::nanoseconds wait) {
    std::unique_lock lock(mu_);
    if (wait.count() > 0) {
      ready_.wait_for(lock, wait, [&] { return !events_.empty() || woken_ || closed_; });
    }
    woken_ = false;
    std::deque<Event> taken;
    while (!events_.empty() && taken.size() < limit) {
      if (std::holds_alternative<CallEvent>(events_.front())) --calls_;
      taken.push_back(std::move(events_.front()));
      events_.pop_front();
    }
    return taken;
  }

  void Close() {
    {
      std::lock_guard lock(mu_);
      closed_ = true;
    }
    Notify();
  }
  bool empty() {
    std::lock_guard lock(mu_);
    return events_.empty();
  }

 private:
  void Notify() {
    if (waker_) {
      waker_();
    } else {
      ready_.notify_one();
    }
  }

  const size_t max_calls_;  // constant after construction
  std::function<void()> waker_;
  std::mutex mu_;
  std::condition_variable ready_;
  // Guarded by mu_.
  std::deque<Event> events_;
  size_t calls_ = 0;
  bool woken_ = false;
  bool closed_ = false;
};

}  // namespace cairn::master
