// The simulator as a test: the rules as built keep every promise, a seed replays exactly, rare paths are
// reached, and each rule, when broken, is caught. A canary that is not caught within its seeds is a hole in
// the checkers or a rule that is not needed; either must be resolved, not the number raised without a reason.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>

#include "tests/sim/simulation.h"

namespace cairn::sim {
namespace {

using replication::Rule;
using replication::Rules;

TEST(Simulator, EveryPromiseIsKeptAndRarePathsAreReached) {
  std::map<std::string, uint64_t> marks;
  uint64_t operations = 0;
  for (uint64_t seed = 1; seed <= 800; ++seed) {
    const SimulationResult result = Simulate({.seed = seed});
    ASSERT_EQ(result.failure, "") << "replay with: cairn-sim --seed " << seed;
    for (const auto& [mark, times] : result.marks) marks[mark] += times;
    operations += result.operations;
  }
  EXPECT_GT(operations, 10'000u);
  for (const char* path : {
           "a bad block was read",
           "a chunk was found never written",
           "a configuration change met a higher promise",
           "a configuration change synced a member",
           "a configuration change was given up half way",
           "a delete was committed",
           "a delete was refused",
           "a disk was lost",
           "a gap was refused",
           "a laggard was dropped",
           "a live writer asked for a replacement",
           "a member was declared lost",
           "a mutation was fenced",
           "a policy changed",
           "a read failed over",
           "a replica was newer than the record",
           "a session was evicted because a recall was not answered",
           "a sync was overtaken",
           "a vanished writer's chunk was recovered",
           "a write came after the seal",
           "a writer went on in a new configuration",
           "an erase was refused by a higher promise",
           "an fsync returned",
           "loss excused: W members lost their memory",
           "the master forgot a lease",
           "the master forgot a seal",
       }) {
    EXPECT_GT(marks[path], 0u) << path;
  }
}

TEST(Simulator, ASeedReplaysExactly) {
  for (uint64_t seed : {1, 7, 42}) {
    const SimulationResult once = Simulate({.seed = seed, .trace = true});
    const SimulationResult again = Simulate({.seed = seed, .trace = true});
    EXPECT_EQ(once.trace, again.trace);
    EXPECT_EQ(once.events, again.events);
    EXPECT_GT(once.trace.size(), 20u);
    // Tracing itself changes nothing.
    EXPECT_EQ(Simulate({.seed = seed}).events, once.events);
  }
}

TEST(Simulator, DifferentSeedsAreDifferentRuns) {
  EXPECT_NE(Simulate({.seed = 1, .trace = true}).trace, Simulate({.seed = 2, .trace = true}).trace);
}

struct Canary {
  const char* rule;
  uint64_t within_seeds;
};

class CanaryTest : public ::testing::TestWithParam<Canary> {};

TEST_P(CanaryTest, IsCaught) {
  const Rule broken = RuleByName(GetParam().rule);
  ASSERT_NE(broken, Rule::kNone);
  for (uint64_t seed = 1; seed <= GetParam().within_seeds; ++seed) {
    if (!Simulate({.seed = seed, .rules = Rules{broken}}).failure.empty()) return;
  }
  FAIL() << "nobody noticed that " << GetParam().rule << " is broken";
}

constexpr Canary kCanaries[] = {
    {"epoch_fence", 150},       {"begin_checks_base", 50},      {"no_gaps", 50},
    {"sealed_is_closed", 50},   {"sync_pinned", 150},           {"tombstone_kept", 100},
    {"abort_fences", 400},      {"erase_names_epoch", 150},     {"read_names_stamp", 100},
    {"ack_at_quorum", 20},      {"laggard_stays_out", 50},      {"fence_quorum", 50},
    {"highest_stamp", 50},      {"amnesia_does_not_vote", 150}, {"never_below_record", 1000},
    {"activate_at_quorum", 50}, {"delete_at_quorum", 150},
};

INSTANTIATE_TEST_SUITE_P(EachRule, CanaryTest, ::testing::ValuesIn(kCanaries),
                         [](const ::testing::TestParamInfo<Canary>& canary) {
                           return std::string(canary.param.rule);
                         });

TEST(Canaries, ThereIsOneForEveryRule) {
  for (const auto& [name, rule] : RuleNames()) {
    EXPECT_TRUE(std::any_of(std::begin(kCanaries), std::end(kCanaries), [&name](const Canary& canary) {
      return name == canary.rule;
    })) << name;
  }
  EXPECT_EQ(RuleNames().size(), static_cast<size_t>(Rule::kDeleteAtQuorum))
      << "a rule without a name has no canary";
}

}  // namespace
}  // namespace cairn::sim
