// Clients and chunkservers without a network, for tests of the master's core. The fake chunkservers decide by
// the very rules of common/replication/replica.h, so a command that a real one would refuse is refused here,
// too.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "common/clock.h"
#include "common/replication/replica.h"
#include "common/wire/frame.h"
#include "master/core/core.h"
#include "master/store/memory_store.h"

namespace cairn::master {

// What one chunkserver stores. Answers chunk commands; shared by the in-memory and the gRPC fakes.
class FakeReplicas {
 public:
  struct Replica {
    replication::ReplicaState state;
    Stamp durable;
    bool corrupt = false;
  };
  using Lookup = std::function<FakeReplicas*(uint32_t server)>;

  proto::ChunkResult Execute(const proto::ChunkCommand& command, const Lookup& others);
  // The data plane: one mutation that sets the chunk's length.
  Status Mutate(ChunkId chunk, Epoch epoch, uint64_t seq, std::optional<Stamp> begin, uint64_t length);
  Status Seal(ChunkId chunk, Stamp stamp);
  std::map<ChunkId, Replica>& all() { return replicas_; }
  const Replica* Find(ChunkId chunk) const {
    auto it = replicas_.find(chunk);
    return it == replicas_.end() ? nullptr : &it->second;
  }
  proto::ReplicaInfoProto Info(ChunkId chunk) const;
  std::vector<ChunkId> erased;
  std::vector<ChunkId> quarantined;  // of these: those whose bytes were to be kept for a while
  std::set<ChunkId> not_yet_there;  // when reports are made: they come between the report and what the master looks at
  uint64_t syncs = 0;
  std::optional<Status> refuse_syncs;  // its disk says no
  std::optional<Status> refuse_queries;
  std::optional<Status> refuse_erasures;
  uint64_t refused_syncs = 0;

 private:
  std::map<ChunkId, Replica> replicas_;
};

class Harness;

class FakeServer final : public ServerChannel, public std::enable_shared_from_this<FakeServer> {
 public:
  FakeServer(Harness* harness, uint32_t index, std::shared_ptr<FakeReplicas> replicas)
      : harness_(harness), index_(index), replicas_(std::move(replicas)) {}
  void Register(uint32_t known_id);
  void Report();
  void Heartbeat();
  void Disconnect();
  // Carries out and answers what came while `mute` was set, and listens again.
  void AnswerHeld();

  void Send(proto::MasterToChunkserver message) override;
  void Close(const Status& status) override { closed = status; }

  uint32_t id = 0;
  bool mute = false;  // takes commands, answers nothing until AnswerHeld
  std::optional<Status> closed;
  std::vector<proto::Command> commands;  // all that arrived
  proto::RegisterReply register_reply;   // the last one
  std::vector<std::string> draining;     // as the last heartbeat's reply said
  std::string log_level;
  FakeReplicas& replicas() { return *replicas_; }

 private:
  void Answer(const proto::Command& command);

  Harness* const harness_;
  const uint32_t index_;
  const std::shared_ptr<FakeReplicas> replicas_;
  std::vector<proto::Command> held_;
};

class FakeClient final : public SessionChannel, public std::enable_shared_from_this<FakeClient> {
 public:
  explicit FakeClient(Harness* harness) : harness_(harness) {}

  // A new session, or the one given.
  proto::HelloReply Hello(uint64_t session = 0, std::vector<proto::LeaseClaim> claims = {});
  // The answer, which may come later, is in `hello`.
  void SendHello(uint64_t session, std::vector<proto::LeaseClaim> claims, std::vector<proto::KeptCommand> kept);
  uint64_t Send(proto::Request request);  // returns its number
  uint64_t Enqueue(proto::Request request);  // the same, without letting anything happen
  proto::Reply Wait(uint64_t number);     // fails the test when no reply came
  bool HasReply(uint64_t number) const { return replies.contains(number); }
  proto::Reply Call(proto::Request request) { return Wait(Send(std::move(request))); }
  void Renew();
  void Goodbye();
  void Disconnect();
  void AnswerRecall(const proto::RecallItem& item, const proto::InodeCommit* commit = nullptr,
                    bool still_open = false);

