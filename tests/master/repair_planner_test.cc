#include "master/cluster/repair_planner.h"

#include "master/cluster/target_backoff.h"

#include <gtest/gtest.h>

namespace cairn::master {
namespace {

constexpr int64_t kSecond = 1'000'000'000;

std::vector<PlacementServer> Servers(uint32_t count) {
  std::vector<PlacementServer> servers;
  for (uint32_t i = 1; i <= count; ++i) {
    servers.push_back(
        {.server = ServerId(i), .up = true, .free_bytes = 1ull << 40, .host_id = "h" + std::to_string(i)});
  }
  return servers;
}

ChunkFacts Chunk(std::vector<ReplicaCondition> conditions) {
  ChunkFacts facts;
  facts.chunk = ChunkId(1);
  uint32_t id = 1;
  for (ReplicaCondition condition : conditions) {
    facts.members.push_back(
        {.server = ServerId(id++), .condition = condition, .carried = true, .down_since_ns = 0});
  }
  return facts;
}

constexpr auto kCurrent = ReplicaCondition::kCurrent;
constexpr auto kStale = ReplicaCondition::kStale;
constexpr auto kMissing = ReplicaCondition::kMissing;
constexpr auto kCorrupt = ReplicaCondition::kCorrupt;
constexpr auto kDown = ReplicaCondition::kDown;

RepairPlan Plan(const ChunkFacts& facts, uint32_t servers, int64_t now, std::vector<uint32_t> down = {}) {
  auto all = Servers(servers);
  for (uint32_t id : down) all[id - 1].up = false;
  return PlanRepair(facts, all, {.grace_ns = 30 * kSecond}, 1, now);
}

TEST(RepairPlannerTest, AHealthyChunkNeedsNothing) {
  EXPECT_EQ(Plan(Chunk({kCurrent, kCurrent, kCurrent}), 3, 0).action, RepairAction::kNothing);
}

TEST(RepairPlannerTest, StaleMissingAndCorruptMembersOnServersThatAreUpAreSyncedAtOnce) {
  for (ReplicaCondition bad : {kStale, kMissing, kCorrupt}) {
    const RepairPlan plan = Plan(Chunk({kCurrent, bad, kCurrent}), 3, 0);
    EXPECT_EQ(plan.action, RepairAction::kSyncMember);
    EXPECT_EQ(plan.target, ServerId(2));
    EXPECT_EQ(plan.sources, (std::vector<ServerId>{ServerId(1), ServerId(3)}));
    EXPECT_EQ(plan.valid_copies, 2u);
  }
}

TEST(RepairPlannerTest, ADownMemberIsWaitedForWhileAQuorumOfCopiesExists) {
  const ChunkFacts facts = Chunk({kCurrent, kCurrent, kDown});
  const RepairPlan early = Plan(facts, 4, 10 * kSecond, {3});
  EXPECT_EQ(early.action, RepairAction::kWait);
  EXPECT_EQ(early.not_before_ns, 30 * kSecond);
  const RepairPlan late = Plan(facts, 4, 30 * kSecond, {3});
  EXPECT_EQ(late.action, RepairAction::kReplace);
  EXPECT_EQ(late.target, ServerId(4));
  EXPECT_EQ(late.members, (std::vector<ServerId>{ServerId(1), ServerId(2), ServerId(4)}));
}

TEST(RepairPlannerTest, BelowTheWriteQuorumThereIsNoGrace) {
  ChunkFacts facts = Chunk({kCurrent, kCurrent, kDown});
  facts.write_quorum = 3;
  const RepairPlan plan = Plan(facts, 4, 1 * kSecond, {3});
  EXPECT_EQ(plan.action, RepairAction::kReplace);
  EXPECT_EQ(plan.members.size(), 3u);
}

TEST(RepairPlannerTest, WithoutThoseWhoMustAgreeItWaitsAndSaysForWhom) {
  const RepairPlan plan = Plan(Chunk({kCurrent, kDown, kDown}), 4, 60 * kSecond, {2, 3});
  EXPECT_EQ(plan.action, RepairAction::kWait);
  EXPECT_NE(plan.reason.find("waiting for cs2, cs3"), std::string::npos) << plan.reason;
  EXPECT_EQ(plan.valid_copies, 1u);
  // W = N: any one member may answer for all.
  ChunkFacts facts = Chunk({kCurrent, kDown, kDown});
  facts.write_quorum = 3;
  EXPECT_EQ(Plan(facts, 4, 1 * kSecond, {2, 3}).action, RepairAction::kReplace);
}

TEST(RepairPlannerTest, WithoutASpareServerItWaitsAndSaysWhy) {
  const RepairPlan plan = Plan(Chunk({kCurrent, kCurrent, kDown}), 3, 60 * kSecond, {3});
  EXPECT_EQ(plan.action, RepairAction::kWait);
  EXPECT_NE(plan.reason.find("no other server"), std::string::npos) << plan.reason;
}

TEST(RepairPlannerTest, AServerThatRefusesCopiesIsLeftAloneForAWhileAndNamed) {
  const ChunkFacts facts = Chunk({kCurrent, kCurrent, kStale});
  auto servers = Servers(4);
  servers[2].refuses_until_ns = 8 * kSecond;
  servers[2].refusal = "disk /d2 is full";
  const RepairPlan elsewhere = PlanRepair(facts, servers, {}, 1, 0);
  EXPECT_EQ(elsewhere.action, RepairAction::kReplace) << "another server can have the copy now";
  EXPECT_EQ(elsewhere.target, ServerId(4));
  servers[3].refuses_until_ns = 60 * kSecond;
  const RepairPlan wait = PlanRepair(facts, servers, {}, 1, 0);
  EXPECT_EQ(wait.action, RepairAction::kWait);
  EXPECT_EQ(wait.not_before_ns, 8 * kSecond);
  EXPECT_NE(wait.reason.find("cs3 is stale and refuses copies (disk /d2 is full)"), std::string::npos) << wait.reason;
  const RepairPlan replace = PlanRepair(Chunk({kCurrent, kCurrent}), servers, {}, 1, 0);
  EXPECT_EQ(replace.action, RepairAction::kWait);
  EXPECT_NE(replace.reason.find("cs3 refuses copies"), std::string::npos) << replace.reason;
}

TEST(TargetBackoffTest, ThePauseDoublesWithEachRoundAndASuccessEndsIt) {
  TargetBackoff backoff;
  const ServerId server(2);
  EXPECT_EQ(backoff.Waiting(server, 0), nullptr);
  int64_t now = 0;
  int64_t previous = 0;
  for (int round = 0; round < 10; ++round) {
    for (int chunk = 0; chunk < 4; ++chunk) backoff.Refused(server, "full", now);  // under way together
    const TargetBackoff::Pause* pause = backoff.Waiting(server, now);
    ASSERT_NE(pause, nullptr);
    EXPECT_EQ(pause->why, "full");
    const int64_t length = pause->until_ns - now;
    EXPECT_EQ(length, round == 0 ? 2 * kSecond : std::min(previous * 2, 120 * kSecond));
    previous = length;
    now += length;
    EXPECT_EQ(backoff.Waiting(server, now), nullptr);
  }
  backoff.Refused(server, "full", now);
  backoff.Forget(server);
  EXPECT_EQ(backoff.Waiting(server, now), nullptr);
}

TEST(RepairPlannerTest, NoSourceMeansWaiting) {
  const RepairPlan away = Plan(Chunk({kStale, kDown, kDown}), 4, 60 * kSecond, {2, 3});
  EXPECT_EQ(away.action, RepairAction::kWait);
  EXPECT_NE(away.reason.find("on a server that is down"), std::string::npos);
  const RepairPlan lost = Plan(Chunk({kStale, kMissing, kCorrupt}), 4, 0);
  EXPECT_EQ(lost.action, RepairAction::kWait);
  EXPECT_NE(lost.reason.find("no current copy"), std::string::npos);
}

TEST(RepairPlannerTest, AChunkPlacedOnTooFewServersIsRaisedToItsPolicy) {
  const RepairPlan plan = Plan(Chunk({kCurrent, kCurrent}), 3, 0);
  EXPECT_EQ(plan.action, RepairAction::kReplace);
  EXPECT_EQ(plan.members, (std::vector<ServerId>{ServerId(1), ServerId(2), ServerId(3)}));
  EXPECT_EQ(Plan(Chunk({kCurrent, kCurrent}), 2, 0).action, RepairAction::kWait);
}

TEST(RepairPlannerTest, AnOpenChunkIsLeftToItsWriterFirst) {
  ChunkFacts facts = Chunk({kCurrent, kStale, kCurrent});
  facts.open = true;
  EXPECT_EQ(Plan(facts, 4, 0).action, RepairAction::kLowerWriter);
  facts.recovering = true;
  EXPECT_EQ(Plan(facts, 4, 0).action, RepairAction::kWait);
}

TEST(RepairQueueTest, EndangeredChunksComeFirst) {
  RepairQueue queue(100);
  const ChunkFacts facts = Chunk({kCurrent, kCurrent, kCurrent});
  auto rank = [&](uint32_t copies) {
    RepairPlan plan;
    plan.valid_copies = copies;
    return RepairQueue::RankOf(plan, facts);
  };
  EXPECT_LT(rank(1), rank(2));
  queue.Add(ChunkId(1), rank(2), 0);
  queue.Add(ChunkId(2), rank(1), 0);
  queue.Add(ChunkId(3), rank(1), 50);
  EXPECT_EQ(queue.Due(10, 10), (std::vector<ChunkId>{ChunkId(2), ChunkId(1)}));
  EXPECT_EQ(queue.Due(50, 10), (std::vector<ChunkId>{ChunkId(2), ChunkId(3), ChunkId(1)}));
  queue.Remove(ChunkId(2));
  EXPECT_EQ(queue.NotBefore(ChunkId(3)), 50);
  EXPECT_EQ(queue.NotBefore(ChunkId(2)), std::nullopt);
}

TEST(RepairQueueTest, AFullQueueKeepsTheMostEndangered) {
  RepairQueue queue(2);
  queue.Add(ChunkId(1), 5, 0);
  queue.Add(ChunkId(2), 4, 0);
  queue.Add(ChunkId(3), 6, 0);
  EXPECT_FALSE(queue.Contains(ChunkId(3)));
  queue.Add(ChunkId(4), 1, 0);
  EXPECT_FALSE(queue.Contains(ChunkId(1)));
  EXPECT_EQ(queue.size(), 2u);
}

ChunkFacts Placed(std::vector<uint32_t> members) {
  ChunkFacts facts;
  facts.chunk = ChunkId(1);
  for (uint32_t id : members) facts.members.push_back({.server = ServerId(id), .carried = true});
  return facts;
}

TEST(RepairPlannerTest, ALowerNumberOfReplicasDropsTheWorstMembersAtOnce) {
  ChunkFacts facts = Chunk({kCurrent, kDown, kCurrent});
  facts.replicas = 2;
  facts.wanted_quorum = 2;
  const RepairPlan plan = Plan(facts, 3, 0, {2});
  EXPECT_EQ(plan.action, RepairAction::kConfigure);
  EXPECT_EQ(plan.members, (std::vector<ServerId>{ServerId(1), ServerId(3)}))
      << "the one that is down goes first";
  EXPECT_EQ(plan.write_quorum, 2u);
  facts = Chunk({kCurrent, kStale, kDown});
  facts.replicas = 2;
  EXPECT_EQ(Plan(facts, 3, 0, {3}).action, RepairAction::kSyncMember)
      << "with one good copy nothing is dropped";
}

TEST(RepairPlannerTest, AHigherNumberOfReplicasAddsOneAndAQuorumFollowsWhenItCanBeReached) {
  ChunkFacts facts = Placed({1, 2});
  facts.replicas = 3;
  facts.write_quorum = 2;
  facts.wanted_quorum = 3;
  const RepairPlan plan = Plan(facts, 3, 0);
  EXPECT_EQ(plan.action, RepairAction::kReplace);
  EXPECT_EQ(plan.target, ServerId(3));
  EXPECT_EQ(plan.write_quorum, 3u);
  facts = Placed({1});
  facts.replicas = 3;
  facts.write_quorum = 1;
  facts.wanted_quorum = 2;
  const RepairPlan first = Plan(facts, 3, 0);
  EXPECT_EQ(first.members.size(), 2u);
  EXPECT_EQ(first.write_quorum, 2u);
}

TEST(RepairPlannerTest, AnotherWriteQuorumAloneNeedsNoCopy) {
  ChunkFacts facts = Placed({1, 2, 3});
  facts.write_quorum = 2;
  facts.wanted_quorum = 3;
  const RepairPlan plan = Plan(facts, 3, 0);
  EXPECT_EQ(plan.action, RepairAction::kConfigure);
  EXPECT_EQ(plan.members.size(), 3u);
  EXPECT_EQ(plan.write_quorum, 3u);
  EXPECT_TRUE(plan.wish);
  facts.open = true;
  EXPECT_EQ(Plan(facts, 3, 0).action, RepairAction::kLowerWriter);
}

TEST(RepairPlannerTest, AMemberThatLeavesIsReplacedCopyFirstAndAfterEverythingThatIsEndangered) {
  ChunkFacts facts = Placed({1, 2, 3});
  facts.members[1].leaving = true;
  auto servers = Servers(4);
  servers[1].accepting = false;
  const RepairPlan plan = PlanRepair(facts, servers, {}, 1, 0);
  EXPECT_EQ(plan.action, RepairAction::kReplace);
  EXPECT_EQ(plan.members, (std::vector<ServerId>{ServerId(1), ServerId(3), ServerId(4)}));
  EXPECT_EQ(plan.sources.size(), 3u) << "also the one that leaves may give the bytes";
  const ChunkFacts stale = Chunk({kCurrent, kStale, kCurrent});
  EXPECT_GT(RepairQueue::RankOf(plan, facts), RepairQueue::RankOf(Plan(stale, 3, 0), stale));
  servers[3].accepting = false;
  const RepairPlan stuck = PlanRepair(facts, servers, {}, 1, 0);
  EXPECT_EQ(stuck.action, RepairAction::kWait);
  EXPECT_NE(stuck.reason.find("cs2 is being drained; no other server"), std::string::npos) << stuck.reason;
  EXPECT_GT(stuck.not_before_ns, 0);
}

TEST(RepairPlannerTest, MaintenanceStretchesTheGraceAndRemovalEndsIt) {
  ChunkFacts facts = Chunk({kCurrent, kCurrent, kDown});
  facts.members[2].away_until_ns = 500 * kSecond;
  const RepairPlan waits = Plan(facts, 4, 100 * kSecond, {3});
  EXPECT_EQ(waits.action, RepairAction::kWait);
  EXPECT_EQ(waits.not_before_ns, 500 * kSecond);
  EXPECT_NE(waits.reason.find("maintenance"), std::string::npos) << waits.reason;
  facts.members[2].removed = facts.members[2].leaving = true;
  EXPECT_EQ(Plan(facts, 4, 1, {3}).action, RepairAction::kReplace);
}

TEST(RepairPlannerTest, ADoubledFailureDomainAndAWrongStorageClassAreMendedWhenThereIsAPlace) {
  ChunkFacts facts = Placed({1, 2, 3});
  facts.domain = FailureDomain::kRack;
  auto servers = Servers(4);
  servers[0].rack = servers[1].rack = "A";
  servers[2].rack = "B";
  servers[3].rack = "C";
  const RepairPlan plan = PlanRepair(facts, servers, {}, 1, 0);
  EXPECT_EQ(plan.action, RepairAction::kReplace);
  EXPECT_EQ(plan.target, ServerId(4));
  servers[3].rack = "B";
  EXPECT_EQ(PlanRepair(facts, servers, {}, 1, 0).action, RepairAction::kWait);
  facts.domain = FailureDomain::kServer;
  servers[2].in_class = false;
  EXPECT_EQ(PlanRepair(facts, servers, {}, 1, 0).members,
            (std::vector<ServerId>{ServerId(1), ServerId(2), ServerId(4)}));
}

TEST(RepairLimitsTest, CountPerServerAndForTheCluster) {
  RepairLimits limits(2, 3);
  const std::vector<ServerId> pair = {ServerId(1), ServerId(2)};
  EXPECT_TRUE(limits.Start(pair, RepairLimits::kFull));
  EXPECT_TRUE(limits.Start({ServerId(1), ServerId(3)}, RepairLimits::kFull));
  EXPECT_FALSE(limits.Start({ServerId(1), ServerId(4)}, RepairLimits::kFull)) << "server 1 has two";
  EXPECT_TRUE(limits.Start({ServerId(3), ServerId(4)}, RepairLimits::kFull));
  EXPECT_FALSE(limits.Start({ServerId(5), ServerId(6)}, RepairLimits::kFull)) << "the cluster has three";
  limits.Finish(pair, RepairLimits::kFull);
  EXPECT_TRUE(limits.Start({ServerId(5), ServerId(6)}, RepairLimits::kFull));
}

}  // namespace
}  // namespace cairn::master
