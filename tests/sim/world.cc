#include "tests/sim/world.h"

#include <algorithm>
#include <cstdio>
#include <utility>

namespace cairn::sim {

std::string NodeName(NodeId node) {
  if (node == kMaster) return "master";
  if (node >= kFirstClient) return "client" + std::to_string(node - kFirstClient + 1);
  return "cs" + std::to_string(node);
}

World::World(uint64_t seed, bool trace) : random_(seed * 0x9E3779B97F4A7C15ull + 1), tracing_(trace) {}

// splitmix64: the same numbers on every platform and library.
uint64_t World::Random(uint64_t bound) {
  random_ += 0x9E3779B97F4A7C15ull;
  uint64_t value = random_;
  value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9ull;
  value = (value ^ (value >> 27)) * 0x94D049BB133111EBull;
  return (value ^ (value >> 31)) % bound;
}

void World::At(int64_t time, std::function<void()> run) {
  queue_.push({std::max(time, now_), order_++, std::move(run)});
}

bool World::RunOne() {
  if (queue_.empty() || !failure_.empty()) return false;
  Event event = std::move(const_cast<Event&>(queue_.top()));
  queue_.pop();
  now_ = event.time;
  ++events_;
  event.run();
  return true;
}

void World::RunOn(NodeId node, uint64_t incarnation, std::function<void()> run) {
  Process& process = processes_[node];
  if (!process.up || process.incarnation != incarnation) return;
  if (now_ < process.paused_until) {
    At(process.paused_until,
       [this, node, incarnation, run = std::move(run)] { RunOn(node, incarnation, run); });
    return;
  }
  run();
}

void World::AfterOn(NodeId node, int64_t delay, std::function<void()> run) {
  const uint64_t incarnation = processes_[node].incarnation;
  At(now_ + delay, [this, node, incarnation, run = std::move(run)] { RunOn(node, incarnation, run); });
}

void World::Start(NodeId node) {
  Process& process = processes_[node];
  process.up = true;
  ++process.incarnation;
  process.paused_until = 0;
}
void World::Crash(NodeId node) { processes_[node].up = false; }
bool World::IsUp(NodeId node) const {
  const auto found = processes_.find(node);
  return found != processes_.end() && found->second.up;
}
uint64_t World::Incarnation(NodeId node) const {
  const auto found = processes_.find(node);
  return found == processes_.end() ? 0 : found->second.incarnation;
}
void World::Pause(NodeId node, int64_t duration) {
  CountFault("process paused");
  processes_[node].paused_until = now_ + duration;
}

void World::Cut(NodeId from, NodeId to, int64_t duration) { cut_until_[{from, to}] = now_ + duration; }
bool World::IsCut(NodeId from, NodeId to) const {
  const auto found = cut_until_.find({from, to});
  return found != cut_until_.end() && now_ < found->second;
}
bool World::IsLost(NodeId from, NodeId to) {
  if (IsCut(from, to)) {
    CountFault("message cut off by a partition");
    return true;
  }
  if (!Chance(faults.loss_permille)) return false;
  CountFault("message lost");
  return true;
}
bool World::IsRepeated() {
  if (!Chance(faults.repeat_permille)) return false;
  CountFault("message repeated");
  return true;
}
void World::HealAll() {
  cut_until_.clear();
  faults = {};
}

int64_t World::Delay() {
  if (Chance(faults.slow_permille)) {
    CountFault("message late");
    return 1 + static_cast<int64_t>(Random(static_cast<uint64_t>(faults.slow_ms)));
  }
  return 1 + static_cast<int64_t>(Random(4));
}

void World::Deliver(NodeId from, NodeId to, const std::function<void()>& deliver,
                    const std::function<void()>& lost) {
  if (IsCut(from, to) || !IsUp(to)) {
    if (lost) lost();
    return;
  }
  RunOn(to, processes_[to].incarnation, deliver);
}

void World::Send(NodeId from, NodeId to, std::function<void()> deliver) {
  if (IsLost(from, to)) return;
  const auto arrive = [this, from, to, deliver = std::move(deliver)] { Deliver(from, to, deliver, nullptr); };
  if (IsRepeated()) At(now_ + 2 * Delay() + static_cast<int64_t>(Random(3000)), arrive);
  At(now_ + Delay(), arrive);
}

void World::Call(NodeId from, NodeId to, const std::string& what, std::function<void(ReplyFn)> serve,
                 ReplyFn on_reply) {
  const uint64_t caller = Incarnation(from);
  Send(from, to, [this, from, to, what, caller, serve = std::move(serve), on_reply = std::move(on_reply)] {
    if (!what.empty()) Trace(NodeName(from) + " -> " + NodeName(to) + ": " + what);
    serve([this, from, to, what, caller, on_reply](const Answer& answer) {
      Send(to, from, [this, from, to, what, caller, on_reply, answer] {
        if (Incarnation(from) != caller) return;
        if (!answer.status.ok())
          Trace(NodeName(to) + " -> " + NodeName(from) + ": " + what + " " + answer.status.ToString());
        on_reply(answer);
      });
    });
  });
}

void World::SendOrdered(NodeId from, NodeId to, std::function<void()> deliver, std::function<void()> lost) {
  const uint64_t sender = Incarnation(from);
  const auto tell_sender = [this, from, sender, lost = std::move(lost)] {
    At(now_ + 20, [this, from, sender, lost] { RunOn(from, sender, lost); });
  };
  if (IsLost(from, to)) {
    if (Chance(500)) At(now_ + Delay(), [this, from, to, deliver] { Deliver(from, to, deliver, nullptr); });
    tell_sender();
    return;
  }
  int64_t& until = ordered_until_[{from, to}];
  until = std::max(until, now_ + Delay());
  if (IsRepeated()) {
    At(until + static_cast<int64_t>(Random(3000)),
       [this, from, to, deliver] { Deliver(from, to, deliver, nullptr); });
  }
  At(until, [this, from, to, deliver = std::move(deliver), tell_sender] {
    Deliver(from, to, deliver, tell_sender);
  });
}

void World::Trace(const std::string& line) {
  if (!tracing_) return;
  char stamp[32];
  std::snprintf(stamp, sizeof(stamp), "%8lld ms  ", static_cast<long long>(now_));
  trace_.push_back(stamp + line);
}

void World::Fail(const std::string& why) {
  if (!failure_.empty()) return;
  failure_ = why;
  Trace("PROMISE BROKEN: " + why);
}

}  // namespace cairn::sim
