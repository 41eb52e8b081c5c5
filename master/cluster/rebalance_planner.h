// Which copies to move so that servers fill up evenly. Pure: a snapshot of use in, moves out; the same object plans a preview over
// a view of the metadata and drives the moves that are carried out.
//
//   BalanceModel model(servers, threshold);
//   while (auto source = model.Source()) {
//     chunk = next chunk that `source` holds;            // none left: model.Exhausted(source)
//     if (auto target = model.Target(*source, chunk)) model.Move(*source, *target, chunk.bytes);
//   }
//
// Balanced means: no server is more than `threshold` percent of its capacity above or below what it would hold if all were
// equally full. Every move brings that closer (the target stays emptier than the source was), so there is an end.
//
// Thread-safety: none; one owner.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "common/ids.h"
#include "master/cluster/placement.h"

namespace cairn::master {

struct BalanceServer {
  PlacementServer place;
  uint64_t capacity_bytes = 0;
  uint64_t used_bytes = 0;
  bool in_scope = true;  // false: neither gives nor takes, but is known where its copies are in the way
};

struct BalanceChunk {
  ChunkId chunk;
  uint64_t bytes = 0;
  std::vector<ServerId> members;
  FailureDomain domain = FailureDomain::kServer;
  // Servers that may take it by storage class (they have room in it); nullopt: all.
  std::optional<std::set<ServerId>> may_take;
  // All servers of its storage class, with room or not, of which its copysets are made; nullopt: all.
  std::optional<std::set<ServerId>> in_class = std::nullopt;
  uint32_t scatter_width = 0;  // of its policy; not 0: only to the server that keeps it in a copyset (copysets.h)
};

class BalanceModel {
 public:
  struct Use {
    uint64_t capacity = 0;
    uint64_t before = 0;
    uint64_t used = 0;
    uint64_t moves_out = 0;
    uint64_t moves_in = 0;
  };

  BalanceModel(const std::vector<BalanceServer>& servers, double threshold_percent);

  // The fullest server from which something should go; nullopt: balanced, or nothing more can be done.
  std::optional<ServerId> Source() const;
  // Nothing (more) that is on this server can be moved.
  void Exhausted(ServerId server) { exhausted_.insert(server); }
  // Where a copy on `source` should go: the emptiest server that is in nobody's way. nullopt: this chunk stays.
  std::optional<ServerId> Target(ServerId source, const BalanceChunk& chunk) const;
  void Move(ServerId source, ServerId target, uint64_t bytes);
  // The move did not take place.
  void Undo(ServerId source, ServerId target, uint64_t bytes);

  bool Balanced() const;
  // Fullest minus emptiest, percent of capacity.
  double SpreadPercent() const;
  // Whether it is about these servers still: one that came up, went down or is drained asks for a new model.
  bool SameServers(const std::vector<BalanceServer>& servers) const;
  const std::map<ServerId, Use>& use() const { return use_; }
  // Why it is not balanced although there is no Source(); empty otherwise.
  std::string LimitedBy() const;
  // One that is down or is emptied anyway neither gives nor takes, and its bytes are not there to be shared out.
  static bool TakesPart(const BalanceServer& server) {
    return server.in_scope && server.place.up && server.place.accepting && server.capacity_bytes > 0;
  }

 private:
  double Ratio(ServerId server) const;
  double Mean() const { return capacity_ == 0 ? 0 : static_cast<double>(total_) / static_cast<double>(capacity_); }

  std::optional<ServerId> CopysetTarget(ServerId source, const BalanceChunk& chunk, const std::set<std::string>& domains) const;

  const double threshold_;
  std::map<ServerId, PlacementServer> places_;  // all servers
  std::map<ServerId, Use> use_;                 // those that take part
  // By scatter width, replicas, domain and servers of the class; made when they are first asked for.
  mutable std::map<std::tuple<uint32_t, size_t, FailureDomain, std::optional<std::set<ServerId>>>, std::vector<std::vector<ServerId>>> copysets_;
  std::set<ServerId> exhausted_;
  uint64_t capacity_ = 0;
  uint64_t total_ = 0;
};

// How fast moves may go beside the foreground load: the configured rate while servers are idle, less the busier the busiest of
// them is, never nothing.
class MoveGovernor {
 public:
  // load: of the busiest server, 0..1000. Answers the rate in force.
  uint64_t Update(uint64_t bytes_per_second, uint32_t load, int64_t now_ns);
  // May a move start? It is charged in full; what is owed is waited off first.
  bool MayStart() const { return tokens_ > 0; }
  void Charge(uint64_t bytes) { tokens_ -= static_cast<double>(bytes); }

 private:
  double tokens_ = 0;
  int64_t updated_ns_ = 0;
};

}  // namespace cairn::master
