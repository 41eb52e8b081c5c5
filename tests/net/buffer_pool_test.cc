#include "common/net/buffer_pool.h"

#include <gtest/gtest.h>

#include <cstring>
#include <optional>

namespace cairn::net {
namespace {

TEST(BufferPoolTest, BuffersComeBack) {
  BufferPool pool(1 << 20);
  const void* first = nullptr;
  {
    const PooledBuffer buffer = pool.Acquire(100'000);
    ASSERT_EQ(buffer.bytes.size(), 100'000u);
    std::memset(buffer.bytes.data(), 1, buffer.bytes.size());
    first = buffer.bytes.data();
    EXPECT_EQ(pool.idle_bytes(), 0u);
  }
  EXPECT_EQ(pool.idle_bytes(), 131072u);
  const PooledBuffer again = pool.Acquire(70'000);  // of the same size class
  EXPECT_EQ(again.bytes.data(), first);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(again.bytes.data()) % 4096, 0u);
}

TEST(BufferPoolTest, IdleMemoryIsBounded) {
  BufferPool pool(2 << 20);
  {
    std::vector<PooledBuffer> many;
    for (int i = 0; i < 10; ++i) many.push_back(pool.Acquire(1 << 20));
  }
  EXPECT_EQ(pool.idle_bytes(), 2u << 20);
}

TEST(BufferPoolTest, BuffersOutliveThePool) {
  std::optional<BufferPool> pool(1 << 20);
  PooledBuffer buffer = pool->Acquire(5000);
  SharedBytes shared = buffer.Share();
  buffer = {};
  pool.reset();
  EXPECT_EQ(shared.size(), 5000u);
  std::memset(const_cast<std::byte*>(shared.data()), 2, shared.size());
}

TEST(BufferPoolTest, OddSizesAreServed) {
  BufferPool pool(1 << 20);
  EXPECT_TRUE(pool.Acquire(0).bytes.empty());
  EXPECT_EQ(pool.Acquire(1).bytes.size(), 1u);
  EXPECT_EQ(pool.Acquire((9u << 20) + 1).bytes.size(), (9u << 20) + 1);
  EXPECT_LE(pool.idle_bytes(), 1u << 20);
}

}  // namespace
}  // namespace cairn::net
