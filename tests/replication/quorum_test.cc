#include "common/replication/quorum.h"

#include <gtest/gtest.h>

#include "tests/replication/helpers.h"

namespace cairn::replication {
namespace {

TEST(Quorum, MajorityTable) {
  const uint32_t expected[] = {0, 1, 2, 2, 3, 3, 4, 4, 5, 5};
  for (uint32_t n = 1; n < 10; ++n) EXPECT_EQ(Majority(n), expected[n]) << "n=" << n;
}

TEST(Quorum, ReadQuorumTable) {
  EXPECT_EQ(ReadQuorum(1, 1), 1u);
  EXPECT_EQ(ReadQuorum(2, 1), 2u);
  EXPECT_EQ(ReadQuorum(2, 2), 1u);
  EXPECT_EQ(ReadQuorum(3, 1), 3u);
  EXPECT_EQ(ReadQuorum(3, 2), 2u);
  EXPECT_EQ(ReadQuorum(3, 3), 1u);
  EXPECT_EQ(ReadQuorum(5, 3), 3u);
  EXPECT_EQ(ReadQuorum(Config(1, {1, 2, 3, 4}, 3)), 2u);
}

TEST(Quorum, EveryReadQuorumMeetsEveryWriteQuorumAndNothingSmallerDoes) {
  for (uint32_t n = 1; n <= 7; ++n) {
    for (uint32_t w = 1; w <= n; ++w) {
      const uint32_t r = ReadQuorum(n, w);
      bool smaller_always_meets = true;
      for (uint32_t writers = 0; writers < (1u << n); ++writers) {
        if (static_cast<uint32_t>(__builtin_popcount(writers)) != w) continue;
        for (uint32_t readers = 0; readers < (1u << n); ++readers) {
          const uint32_t size = static_cast<uint32_t>(__builtin_popcount(readers));
          if (size == r) {
            EXPECT_NE(readers & writers, 0u) << n << " " << w;
          }
          if (size == r - 1 && (readers & writers) == 0) smaller_always_meets = false;
        }
      }
      EXPECT_FALSE(smaller_always_meets) << n << " " << w;
    }
  }
}

TEST(Quorum, PolicyBoundsAreRefused) {
  EXPECT_EQ(ValidatePolicy(0, 1).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(ValidatePolicy(3, 0).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(ValidatePolicy(3, 4).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(ValidatePolicy(kMaxReplicas + 1, 1).code(), StatusCode::kInvalidArgument);
  EXPECT_TRUE(ValidatePolicy(1, 1).ok());
  EXPECT_TRUE(ValidatePolicy(kMaxReplicas, kMaxReplicas).ok());
}

TEST(Quorum, ConfigurationsThatMakeNoSenseAreRefused) {
  EXPECT_TRUE(ValidateConfiguration(Config(5, {1, 2, 3}, 2, S(4, 9))).ok());
  EXPECT_FALSE(ValidateConfiguration(Config(0, {1, 2, 3}, 2)).ok());
  EXPECT_FALSE(ValidateConfiguration(Config(5, {}, 1)).ok());
  EXPECT_FALSE(ValidateConfiguration(Config(5, {1, 2, 1}, 2)).ok());
  EXPECT_FALSE(ValidateConfiguration(Config(5, {1, 0, 3}, 2)).ok());
  EXPECT_FALSE(ValidateConfiguration(Config(5, {1, 2}, 3)).ok());
  EXPECT_FALSE(ValidateConfiguration(Config(5, {1, 2}, 2, S(5, 0))).ok());
}

TEST(Quorum, ReachedByQuorumTable) {
  EXPECT_EQ(ReachedByQuorum(std::vector<uint64_t>{7, 3, 5}, 1), 7u);
  EXPECT_EQ(ReachedByQuorum(std::vector<uint64_t>{7, 3, 5}, 2), 5u);
  EXPECT_EQ(ReachedByQuorum(std::vector<uint64_t>{7, 3, 5}, 3), 3u);
  EXPECT_EQ(ReachedByQuorum(std::vector<uint64_t>{7, 3, 5}, 4), 0u);
  EXPECT_EQ(ReachedByQuorum(std::vector<uint64_t>{}, 1), 0u);
  EXPECT_EQ(ReachedByQuorum(std::vector<Stamp>{S(2, 1), S(1, 9)}, 2), S(1, 9));
}

TEST(Quorum, ProblemsAreNamed) {
  const std::vector<MemberProblem> problems = {
      {ServerId{3}, Status(StatusCode::kTimeout, "no answer in 2.0 s")},
      {ServerId{5}, Status(StatusCode::kNoSpace, "disk full")}};
  EXPECT_EQ(DescribeProblems(problems), "cs3 (timeout: no answer in 2.0 s), cs5 (no_space: disk full)");
}

}  // namespace
}  // namespace cairn::replication
