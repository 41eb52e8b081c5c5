// What administrators ask of the topology: names and places of servers, disks that are drained or gone; and the log levels.
#include <algorithm>
#include <cctype>

#include "common/log.h"
#include "master/cluster/event_log.h"
#include "master/cluster/server_keeper.h"
#include "master/core/admin.h"
#include "master/core/messages.h"

namespace cairn::master {
namespace {

constexpr size_t kMaxLabel = 64;

// Names and places appear in lists with commas ("cs3,rack:B") and in tables.
Status CheckLabel(const std::string& what, const std::string& text) {
  const bool good = text.size() <= kMaxLabel && std::all_of(text.begin(), text.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '.' || c == '_' || c == '-';
  });
  if (good) return Status::Ok();
  return {StatusCode::kInvalidArgument,
          "a " + what + " has at most " + std::to_string(kMaxLabel) + " letters, digits, '.', '_' and '-'"};
}

Status CheckName(const Core& core, ServerId server, const std::string& name) {
  if (name.empty()) return Status::Ok();
  CAIRN_RETURN_IF_ERROR(CheckLabel("name", name));
  const std::string digits = name.starts_with("cs") ? name.substr(2) : name;
  if (digits.find_first_not_of("0123456789") == std::string::npos)
    return {StatusCode::kInvalidArgument, "'" + name + "' would be taken for a server's number"};
  const ServerInfo* other = core.servers().FindByName(name);
  if (other != nullptr && other->id != server)
    return {StatusCode::kAlreadyExists, ToString(other->id) + " has the name " + name};
  return Status::Ok();
}

bool IsLogLevel(const std::string& level) {
  return level == "debug" || level == "info" || level == "warning" || level == "error";
}

std::string PlaceText(const ServerInfo& server) {
  return "zone '" + server.zone + "', rack '" + server.rack + "'";
}

struct FoundDisk {
  const ServerInfo* server = nullptr;
  std::vector<proto::DiskRecord> roster;
  size_t at = 0;
  const proto::DiskInfo* info = nullptr;  // as its server reports it; nullptr: it does not
};

FoundDisk FindDisk(const Core& core, const std::string& uuid) {
  FoundDisk found;
  for (const auto& [id, server] : core.servers().all()) {
    if (server.mode == proto::SERVER_REMOVED) continue;
    for (size_t i = 0; i < server.roster.size(); ++i) {
      if (server.roster[i].disk_uuid() != uuid) continue;
      found = {.server = &server, .roster = server.roster, .at = i, .info = nullptr};
      for (const proto::DiskInfo& disk : server.disks) {
        if (disk.disk_uuid() == uuid) found.info = &disk;
      }
      return found;
    }
  }
  return found;
}

// Why a disk cannot be drained at all; what could be forced goes to *response.
Status CheckDrain(const FoundDisk& disk, proto::ChangeDiskResponse* response) {
  const std::string name = ToString(disk.server->id);
  if (!disk.server->up || disk.info == nullptr)
    return {StatusCode::kFailedPrecondition, name + " is down or does not have the disk: only a disk that can be read is drained"};
  if (disk.info->failed()) {
    return {StatusCode::kFailedPrecondition,
            "the disk has failed (" + disk.info->problem() + "): what it held is copied from other servers by itself"};
  }
  size_t others = 0;
  for (const proto::DiskInfo& other : disk.server->disks) {
    if (other.disk_uuid() == disk.info->disk_uuid() || other.failed() || other.draining() ||
        other.storage_class() != disk.info->storage_class()) {
      continue;
    }
    ++others;
    if (other.free_bytes() > other.reserve_bytes())
      response->set_room_bytes(response->room_bytes() + other.free_bytes() - other.reserve_bytes());
  }
  response->set_bytes(disk.info->used_bytes());
  if (others == 0) {
    return {StatusCode::kFailedPrecondition,
            name + " has no other working disk" +
                (disk.info->storage_class().empty() ? std::string() : " with the tags '" + disk.info->storage_class() + "'") +
                " that its chunks could move to; drain the server instead (cairn server drain " + name + ")"};
  }
  if (response->bytes() > response->room_bytes()) {
    response->add_refusals(std::to_string(response->bytes()) + " bytes are on it, and the other " + std::to_string(others) +
                           (others == 1 ? " disk has " : " disks have ") + std::to_string(response->room_bytes()) +
                           " bytes of room; add a disk, or drain the server");
  }
  return Status::Ok();
}

}  // namespace

