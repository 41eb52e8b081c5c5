// Space: a full disk, the reserve, giving space back, and what a rebuild may never bring back.
#include <sys/mount.h>
#include <sys/stat.h>

#include <fstream>
#include <thread>

#include "chunkserver/store/read_pins.h"
#include "tests/store/store_fixture.h"

namespace cairn::chunkserver {
namespace {

namespace fs = std::filesystem;
using replication::ReplicaInfo;

class StoreSpaceTest : public StoreFixture {
 protected:
  uint64_t ReclaimAll() {
    uint64_t total = 0;
    for (int calls = 1;; ++calls) {
      EXPECT_LT(calls, 100) << "it comes to no end";
      if (calls >= 100) return total;
      const auto freed = store_->Reclaim();
      EXPECT_TRUE(freed.ok()) << freed.status().ToString();
      if (!freed.ok() || *freed == 0) return total;
      total += *freed;
    }
  }
  void RebuildIndex() {
    store_.reset();
    fs::remove_all(directory_ + "/index");
    OpenStore();
  }
  const ChunkId chunk_{42};
};

TEST_F(StoreSpaceTest, ErasedChunksGiveTheirSpaceBack) {
  OpenStore();
  for (uint64_t id = 1; id <= 20; ++id) ASSERT_TRUE(Write(ChunkId{id}, 0, Pattern(500'000, id)).ok());
  const uint64_t before = AllocatedBytes(directory_);
  EXPECT_GT(before, 10'000'000u);
  for (uint64_t id = 1; id <= 19; ++id) ASSERT_TRUE(Erase(ChunkId{id}).ok());
  EXPECT_GT(ReclaimAll(), 9'000'000u);
  EXPECT_LT(AllocatedBytes(directory_), 1'500'000u);
  EXPECT_EQ(*ReadAll(ChunkId{20}), Pattern(500'000, 20));
  EXPECT_EQ(store_->Usage().used_bytes, 500'000u);
}

TEST_F(StoreSpaceTest, DeadPartsOfLiveSegmentsArePunched) {
  base_options_.segment_bytes = 4 << 20;
  OpenStore();
  for (uint64_t id = 1; id <= 9; ++id) ASSERT_TRUE(Write(ChunkId{id}, 0, Pattern(1 << 20, id)).ok());
  const fs::path first = Segments(directory_).front();
  struct stat before {};
  ASSERT_EQ(stat(first.c_str(), &before), 0);
  ASSERT_TRUE(Erase(ChunkId{2}).ok());
  const auto freed = store_->Reclaim();
  ASSERT_TRUE(freed.ok());
  struct stat after {};
  ASSERT_EQ(stat(first.c_str(), &after), 0);
  EXPECT_EQ(after.st_size, before.st_size);
  EXPECT_LE(after.st_blocks * 512 + (1 << 20) - 8192, before.st_blocks * 512);
  EXPECT_EQ(*freed, static_cast<uint64_t>(before.st_blocks - after.st_blocks) * 512);
  for (const bool rebuilt : {false, true}) {
    for (uint64_t id = 1; id <= 9; ++id) {
      EXPECT_EQ(Known(ChunkId{id}), id != 2);
      if (id != 2) {
        EXPECT_TRUE(*ReadAll(ChunkId{id}) == Pattern(1 << 20, id));
      }
    }
    if (!rebuilt) RebuildIndex();
  }
}

TEST_F(StoreSpaceTest, WhatCouldNotBePunchedForLackOfSpaceIsPunchedLater) {
  base_options_.segment_bytes = 4 << 20;
  OpenStore();
  for (uint64_t id = 1; id <= 18; ++id) ASSERT_TRUE(Write(ChunkId{id}, 0, Pattern(512 << 10, id)).ok());
  ASSERT_TRUE(Erase(ChunkId{2}).ok());
  env_.free_bytes = 0;
  EXPECT_EQ(store_->Reclaim().code(), StatusCode::kNoSpace);
  env_.free_bytes = -1;
  EXPECT_GT(ReclaimAll(), (512u << 10) - 8192);
}

TEST_F(StoreSpaceTest, WithNothingToGiveBackTheSpareSpaceIsKept) {
  OpenStore();
  ASSERT_TRUE(Write(chunk_, 0, Pattern(1 << 20, 1)).ok());
  Reopen();
  struct stat spare {};
  ASSERT_EQ(stat((directory_ + "/SPARE").c_str(), &spare), 0);
  EXPECT_GT(spare.st_blocks, 0);
  env_.free_bytes = 1 << 20;  // somebody else is filling the disk
  EXPECT_EQ(*store_->Reclaim(), 0u);
  EXPECT_EQ(stat((directory_ + "/SPARE").c_str(), &spare), 0);
  env_.free_bytes = -1;
}

TEST_F(StoreSpaceTest, ARebuildAfterReclaimNeitherForgetsNorResurrects) {
  base_options_.segment_bytes = 128 * 1024;
  OpenStore();
  // Survivors in the oldest segments keep them alive, so that erased neighbours must stay erased by their
  // records.
  for (uint64_t id = 1; id <= 60; ++id) ASSERT_TRUE(Write(ChunkId{id}, 0, Pattern(20'000, id)).ok());
  for (uint64_t id = 1; id <= 60; ++id) {
    if (id % 5 == 0) {
      ASSERT_TRUE(Erase(ChunkId{id}).ok());
    }
    if (id % 5 == 1) {
      ASSERT_TRUE(Zero(ChunkId{id}, 4096, 8192).ok());
    }
    if (id % 5 == 2) {
      ASSERT_TRUE(Truncate(ChunkId{id}, 6000).ok());
    }
    ReplicaInfo info;
    if (id % 5 == 3) {
      ASSERT_TRUE(store_->Seal(ChunkId{id}, Stamp{epoch_, 1}, &info).ok());
    }
  }
  ASSERT_TRUE(store_->SetEpochFloor(Epoch{11}).ok());
  epoch_ = Epoch{12};
  // The records of those changes now lie in segments that become all dead and go away.
  for (int round = 0; round < 3; ++round) {
    for (uint64_t id = 100; id < 140; ++id) ASSERT_TRUE(Write(ChunkId{id}, 0, Pattern(20'000, id)).ok());
    for (uint64_t id = 100; id < 140; ++id) ASSERT_TRUE(Erase(ChunkId{id}).ok());
    ReclaimAll();
  }
  std::map<uint64_t, std::pair<ReplicaInfo, Bytes>> expected;
  ASSERT_TRUE(store_
                  ->ForEach([&](const ReplicaInfo& info) {
                    expected[info.chunk.value()].first = info;
                    return true;
                  })
                  .ok());
  ASSERT_EQ(expected.size(), 48u);
  for (auto& [id, chunk] : expected) chunk.second = *ReadAll(ChunkId{id});
  RebuildIndex();
  EXPECT_EQ(store_->Usage().chunks, expected.size());
  for (auto& [id, chunk] : expected) {
    ASSERT_TRUE(Known(ChunkId{id})) << id;
    chunk.first.durable = chunk.first.accepted;
    EXPECT_EQ(Info(ChunkId{id}), chunk.first) << id;
    const auto data = ReadAll(ChunkId{id});
    ASSERT_TRUE(data.ok()) << data.status().ToString();
    EXPECT_TRUE(*data == chunk.second) << id;
  }
  EXPECT_FALSE(Known(ChunkId{5}));
}

TEST_F(StoreSpaceTest, ReadersAreNotDisturbedByReclaim) {
  base_options_.segment_bytes = 256 * 1024;
  OpenStore();
  for (uint64_t id = 1; id <= 8; ++id) ASSERT_TRUE(Write(ChunkId{id}, 0, Pattern(100'000, id)).ok());
  std::atomic<bool> stop{false};
  std::atomic<int> errors{0};
  std::atomic<int> reads{0};
  std::thread reader([&] {
    while (!stop) {
      for (uint64_t id = 1; id <= 8; ++id) {
        const auto data = ReadAll(ChunkId{id});
        if (!data.ok() || *data != Pattern(100'000, id)) ++errors;
        ++reads;
      }
    }
  });
  for (int round = 0; round < 15; ++round) {
    // Same bytes again: the old places die while the reader reads.
    for (uint64_t id = 100; id < 104; ++id) ASSERT_TRUE(Write(ChunkId{id}, 0, Pattern(100'000, id)).ok());
    for (uint64_t id = 100; id < 104; ++id) ASSERT_TRUE(Erase(ChunkId{id}).ok());
    EXPECT_TRUE(store_->Reclaim().ok());
  }
  while (reads < 50) std::this_thread::yield();
  stop = true;
  reader.join();
  EXPECT_EQ(errors, 0);
}

TEST_F(StoreSpaceTest, LossOfPowerAfterReclaimLosesNothingThatWasFlushed) {
  base_options_.segment_bytes = 256 * 1024;
  OpenStore();
  for (uint64_t id = 1; id <= 40; ++id) ASSERT_TRUE(Write(ChunkId{id}, 0, Pattern(20'000, id)).ok());
  Reopen();
  for (uint64_t id = 1; id <= 40; ++id) {
    if (id % 4 != 0) {
      ASSERT_TRUE(Erase(ChunkId{id}).ok());
    }
  }
  ASSERT_TRUE(store_->Flush().ok());
  EXPECT_GT(*store_->Reclaim(), 400'000u);
  const fs::path last = Segments(directory_).back();
  const uint64_t synced = env_.SyncedSize(last);
  ContinueWith(CopyDirectory());
  fs::resize_file(directory_ + "/segments/" + last.filename().string(), synced);
  env_.boot.low++;
  OpenStore();
  for (uint64_t id = 4; id <= 40; id += 4) {
    const auto data = ReadAll(ChunkId{id});
    ASSERT_TRUE(data.ok()) << data.status().ToString();
    EXPECT_TRUE(*data == Pattern(20'000, id));
  }
  EXPECT_EQ(store_->Usage().chunks, 10u);
}

TEST(ReadPinsTest, WaitingEndsWhenTheEarlierReadersAreDone) {
  ReadPins pins;
  auto earlier = std::make_unique<ReadPins::Pin>(&pins);
  std::atomic<bool> released{false};
  std::atomic<bool> waiting{false};
  std::thread waiter([&] {
    waiting = true;
    pins.WaitForEarlier();
    EXPECT_TRUE(released);
  });
  while (!waiting) std::this_thread::yield();
  released = true;
  earlier.reset();
  waiter.join();
}

TEST_F(StoreSpaceTest, DamageTravelsWithTheDataWhenASegmentIsEmptied) {
  base_options_.segment_bytes = 256 * 1024;
  OpenStore();
  for (uint64_t id = 1; id <= 6; ++id) ASSERT_TRUE(Write(ChunkId{id}, 0, Pattern(60'000, id)).ok());
  const fs::path first = Segments(directory_).front();
  FlipByte(first, Find(first, Pattern(60'000, 1)) + 30'000);
  for (uint64_t id = 2; id <= 6; ++id) ASSERT_TRUE(Erase(ChunkId{id}).ok());
  ReclaimAll();
  EXPECT_FALSE(fs::exists(first));
  EXPECT_TRUE(Info(ChunkId{1}).corrupt);
  EXPECT_EQ(ReadAll(ChunkId{1}).code(), StatusCode::kCorrupt);
}

TEST_F(StoreSpaceTest, TheReserveRefusesWritesButNotDeletes) {
  base_options_.reserve_bytes = 10 << 20;
  OpenStore();
  ASSERT_TRUE(Write(chunk_, 0, Pattern(50'000, 1)).ok());
  store_.reset();
  env_.free_bytes = (10 << 20) + 100'000;
  OpenStore();
  ASSERT_TRUE(Write(ChunkId{1}, 0, Pattern(50'000, 2)).ok());
  env_.free_bytes = (10 << 20) + 1000;
  store_.reset();
  OpenStore();
  const Status refused = Write(ChunkId{2}, 0, Pattern(50'000, 2));
  EXPECT_EQ(refused.code(), StatusCode::kNoSpace);
  EXPECT_NE(refused.message().find(directory_), std::string::npos);
  EXPECT_FALSE(Known(ChunkId{2}));
  EXPECT_EQ(store_->SyncStart(ChunkId{3}, epoch_, Stamp{epoch_, 1}, 10 << 20).code(), StatusCode::kNoSpace);
  ReplicaInfo info;
  EXPECT_TRUE(store_->Seal(chunk_, Stamp{epoch_, 1}, &info).ok());
  EXPECT_TRUE(store_->PrepareDelete(chunk_, Epoch{20}, &info).ok());
  EXPECT_TRUE(Erase(chunk_).ok());
  EXPECT_TRUE(store_->Flush().ok());
  env_.free_bytes = -1;
}

TEST_F(StoreSpaceTest, AFullDiskGivesTheSpaceOfDeletesBackWithoutFurtherWrites) {
  base_options_.reserve_bytes = 10 << 20;
  base_options_.segment_bytes = 64 << 20;  // everything is in the active one
  OpenStore();
  for (uint64_t id = 1; id <= 8; ++id) ASSERT_TRUE(Write(ChunkId{id}, 0, Pattern(1 << 20, id)).ok());
  for (uint64_t id = 1; id <= 2; ++id) ASSERT_TRUE(Erase(ChunkId{id}).ok());
  EXPECT_EQ(ReclaimAll(), 0u) << "with room left a quarter is not worth a segment";
  env_.free_bytes = (10 << 20) + 1000;
  EXPECT_GT(ReclaimAll(), (2u << 20) - 16384);
  env_.free_bytes = -1;
  for (uint64_t id = 3; id <= 8; ++id) EXPECT_TRUE(*ReadAll(ChunkId{id}) == Pattern(1 << 20, id));
}

TEST_F(StoreSpaceTest, ANoSpaceErrorInTheMiddleOfAnAppendLeavesNothingBehind) {
  OpenStore();
  ASSERT_TRUE(Write(chunk_, 0, Pattern(50'000, 1)).ok());
  const Stamp before = Info(chunk_).accepted;
  env_.write_limit = 20'000;
  EXPECT_EQ(Write(chunk_, 10'000, Pattern(50'000, 2)).code(), StatusCode::kNoSpace);
  EXPECT_FALSE(store_->failed());
  EXPECT_EQ(Info(chunk_).accepted, before);
  env_.write_limit = -1;
  ASSERT_TRUE(Write(ChunkId{7}, 0, Pattern(30'000, 3)).ok());
  ContinueWith(CopyDirectory());
  OpenStore();
  EXPECT_FALSE(store_->amnesic());
  EXPECT_EQ(*ReadAll(chunk_), Pattern(50'000, 1));
  EXPECT_EQ(*ReadAll(ChunkId{7}), Pattern(30'000, 3));
}

// A file system of 64 MiB.
class StoreSmallDiskTest : public StoreSpaceTest {
 protected:
  void SetUp() override {
    fs::create_directory(small_);
    mounted_ = mount("none", small_.c_str(), "tmpfs", 0, "size=64m") == 0;
    if (!mounted_) GTEST_SKIP() << "no permission to mount a tmpfs";
    directory_ = small_ + "/disk";
  }
  void TearDown() override {
    store_.reset();
    if (mounted_) umount2(small_.c_str(), MNT_DETACH);
  }
  // Somebody else takes all that is free.
  void FillByOthers() {
    std::ofstream filler(small_ + "/filler", std::ios::binary | std::ios::app);
    const std::string block(4096, 'x');
    while (filler.write(block.data(), static_cast<std::streamsize>(block.size())).flush()) {
    }
  }
  void OthersGoAway() { fs::remove(small_ + "/filler"); }
  bool HoldsSpare() const {
    struct stat stat {};
    return ::stat((directory_ + "/SPARE").c_str(), &stat) == 0 && stat.st_blocks > 0;
  }

  const std::string small_ = root_ + "/small";
  bool mounted_ = false;
};

TEST_F(StoreSmallDiskTest, ADiskThatOthersFilledToTheLastBlockOpensDeletesAndGivesBack) {
  base_options_.segment_bytes = 4 << 20;
  OpenStore();
  EXPECT_TRUE(HoldsSpare());
  for (uint64_t id = 1; id <= 30; ++id) ASSERT_TRUE(Write(ChunkId{id}, 0, Pattern(1 << 20, id)).ok());
  ASSERT_TRUE(store_->Flush().ok());
  FillByOthers();
  for (uint64_t id = 1; id <= 10; ++id) ASSERT_TRUE(Erase(ChunkId{id}).ok()) << id;
  EXPECT_GT(ReclaimAll(), 8u << 20);
  FillByOthers();
  Reopen();  // with nothing free
  ASSERT_TRUE(store_ != nullptr);
  EXPECT_EQ(Write(ChunkId{100}, 0, Pattern(1 << 20, 1)).code(), StatusCode::kNoSpace);
  for (uint64_t id = 11; id <= 30; ++id) EXPECT_TRUE(*ReadAll(ChunkId{id}) == Pattern(1 << 20, id)) << id;
  EXPECT_FALSE(store_->failed());
  OthersGoAway();
  EXPECT_EQ(ReclaimAll(), 0u);
  EXPECT_TRUE(HoldsSpare()) << "there is room for it again";
  EXPECT_TRUE(Write(ChunkId{100}, 0, Pattern(1 << 20, 1)).ok());
}

TEST_F(StoreSmallDiskTest, MovingLeavesTheRoomThatGivingBackTakes) {
  base_options_.segment_bytes = 1 << 20;
  OpenStore();
  // Small chunks: nothing between them can be punched, so space comes back by moving only.
  uint64_t written = 0;
  while (Write(ChunkId{written + 1}, 0, Pattern(4096, written)).ok()) ++written;
  EXPECT_GT(written, 8000u);
  ASSERT_TRUE(store_->Flush().ok());
  FillByOthers();
  fs::resize_file(small_ + "/filler", fs::file_size(small_ + "/filler") - (2 << 20));
  const uint64_t before = AllocatedBytes(directory_);
  uint64_t live = 0;
  int refused = 0;
  for (uint64_t id = 1; id <= written; ++id) {
    if (id % 3 == 0) {
      ++live;
      continue;
    }
    Status erased = Erase(ChunkId{id});
    if (erased.code() == StatusCode::kNoSpace) {  // what the master does: once more, a moment later
      ++refused;
      (void)store_->Reclaim();
      erased = Erase(ChunkId{id});
    }
    ASSERT_TRUE(erased.ok()) << id << ": " << erased.ToString();
  }
  EXPECT_LT(refused, 20);
  (void)store_->Reclaim();  // may have no room for moving yet, but makes some
  ReclaimAll();
  EXPECT_LT(AllocatedBytes(directory_), before * 2 / 3);
  EXPECT_EQ(store_->Usage().chunks, live);
  for (uint64_t id = 3; id <= written; id += 99) EXPECT_TRUE(*ReadAll(ChunkId{id}) == Pattern(4096, id - 1)) << id;
  EXPECT_FALSE(store_->failed());
}

TEST_F(StoreSmallDiskTest, ARealFullDiskIsSurvived) {
  OpenStore();
  uint64_t written = 0;
  Status status;
  while ((status = Write(ChunkId{written + 1}, 0, Pattern(1 << 20, written))).ok()) ++written;
  EXPECT_EQ(status.code(), StatusCode::kNoSpace);
  EXPECT_GT(written, 30u);
  // Somebody else takes the rest, the reserve too.
  FillByOthers();
  EXPECT_EQ(Write(ChunkId{500}, 0, Pattern(1 << 20, 1)).code(), StatusCode::kNoSpace);
  EXPECT_FALSE(store_->failed());
  for (uint64_t i = 0; i < written; i += 7) EXPECT_TRUE(*ReadAll(ChunkId{i + 1}) == Pattern(1 << 20, i));
  OthersGoAway();
  for (uint64_t i = 0; i < written; ++i) ASSERT_TRUE(Erase(ChunkId{i + 1}).ok());
  EXPECT_GT(ReclaimAll(), (written - 2) << 20);
  EXPECT_TRUE(Write(ChunkId{600}, 0, Pattern(1 << 20, 6)).ok());
}

}  // namespace
}  // namespace cairn::chunkserver
