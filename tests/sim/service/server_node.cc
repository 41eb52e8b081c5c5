#include "tests/sim/service/server_node.h"

#include <utility>

#include "common/wire/frame.h"

namespace cairn::sim::service {
namespace {

constexpr int64_t kHeartbeatMs = 500;
constexpr int64_t kSilenceMs = 2'500;

void ToProto(const ReplicaInfo& info, proto::ReplicaInfoProto* to) {
  to->set_chunk(info.chunk.value());
  to->set_promised(info.promised.value());
  service::ToProto(info.accepted, to->mutable_accepted());
  service::ToProto(info.durable, to->mutable_durable());
  to->set_length(info.length);
  to->set_sealed(info.sealed.value());
  to->set_tombstone(info.tombstone.value());
  to->set_amnesic(info.amnesic);
  to->set_corrupt(info.corrupt);
}

}  // namespace

void ToProto(const Status& status, proto::StatusProto* to) {
  to->set_code(static_cast<uint32_t>(status.code()));
  if (!status.ok()) to->set_message(status.message());
}
void ToProto(Stamp stamp, proto::Stamp* to) {
  to->set_epoch(stamp.epoch.value());
  to->set_seq(stamp.seq);
}
Stamp FromProto(const proto::Stamp& stamp) { return {Epoch(stamp.epoch()), stamp.seq()}; }

// The master's end of one connection.
class ServerNode::Channel final : public master::ServerChannel {
 public:
  Channel(std::shared_ptr<Link> link, ServerNode* node) : link_(std::move(link)), node_(node) {}
  void Send(proto::MasterToChunkserver message) override {
    link_->Send(kMaster, [node = node_, message = std::move(message)] { node->OnMessage(message); });
  }
  void Close(const Status&) override { link_->Close(kMaster); }

