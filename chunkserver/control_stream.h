// The chunkserver's side of the control stream (proto/cairn/cluster.proto, over the frames of common/net): registers at the master, reports all replicas, sends heartbeats
// and damage reports, passes commands on and their results back. When the master is away it tries again for
// ever; the data plane goes on meanwhile.
//
//   connect -> Register -> RegisterReply: identity recorded on the disks, epoch floor set -> full report
//           -> heartbeats, commands, results -> stream breaks -> backoff -> connect ...
//
// Thread-safety: all methods may be called from any thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "chunkserver/command_executor.h"
#include "chunkserver/disk_set.h"
#include "chunkserver/server_identity.h"
#include "common/clock.h"
#include "proto/cairn/cluster.pb.h"

namespace cairn::chunkserver {

struct ControlStreamOptions {
  std::vector<std::string> masters;  // host:port, tried in turn
  std::string data_address;          // advertised
  std::string zone;
  std::string rack;
  std::string host_id;
  std::string version;
  int64_t backoff_min_ms = 100;
  int64_t backoff_max_ms = 1000;
  int64_t silence_ms = 5000;   // a master that answers no heartbeat for so long is taken for dead
  size_t report_batch = 1000;  // replicas per message
  size_t max_queued_messages = 1024;
};

class ControlStream {
 public:
  struct Callbacks {
    std::function<void(Uuid cluster, ServerId server)> joined;  // every registration that was accepted
    // The master will never take this server (another cluster, another version), and none ever did since the
    // start.
    std::function<void(const Status&)> refused;
    std::function<uint32_t()> load;  // 0..1000
    std::function<proto::Traffic()> traffic;  // may be null
  };

  ControlStream(DiskSet* disks, ServerIdentity* identity, CommandExecutor* executor, const Clock* clock,
                ControlStreamOptions options, Callbacks callbacks);
  ~ControlStream();  // as Stop

  void Start();
  void Stop();

  // Tells the master of a bad block; dropped while there is no stream (the next full report says `corrupt`)
  // and when the same chunk was reported within the last seconds.
  void ReportDamage(ChunkId chunk, uint64_t offset, uint64_t length, const std::string& detail);
  bool registered() const;

 private:
  class Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace cairn::chunkserver
