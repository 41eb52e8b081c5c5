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

std::set<Set> Sets(const std::vector<PlacementServer>& servers, uint32_t width = 4, FailureDomain domain = FailureDomain::kServer) {
  std::set<Set> out;
  for (const auto& set : AllCopysets(servers, 3, domain, width)) {
    EXPECT_EQ(Set(set.begin(), set.end()).size(), 3u);
    out.insert(Set(set.begin(), set.end()));
  }
  return out;
}

size_t Scatter(const std::set<Set>& sets) {
  std::map<ServerId, Set> near;
  size_t most = 0;
  for (const Set& set : sets) {
    for (ServerId server : set) near[server].insert(set.begin(), set.end());
  }
  for (const auto& [server, others] : near) most = std::max(most, others.size() - 1);
  return most;
}

size_t Kept(const std::set<Set>& before, const std::set<Set>& after) {
  return static_cast<size_t>(std::count_if(before.begin(), before.end(), [&](const Set& set) { return after.contains(set); }));
}

TEST(CopysetsTest, EveryServerIsInASet) {
  for (const uint32_t count : {3u, 4u, 5u, 7u, 9u, 10u, 20u, 61u}) {
    Set in;
    for (const Set& set : Sets(Servers(count))) in.insert(set.begin(), set.end());
    EXPECT_EQ(in.size(), count);
  }
}

TEST(CopysetsTest, AJoinKeepsTheSetsThereAre) {
  EXPECT_EQ(Sets(Servers(9)).size(), 6u);
  EXPECT_EQ(Kept(Sets(Servers(9)), Sets(Servers(10))), 6u);
  EXPECT_EQ(Sets(Servers(60)).size(), 38u) << "20 of order 1 and 18 of order 2, where six wait for servers they share nothing with";
  EXPECT_EQ(Kept(Sets(Servers(60)), Sets(Servers(61))), 38u);
}

TEST(CopysetsTest, GrownOneByOneTheSetsAndTheScatterWidthStayFew) {
  std::set<Set> all;
  for (uint32_t count = 30; count <= 60; ++count) {
    const auto now = Sets(Servers(count));
    EXPECT_LE(Scatter(now), 6u) << count;
    all.insert(now.begin(), now.end());
  }
  EXPECT_LE(all.size(), 55u);
  EXPECT_LE(Scatter(all), 8u);
}

TEST(CopysetsTest, ARemovedServerChangesItsOwnSetsOnly) {
  auto servers = Servers(60);
  const auto before = Sets(servers);
  servers.erase(servers.begin() + 19);
  const auto after = Sets(servers);
  EXPECT_EQ(Kept(before, after), before.size() - 2);
  EXPECT_EQ(after.size(), before.size());
}

TEST(CopysetsTest, NoSetHasTwoServersOfOneRack) {
  const auto servers = Servers(12, 4);
  const auto sets = Sets(servers, 8, FailureDomain::kRack);
  EXPECT_GE(sets.size(), 4u);
  for (const Set& set : sets) {
    std::set<std::string> racks;
    for (ServerId server : set) racks.insert(servers[server.value() - 1].rack);
    EXPECT_EQ(racks.size(), 3u);
  }
  EXPECT_TRUE(Sets(Servers(12, 2), 4, FailureDomain::kRack).empty()) << "two racks cannot hold three copies";
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

TEST(CopysetPlacementTest, MaintenanceOrADrainDoesNotMixTheOthers) {
  auto servers = Servers(9);
  const auto before = PlaceMany(servers, {.replicas = 3, .scatter_width = 4});
  servers[3].accepting = false;
  for (const Set& set : PlaceMany(servers, {.replicas = 3, .scatter_width = 4})) {
    EXPECT_TRUE(before.contains(set));
    EXPECT_FALSE(set.contains(ServerId(4)));
  }
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
