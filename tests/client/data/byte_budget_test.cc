#include "client/data/byte_budget.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "client/client.h"

namespace cairn::client {
namespace {

TEST(ByteBudget, AWriterBeyondTheBoundWaitsUntilOthersDrained) {
  ByteBudget budget(100);
  ASSERT_TRUE(budget.Acquire(80, 1000).ok());
  std::atomic<bool> acquired{false};
  std::thread writer([&] {
    EXPECT_TRUE(budget.Acquire(30, 60'000).ok());
    acquired = true;
  });
  EXPECT_FALSE(budget.TryAcquire(30));
  EXPECT_FALSE(acquired);
  budget.Release(80);
  writer.join();
  EXPECT_EQ(budget.used_bytes(), 30u);
}

TEST(ByteBudget, ARequestLargerThanTheBoundPassesAlone) {
  ByteBudget budget(100);
  EXPECT_TRUE(budget.Acquire(500, 1000).ok());
  EXPECT_EQ(budget.Acquire(1, 1).code(), StatusCode::kTimeout);
  budget.Release(500);
  EXPECT_TRUE(budget.Acquire(1, 1).ok());
}

TEST(ByteBudget, AnInterruptEndsTheWait) {
  ByteBudget budget(100);
  ASSERT_TRUE(budget.Acquire(100, 1000).ok());
  InterruptScope scope([] { return true; });
  EXPECT_EQ(budget.Acquire(1, 600'000).code(), StatusCode::kInterrupted);
}

}  // namespace
}  // namespace cairn::client
