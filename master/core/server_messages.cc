#include "common/log.h"
#include "master/cluster/event_log.h"
#include "master/cluster/repair_manager.h"
#include "master/cluster/replica_audit.h"
#include "master/cluster/server_keeper.h"
#include "master/core/delete_procedure.h"
#include "master/core/messages.h"
#include "master/core/reconfigure_op.h"
#include "master/state/chunk_queries.h"

namespace cairn::master {

void ServerMessages::Handle(Core& core, const std::shared_ptr<ServerChannel>& channel,
                            proto::ChunkserverMessage& message) {
  if (message.has_register_()) {
    OnRegister(core, channel, message.register_());
    return;
  }
  ServerInfo* server = core.servers_.FindByChannel(channel.get());
  if (server == nullptr) {
    channel->Close(
        Status(StatusCode::kFailedPrecondition, "not registered on this stream; send Register first"));
    return;
  }
  switch (message.kind_case()) {
    case proto::ChunkserverMessage::kHeartbeat:
      OnHeartbeat(core, *server, message.heartbeat());
      break;
    case proto::ChunkserverMessage::kReport:
      core.audit().OnReport(server->id, message.report());
      break;
    case proto::ChunkserverMessage::kResult:
      core.commander().OnResult(server->id, message.result());
      break;
    case proto::ChunkserverMessage::kDamage:
      core.audit().OnDamage(server->id, message.damage());
      break;
    default:
      channel->Close(Status(StatusCode::kMalformed, "an empty message"));
  }
}

namespace {

void TellFailedDisk(Core& core, ServerId server, const proto::DiskInfo& disk) {
  core.events().Add(Severity::kError, "disk.failed",
                    ToString(server) + ": disk " + disk.path() + " failed; what it held is copied from other servers: " + disk.problem(),
                    {.server = server});
}

}  // namespace

void ServerMessages::OnRegister(Core& core, const std::shared_ptr<ServerChannel>& channel,
                                const proto::Register& request) {
  const ServerInfo* known = nullptr;
  const Status check = core.servers_.CheckRegister(request, core.cluster_id(), core.now(), &known);
  if (!check.ok()) {
    CAIRN_LOG(Warning, "registration of {} refused: {}", request.data_address(), check.ToString());
    proto::MasterToChunkserver message;
    *message.mutable_register_reply()->mutable_status() = ToProto(check);
    core.server_outbox_.emplace_back(channel, std::move(message));
    core.after_commit_.push_back([channel, check] { channel->Close(check); });
    return;
  }
  const bool is_new = known == nullptr;
  const ServerId id = is_new ? NextServerId(core.txn()) : known->id;
  const bool changed = is_new || known->address != request.data_address() ||
                       known->own_zone != request.zone() || known->own_rack != request.rack() || known->host_id != request.host_id();
  if (changed) {
    proto::LogCommand command;
    auto* record = command.mutable_register_server();
    record->set_server(id.value());
    record->set_server_uuid(request.server_uuid());
    record->set_address(request.data_address());
    record->set_zone(request.zone());
    record->set_rack(request.rack());
    record->set_host_id(request.host_id());
    const ApplyResult result = core.Apply(command);
    if (!result.ok()) {
      channel->Close(FromProto(result.reply.status()));
      return;
    }
  }
  const bool was_up = !is_new && known->up;
  if (was_up) Down(core, *core.servers_.Find(id), "it registered again");
  core.servers_.Accept(id, request, channel, core.now());
  core.events().Add(Severity::kInfo, is_new ? "server.new" : "server.up",
                    ToString(id) + (is_new ? " joined at " : " is up at ") + request.data_address() + " (" +
                        std::to_string(request.disks_size()) +
                        (request.disks_size() == 1 ? " disk)" : " disks)"),
                    {.server = id});
  for (const proto::DiskInfo& disk : request.disks()) {
    if (disk.failed()) TellFailedDisk(core, id, disk);
  }

  proto::MasterToChunkserver message;
  proto::RegisterReply* reply = message.mutable_register_reply();
  reply->set_cluster_id(core.cluster_id());
  reply->set_server(id.value());
  reply->set_heartbeat_ms(core.options().heartbeat_ms);
  reply->set_incarnation(core.incarnation());
  // Above everything handed out so far: what a forgetful disk once promised can be no higher.
  for (const proto::DiskInfo& disk : request.disks()) {
    if (disk.amnesic() && reply->epoch_floor() == 0) reply->set_epoch_floor(core.ids().NextEpoch().value());
  }
  core.server_keeper().OnRegistered(id, request, reply);
  core.audit().OnRegistered(id);
  core.repair().OnServerUp();
  if (is_new) {
    // A new server must not learn an id that a loss of power could take back.
    core.WhenDurable(core.log_index(),
                     [&core, channel, message] { core.server_outbox_.emplace_back(channel, message); });
  } else {
    core.server_outbox_.emplace_back(channel, std::move(message));
  }
  ReconfigureOp::OnServerUp(core, id);
  DeleteProcedure::OnServerUp(core, id);
  TellSessions(core);
}

void ServerMessages::OnHeartbeat(Core& core, ServerInfo& server, const proto::Heartbeat& heartbeat) {
  const std::vector<proto::DiskInfo> failed = core.servers_.Heartbeat(server, heartbeat, core.now(), core.wall());
  for (const proto::DiskInfo& disk : failed) TellFailedDisk(core, server.id, disk);
  if (!failed.empty()) core.audit().OnDiskFailed(server.id);
  proto::MasterToChunkserver message;
  message.mutable_heartbeat_reply()->set_number(heartbeat.number());
  core.server_keeper().OnHeartbeat(server, heartbeat, message.mutable_heartbeat_reply());
  core.SendToServer(server.id, std::move(message));
}

void ServerMessages::Closed(Core& core, const std::shared_ptr<ServerChannel>& channel,
                            const std::string& reason) {
  if (ServerInfo* server = core.servers_.FindByChannel(channel.get())) Down(core, *server, reason);
}

void ServerMessages::Down(Core& core, ServerInfo& server, const std::string& reason) {
  if (!server.up) return;
  const ServerId id = server.id;
  core.events().Add(Severity::kWarning, "server.down", core.servers_.Describe(id) + " is down: " + reason,
                    {.server = id});
  if (server.channel != nullptr) {
    core.after_commit_.push_back([channel = server.channel, reason] {
      channel->Close(Status(StatusCode::kUnavailable, "counted as down: " + reason));
    });
  }
  core.servers_.MarkDown(server, core.now());
  core.commander_.OnServerDown(
      id, Status(StatusCode::kUnavailable, ToString(id) + " went down (" + reason + ")"));
  core.audit().OnDown(id);
  core.repair().OnServerDown(id);
  TellSessions(core);
}

void ServerMessages::TellSessions(Core& core) {
  proto::MasterMessage message;
  for (proto::ServerAddress& address : core.servers_.Addresses()) {
    *message.mutable_notice()->mutable_servers()->add_servers() = std::move(address);
  }
  for (const auto& [id, session] : core.sessions_.all()) {
    if (session.channel == nullptr) continue;
    core.Send(id, message);
    core.sessions_.Find(id)->servers_version = core.servers_.version();
  }
}

}  // namespace cairn::master
