// Reading from memory, from disk past the page cache, and around holes.
#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <optional>
#include <thread>

#include "chunkserver/store/read_history.h"
#include "chunkserver/store/view_cache.h"
#include "tests/store/store_fixture.h"

namespace cairn::chunkserver {
namespace {

class StoreReadTest : public StoreFixture {
 protected:
  const ChunkId chunk_{42};

  StoreReadTest() { base_options_.segment_bytes = 8 << 20; }

  wire::ReadRequest Request(uint64_t offset, uint32_t length) {
    return {chunk_, Info(chunk_).accepted, true, offset, length};
  }
  // The page cache forgets what is on disk.
  void DropCaches() {
    ASSERT_TRUE(store_->Flush().ok());
    for (const auto& segment : Segments(directory_)) {
      const int fd = open(segment.c_str(), O_RDONLY);
      ASSERT_GE(fd, 0);
      EXPECT_EQ(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
      close(fd);
    }
  }
  // Whether the file system can say that something is in the page cache (tmpfs of older kernels cannot).
  bool CacheCanBeAsked() {
    const std::string segment = Segments(directory_).front();
    const int fd = open(segment.c_str(), O_RDONLY);
    char byte = 0;
    iovec part{&byte, 1};
    const bool refused = preadv2(fd, &part, 1, 0, RWF_NOWAIT) < 0 && errno == EOPNOTSUPP;
    close(fd);
    return !refused;
  }
  // The answer if it needs no disk.
  std::optional<Result<ReadData>> TryRead(const wire::ReadRequest& request) {
    StartedRead started = store_->StartRead(request);
    if (auto* done = std::get_if<Result<ReadData>>(&started)) return std::move(*done);
    return std::nullopt;
  }
  static bool Holds(const ReadData& read, const Bytes& expected) {
    return std::ranges::equal(read.data.bytes, expected);
  }
};

TEST_F(StoreReadTest, WhatIsInMemoryIsReadWithoutWaiting) {
  OpenStore();
  const Bytes data = Pattern(9000, 1);
  ASSERT_TRUE(Write(chunk_, 0, data).ok());
  if (!CacheCanBeAsked())
    GTEST_SKIP() << "the file system of " << directory_ << " does not tell what is in memory";
  const auto read = TryRead(Request(0, 9000));
  ASSERT_TRUE(read.has_value());
  ASSERT_TRUE(read->ok()) << read->status().ToString();
  EXPECT_TRUE(Holds(**read, data));
  EXPECT_EQ((*read)->checksums.size(), 3u);
}

TEST_F(StoreReadTest, RefusalsNeedNoDiskEither) {
  OpenStore();
  ASSERT_TRUE(Write(chunk_, 0, Pattern(100, 1)).ok());
  const auto unknown = TryRead({ChunkId{7}, Stamp{}, false, 0, 100});
  ASSERT_TRUE(unknown.has_value());
  EXPECT_EQ(unknown->code(), StatusCode::kUnknownChunk);
  const auto stale = TryRead({chunk_, Stamp{Epoch{99}, 1}, true, 0, 100});
  ASSERT_TRUE(stale.has_value());
  EXPECT_FALSE(stale->ok());
}

TEST_F(StoreReadTest, WhatIsReadAgainAndAgainIsKeptInMemory) {
  OpenStore();
  const Bytes data = Pattern(1 << 20, 1);
  ASSERT_TRUE(Write(chunk_, 0, data).ok());
  if (!CacheCanBeAsked())
    GTEST_SKIP() << "the file system of " << directory_ << " does not tell what is in memory";
  DropCaches();
  for (int i = 0; i < 3; ++i) {
    EXPECT_FALSE(TryRead(Request(0, 1 << 20)).has_value()) << i;
    const auto read = store_->Read(Request(0, 1 << 20), false);
    ASSERT_TRUE(read.ok()) << read.status().ToString();
    EXPECT_TRUE(Holds(*read, data));
  }
  const auto read = TryRead(Request(0, 1 << 20));
  ASSERT_TRUE(read.has_value()) << "the third read from disk fills the page cache";
  ASSERT_TRUE(read->ok());
  EXPECT_TRUE(Holds(**read, data));
}

TEST_F(StoreReadTest, WhatIsLeftOfAReadSurvivesTheChunk) {
  base_options_.segment_bytes = 128 * 1024;
  OpenStore();
  const Bytes data = Pattern(100'000, 1);
  ASSERT_TRUE(Write(chunk_, 0, data).ok());
  ASSERT_TRUE(Write(ChunkId{99}, 0, Pattern(100'000, 99)).ok());
  DropCaches();
  StartedRead started = store_->StartRead(Request(0, 100'000));
  ASSERT_EQ(started.index(), 1u) << "the page cache was dropped";
  ASSERT_TRUE(Erase(chunk_).ok());
  const auto segment = Segments(directory_).front();
  const uint64_t syncs = env_.syncs;
  // Reclaim waits for the read before it gives the bytes back.
  std::thread reclaim([&] { EXPECT_TRUE(store_->Reclaim().ok()); });
  while (env_.syncs == syncs) std::this_thread::yield();
  for (int i = 0; i < 20'000 && std::filesystem::exists(segment); ++i) std::this_thread::yield();
  const auto read = std::get<1>(started)();
  started = Result<ReadData>(Status(StatusCode::kCancelled, "done"));
  reclaim.join();
  ASSERT_TRUE(read.ok()) << read.status().ToString();
  EXPECT_TRUE(Holds(*read, data));
  EXPECT_FALSE(std::filesystem::exists(segment));
}

// Chunks that are sealed and read often are answered from a copy of their part of the index.
TEST_F(StoreReadTest, EveryChangeOfAChunkIsSeenByTheNextRead) {
  base_options_.segment_bytes = 256 * 1024;
  OpenStore();
  const auto read_often = [&](const Bytes& expected) {
    for (int i = 0; i < 4; ++i) {
      const auto data = ReadAll(chunk_, true, 8192);
      ASSERT_TRUE(data.ok()) << data.status().ToString();
      ASSERT_TRUE(*data == expected) << i;
    }
  };
  const auto seal = [&] {
    ASSERT_TRUE(store_->Seal(chunk_, Info(chunk_).accepted, nullptr).ok());
    epoch_ = Epoch{epoch_.value() + 1};
  };
  Bytes expected = Pattern(100'000, 1);
  ASSERT_TRUE(Write(chunk_, 0, expected).ok());
  seal();
  read_often(expected);
  const Bytes patch = Pattern(5000, 2);
  ASSERT_TRUE(Write(chunk_, 50'000, patch).ok());
  std::copy(patch.begin(), patch.end(), expected.begin() + 50'000);
  read_often(expected);
  seal();
  read_often(expected);
  ASSERT_TRUE(Truncate(chunk_, 60'000).ok());
  expected.resize(60'000);
  seal();
  read_often(expected);
  // Moved by compaction, when most of its segment is dead.
  for (uint64_t id = 100; id < 103; ++id) ASSERT_TRUE(Write(ChunkId{id}, 0, Pattern(60'000, id)).ok());
  for (uint64_t id = 100; id < 103; ++id) ASSERT_TRUE(Erase(ChunkId{id}).ok());
  for (uint64_t id = 200; id < 206; ++id) ASSERT_TRUE(Write(ChunkId{id}, 0, Pattern(60'000, id)).ok());
  ASSERT_TRUE(store_->Reclaim().ok());
  read_often(expected);
  ASSERT_TRUE(Erase(chunk_).ok());
  EXPECT_EQ(TryRead({chunk_, Stamp{}, false, 0, 100})->code(), StatusCode::kUnknownChunk);
}

TEST_F(StoreReadTest, PiecesHolesAndEndsFitTogetherWhicheverWayTheyAreRead) {
  OpenStore();
  // Large extents, small ones over their edges, holes, and an end inside a block.
  Bytes expected(700'000);
  const auto put = [&](uint64_t offset, size_t size, uint64_t seed) {
    const Bytes part = Pattern(size, seed);
    ASSERT_TRUE(Write(chunk_, offset, part).ok());
    std::copy(part.begin(), part.end(), expected.begin() + static_cast<ptrdiff_t>(offset));
  };
  put(8192, 100'000, 1);  // ends inside a block, a hole follows
  put(131'072, 262'144, 2);
  put(393'216, 131'072, 3);  // continues it
  put(200'000, 5000, 4);
  put(390'000, 10'000, 5);
  put(600'000, 100'000, 6);
  for (const uint32_t step : {4096u, 65'536u, 262'144u, 1u << 20}) {
    for (int round = 0; round < 4; ++round) {
      DropCaches();
      const auto data = ReadAll(chunk_, round == 3, step);
      ASSERT_TRUE(data.ok()) << data.status().ToString();
      EXPECT_TRUE(*data == expected) << step << " " << round;
    }
  }
  Reopen();
  EXPECT_TRUE(*ReadAll(chunk_) == expected);
}

// Buffers are used again: what another read left in one must not show in a hole.
TEST_F(StoreReadTest, HolesAreZerosInUsedBuffers) {
  OpenStore();
  const ChunkId other{43};
  ASSERT_TRUE(Write(other, 0, Pattern(300'000, 1)).ok());
  ASSERT_TRUE(Write(chunk_, 270'000, Pattern(10, 2)).ok());
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(ReadAll(other).ok());
    const auto data = ReadAll(chunk_);
    ASSERT_TRUE(data.ok()) << data.status().ToString();
    EXPECT_TRUE(
        std::all_of(data->begin(), data->begin() + 270'000, [](std::byte b) { return b == std::byte{0}; }));
  }
}

TEST(ViewCacheTest, WhatWasReadBeforeAChangeIsNotKept) {
  ViewCache cache;
  const auto view = std::make_shared<const ViewCache::View>();
  const uint64_t before = cache.generation();
  cache.Forget(ChunkId{1});
  cache.Insert(ChunkId{1}, view, before);
  EXPECT_EQ(cache.Find(ChunkId{1}), nullptr);
  cache.Insert(ChunkId{1}, view, cache.generation());
  EXPECT_EQ(cache.Find(ChunkId{1}), view);
  cache.Forget(ChunkId{1});
  EXPECT_EQ(cache.Find(ChunkId{1}), nullptr);
}

TEST(ViewCacheTest, HoldsABoundedNumberOfExtents) {
  ViewCache cache;
  for (uint64_t id = 1; id <= 10; ++id) {
    auto view = std::make_shared<ViewCache::View>();
    view->extents.resize(ViewCache::kMaxExtentsOfOne);
    cache.Insert(ChunkId{id}, view, cache.generation());
  }
  for (uint64_t id = 1; id <= 10; ++id) EXPECT_EQ(cache.Find(ChunkId{id}) != nullptr, id > 6) << id;
  auto large = std::make_shared<ViewCache::View>();
  large->extents.resize(ViewCache::kMaxExtentsOfOne + 1);
  cache.Insert(ChunkId{99}, large, cache.generation());
  EXPECT_EQ(cache.Find(ChunkId{99}), nullptr);
}

TEST(ReadHistoryTest, ReadsOfARegionAreCounted) {
  ReadHistory history(1 << 20);
  EXPECT_EQ(history.Note({1, 5 << 20}), 0u);
  EXPECT_EQ(history.Count({1, (5 << 20) + 4096}), 1u);
  EXPECT_EQ(history.Count({1, 6 << 20}), 0u);
  EXPECT_EQ(history.Count({2, 5 << 20}), 0u);
  EXPECT_EQ(history.Note({1, (5 << 20) + 8192}), 1u);
  for (int i = 0; i < 5; ++i) history.Note({1, 5 << 20});
  EXPECT_EQ(history.Count({1, 5 << 20}), ReadHistory::kMaxCount);
  EXPECT_EQ(history.RegionOf({1, (5 << 20) + 8192}), (LogPosition{1, 5 << 20}));
}

}  // namespace
}  // namespace cairn::chunkserver
