// A master for tests of chunkservers: takes registrations, keeps what it is told, sends commands and waits
// for results.
//
// Thread-safety: all methods may be called from any thread.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/ids.h"
#include "common/status.h"
#include "proto/cairn/cluster.pb.h"

namespace cairn::chunkserver {

class FakeMaster {
 public:
  struct Options {
    Uuid cluster;
    uint32_t heartbeat_ms = 50;
    uint64_t epoch_floor = 0;
    uint16_t port = 0;  // 0: a free one
    bool answer_heartbeats = true;
    std::vector<std::string> missing_disks;
    Status refuse;  // not ok: the answer to every registration
  };
  explicit FakeMaster(Options options);
  ~FakeMaster();  // breaks all streams

  uint16_t port() const;
  std::string address() const { return "127.0.0.1:" + std::to_string(port()); }

  // Each waits until there is something to return. Server ids are given in the order of first registration.
  proto::Register WaitForRegistration(size_t number = 1);               // the number-th since the start
  std::vector<proto::ReplicaInfoProto> WaitForReport(ServerId server);  // the whole of the last registration
  proto::Heartbeat WaitForHeartbeat(ServerId server, size_t at_least = 1);
  proto::DamageReport WaitForDamage(ServerId server);
  proto::CommandResult Execute(ServerId server, proto::Command command);
  // One command on one chunk.
  proto::ChunkResult Execute(ServerId server, proto::ChunkCommand command);
  size_t registrations() const;

 private:
  class Service;
  std::unique_ptr<Service> service_;
};

}  // namespace cairn::chunkserver
