// Extents of chunks that are overwritten, kept beside the index: they must say what the index says, and stay bounded.
#include "chunkserver/store/hot_extents.h"

#include <random>

#include "tests/store/store_fixture.h"

namespace cairn::chunkserver {
namespace {

Extent ExtentOf(uint64_t block, uint64_t blocks) {
  Extent extent;
  extent.block = block;
  extent.bytes = static_cast<uint32_t>(blocks * kBlockBytes);
  extent.at = {1, static_cast<uint32_t>(block * kBlockBytes)};
  extent.checksums.assign(blocks, 7);
  return extent;
}

TEST(HotExtentsTest, FindsWhatTouchesARange) {
  HotExtents hot;
  hot.Insert(ChunkId(1), {ExtentOf(0, 10), ExtentOf(10, 5), ExtentOf(20, 1)});
  const HotExtents::Extents* extents = hot.Find(ChunkId(1));
  ASSERT_NE(extents, nullptr);
  EXPECT_EQ(ExtentsIn(*extents, 3, 4).size(), 1u);
  EXPECT_EQ(ExtentsIn(*extents, 9, 11).size(), 2u);
  EXPECT_EQ(ExtentsIn(*extents, 15, 20).size(), 0u);
  EXPECT_EQ(ExtentsIn(*extents, 20, 30).size(), 1u);
  EXPECT_EQ(ExtentsIn(*extents, 0, 100).size(), 3u);
}

TEST(HotExtentsTest, OneOverwriteIsNotWorthLoadingTheChunk) {
  HotExtents hot;
  EXPECT_FALSE(hot.WorthLoading(ChunkId(5)));
  EXPECT_TRUE(hot.WorthLoading(ChunkId(5)));
}

TEST(HotExtentsTest, StaysWithinItsBounds) {
  HotExtents hot;
  std::vector<Extent> many;
  for (uint64_t block = 0; block < HotExtents::kMaxExtentsOfOne; ++block) many.push_back(ExtentOf(block, 1));
  for (uint64_t chunk = 1; chunk <= 3; ++chunk) hot.Insert(ChunkId(chunk), many);
  EXPECT_LE(hot.extents(), HotExtents::kMaxExtents);
  EXPECT_EQ(hot.Find(ChunkId(1)), nullptr) << "the one that was not asked for longest goes";
  ASSERT_NE(hot.Find(ChunkId(3)), nullptr);
  hot.Put(ChunkId(3), ExtentOf(1 << 20, 1));
  hot.Trim(ChunkId(3));
  EXPECT_EQ(hot.Find(ChunkId(3)), nullptr) << "a chunk with too many extents is not kept";
  hot.Forget(ChunkId(2));
  EXPECT_EQ(hot.extents(), 0u);
}

class HotExtentsStoreTest : public StoreFixture {};

// Many overwrites of few chunks, so that all but the first are looked up there, with everything that changes extents in between.
TEST_F(HotExtentsStoreTest, OverwritesAgainAndAgainLeaveTheNewestBytes) {
  OpenStore();
  constexpr uint64_t kBytes = 2u << 20;
  std::mt19937_64 random(20'251);
  for (const ChunkId chunk : {ChunkId(7), ChunkId(8)}) {
    Bytes expected = Pattern(kBytes, chunk.value());
    ASSERT_TRUE(Write(chunk, 0, expected).ok());
    for (int i = 0; i < 400; ++i) {
      if (i == 100) ASSERT_TRUE(store_->AllocatedBytes(chunk).ok());  // counted once, followed from then on
      const uint64_t offset = random() % (expected.size() - 1);
      const uint64_t length = std::min<uint64_t>(1 + random() % 40'000, expected.size() - offset);
      const auto at = expected.begin() + static_cast<ptrdiff_t>(offset);
      if (i % 97 == 96) {
        ASSERT_TRUE(Truncate(chunk, std::max<uint64_t>(offset, 1 << 20)).ok());
        expected.resize(std::max<uint64_t>(offset, 1 << 20));
      } else if (i % 31 == 30) {
        ASSERT_TRUE(Zero(chunk, offset, length).ok());
        std::fill(at, at + static_cast<ptrdiff_t>(length), std::byte{0});
      } else {
        const Bytes patch = Pattern(length, static_cast<uint64_t>(i));
        ASSERT_TRUE(Write(chunk, offset, patch).ok());
        std::copy(patch.begin(), patch.end(), at);
      }
    }
    ASSERT_EQ(*ReadAll(chunk), expected);
    const uint64_t counted = *store_->AllocatedBytes(chunk);
    const uint64_t used = store_->Usage().used_bytes;
    EXPECT_LE(used, (chunk.value() - 6) * (kBytes + kBlockBytes)) << "what was replaced still counts as live";
    Reopen();
    EXPECT_EQ(*ReadAll(chunk), expected);
    EXPECT_EQ(*store_->AllocatedBytes(chunk), counted) << "what was kept up differs from what is there";
  }
}

}  // namespace
}  // namespace cairn::chunkserver
