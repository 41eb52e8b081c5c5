// A simulated chunkserver (tests/sim/server.h) that talks to the production master: registers, sends heartbeats and
// reports, carries out commands.
//
// Thread-safety: none.
#pragma once

#include <memory>

#include "tests/sim/server.h"
#include "tests/sim/service/link.h"
#include "tests/sim/service/master_node.h"

namespace cairn::sim::service {

class ServerNode {
 public:
  ServerNode(World* world, Network* network, MasterNode* master, ReplicaObserver* observer, ServerId id,
             replication::Rules rules, std::function<Server*(ServerId)> peers);
  ~ServerNode();

  Server& server() { return server_; }
  NodeId node() const { return server_.node(); }
  void Boot();
  void Crash();
  void LosePower();
  void LoseDisk();
  bool registered() const { return registered_; }

 private:
  class Channel;
  void Connect();
  void Register();
  void OnMessage(const proto::MasterToChunkserver& message);
  void Execute(const proto::Command& command);
  static void Carry(Server& server, const proto::ChunkCommand& command, const ReplyFn& reply);
  void SendReport();
  void KeeperForever();
  void SendUp(std::shared_ptr<proto::ChunkserverMessage> message);
  proto::DiskInfo Disk() const;

  World& world_;
  Network& network_;
  MasterNode& master_;
  Server server_;
  std::shared_ptr<Link> link_;
  std::shared_ptr<Channel> channel_;
  bool known_ = false;  // the master gave it its id
  bool registered_ = false;
  uint64_t disk_number_ = 1;
  int64_t heard_at_ = 0;
};

// The wire's values of the simulator's.
void ToProto(const Status& status, proto::StatusProto* to);
void ToProto(Stamp stamp, proto::Stamp* to);
Stamp FromProto(const proto::Stamp& stamp);

}  // namespace cairn::sim::service
