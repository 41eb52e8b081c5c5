#include "tests/sim/simulation.h"

#include <algorithm>
#include <memory>

#include "common/replication/quorum.h"
#include "tests/sim/client.h"
#include "tests/sim/master.h"
#include "tests/sim/server.h"

namespace cairn::sim {
namespace {

using replication::Rule;

class Simulation final : public ClientPort, public DiskView {
 public:
  explicit Simulation(const SimulationOptions& options)
      : options_(options), world_(options.seed, options.trace), checker_(&world_, this) {
    const uint32_t server_count = 3 + static_cast<uint32_t>(world_.Random(4));
    for (uint32_t i = 1; i <= server_count; ++i) {
      servers_.push_back(
          std::make_unique<Server>(&world_, &checker_, ServerId{i}, options.rules,
                                   [this](ServerId id) { return servers_[id.value() - 1].get(); }));
    }
    std::vector<Server*> servers;
    for (const auto& server : servers_) servers.push_back(server.get());
    master_ = std::make_unique<Master>(&world_, &checker_, this, servers, options.rules);
    const uint64_t chunk_count = 1 + world_.Random(3);
    for (uint64_t chunk = 1; chunk <= chunk_count; ++chunk) AddChunk(ChunkId{chunk}, server_count);
    const int delete_permille = world_.Chance(300) ? (world_.Chance(300) ? 30 : 250) : 0;
    power_permille_ = world_.Chance(500) ? 150 : 0;
    // The clock protects writers only from a master that forgot their leases; from anything else epochs must.
    const bool trusts_clock = power_permille_ > 0 || world_.Chance(300);
    const int client_count = 2 + static_cast<int>(world_.Random(2));
    for (int i = 0; i < client_count; ++i) {
      clients_.push_back(std::make_unique<Client>(&world_, &checker_, master_.get(), servers,
                                                  kFirstClient + i, options.rules));
      clients_.back()->set_delete_permille(delete_permille);
      clients_.back()->set_trusts_clock(trusts_clock);
    }
  }

  SimulationResult Run() {
    for (const auto& server : servers_) StartServer(*server);
    master_->Boot();
    for (const auto& client : clients_) client->Boot();
    ChooseFaults();
    RunUntil(options_.hostile_ms);
    MakePeace();
    const int64_t quiet_from = world_.now() + 5000;
    while (world_.now() < options_.hostile_ms + options_.peace_ms && world_.failure().empty()) {
      RunUntil(world_.now() + 500);
      if (world_.now() < quiet_from) continue;
      for (const auto& client : clients_) client->set_quiet(true);
      if (world_.now() > quiet_from + 4000 && WhyNotWhole().empty()) break;
    }
    if (world_.failure().empty()) CheckWhole();
    SimulationResult result;
    result.failure = world_.failure();
    result.trace = world_.trace();
    result.marks = world_.marks();
    result.faults = world_.fault_counts();
    result.events = world_.events();
    result.virtual_ms = world_.now();
    for (const auto& client : clients_) result.operations += client->finished_operations();
    return result;
  }

  // DiskView.
  const Replica* Find(ServerId server, ChunkId chunk, bool on_disk) const override {
    return servers_[server.value() - 1]->Find(chunk, on_disk);
  }

  // ClientPort: messages of the master to clients.
  void OnGrant(NodeId client, const Grant& grant) override {
    world_.Send(kMaster, client, [this, client, grant] { ClientOf(client).OnGrant(grant); });
  }
  void OnRecall(NodeId client, ChunkId chunk, uint64_t nonce) override {
    world_.Send(kMaster, client, [this, client, chunk, nonce] { ClientOf(client).OnRecall(chunk, nonce); });
  }
  void OnReconfigured(NodeId client, ChunkId chunk, uint64_t nonce,
                      const replication::Configuration& config) override {
    world_.Send(kMaster, client, [this, client, chunk, nonce, config] {
      ClientOf(client).OnReconfigured(chunk, nonce, config);
    });
  }
  void OnLeaseLost(NodeId client, ChunkId, uint64_t nonce) override {
    world_.Send(kMaster, client, [this, client, nonce] { ClientOf(client).OnLeaseLost(nonce); });
  }
  void OnSessionLost(NodeId client, uint64_t session) override {
    world_.Send(kMaster, client, [this, client, session] { ClientOf(client).OnSessionLost(session); });
  }

