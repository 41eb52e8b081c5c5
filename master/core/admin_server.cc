// What administrators ask of servers: modes, and what is left of a drain.
#include <algorithm>
#include <map>

#include "master/cluster/event_log.h"
#include "master/cluster/repair_manager.h"
#include "master/cluster/server_keeper.h"
#include "master/core/admin.h"
#include "master/core/messages.h"
#include "master/state/chunk_queries.h"

namespace cairn::master {
namespace {

constexpr uint64_t kMaxMaintenanceSeconds = 30ull * 86400;
constexpr size_t kMaxGroups = 20;
constexpr uint32_t kMaxExplained = 2000;

std::string Because(const std::string& reason) { return reason.empty() ? "" : ": " + reason; }

}  // namespace

Status CheckServerChange(const Core& core, const proto::ChangeServerRequest& request) {
  const ServerInfo* server = core.servers().Find(ServerId(request.server()));
  const std::string name = ToString(ServerId(request.server()));
  if (server == nullptr) return Status(StatusCode::kNotFound, "there is no server " + name);
  if (server->mode == proto::SERVER_REMOVED) {
    return Status(StatusCode::kFailedPrecondition,
                  name + " was removed already" + Because(server->mode_reason));
  }
  if (request.force() && request.reason().empty()) {
    return Status(StatusCode::kInvalidArgument, "--force needs --reason: it is kept in the event log");
  }
  switch (request.action()) {
    case proto::SERVER_DRAIN:
    case proto::SERVER_UNDRAIN:
    case proto::SERVER_REMOVE:
      return Status::Ok();
    case proto::SERVER_MAINTENANCE:
      if (request.seconds() == 0 || request.seconds() > kMaxMaintenanceSeconds) {
        return Status(StatusCode::kInvalidArgument, "a maintenance lasts from a second to 30 days");
      }
      return Status::Ok();
    default:
      return Status(StatusCode::kInvalidArgument, "unknown action on a server");
  }
}

Status ApplyServerChange(Core& core, const proto::ChangeServerRequest& request, const proto::Impact& impact,
                         std::string* outcome) {
  CAIRN_RETURN_IF_ERROR(CheckServerChange(core, request));  // it may have changed since the preview
  const ServerId id(request.server());
  const std::string name = ToString(id);
  ServerKeeper& keeper = core.server_keeper();
  std::string kind;
  switch (request.action()) {
    case proto::SERVER_DRAIN:
      CAIRN_RETURN_IF_ERROR(keeper.SetMode(id, proto::SERVER_DRAINING, 0, request.reason(),
                                           request.operator_(), impact.chunks()));
      kind = "drain.started";
      *outcome = name + " is being drained: " + std::to_string(impact.chunks()) + " chunks move elsewhere";
      break;
    case proto::SERVER_UNDRAIN:
      CAIRN_RETURN_IF_ERROR(
          keeper.SetMode(id, proto::SERVER_IN_SERVICE, 0, request.reason(), request.operator_(), 0));
      kind = "server.in-service";
      *outcome = name + " is in service again";
      break;
    case proto::SERVER_MAINTENANCE: {
      const int64_t until = core.wall() + static_cast<int64_t>(request.seconds()) * kNanosPerSecond;
      const ServerInfo* server = core.servers().Find(id);
      if (server->mode == proto::SERVER_DRAINING) {
        return Status(StatusCode::kFailedPrecondition, name + " is being drained; stop that first (undrain)");
      }
      CAIRN_RETURN_IF_ERROR(
          keeper.SetMode(id, proto::SERVER_IN_SERVICE, until, request.reason(), request.operator_(), 0));
      kind = "maintenance.started";
      *outcome =
          name + " is in maintenance for " + std::to_string(request.seconds()) +
          " s: it gets no new chunks, and its copies are not replaced while a write quorum is elsewhere";
      break;
    }
    case proto::SERVER_REMOVE: {
      CAIRN_RETURN_IF_ERROR(
          keeper.SetMode(id, proto::SERVER_REMOVED, 0, request.reason(), request.operator_(), 0));
      kind = "server.removed";
      *outcome = name + " is removed" +
                 (impact.chunks() > 0 ? "; the " + std::to_string(impact.chunks()) +
                                            " copies it had are replaced from the others now"
                                      : std::string());
      ServerInfo* server = core.servers().Find(id);
      if (server->up) ServerMessages::Down(core, *server, "it was removed by an administrator");
      break;
    }
    default:
      break;
  }
  core.events().Add(request.force() ? Severity::kWarning : Severity::kInfo, kind,
                    *outcome + (request.force() ? " (forced)" : "") + Because(request.reason()),
                    {.server = id, .by = request.operator_()});
  return Status::Ok();
}

uint64_t CopySpeed(Core& core) {
  const RepairManager::Counters counters = core.repair().counters();
  return counters.bytes_per_second;
}

void ExplainServerChunks(Core& core, const proto::ServerChunksRequest& request,
                         proto::ServerChunksResponse* response) {
  const ServerId id(request.server());
  const ServerInfo* server = core.servers().Find(id);
  if (server == nullptr) {
    *response->mutable_status() =
        ToProto(Status(StatusCode::kNotFound, "there is no server " + ToString(id)));
    return;
  }
  const uint32_t limit =
      request.max_chunks() == 0 ? kMaxExplained : std::min(request.max_chunks(), kMaxExplained);
  const std::vector<ChunkId> page = ChunksOfServer(core.txn(), id, ChunkId{}, limit);
  response->set_complete(page.size() < limit);
  std::map<std::string, proto::WaitingGroup> groups;
  for (ChunkId chunk : page) {
    auto record = ChunkRecordOf(core.txn(), chunk);
    if (!record) continue;
    std::string reason = "deleted; its copy is erased when the server can be reached";
    std::string next;
    if (record->state() != proto::CHUNK_DELETING) {
      const RepairPlan plan = core.repair().PlanOf(chunk, *record);
      reason = core.repair().Busy(chunk)               ? "is being copied or switched over now"
               : plan.action == RepairAction::kNothing ? "stays: nothing asks for a move"
                                                       : plan.reason;
      next = core.repair().NextAttempt(chunk);
    }
    if (groups.size() >= kMaxGroups && !groups.contains(reason)) reason = "other reasons";
    proto::WaitingGroup& group = groups[reason];
    if (group.chunks() == 0) {
      group.set_reason(reason);
      group.set_example_chunk(chunk.value());
      group.set_next_attempt(next);
    }
    group.set_chunks(group.chunks() + 1);
  }
  for (auto& [reason, group] : groups) *response->add_groups() = std::move(group);
}

void FinishServerChunks(Core& core, ServerId id, proto::ServerChunksResponse* response) {
  const ServerInfo* server = core.servers().Find(id);
  if (server == nullptr || server->mode != proto::SERVER_DRAINING) return;
  if (server->drain_chunks > response->chunks())
    response->set_moved(server->drain_chunks - response->chunks());
  const int64_t elapsed_ns = core.wall() - server->mode_since_wall_ns;
  if (response->moved() > 0 && elapsed_ns > 0) {
    const double per_second = static_cast<double>(response->moved()) * 1e9 / static_cast<double>(elapsed_ns);
    response->set_eta_seconds(1 +
                              static_cast<uint64_t>(static_cast<double>(response->chunks()) / per_second));
  }
}

}  // namespace cairn::master
