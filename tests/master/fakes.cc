#include "tests/master/fakes.h"

#include <algorithm>
#include <utility>

namespace cairn::master {

proto::Credentials Root() {
  proto::Credentials root;
  root.set_groups_known(true);
  return root;
}

// --- FakeServer ---

void FakeServer::Register(uint32_t known_id) {
  auto message = std::make_shared<proto::ChunkserverMessage>();
  proto::Register* request = message->mutable_register_();
  request->set_wire_version(wire::kWireVersion);
  if (known_id != 0) request->set_cluster_id(harness_->core().cluster_id());
  request->set_server_uuid(Uuid{1, index_}.ToString());
  request->set_server(known_id);
  request->set_data_address("10.0.0." + std::to_string(index_) + ":9410");
  request->set_host_id("host" + std::to_string(index_));
  request->set_incarnation(reinterpret_cast<uintptr_t>(this));
  proto::DiskInfo* disk = request->add_disks();
  disk->set_disk_uuid(Uuid{2, index_}.ToString());
  disk->set_path("/disk");
  disk->set_total_bytes(1ull << 40);
  disk->set_free_bytes(1ull << 39);
  disk->set_reserve_bytes(1ull << 30);
  if (harness_->on_register) harness_->on_register(index_, request);
  harness_->core().inbox().Push(ServerMessageEvent{shared_from_this(), std::move(message)});
}

void FakeServer::Report() {
  auto message = std::make_shared<proto::ChunkserverMessage>();
  proto::ReplicaReport* report = message->mutable_report();
  for (const auto& [chunk, replica] : replicas_->all()) {
    if (!replicas_->not_yet_there.contains(chunk)) *report->add_replicas() = replicas_->Info(chunk);
  }
  report->set_last(true);
  harness_->core().inbox().Push(ServerMessageEvent{shared_from_this(), std::move(message)});
}

void FakeServer::Heartbeat() {
  auto message = std::make_shared<proto::ChunkserverMessage>();
  message->mutable_heartbeat()->set_number(1);
  message->mutable_heartbeat()->set_missing_disks_taken(harness_->servers_know_missing_disks &&
                                                        register_reply.missing_disks_size() > 0);
  if (harness_->on_heartbeat) harness_->on_heartbeat(index_, message->mutable_heartbeat());
  harness_->core().inbox().Push(ServerMessageEvent{shared_from_this(), std::move(message)});
}

void FakeServer::Disconnect() { harness_->core().inbox().Push(ServerClosedEvent{shared_from_this()}); }

void FakeServer::Send(proto::MasterToChunkserver message) {
  if (message.has_register_reply()) {
    id = message.register_reply().server();
    register_reply = message.register_reply();
  }
  if (message.has_heartbeat_reply()) {
    draining.assign(message.heartbeat_reply().draining_disks().begin(), message.heartbeat_reply().draining_disks().end());
  }
  if (message.has_set_log_level()) log_level = message.set_log_level().level();
  if (!message.has_command()) return;
  commands.push_back(message.command());
  if (mute) {
    held_.push_back(message.command());
    return;
  }
  Answer(message.command());
}

void FakeServer::AnswerHeld() {
  mute = false;
  for (const proto::Command& command : std::exchange(held_, {})) Answer(command);
}

void FakeServer::Answer(const proto::Command& command) {
  auto answer = std::make_shared<proto::ChunkserverMessage>();
  proto::CommandResult* result = answer->mutable_result();
  result->set_number(command.number());
  for (const proto::ChunkCommand& chunk : command.chunks()) {
    if (chunk.has_sync()) harness_->copied.emplace_back(index_, chunk.chunk());
    *result->add_results() =
        replicas_->Execute(chunk, [this](uint32_t server) { return harness_->ReplicasOf(server); });
  }
  harness_->core().inbox().Push(ServerMessageEvent{shared_from_this(), std::move(answer)});
}

// --- FakeClient ---

proto::HelloReply FakeClient::Hello(uint64_t id, std::vector<proto::LeaseClaim> claims) {
  SendHello(id, std::move(claims), {});
  if (!hello && id == 0) {  // a session is opened when it is on disk
    harness_->SyncLog();
    harness_->Settle();
  }
  EXPECT_TRUE(hello.has_value()) << (closed ? closed->ToString() : "no answer to Hello");
  if (!hello) return {};
  session = hello->session();
  return *hello;
}

void FakeClient::SendHello(uint64_t id, std::vector<proto::LeaseClaim> claims,
                           std::vector<proto::KeptCommand> brought) {
  auto message = std::make_shared<proto::ClientMessage>();
  message->mutable_hello()->set_wire_version(wire::kWireVersion);
  message->mutable_hello()->set_session(id);
  message->mutable_hello()->set_client_name("test");
  for (proto::LeaseClaim& claim : claims) *message->mutable_hello()->add_claims() = std::move(claim);
  for (proto::KeptCommand& one : brought) *message->mutable_hello()->add_kept() = std::move(one);
  hello.reset();
  harness_->core().inbox().Push(SessionMessageEvent{shared_from_this(), std::move(message)});
  harness_->Settle();
}

uint64_t FakeClient::Send(proto::Request request) {
  const uint64_t number = Enqueue(std::move(request));
  harness_->Settle();
  return number;
}

uint64_t FakeClient::Enqueue(proto::Request request) {
  if (request.number() == 0) request.set_number(next_number++);
  if (!request.has_credentials()) *request.mutable_credentials() = Root();
  const uint64_t number = request.number();
  auto message = std::make_shared<proto::ClientMessage>();
  *message->mutable_request() = std::move(request);
  harness_->core().inbox().Push(SessionMessageEvent{shared_from_this(), std::move(message)});
  return number;
}

proto::Reply FakeClient::Wait(uint64_t number) {
  harness_->Settle();
  auto it = replies.find(number);
  EXPECT_TRUE(it != replies.end()) << "request " << number << " got no reply";
  return it == replies.end() ? proto::Reply{} : it->second;
}

void FakeClient::Renew() {
  auto message = std::make_shared<proto::ClientMessage>();
  message->mutable_renew()->set_number(1);
  harness_->core().inbox().Push(SessionMessageEvent{shared_from_this(), std::move(message)});
}

void FakeClient::Goodbye() {
  auto message = std::make_shared<proto::ClientMessage>();
  message->mutable_goodbye();
  harness_->core().inbox().Push(SessionMessageEvent{shared_from_this(), std::move(message)});
  harness_->Settle();
}

void FakeClient::Disconnect() {
  harness_->core().inbox().Push(SessionClosedEvent{shared_from_this()});
  harness_->ForgetClient(this);
  harness_->Settle();
}

void FakeClient::AnswerRecall(const proto::RecallItem& item, const proto::InodeCommit* commit, bool open) {
  auto message = std::make_shared<proto::ClientMessage>();
  proto::RecallReply* reply = message->mutable_recall_reply();
  reply->set_inode(item.inode());
  reply->set_number(item.number());
  reply->set_done(true);
  reply->set_still_open(open);
  if (commit != nullptr) *reply->mutable_commit() = *commit;
  harness_->core().inbox().Push(SessionMessageEvent{shared_from_this(), std::move(message)});
}

void FakeClient::Send(proto::MasterMessage message) {
  durable_index = message.durable_index();
  if (message.has_hello_reply()) hello = message.hello_reply();
  if (message.has_reply()) {
    EXPECT_FALSE(replies.contains(message.reply().number())) << "answered twice";
    replies[message.reply().number()] = message.reply();
  }
  kept.insert(kept.end(), message.kept().begin(), message.kept().end());
  for (const proto::AccessTime& file : message.notice().accessed().files()) accessed.push_back(file);
  if (message.notice().has_reconfigured()) reconfigured.push_back(message.notice().reconfigured());
  for (const proto::RecallItem& item : message.recall().items()) {
    recalls.push_back(item);
    if (answer_recalls) AnswerRecall(item, nullptr, still_open);
  }
}

proto::Reply FakeClient::Create(uint64_t parent, const std::string& name, bool want_write) {
  proto::Request request;
  request.mutable_create()->set_parent(parent);
  request.mutable_create()->set_name(name);
  request.mutable_create()->set_mode(0644);
  request.mutable_create()->set_want_write(want_write);
  return Call(std::move(request));
}

uint64_t FakeClient::SendUnlink(uint64_t parent, const std::string& name) {
  proto::Request request;
  request.mutable_unlink()->set_parent(parent);
  request.mutable_unlink()->set_name(name);
  return Send(std::move(request));
}

uint64_t FakeClient::SendGetAttr(uint64_t inode, bool want_lease) {
  proto::Request request;
  request.mutable_get_attr()->set_inode(inode);
  request.mutable_get_attr()->set_want_lease(want_lease);
  return Send(std::move(request));
}

uint64_t FakeClient::SendLease(uint64_t inode, proto::LeaseMode mode, uint64_t first, uint32_t count) {
  proto::Request request;
  request.mutable_lease()->set_inode(inode);
  request.mutable_lease()->set_mode(mode);
  request.mutable_lease()->set_first(first);
  request.mutable_lease()->set_count(count);
  return Send(std::move(request));
}

proto::Reply FakeClient::Lookup(uint64_t parent, const std::string& name, bool want_lease) {
  proto::Request request;
  request.mutable_lookup()->set_parent(parent);
  request.mutable_lookup()->set_name(name);
  request.mutable_lookup()->set_want_lease(want_lease);
  return Call(std::move(request));
}

// --- Harness ---

CoreOptions Harness::DefaultOptions() {
  CoreOptions options;
  options.min_free_bytes = 0;
  options.boot_id = "this boot";
  return options;
}

Harness::Harness(CoreOptions options, std::unique_ptr<MetaStore> store)
    : options_(options), store_(store != nullptr ? std::move(store) : NewMemoryStore(Uuid{7, 7})) {
  core_ = std::make_unique<Core>(options_, store_.get(), &clock_);
  EXPECT_TRUE(core_->Start().ok());
}

void Harness::SyncLog() { core_->PublishDurable(core_->committed_index()); }

void Harness::Settle() {
  // Answers of the fakes arrive in the inbox during a round; a few quiet rounds mean that nothing is under
  // way any more.
  for (int quiet = 0; quiet < 6; ++quiet) {
    const uint64_t before = core_->committed_index();
    ASSERT_TRUE(core_->RunOnce(0).ok());
    if (publish_durable) SyncLog();
    if (core_->committed_index() != before) quiet = 0;
  }
}

void Harness::Advance(int64_t ms) {
  for (int64_t passed = 0; passed < ms; passed += 100) {
    clock_.Advance(std::min<int64_t>(100, ms - passed) * kNanosPerMilli);
    if (passed % 1000 == 0) {
      for (auto& [index, server] : servers_) server->Heartbeat();
      for (auto& client : clients_) client->Renew();
    }
    Settle();
  }
}

void Harness::RestartMaster() {
  clients_.clear();
  servers_.clear();
  core_.reset();
  core_ = std::make_unique<Core>(options_, store_.get(), &clock_);
  ASSERT_TRUE(core_->Start().ok());
}

void Harness::KeepDisk() {
  disk_ = NewMemoryStore(store_->cluster());
  MetaTxn txn(disk_->Latest());
  const std::unique_ptr<MetaReader> now = store_->Latest();
  for (size_t family = 0; family < kFamilyCount; ++family) {
    for (auto it = now->Scan(Family(family), "", ""); it->Valid(); it->Next())
      txn.Put(Family(family), it->key(), it->value());
  }
  ASSERT_TRUE(disk_->Commit(&txn).ok());
}

void Harness::LosePower() {
  ASSERT_NE(disk_, nullptr) << "KeepDisk first";
  LosePower(std::move(disk_));
}

void Harness::LosePower(std::unique_ptr<MetaStore> left) {
  clients_.clear();
  servers_.clear();
  core_.reset();
  store_ = std::move(left);
  options_.boot_id += ", then another";
  core_ = std::make_unique<Core>(options_, store_.get(), &clock_);
  ASSERT_TRUE(core_->Start().ok());
}

std::shared_ptr<FakeClient> Harness::NewClient() {
  auto client = std::make_shared<FakeClient>(this);
  clients_.push_back(client);
  return client;
}

void Harness::ForgetClient(FakeClient* client) {
  std::erase_if(clients_, [&](const auto& one) { return one.get() == client; });
}

FakeServer& Harness::StartServer(uint32_t index, bool mute) {
  auto& store = stores_[index];
  if (store == nullptr) store = std::make_shared<FakeReplicas>();
  auto server = std::make_shared<FakeServer>(this, index, store);
  servers_[index] = server;
  server->mute = mute;
  server->Register(ids_[index]);
  Settle();
  EXPECT_NE(server->id, 0u);
  ids_[index] = server->id;
  index_of_[server->id] = index;
  server->Report();
  Advance(200);  // a tick of the audit
  return *server;
}

void Harness::StopServer(uint32_t index) {
  servers_.at(index)->Disconnect();
  servers_.erase(index);
  Settle();
}

FakeReplicas* Harness::ReplicasOf(uint32_t server_id) {
  auto it = index_of_.find(server_id);
  if (it == index_of_.end() || !servers_.contains(it->second)) return nullptr;
  return stores_.at(it->second).get();
}

void Harness::Write(const proto::ChunkLayout& layout, uint64_t count, uint64_t length,
                    std::vector<uint32_t> members) {
  if (members.empty()) members.assign(layout.members().begin(), layout.members().end());
  const Stamp base = FromProto(layout.base());
  for (uint32_t member : members) {
    FakeReplicas& replicas = *stores_.at(index_of_.at(member));
    for (uint64_t i = 1; i <= count; ++i) {
      const Status status = replicas.Mutate(ChunkId(layout.chunk()), Epoch(layout.epoch()), base.seq + i,
                                            i == 1 ? std::optional<Stamp>(base) : std::nullopt, length);
      ASSERT_TRUE(status.ok()) << status.ToString();
    }
  }
}

proto::InodeCommit Harness::SealCommit(uint64_t inode, uint64_t lease, const proto::ChunkLayout& layout,
                                       uint64_t count, uint64_t length, proto::LeaseMode keep,
                                       std::vector<uint32_t> carriers) {
  if (carriers.empty()) carriers.assign(layout.members().begin(), layout.members().end());
  const Stamp stamp{Epoch(layout.epoch()), layout.base().seq() + count};
  proto::InodeCommit commit;
  commit.set_inode(inode);
  commit.set_lease(lease);
  commit.set_size(length);
  commit.set_keep(keep);
  proto::ChunkSeal* seal = commit.add_seals();
  seal->set_chunk(layout.chunk());
  *seal->mutable_stamp() = ToProto(stamp);
  seal->set_length(length);
  for (uint32_t carrier : carriers) {
    const Status sealed = stores_.at(index_of_.at(carrier))->Seal(ChunkId(layout.chunk()), stamp);
    EXPECT_TRUE(sealed.ok()) << sealed.ToString();
    seal->add_carriers(carrier);
  }
  return commit;
}

std::pair<uint64_t, proto::ChunkLayout> Harness::SealedFile(FakeClient& client, const std::string& name,
                                                            uint64_t length, std::vector<uint32_t> carriers) {
  const proto::Reply created = client.Create(1, name);
  EXPECT_EQ(created.status().code(), 0u) << created.status().message();
  EXPECT_EQ(created.entry().layout_size(), 1);
  if (created.entry().layout_size() != 1) return {};
  const uint64_t inode = created.entry().attr().inode();
  const proto::ChunkLayout layout = created.entry().layout(0);
  Write(layout, 3, length, carriers);
  proto::Request request;
  *request.mutable_write_back()->add_commits() =
      SealCommit(inode, created.leases(0).number(), layout, 3, length, proto::LEASE_NONE, carriers);
  const proto::Reply reply = client.Call(std::move(request));
  EXPECT_EQ(reply.status().code(), 0u) << reply.status().message();
  return {inode, layout};
}

}  // namespace cairn::master
