#include "master/cluster/placement.h"

#include <algorithm>
#include <unordered_map>
#include <utility>

#include "master/cluster/copysets.h"

namespace cairn::master {
namespace {

// splitmix64: small, seeded, the same everywhere (std:: distributions differ between libraries).
uint64_t NextRandom(uint64_t* state) {
  *state += 0x9E3779B97F4A7C15ull;
  uint64_t z = *state;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  return z ^ (z >> 31);
}

// How much a candidate shares with those already chosen; less is better.
int Shared(const PlacementServer& candidate, const std::vector<const PlacementServer*>& chosen) {
  int cost = 0;
  for (const PlacementServer* other : chosen) {
    if (!candidate.zone.empty() && candidate.zone == other->zone) cost += 1;
    if (!candidate.rack.empty() && candidate.zone == other->zone && candidate.rack == other->rack) cost += 16;
    if (!candidate.host_id.empty() && candidate.host_id == other->host_id) cost += 256;
  }
  return cost;
}

const PlacementServer* PickWeighted(const std::vector<const PlacementServer*>& candidates, uint64_t* random) {
  // Weights in MiB so that the sum stays far from overflow; every candidate keeps a chance.
  uint64_t total = 0;
  for (const PlacementServer* server : candidates) total += (server->free_bytes >> 20) + 1;
  uint64_t point = NextRandom(random) % total;
  for (const PlacementServer* server : candidates) {
    const uint64_t weight = (server->free_bytes >> 20) + 1;
    if (point < weight) return server;
    point -= weight;
  }
  return candidates.back();
}

// A copyset of which all members may take a chunk, at random by their free space, which one in many sets shares out among them.
const std::vector<ServerId>* PickCopyset(const std::vector<std::vector<ServerId>>& sets,
                                         const std::vector<const PlacementServer*>& open, uint64_t* random) {
  struct Member {
    uint64_t free_mib = 0;
    uint64_t sets = 0;
  };
  std::unordered_map<ServerId, Member> members;
  for (const PlacementServer* server : open) members[server->server].free_mib = (server->free_bytes >> 20) + 1;
  for (const auto& set : sets) {
    for (ServerId member : set) ++members[member].sets;
  }
  std::vector<uint64_t> weights;
  uint64_t total = 0;
  for (const auto& set : sets) {
    uint64_t weight = 0;
    for (ServerId member : set) {
      const Member& one = members[member];
      if (one.free_mib == 0) {
        weight = 0;
        break;
      }
      weight += one.free_mib / one.sets + 1;
    }
    weights.push_back(weight);
    total += weight;
  }
  if (total == 0) return nullptr;
  uint64_t point = NextRandom(random) % total;
  for (size_t i = 0; i < sets.size(); ++i) {
    if (point < weights[i]) return &sets[i];
    point -= weights[i];
  }
  return nullptr;
}

// The sets of these servers. The last ones are remembered: they are a function of what changes rarely.
const std::vector<std::vector<ServerId>>& CopysetsFor(const PlacementRequest& request, const std::vector<PlacementServer>& servers) {
  struct Remembered {
    std::vector<std::pair<ServerId, std::string>> key;  // domain, empty: not of the class
    uint32_t replicas = 0;
    uint32_t scatter_width = 0;
    std::vector<std::vector<ServerId>> sets;
  };
  thread_local Remembered last;
  std::vector<std::pair<ServerId, std::string>> key;
  key.reserve(servers.size());
  for (const PlacementServer& server : servers)
    key.emplace_back(server.server, server.in_class ? FailureDomainKey(server, request.domain) : std::string());
  if (last.key == key && last.replicas == request.replicas && last.scatter_width == request.scatter_width) return last.sets;
  std::vector<PlacementServer> of_class;
  std::vector<ServerId> others;
  for (const PlacementServer& server : servers) {
    if (server.in_class) {
      of_class.push_back(server);
    } else {
      others.push_back(server.server);
    }
  }
  last = {std::move(key), request.replicas, request.scatter_width,
          AllCopysets(of_class, request.replicas, request.domain, request.scatter_width, others)};
  return last.sets;
}

bool Contains(const std::vector<ServerId>& list, ServerId server) {
  return std::find(list.begin(), list.end(), server) != list.end();
}

}  // namespace

std::string FailureDomainKey(const PlacementServer& server, FailureDomain domain) {
  switch (domain) {
    case FailureDomain::kServer:
      break;
    case FailureDomain::kRack:
      if (!server.rack.empty()) return "rack/" + server.zone + "/" + server.rack;
      break;
    case FailureDomain::kZone:
      if (!server.zone.empty()) return "zone/" + server.zone;
      break;
  }
  return "server/" + std::to_string(server.server.value());
}

Result<FailureDomain> ParseFailureDomain(const std::string& text) {
  if (text.empty() || text == "server") return FailureDomain::kServer;
  if (text == "rack") return FailureDomain::kRack;
  if (text == "zone") return FailureDomain::kZone;
  return Status(StatusCode::kInvalidArgument,
                "failure domain \"" + text + "\" is none of server, rack and zone");
}

Result<std::vector<ServerId>> Place(const PlacementRequest& request,
                                    const std::vector<PlacementServer>& servers, uint64_t seed) {
  std::vector<ServerId> result = request.keep;
  std::vector<const PlacementServer*> chosen;
  std::vector<std::string> used_domains;
  for (const PlacementServer& server : servers) {
    if (!Contains(request.keep, server.server)) continue;
    chosen.push_back(&server);
    used_domains.push_back(FailureDomainKey(server, request.domain));
  }

  uint32_t up = 0;
  uint32_t full = 0;
  uint32_t closed = 0;
  std::vector<const PlacementServer*> open;
  for (const PlacementServer& server : servers) {
    if (server.up) ++up;
    if (server.up && server.full) ++full;
    if (server.up && !server.accepting) ++closed;
    if (!server.up || server.full || !server.accepting || server.refuses_until_ns != 0 || Contains(request.exclude, server.server) ||
        Contains(request.keep, server.server)) {
      continue;
    }
    open.push_back(&server);
  }
  // The caller's order of servers must not matter.
  std::sort(open.begin(), open.end(),
            [](const PlacementServer* a, const PlacementServer* b) { return a->server < b->server; });

  uint64_t random = seed;
  // Sets are made of all servers of the class: one that is down, drained or in maintenance must not mix the others anew.
  static const std::vector<std::vector<ServerId>> kNone;
  const auto& sets = request.scatter_width > 0 ? CopysetsFor(request, servers) : kNone;
  if (request.scatter_width > 0 && request.keep.empty()) {
    if (const auto* set = PickCopyset(sets, open, &random)) return *set;
  }
  while (result.size() < request.replicas) {
    std::vector<const PlacementServer*> best;
    int best_cost = 0;
    for (const PlacementServer* candidate : open) {
      const std::string key = FailureDomainKey(*candidate, request.domain);
      if (std::find(used_domains.begin(), used_domains.end(), key) != used_domains.end()) continue;
      const int cost = Shared(*candidate, chosen);
      if (best.empty() || cost < best_cost) {
        best = {candidate};
        best_cost = cost;
      } else if (cost == best_cost) {
        best.push_back(candidate);
      }
    }
    if (best.empty()) break;
    const PlacementServer* pick = PickWeighted(best, &random);
    if (request.scatter_width > 0 && !result.empty()) {
      std::vector<ServerId> candidates;
      for (const PlacementServer* server : best) candidates.push_back(server->server);
      const auto successor = CopysetSuccessor(result, candidates, sets);
      pick = *std::find_if(best.begin(), best.end(),
                           [&](const PlacementServer* server) { return server->server == *successor; });
    }
    result.push_back(pick->server);
    chosen.push_back(pick);
    used_domains.push_back(FailureDomainKey(*pick, request.domain));
    std::erase(open, pick);
  }

  if (result.size() >= request.write_quorum) return result;
  const std::string numbers =
      std::to_string(result.size()) + " of the " + std::to_string(request.write_quorum) +
      " servers required (" + std::to_string(servers.size()) + " known, " + std::to_string(up) + " up, " +
      std::to_string(full) + " of those full" +
      (closed == 0 ? std::string() : ", " + std::to_string(closed) + " drained or in maintenance") + ")";
  if (full > 0 && up >= request.write_quorum) {
    return Status(StatusCode::kNoSpace, "no place for a new chunk: " + numbers + "; add space or servers");
  }
  return Status(StatusCode::kNoQuorum, "no place for a new chunk: " + numbers + "; start more chunkservers");
}

}  // namespace cairn::master