  // Requests of the tests.
  proto::Reply Create(uint64_t parent, const std::string& name, bool want_write = true);
  proto::Reply Unlink(uint64_t parent, const std::string& name) { return Wait(SendUnlink(parent, name)); }
  uint64_t SendUnlink(uint64_t parent, const std::string& name);
  proto::Reply GetAttr(uint64_t inode, bool want_lease = false) {
    return Wait(SendGetAttr(inode, want_lease));
  }
  uint64_t SendGetAttr(uint64_t inode, bool want_lease);
  uint64_t SendLease(uint64_t inode, proto::LeaseMode mode, uint64_t first = 0, uint32_t count = 0);
  proto::Reply Lookup(uint64_t parent, const std::string& name, bool want_lease = true);

  void Send(proto::MasterMessage message) override;
  void Close(const Status& status) override { closed = status; }

  std::string host() const override { return machine; }

  std::string machine;  // empty: not known
  uint64_t session = 0;
  uint64_t next_number = 1;
  bool answer_recalls = true;  // gives leases back at once
  bool still_open = false;     // what it then says
  std::map<uint64_t, proto::Reply> replies;
  std::vector<proto::RecallItem> recalls;  // all that arrived
  std::vector<proto::Reconfigured> reconfigured;
  std::vector<proto::AccessTime> accessed;  // by others
  std::vector<proto::KeptCommand> kept;  // all that arrived
  std::optional<proto::HelloReply> hello;
  std::optional<Status> closed;
  uint64_t durable_index = 0;

 private:
  Harness* const harness_;
};

// A master core with its clock, store and peers.
class Harness {
 public:
  explicit Harness(CoreOptions options = DefaultOptions(), std::unique_ptr<MetaStore> store = nullptr);
  static CoreOptions DefaultOptions();

  // Lets everything that is due happen, without moving the clock.
  void Settle();
  // Moves the clock in steps; live servers send heartbeats, clients that are connected renew.
  void Advance(int64_t ms);
  // Stops the core and starts a new one over the same store; everybody is disconnected.
  void RestartMaster();
  // What is on the master's disk from now on, and a restart that finds no more than that.
  void KeepDisk();
  void LosePower();
  void SyncLog();
  // The same with what is left on the disk of another kind of store.
  void LosePower(std::unique_ptr<MetaStore> left);
  // Whether what is committed counts as being on disk at once (default), or only what the core itself syncs.
  bool publish_durable = true;

  std::shared_ptr<FakeClient> NewClient();
  FakeServer& StartServer(uint32_t index, bool mute = false);  // 1, 2, ...: registers, reports
  void StopServer(uint32_t index);
  // Changes what server `index` says of itself when it registers.
  std::function<void(uint32_t index, proto::Register*)> on_register;
  std::function<void(uint32_t index, proto::Heartbeat*)> on_heartbeat;
  std::vector<std::pair<uint32_t, ChunkId>> copied;  // the syncs that servers (index) carried out, in their order
  bool servers_know_missing_disks = true;  // false: they are of a version before RegisterReply.missing_disks
  FakeServer& server(uint32_t index) { return *servers_.at(index); }
  FakeReplicas& replicas(uint32_t index) { return *stores_.at(index); }
  uint32_t IndexOf(uint32_t server_id) const { return index_of_.at(server_id); }

  // Plays the writer: `count` mutations in the layout's epoch on these members (all of them by default).
  void Write(const proto::ChunkLayout& layout, uint64_t count, uint64_t length,
             std::vector<uint32_t> members = {});
  proto::InodeCommit SealCommit(uint64_t inode, uint64_t lease, const proto::ChunkLayout& layout,
                                uint64_t count, uint64_t length, proto::LeaseMode keep,
                                std::vector<uint32_t> carriers = {});
  // A file with one sealed chunk; its lease is released. Returns inode and layout.
  std::pair<uint64_t, proto::ChunkLayout> SealedFile(FakeClient& client, const std::string& name,
                                                     uint64_t length = 1000,
                                                     std::vector<uint32_t> carriers = {});

  Core& core() { return *core_; }
  ManualClock& clock() { return clock_; }
  FakeReplicas* ReplicasOf(uint32_t server_id);
  void ForgetClient(FakeClient* client);

 private:
  CoreOptions options_;
  ManualClock clock_;
  std::unique_ptr<MetaStore> store_;
  std::unique_ptr<MetaStore> disk_;
  std::unique_ptr<Core> core_;
  std::map<uint32_t, std::shared_ptr<FakeReplicas>> stores_;
  std::map<uint32_t, std::shared_ptr<FakeServer>> servers_;
  std::map<uint32_t, uint32_t> ids_;       // index -> server id
  std::map<uint32_t, uint32_t> index_of_;  // server id -> index
  std::vector<std::shared_ptr<FakeClient>> clients_;
};

proto::Credentials Root();

}  // namespace cairn::master
