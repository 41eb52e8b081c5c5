#include "common/net/event_loop.h"

#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>

#include "common/check.h"

namespace cairn::net {
namespace {

constexpr int kEventsPerWait = 128;
constexpr EventLoop::WatchId kWakeWatch = 0;

}  // namespace

EventLoop::EventLoop(const Clock* clock)
    : clock_(clock),
      epoll_fd_(epoll_create1(EPOLL_CLOEXEC)),
      wake_fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  CAIRN_CHECK(epoll_fd_ >= 0 && wake_fd_ >= 0, std::string("no event loop: ") + std::strerror(errno));
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = kWakeWatch;
  CAIRN_CHECK(epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, wake_fd_, &event) == 0, std::strerror(errno));
}

EventLoop::~EventLoop() {
  // Handlers and tasks may own objects that unwatch in their destructors: take them out before they go.
  std::unordered_map<WatchId, Watched> watched;
  watched.swap(watched_);
  std::map<std::pair<int64_t, TimerId>, Task> timers;
  timers.swap(timers_);
  timer_deadlines_.clear();
  watched.clear();
  timers.clear();
  std::vector<Task> deferred;
  deferred.swap(deferred_);
  deferred.clear();
  std::vector<Task> sends;
  sends.swap(sends_);
  sends.clear();
  std::vector<Task> posted;
  {
    std::lock_guard lock(mu_);
    posted.swap(posted_);
  }
  posted.clear();
  close(wake_fd_);
  close(epoll_fd_);
}

bool EventLoop::InLoopThread() const {
  return runner_.load(std::memory_order_acquire) == std::this_thread::get_id();
}

void EventLoop::Post(Task task) {
  bool wake = false;
  {
    std::lock_guard lock(mu_);
    wake = posted_.empty();
    posted_.push_back(std::move(task));
  }
  if (wake) Wake();
}

void EventLoop::Wake() {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t ignored = write(wake_fd_, &one, sizeof(one));  // full means: awake already
}

bool EventLoop::TryRun(const Task& task) {
  if (!Running()) return false;
  bool wake = false;
  {
    const std::unique_lock lock(run_mu_, std::try_to_lock);
    if (!lock || !Running()) return false;
    runner_.store(std::this_thread::get_id(), std::memory_order_release);
    task();
    RunSends();
    wake = !deferred_.empty() || (!timers_.empty() && timers_.begin()->first.first < waits_until_ns_);
    runner_.store(std::thread::id{}, std::memory_order_release);
  }
  if (wake) Wake();
  return true;
}

bool EventLoop::Running() const { return running_.load(std::memory_order_acquire); }

void EventLoop::Stop() {
  Post([this] { stopping_.store(true, std::memory_order_release); });
}

EventLoop::WatchId EventLoop::Watch(int fd, uint32_t epoll_events, std::shared_ptr<FdHandler> handler) {
  const WatchId id = next_watch_++;
  epoll_event event{};
  event.events = epoll_events;
  event.data.u64 = id;
  CAIRN_CHECK(epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, fd, &event) == 0, std::strerror(errno));
  watched_.emplace(id, Watched{fd, std::move(handler)});
  return id;
}

void EventLoop::Modify(WatchId id, uint32_t epoll_events) {
  const auto found = watched_.find(id);
  if (found == watched_.end()) return;
  epoll_event event{};
  event.events = epoll_events;
  event.data.u64 = id;
  CAIRN_CHECK(epoll_ctl(epoll_fd_, EPOLL_CTL_MOD, found->second.fd, &event) == 0, std::strerror(errno));
}

void EventLoop::Unwatch(WatchId id) {
  const auto found = watched_.find(id);
  if (found == watched_.end()) return;
  epoll_ctl(epoll_fd_, EPOLL_CTL_DEL, found->second.fd, nullptr);
  watched_.erase(found);
}

EventLoop::TimerId EventLoop::AddTimer(int64_t deadline_ns, Task task) {
  const TimerId id = next_timer_++;
  timers_.emplace(std::make_pair(deadline_ns, id), std::move(task));
  timer_deadlines_.emplace(id, deadline_ns);
  return id;
}

