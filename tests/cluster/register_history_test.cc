// The linearizability checker itself: histories that are fine, and each kind that is not.
#include "tests/cluster/load/register_history.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>

namespace cairn::cluster_test {
namespace {

TEST(RegisterHistory, OverlappingOperationsMayHaveEitherOrder) {
  RegisterHistory history;
  history.Write(1, {0, 10});
  history.Write(2, {5, 15});
  history.Read(2, {16, 20});
  EXPECT_EQ(history.Check(), "");
  RegisterHistory other;
  other.Write(1, {0, 10});
  other.Write(2, {5, 15});
  other.Read(1, {16, 20});
  EXPECT_EQ(other.Check(), "");
}

TEST(RegisterHistory, AStaleReadIsFound) {
  RegisterHistory history;
  history.Write(1, {0, 10});
  history.Write(2, {20, 30});
  history.Read(2, {31, 32});
  history.Read(1, {33, 40});
  EXPECT_NE(history.Check(), "");
  RegisterHistory initial;
  initial.Write(1, {0, 10});
  initial.Read(0, {11, 12});
  EXPECT_NE(initial.Check(), "");
}

TEST(RegisterHistory, AReadThatSawAnUnfinishedWriteBindsLaterOnes) {
  RegisterHistory history;
  history.Write(1, {0, 1});
  history.Write(2, {10, 100});
  history.Read(2, {20, 30});
  history.Read(1, {40, 50});  // back again, although the write of 2 is still going on
  EXPECT_NE(history.Check(), "");
}

TEST(RegisterHistory, AFailedWriteMayHaveHappenedLateOrNever) {
  RegisterHistory history;
  history.Write(1, {0, 1});
  history.FailedWrite(2, 5);
  history.Read(1, {10, 20});
  EXPECT_EQ(history.Check(), "");
  history.Read(2, {30, 40});
  EXPECT_EQ(history.Check(), "");
  history.Read(1, {50, 60});
  EXPECT_NE(history.Check(), "");
}

TEST(RegisterHistory, ValuesOutOfNowhereAndFromTheFutureAreFound) {
  RegisterHistory nowhere;
  nowhere.Read(9, {0, 1});
  EXPECT_NE(nowhere.Check(), "");
  RegisterHistory future;
  future.Write(1, {10, 20});
  future.Read(1, {0, 5});
  EXPECT_NE(future.Check(), "");
}

// Against the definition itself: all orders of up to six operations.
struct Op {
  bool write;
  uint64_t value;
  Interval when;
};

bool SomeOrderFits(const std::vector<Op>& ops) {
  std::vector<size_t> order(ops.size());
  std::iota(order.begin(), order.end(), 0);
  do {
    bool fits = true;
    uint64_t value = 0;
    for (size_t i = 0; i < order.size() && fits; ++i) {
      const Op& op = ops[order[i]];
      for (size_t j = i + 1; j < order.size(); ++j) {
        if (ops[order[j]].when.end < op.when.begin) fits = false;
      }
      if (op.write) {
        value = op.value;
      } else if (op.value != value) {
        fits = false;
      }
    }
    if (fits) return true;
  } while (std::next_permutation(order.begin(), order.end()));
  return false;
}

TEST(RegisterHistory, AgreesWithTheDefinitionOnRandomHistories) {
  std::mt19937 random(1);
  int linearizable = 0;
  constexpr int kHistories = 3000;
  for (int round = 0; round < kHistories; ++round) {
    std::vector<Op> ops;
    const size_t count = 2 + random() % 5;
    // Times are all different, as those of a real clock are.
    std::vector<int64_t> times(2 * count);
    std::iota(times.begin(), times.end(), 1);
    std::shuffle(times.begin(), times.end(), random);
    uint64_t written = 0;
    RegisterHistory history;
    for (size_t i = 0; i < count; ++i) {
      Interval when{std::min(times[2 * i], times[2 * i + 1]), std::max(times[2 * i], times[2 * i + 1])};
      const bool write = random() % 2 == 0;
      const uint64_t value = write ? ++written : random() % (written + 2);
      ops.push_back({write, value, when});
      write ? history.Write(value, when) : history.Read(value, when);
    }
    const bool expected = SomeOrderFits(ops);
    linearizable += expected ? 1 : 0;
    std::string text;
    for (const Op& op : ops)
      text += (op.write ? " w" : " r") + std::to_string(op.value) + "[" + std::to_string(op.when.begin) +
              "," + std::to_string(op.when.end) + "]";
    ASSERT_EQ(history.Check().empty(), expected) << text << ": " << history.Check();
  }
  EXPECT_GT(linearizable, kHistories / 10);
  EXPECT_LT(linearizable, kHistories * 9 / 10);
}

}  // namespace
}  // namespace cairn::cluster_test
