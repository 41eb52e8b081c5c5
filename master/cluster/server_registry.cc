#include "master/cluster/server_registry.h"

#include <algorithm>
#include <cstdlib>

#include "common/check.h"
#include "common/clock.h"
#include "common/wire/frame.h"

namespace cairn::master {
namespace {

constexpr size_t kMaxDowns = 100;
constexpr int kMaxDisks = 256;
constexpr size_t kMaxDiskUuid = 64;  // these are recorded
constexpr size_t kMaxDiskPath = 4096;

bool Usable(const proto::DiskInfo& disk) { return !disk.failed(); }

uint64_t FreeAboveReserve(const proto::DiskInfo& disk) {
  return disk.free_bytes() > disk.reserve_bytes() ? disk.free_bytes() - disk.reserve_bytes() : 0;
}

void PlaceInTopology(ServerInfo& server) {
  server.zone = server.zone_set.value_or(server.own_zone);
  server.rack = server.rack_set.value_or(server.own_rack);
}

}  // namespace

bool HasTag(const std::string& tags, const std::string& tag) {
  if (tag.empty()) return true;
  for (size_t at = 0; at <= tags.size();) {
    const size_t end = std::min(tags.find(',', at), tags.size());
    if (std::string_view(tags).substr(at, end - at) == tag) return true;
    at = end + 1;
  }
  return false;
}

bool TakesNewChunks(const proto::DiskInfo& disk) {
  return Usable(disk) && !disk.draining() && FreeAboveReserve(disk) > disk.reserve_bytes() / 4;
}

std::string FormatSeconds(int64_t nanos) {
  const int64_t tenths = (std::max<int64_t>(nanos, 0) + 50'000'000) / 100'000'000;
  return std::to_string(tenths / 10) + "." + std::to_string(tenths % 10) + " s";
}

uint64_t ServerInfo::free_bytes(const std::string& storage_class) const {
  uint64_t free = 0;
  for (const proto::DiskInfo& disk : disks) {
    if (!Usable(disk) || disk.draining() || !HasTag(disk.storage_class(), storage_class)) continue;
    free += FreeAboveReserve(disk);
  }
  return free;
}

bool ServerInfo::full(const std::string& storage_class) const {
  return std::none_of(disks.begin(), disks.end(), [&](const proto::DiskInfo& disk) {
    return TakesNewChunks(disk) && HasTag(disk.storage_class(), storage_class);
  });
}

bool ServerInfo::in_class(const std::string& storage_class) const {
  // A server that is down tells no disks: what it had cannot be judged.
  return storage_class.empty() || disks.empty() ||
         std::any_of(disks.begin(), disks.end(),
                     [&](const proto::DiskInfo& disk) { return HasTag(disk.storage_class(), storage_class); });
}

uint64_t ServerInfo::chunks() const {
  uint64_t count = 0;
  for (const proto::DiskInfo& disk : disks) count += disk.chunks();
  return count;
}

void ServerRegistry::AddKnown(ServerId id, const proto::ServerRecord& record, int64_t now_ns) {
  ServerInfo& server = servers_[id];
  server.id = id;
  server.uuid = record.server_uuid();
  server.address = record.address();
  server.host_id = record.host_id();
  server.down_since_ns = now_ns;
  server.own_zone = record.zone();
  server.own_rack = record.rack();
  TakeRecord(id, record);
}

void ServerRegistry::TakeRecord(ServerId id, const proto::ServerRecord& record) {
  ServerInfo* server = Find(id);
  if (server == nullptr) return;
  const auto nanos = [](const proto::Time& time) {
    return time.seconds() * kNanosPerSecond + static_cast<int64_t>(time.nanos());
  };
  server->mode = record.mode();
  server->mode_since_wall_ns = nanos(record.mode_since());
  server->maintenance_until_wall_ns = record.has_maintenance_until() ? nanos(record.maintenance_until()) : 0;
  server->mode_reason = record.mode_reason();
  server->drain_chunks = record.drain_chunks();
  server->name = record.name();
  server->zone_set = record.has_zone_set() ? std::optional(record.zone_set()) : std::nullopt;
  server->rack_set = record.has_rack_set() ? std::optional(record.rack_set()) : std::nullopt;
  server->roster.assign(record.disks().begin(), record.disks().end());
  PlaceInTopology(*server);
}

uint32_t ServerRegistry::DownsLastHour(const ServerInfo& server, int64_t now_ns) {
  return static_cast<uint32_t>(std::count_if(server.downs_ns.begin(), server.downs_ns.end(), [&](int64_t at) {
    return now_ns - at < 3600 * kNanosPerSecond;
  }));
}

Status ServerRegistry::CheckRegister(const proto::Register& request, const std::string& cluster_id,
                                     int64_t now_ns, const ServerInfo** known) const {
  *known = nullptr;
  if (request.wire_version() != wire::kWireVersion) {
    return Status(StatusCode::kVersionMismatch, "the chunkserver speaks wire version " +
                                                    std::to_string(request.wire_version()) +
                                                    ", this master " + std::to_string(wire::kWireVersion));
  }
  if (!request.cluster_id().empty() && request.cluster_id() != cluster_id) {
    return Status(StatusCode::kWrongCluster, "the chunkserver's data belongs to cluster " +
                                                 request.cluster_id() + ", this master serves cluster " +
                                                 cluster_id);
  }
  Uuid uuid;
  if (!Uuid::Parse(request.server_uuid(), &uuid) || !uuid) {
    return Status(StatusCode::kInvalidArgument, "the registration carries no valid server_uuid");
  }
  if (request.data_address().empty()) {
    return Status(StatusCode::kInvalidArgument, "the registration carries no address of the data plane");
  }
  if (request.disks_size() > kMaxDisks) {
    return Status(StatusCode::kInvalidArgument, "the registration lists " + std::to_string(request.disks_size()) +
                                                    " disks; a chunkserver has at most " + std::to_string(kMaxDisks));
  }
  for (const proto::DiskInfo& disk : request.disks()) {
    if (disk.disk_uuid().size() > kMaxDiskUuid || disk.path().size() > kMaxDiskPath)
      return Status(StatusCode::kInvalidArgument, "the registration carries an id or path of a disk that is too long");
  }
  for (const auto& [id, server] : servers_) {
    if (server.uuid == request.server_uuid()) *known = &server;
  }
  if (request.server() != 0 && (*known == nullptr || (*known)->id.value() != request.server())) {
    return Status(StatusCode::kWrongCluster,
                  "the chunkserver says it is cs" + std::to_string(request.server()) + " with uuid " +
                      request.server_uuid() +
                      ", which this master has not recorded; its data belongs elsewhere");
  }
  if (*known != nullptr && (*known)->mode == proto::SERVER_REMOVED) {
    return Status(
        StatusCode::kWrongCluster,
        ToString((*known)->id) + " was removed from the cluster" +
            ((*known)->mode_reason.empty() ? "" : " (" + (*known)->mode_reason + ")") +
            "; to use the machine again, start it with empty data directories: it joins as a new server");
  }
  if (*known != nullptr && (*known)->up && (*known)->incarnation != request.incarnation() &&
      now_ns - (*known)->heard_ns < options_.silence_ns) {
    return Status(StatusCode::kAlreadyExists,
                  ToString((*known)->id) + " is connected from another process that is alive (" +
                      (*known)->address + ", heard " + FormatSeconds(now_ns - (*known)->heard_ns) + " ago)");
  }
  return Status::Ok();
}

std::shared_ptr<ServerChannel> ServerRegistry::Accept(ServerId id, const proto::Register& request,
                                                      std::shared_ptr<ServerChannel> channel,
                                                      int64_t now_ns) {
  ServerInfo& server = servers_[id];
  std::shared_ptr<ServerChannel> replaced = std::move(server.channel);
  if (replaced != nullptr) by_channel_.erase(replaced.get());
  server.id = id;
  server.uuid = request.server_uuid();
  server.address = request.data_address();
  server.own_zone = request.zone();
  server.own_rack = request.rack();
  PlaceInTopology(server);
  server.host_id = request.host_id();
  server.boot_id = request.boot_id();
  server.version = request.version();
  server.incarnation = request.incarnation();
  server.disks.assign(request.disks().begin(), request.disks().end());
  server.up = true;
  server.reported = false;
  server.heard_ns = now_ns;
  by_channel_[channel.get()] = id;
  server.channel = std::move(channel);
  ++version_;
  return replaced;
}

std::vector<proto::DiskInfo> ServerRegistry::Heartbeat(ServerInfo& server, const proto::Heartbeat& heartbeat, int64_t now_ns,
                                                       int64_t wall_ns) {
  server.heard_ns = now_ns;
  server.load = heartbeat.load();
  server.traffic = heartbeat.traffic();
  if (heartbeat.wall_nanos() != 0) server.clock_skew_ns = heartbeat.wall_nanos() - wall_ns;
  std::vector<proto::DiskInfo> failed;
  if (heartbeat.disks_size() == 0) return failed;
  for (const proto::DiskInfo& disk : heartbeat.disks()) {
    const bool before = std::any_of(server.disks.begin(), server.disks.end(), [&](const proto::DiskInfo& known) {
      return known.failed() && known.disk_uuid() == disk.disk_uuid() && known.path() == disk.path();
    });
    if (disk.failed() && !before) failed.push_back(disk);
  }
  server.disks.assign(heartbeat.disks().begin(), heartbeat.disks().end());
  return failed;
}

void ServerRegistry::MarkDown(ServerInfo& server, int64_t now_ns) {
  if (server.channel != nullptr) by_channel_.erase(server.channel.get());
  server.channel.reset();
  if (!server.up) return;
  server.up = false;
  server.reported = false;
  server.down_since_ns = now_ns;
  server.downs_ns.push_back(now_ns);
  if (server.downs_ns.size() > kMaxDowns) server.downs_ns.pop_front();
  ++version_;
}

std::vector<ServerId> ServerRegistry::Silent(int64_t now_ns) const {
  std::vector<ServerId> silent;
  for (const auto& [id, server] : servers_) {
    if (server.up && now_ns - server.heard_ns >= options_.silence_ns) silent.push_back(id);
  }
  return silent;
}

ServerInfo* ServerRegistry::Find(ServerId id) {
  auto it = servers_.find(id);
  return it == servers_.end() ? nullptr : &it->second;
}

const ServerInfo* ServerRegistry::Find(ServerId id) const {
  auto it = servers_.find(id);
  return it == servers_.end() ? nullptr : &it->second;
}

const ServerInfo* ServerRegistry::FindByName(const std::string& name) const {
  for (const auto& [id, server] : servers_) {
    if (server.name == name && server.mode != proto::SERVER_REMOVED) return &server;
  }
  return nullptr;
}

ServerInfo* ServerRegistry::FindByChannel(const ServerChannel* channel) {
  auto it = by_channel_.find(channel);
  return it == by_channel_.end() ? nullptr : Find(it->second);
}

bool ServerRegistry::IsUp(ServerId id) const {
  const ServerInfo* server = Find(id);
  return server != nullptr && server->up;
}

uint32_t ServerRegistry::up() const {
  return static_cast<uint32_t>(
      std::count_if(servers_.begin(), servers_.end(), [](const auto& entry) { return entry.second.up; }));
}

uint32_t ServerRegistry::known() const {
  return static_cast<uint32_t>(std::count_if(servers_.begin(), servers_.end(), [](const auto& entry) {
    return entry.second.mode != proto::SERVER_REMOVED;
  }));
}

std::string ServerRegistry::Describe(ServerId id) const {
  const ServerInfo* server = Find(id);
  if (server == nullptr) return ToString(id);
  return ToString(id) + " (" + (server->name.empty() ? "" : server->name + ", ") + server->address + ")";
}

std::string ServerRegistry::DownReason(ServerId id, int64_t now_ns) const {
  const ServerInfo* server = Find(id);
  if (server == nullptr) return ToString(id) + " is not known";
  if (server->up) return "";
  return ToString(id) + " down since " + FormatSeconds(now_ns - server->down_since_ns);
}

std::vector<PlacementServer> ServerRegistry::ForPlacement(const std::string& storage_class) const {
  std::vector<PlacementServer> result;
  for (const auto& [id, server] : servers_) {
    if (server.mode == proto::SERVER_REMOVED) continue;
    result.push_back({.server = id,
                      .up = server.up,
                      .full = server.full(storage_class),
                      .accepting = server.mode == proto::SERVER_IN_SERVICE && !server.in_maintenance(),
                      .in_class = server.in_class(storage_class),
                      .free_bytes = server.free_bytes(storage_class),
                      .host_id = server.host_id,
                      .rack = server.rack,
                      .zone = server.zone});
  }
  return result;
}

proto::ServerAddress ServerRegistry::Address(const ServerInfo& server) const {
  proto::ServerAddress address;
  address.set_server(server.id.value());
  address.set_address(server.address);
  address.set_host_id(server.host_id);
  address.set_zone(server.zone);
  address.set_rack(server.rack);
  address.set_alive(server.up);
  address.set_load(server.load);
  return address;
}

std::vector<proto::ServerAddress> ServerRegistry::Addresses() const {
  std::vector<proto::ServerAddress> result;
  for (const auto& [id, server] : servers_) {
    if (server.mode != proto::SERVER_REMOVED) result.push_back(Address(server));
  }
  return result;
}

ClusterSpace ServerRegistry::Space() const {
  // Disks are keyed by machine and file system; without a file system id each disk counts by itself.
  std::map<std::string, ClusterSpace> by_file_system;
  for (const auto& [id, server] : servers_) {
    if (server.mode == proto::SERVER_REMOVED) continue;
    for (const proto::DiskInfo& disk : server.disks) {
      if (disk.failed()) continue;
      const std::string key = disk.file_system_id().empty() ? "disk/" + disk.disk_uuid()
                                                            : server.host_id + "/" + disk.file_system_id();
      by_file_system[key] = {disk.total_bytes(), FreeAboveReserve(disk)};
    }
  }
  ClusterSpace space;
  for (const auto& [key, one] : by_file_system) {
    space.total_bytes += one.total_bytes;
    space.free_bytes += one.free_bytes;
  }
  return space;
}

}  // namespace cairn::master
