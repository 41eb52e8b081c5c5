#include "common/replication/reader.h"

#include <gtest/gtest.h>

#include <set>

#include "common/clock.h"

namespace cairn::replication {
namespace {

constexpr ServerId kA{1}, kB{2}, kC{3};
using Servers = std::vector<ServerId>;

TEST(RankReplicas, NearestThenLeastLoaded) {
  std::vector<ReadCandidate> candidates = {
      {.server = ServerId{1}, .load = 0},
      {.server = ServerId{2}, .same_zone = true, .load = 900},
      {.server = ServerId{3}, .same_host = true, .same_zone = true, .load = 1000},
      {.server = ServerId{4}, .same_zone = true, .load = 100},
      {.server = ServerId{5}, .same_host = true, .same_zone = true, .alive = false},
      {.server = ServerId{6}, .same_host = true, .same_zone = true, .suspect = true},
  };
  const Servers expected = {ServerId{3}, ServerId{4}, ServerId{2}, ServerId{1}, ServerId{6}, ServerId{5}};
  EXPECT_EQ(RankReplicas(candidates, 7), expected);
}

TEST(RankReplicas, EqualCandidatesAreSpreadAndTheOrderIsRepeatable) {
  std::vector<ReadCandidate> candidates = {
      {.server = kA, .load = 10}, {.server = kB, .load = 90}, {.server = kC}};
  std::set<ServerId> first;
  for (uint64_t spread = 0; spread < 64; ++spread) {
    const Servers order = RankReplicas(candidates, spread);
    EXPECT_EQ(order, RankReplicas({candidates[2], candidates[0], candidates[1]}, spread));
    first.insert(order.front());
  }
  EXPECT_EQ(first.size(), 3u);
}

TEST(ReplicaReader, AsksOneAndTakesItsAnswer) {
  ReplicaReader read({kA, kB}, {});
  EXPECT_EQ(read.Poll(0), Servers{kA});
  EXPECT_TRUE(read.Poll(100).empty());
  EXPECT_EQ(read.NextPollNanos(), std::nullopt);
  read.OnSuccess(kA);
  EXPECT_EQ(read.done(), kA);
  EXPECT_FALSE(read.failed());
}

TEST(ReplicaReader, FailureGoesToTheNextAtOnce) {
  ReplicaReader read({kA, kB}, {});
  (void)read.Poll(0);
  read.OnFailure(kA, Status(StatusCode::kStaleReplica, "at 5.8"));
  EXPECT_FALSE(read.failed());
  EXPECT_EQ(read.Poll(1), Servers{kB});
  read.OnFailure(kC, Status(StatusCode::kIoError, "never asked"));
  EXPECT_EQ(read.problems().size(), 1u);
  read.OnSuccess(kB);
  EXPECT_EQ(read.done(), kB);
  ASSERT_EQ(read.Reportable().size(), 1u);
  EXPECT_EQ(read.Reportable()[0].server, kA);
}

TEST(ReplicaReader, HedgesOnceAfterTheDelayAndTheFirstAnswerWins) {
  ReplicaReader read({kA, kB, kC}, {.hedge_after_ns = 10});
  EXPECT_EQ(read.Poll(0), Servers{kA});
  EXPECT_EQ(read.NextPollNanos(), 10);
  EXPECT_TRUE(read.Poll(9).empty());
  EXPECT_EQ(read.Poll(10), Servers{kB});
  EXPECT_TRUE(read.Poll(30).empty()) << "one hedge at a time";
  read.OnSuccess(kB);
  read.OnSuccess(kA);
  EXPECT_EQ(read.done(), kB);
}

TEST(ReplicaReader, AMemberThatDoesNotAnswerInTimeIsPassedOver) {
  ReplicaReader read({kA, kB}, {.timeout_ns = 2 * kNanosPerSecond});
  (void)read.Poll(0);
  EXPECT_EQ(read.NextPollNanos(), 2 * kNanosPerSecond);
  EXPECT_EQ(read.Poll(2 * kNanosPerSecond), Servers{kB});
  EXPECT_TRUE(read.Poll(4 * kNanosPerSecond).empty());
  EXPECT_TRUE(read.failed());
  read.OnSuccess(kA);  // late, but verified bytes are verified bytes
  EXPECT_EQ(read.done(), kA);
}

TEST(ReplicaReader, TheVerdictNamesEveryMember) {
  const auto verdict = [](StatusCode a, StatusCode b) {
    ReplicaReader read({kA, kB}, {});
    (void)read.Poll(0);
    read.OnFailure(kA, Status(a, "x"));
    (void)read.Poll(0);
    read.OnFailure(kB, Status(b, "y"));
    EXPECT_TRUE(read.failed());
    const Status failure = read.Failure("chunk 7");
    EXPECT_NE(failure.message().find("cs1"), std::string::npos);
    EXPECT_NE(failure.message().find("cs2"), std::string::npos);
    return failure.code();
  };
  EXPECT_EQ(verdict(StatusCode::kStaleReplica, StatusCode::kUnknownChunk), StatusCode::kStaleReplica);
  EXPECT_EQ(verdict(StatusCode::kStaleReplica, StatusCode::kCorrupt), StatusCode::kCorrupt);
  EXPECT_EQ(verdict(StatusCode::kTimeout, StatusCode::kCorrupt), StatusCode::kUnavailable);
  EXPECT_EQ(verdict(StatusCode::kCorrupt, StatusCode::kUnavailable), StatusCode::kUnavailable);
  ReplicaReader nobody({}, {});
  EXPECT_TRUE(nobody.failed());
  EXPECT_EQ(nobody.Failure("chunk 7").code(), StatusCode::kUnavailable);
}

}  // namespace
}  // namespace cairn::replication
