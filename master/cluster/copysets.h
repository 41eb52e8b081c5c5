// Copyset placement: few different sets of servers instead of all possible ones. Pure.
//
// With chunks placed at random, after enough chunks every set of N servers holds all copies of some chunk, so that any N servers
// that fail at once lose something. Here chunks share sets: with scatter width S there are P = ceil(S / (N-1)) orders, and in each
// order a server is in one set of N. A server then shares chunks with about P (N-1) others, and only about P n/N of the C(n,N)
// combinations lose anything (Cidon et al., "Copysets", USENIX ATC 2013). The price: when a set is hit it loses more at once, and a
// lost server's copies are made again by that many servers instead of all.
//
// The sets grow with the cluster and are never cut anew (docs/decisions/copysets-grow-with-the-cluster.md). Servers are taken in order of
// their numbers, which is the order in which they joined. In each order a server waits until N of those that wait fit together: in
// different failure domains and without two that share a set already. That set stays.
//
//   S = 4, N = 3 -> P = 2;  order 1: 1 2 3 | 4 5 6 | 7 8 9,  order 2: 1 4 7 | 2 5 8 | 3 6 9
//
// A server that is in no set yet is filled up with such as are in one, until its own set is complete. A number that is missing was a
// server that is removed: its place is taken by another, and the other sets stay.
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

// The sets of a scatter width, each of `replicas` servers of different failure domains. `servers`: all of the storage class, also those
// that are down, drained or in maintenance, and in `others` the numbers known outside of it (they are not missing).
std::vector<std::vector<ServerId>> AllCopysets(const std::vector<PlacementServer>& servers, uint32_t replicas, FailureDomain domain,
                                               uint32_t scatter_width, const std::vector<ServerId>& others = {});

// Who takes a place beside `keep`, among `candidates`: one with which it is (part of) one of `sets`; else, for equal `keep`, always the same
// one, so that all chunks of a set whose member is lost (or whose copy moves) stay together in one set. nullopt: no candidates.
std::optional<ServerId> CopysetSuccessor(const std::vector<ServerId>& keep, const std::vector<ServerId>& candidates,
                                         const std::vector<std::vector<ServerId>>& sets);

}  // namespace cairn::master
