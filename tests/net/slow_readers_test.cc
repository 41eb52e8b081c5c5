#include "common/net/slow_readers.h"

#include <gtest/gtest.h>

namespace cairn::net {
namespace {

constexpr SlowReaderLimits kLimits{.stalled_ns = 60, .under_pressure_ns = 2, .queued_bytes = 100};
using Indexes = std::vector<size_t>;

TEST(SlowReadersTest, WhileThereIsRoomOnlyThoseThatTookNothingForLongGo) {
  const std::vector<SendQueueState> queues = {{50, 1000}, {40, 940}, {10, 939}, {0, 0}};
  EXPECT_EQ(SlowReaders(queues, 1000, kLimits), Indexes{2});
}

TEST(SlowReadersTest, UnderPressureThoseThatTakeNothingGoAndNoMoreThanNeeded) {
  const std::vector<SendQueueState> queues = {{90, 999}, {60, 990}, {80, 990}, {30, 990}};
  EXPECT_EQ(SlowReaders(queues, 1000, kLimits), (Indexes{2, 1, 3})) << "the one that reads stays, however much waits for it";
  const std::vector<SendQueueState> fewer = {{20, 999}, {60, 990}, {80, 990}};
  EXPECT_EQ(SlowReaders(fewer, 1000, kLimits), Indexes{2});
}

TEST(SlowReadersTest, WhoReadsStaysUnderPressure) {
  const std::vector<SendQueueState> queues = {{500, 999}, {500, 998}};
  EXPECT_TRUE(SlowReaders(queues, 1000, kLimits).empty());
}

}  // namespace
}  // namespace cairn::net