proto::SetServerResponse SetServer(Core& core, const proto::SetServerRequest& request) {
  proto::SetServerResponse response;
  const auto fail = [&](const Status& status) {
    *response.mutable_status() = ToProto(status);
    return response;
  };
  const ServerId id(request.server());
  const ServerInfo* server = core.servers().Find(id);
  if (server == nullptr || server->mode == proto::SERVER_REMOVED)
    return fail(Status(StatusCode::kNotFound, "there is no server " + ToString(id)));
  proto::SetServerLabelsCmd labels;
  labels.set_server(id.value());
  labels.set_name(request.has_name() ? request.name() : server->name);
  std::optional<std::string> zone = server->zone_set;
  std::optional<std::string> rack = server->rack_set;
  if (request.has_zone()) zone = request.zone().empty() ? std::nullopt : std::optional(request.zone());
  if (request.has_rack()) rack = request.rack().empty() ? std::nullopt : std::optional(request.rack());
  Status checked = CheckName(core, id, labels.name());
  if (checked.ok() && zone) checked = CheckLabel("zone", *zone);
  if (checked.ok() && rack) checked = CheckLabel("rack", *rack);
  if (!checked.ok()) return fail(checked);
  if (zone) labels.set_zone(*zone);
  if (rack) labels.set_rack(*rack);
  const std::string before = PlaceText(*server);
  const std::string name_before = server->name;
  if (const Status set = core.server_keeper().SetLabels(id, labels); !set.ok()) return fail(set);
  server = core.servers().Find(id);
  std::string outcome = ToString(id);
  if (server->name != name_before)
    outcome += server->name.empty() ? " has no name any more" : " is called " + server->name;
  if (PlaceText(*server) != before) {
    outcome += std::string(server->name != name_before ? ", and" : "") + " is in " + PlaceText(*server) + " (before: " + before +
               "); chunks that have two copies in one failure domain now are moved by themselves";
  }
  if (outcome == ToString(id)) {
    outcome += " is as it was: " + PlaceText(*server);
  } else {
    core.events().Add(Severity::kInfo, "server.set", outcome, {.server = id, .by = request.operator_()});
  }
  response.set_outcome(outcome);
  *response.mutable_status() = ToProto(Status::Ok());
  return response;
}

