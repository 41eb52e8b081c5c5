#include "master/cluster/copysets.h"

#include <algorithm>
#include <iterator>
#include <string>

namespace cairn::master {
namespace {

// splitmix64's finisher: the same everywhere.
uint64_t Mix(uint64_t a, uint64_t b) {
  uint64_t z = a * 0x9E3779B97F4A7C15ull + b + 0x9E3779B97F4A7C15ull;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  return z ^ (z >> 31);
}

struct Ranked {
  ServerId server;
  std::string domain;
  uint64_t rank = 0;
  bool used = false;
};

}  // namespace

uint32_t CopysetOrders(uint32_t scatter_width, uint32_t replicas) {
  if (replicas < 2) return 1;
  return std::max<uint32_t>(1, (scatter_width + replicas - 2) / (replicas - 1));
}

std::vector<std::vector<ServerId>> CopysetsOfOrder(const std::vector<PlacementServer>& servers, uint32_t replicas,
                                                   FailureDomain domain, uint32_t order) {
  std::vector<Ranked> ranked;
  for (const PlacementServer& server : servers) {
    ranked.push_back({.server = server.server,
                      .domain = FailureDomainKey(server, domain),
                      .rank = Mix(order + 1, server.server.value())});
  }
  std::sort(ranked.begin(), ranked.end(), [](const Ranked& a, const Ranked& b) {
    return a.rank != b.rank ? a.rank < b.rank : a.server < b.server;
  });
  std::vector<std::vector<ServerId>> sets;
  for (Ranked& first : ranked) {
    if (first.used) continue;
    std::vector<Ranked*> set = {&first};
    // First those that are in no set yet; the second round fills up with any.
    for (const bool again : {false, true}) {
      for (Ranked& other : ranked) {
        if (set.size() == replicas) break;
        if (other.used != again || &other == &first) continue;
        const bool fits = std::none_of(set.begin(), set.end(),
                                       [&](const Ranked* member) { return member->domain == other.domain; });
        if (fits) set.push_back(&other);
      }
    }
    first.used = true;
    if (set.size() < replicas) continue;  // too few failure domains
    std::vector<ServerId> members;
    for (Ranked* member : set) {
      member->used = true;
      members.push_back(member->server);
    }
    sets.push_back(std::move(members));
  }
  return sets;
}

std::vector<std::vector<ServerId>> AllCopysets(const std::vector<PlacementServer>& servers, uint32_t replicas, FailureDomain domain,
                                               uint32_t scatter_width) {
  std::vector<std::vector<ServerId>> sets;
  for (uint32_t order = 0; order < CopysetOrders(scatter_width, replicas); ++order) {
    auto more = CopysetsOfOrder(servers, replicas, domain, order);
    std::move(more.begin(), more.end(), std::back_inserter(sets));
  }
  return sets;
}

std::optional<ServerId> CopysetSuccessor(const std::vector<ServerId>& keep, const std::vector<ServerId>& candidates,
                                         const std::vector<std::vector<ServerId>>& sets) {
  const auto contains = [](const std::vector<ServerId>& list, ServerId server) {
    return std::find(list.begin(), list.end(), server) != list.end();
  };
  for (const std::vector<ServerId>& set : sets) {
    if (!std::all_of(keep.begin(), keep.end(), [&](ServerId member) { return contains(set, member); })) continue;
    for (ServerId member : set) {
      if (!contains(keep, member) && contains(candidates, member)) return member;
    }
  }
  std::vector<ServerId> sorted = keep;
  std::sort(sorted.begin(), sorted.end());
  uint64_t key = 0;
  for (ServerId server : sorted) key = Mix(key, server.value());
  std::optional<ServerId> best;
  uint64_t best_rank = 0;
  for (ServerId candidate : candidates) {
    const uint64_t rank = Mix(key, candidate.value());
    if (!best || rank > best_rank || (rank == best_rank && candidate < *best)) {
      best = candidate;
      best_rank = rank;
    }
  }
  return best;
}

}  // namespace cairn::master
