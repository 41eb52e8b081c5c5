// A connection between two simulated processes, as TCP gives it: each direction in order, nothing lost while it
// lives. A partition holds messages up; a reset, a close and the death of a process end it. What was on its way
// then may still arrive before the other end hears of the end.
//
// Thread-safety: none.
#pragma once

#include <array>
#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "tests/sim/world.h"

namespace cairn::sim::service {

class Link : public std::enable_shared_from_this<Link> {
 public:
  Link(World* world, NodeId one, NodeId other);

  // Runs at the other end when the message arrives there.
  void Send(NodeId from, std::function<void()> deliver);
  // This end is done; the other one hears of it after what was sent before.
  void Close(NodeId from);
  // Called once at this end when it hears of the end (not when it closed itself).
  void OnClosed(NodeId at, std::function<void()> closed) { EndOf(at).on_closed = std::move(closed); }
  bool open(NodeId at) { return EndOf(at).open; }
  bool Touches(NodeId node) const { return ends_[0].node == node || ends_[1].node == node; }
  // The process at this end is gone.
  void Drop(NodeId at);
  // The network ends it: both hear of it.
  void Reset();

 private:
  struct Item {
    int64_t at = 0;
    std::function<void()> run;
  };
  struct End {
    NodeId node = 0;
    uint64_t incarnation = 0;
    bool open = true;
    std::function<void()> on_closed;
    std::deque<Item> incoming;
    int64_t last_at = 0;
    bool pumping = false;
  };
  End& EndOf(NodeId node) { return ends_[0].node == node ? ends_[0] : ends_[1]; }
  End& PeerOf(NodeId node) { return ends_[0].node == node ? ends_[1] : ends_[0]; }
  void Put(End& to, std::function<void()> run);
  void Pump(NodeId to);
  void Hear(NodeId node);

  World& world_;
  std::array<End, 2> ends_;
};

// All connections, so that a process that dies takes its own along.
class Network {
 public:
  explicit Network(World* world) : world_(*world) {}
  std::shared_ptr<Link> Connect(NodeId from, NodeId to);
  void ProcessGone(NodeId node);
  // Resets one connection.
  void ResetOne();

 private:
  World& world_;
  std::vector<std::weak_ptr<Link>> links_;
};

}  // namespace cairn::sim::service
