// Host names to addresses without blocking the event loop.
// Thread-safety: Lookup may be called from any thread.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "common/net/address.h"
#include "common/status.h"

namespace cairn::net {

class Resolver {
 public:
  using Callback = std::function<void(Result<std::vector<SocketAddress>>)>;

  Resolver() = default;
  ~Resolver();  // waits for the lookup that is running; the others are dropped
  Resolver(const Resolver&) = delete;
  Resolver& operator=(const Resolver&) = delete;

  // `done` runs on the resolver's thread, which is started by the first call. The producer bounds the number
  // of lookups.
  void Lookup(HostPort where, Callback done);

 private:
  void Run();

  std::mutex mu_;
  std::condition_variable wake_;
  std::deque<std::pair<HostPort, Callback>> queue_;  // guarded by mu_
  bool stopping_ = false;                            // guarded by mu_
  std::thread thread_;                               // guarded by mu_
};

}  // namespace cairn::net
