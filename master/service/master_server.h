// A whole master in one object: store, core thread, sync thread, gRPC server. Used by main.cc and by tests.
//
// Thread-safety: Start, WaitForFailure and Stop from one thread; the rest is internal.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "common/clock.h"
#include "common/metrics/endpoint.h"
#include "common/status.h"
#include "master/console/console.h"
#include "master/core/options.h"
#include "master/store/meta_store.h"

namespace cairn::master {

struct MasterServerOptions {
  CoreOptions core;
  std::string listen = "127.0.0.1:9400";  // port 0: any free one
  metrics::EndpointOptions metrics;
  console::ConsoleOptions console;
  std::string admin_token;  // whoever changes the cluster must show it; empty: nobody has to, and there is no console
};

class MasterServer {
 public:
  // `store` is taken over. `on_failure` is called once, from the core thread, when it had to stop (disk
  // failure).
  static Result<std::unique_ptr<MasterServer>> Start(const MasterServerOptions& options,
                                                     std::unique_ptr<MetaStore> store,
                                                     const Clock* clock = SystemClock::Get(),
                                                     std::function<void(const Status&)> on_failure = nullptr);
  ~MasterServer();  // stops
  MasterServer(const MasterServer&) = delete;
  MasterServer& operator=(const MasterServer&) = delete;

  int port() const;
  int console_port() const;  // 0: there is no console
  const std::string& cluster_id() const;
  // Ends streams, commits what is in the round, syncs the log, closes the store. Repeats do no harm.
  void Stop();

 private:
  MasterServer() = default;
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace cairn::master
