#include <algorithm>
#include <cstdlib>

#include "master/cluster/erasure.h"
#include "master/cluster/rebalancer.h"
#include "master/cluster/repair_manager.h"
#include "master/cluster/server_keeper.h"
#include "master/core/admin.h"
#include "master/state/chunk_queries.h"
#include "master/state/events.h"
#include "master/state/queries.h"
#include "master/state/trash.h"

namespace cairn::master {
namespace {

constexpr uint64_t kNearFullPercent = 10;  // free
constexpr uint32_t kFlapping = 3;
constexpr uint32_t kRecentEvents = 8;

std::string DiskState(const proto::DiskInfo& disk) {
  if (disk.failed()) return "failed";
  if (disk.draining()) return disk.chunks() == 0 ? "drained" : "draining";
  if (!TakesNewChunks(disk)) return "full";
  return disk.amnesic() ? "amnesic" : "ok";
}

std::string ModeOf(Core& core, const ServerInfo& server) {
  if (server.mode == proto::SERVER_REMOVED) return "removed";
  if (server.mode == proto::SERVER_DRAINING)
    return core.server_keeper().Drained(server.id) ? "drained" : "draining";
  return server.in_maintenance() ? "maintenance" : "in service";
}

// A disk that the server had and that it was not started with.
void AddMissingDisk(const ServerInfo& server, const proto::DiskRecord& record, proto::ServerStatus* status,
                    proto::StatusResponse* response) {
  proto::DiskStatus* one = status->add_disks();
  one->set_disk_uuid(record.disk_uuid());
  one->set_path(record.path());
  one->set_state("missing");
  one->set_problem("not among the server's data directories any more; what it held is copied again from others");
  if (server.mode == proto::SERVER_REMOVED) return;
  response->add_warnings(ToString(server.id) + " disk " + record.path() + " (" + record.disk_uuid() +
                         ") is missing: the server was started without it. Start it with --data " + record.path() +
                         " again, or, if it is gone for good, cairn disk forget " + record.disk_uuid());
}

void AddServer(Core& core, const ServerInfo& server, proto::StatusResponse* response) {
  const bool removed = server.mode == proto::SERVER_REMOVED;
  proto::ServerStatus* status = removed ? response->add_removed_servers() : response->add_servers();
  status->set_mode(ModeOf(core, server));
  status->set_mode_reason(server.mode_reason);
  if (server.in_maintenance()) {
    status->set_maintenance_left_ms(static_cast<uint64_t>(
        std::max<int64_t>(0, server.maintenance_until_wall_ns - core.wall()) / kNanosPerMilli));
  }
  status->set_drain_chunks_at_start(server.drain_chunks);
  status->set_downs_last_hour(ServerRegistry::DownsLastHour(server, core.now()));
  if (status->downs_last_hour() >= kFlapping && !removed) {
    response->add_warnings(ToString(server.id) + " went down " + std::to_string(status->downs_last_hour()) +
                           " times within the last hour");
  }
  status->set_server(server.id.value());
  status->set_address(server.address);
  status->set_zone(server.zone);
  status->set_rack(server.rack);
  status->set_name(server.name);
  status->set_zone_set(server.zone_set.has_value());
  status->set_rack_set(server.rack_set.has_value());
  status->set_own_zone(server.own_zone);
  status->set_own_rack(server.own_rack);
  status->set_host_id(server.host_id);
  status->set_state(server.up ? "up" : "down");
  status->set_version(server.version);
  status->set_chunks(server.chunks());
  status->set_last_heartbeat_ms(static_cast<uint64_t>(
      (core.now() - (server.up ? server.heard_ns : server.down_since_ns)) / kNanosPerMilli));
  status->set_load(server.load);
  *status->mutable_traffic() = server.traffic;
  status->set_clock_skew_ms(server.clock_skew_ns / kNanosPerMilli);
  status->set_server_uuid(server.uuid);
  for (const proto::DiskInfo& disk : server.disks) {
    proto::DiskStatus* one = status->add_disks();
    one->set_disk_uuid(disk.disk_uuid());
    one->set_path(disk.path());
    one->set_total_bytes(disk.total_bytes());
    one->set_free_bytes(disk.free_bytes());
    one->set_used_bytes(disk.used_bytes());
    one->set_state(DiskState(disk));
    one->set_problem(disk.draining() && !disk.failed() ? disk.drain_note() : disk.problem());
    one->set_storage_class(disk.storage_class());
    one->set_chunks(disk.chunks());
    const std::string where = ToString(server.id) + " disk " + disk.path();
    if (disk.failed()) {
      response->add_warnings(where + " failed: " + disk.problem());
    } else if (disk.draining()) {
      // Somebody asked for it; `disk list` tells how far it is.
    } else if (!TakesNewChunks(disk)) {
      response->add_warnings(where + " is full: " + std::to_string(disk.free_bytes() >> 20) + " MiB free, of which " +
                             std::to_string(disk.reserve_bytes() >> 20) + " MiB are kept in reserve; it gets no new chunks");
    } else if (disk.total_bytes() > 0 &&
               (disk.free_bytes() - disk.reserve_bytes()) * 100 / disk.total_bytes() < kNearFullPercent) {
      response->add_warnings(where + " is nearly full: " + std::to_string(disk.free_bytes() >> 20) +
                             " MiB free");
    }
  }
  for (const proto::DiskRecord& record : server.roster) {
    if (record.missing()) AddMissingDisk(server, record, status, response);
  }
  if (server.up && std::abs(server.clock_skew_ns) > core.options().clock_skew_warning_ms * kNanosPerMilli) {
    response->add_warnings("the clock of " + ToString(server.id) + " differs by " +
                           std::to_string(server.clock_skew_ns / kNanosPerMilli) + " ms");
  }
}

}  // namespace

void FillStatus(Core& core, proto::StatusResponse* response) {
  response->set_cluster_id(core.cluster_id());
  response->set_incarnation(core.incarnation());
  response->set_version(core.options().version);
  for (const auto& [id, server] : core.servers().all()) AddServer(core, server, response);
  const ClusterSpace space = core.servers().Space();
  auto policy = EffectivePolicy(core.txn(), kRootInode);
  const uint64_t replicas = policy.ok() ? std::max<uint64_t>(1, policy->replicas()) : 1;
  if (policy.ok()) *response->mutable_root_policy() = *policy;
  response->set_raw_bytes(space.total_bytes);
  response->set_raw_free_bytes(space.free_bytes);
  response->set_usable_bytes(space.total_bytes / replicas);
  response->set_usable_free_bytes(space.free_bytes / replicas);
  const NamespaceCounters counters = CountersOf(core.txn());
  response->set_inodes(counters.inodes);
  response->set_chunks(counters.chunks);
  response->set_chunks_deleting(counters.deleting);
  const RepairManager::Counters repair = core.repair().counters();
  response->set_chunks_below_quorum(repair.below_quorum);
  response->set_chunks_below_policy(repair.below_policy);
  response->set_chunks_damaged(repair.damaged);
  response->set_repairs_running(repair.running);
  response->set_repairs_queued(repair.queued);
  response->set_repaired_chunks(repair.repaired_chunks);
  response->set_repaired_bytes(repair.repaired_bytes);
  response->set_repaired_bytes_differing(repair.repaired_bytes_differing);
  for (const auto& [kind, count] : core.request_counts()) {
    const auto* field = proto::Request::descriptor()->FindFieldByNumber(kind);
    proto::OperationCount* one = response->add_operations();
    one->set_name(field == nullptr ? "unknown" : field->name());
    one->set_count(count);
  }
  core.rebalancer().FillStatus(response->mutable_rebalance());
  const TrashUse trash = TrashUseOf(core.txn());
  response->set_trash_files(trash.inodes);
  response->set_trash_bytes(trash.bytes);
  response->set_chunks_misplaced(repair.misplaced);
  response->set_moved_chunks(repair.moved_chunks);
  response->set_moved_bytes(repair.moved_bytes);
  response->set_copy_bytes_per_second(repair.bytes_per_second);
  const EventRange range = EventRangeOf(core.txn());
  const uint64_t after =
      std::max(range.first, range.next > kRecentEvents ? range.next - kRecentEvents : 1) - 1;
  for (const NumberedEvent& event : EventsAfter(core.txn(), after, kRecentEvents)) {
    *response->add_recent_events() = ToProto(event);
  }
  response->set_sessions(core.sessions().alive());
  response->set_grace_left_ms(static_cast<uint32_t>(core.sessions().GraceLeft(core.now()) / kNanosPerMilli));
  response->set_log_index(core.log_index());
  response->set_durable_index(core.durable_index());

  const uint32_t up = core.servers().up();
  const uint32_t quorum = policy.ok() ? policy->write_quorum() : 1;
  bool degraded = false;
  for (const auto& [id, server] : core.servers().all()) {
    if (server.up || server.mode == proto::SERVER_REMOVED) continue;
    degraded = true;
    response->add_reasons(core.servers().DownReason(id, core.now()) + " (" + server.address + ")" +
                          (server.in_maintenance() ? ", in maintenance" : ""));
  }
  auto reason = [&](uint64_t count, const std::string& text) {
    if (count == 0) return;
    degraded = true;
    response->add_reasons(std::to_string(count) + text);
  };
  reason(repair.damaged, " chunks are damaged and wait for members that hold their data");
  reason(repair.below_quorum, " chunks have fewer current copies than their write quorum");
  reason(repair.below_policy, " chunks have fewer current copies than their policy asks for");
  if (policy.ok() && core.servers().known() < replicas) {
    degraded = true;
    response->add_reasons("only " + std::to_string(core.servers().known()) +
                          " chunkservers are known, the policy asks for " + std::to_string(replicas) +
                          " replicas");
  }
  const Status mutations = core.MutationsAllowed();
  if (!mutations.ok()) response->add_warnings(mutations.message());
  if (up < quorum || !mutations.ok()) {
    response->set_health("unavailable");
    if (up < quorum) {
      response->add_reasons("writes need " + std::to_string(quorum) + " chunkservers, " + std::to_string(up) +
                            " are up");
    }
  } else {
    response->set_health(degraded ? "degraded" : "healthy");
  }
}

proto::Event ToProto(const NumberedEvent& event) {
  proto::Event out;
  out.set_number(event.number);
  out.set_unix_ms(static_cast<uint64_t>(event.record.when().seconds()) * 1000 +
                  event.record.when().nanos() / 1'000'000);
  out.set_severity(event.record.severity());
  out.set_kind(event.record.kind());
  out.set_text(event.record.text());
  out.set_server(event.record.server());
  out.set_chunk(event.record.chunk());
  out.set_inode(event.record.inode());
  out.set_operator_(event.record.operator_());
  return out;
}

void FillSessions(Core& core, bool with_leases, proto::SessionsResponse* response) {
  for (const auto& [id, session] : core.sessions().all()) {
    proto::SessionStatus* status = response->add_sessions();
    status->set_session(id.value());
    status->set_client_name(session.client_name);
    status->set_last_renewal_ms(
        session.missing ? 0 : static_cast<uint64_t>((core.now() - session.renewed_ns) / kNanosPerMilli));
    status->set_read_leases(core.leases().ReadLeaseCount(id));
    const std::vector<InodeId> writes = core.leases().WriteLeases(id);
    status->set_write_leases(writes.size());
    status->set_requests(session.requests);
    status->set_open_orphans(HoldsOfSession(core.txn(), id).size());
    if (!with_leases) continue;
    for (InodeId inode : writes) status->add_write_lease_inodes(inode.value());
  }
}

}  // namespace cairn::master
