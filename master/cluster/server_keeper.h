// Looks after what an administrator asked of servers: tells when a drain is done, ends a maintenance in time,
// forgets the deleted chunks of servers that were removed for good, and knows which disks a server had.
//
// Thread-safety: none; owned by the core thread.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "common/ids.h"
#include "common/status.h"
#include "proto/cairn/cluster.pb.h"
#include "proto/cairn/log.pb.h"
#include "proto/cairn/state.pb.h"

namespace cairn::master {

class Core;
struct ServerInfo;

class ServerKeeper {
 public:
  explicit ServerKeeper(Core& core) : core_(core) {}

  // Records the new mode and lets repair look at the server's chunks again. `until_wall_ns` 0: no
  // maintenance.
  Status SetMode(ServerId server, proto::ServerMode mode, int64_t until_wall_ns, const std::string& reason,
                 const std::string& by, uint64_t drain_chunks);
  // The administrator's name and place in the topology, complete; repair looks at its chunks again, sessions hear of it.
  Status SetLabels(ServerId server, const proto::SetServerLabelsCmd& labels);
  Status SetDisks(ServerId server, const std::vector<proto::DiskRecord>& disks);
  // Compares the disks that the server came with to those it had; the reply tells it what is missing or drained.
  void OnRegistered(ServerId server, const proto::Register& request, proto::RegisterReply* reply);
  // A heartbeat says that it took what the reply told of missing disks.
  void OnHeartbeat(const ServerInfo& server, const proto::Heartbeat& heartbeat, proto::HeartbeatReply* reply);
  // A draining server that no chunk lists any more.
  bool Drained(ServerId server) const;
  void Tick();
  // Since the drain began or the master started, whichever is later: for the expected duration.
  int64_t DrainSeenSince(ServerId server) const;

 private:
  struct Drain {
    int64_t since_ns = 0;
    bool seen_full = false;  // there was something to move
    bool done = false;
  };
  void TickDrain(ServerId server, Drain& drain);
  Status Apply(ServerId server, proto::LogCommand command);
  void TellDrainedDisks(const ServerInfo& server);
  void ForgetDeleted(ServerId server);

  Core& core_;
  std::map<ServerId, Drain> drains_;
  std::map<ServerId, ChunkId> forget_from_;
  std::set<std::string> drained_told_;  // disks whose drain was reported as done
  int64_t next_ns_ = 0;
};

}  // namespace cairn::master
