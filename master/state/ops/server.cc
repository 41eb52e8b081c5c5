// Chunkservers that joined, and the ranges of ids reserved ahead of use.
#include <algorithm>

#include "master/state/chunk_queries.h"
#include "master/state/ops/ops.h"

namespace cairn::master {

Status ApplyRegisterServer(Context& c, const proto::RegisterServerCmd& op) {
  const ServerId server(op.server());
  if (!server || op.server_uuid().empty())
    return {StatusCode::kInvalidArgument, "a chunkserver needs a number and a UUID"};
  const std::string key = keys::Server(server);
  std::optional<proto::ServerRecord> known = Load<proto::ServerRecord>(c.txn(), Family::kServers, key);
  if (known && known->server_uuid() != op.server_uuid()) {
    return {StatusCode::kWrongCluster,
            ToString(server) + " is chunkserver " + known->server_uuid() + ", not " + op.server_uuid()};
  }
  if (const std::optional<ServerEntry> other = ServerByUuid(c.txn(), op.server_uuid());
      other && other->server != server) {
    return {StatusCode::kAlreadyExists,
            "chunkserver " + op.server_uuid() + " is registered as " + ToString(other->server)};
  }
  proto::ServerRecord record = known.value_or(proto::ServerRecord());
  record.set_server_uuid(op.server_uuid());
  record.set_address(op.address());
  record.set_zone(op.zone());
  record.set_rack(op.rack());
  record.set_host_id(op.host_id());
  if (!known) *record.mutable_registered() = c.now();
  Save(&c.txn(), Family::kServers, key, record);
  c.effects().servers_changed.push_back(server);
  return Status::Ok();
}

Status ApplySetServerMode(Context& c, const proto::SetServerModeCmd& op) {
  const ServerId server(op.server());
  const std::string key = keys::Server(server);
  std::optional<proto::ServerRecord> record = Load<proto::ServerRecord>(c.txn(), Family::kServers, key);
  if (!record) return {StatusCode::kNotFound, "there is no server " + ToString(server)};
  if (record->mode() == proto::SERVER_REMOVED && op.mode() != proto::SERVER_REMOVED) {
    return {StatusCode::kFailedPrecondition,
            ToString(server) + " was removed for good; its machine can join again as a new server"};
  }
  if (record->mode() != op.mode()) *record->mutable_mode_since() = c.now();
  record->set_mode(op.mode());
  record->set_mode_reason(op.reason());
  record->set_mode_operator(op.operator_());
  record->set_drain_chunks(op.drain_chunks());
  record->clear_maintenance_until();
  if (op.has_maintenance_until()) *record->mutable_maintenance_until() = op.maintenance_until();
  Save(&c.txn(), Family::kServers, key, *record);
  c.effects().servers_changed.push_back(server);
  return Status::Ok();
}

Status ApplySetServerLabels(Context& c, const proto::SetServerLabelsCmd& op) {
  const ServerId server(op.server());
  const std::string key = keys::Server(server);
  std::optional<proto::ServerRecord> record = Load<proto::ServerRecord>(c.txn(), Family::kServers, key);
  if (!record) return {StatusCode::kNotFound, "there is no server " + ToString(server)};
  record->set_name(op.name());
  record->clear_zone_set();
  record->clear_rack_set();
  if (op.has_zone()) record->set_zone_set(op.zone());
  if (op.has_rack()) record->set_rack_set(op.rack());
  Save(&c.txn(), Family::kServers, key, *record);
  c.effects().servers_changed.push_back(server);
  return Status::Ok();
}

Status ApplySetServerDisks(Context& c, const proto::SetServerDisksCmd& op) {
  const ServerId server(op.server());
  const std::string key = keys::Server(server);
  std::optional<proto::ServerRecord> record = Load<proto::ServerRecord>(c.txn(), Family::kServers, key);
  if (!record) return {StatusCode::kNotFound, "there is no server " + ToString(server)};
  *record->mutable_disks() = op.disks();
  Save(&c.txn(), Family::kServers, key, *record);
  c.effects().servers_changed.push_back(server);
  return Status::Ok();
}

Status ApplyReserveIds(Context& c, const proto::ReserveIdsCmd& op) {
  // Limits only rise: what is below one may have been used.
  proto::IdLimits limits = ReservedIds(c.txn());
  limits.set_inodes_below(std::max(limits.inodes_below(), op.inodes_below()));
  limits.set_chunks_below(std::max(limits.chunks_below(), op.chunks_below()));
  limits.set_epochs_below(std::max(limits.epochs_below(), op.epochs_below()));
  limits.set_sessions_below(std::max(limits.sessions_below(), op.sessions_below()));
  Save(&c.txn(), Family::kMeta, keys::kIds, limits);
  return Status::Ok();
}

}  // namespace cairn::master
