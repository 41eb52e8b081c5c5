// A whole chunkserver: disks, data plane, control stream, copier, scrubber, maintenance; started and stopped
// in the right order.
//
//   auto server = ChunkServer::Start(options, std::move(disks), [&](const Status& why) { ... give up ... });
//   ... (*server)->data_address() ...
//   server->reset();    // or Stop(): no new work, what runs is finished, the disks are closed cleanly
//
// Thread-safety: Start and Stop from one thread, the rest from any.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "chunkserver/command_executor.h"
#include "chunkserver/control_stream.h"
#include "chunkserver/copier.h"
#include "chunkserver/data_service.h"
#include "chunkserver/disk_drainer.h"
#include "chunkserver/disk_set.h"
#include "chunkserver/scrubber.h"
#include "common/clock.h"
#include "common/net/address.h"
#include "common/net/event_loop.h"

namespace cairn::chunkserver {

struct ServerOptions {
  net::HostPort listen{"127.0.0.1", 9410};
  std::string advertise;  // host:port; empty: from `listen` and the port that was bound
  size_t io_threads = 2;
  size_t read_threads = 4;
  DataServiceOptions data;
  CommandExecutorOptions commands;
  CopierOptions copier;
  ScrubberOptions scrubber;
  ControlStreamOptions control;  // data_address is filled in
  int64_t maintenance_interval_ms = 5000;
  uint64_t disk_drain_bytes_per_second = 64u << 20;  // 0: no limit
};

class ChunkServer {
 public:
  // `refused`: the master will never take this server; called once, on some thread.
  static Result<std::unique_ptr<ChunkServer>> Start(ServerOptions options, std::vector<Disk> disks,
                                                    std::function<void(const Status&)> refused,
                                                    const Clock* clock = SystemClock::Get());
  ~ChunkServer();  // as Stop
  ChunkServer(const ChunkServer&) = delete;
  ChunkServer& operator=(const ChunkServer&) = delete;

  void Stop();

  const std::string& data_address() const;  // as advertised
  uint16_t port() const;
  DiskSet& disks();
  bool registered() const;
  Scrubber& scrubber();

 private:
  class Impl;
  explicit ChunkServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace cairn::chunkserver
