// Lock requests that a signal interrupted and that the master has not yet answered: should their process be
// killed meanwhile, nobody tells (the kernel reports a request's first signal only), so they are looked at
// now and then. Thread-safety: any thread.
#pragma once

#include <sys/types.h>

#include <condition_variable>
#include <cstdint>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

#include "client/client.h"

namespace cairn::fuse {

class InterruptedLocks {
 public:
  explicit InterruptedLocks(client::Client& client) : client_(client) {}
  ~InterruptedLocks();
  void Watch(uint64_t ticket, pid_t thread);

 private:
  void Main();

  client::Client& client_;
  std::mutex mu_;
  std::condition_variable changed_;
  // Guarded by mu_:
  std::map<uint64_t, pid_t> watched_;
  bool stopping_ = false;
  std::thread worker_;  // started when it is first needed
};

}  // namespace cairn::fuse
