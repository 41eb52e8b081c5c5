// The test double itself: what tests rely on.
#include "tests/chunkserver/memory_store.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/chunkserver/data_node.h"

namespace cairn::chunkserver {
namespace {

TEST(MemoryStoreTest, ADamagedBlockIsFoundByVerifyingAndReplacedByASync) {
  MemoryStore store;
  replication::ReplicaInfo info;
  const auto data = Pattern(70'000, 1);
  ASSERT_TRUE(store.Mutate(WriteRequest(ChunkId{1}, {Epoch{5}, 1}, Stamp{}, 0, data), data, &info).ok());
  const wire::ReadRequest read{ChunkId{1}, {Epoch{5}, 1}, true, 0, 70'000};
  ASSERT_TRUE(store.Read(read, true).ok());
  store.DamageBlock(ChunkId{1}, 2);
  EXPECT_EQ(store.Read(read, true).code(), StatusCode::kCorrupt);
  EXPECT_TRUE(store.Read(read, false).ok());

  ASSERT_TRUE(store.SyncStart(ChunkId{1}, Epoch{9}, {Epoch{5}, 1}, 70'000).ok());
  const std::vector<std::byte> block(data.begin() + 8192, data.begin() + 12288);
  const auto checksums = WriteRequest(ChunkId{1}, {}, {}, 8192, block).checksums;
  ASSERT_TRUE(store.SyncWrite(ChunkId{1}, 8192, block, checksums).ok());
  ASSERT_TRUE(store.SyncFinish(ChunkId{1}, {Epoch{5}, 1}, &info).ok());
  const auto after = store.Read(read, true);
  ASSERT_TRUE(after.ok()) << after.status().ToString();
  EXPECT_TRUE(std::ranges::equal(after->data.bytes, data));
}

TEST(MemoryStoreTest, ASyncCutsAndGrows) {
  MemoryStore store;
  replication::ReplicaInfo info;
  const auto data = Pattern(10'000, 1);
  ASSERT_TRUE(store.Mutate(WriteRequest(ChunkId{1}, {Epoch{5}, 1}, Stamp{}, 0, data), data, &info).ok());
  ASSERT_TRUE(store.SyncStart(ChunkId{1}, Epoch{9}, {Epoch{6}, 9}, 5000).ok());
  ASSERT_TRUE(store.SyncFinish(ChunkId{1}, {Epoch{6}, 9}, &info).ok());
  EXPECT_EQ(info.length, 5000u);
  ASSERT_TRUE(store.SyncStart(ChunkId{1}, Epoch{9}, {Epoch{7}, 1}, 9000).ok());
  ASSERT_TRUE(store.SyncFinish(ChunkId{1}, {Epoch{7}, 1}, &info).ok());
  const auto read = store.Read({ChunkId{1}, {Epoch{7}, 1}, true, 0, 9000}, true);
  ASSERT_TRUE(read.ok()) << read.status().ToString();
  ASSERT_EQ(read->data.size(), 9000u);
  EXPECT_TRUE(std::equal(data.begin(), data.begin() + 5000, read->data.bytes.begin()));
  for (size_t i = 5000; i < 9000; ++i) ASSERT_EQ(read->data.bytes[i], std::byte{0}) << i;
}

}  // namespace
}  // namespace cairn::chunkserver
