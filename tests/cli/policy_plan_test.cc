#include "cli/admin/policy_plan.h"

#include <gtest/gtest.h>

namespace cairn::cli {
namespace {

TEST(PolicyPlanTest, AQuorumIsAvailableAsTheBinomialSays) {
  EXPECT_DOUBLE_EQ(AtLeast(1, 1, 0.9), 0.9);
  EXPECT_NEAR(AtLeast(2, 3, 0.99), 3 * 0.99 * 0.99 * 0.01 + 0.99 * 0.99 * 0.99, 1e-12);
  EXPECT_NEAR(AtLeast(0, 5, 0.3), 1, 1e-12);
}

TEST(PolicyPlanTest, MoreReplicasLoseLessAndALargerQuorumWritesLessOften) {
  PlanAssumptions assumptions;
  assumptions.servers = 6;
  double loss = 1;
  for (uint32_t replicas = 1; replicas <= 4; ++replicas) {
    const PlanLine line = PlanFor(replicas, replicas / 2 + 1, assumptions);
    EXPECT_LT(line.loss_per_year, loss) << replicas;
    loss = line.loss_per_year;
    EXPECT_EQ(line.survives, replicas / 2);
  }
  EXPECT_GT(PlanFor(3, 1, assumptions).write_availability, PlanFor(3, 2, assumptions).write_availability);
  EXPECT_LT(PlanFor(3, 1, assumptions).read_availability, PlanFor(3, 2, assumptions).read_availability);
  assumptions.repair_hours *= 10;
  EXPECT_GT(PlanFor(3, 2, assumptions).loss_per_year,
            50 * PlanFor(3, 2, PlanAssumptions{.servers = 6}).loss_per_year);
}

TEST(PolicyPlanTest, CopysetsLoseLessOftenForAPrice) {
  // 9 servers, N = 3, width 4: 2 orders of 3 sets each, of 84 possible ones.
  EXPECT_EQ(CopysetCount(9, 3, 0), 84);
  EXPECT_EQ(CopysetCount(9, 3, 4), 6);
  EXPECT_EQ(CopysetCount(3, 3, 4), 1) << "never more than there are";
  PlanAssumptions random{.servers = 9};
  PlanAssumptions sets{.servers = 9, .scatter_width = 4};
  EXPECT_DOUBLE_EQ(PlanFor(3, 2, random).loss_at_once, 1);
  EXPECT_DOUBLE_EQ(PlanFor(3, 2, sets).loss_at_once, 6.0 / 84);
  // Fewer sets, but a lost server's copies come back half as fast: 6/84 * 2^2.
  EXPECT_NEAR(PlanFor(3, 2, sets).loss_per_year / PlanFor(3, 2, random).loss_per_year, 6.0 / 84 * 4, 1e-3);
  EXPECT_DOUBLE_EQ(PlanFor(3, 2, sets).write_availability, PlanFor(3, 2, random).write_availability);
}

}  // namespace
}  // namespace cairn::cli
