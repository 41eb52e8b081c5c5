// Looks after what an administrator asked of servers: tells when a drain is done, ends a maintenance in time,
// and forgets the deleted chunks of servers that were removed for good.
//
// Thread-safety: none; owned by the core thread.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "common/ids.h"
#include "common/status.h"
#include "proto/cairn/state.pb.h"

namespace cairn::master {

class Core;

class ServerKeeper {
 public:
  explicit ServerKeeper(Core& core) : core_(core) {}

  // Records the new mode and lets repair look at the server's chunks again. `until_wall_ns` 0: no
  // maintenance.
  Status SetMode(ServerId server, proto::ServerMode mode, int64_t until_wall_ns, const std::string& reason,
                 const std::string& by, uint64_t drain_chunks);
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
  void ForgetDeleted(ServerId server);

  Core& core_;
  std::map<ServerId, Drain> drains_;
  std::map<ServerId, ChunkId> forget_from_;
  int64_t next_ns_ = 0;
};

}  // namespace cairn::master
