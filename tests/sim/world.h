// The simulated world: virtual time, processes that crash and pause, a network that loses, repeats, delays,
// reorders and partitions (also one way), one source of randomness, and the trace.
//
// Everything happens as an event at a virtual millisecond; events at the same time run in the order in which
// they were made. Nothing else is a source of order or chance, so a seed replays exactly.
//
// Thread-safety: none; a world is single-threaded.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <queue>
#include <set>
#include <string>
#include <vector>

#include "common/replication/types.h"

namespace cairn::sim {

using replication::ReplicaInfo;

// 0 is the master, 1.. are chunkservers (equal to their ServerId), kFirstClient.. are clients.
using NodeId = int;
inline constexpr NodeId kMaster = 0;
inline constexpr NodeId kFirstClient = 100;
std::string NodeName(NodeId node);

// What every simulated request is answered with.
struct Answer {
  Status status;
  ReplicaInfo info;
  std::vector<uint64_t> content;  // tokens of the mutations applied, in order (reads and syncs)
  Stamp stamp;                    // that `content` belongs to
};
using ReplyFn = std::function<void(const Answer&)>;

// How hostile the network is; changed while the world runs.
struct NetworkFaults {
  int loss_permille = 0;
  int repeat_permille = 0;  // a second copy arrives, possibly much later
  int slow_permille = 0;    // takes up to slow_ms instead of a few milliseconds
  int slow_ms = 0;
};

class World {
 public:
  World(uint64_t seed, bool trace);

  int64_t now() const { return now_; }
  // Uniform in [0, bound).
  uint64_t Random(uint64_t bound);
  bool Chance(int permille) { return static_cast<int>(Random(1000)) < permille; }

  void At(int64_t time, std::function<void()> run);
  // Runs on a process: not at all once it crashed, late while it is paused.
  void AfterOn(NodeId node, int64_t delay, std::function<void()> run);
  bool RunOne();

  // Processes.
  void Start(NodeId node);
  void Crash(NodeId node);
  bool IsUp(NodeId node) const;
  uint64_t Incarnation(NodeId node) const;
  void Pause(NodeId node, int64_t duration);

  // The network. Cut is one way.
  void Cut(NodeId from, NodeId to, int64_t duration);
  bool IsCut(NodeId from, NodeId to) const;
  // Whether this message is lost, by a cut or by chance; counted.
  bool IsLost(NodeId from, NodeId to);
  bool IsRepeated();
  void HealAll();
  NetworkFaults faults;
  // How long the next message takes.
  int64_t NetworkDelay() { return Delay(); }

  // A request and its answer, each of which may get lost, be repeated and overtake others; the caller
  // retries.
  void Call(NodeId from, NodeId to, const std::string& what, std::function<void(ReplyFn)> serve,
            ReplyFn on_reply);
  // One message.
  void Send(NodeId from, NodeId to, std::function<void()> deliver);
  // A frame on a connection: in order with the others of the same pair. `lost` runs at the sender (if it
  // lives) when the connection breaks instead. A repeated copy may arrive long after the connection is gone.
  void SendOrdered(NodeId from, NodeId to, std::function<void()> deliver, std::function<void()> lost);

  void Trace(const std::string& line);
  const std::vector<std::string>& trace() const { return trace_; }
  // Rare paths are marked, so that a run shows that it reached them.
  void Mark(const std::string& path) { ++marks_[path]; }
  const std::map<std::string, uint64_t>& marks() const { return marks_; }

  // Faults by kind, as they are injected.
  void CountFault(const char* kind) { ++fault_counts_[kind]; }
  const std::map<std::string, uint64_t>& fault_counts() const { return fault_counts_; }

  // The first broken promise ends the run.
  void Fail(const std::string& why);
  const std::string& failure() const { return failure_; }
  uint64_t events() const { return events_; }

 private:
  struct Event {
    int64_t time;
    uint64_t order;
    std::function<void()> run;
    bool operator>(const Event& other) const {
      return time != other.time ? time > other.time : order > other.order;
    }
  };
  struct Process {
    bool up = false;
    uint64_t incarnation = 0;
    int64_t paused_until = 0;
  };

  void RunOn(NodeId node, uint64_t incarnation, std::function<void()> run);
  void Deliver(NodeId from, NodeId to, const std::function<void()>& deliver,
               const std::function<void()>& lost);
  int64_t Delay();

  int64_t now_ = 0;
  uint64_t order_ = 0;
  uint64_t events_ = 0;
  uint64_t random_;
  const bool tracing_;
  std::priority_queue<Event, std::vector<Event>, std::greater<Event>> queue_;
  std::map<NodeId, Process> processes_;
  std::map<std::pair<NodeId, NodeId>, int64_t> cut_until_;
  std::map<std::pair<NodeId, NodeId>, int64_t> ordered_until_;
  std::vector<std::string> trace_;
  std::map<std::string, uint64_t> marks_;
  std::map<std::string, uint64_t> fault_counts_;
  std::string failure_;
};

}  // namespace cairn::sim