void EventLoop::CancelTimer(TimerId id) {
  const auto found = timer_deadlines_.find(id);
  if (found == timer_deadlines_.end()) return;
  timers_.erase({found->second, id});
  timer_deadlines_.erase(found);
}

void EventLoop::RunPosted() {
  std::vector<Task> tasks;
  {
    std::lock_guard lock(mu_);
    tasks.swap(posted_);
  }
  for (Task& task : tasks) {
    task();
    task = nullptr;  // what it captured goes before the next one runs
  }
}

void EventLoop::RunTimers() {
  if (timers_.empty()) return;
  const int64_t now = clock_->NowNanos();
  while (!timers_.empty() && timers_.begin()->first.first <= now) {
    const auto first = timers_.begin();
    Task task = std::move(first->second);
    timer_deadlines_.erase(first->first.second);
    timers_.erase(first);
    task();
  }
}

void EventLoop::RunDeferred() {
  RunSends();
  while (!deferred_.empty()) {
    std::vector<Task> tasks;
    tasks.swap(deferred_);
    for (Task& task : tasks) task();
    RunSends();
  }
}

void EventLoop::RunSends() {
  while (!sends_.empty()) {
    std::vector<Task> tasks;
    tasks.swap(sends_);
    for (Task& task : tasks) task();
  }
}

int EventLoop::WaitMillis() const {
  if (!deferred_.empty() || !sends_.empty()) return 0;
  if (timers_.empty()) return -1;
  const int64_t left = timers_.begin()->first.first - clock_->NowNanos();
  if (left <= 0) return 0;
  return static_cast<int>(std::min<int64_t>((left + kNanosPerMilli - 1) / kNanosPerMilli, 60'000));
}

void EventLoop::Run() {
  std::unique_lock lock(run_mu_);
  runner_.store(std::this_thread::get_id(), std::memory_order_release);
  running_.store(true, std::memory_order_release);
  std::array<epoll_event, kEventsPerWait> events;
  while (!stopping_.load(std::memory_order_acquire)) {
    const int wait_ms = WaitMillis();
    waits_until_ns_ = wait_ms < 0 ? INT64_MAX : clock_->NowNanos() + wait_ms * kNanosPerMilli;
    runner_.store(std::thread::id{}, std::memory_order_release);
    lock.unlock();
    const int count = epoll_wait(epoll_fd_, events.data(), kEventsPerWait, wait_ms);
    CAIRN_CHECK(count >= 0 || errno == EINTR, std::strerror(errno));
    lock.lock();
    runner_.store(std::this_thread::get_id(), std::memory_order_release);
    const int64_t started = clock_->NowNanos();
    bool woken = false;
    for (int i = 0; i < count; ++i) {
      const WatchId id = events[i].data.u64;
      if (id == kWakeWatch) {
        woken = true;
        continue;
      }
      const auto found = watched_.find(id);
      if (found == watched_.end()) continue;  // unwatched by an earlier event of this round
      const std::shared_ptr<FdHandler> handler = found->second.handler;
      handler->OnEvents(events[i].events);
    }
    if (woken) {
      uint64_t ignored = 0;
      [[maybe_unused]] const ssize_t bytes = read(wake_fd_, &ignored, sizeof(ignored));
      RunPosted();
    }
    RunTimers();
    RunDeferred();
    busy_ns_.fetch_add(clock_->NowNanos() - started, std::memory_order_relaxed);
  }
  RunPosted();
  RunDeferred();
  running_.store(false, std::memory_order_release);
  runner_.store(std::thread::id{}, std::memory_order_release);
}

EventLoopThread::EventLoopThread(const std::string& name, const Clock* clock) : loop_(clock) {
  thread_ = std::thread([this, name] {
    pthread_setname_np(pthread_self(), name.substr(0, 15).c_str());
    loop_.Run();
  });
}

EventLoopThread::~EventLoopThread() { Stop(); }

void EventLoopThread::Stop() {
  if (!thread_.joinable()) return;
  loop_.Stop();
  thread_.join();
}

}  // namespace cairn::net