 private:
  const std::shared_ptr<Link> link_;
  ServerNode* const node_;
};

ServerNode::ServerNode(World* world, Network* network, MasterNode* master, ReplicaObserver* observer, ServerId id,
                       replication::Rules rules, std::function<Server*(ServerId)> peers)
    : world_(*world),
      network_(*network),
      master_(*master),
      server_(world, observer, id, rules, std::move(peers)) {}

ServerNode::~ServerNode() = default;

void ServerNode::Boot() {
  server_.Boot();
  registered_ = false;
  Connect();
  KeeperForever();
}

void ServerNode::Crash() {
  network_.ProcessGone(node());
  server_.CrashProcess();
}
void ServerNode::LosePower() {
  network_.ProcessGone(node());
  server_.LosePower();
}
void ServerNode::LoseDisk() {
  network_.ProcessGone(node());
  server_.LoseDisk();
  ++disk_number_;
}

void ServerNode::Connect() {
  registered_ = false;
  heard_at_ = world_.now();
  if (!master_.up()) {
    world_.AfterOn(node(), 100 + static_cast<int64_t>(world_.Random(200)), [this] { Connect(); });
    return;
  }
  link_ = network_.Connect(node(), kMaster);
  channel_ = std::make_shared<Channel>(link_, this);
  link_->OnClosed(node(), [this] {
    world_.AfterOn(node(), 50 + static_cast<int64_t>(world_.Random(200)), [this] { Connect(); });
  });
  link_->OnClosed(kMaster,
                  [this, channel = channel_] { master_.Push(master::ServerClosedEvent{channel}); });
  Register();
}

proto::DiskInfo ServerNode::Disk() const {
  proto::DiskInfo disk;
  disk.set_disk_uuid(Uuid{2 + disk_number_, server_.id().value()}.ToString());
  disk.set_path("/disk");
  disk.set_total_bytes(1ull << 40);
  disk.set_free_bytes(1ull << 39);
  disk.set_reserve_bytes(1ull << 30);
  disk.set_amnesic(server_.needs_floor());
  return disk;
}

void ServerNode::SendUp(std::shared_ptr<proto::ChunkserverMessage> message) {
  link_->Send(node(), [this, channel = channel_, message = std::move(message)] {
    master_.Push(master::ServerMessageEvent{channel, message});
  });
}

void ServerNode::Register() {
  auto message = std::make_shared<proto::ChunkserverMessage>();
  proto::Register* request = message->mutable_register_();
  request->set_wire_version(wire::kWireVersion);
  const std::string name = std::to_string(server_.id().value());
  request->set_server_uuid(Uuid{1, server_.id().value()}.ToString());
  if (known_) {
    request->set_cluster_id(Uuid{7, 7}.ToString());
    request->set_server(server_.id().value());
  }
  request->set_data_address("10.0.0." + name + ":9410");
  request->set_host_id("host" + name);
  request->set_incarnation(world_.Incarnation(node()));
  *request->add_disks() = Disk();
  SendUp(std::move(message));
}

void ServerNode::OnMessage(const proto::MasterToChunkserver& message) {
  heard_at_ = world_.now();
  if (message.has_register_reply()) {
    const proto::RegisterReply& reply = message.register_reply();
    if (reply.status().code() != 0) {
      world_.Mark("a registration was refused");
      link_->Close(node());
      world_.AfterOn(node(), 300, [this] { Connect(); });
      return;
    }
    CAIRN_CHECK(reply.server() == server_.id().value(), "servers get their ids in order");
    known_ = true;
    registered_ = true;
    if (reply.epoch_floor() != 0) server_.Register(Epoch(reply.epoch_floor()));
    SendReport();
    return;
  }
  if (message.has_command()) Execute(message.command());
}

void ServerNode::Carry(Server& server, const proto::ChunkCommand& command, const ReplyFn& reply) {
  const ChunkId chunk(command.chunk());
  switch (command.kind_case()) {
    case proto::ChunkCommand::kQuery:
      return server.Query(chunk, reply);
    case proto::ChunkCommand::kFence:
      return server.Fence(chunk, Epoch(command.fence().epoch()), reply);
    case proto::ChunkCommand::kBegin:
      return server.Begin(chunk, Epoch(command.begin().epoch()), FromProto(command.begin().base()), reply);
    case proto::ChunkCommand::kSeal:
      return server.Seal(chunk, FromProto(command.seal().stamp()), reply);
    case proto::ChunkCommand::kPrepareDelete:
      return server.PrepareDelete(chunk, Epoch(command.prepare_delete().epoch()), reply);
    case proto::ChunkCommand::kAbortDelete:
      return server.AbortDelete(chunk, Epoch(command.abort_delete().epoch()), reply);
    case proto::ChunkCommand::kErase:
      return server.Erase(chunk, Epoch(command.erase().epoch()), reply);
    case proto::ChunkCommand::kSync: {
      std::vector<ServerId> sources;
      for (const proto::ServerAddress& source : command.sync().sources()) sources.emplace_back(source.server());
      return server.Sync(chunk, Epoch(command.sync().epoch()), FromProto(command.sync().base()), sources, reply);
    }
    default:
      return reply({Status(StatusCode::kNotSupported, "unknown command"), {}, {}, {}});
  }
}

void ServerNode::Execute(const proto::Command& command) {
  struct Batch {
    std::shared_ptr<proto::ChunkserverMessage> answer = std::make_shared<proto::ChunkserverMessage>();
    int missing = 0;
  };
  const auto batch = std::make_shared<Batch>();
  batch->missing = command.chunks_size();
  proto::CommandResult* result = batch->answer->mutable_result();
  result->set_number(command.number());
  for (int i = 0; i < command.chunks_size(); ++i) result->add_results();
  for (int i = 0; i < command.chunks_size(); ++i) {
    const proto::ChunkCommand& each = command.chunks(i);
    const auto answered = [this, batch, i, link = link_, query = each.has_query(),
                           chunk = ChunkId(each.chunk())](const Answer& answer) {
      proto::ChunkResult* to = batch->answer->mutable_result()->mutable_results(i);
      Status status = answer.status;
      if (query && status.ok() && server_.Find(chunk, false) == nullptr)
        status = Status(StatusCode::kUnknownChunk, "no such chunk here");
      ToProto(status, to->mutable_status());
      ReplicaInfo info = answer.info;
      info.chunk = chunk;
      ToProto(info, to->mutable_info());
      if (--batch->missing == 0 && link == link_) SendUp(batch->answer);
    };
    world_.Trace("master -> " + NodeName(node()) + ": " + each.ShortDebugString());
    Carry(server_, each, answered);
  }
}

void ServerNode::SendReport() {
  auto message = std::make_shared<proto::ChunkserverMessage>();
  for (const auto& [chunk, info] : server_.Report()) ToProto(info, message->mutable_report()->add_replicas());
  message->mutable_report()->set_last(true);
  SendUp(std::move(message));
}

void ServerNode::KeeperForever() {
  if (link_ != nullptr && link_->open(node())) {
    if (world_.now() - heard_at_ > kSilenceMs) {
      link_->Close(node());
      Connect();
    } else if (registered_) {
      auto message = std::make_shared<proto::ChunkserverMessage>();
      message->mutable_heartbeat()->set_number(1);
      *message->mutable_heartbeat()->add_disks() = Disk();
      SendUp(std::move(message));
      // The scrubber.
      for (const auto& [chunk, info] : server_.Report()) {
        if (!info.corrupt || !world_.Chance(200)) continue;
        auto damage = std::make_shared<proto::ChunkserverMessage>();
        damage->mutable_damage()->set_chunk(chunk.value());
        damage->mutable_damage()->set_length(4096);
        damage->mutable_damage()->set_detail("bad block");
        SendUp(std::move(damage));
      }
    }
  }
  world_.AfterOn(node(), kHeartbeatMs, [this] { KeeperForever(); });
}

}  // namespace cairn::sim::service