 private:
  Client& ClientOf(NodeId client) { return *clients_[static_cast<size_t>(client - kFirstClient)]; }

  void AddChunk(ChunkId chunk, uint32_t server_count) {
    uint32_t replicas = 3;
    if (world_.Chance(300)) replicas = 1 + static_cast<uint32_t>(world_.Random(std::min(server_count, 5u)));
    uint32_t write_quorum = replication::Majority(replicas);
    if (world_.Chance(150)) write_quorum = 1 + static_cast<uint32_t>(world_.Random(replicas));
    master_->AddChunk(chunk, replicas, write_quorum);
  }

  void RunUntil(int64_t time) {
    bool reached = false;
    world_.At(time, [&reached] { reached = true; });
    while (!reached && world_.RunOne()) checker_.CheckAll();
  }

  // --- Servers' loops
  // -------------------------------------------------------------------------------------------------

  void StartServer(Server& server) {
    server.Boot();
    RegisterServer(server);
    Heartbeat(server);
    SendReport(server);
  }
  void RegisterServer(Server& server) {
    Server* each = &server;
    const auto registered = std::make_shared<bool>(false);
    KeepRegistering(*each, registered);
  }
  void KeepRegistering(Server& server, std::shared_ptr<bool> registered) {
    if (*registered) return;
    Server* each = &server;
    world_.Call(
        each->node(), kMaster, "register",
        [this, each, needs = each->needs_floor()](const ReplyFn& reply) {
          master_->OnRegister(each->id(), needs, reply);
        },
        [each, registered](const Answer& answer) {
          *registered = true;
          each->Register(answer.info.promised);
        });
    world_.AfterOn(each->node(), 200, [this, each, registered] { KeepRegistering(*each, registered); });
  }
  void Heartbeat(Server& server) {
    Server* each = &server;
    world_.Send(each->node(), kMaster, [this, each] { master_->OnHeartbeat(each->id()); });
    world_.AfterOn(each->node(), 200, [this, each] { Heartbeat(*each); });
  }
  void SendReport(Server& server) {
    Server* each = &server;
    if (each->answers()) {
      world_.Send(each->node(), kMaster,
                  [this, each, report = each->Report()] { master_->OnReport(each->id(), report); });
    }
    world_.AfterOn(each->node(), 500 + static_cast<int64_t>(world_.Random(1000)),
                   [this, each] { SendReport(*each); });
  }

  // --- Faults
  // ---------------------------------------------------------------------------------------------------------

  void ChooseFaults() {
    if (world_.Chance(700)) world_.faults.loss_permille = static_cast<int>(world_.Random(30));
    if (world_.Chance(700)) world_.faults.repeat_permille = static_cast<int>(world_.Random(60));
    if (world_.Chance(500)) world_.faults.slow_permille = static_cast<int>(world_.Random(100));
    if (world_.Chance(200)) {  // a network on which hardly anything arrives once and in order
      world_.faults.repeat_permille = 250;
      world_.faults.slow_permille = 250;
    }
    world_.faults.slow_ms = 50 + static_cast<int>(world_.Random(2000));
    fault_every_ms_ = 100 + world_.Random(1500);
    NextFault();
  }

  void NextFault() {
    world_.At(world_.now() + 1 + static_cast<int64_t>(world_.Random(2 * fault_every_ms_)), [this] {
      if (world_.now() >= options_.hostile_ms) return;
      OneFault();
      NextFault();
    });
  }

  int64_t Briefly() { return 20 + static_cast<int64_t>(world_.Random(world_.Chance(200) ? 6000 : 800)); }
  Server& AnyServer() { return *servers_[world_.Random(servers_.size())]; }
  Client& AnyClient() { return *clients_[world_.Random(clients_.size())]; }
  NodeId AnyNode() {
    const uint64_t dice = world_.Random(servers_.size() + clients_.size() + 1);
    if (dice == 0) return kMaster;
    if (dice <= servers_.size()) return static_cast<NodeId>(dice);
    return kFirstClient + static_cast<NodeId>(dice - 1 - servers_.size());
  }

