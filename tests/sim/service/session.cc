#include "tests/sim/service/session.h"

#include <algorithm>
#include <unordered_set>
#include <utility>

#include "client/session/convert.h"
#include "common/wire/frame.h"

namespace cairn::sim::service {

using client::LeaseCache;
using client::LeaseTerm;

class ClientSession::Channel final : public master::SessionChannel {
 public:
  Channel(std::shared_ptr<Link> link, ClientSession* session) : link_(std::move(link)), session_(session) {}
  void Send(proto::MasterMessage message) override {
    link_->Send(kMaster, [session = session_, link = link_.get(), message = std::move(message)]() mutable {
      if (session->link_.get() == link) session->OnMessage(message);
    });
  }
  void Close(const Status&) override { link_->Close(kMaster); }

 private:
  const std::shared_ptr<Link> link_;
  ClientSession* const session_;
};

ClientSession::ClientSession(World* world, Network* network, MasterNode* master, const Clock* clock, NodeId node,
                             ServiceRules rules, SessionUser* user)
    : world_(*world),
      network_(*network),
      master_(*master),
      clock_(*clock),
      node_(node),
      rules_(rules),
      user_(*user) {}

void ClientSession::Boot() {
  term_ = std::make_unique<LeaseTerm>(rules_);
  cache_ = std::make_unique<LeaseCache>(1000, &clock_, [this] { return term_->valid_until_ns(); }, rules_);
  session_ = incarnation_ = newest_index_ = 0;
  next_number_ = 1;
  pending_.clear();
  kept_.clear();
  ready_ = lost_commands_ = false;
  link_ = nullptr;
  Connect();
  KeeperForever();
}

void ClientSession::ConnectLater() {
  ready_ = false;
  world_.AfterOn(node_, 20 + static_cast<int64_t>(world_.Random(150)), [this] { Connect(); });
}

void ClientSession::Connect() {
  ready_ = false;
  if (!master_.up()) return ConnectLater();
  link_ = network_.Connect(node_, kMaster);
  channel_ = std::make_shared<Channel>(link_, this);
  stream_since_ = world_.now();
  link_->OnClosed(node_, [this, link = link_.get()] {
    if (link_.get() == link) ConnectLater();
  });
  link_->OnClosed(kMaster,
                  [this, channel = channel_] { master_.Push(master::SessionClosedEvent{channel}); });
  SendHello();
}

void ClientSession::Write(std::shared_ptr<proto::ClientMessage> message) {
  link_->Send(node_, [this, channel = channel_, message = std::move(message)] {
    // The core may change what it is given.
    master_.Push(master::SessionMessageEvent{channel, std::make_shared<proto::ClientMessage>(*message)});
  });
}

void ClientSession::SendHello() {
  auto message = std::make_shared<proto::ClientMessage>();
  proto::Hello* hello = message->mutable_hello();
  hello->set_wire_version(wire::kWireVersion);
  hello->set_session(session_);
  hello->set_client_name(NodeName(node_));
  hello->set_host_id("host" + std::to_string(node_));
  if (session_ != 0) {
    for (proto::LeaseClaim& claim : cache_->Claims(1000)) *hello->add_claims() = std::move(claim);
    for (const proto::KeptCommand& kept : kept_) *hello->add_kept() = kept;
  }
  hello_sent_ns_ = clock_.NowNanos();
  Write(std::move(message));
}

void ClientSession::Keep(const proto::MasterMessage& message) {
  for (const proto::KeptCommand& kept : message.kept()) kept_.push_back(kept);
  while (!kept_.empty() && kept_.front().log_index() <= message.durable_index()) kept_.pop_front();
}

void ClientSession::OnMessage(proto::MasterMessage& message) {
  if (!ready_) {
    if (message.has_hello_reply()) OnHelloReply(message);
    return;
  }
  Keep(message);
  if (message.has_reply()) {
    OnReply(message.reply());
  } else if (message.has_renew_reply()) {
    if (term_->Renewed(message.renew_reply().number(), clock_.NowNanos())) oldest_renewal_ = world_.now();
  } else if (message.has_recall()) {
    for (const proto::RecallItem& item : message.recall().items()) user_.OnRecall(item);
  } else if (message.notice().has_reconfigured()) {
    user_.OnReconfigured(message.notice().reconfigured());
  }
}

void ClientSession::LoseSession(const proto::HelloReply& reply) {
  world_.Trace(NodeName(node_) + " has lost its session " + std::to_string(session_) + ": " +
               reply.status().message());
  world_.Mark("a session was lost");
  if (incarnation_ != reply.incarnation() && !kept_.empty()) {
    lost_commands_ = true;
    kept_.clear();
  }
  session_ = 0;
  term_->End();
  auto failed = std::exchange(pending_, {});
  cache_->DropExcept(LeaseCache::Keep::kNothing, {});
  user_.OnSessionLost();
  for (auto& [number, call] : failed) {
    if (call.done) call.done(Status(StatusCode::kMayHaveCommitted, "the session was lost"), {});
  }
}

void ClientSession::OnHelloReply(const proto::MasterMessage& message) {
  const proto::HelloReply& reply = message.hello_reply();
  if (client::FromProto(reply.status()).code() == StatusCode::kSessionUnknown) {
    link_->Close(node_);
    LoseSession(reply);
    return Connect();
  }
  if (reply.status().code() != 0) {
    link_->Close(node_);
    return ConnectLater();
  }
  const bool resuming = session_ != 0;
  const bool restarted = incarnation_ != 0 && incarnation_ != reply.incarnation();
  const bool lost_tail = restarted && message.durable_index() < newest_index_;
  if (restarted) {
    newest_index_ = message.durable_index();
    kept_.clear();
  }
  if (reply.lost_commands() > 0) {
    world_.Mark("commands were lost for good");
    lost_commands_ = true;
  }
  Keep(message);
  if (resuming && (restarted || reply.rejected_claims_size() > 0)) {
    if (lost_tail) world_.Mark("a client met a master that forgot");
    const std::unordered_set<uint64_t> rejected(reply.rejected_claims().begin(), reply.rejected_claims().end());
    cache_->DropExcept(lost_tail ? LeaseCache::Keep::kClaimedWrite : LeaseCache::Keep::kClaimed, rejected);
    user_.OnLeasesDropped();
  }
  session_ = reply.session();
  incarnation_ = reply.incarnation();
  lease_ms_ = reply.lease_ms();
  term_->Start(hello_sent_ns_, lease_ms_ * kNanosPerMilli);
  next_renewal_ = world_.now() + lease_ms_ / 5;
  ready_ = true;
  for (const auto& [number, call] : pending_) Write(call.message);
}

void ClientSession::OnReply(const proto::Reply& reply) {
  const auto found = pending_.find(reply.number());
  if (found == pending_.end()) return;
  const Pending call = std::move(found->second);
  pending_.erase(found);
  newest_index_ = std::max(newest_index_, reply.log_index());
  cache_->ApplyReply(call.message->request(), reply);
  if (call.done) call.done(client::FromProto(reply.status()), reply);
}

uint64_t ClientSession::Call(proto::Request request, Done done) {
  const uint64_t number = next_number_++;
  request.set_number(number);
  request.mutable_credentials()->set_groups_known(true);
  request.set_acked_through(pending_.empty() ? number - 1 : pending_.begin()->first - 1);
  auto message = std::make_shared<proto::ClientMessage>();
  *message->mutable_request() = std::move(request);
  if (ready_) Write(message);
  pending_[number] = {std::move(message), std::move(done)};
  return number;
}

bool ClientSession::ChangesNames() const {
  return std::any_of(pending_.begin(), pending_.end(), [](const auto& call) {
    return call.second.message->request().has_create() || call.second.message->request().has_unlink();
  });
}

void ClientSession::Abandon(uint64_t number) {
  const auto found = pending_.find(number);
  if (found != pending_.end()) found->second.done = nullptr;
}

void ClientSession::SendRecallReply(const proto::RecallReply& reply) {
  if (!ready_) return;
  auto message = std::make_shared<proto::ClientMessage>();
  *message->mutable_recall_reply() = reply;
  Write(std::move(message));
}

void ClientSession::KeeperForever() {
  if (ready_) {
    if (world_.now() >= next_renewal_) {
      if (!term_->waiting()) oldest_renewal_ = world_.now();
      auto message = std::make_shared<proto::ClientMessage>();
      message->mutable_renew()->set_number(term_->Sent(clock_.NowNanos()));
      Write(std::move(message));
      next_renewal_ = world_.now() + lease_ms_ / 5;
    }
    if (term_->waiting() && world_.now() - oldest_renewal_ > lease_ms_ * 2 / 5) {
      world_.Mark("a stream without answers was given up");
      link_->Close(node_);
      ConnectLater();
    }
  } else if (link_ != nullptr && link_->open(node_) && world_.now() - stream_since_ > 10'000) {
    link_->Close(node_);
    ConnectLater();
  }
  world_.AfterOn(node_, 50, [this] { KeeperForever(); });
}

}  // namespace cairn::sim::service