proto::ChangeDiskResponse ChangeDisk(Core& core, const proto::ChangeDiskRequest& request) {
  proto::ChangeDiskResponse response;
  const auto fail = [&](const Status& status) {
    *response.mutable_status() = ToProto(status);
    return response;
  };
  FoundDisk disk = FindDisk(core, request.disk_uuid());
  if (disk.server == nullptr)
    return fail(Status(StatusCode::kNotFound, "no server has, or had, a disk " + request.disk_uuid()));
  if (request.force() && request.reason().empty())
    return fail(Status(StatusCode::kInvalidArgument, "--force needs --reason: it is kept in the event log"));
  proto::DiskRecord& record = disk.roster[disk.at];
  const ServerId id = disk.server->id;
  const std::string what = ToString(id) + ": disk " + record.path() + " (" + record.disk_uuid() + ")";
  std::string kind;
  std::string outcome;
  switch (request.action()) {
    case proto::DISK_DRAIN: {
      const Status checked = CheckDrain(disk, &response);
      if (!checked.ok()) return fail(checked);
      if (response.refusals_size() > 0 && !request.force() && !request.preview())
        return fail(Status(StatusCode::kFailedPrecondition, "refused: " + response.refusals(0)));
      record.set_draining(true);
      *record.mutable_since() = core.TimeNow();
      kind = "disk.draining";
      outcome = what + " is drained: its " + std::to_string(disk.info->chunks()) + " chunks (" +
                std::to_string(disk.info->used_bytes() >> 20) + " MiB) move to other disks of the server";
      break;
    }
    case proto::DISK_UNDRAIN:
      if (!record.draining()) return fail(Status(StatusCode::kFailedPrecondition, what + " is not being drained"));
      record.set_draining(false);
      record.clear_since();
      kind = "disk.in-service";
      outcome = what + " is in service again";
      break;
    case proto::DISK_FORGET:
      if (!record.missing()) {
        return fail(Status(StatusCode::kFailedPrecondition,
                           what + " is there: only a missing one is forgotten (leave it out and restart its server)"));
      }
      // Forgotten now, it would be as if the server never had it, and "never had that chunk" would count as a vote.
      if (!record.absence_settled()) {
        return fail(Status(StatusCode::kFailedPrecondition,
                           what + " cannot be forgotten yet: its server has not confirmed that it knows of the loss. It does within a "
                                  "few seconds once it is up; one of an older version has to be upgraded first, one that does not "
                                  "come back is removed (cairn server remove " + ToString(id) + ")"));
      }
      kind = "disk.forgotten";
      outcome = what + " is forgotten";
      break;
    default:
      return fail(Status(StatusCode::kInvalidArgument, "unknown action on a disk"));
  }
  if (!request.preview()) {
    record.set_reason(request.reason());
    if (request.action() == proto::DISK_FORGET) disk.roster.erase(disk.roster.begin() + static_cast<ptrdiff_t>(disk.at));
    if (const Status set = core.server_keeper().SetDisks(id, disk.roster); !set.ok()) return fail(set);
    core.events().Add(request.force() ? Severity::kWarning : Severity::kInfo, kind,
                      outcome + (request.force() ? " (forced)" : "") +
                          (request.reason().empty() ? "" : ": " + request.reason()),
                      {.server = id, .by = request.operator_()});
    response.set_outcome(outcome);
  }
  *response.mutable_status() = ToProto(Status::Ok());
  return response;
}

proto::LogLevelResponse ChangeLogLevel(Core& core, const proto::LogLevelRequest& request) {
  proto::LogLevelResponse response;
  const auto fail = [&](const Status& status) {
    *response.mutable_status() = ToProto(status);
    return response;
  };
  if (!IsLogLevel(request.level()))
    return fail(Status(StatusCode::kInvalidArgument, "'" + request.level() + "' is none of debug, info, warning and error"));
  for (uint32_t server : request.servers()) {
    if (core.servers().Find(ServerId(server)) == nullptr)
      return fail(Status(StatusCode::kNotFound, "there is no server " + ToString(ServerId(server))));
    if (!core.servers().IsUp(ServerId(server)))
      return fail(Status(StatusCode::kFailedPrecondition, ToString(ServerId(server)) + " is down; it starts with its --log-level"));
  }
  std::string who;
  for (uint32_t server : request.servers()) {
    proto::MasterToChunkserver message;
    message.mutable_set_log_level()->set_level(request.level());
    core.SendToServer(ServerId(server), std::move(message));
    who += (who.empty() ? "" : ", ") + ToString(ServerId(server));
  }
  if (request.master()) {
    (void)SetLogLevel(request.level());
    who += std::string(who.empty() ? "" : ", ") + "the master";
  }
  if (who.empty()) return fail(Status(StatusCode::kInvalidArgument, "name the master, servers or all"));
  response.set_outcome(who + (request.servers_size() + (request.master() ? 1 : 0) == 1 ? " logs" : " log") + " at level " +
                       request.level() + " until the next restart");
  core.events().Add(Severity::kInfo, "log.level", response.outcome(), {.by = request.operator_()});
  *response.mutable_status() = ToProto(Status::Ok());
  return response;
}

}  // namespace cairn::master