  void OneFault() {
    if (world_.Chance(power_permille_)) return LosePower();
    switch (world_.Random(9)) {
      case 0:
      case 1: {
        Server& server = AnyServer();
        if (!world_.IsUp(server.node())) return;
        world_.CountFault("chunkserver crashed");
        server.CrashProcess();
        RestartLater(server);
        return;
      }
      case 2:
        if (!world_.IsUp(kMaster)) return;
        world_.CountFault("master crashed");
        master_->CrashProcess();
        world_.At(world_.now() + Briefly(), [this] { master_->Boot(); });
        return;
      case 3: {
        Client& client = AnyClient();
        if (!world_.IsUp(client.node())) return;
        world_.CountFault("client crashed");
        client.Crash();
        world_.At(world_.now() + Briefly(), [&client] { client.Boot(); });
        return;
      }
      case 4:
        return world_.Pause(AnyNode(), Briefly());
      case 5:
      case 6: {
        NodeId one = AnyNode();
        NodeId other = AnyNode();
        int64_t duration = Briefly();
        if (world_.Chance(200)) {  // a client that reaches the data but not the master: its session expires
          one = AnyClient().node();
          other = kMaster;
          duration += 2500;
        }
        world_.Mark("a one-way partition");
        world_.CountFault("one-way partition");
        world_.Cut(one, other, duration);
        if (world_.Chance(500)) world_.Cut(other, one, duration);
        return;
      }
      case 7:
        return CorruptSomething();
      default:
        if (world_.Chance(500)) LoseOneDisk();
        if (world_.Chance(200)) {
          Server& server = AnyServer();
          if (!world_.IsUp(server.node()) && world_.IsUp(kMaster)) master_->DeclareLost(server.id());
        }
        return;
    }
  }

  void RestartLater(Server& server) {
    Server* each = &server;
    world_.At(world_.now() + Briefly(), [this, each] { StartServer(*each); });
  }

  void LosePower() {
    const uint64_t count = world_.Chance(200) ? servers_.size() : 1 + world_.Random(2);
    for (uint64_t i = 0; i < count; ++i) {
      Server& server = count == servers_.size() ? *servers_[i] : AnyServer();
      if (!world_.IsUp(server.node())) continue;
      world_.CountFault("chunkserver lost power");
      server.LosePower();
      RestartLater(server);
    }
    if (world_.Chance(200) && world_.IsUp(kMaster)) {
      world_.CountFault("master lost power");
      master_->LosePower();
      world_.At(world_.now() + Briefly(), [this] { master_->Boot(); });
    }
  }

  // At most one disk, and only where W - 1 losses are promised to be survived and nothing is lost already.
  void LoseOneDisk() {
    Server& server = AnyServer();
    if (disk_lost_ || !world_.IsUp(server.node())) return;
    for (ChunkId chunk : master_->chunks()) {
      if (master_->config(chunk).write_quorum < 2 || checker_.ExcusedMembers(chunk) > 0) return;
    }
    disk_lost_ = true;
    world_.Mark("a disk was lost");
    world_.CountFault("disk lost");
    server.LoseDisk();
    RestartLater(server);
    if (world_.Chance(600)) DeclareAnotherLost(server);
  }

  // A second member goes away for a while at the same time, and an operator is quick to give it up.
  void DeclareAnotherLost(const Server& first) {
    for (const auto& server : servers_) {
      if (server->id() == first.id() || !world_.IsUp(server->node()) || world_.Chance(500)) continue;
      Server* each = server.get();
      world_.CountFault("chunkserver crashed");
      each->CrashProcess();
      world_.At(world_.now() + 1200, [this, each] {
        if (!world_.IsUp(each->node()) && world_.IsUp(kMaster)) master_->DeclareLost(each->id());
      });
      world_.At(world_.now() + 3000 + static_cast<int64_t>(world_.Random(5000)),
                [this, each] { StartServer(*each); });
      return;
    }
  }

  void CorruptSomething() {
    if (disk_lost_) return;
    for (ChunkId chunk : master_->chunks()) {
      uint32_t intact = 0;
      for (ServerId member : master_->config(chunk).members) {
        const Replica* replica = Find(member, chunk, false);
        if (replica != nullptr && !replica->corrupt && IsPrefix(checker_.committed(chunk), replica->content))
          ++intact;
      }
      if (intact < 3) return;
    }
    corrupted_ = true;
    world_.CountFault("block damaged");
    AnyServer().CorruptOne();
  }

