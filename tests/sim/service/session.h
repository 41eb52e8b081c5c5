// A simulated client's session with the master, as client/session/session.h keeps one, without threads: Hello and
// resumption with claims and kept commands, numbered requests sent again until they are answered, renewals, and the
// production LeaseTerm and LeaseCache.
//
// Thread-safety: none.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "client/cache/lease_cache.h"
#include "client/session/lease_term.h"
#include "tests/sim/service/link.h"
#include "tests/sim/service/master_node.h"

namespace cairn::sim::service {

// What the session tells; in the order of the stream.
class SessionUser {
 public:
  virtual ~SessionUser() = default;
  virtual void OnRecall(const proto::RecallItem& item) = 0;
  virtual void OnReconfigured(const proto::Reconfigured& notice) = 0;
  // Leases that did not survive a restart of the master are out of the cache already.
  virtual void OnLeasesDropped() = 0;
  virtual void OnSessionLost() = 0;
};

class ClientSession {
 public:
  using Done = std::function<void(const Status&, const proto::Reply&)>;

  ClientSession(World* world, Network* network, MasterNode* master, const Clock* clock, NodeId node,
                ServiceRules rules, SessionUser* user);

  // A process that starts: it knows nothing of the one before.
  void Boot();
  // `done` runs when the reply arrived, or with kMayHaveCommitted when the session was lost.
  uint64_t Call(proto::Request request, Done done);
  void SendRecallReply(const proto::RecallReply& reply);
  // Nobody waits for the reply any more; what it grants counts all the same.
  void Abandon(uint64_t number);

  client::LeaseCache& cache() { return *cache_; }
  bool LeasesValid() const { return clock_.NowNanos() < term_->valid_until_ns(); }
  uint64_t id() const { return session_; }
  bool ready() const { return ready_; }
  // A request of its own that changes names is under way.
  bool ChangesNames() const;
  uint64_t requests_open() const { return pending_.size(); }
  // True once after the master lost commands of this session for good.
  bool TakeLostCommands() { return std::exchange(lost_commands_, false); }

 private:
  class Channel;
  struct Pending {
    std::shared_ptr<proto::ClientMessage> message;
    Done done;
  };
  void Connect();
  void ConnectLater();
  void SendHello();
  void Write(std::shared_ptr<proto::ClientMessage> message);
  void OnMessage(proto::MasterMessage& message);
  void OnHelloReply(const proto::MasterMessage& message);
  void OnReply(const proto::Reply& reply);
  void Keep(const proto::MasterMessage& message);
  void LoseSession(const proto::HelloReply& reply);
  void KeeperForever();

  World& world_;
  Network& network_;
  MasterNode& master_;
  const Clock& clock_;
  const NodeId node_;
  const ServiceRules rules_;
  SessionUser& user_;

  std::unique_ptr<client::LeaseTerm> term_;
  std::unique_ptr<client::LeaseCache> cache_;
  std::shared_ptr<Link> link_;
  std::shared_ptr<Channel> channel_;
  bool ready_ = false;
  int64_t hello_sent_ns_ = 0;
  int64_t stream_since_ = 0;
  uint64_t session_ = 0;
  uint64_t incarnation_ = 0;
  int64_t lease_ms_ = 0;
  uint64_t next_number_ = 1;
  std::map<uint64_t, Pending> pending_;
  std::deque<proto::KeptCommand> kept_;
  uint64_t newest_index_ = 0;
  int64_t next_renewal_ = 0;
  int64_t oldest_renewal_ = 0;
  bool lost_commands_ = false;
};

}  // namespace cairn::sim::service
