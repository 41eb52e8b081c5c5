// Sends commands on chunks to chunkservers and finds the one who waits for each answer.
//
// Commands to one server are collected and go out as one message per round of the core (Flush), except syncs,
// which take long and travel alone so that they do not hold up the answers of others. Every command is
// answered exactly once: by the server's result, by its deadline (kTimeout), or when the server goes down
// (kUnavailable).
//
// Thread-safety: none; owned by the core thread, which also runs the answers.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <unordered_map>
#include <vector>

#include "common/ids.h"
#include "common/replication/types.h"
#include "common/status.h"
#include "master/state/records.h"  // conversions of stamps
#include "proto/cairn/cluster.pb.h"

namespace cairn::master {

struct CommandOutcome {
  Status status;
  bool answered = false;  // the server itself answered; false: timeout or down
  bool has_info = false;
  replication::ReplicaInfo info;
  uint64_t bytes_transferred = 0;
  uint64_t bytes_differing = 0;
  bool refused_here = false;  // a sync: the target's own disk said no
};

class Commander {
 public:
  using Done = std::function<void(const CommandOutcome&)>;
  using SendMessage = std::function<void(ServerId, proto::MasterToChunkserver)>;
  struct Options {
    size_t max_batch = 512;         // chunk commands in one message
    size_t max_outstanding = 8192;  // chunk commands sent and not answered, per server; more wait here
  };

  Commander(const Options& options, SendMessage send) : options_(options), send_(std::move(send)) {}

  // Precondition: the server is up (callers ask the registry first); otherwise it times out.
  void Send(ServerId server, proto::ChunkCommand command, int64_t deadline_ns, Done done);
  // Sends what was collected.
  void Flush();

  void OnResult(ServerId server, const proto::CommandResult& result);
  // Fails everything that waits for the server.
  void OnServerDown(ServerId server, const Status& status);
  void Expire(int64_t now_ns);
  int64_t NextDeadline() const;
  size_t outstanding() const { return deadlines_.size(); }

 private:
  struct Call {
    ServerId server;
    uint64_t batch = 0;  // 0: not sent yet
    int64_t deadline_ns = 0;
    Done done;
  };
  struct Waiting {
    uint64_t call;
    proto::ChunkCommand command;
  };
  struct PerServer {
    std::deque<Waiting> waiting;
    std::map<uint64_t, std::vector<uint64_t>> batches;  // number -> calls, in order
    size_t outstanding = 0;
  };

  void Finish(uint64_t call, const CommandOutcome& outcome);

  const Options options_;
  const SendMessage send_;
  uint64_t next_call_ = 1;
  uint64_t next_batch_ = 1;
  std::unordered_map<uint64_t, Call> calls_;
  std::map<std::pair<int64_t, uint64_t>, uint64_t> deadlines_;
  std::map<ServerId, PerServer> servers_;
};

// Conversions between the wire and the pure cores.
replication::ReplicaInfo FromProto(const proto::ReplicaInfoProto& info);
Status FromProto(const proto::StatusProto& status);
proto::StatusProto ToProto(const Status& status);

}  // namespace cairn::master
