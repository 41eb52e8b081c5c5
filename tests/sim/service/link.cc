#include "tests/sim/service/link.h"

#include <algorithm>
#include <utility>

namespace cairn::sim::service {

Link::Link(World* world, NodeId one, NodeId other) : world_(*world) {
  ends_[0].node = one;
  ends_[1].node = other;
  for (End& end : ends_) end.incarnation = world_.Incarnation(end.node);
}

void Link::Put(End& to, std::function<void()> run) {
  to.last_at = std::max(to.last_at, world_.now() + world_.NetworkDelay());
  to.incoming.push_back({to.last_at, std::move(run)});
  if (std::exchange(to.pumping, true)) return;
  world_.At(to.incoming.front().at, [self = shared_from_this(), node = to.node] { self->Pump(node); });
}

void Link::Pump(NodeId node) {
  End& to = EndOf(node);
  to.pumping = false;
  while (!to.incoming.empty()) {
    const bool held_up = world_.IsCut(PeerOf(node).node, node);
    if (held_up || to.incoming.front().at > world_.now()) {
      to.pumping = true;
      if (held_up) world_.CountFault("message held up by a partition");
      world_.At(held_up ? world_.now() + 25 : to.incoming.front().at,
                [self = shared_from_this(), node] { self->Pump(node); });
      return;
    }
    std::function<void()> run = std::move(to.incoming.front().run);
    to.incoming.pop_front();
    if (!to.open || !world_.IsUp(node) || world_.Incarnation(node) != to.incarnation) continue;
    world_.AfterOn(node, 0, [self = shared_from_this(), node, run = std::move(run)] {
      if (self->EndOf(node).open) run();
    });
  }
}

void Link::Send(NodeId from, std::function<void()> deliver) {
  if (!EndOf(from).open) return;
  Put(PeerOf(from), std::move(deliver));
}

void Link::Close(NodeId from) {
  if (!std::exchange(EndOf(from).open, false)) return;
  End& peer = PeerOf(from);
  Put(peer, [self = shared_from_this(), node = peer.node] { self->Hear(node); });
}

void Link::Hear(NodeId node) {
  End& end = EndOf(node);
  end.open = false;
  if (auto closed = std::exchange(end.on_closed, nullptr)) closed();
}

void Link::Reset() {
  for (End& end : ends_) {
    while (!end.incoming.empty() && world_.Chance(500)) end.incoming.pop_back();
    Put(end, [self = shared_from_this(), node = end.node] { self->Hear(node); });
  }
}

void Link::Drop(NodeId at) {
  if (!EndOf(at).open) return;
  // What it sent last may be lost with it.
  std::deque<Item>& sent = PeerOf(at).incoming;
  while (!sent.empty() && world_.Chance(300)) sent.pop_back();
  Close(at);
}

std::shared_ptr<Link> Network::Connect(NodeId from, NodeId to) {
  auto link = std::make_shared<Link>(&world_, from, to);
  std::erase_if(links_, [](const std::weak_ptr<Link>& each) { return each.expired(); });
  links_.push_back(link);
  return link;
}

void Network::ProcessGone(NodeId node) {
  for (const std::weak_ptr<Link>& each : links_) {
    const std::shared_ptr<Link> link = each.lock();
    if (link != nullptr && link->Touches(node)) link->Drop(node);
  }
}

void Network::ResetOne() {
  std::vector<std::shared_ptr<Link>> alive;
  for (const std::weak_ptr<Link>& each : links_) {
    if (auto link = each.lock()) alive.push_back(std::move(link));
  }
  if (alive.empty()) return;
  world_.CountFault("connection reset");
  Link& link = *alive[world_.Random(alive.size())];
  link.Reset();
}

}  // namespace cairn::sim::service
