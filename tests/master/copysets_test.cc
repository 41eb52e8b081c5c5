#include "master/cluster/copysets.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

namespace cairn::master {
namespace {

std::vector<PlacementServer> Servers(uint32_t count, uint32_t racks = 0) {
  std::vector<PlacementServer> servers;
  for (uint32_t i = 1; i <= count; ++i) {
    servers.push_back({.server = ServerId(i),
                       .up = true,
                       .free_bytes = 1ull << 40,
                       .host_id = "h" + std::to_string(i),
                       .rack = racks == 0 ? "" : "r" + std::to_string(i % racks)});
  }
  return servers;
}

using Set = std::set<ServerId>;
std::set<Set> PlaceMany(const std::vector<PlacementServer>& servers, const PlacementRequest& request, int chunks = 4000) {
  std::set<Set> sets;
  for (int i = 0; i < chunks; ++i) {
    const auto placed = Place(request, servers, static_cast<uint64_t>(i));
    EXPECT_TRUE(placed.ok()) << placed.status().ToString();
    if (placed.ok()) sets.insert(Set(placed->begin(), placed->end()));
  }
  return sets;
}

TEST(CopysetsTest, TheScatterWidthSaysHowManyOrdersThereAre) {
  EXPECT_EQ(CopysetOrders(4, 3), 2u);
  EXPECT_EQ(CopysetOrders(5, 3), 3u);
  EXPECT_EQ(CopysetOrders(1, 3), 1u);
  EXPECT_EQ(CopysetOrders(3, 2), 3u);
  EXPECT_EQ(CopysetOrders(7, 1), 1u);
}

TEST(CopysetsTest, EveryServerIsInOneSetOfEachOrder) {
  for (const uint32_t count : {3u, 7u, 9u, 20u}) {
    std::map<ServerId, int> in;
    const auto sets = CopysetsOfOrder(Servers(count), 3, FailureDomain::kServer, 0);
    EXPECT_EQ(sets.size(), (count + 2) / 3);
    for (const auto& set : sets) {
      EXPECT_EQ(Set(set.begin(), set.end()).size(), 3u);
      for (ServerId server : set) ++in[server];
    }
    EXPECT_EQ(in.size(), count) << "nobody is left out, although " << count << " servers may not divide by three";
  }
}

TEST(CopysetsTest, NoSetHasTwoServersOfOneRack) {
  const auto servers = Servers(12, 4);
  for (uint32_t order = 0; order < 20; ++order) {
    for (const auto& set : CopysetsOfOrder(servers, 3, FailureDomain::kRack, order)) {
      std::set<std::string> racks;
      for (ServerId server : set) racks.insert(servers[server.value() - 1].rack);
      EXPECT_EQ(racks.size(), 3u);
    }
  }
  EXPECT_TRUE(CopysetsOfOrder(Servers(12, 2), 3, FailureDomain::kRack, 0).empty()) << "two racks cannot hold three copies";
}

TEST(CopysetPlacementTest, FewSetsAreUsedInsteadOfAll) {
  const auto servers = Servers(9);
  const auto random = PlaceMany(servers, {.replicas = 3});
  EXPECT_EQ(random.size(), 84u) << "C(9, 3)";
  const auto few = PlaceMany(servers, {.replicas = 3, .scatter_width = 4});
  EXPECT_LE(few.size(), 6u);
  std::map<ServerId, Set> neighbours;
  for (const Set& set : few) {
    for (ServerId server : set) neighbours[server].insert(set.begin(), set.end());
  }
  EXPECT_EQ(neighbours.size(), 9u) << "everybody gets chunks";
  for (const auto& [server, others] : neighbours) EXPECT_LE(others.size() - 1, 4u) << ToString(server);
}

TEST(CopysetPlacementTest, AServerThatIsDownTakesOnlyItsSetsAway) {
  auto servers = Servers(9);
  const auto before = PlaceMany(servers, {.replicas = 3, .scatter_width = 4});
  servers[3].up = false;
  for (const Set& set : PlaceMany(servers, {.replicas = 3, .scatter_width = 4})) {
    EXPECT_TRUE(before.contains(set)) << "the others keep their sets";
    EXPECT_FALSE(set.contains(ServerId(4)));
  }
}

TEST(CopysetPlacementTest, ALostMembersChunksStayTogetherInOneSet) {
  const auto servers = Servers(9);
  for (const Set& set : PlaceMany(servers, {.replicas = 3, .scatter_width = 4})) {
    const ServerId lost = *set.begin();
    PlacementRequest repair{.replicas = 3, .exclude = {lost}, .scatter_width = 4};
    for (ServerId member : set) {
      if (member != lost) repair.keep.push_back(member);
    }
    EXPECT_EQ(PlaceMany(servers, repair, 200).size(), 1u);
    repair.scatter_width = 0;
    EXPECT_GT(PlaceMany(servers, repair, 200).size(), 1u);
  }
}

// The arithmetic of the documentation: n = 9, N = 3, width 4 lets 6 of 84 triples lose something.
TEST(CopysetPlacementTest, WhatThreeLostServersLoseIsAsOftenAsTheFormulaSays) {
  const auto servers = Servers(9);
  for (const uint32_t scatter_width : {0u, 4u}) {
    const auto used = PlaceMany(servers, {.replicas = 3, .scatter_width = scatter_width});
    int lost = 0;
    for (uint32_t a = 1; a <= 9; ++a) {
      for (uint32_t b = a + 1; b <= 9; ++b) {
        for (uint32_t c = b + 1; c <= 9; ++c) lost += used.contains(Set{ServerId(a), ServerId(b), ServerId(c)}) ? 1 : 0;
      }
    }
    if (scatter_width == 0) {
      EXPECT_EQ(lost, 84);
    } else {
      EXPECT_LE(lost, 6);
      EXPECT_GE(lost, 3);
    }
  }
}

// Each join cuts the orders anew; the sets of all times together are no more than the sum. (It does not show that old sets are kept: they are not.)
TEST(CopysetPlacementTest, SetsOfAGrowingClusterAddUp) {
  std::set<Set> all;
  size_t servers_now = 0;
  for (const uint32_t count : {9u, 10u, 12u}) {
    servers_now = count;
    const auto used = PlaceMany(Servers(count), {.replicas = 3, .scatter_width = 4}, 2000);
    EXPECT_LE(used.size(), 2 * ((count + 2) / 3));
    all.insert(used.begin(), used.end());
  }
  EXPECT_EQ(servers_now, 12u);
  EXPECT_LE(all.size(), 22u) << "of 220 possible ones";
}

TEST(CopysetPlacementTest, WithoutAWholeSetItIsPlacedAsUsual) {
  auto servers = Servers(4);
  servers[0].full = servers[1].full = true;
  const auto placed = Place({.replicas = 3, .write_quorum = 2, .scatter_width = 2}, servers, 1);
  ASSERT_TRUE(placed.ok());
  EXPECT_EQ(placed->size(), 2u);
}

}  // namespace
}  // namespace cairn::master