  void MakePeace() {
    world_.Trace("the faults end");
    world_.HealAll();
    for (const auto& client : clients_) client->set_delete_permille(0);
    master_->set_restless(false);
  }

  // --- Wholeness
  // ------------------------------------------------------------------------------------------------------

  // A copy whose intact siblings lost power in the meantime cannot be mended: more than W - 1 members are
  // hit.
  bool BeyondRepair(ChunkId chunk) const {
    if (!corrupted_) return false;
    for (const auto& server : servers_) {
      const Replica* replica = server->Find(chunk, false);
      if (replica != nullptr && replica->corrupt) return true;
    }
    return false;
  }

  std::string WhyNotWhole() const {
    for (ChunkId chunk : master_->chunks()) {
      const std::string why = master_->Unhealthy(chunk);
      if (!why.empty() && !BeyondRepair(chunk)) return "chunk " + std::to_string(chunk.value()) + ": " + why;
    }
    return {};
  }

  void CheckWhole() {
    const std::string why = WhyNotWhole();
    if (!why.empty()) return world_.Fail("promise 4: not whole again after the faults ended: " + why);
    for (ChunkId chunk : master_->chunks()) {
      if (master_->deleted(chunk) || BeyondRepair(chunk)) continue;
      checker_.OnGranted(chunk, master_->sealed(chunk));  // what a reader would be shown now
      for (ServerId member : master_->config(chunk).members) {
        const Replica* replica = Find(member, chunk, false);
        const Content content = replica == nullptr ? Content{} : replica->content;
        if (content != checker_.committed(chunk) && !checker_.committed(chunk).empty()) {
          return world_.Fail("chunk " + std::to_string(chunk.value()) + ": " + ToString(member) +
                             " does not hold what was committed although everything is whole");
        }
        if (replica != nullptr && replica->state.tombstone) {
          return world_.Fail("promise 5: chunk " + std::to_string(chunk.value()) + " lives, but " +
                             ToString(member) + " still has a tombstone");
        }
      }
    }
  }

  const SimulationOptions options_;
  World world_;
  Checker checker_;
  std::vector<std::unique_ptr<Server>> servers_;
  std::unique_ptr<Master> master_;
  std::vector<std::unique_ptr<Client>> clients_;
  uint64_t fault_every_ms_ = 1000;
  int power_permille_ = 0;
  bool disk_lost_ = false;
  bool corrupted_ = false;
};

}  // namespace

SimulationResult Simulate(const SimulationOptions& options) { return Simulation(options).Run(); }

const std::vector<std::pair<std::string, Rule>>& RuleNames() {
  static const std::vector<std::pair<std::string, Rule>> names = {
      {"epoch_fence", Rule::kEpochFence},
      {"begin_checks_base", Rule::kBeginChecksBase},
      {"no_gaps", Rule::kNoGaps},
      {"sealed_is_closed", Rule::kSealedIsClosed},
      {"sync_pinned", Rule::kSyncPinned},
      {"tombstone_kept", Rule::kTombstoneKept},
      {"abort_fences", Rule::kAbortFences},
      {"erase_names_epoch", Rule::kEraseNamesEpoch},
      {"read_names_stamp", Rule::kReadNamesStamp},
      {"duplicate_is_harmless", Rule::kDuplicateIsHarmless},
      {"sync_goes_forward", Rule::kSyncGoesForward},
      {"ack_at_quorum", Rule::kAckAtQuorum},
      {"laggard_stays_out", Rule::kLaggardStaysOut},
      {"fsync_at_quorum", Rule::kFsyncAtQuorum},
      {"fence_quorum", Rule::kFenceQuorum},
      {"highest_stamp", Rule::kHighestStamp},
      {"amnesia_does_not_vote", Rule::kAmnesiaDoesNotVote},
      {"never_below_record", Rule::kNeverBelowRecord},
      {"old_config_governs", Rule::kOldConfigGoverns},
      {"move_keeps_copies", Rule::kMoveKeepsCopies},
      {"activate_at_quorum", Rule::kActivateAtQuorum},
      {"delete_at_quorum", Rule::kDeleteAtQuorum},
  };
  return names;
}

Rule RuleByName(const std::string& name) {
  for (const auto& [each, rule] : RuleNames()) {
    if (each == name) return rule;
  }
  return Rule::kNone;
}

}  // namespace cairn::sim
