#include "tests/sim/service/simulation.h"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <memory>

#include "master/cluster/repair_manager.h"
#include "master/cluster/replica_audit.h"
#include "master/state/chunk_queries.h"
#include "master/state/queries.h"
#include "tests/sim/service/client_node.h"
#include "tests/sim/service/history.h"
#include "tests/sim/service/master_node.h"
#include "tests/sim/service/server_node.h"

namespace cairn::sim::service {
namespace {

constexpr int64_t kMaxPpm = 30'000;  // clocks run within 3 % of each other
constexpr int64_t kRecallMs = 30'000;  // then nobody may have a lease any more that was recalled

master::CoreOptions MasterOptions(const ServiceRules& rules) {
  master::CoreOptions options;
  options.session_lease_ms = 4'000;
  options.write_timeout_ms = 3'000;
  options.delete_grace_ms = 500;
  options.command_timeout_ms = 1'500;
  options.sync_timeout_ms = 4'000;
  options.repair_grace_ms = 1'000;
  options.server_silence_ms = 2'000;
  options.lower_writer_after_ms = 1'500;
  options.heartbeat_ms = 500;
  options.min_free_bytes = 0;
  options.version = "simulated";
  options.rules = rules;
  return options;
}

class Simulation {
 public:
  explicit Simulation(const ServiceOptions& options)
      : options_(options), world_(options.seed ^ 0x5EC7ull << 40, options.trace), network_(&world_), history_(&world_) {
    clocks_.push_back(NewClock());
    master_ = std::make_unique<MasterNode>(&world_, clocks_.back().get(), MasterOptions(options.service_rules));
    const uint32_t server_count = 3 + static_cast<uint32_t>(world_.Random(3));
    std::vector<Server*> servers;
    for (uint32_t i = 1; i <= server_count; ++i) {
      servers_.push_back(std::make_unique<ServerNode>(&world_, &network_, master_.get(), &history_, ServerId{i},
                                                      options.rules,
                                                      [this](ServerId id) { return &servers_[id.value() - 1]->server(); }));
      servers.push_back(&servers_.back()->server());
    }
    const int client_count = 2 + static_cast<int>(world_.Random(2));
    for (int i = 0; i < client_count; ++i) {
      clocks_.push_back(NewClock());
      clients_.push_back(std::make_unique<ClientNode>(&world_, &network_, master_.get(), &history_,
                                                      clocks_.back().get(), kFirstClient + i, servers, options.rules,
                                                      options.service_rules));
    }
  }

