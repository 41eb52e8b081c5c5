// Chooses the servers of a chunk. A pure function of what is known of the servers and a seed: the choice is
// made before the command is logged, and the same input gives the same answer everywhere.
//
// Order of wishes: no two replicas in one failure domain (never broken); then apart by zone, rack and machine
// as far as possible even when the policy asks for less; then weighted by free space, so that servers fill up
// together.
//
// Thread-safety: pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/ids.h"
#include "common/status.h"

namespace cairn::master {

enum class FailureDomain : uint8_t { kServer, kRack, kZone };

// "server", "rack", "zone"; empty means server. kInvalidArgument otherwise.
Result<FailureDomain> ParseFailureDomain(const std::string& text);

struct PlacementServer {
  ServerId server;
  bool up = false;
  bool full = false;        // its reserve is reached: takes no new data
  bool accepting = true;    // false: being drained, in maintenance or removed; keeps what it has, takes nothing new
  // Refused copies lately; none is sent there before that time (0: at any time). Only repairs know, new chunks are placed all the same.
  int64_t refuses_until_ns = 0;
  std::string refusal;
  bool in_class = true;     // a disk of it belongs to the storage class asked for
  uint64_t free_bytes = 0;  // above the reserve, in disks of the storage class asked for
  std::string host_id;
  std::string rack;
  std::string zone;
};

// Two servers with equal keys are in one failure domain. A server without a rack (zone) is a domain of its own: an unset label
// must not make all of them one domain.
std::string FailureDomainKey(const PlacementServer& server, FailureDomain domain);

struct PlacementRequest {
  uint32_t replicas = 3;      // N wanted
  uint32_t write_quorum = 2;  // fewer than this is an error
  FailureDomain domain = FailureDomain::kServer;
  std::vector<ServerId> keep;     // members that stay; the answer begins with them
  std::vector<ServerId> exclude;  // never chosen
  uint32_t scatter_width = 0;     // 0: any servers; otherwise copysets (copysets.h) where they can be had
};

// Between W and N servers. kNoSpace when servers are up but full, kNoQuorum when too few are up: the message
// has the numbers.
Result<std::vector<ServerId>> Place(const PlacementRequest& request,
                                    const std::vector<PlacementServer>& servers, uint64_t seed);

}  // namespace cairn::master
