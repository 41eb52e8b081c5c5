#include "master/cluster/placement.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

namespace cairn::master {
namespace {

PlacementServer Server(uint32_t id, const std::string& host, const std::string& rack = "",
                       const std::string& zone = "", uint64_t free_gib = 100) {
  return {.server = ServerId(id),
          .up = true,
          .full = free_gib == 0,
          .free_bytes = free_gib << 30,
          .host_id = host,
          .rack = rack,
          .zone = zone};
}

TEST(PlacementTest, ThreeServersOnOneHostTakeThreeReplicas) {
  const std::vector<PlacementServer> servers = {Server(1, "h"), Server(2, "h"), Server(3, "h")};
  for (uint64_t seed = 0; seed < 20; ++seed) {
    auto placed = Place({}, servers, seed);
    ASSERT_TRUE(placed.ok());
    EXPECT_EQ(std::set<ServerId>(placed->begin(), placed->end()).size(), 3u);
  }
}

TEST(PlacementTest, TheSameSeedGivesTheSameAnswerWhateverTheOrderOfServers) {
  std::vector<PlacementServer> servers;
  for (uint32_t i = 1; i <= 10; ++i) servers.push_back(Server(i, "h" + std::to_string(i)));
  auto reversed = servers;
  std::reverse(reversed.begin(), reversed.end());
  std::set<std::vector<ServerId>> answers;
  for (uint64_t seed = 0; seed < 50; ++seed) {
    auto one = Place({}, servers, seed);
    auto two = Place({}, reversed, seed);
    ASSERT_TRUE(one.ok() && two.ok());
    EXPECT_EQ(*one, *two);
    answers.insert(*one);
  }
  EXPECT_GT(answers.size(), 10u) << "different seeds spread";
}

TEST(PlacementTest, HostsZonesAndRacksAreSpreadEvenWhenNotAskedFor) {
  const std::vector<PlacementServer> servers = {Server(1, "a", "r1", "z1"), Server(2, "a", "r1", "z1"),
                                                Server(3, "b", "r1", "z1"), Server(4, "c", "r2", "z1"),
                                                Server(5, "d", "r3", "z2")};
  for (uint64_t seed = 0; seed < 30; ++seed) {
    auto placed = Place({}, servers, seed);
    ASSERT_TRUE(placed.ok());
    const std::set<ServerId> set(placed->begin(), placed->end());
    EXPECT_TRUE(set.contains(ServerId(4)) && set.contains(ServerId(5)));
  }
}

TEST(PlacementTest, AStrictDomainIsNeverBroken) {
  const std::vector<PlacementServer> servers = {Server(1, "a", "r1", "z"), Server(2, "b", "r1", "z"),
                                                Server(3, "c", "r2", "z"), Server(4, "d", "r2", "z")};
  PlacementRequest request;
  request.domain = FailureDomain::kRack;
  for (uint64_t seed = 0; seed < 30; ++seed) {
    auto placed = Place(request, servers, seed);
    ASSERT_TRUE(placed.ok());
    ASSERT_EQ(placed->size(), 2u) << "two racks hold two replicas";
    EXPECT_NE(((*placed)[0].value() - 1) / 2, ((*placed)[1].value() - 1) / 2);
  }
  request.write_quorum = 3;
  EXPECT_EQ(Place(request, servers, 0).code(), StatusCode::kNoQuorum);
}

TEST(PlacementTest, FreeSpaceWeighs) {
  const std::vector<PlacementServer> servers = {Server(1, "a", "", "", 900), Server(2, "b", "", "", 50),
                                                Server(3, "c", "", "", 50)};
  std::map<ServerId, int> first;
  PlacementRequest request{.replicas = 1, .write_quorum = 1};
  for (uint64_t seed = 0; seed < 1000; ++seed) ++first[(*Place(request, servers, seed))[0]];
  EXPECT_GT(first[ServerId(1)], 800);
  EXPECT_GT(first[ServerId(2)], 10);
}

TEST(PlacementTest, DownAndFullServersAreNotChosenAndTheMessageHasTheNumbers) {
  std::vector<PlacementServer> servers = {Server(1, "a"), Server(2, "b"), Server(3, "c")};
  servers[2].up = false;
  auto two = Place({}, servers, 1);
  ASSERT_TRUE(two.ok());
  EXPECT_EQ(two->size(), 2u);
  servers[1].up = false;
  auto down = Place({}, servers, 1);
  EXPECT_EQ(down.code(), StatusCode::kNoQuorum);
  EXPECT_NE(down.status().message().find("1 of the 2 servers required (3 known, 1 up"), std::string::npos)
      << down.status().message();
  servers[1].up = true;
  servers[1].full = true;
  EXPECT_EQ(Place({}, servers, 1).code(), StatusCode::kNoSpace);
}

TEST(PlacementTest, KeptMembersStayAndExcludedOnesNeverCome) {
  const std::vector<PlacementServer> servers = {Server(1, "a"), Server(2, "b"), Server(3, "c"),
                                                Server(4, "d")};
  PlacementRequest request;
  request.keep = {ServerId(3), ServerId(1)};
  request.exclude = {ServerId(2)};
  auto placed = Place(request, servers, 9);
  ASSERT_TRUE(placed.ok());
  EXPECT_EQ(*placed, (std::vector<ServerId>{ServerId(3), ServerId(1), ServerId(4)}));
}

}  // namespace
}  // namespace cairn::master
