// An epoll loop on one thread: descriptors, timers, and work posted from other threads.
//
//   EventLoopThread thread("data");
//   thread.loop()->Post([&] { ... });       // runs on the loop's thread
//
// Nothing that runs on the loop may block: everything that shares it would wait.
//
// While the loop's thread waits for events, another thread may run a task in its place (TryRun): that saves waking it for work that
// needs no event, such as sending. "On the loop's thread" below means: by whoever runs it at the moment; only one does.
//
// Thread-safety: Post, TryRun, Stop, InLoopThread, clock and BusyNanos may be called from any thread, the rest only
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

  // Runs `task` at once on the calling thread if the loop waits for events just now; otherwise false, and nothing was done. What
  // the task defers with DeferSend is done before this returns, other deferred work by the loop's thread. Not on the loop's thread.
  bool TryRun(const Task& task);

  // Runs `task` once at the end of the present round, before waiting again: for work that is better done once
  // for all that happens in a round, such as sending. Loop's thread only.
  void Defer(Task task) { deferred_.push_back(std::move(task)); }
  // The same for tasks that send and call nobody back.
  void DeferSend(Task task) { sends_.push_back(std::move(task)); }

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
  void RunSends();
  void Wake();
  int WaitMillis() const;

  const Clock* const clock_;
  const int epoll_fd_;
  const int wake_fd_;
  std::atomic<bool> running_{false};
  std::mutex run_mu_;  // held by whoever runs something: what is "of the loop's thread" is guarded by it
  std::atomic<std::thread::id> runner_{};  // who that is; set under run_mu_
  std::atomic<bool> stopping_{false};
  std::atomic<int64_t> busy_ns_{0};

  // Of the loop's thread.
  uint64_t next_watch_ = 1;
  std::unordered_map<WatchId, Watched> watched_;
  uint64_t next_timer_ = 1;
  std::map<std::pair<int64_t, TimerId>, Task> timers_;
  std::unordered_map<TimerId, int64_t> timer_deadlines_;
  std::vector<Task> deferred_;
  std::vector<Task> sends_;
  int64_t waits_until_ns_ = 0;  // the loop's thread, for events; what is due earlier must wake it

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
