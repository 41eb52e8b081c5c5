// Messages of one control stream that wait to be sent, bounded.
//
// Thread-safety: all methods may be called from any thread.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <utility>

#include "proto/cairn/cluster.pb.h"

namespace cairn::chunkserver {

class Outbox {
 public:
  explicit Outbox(size_t max_messages) : max_messages_(max_messages) {}

  // Waits for room. False when the stream has ended; the message is then dropped.
  bool Push(proto::ChunkserverMessage message) {
    std::unique_lock lock(mu_);
    room_.wait(lock, [this] { return closed_ || queue_.size() < max_messages_; });
    if (closed_) return false;
    queue_.push_back(std::move(message));
    filled_.notify_one();
    return true;
  }
  // As Push, but drops the message instead of waiting.
  bool TryPush(proto::ChunkserverMessage message) {
    std::lock_guard lock(mu_);
    if (closed_ || queue_.size() >= max_messages_) return false;
    queue_.push_back(std::move(message));
    filled_.notify_one();
    return true;
  }
  // The next message; nothing when none came within `millis` or the stream has ended.
  std::optional<proto::ChunkserverMessage> Pop(int64_t millis) {
    std::unique_lock lock(mu_);
    filled_.wait_for(lock, std::chrono::milliseconds(millis), [this] { return closed_ || !queue_.empty(); });
    if (closed_ || queue_.empty()) return std::nullopt;
    proto::ChunkserverMessage message = std::move(queue_.front());
    queue_.pop_front();
    room_.notify_one();
    return message;
  }
  void Close() {
    {
      std::lock_guard lock(mu_);
      closed_ = true;
      queue_.clear();
    }
    room_.notify_all();
    filled_.notify_all();
  }
  bool closed() const {
    std::lock_guard lock(mu_);
    return closed_;
  }

 private:
  const size_t max_messages_;
  mutable std::mutex mu_;
  std::condition_variable room_;
  std::condition_variable filled_;
  std::deque<proto::ChunkserverMessage> queue_;  // guarded by mu_
  bool closed_ = false;                          // guarded by mu_
};

}  // namespace cairn::chunkserver
