// Who this chunkserver is: known to itself once it has joined a cluster.
//
// Thread-safety: all methods may be called from any thread.
#pragma once

#include <cstdint>
#include <mutex>

#include "common/ids.h"

namespace cairn::chunkserver {

struct IdentityValues {
  Uuid cluster;          // zero: not joined yet
  ServerId server;       // zero: not joined yet
  Uuid server_uuid;      // made at the first start
  Uuid boot;             // of the machine
  uint64_t incarnation;  // of the process
};

class ServerIdentity {
 public:
  explicit ServerIdentity(const IdentityValues& values) : values_(values) {}

  IdentityValues Get() const {
    std::lock_guard lock(mu_);
    return values_;
  }
  void Join(Uuid cluster, ServerId server) {
    std::lock_guard lock(mu_);
    values_.cluster = cluster;
    values_.server = server;
  }

 private:
  mutable std::mutex mu_;
  IdentityValues values_;  // guarded by mu_
};

}  // namespace cairn::chunkserver
