// An epoll loop on one thread: descriptors, timers, and work posted from other threads.
//
//   EventLoopThread thread("data");
//   thread.loop()->Post([&] { ... });       // runs on the loop's thread
//
// Nothing that runs on the loop may block: everything that shares it would wait.
//
// Thread-safety: Post, Stop, InLoopThread, clock and BusyNanos may be called from any thread, the rest only
// on the loop's thread (or before Run).
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "common/clock.h"

namespace cairn::net {

// Told about events of a descriptor. Kept alive by the loop until Unwatch.
class FdHandler {
 public:
  virtual ~FdHandler() = default;
  virtual void OnEvents(uint32_t epoll_events) = 0;
};

class EventLoop {
 public:
  using Task = std::function<void()>;
  using WatchId = uint64_t;
  using TimerId = uint64_t;  // 0: none

  explicit EventLoop(const Clock* clock = SystemClock::Get());
  ~EventLoop();
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;

  // Runs until Stop. Work that was posted before Stop took effect is still run.
  void Run();
  void Stop();
  bool InLoopThread() const;
  bool Running() const;  // between the start and the end of Run
  const Clock* clock() const { return clock_; }

  // Runs `task` on the loop's thread, in order of posting. Also when the loop has not started yet; a task
  // posted after it has ended is destroyed with the loop. The producer bounds how much it posts.
  void Post(Task task);

  // Runs `task` once at the end of the present round, before waiting again: for work that is better done once
  // for all that happens in a round, such as sending. Loop's thread only.
  void Defer(Task task) { deferred_.push_back(std::move(task)); }

  // Level-triggered. The events are EPOLLIN and so on; errors and hang-ups are always reported.
  WatchId Watch(int fd, uint32_t epoll_events, std::shared_ptr<FdHandler> handler);
  void Modify(WatchId id, uint32_t epoll_events);
  void Unwatch(WatchId id);  // before the descriptor is closed

  // Runs `task` once at or after `deadline_ns` of the clock.
  TimerId AddTimer(int64_t deadline_ns, Task task);
  void CancelTimer(TimerId id);

  // Time spent working instead of waiting, since the start.
  int64_t BusyNanos() const { return busy_ns_.load(std::memory_order_relaxed); }

 private:
  struct Watched {
    int fd;
    std::shared_ptr<FdHandler> handler;
  };
  void RunPosted();
  void RunTimers();
  void RunDeferred();
  int WaitMillis() const;

  const Clock* const clock_;
  const int epoll_fd_;
  const int wake_fd_;
  std::atomic<std::thread::id> thread_{};
  std::atomic<bool> stopping_{false};
  std::atomic<int64_t> busy_ns_{0};

  // Of the loop's thread.
  uint64_t next_watch_ = 1;
  std::unordered_map<WatchId, Watched> watched_;
  uint64_t next_timer_ = 1;
  std::map<std::pair<int64_t, TimerId>, Task> timers_;
  std::unordered_map<TimerId, int64_t> timer_deadlines_;
  std::vector<Task> deferred_;

  std::mutex mu_;
  std::vector<Task> posted_;  // guarded by mu_
};

// A thread that runs a loop. The destructor stops the loop and joins.
class EventLoopThread {
 public:
  explicit EventLoopThread(const std::string& name = "loop", const Clock* clock = SystemClock::Get());
  ~EventLoopThread();
  EventLoop* loop() { return &loop_; }
  void Stop();  // and join

 private:
  EventLoop loop_;
  std::thread thread_;
};

}  // namespace cairn::net
