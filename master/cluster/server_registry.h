// What the master knows of its chunkservers: identity, address, space, whether they are up.
//
// A server is up from its accepted registration until its stream breaks or it was silent for `silence_ns`.
// Servers recorded before a restart count as down since the start until they register again.
//
// Thread-safety: none; owned by the master's core thread.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "common/ids.h"
#include "common/status.h"
#include "master/cluster/placement.h"
#include "proto/cairn/cluster.pb.h"
#include "proto/cairn/state.pb.h"

namespace cairn::master {

class ServerChannel;

// A disk is left to the chunks that it has while less than a quarter of its reserve is free above the reserve: they
// grow, heartbeats tell of it late, and the store refuses everybody at the reserve itself.
bool TakesNewChunks(const proto::DiskInfo& disk);

// Whether `tags` ("ssd,fast") contain `tag`; every disk carries the empty one.
bool HasTag(const std::string& tags, const std::string& tag);

struct ServerInfo {
  ServerId id;
  std::string uuid;
  std::string address;
  std::string zone;
  std::string rack;
  std::string host_id;
  std::string boot_id;
  std::string version;
  uint64_t incarnation = 0;
  bool up = false;
  bool reported = false;      // its full replica report of this connection is complete
  int64_t down_since_ns = 0;  // valid while down
  int64_t heard_ns = 0;       // last registration or heartbeat
  int64_t clock_skew_ns = 0;  // its wall clock minus ours, at the last heartbeat
  uint32_t load = 0;          // 0..1000
  proto::Traffic traffic;     // at the last heartbeat
  std::vector<proto::DiskInfo> disks;
  std::shared_ptr<ServerChannel> channel;
  // What an administrator decided (recorded).
  proto::ServerMode mode = proto::SERVER_IN_SERVICE;
  int64_t mode_since_wall_ns = 0;
  int64_t maintenance_until_wall_ns = 0;  // 0: none
  std::string mode_reason;
  uint64_t drain_chunks = 0;
  std::string name;                               // an administrator's; empty: none
  std::string own_zone, own_rack;                 // as the server says of itself
  std::optional<std::string> zone_set, rack_set;  // as an administrator says, which counts more
  std::vector<proto::DiskRecord> roster;          // the disks that it has and had (disk_roster.h)
  std::deque<int64_t> downs_ns;  // when it went down, within the last hour; bounded

  bool in_maintenance() const { return maintenance_until_wall_ns != 0; }
  bool full(const std::string& storage_class) const;            // no disk of it takes new chunks
  uint64_t free_bytes(const std::string& storage_class) const;  // above the reserve, of disks that work
  bool in_class(const std::string& storage_class) const;         // some disk of it carries the tag
  uint64_t chunks() const;
};

// Space of the cluster with every host file system counted once.
struct ClusterSpace {
  uint64_t total_bytes = 0;
  uint64_t free_bytes = 0;
};

class ServerRegistry {
 public:
  struct Options {
    int64_t silence_ns = 5'000'000'000;
  };

  explicit ServerRegistry(const Options& options) : options_(options) {}

  // A server from the recorded state at start.
  void AddKnown(ServerId id, const proto::ServerRecord& record, int64_t now_ns);
  // What an administrator decided and the master recorded applies from now on: mode, maintenance, name, place, disks.
  void TakeRecord(ServerId id, const proto::ServerRecord& record);

  // May this registration be accepted? kWrongCluster, kVersionMismatch, kInvalidArgument, or kAlreadyExists
  // when the same server is connected from another process that is alive. *known is the server meant, nullptr
  // when it is new.
  Status CheckRegister(const proto::Register& request, const std::string& cluster_id, int64_t now_ns,
                       const ServerInfo** known) const;
  // Takes the registration: the server is up on this stream. Returns the stream that it replaces, if any.
  std::shared_ptr<ServerChannel> Accept(ServerId id, const proto::Register& request,
                                        std::shared_ptr<ServerChannel> channel, int64_t now_ns);
  // Returns the disks that failed since what the server said before.
  std::vector<proto::DiskInfo> Heartbeat(ServerInfo& server, const proto::Heartbeat& heartbeat, int64_t now_ns, int64_t wall_ns);
  void MarkDown(ServerInfo& server, int64_t now_ns);
  // How often it went down within the last hour.
  static uint32_t DownsLastHour(const ServerInfo& server, int64_t now_ns);
  // Up servers that were silent for too long.
  std::vector<ServerId> Silent(int64_t now_ns) const;

  ServerInfo* Find(ServerId id);
  const ServerInfo* Find(ServerId id) const;
  // By an administrator's name; nullptr: nobody that was not removed has it.
  const ServerInfo* FindByName(const std::string& name) const;
  ServerInfo* FindByChannel(const ServerChannel* channel);
  const std::map<ServerId, ServerInfo>& all() const { return servers_; }
  bool IsUp(ServerId id) const;
  uint32_t up() const;
  uint32_t known() const;  // without those that were removed

  // "cs2 (10.0.0.2:9410)" for messages.
  std::string Describe(ServerId id) const;
  // "cs3 down since 12.0 s", for messages; empty when it is up.
  std::string DownReason(ServerId id, int64_t now_ns) const;

  std::vector<PlacementServer> ForPlacement(const std::string& storage_class) const;
  proto::ServerAddress Address(const ServerInfo& server) const;
  std::vector<proto::ServerAddress> Addresses() const;
  // Grows with every change that clients should hear of.
  uint64_t version() const { return version_; }
  ClusterSpace Space() const;

 private:
  const Options options_;
  uint64_t version_ = 1;
  std::map<ServerId, ServerInfo> servers_;
  std::unordered_map<const ServerChannel*, ServerId> by_channel_;
};

// "12.3 s"
std::string FormatSeconds(int64_t nanos);

}  // namespace cairn::master
