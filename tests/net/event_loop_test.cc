#include "common/net/event_loop.h"

#include <gtest/gtest.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <future>
#include <thread>

namespace cairn::net {
namespace {

TEST(EventLoopTest, PostedWorkRunsInOrderOnTheLoop) {
  EventLoopThread thread;
  std::vector<int> order;
  std::promise<bool> done;
  for (int i = 0; i < 1000; ++i) thread.loop()->Post([&order, i] { order.push_back(i); });
  thread.loop()->Post([&] { done.set_value(thread.loop()->InLoopThread()); });
  EXPECT_TRUE(done.get_future().get());
  EXPECT_FALSE(thread.loop()->InLoopThread());
  ASSERT_EQ(order.size(), 1000u);
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(order[static_cast<size_t>(i)], i);
}

TEST(EventLoopTest, WorkPostedBeforeStopIsRun) {
  int ran = 0;
  {
    EventLoopThread thread;
    for (int i = 0; i < 100; ++i) thread.loop()->Post([&ran] { ++ran; });
  }
  EXPECT_EQ(ran, 100);
}

TEST(EventLoopTest, TimersRunInOrderOfTheirDeadlinesAndCanBeCancelled) {
  EventLoopThread thread;
  std::vector<int> order;
  std::promise<void> done;
  thread.loop()->Post([&] {
    EventLoop* loop = thread.loop();
    const int64_t now = loop->clock()->NowNanos();
    loop->AddTimer(now + 3 * kNanosPerMilli, [&] {
      order.push_back(3);
      done.set_value();
    });
    const auto cancelled = loop->AddTimer(now + 2 * kNanosPerMilli, [&] { order.push_back(2); });
    loop->AddTimer(now + kNanosPerMilli, [&] { order.push_back(1); });
    loop->CancelTimer(cancelled);
    loop->CancelTimer(cancelled);
    loop->CancelTimer(0);
  });
  done.get_future().wait();
  EXPECT_EQ(order, (std::vector<int>{1, 3}));
}

TEST(EventLoopTest, DeferredWorkRunsAfterTheRestOfTheRound) {
  EventLoopThread thread;
  std::vector<int> order;
  std::promise<void> done;
  thread.loop()->Post([&] {
    thread.loop()->Defer([&] {
      order.push_back(2);
      thread.loop()->Defer([&] { done.set_value(); });
    });
    order.push_back(1);
  });
  done.get_future().wait();
  EXPECT_EQ(order, (std::vector<int>{1, 2}));
}

class PipeReader final : public FdHandler {
 public:
  PipeReader(EventLoop* loop, int fd, std::promise<char>* got) : loop_(loop), fd_(fd), got_(got) {}
  void OnEvents(uint32_t events) override {
    char byte = 0;
    if (read(fd_, &byte, 1) == 1) got_->set_value(byte);
    loop_->Unwatch(watch);
  }
  EventLoop::WatchId watch = 0;

 private:
  EventLoop* loop_;
  int fd_;
  std::promise<char>* got_;
};

TEST(EventLoopTest, DescriptorsAreWatchedUntilUnwatched) {
  int fds[2];
  ASSERT_EQ(pipe(fds), 0);
  std::promise<char> got;
  {
    EventLoopThread thread;
    thread.loop()->Post([&] {
      auto reader = std::make_shared<PipeReader>(thread.loop(), fds[0], &got);
      reader->watch = thread.loop()->Watch(fds[0], EPOLLIN, reader);
    });
    ASSERT_EQ(write(fds[1], "xy", 2), 2);
    EXPECT_EQ(got.get_future().get(), 'x');
  }
  close(fds[0]);
  close(fds[1]);
}

// Until the loop waits for events: it may be busy with an earlier task.
void RunInPlaceOf(EventLoop* loop, const EventLoop::Task& task) {
  while (!loop->TryRun(task)) std::this_thread::yield();
}

TEST(EventLoopTest, AnotherThreadMayRunATaskWhileTheLoopWaits) {
  EventLoopThread thread;
  const auto here = std::this_thread::get_id();
  std::thread::id ran;
  bool in_loop = false, sent = false;
  RunInPlaceOf(thread.loop(), [&] {
    ran = std::this_thread::get_id();
    in_loop = thread.loop()->InLoopThread();
    thread.loop()->DeferSend([&] { sent = true; });
  });
  EXPECT_EQ(ran, here);
  EXPECT_TRUE(in_loop);
  EXPECT_TRUE(sent);
  EXPECT_FALSE(thread.loop()->InLoopThread());
}

TEST(EventLoopTest, WhatSuchATaskLeavesIsDoneByTheLoop) {
  EventLoopThread thread;
  std::promise<std::thread::id> deferred, timed;
  RunInPlaceOf(thread.loop(), [&] {
    thread.loop()->Defer([&] { deferred.set_value(std::this_thread::get_id()); });
  });
  EXPECT_NE(deferred.get_future().get(), std::this_thread::get_id());
  RunInPlaceOf(thread.loop(), [&] {
    thread.loop()->AddTimer(thread.loop()->clock()->NowNanos() + kNanosPerMilli,
                            [&] { timed.set_value(std::this_thread::get_id()); });
  });
  EXPECT_NE(timed.get_future().get(), std::this_thread::get_id());
}

TEST(EventLoopTest, OnlyOneRunsAtATime) {
  EventLoopThread thread;
  std::promise<void> busy, go_on;
  thread.loop()->Post([&] {
    busy.set_value();
    go_on.get_future().wait();
  });
  busy.get_future().wait();
  EXPECT_FALSE(thread.loop()->TryRun([] { ADD_FAILURE() << "the loop was busy"; }));
  go_on.set_value();
  thread.Stop();
  EXPECT_FALSE(thread.loop()->TryRun([] { ADD_FAILURE() << "the loop has ended"; }));
}

}  // namespace
}  // namespace cairn::net
