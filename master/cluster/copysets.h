// Copyset placement: few different sets of servers instead of all possible ones. Pure.
//
// With chunks placed at random, after enough chunks every set of N servers holds all copies of some chunk, so that any N servers
// that fail at once lose something. Here chunks share sets: all servers are put in random order P times, and each order is cut
// into sets of N; a chunk takes one of these sets. Each server then shares chunks with at most P (N-1) others, its scatter width, and
// only about P n/N of the C(n,N) sets lose anything (Cidon et al., "Copysets", USENIX ATC 2013). The price: when a set is hit it
// loses more at once, and a lost server's copies are made again by that many servers instead of all.
//
//   scatter width 4, N = 3 -> P = 2;  order 1: 4 1 6 | 2 5 3,  order 2: 1 2 3 | 4 5 6
//
// Two servers of one failure domain are never in one set. The orders come from hashes of the server numbers: the same servers give
// the same sets, and one more server changes those behind it only.
//
// Thread-safety: pure functions.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "common/ids.h"
#include "master/cluster/placement.h"

namespace cairn::master {

// How many orders a scatter width takes: the least P with P (N-1) >= width, at least 1.
uint32_t CopysetOrders(uint32_t scatter_width, uint32_t replicas);

// The sets of one order, each of `replicas` servers of different failure domains. What is left over at the end of an order is filled
// up with servers from its beginning, so that every server is in a set if that is possible at all.
std::vector<std::vector<ServerId>> CopysetsOfOrder(const std::vector<PlacementServer>& servers, uint32_t replicas,
                                                   FailureDomain domain, uint32_t order);

// The sets of all orders of a scatter width.
std::vector<std::vector<ServerId>> AllCopysets(const std::vector<PlacementServer>& servers, uint32_t replicas, FailureDomain domain,
                                               uint32_t scatter_width);

// Who takes a place beside `keep`, among `candidates`: one with which it is (part of) one of `sets`; else, for equal `keep`, always the same
// one, so that all chunks of a set whose member is lost (or whose copy moves) stay together in one set. nullopt: no candidates.
std::optional<ServerId> CopysetSuccessor(const std::vector<ServerId>& keep, const std::vector<ServerId>& candidates,
                                         const std::vector<std::vector<ServerId>>& sets);

}  // namespace cairn::master
