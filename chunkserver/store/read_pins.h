// Keeps what readers are reading: space is given back only after every reader that may have looked up a
// reference to it is done. Readers never wait. Thread-safety: all methods from any thread.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <map>
#include <mutex>

namespace cairn::chunkserver {

class ReadPins {
 public:
  class Pin {
   public:
    explicit Pin(ReadPins* pins) : pins_(pins), ticket_(pins->Enter()) {}
    ~Pin() { pins_->Leave(ticket_); }
    Pin(const Pin&) = delete;
    Pin& operator=(const Pin&) = delete;

   private:
    ReadPins* const pins_;
    const uint64_t ticket_;
  };

  // Returns when every pin taken before the call is gone.
  void WaitForEarlier() {
    std::unique_lock lock(mu_);
    const uint64_t limit = next_++;
    left_.wait(lock, [&] { return active_.empty() || active_.begin()->first > limit; });
  }

 private:
  uint64_t Enter() {
    std::lock_guard lock(mu_);
    active_[next_] = true;
    return next_++;
  }
  void Leave(uint64_t ticket) {
    std::lock_guard lock(mu_);
    active_.erase(ticket);
    left_.notify_all();
  }

  std::mutex mu_;
  std::condition_variable left_;
  uint64_t next_ = 0;
  std::map<uint64_t, bool> active_;
};

}  // namespace cairn::chunkserver