  SimulationResult Run() {
    master_->Boot();
    for (const auto& server : servers_) {  // ids are given in order of the first contact
      server->Boot();
      while (!server->registered() && world_.failure().empty()) RunUntil(world_.now() + 50);
    }
    for (const auto& client : clients_) client->Boot();
    LookAtRecallsForever();
    hostile_until_ = world_.now() + options_.hostile_ms;
    ChooseFaults();
    RunUntil(hostile_until_);
    world_.Trace("the faults end");
    world_.HealAll();
    const int64_t quiet_from = world_.now() + 6'000;
    const int64_t until = world_.now() + options_.peace_ms;
    std::string why = "not looked at";
    while (world_.now() < until && world_.failure().empty() && !why.empty()) {
      RunUntil(world_.now() + 500);
      if (world_.now() < quiet_from) continue;
      bool returned = true;
      for (const auto& client : clients_) {
        client->set_quiet(true);
        if (!client->GiveEverythingBack()) returned = false;
      }
      why = returned ? WhyNotWhole() : "a client does not get rid of its leases or operations";
    }
    if (world_.failure().empty() && !why.empty())
      world_.Fail("promise 4: not whole again after the faults ended: " + why);
    if (world_.failure().empty()) CheckContents();
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

 private:
  std::unique_ptr<NodeClock> NewClock() {
    const int64_t ppm = static_cast<int64_t>(world_.Random(kMaxPpm + 1)) - kMaxPpm / 2;
    const int64_t origin = static_cast<int64_t>(1 + world_.Random(1'000'000)) * kNanosPerSecond;
    return std::make_unique<NodeClock>(&world_, origin, ppm);
  }

  void RunUntil(int64_t time) {
    bool reached = false;
    world_.At(time, [&reached] { reached = true; });
    while (!reached && world_.RunOne()) LookAtSessions();
  }

  void LookAtRecallsForever() {
    world_.At(world_.now() + 500, [this] {
      LookAtRecalls();
      LookAtRecallsForever();
    });
  }
  void LookAtRecalls() {
    std::map<std::pair<SessionId, uint64_t>, int64_t> waiting;
    if (master_->up()) {
      master::Core& core = *master_->core();
      for (const auto& [id, session] : core.sessions().all()) {
        for (const master::RecallOrder& order : core.leases().PendingRecalls(id)) {
          const auto key = std::make_pair(id, order.number.value());
          const auto since = recalls_.find(key);
          waiting[key] = since == recalls_.end() ? world_.now() : since->second;
          if (world_.now() - waiting[key] < kRecallMs) continue;
          world_.Fail("promise of leases: session " + ToString(id) + " has lease " + ToString(order.number) + " on inode " +
                      ToString(order.inode) + " 30 s after it was recalled");
        }
      }
    }
    recalls_ = std::move(waiting);
  }

  // A session that the master has ended is over for the checker from then on, whenever its client hears of it.
  void LookAtSessions() {
    master::Core* core = master_->core();
    if (core == nullptr || core->sessions().InGrace(core->now())) return;
    for (const auto& client : clients_) {
      const SessionId id(client->session_id());
      if (!id || seen_ended_.contains(id)) continue;
      if (core->sessions().Find(id) != nullptr) continue;
      seen_ended_.insert(id);
      history_.OnClientLost(client->node());
    }
  }

  // --- Faults ---

  void ChooseFaults() {
    if (world_.Chance(500)) world_.faults.loss_permille = static_cast<int>(world_.Random(20));
    if (world_.Chance(500)) world_.faults.repeat_permille = static_cast<int>(world_.Random(40));
    if (world_.Chance(500)) world_.faults.slow_permille = static_cast<int>(world_.Random(80));
    world_.faults.slow_ms = 50 + static_cast<int>(world_.Random(1500));
    fault_every_ms_ = 200 + world_.Random(2500);
    server_power_ = world_.Chance(300);
    master_power_ = world_.Chance(400);
    clients_crash_ = world_.Chance(500);
    focus_ = static_cast<Focus>(world_.Random(4));
    if (options_.focus != Focus::kAny) focus_ = options_.focus;
    if (focus_ == Focus::kMasterPower) {
      server_power_ = false;
      master_power_ = true;
      clients_crash_ = world_.Chance(500);
    }
    NextFault();
  }

  void NextFault() {
    world_.At(world_.now() + 1 + static_cast<int64_t>(world_.Random(2 * fault_every_ms_)), [this] {
      if (world_.now() >= hostile_until_) return;
      OneFault();
      NextFault();
    });
  }

  int64_t Briefly() { return 20 + static_cast<int64_t>(world_.Random(world_.Chance(250) ? 8'000 : 900)); }
  ServerNode& AnyServer() { return *servers_[world_.Random(servers_.size())]; }
  ClientNode& AnyClient() { return *clients_[world_.Random(clients_.size())]; }
  NodeId AnyNode() {
    const uint64_t dice = world_.Random(servers_.size() + clients_.size() + 2);
    if (dice < 2) return kMaster;
    if (dice < 2 + servers_.size()) return servers_[dice - 2]->node();
    return clients_[dice - 2 - servers_.size()]->node();
  }

  // The ends of several rules have to meet in one moment: these runs try for that.
  void FocusedFault() {
    switch (focus_) {
      case Focus::kMasterPower: {  // much is unsynced when the power goes, perhaps with that of a client
        world_.CountFault("the master's disk stalled");
        const int64_t when = world_.now() + 50 + static_cast<int64_t>(world_.Random(2'000));
        master_->StallDisk(when + 100);
        return world_.At(when, [this] {
          if (!master_->up() || world_.now() >= hostile_until_) return;
          if (clients_crash_ && world_.Chance(500)) CrashClient(AnyClient());
          StopMaster(true);
        });
      }
      case Focus::kPartition: {  // renewals are answered late, and then not at all
        const NodeId client = AnyClient().node();
        const int64_t late = 300 + static_cast<int64_t>(world_.Random(1'200));
        const int64_t cut = 3'000 + static_cast<int64_t>(world_.Random(4'000));
        world_.CountFault("one-way partition");
        world_.Cut(kMaster, client, late);
        return world_.At(world_.now() + late + 20 + static_cast<int64_t>(world_.Random(40)), [this, client, cut] {
          if (world_.now() >= hostile_until_) return;
          world_.CountFault("partition of a client and the master");
          world_.Cut(kMaster, client, cut);
          world_.Cut(client, kMaster, cut);
        });
      }
      case Focus::kHungClient: {
        world_.CountFault("a client hung");
        return AnyClient().Hang();
      }
      default:
        return;
    }
  }

  void CrashClient(ClientNode& client) {
    if (!world_.IsUp(client.node())) return;
    world_.CountFault("client crashed");
    network_.ProcessGone(client.node());
    client.Crash();
    world_.At(world_.now() + Briefly(), [&client] { client.Boot(); });
  }

  void OneFault() {
    if (focus_ != Focus::kNone && world_.Chance(focus_ == Focus::kHungClient ? 100 : 500)) return FocusedFault();
    switch (world_.Random(12)) {
      case 0:
      case 1: {
        ServerNode& server = AnyServer();
        if (!world_.IsUp(server.node())) return;
        if (server_power_ && world_.Chance(400)) {
          world_.CountFault("chunkserver lost power");
          server.LosePower();
        } else {
          world_.CountFault("chunkserver crashed");
          server.Crash();
        }
        world_.At(world_.now() + Briefly(), [&server] { server.Boot(); });
        return;
      }
      case 2:
      case 3:
        return StopMaster(master_power_ && world_.Chance(600));
      case 4: {
        if (clients_crash_) CrashClient(AnyClient());
        return;
      }
      case 5:
        return world_.Pause(AnyNode(), Briefly());
      case 6:
      case 7:
      case 8: {
        NodeId one = AnyNode();
        NodeId other = AnyNode();
        int64_t duration = Briefly();
        if (world_.Chance(400)) {  // a client that reaches the data but not the master
          one = AnyClient().node();
          other = kMaster;
          duration += 3'000;
        }
        world_.CountFault("one-way partition");
        world_.Cut(one, other, duration);
        if (world_.Chance(600)) world_.Cut(other, one, duration);
        return;
      }
      case 9:
        return network_.ResetOne();
      case 10:
        world_.CountFault("the master's disk stalled");
        return master_->StallDisk(world_.now() + Briefly());
      default: {
        if (corrupted_ || server_power_ || !EverythingIsThreefold()) return;
        corrupted_ = true;
        world_.CountFault("block damaged");
        return AnyServer().server().CorruptOne();
      }
    }
  }

  // What is damaged then can be mended from two intact copies.
  bool EverythingIsThreefold() {
    if (!master_->up()) return false;
    bool all = true;
    ForEachChunk([&](ChunkId chunk, const proto::ChunkRecord& record) {
      if (!WhyNotWhole(chunk, record).empty() || record.carriers_size() < 3) all = false;
    });
    return all;
  }

  void StopMaster(bool power) {
    if (!master_->up()) return;
    network_.ProcessGone(kMaster);
    if (power) {
      world_.CountFault("master lost power");
      if (master_->LosePower()) history_.OnMasterPowerLoss();
    } else {
      world_.CountFault("master crashed");
      master_->CrashProcess();
    }
    world_.At(world_.now() + Briefly(), [this] { master_->Boot(); });
  }

  // --- Wholeness ---

  template <typename Fn>
  void ForEachChunk(const Fn& fn) {
    const master::MetaTxn& txn = master_->core()->txn();
    for (auto it = txn.Scan(master::Family::kChunks, "", ""); it->Valid(); it->Next()) {
      proto::ChunkRecord record;
      uint64_t chunk = 0;
      for (unsigned char byte : it->key()) chunk = chunk << 8 | byte;
      if (record.ParseFromArray(it->value().data(), static_cast<int>(it->value().size()))) fn(ChunkId(chunk), record);
    }
  }

  std::string WhyNotWhole() {
    if (!master_->up()) return "the master is down";
    std::string why;
    ForEachChunk([&](ChunkId chunk, const proto::ChunkRecord& record) {
      if (!why.empty()) return;
      why = WhyNotWhole(chunk, record);
      if (!why.empty()) why = "chunk " + ToString(chunk) + ": " + why;
    });
    return why;
  }

  std::string WhyNotWhole(ChunkId chunk, const proto::ChunkRecord& record) const {
    if (record.state() != proto::CHUNK_SEALED || record.pending_epoch() != 0) {
      std::string why = "it is " + master::ChunkStateName(record) + " " + record.detail() + record.pending_reason();
      if (record.writer_lease() != 0) {
        why += ", lease " + std::to_string(record.writer_lease()) + " of session " +
               std::to_string(record.writer_session());
        const auto lease = master::WriteLeaseOf(master_->core()->txn(), InodeId(record.inode()));
        why += !lease ? ", no lease on record" : lease->vanished ? ", vanished" : ", on record";
        const auto* session = master_->core()->sessions().Find(SessionId(record.writer_session()));
        why += session == nullptr ? ", session gone" : session->channel == nullptr ? ", session away" : ", session here";
        for (const master::HeldLease& held : master_->core()->leases().Holders(InodeId(record.inode())))
          why += ", held by " + ToString(held.session) + " as " + ToString(held.number) + (held.recalled ? " recalled" : "");
      }
      for (const auto& client : clients_) why += "; " + NodeName(client->node()) + " is session " + std::to_string(client->session_id());
      return why;
    }
    if (record.members_size() < static_cast<int>(record.replicas()))
      return "it has " + std::to_string(record.members_size()) + " members";
    const Stamp sealed = FromProto(record.sealed());
    for (uint32_t member : record.members()) {
      const Replica* replica = servers_[member - 1]->server().Find(chunk, false);
      if (replica == nullptr || replica->corrupt || replica->state.accepted.seq != sealed.seq)
        return ToString(ServerId(member)) + " does not hold " + ToString(sealed) + " but " +
               (replica == nullptr ? "nothing" : ToString(replica->state.accepted) + (replica->corrupt ? ", damaged" : "")) +
               "; to the master it is " + ConditionOf(chunk, ServerId(member)) + "; next: " + master_->core()->repair().NextAttempt(chunk);
    }
    return {};
  }

  std::string ConditionOf(ChunkId chunk, ServerId server) const {
    const auto* difference = master_->core()->audit().Find(chunk, server);
    return difference == nullptr ? "as it should be" : master::ConditionName(difference->condition) + " (" + difference->detail + ")";
  }

  // What a reader would be shown now.
  void CheckContents() {
    ForEachChunk([&](ChunkId chunk, const proto::ChunkRecord& record) {
      if (!world_.failure().empty()) return;
      for (uint32_t member : record.members()) {
        const Replica* replica = servers_[member - 1]->server().Find(chunk, false);
        history_.OnReadDone(history_.OnReadStart(InodeId(record.inode())), replica->content,
                            "the end of the run at " + ToString(ServerId(member)));
      }
    });
    const master::MetaTxn& txn = master_->core()->txn();
    for (const char* name : {"a", "b", "c", "d"}) {
      proto::LookupOp op;
      op.set_parent(1);
      op.set_name(name);
      proto::Credentials root;
      root.set_groups_known(true);
      const auto entry = master::Lookup(txn, op, root);
      history_.OnLookedUp(name, world_.now(), entry.ok() ? InodeId(entry->attr().inode()) : InodeId{},
                          "the end of the run");
    }
  }

  const ServiceOptions options_;
  World world_;
  Network network_;
  History history_;
  std::vector<std::unique_ptr<NodeClock>> clocks_;
  std::unique_ptr<MasterNode> master_;
  std::vector<std::unique_ptr<ServerNode>> servers_;
  std::vector<std::unique_ptr<ClientNode>> clients_;
  std::set<SessionId> seen_ended_;
  int64_t hostile_until_ = 0;
  uint64_t fault_every_ms_ = 1'000;
  std::map<std::pair<SessionId, uint64_t>, int64_t> recalls_;  // by session and lease: seen unanswered since
  Focus focus_ = Focus::kNone;
  bool server_power_ = false;
  bool master_power_ = false;
  bool clients_crash_ = false;
  bool corrupted_ = false;
};

}  // namespace

SimulationResult SimulateService(const ServiceOptions& options) { return Simulation(options).Run(); }

const std::vector<ServiceCanary>& ServiceCanaries() {
  static const std::vector<ServiceCanary> canaries = {
      {"count_from_sending", ServiceRule::kCountFromSending, Focus::kPartition, 300},
      {"lease_margin", ServiceRule::kLeaseMargin, Focus::kPartition, 300},
      {"recall_drops_cache", ServiceRule::kRecallDropsCache, Focus::kAny, 300},
      {"returned_stays_returned", ServiceRule::kReturnedStaysReturned, Focus::kAny, 300},
      {"forgetful_master_ends_reads", ServiceRule::kForgetfulMasterEndsReads, Focus::kMasterPower, 300},
      {"recall_before_grant", ServiceRule::kRecallBeforeGrant, Focus::kAny, 300},
      {"term_runs_out", ServiceRule::kTermRunsOut, Focus::kAny, 300},
      {"evicted_is_not_renewed", ServiceRule::kEvictedIsNotRenewed, Focus::kHungClient, 300},
      {"grace_period", ServiceRule::kGracePeriod, Focus::kMasterPower, 300},
      {"ids_reserved_durably", ServiceRule::kIdsReservedDurably, Focus::kMasterPower, 300},
      {"tail_kept", ServiceRule::kTailKept, Focus::kMasterPower, 300},
      {"tail_waits_for_all", ServiceRule::kTailWaitsForAll, Focus::kMasterPower, 300},
      {"erase_after_durable_delete", ServiceRule::kEraseAfterDurableDelete, Focus::kMasterPower, 300},
      {"activation_durable", ServiceRule::kActivationDurable, Focus::kMasterPower, 300},
  };
  return canaries;
}

CanaryCatch CatchCanary(const ServiceCanary& canary) {
  int pipe_ends[2];
  CAIRN_CHECK(pipe(pipe_ends) == 0);
  const pid_t child = fork();
  CAIRN_CHECK(child >= 0);
  if (child == 0) {
    close(pipe_ends[0]);
    for (uint64_t seed = 1; seed <= canary.within_seeds; ++seed) {
      (void)!write(pipe_ends[1], &seed, sizeof(seed));
      const SimulationResult result = SimulateService({.seed = seed, .service_rules = {canary.rule}, .focus = canary.focus});
      if (result.failure.empty()) continue;
      (void)!write(pipe_ends[1], result.failure.data(), result.failure.size());
      _exit(0);
    }
    _exit(1);
  }
  close(pipe_ends[1]);
  CanaryCatch caught;
  uint64_t seed = 0;
  std::string said;
  for (char buffer[4096]; true;) {
    const ssize_t got = read(pipe_ends[0], buffer, sizeof(buffer));
    if (got <= 0) break;
    said.append(buffer, static_cast<size_t>(got));
  }
  close(pipe_ends[0]);
  size_t at = 0;  // seeds count up from 1, what follows the last one is text
  for (uint64_t next = 0; at + sizeof(next) <= said.size(); at += sizeof(next)) {
    std::memcpy(&next, said.data() + at, sizeof(next));
    if (next != seed + 1) break;
    seed = next;
  }
  int status = 0;
  waitpid(child, &status, 0);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) caught = {seed, said.substr(at)};
  if (WIFSIGNALED(status)) caught = {seed, "a check of the program stopped it"};
  return caught;
}

}  // namespace cairn::sim::service
