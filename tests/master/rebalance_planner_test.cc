#include "master/cluster/rebalance_planner.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace cairn::master {
namespace {

constexpr uint64_t kCapacity = 1000;
constexpr int64_t kSecond = 1'000'000'000;

// Servers of equal capacity with so much in use, and chunks of 10 bytes that fill the first ones.
struct Fixture {
  std::vector<BalanceServer> servers;
  std::vector<BalanceChunk> chunks;

  explicit Fixture(const std::vector<uint64_t>& used) {
    for (size_t i = 0; i < used.size(); ++i) {
      BalanceServer server;
      server.place.server = ServerId(static_cast<uint32_t>(i + 1));
      server.place.up = true;
      server.place.free_bytes = kCapacity - used[i];
      server.capacity_bytes = kCapacity;
      server.used_bytes = used[i];
      servers.push_back(server);
    }
  }
  void AddChunks(size_t count, const std::vector<uint32_t>& members, uint64_t bytes = 10) {
    for (size_t i = 0; i < count; ++i) {
      BalanceChunk chunk{.chunk = ChunkId(chunks.size() + 1), .bytes = bytes, .members = {}, .may_take = {}};
      for (uint32_t member : members) chunk.members.push_back(ServerId(member));
      chunks.push_back(chunk);
    }
  }
  // Carries the plan out on the chunks; answers how many moves it took.
  size_t Run(BalanceModel* model) {
    size_t moves = 0;
    while (const auto source = model->Source()) {
      bool moved = false;
      for (BalanceChunk& chunk : chunks) {
        const auto target = model->Target(*source, chunk);
        if (!target) continue;
        EXPECT_EQ(std::count(chunk.members.begin(), chunk.members.end(), *target), 0);
        std::replace(chunk.members.begin(), chunk.members.end(), *source, *target);
        model->Move(*source, *target, chunk.bytes);
        moved = true;
        ++moves;
        break;
      }
      if (!moved) model->Exhausted(*source);
      if (moves > 10'000) {
        ADD_FAILURE() << "no end";
        break;
      }
    }
    return moves;
  }
};

TEST(BalanceModelTest, EvenServersAreLeftAlone) {
  Fixture f({500, 505, 495});
  BalanceModel model(f.servers, 1);
  EXPECT_TRUE(model.Balanced());
  EXPECT_FALSE(model.Source());
  EXPECT_EQ(model.LimitedBy(), "");
}

TEST(BalanceModelTest, TwoEmptyServersBesideThreeFullOnesAreFilledWithTheFewestMoves) {
  Fixture f({800, 800, 800, 0, 0});
  f.AddChunks(80, {1, 2, 3});
  BalanceModel model(f.servers, 1);
  const size_t moves = f.Run(&model);
  EXPECT_TRUE(model.Balanced());
  for (const auto& [server, use] : model.use()) {
    EXPECT_GE(use.used, 470u) << ToString(server);
    EXPECT_LE(use.used, 490u) << ToString(server);
  }
  // 240 copies, 48 for each: 96 of them have to move, and no more do.
  EXPECT_LE(moves, 96u);
  EXPECT_GE(moves, 94u);
  for (const BalanceChunk& chunk : f.chunks) {
    std::vector<ServerId> members = chunk.members;
    std::sort(members.begin(), members.end());
    EXPECT_EQ(std::unique(members.begin(), members.end()), members.end())
        << "two copies of a chunk on one server";
  }
}

TEST(BalanceModelTest, FailureDomainsAreKept) {
  Fixture f({800, 0, 0});
  f.servers[0].place.rack = "A";
  f.servers[1].place.rack = "B";
  f.servers[2].place.rack = "B";
  f.AddChunks(40, {1, 2});
  for (BalanceChunk& chunk : f.chunks) chunk.domain = FailureDomain::kRack;
  BalanceModel model(f.servers, 1);
  f.Run(&model);
  EXPECT_FALSE(model.Balanced());
  EXPECT_EQ(model.use().at(ServerId(3)).used, 0u) << "rack B has a copy of each already";
  EXPECT_NE(model.LimitedBy().find("failure domain"), std::string::npos) << model.LimitedBy();
}

TEST(BalanceModelTest, ALargeChunkDoesNotSwingBackAndForth) {
  Fixture f({100, 0});
  f.AddChunks(1, {1}, 100);
  BalanceModel model(f.servers, 1);
  EXPECT_EQ(f.Run(&model), 0u) << "moving it would only turn the difference around";
}

TEST(BalanceModelTest, ServersThatAreDownDrainedFullOrOfAnotherClassTakeNothing) {
  Fixture f({900, 0, 0, 0, 300});
  f.servers[1].place.up = false;
  f.servers[2].place.accepting = false;
  f.servers[3].place.full = true;
  f.AddChunks(40, {1});
  BalanceModel model(f.servers, 1);
  f.Run(&model);
  EXPECT_EQ(model.use().count(ServerId(2)), 0u);
  EXPECT_EQ(model.use().count(ServerId(3)), 0u);
  EXPECT_EQ(model.use().at(ServerId(4)).used, 0u);
  EXPECT_GT(model.use().at(ServerId(5)).used, 300u);
  Fixture g({900, 0});
  g.AddChunks(10, {1});
  for (BalanceChunk& chunk : g.chunks) chunk.may_take = std::set<ServerId>{ServerId(1)};
  BalanceModel classes(g.servers, 1);
  EXPECT_EQ(g.Run(&classes), 0u);
}

TEST(BalanceModelTest, OnlyServersInScopeGiveAndTake) {
  Fixture f({900, 100, 800, 0});
  f.servers[2].in_scope = false;
  f.servers[3].in_scope = false;
  f.AddChunks(40, {1, 3});
  BalanceModel model(f.servers, 1);
  f.Run(&model);
  EXPECT_TRUE(model.Balanced()) << "what is out of scope does not count for the mean";
  EXPECT_NEAR(static_cast<double>(model.use().at(ServerId(1)).used), 500, 20);
  EXPECT_EQ(model.use().size(), 2u);
}

TEST(BalanceModelTest, ACopyOnAServerThatTakesNoPartIsStillInTheWayOfItsRack) {
  for (const bool out_of_scope : {true, false}) {
    Fixture f({900, 0, 500});
    f.servers[1].place.rack = "B";
    f.servers[2].place.rack = "B";
    f.servers[2].in_scope = !out_of_scope;
    f.servers[2].place.accepting = out_of_scope;  // otherwise in maintenance
    f.AddChunks(40, {1, 3});
    for (BalanceChunk& chunk : f.chunks) chunk.domain = FailureDomain::kRack;
    BalanceModel model(f.servers, 1);
    EXPECT_EQ(f.Run(&model), 0u) << "rack B has a copy of each";
  }
}

TEST(BalanceModelTest, AServerThatGoesDownOrComesAsksForANewModel) {
  Fixture f({500, 100, 300});
  BalanceModel model(f.servers, 1);
  EXPECT_TRUE(model.SameServers(f.servers));
  f.servers[0].used_bytes = 600;
  EXPECT_TRUE(model.SameServers(f.servers)) << "what a heartbeat tells of the use lags behind the moves";
  f.servers[1].place.up = false;
  EXPECT_FALSE(model.SameServers(f.servers));
  EXPECT_FALSE(BalanceModel(f.servers, 1).SameServers(Fixture({500, 100, 300}).servers));
}

TEST(BalanceModelTest, CopiesOfACopysetMoveTogether) {
  std::map<uint32_t, size_t> used;
  for (const uint32_t scatter_width : {0u, 1u}) {
    Fixture f({900, 900, 0, 0, 0, 0, 0, 0, 0});
    f.AddChunks(90, {1, 2});
    for (BalanceChunk& chunk : f.chunks) chunk.scatter_width = scatter_width;
    BalanceModel model(f.servers, 1);
    f.Run(&model);
    std::set<std::vector<ServerId>> sets;
    for (const BalanceChunk& chunk : f.chunks) {
      auto members = chunk.members;
      std::sort(members.begin(), members.end());
      sets.insert(members);
    }
    used[scatter_width] = sets.size();
  }
  EXPECT_GT(used[1], 1u) << "something moved";
  EXPECT_LE(used[1], 6u);
  EXPECT_LT(used[1], used[0]) << "of the 36 there could be";
}

// Servers 1, 3, 5, 7, 9, 11 are of the class, their sets of width 1 are 1 3 5 and 7 9 11. Of all servers they would be 1 2 3, 4 5 6 ...
TEST(BalanceModelTest, CopysetsAreThoseOfTheStorageClass) {
  const std::vector<uint32_t> set = {1, 3, 5};
  for (size_t i = 0; i < set.size(); ++i) {
    Fixture f({0, 0, 0, 0, 0, 0, 900, 0, 0, 0, 0, 0});
    f.AddChunks(1, {set[(i + 1) % 3], set[(i + 2) % 3], 7});
    BalanceChunk& chunk = f.chunks[0];
    chunk.scatter_width = 1;
    chunk.in_class = chunk.may_take = std::set<ServerId>{ServerId(1), ServerId(3), ServerId(5), ServerId(7), ServerId(9), ServerId(11)};
    BalanceModel model(f.servers, 1);
    EXPECT_EQ(model.Target(ServerId(7), chunk), ServerId(set[i]));
  }
}

TEST(BalanceModelTest, UndoTakesAMoveBack) {
  Fixture f({500, 100});
  BalanceModel model(f.servers, 1);
  const double before = model.SpreadPercent();
  model.Move(ServerId(1), ServerId(2), 100);
  EXPECT_LT(model.SpreadPercent(), before);
  model.Undo(ServerId(1), ServerId(2), 100);
  EXPECT_DOUBLE_EQ(model.SpreadPercent(), before);
}

TEST(MoveGovernorTest, TheRateIsHeldAndYieldsToForegroundLoad) {
  MoveGovernor governor;
  int64_t now = 1;
  uint64_t moved = 0;
  const auto run = [&](uint32_t load, int seconds) {
    moved = 0;
    for (int i = 0; i < seconds * 10; ++i) {
      now += kSecond / 10;
      governor.Update(1'000'000, load, now);
      while (governor.MayStart()) {
        governor.Charge(300'000);
        moved += 300'000;
      }
    }
    return moved;
  };
  run(0, 5);
  EXPECT_NEAR(static_cast<double>(run(0, 20)), 20e6, 1e6);
  EXPECT_NEAR(static_cast<double>(run(600, 20)), 11e6, 1.2e6);
  run(1000, 10);
  EXPECT_NEAR(static_cast<double>(run(1000, 20)), 2e6, 0.7e6) << "slow, but never nothing";
}

}  // namespace
}  // namespace cairn::master
