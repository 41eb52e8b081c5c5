// A process of worker_main.cc, driven by a test. The test itself opens nothing on a mount, so it may start
// workers at any time. Thread-safety: one thread per worker.
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>

namespace cairn::coherence_test {

class Worker {
 public:
  Worker();
  ~Worker();  // killed and reaped
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  void Send(const std::string& command);
  // The next answer; "(no answer)" after timeout_ms, "(ended)" when the process is gone.
  std::string Receive(int timeout_ms = 60'000);
  bool HasAnswer(int within_ms);
  std::string Ask(const std::string& command, int timeout_ms = 60'000) {
    Send(command);
    return Receive(timeout_ms);
  }
  // Expects "ok", fails the test otherwise; answers what follows.
  std::string Must(const std::string& command);
  // Is it asleep in a lock request (its kernel stack or its state says so)? Polls until it is or the time is
  // over.
  bool Blocks(int within_ms = 20'000) const;
  // SIGKILL; true when the process is gone within the time. What it waited for in the kernel must have ended
  // then.
  bool Kill(int within_ms);
  void Signal(int signal) const;
  pid_t pid() const { return pid_; }

 private:
  pid_t pid_ = -1;
  int in_ = -1;
  int out_ = -1;
  std::string buffer_;
};

std::string Err(int error);  // "err 11"

}  // namespace cairn::coherence_test
