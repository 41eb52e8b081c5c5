// A disk is emptied to the other disks of its server while its replicas are used.
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "chunkserver/disk_drainer.h"
#include "tests/chunkserver/data_node.h"

namespace cairn::chunkserver {
namespace {

using replication::ReplicaInfo;

constexpr Epoch kEpoch{5};
constexpr ChunkId kChunk{7};

class DiskDrainTest : public testing::Test {
 protected:
  Status Write(ChunkId chunk, uint64_t seq = 1, size_t bytes = 3 << 20, uint64_t offset = 0) {
    const auto data = Pattern(bytes, chunk.value() + seq);
    ReplicaInfo info;
    return disks_->Mutate(
        WriteRequest(chunk, {kEpoch, seq}, seq == 1 ? std::optional(Stamp{}) : std::nullopt, offset, data), data, &info);
  }
  size_t DiskOf(ChunkId chunk) {
    ReplicaInfo info;
    size_t found = SIZE_MAX;
    for (size_t i = 0; i < stores_.size(); ++i) {
      if (!stores_[i]->Query(chunk, &info).ok()) continue;
      EXPECT_EQ(found, SIZE_MAX) << "on one disk only";
      found = i;
    }
    return found;
  }
  void Drain(size_t disk) { disks_->SetDraining({stores_[disk]->identity().disk}); }
  // The disk that the chunk is on is drained.
  size_t DrainUnder(ChunkId chunk) {
    const size_t disk = DiskOf(chunk);
    Drain(disk);
    return disk;
  }
  ReplicaInfo InfoOf(ChunkId chunk) {
    ReplicaInfo info;
    EXPECT_TRUE(disks_->Query(chunk, &info).ok());
    return info;
  }
  std::vector<std::byte> Bytes(ChunkId chunk) {
    const ReplicaInfo info = InfoOf(chunk);
    std::vector<std::byte> bytes;
    while (bytes.size() < info.length) {
      const auto length = static_cast<uint32_t>(std::min<uint64_t>(1 << 20, info.length - bytes.size()));
      const auto read = disks_->Read({chunk, info.accepted, true, bytes.size(), length}, true);
      EXPECT_TRUE(read.ok()) << read.status().ToString();
      if (!read.ok()) break;
      bytes.insert(bytes.end(), read->data.bytes.begin(), read->data.bytes.begin() + length);
    }
    return bytes;
  }
  Status Relocate(ChunkId chunk) { return disks_->Relocate(chunk, DiskOf(chunk), &limiter_); }

  std::vector<MemoryStore*> stores_;
  std::unique_ptr<DiskSet> disks_ = MemoryDisks(3, &stores_);
  RateLimiter limiter_{0, SystemClock::Get()};
  ReplicaInfo info_;
};

TEST_F(DiskDrainTest, AReplicaMovesWithItsBytesAndItsState) {
  ASSERT_TRUE(Write(kChunk).ok());
  ASSERT_TRUE(Write(kChunk, 2, 5000, 6 << 20).ok());  // behind a hole
  ASSERT_TRUE(disks_->Seal(kChunk, {kEpoch, 2}, &info_).ok());
  const auto bytes = Bytes(kChunk);
  const ReplicaInfo before = InfoOf(kChunk);
  const size_t from = DrainUnder(kChunk);
  ASSERT_TRUE(Relocate(kChunk).ok());
  EXPECT_NE(DiskOf(kChunk), from);
  const ReplicaInfo after = InfoOf(kChunk);
  EXPECT_EQ(after.promised, before.promised);
  EXPECT_EQ(after.accepted, before.accepted);
  EXPECT_EQ(after.sealed, before.sealed);
  EXPECT_EQ(after.length, before.length);
  EXPECT_EQ(after.durable, before.accepted) << "it is on disk before the old one goes";
  EXPECT_TRUE(Bytes(kChunk) == bytes);
  EXPECT_EQ(Write(kChunk, 3).code(), StatusCode::kFenced) << "sealed stays sealed";
}

TEST_F(DiskDrainTest, APromiseMovesToo) {
  ASSERT_TRUE(Write(kChunk).ok());
  ASSERT_TRUE(disks_->Fence(kChunk, Epoch{9}, &info_).ok());
  ASSERT_TRUE(disks_->Fence(ChunkId{8}, Epoch{9}, &info_).ok());  // of a chunk that is not here
  for (const ChunkId chunk : {kChunk, ChunkId{8}}) {
    DrainUnder(chunk);
    ASSERT_TRUE(Relocate(chunk).ok());
    EXPECT_EQ(InfoOf(chunk).promised, Epoch{9});
    EXPECT_EQ(disks_->Fence(chunk, Epoch{8}, &info_).code(), StatusCode::kFenced);
  }
  EXPECT_EQ(Write(kChunk, 2).code(), StatusCode::kFenced) << "the writer that was fenced stays out";
}

// Whatever happens while the bytes are copied counts: the copy is thrown away.
TEST_F(DiskDrainTest, NothingThatIsAppliedDuringTheCopyIsLost) {
  const std::vector<std::pair<std::string, std::function<void()>>> events = {
      {"a write", [&] { ASSERT_TRUE(Write(kChunk, 2, 100).ok()); }},
      {"a fence", [&] { ASSERT_TRUE(disks_->Fence(kChunk, Epoch{9}, &info_).ok()); }},
      {"a seal", [&] { ASSERT_TRUE(disks_->Seal(kChunk, {kEpoch, 1}, &info_).ok()); }},
      {"a tombstone", [&] { ASSERT_TRUE(disks_->PrepareDelete(kChunk, Epoch{9}, &info_).ok()); }},
      {"a sync", [&] { ASSERT_TRUE(disks_->SyncStart(kChunk, Epoch{9}, {kEpoch, 4}, 100).ok()); }}};
  for (const auto& [name, event] : events) {
    stores_.clear();
    disks_ = MemoryDisks(3, &stores_);
    ASSERT_TRUE(Write(kChunk).ok());
    const size_t from = DrainUnder(kChunk);
    int reads = 0;
    ReplicaInfo expected;
    stores_[from]->on_read = [&] {
      if (++reads != 2) return;
      event();
      ASSERT_TRUE(stores_[from]->Query(kChunk, &expected).ok());
    };
    EXPECT_EQ(Relocate(kChunk).code(), StatusCode::kBusy) << name;
    stores_[from]->on_read = nullptr;
    EXPECT_EQ(DiskOf(kChunk), from) << name;
    EXPECT_EQ(InfoOf(kChunk), expected) << name;
  }
}

// The old disk takes no more changes, and the master wants the chunk to be synced anew: the copy must not mix with that or take its place.
TEST_F(DiskDrainTest, ACopyFromADiskThatFailedDoesNotReplaceTheNewerReplica) {
  ASSERT_TRUE(Write(kChunk).ok());
  const size_t from = DrainUnder(kChunk);
  int reads = 0;
  Status early;
  stores_[from]->on_read = [&] {
    if (++reads != 3) return;
    stores_[from]->Fail("the disk broke");
    early = disks_->SyncStart(kChunk, Epoch{9}, {Epoch{8}, 1}, 0);
  };
  EXPECT_EQ(Relocate(kChunk).code(), StatusCode::kIoError);
  EXPECT_EQ(early.code(), StatusCode::kBusy);
  EXPECT_GE(reads, 3);
  for (size_t i = 0; i < stores_.size(); ++i) {
    if (i == from) continue;
    EXPECT_EQ(stores_[i]->Query(kChunk, &info_).code(), StatusCode::kUnknownChunk) << "nothing is left of the copy";
  }
  ASSERT_TRUE(disks_->SyncStart(kChunk, Epoch{9}, {Epoch{8}, 1}, 0).ok());
  ASSERT_TRUE(disks_->SyncFinish(kChunk, {Epoch{8}, 1}, &info_).ok());
  EXPECT_EQ(InfoOf(kChunk).promised, Epoch{9});
  EXPECT_EQ(InfoOf(kChunk).accepted, (Stamp{Epoch{8}, 1}));
}

TEST_F(DiskDrainTest, WhatMayHaveForgottenSomethingOrIsDamagedWaits) {
  ASSERT_TRUE(Write(kChunk).ok());
  const size_t from = DrainUnder(kChunk);
  ASSERT_TRUE(disks_->MarkCorrupt(kChunk, 0).ok());
  EXPECT_EQ(Relocate(kChunk).code(), StatusCode::kCorrupt);
  EXPECT_EQ(DiskOf(kChunk), from);
}

// After a loss of power, or when a disk was added: every disk has the floor.
TEST_F(DiskDrainTest, DoubtMovesWithTheReplica) {
  ASSERT_TRUE(Write(kChunk).ok());
  for (MemoryStore* store : stores_) ASSERT_TRUE(store->SetAmnesic().ok());
  EXPECT_EQ(Relocate(kChunk).code(), StatusCode::kBusy) << "not before the master knows";
  ASSERT_TRUE(disks_->SetEpochFloor(Epoch{100}).ok());
  ASSERT_TRUE(InfoOf(kChunk).amnesic);
  const size_t from = DrainUnder(kChunk);
  ASSERT_TRUE(Relocate(kChunk).ok());
  EXPECT_NE(DiskOf(kChunk), from);
  EXPECT_TRUE(InfoOf(kChunk).amnesic) << "the copy does not pass for one that forgot nothing";
  EXPECT_EQ(InfoOf(kChunk).promised, Epoch{100});
}

TEST_F(DiskDrainTest, WhereTheDoubtWouldBeLostTheReplicaStays) {
  ASSERT_TRUE(Write(kChunk).ok());
  const size_t from = DrainUnder(kChunk);
  ASSERT_TRUE(stores_[from]->SetAmnesic().ok());
  ASSERT_TRUE(disks_->SetEpochFloor(Epoch{100}).ok());
  EXPECT_EQ(Relocate(kChunk).code(), StatusCode::kFailedPrecondition);
  EXPECT_EQ(DiskOf(kChunk), from);
  ASSERT_TRUE(disks_->Begin(kChunk, Epoch{101}, {kEpoch, 1}, &info_).ok());  // the next writer: it is whole
  EXPECT_TRUE(Relocate(kChunk).ok());
  EXPECT_FALSE(InfoOf(kChunk).amnesic);
}

TEST_F(DiskDrainTest, OnlyASealedReplicaTakesOnTheDoubtOfTheOtherDisk) {
  ASSERT_TRUE(Write(kChunk).ok());
  const size_t from = DrainUnder(kChunk);
  for (size_t i = 0; i < stores_.size(); ++i) {
    if (i == from) continue;
    ASSERT_TRUE(stores_[i]->SetAmnesic().ok());
  }
  ASSERT_TRUE(disks_->SetEpochFloor(Epoch{100}).ok());
  EXPECT_EQ(Relocate(kChunk).code(), StatusCode::kFailedPrecondition);
  EXPECT_EQ(InfoOf(kChunk).promised, kEpoch) << "its writer goes on";
  ASSERT_TRUE(disks_->Seal(kChunk, {kEpoch, 1}, &info_).ok());
  ASSERT_TRUE(Relocate(kChunk).ok());
  EXPECT_EQ(InfoOf(kChunk).promised, Epoch{100});
  EXPECT_TRUE(InfoOf(kChunk).amnesic);
}

// What a crash between copy and switch leaves.
TEST(DiskDrainCrashTest, OfTwoEqualCopiesTheSealedOneIsServed) {
  for (const size_t sealed : {size_t{0}, size_t{1}}) {
    std::vector<Disk> disks(2);
    ReplicaInfo info;
    for (size_t i = 0; i < 2; ++i) {
      auto store = std::make_unique<MemoryStore>();
      ASSERT_TRUE(store->Begin(kChunk, kEpoch, {}, &info).ok());
      if (i == sealed) {
        ASSERT_TRUE(store->Seal(kChunk, {kEpoch, 0}, &info).ok());
      }
      disks[i].path = "/disk" + std::to_string(i);
      disks[i].store = std::move(store);
    }
    auto set = DiskSet::Make(std::move(disks));
    ASSERT_TRUE(set.ok());
    ASSERT_TRUE((*set)->Query(kChunk, &info).ok());
    EXPECT_EQ(info.sealed, kEpoch) << sealed;
  }
}

TEST_F(DiskDrainTest, ADrainedDiskIsEmptiedAndTakesNothingNew) {
  for (uint64_t i = 1; i <= 30; ++i) ASSERT_TRUE(Write(ChunkId{i}, 1, 200'000).ok());
  Drain(1);
  for (uint64_t i = 31; i <= 60; ++i) {
    ASSERT_TRUE(Write(ChunkId{i}, 1, 200'000).ok());
    EXPECT_NE(DiskOf(ChunkId{i}), 1u);
  }
  DiskDrainer drainer(disks_.get(), 0, SystemClock::Get());
  EXPECT_EQ(drainer.DrainOnce(), 10u);
  EXPECT_EQ(stores_[1]->Usage().chunks, 0u);
  EXPECT_EQ(drainer.DrainOnce(), 0u);
  EXPECT_TRUE(disks_->States()[1].draining);
  EXPECT_EQ(disks_->States()[1].drain_note, "");
  for (uint64_t i = 1; i <= 60; ++i) EXPECT_TRUE(Bytes(ChunkId{i}) == Pattern(200'000, i + 1)) << i;
  disks_->SetDraining({});
  EXPECT_FALSE(disks_->States()[1].draining);
}

TEST_F(DiskDrainTest, WithoutRoomItSaysSoAndGoesOnWhenThereIsSome) {
  for (uint64_t i = 1; i <= 9; ++i) ASSERT_TRUE(Write(ChunkId{i}).ok());
  Drain(0);
  stores_[1]->SetFree(1 << 20);
  stores_[2]->SetFree(1 << 20);
  DiskDrainer drainer(disks_.get(), 0, SystemClock::Get());
  EXPECT_EQ(drainer.DrainOnce(), 0u);
  EXPECT_NE(disks_->States()[0].drain_note.find("no other disk of this server has 4 MiB of room"), std::string::npos)
      << disks_->States()[0].drain_note;
  stores_[2]->SetFree(1ull << 30);
  EXPECT_EQ(drainer.DrainOnce(), 3u);
  EXPECT_EQ(disks_->States()[0].drain_note, "");
}

TEST(DiskDrainTagsTest, ChunksStayOnDisksWithTheSameTags) {
  std::vector<Disk> disks(3);
  std::vector<MemoryStore*> stores;
  for (size_t i = 0; i < 3; ++i) {
    auto store = std::make_unique<MemoryStore>();
    stores.push_back(store.get());
    disks[i].path = "/disk" + std::to_string(i);
    disks[i].storage_class = i < 2 ? "ssd" : "hdd";
    disks[i].store = std::move(store);
  }
  auto set = DiskSet::Make(std::move(disks));
  ASSERT_TRUE(set.ok());
  RateLimiter limiter(0, SystemClock::Get());
  ReplicaInfo info;
  ASSERT_TRUE((*set)->Begin(kChunk, kEpoch, {}, &info).ok());
  const size_t on = stores[0]->Query(kChunk, &info).ok() ? 0 : 1;
  ASSERT_TRUE(stores[on]->Query(kChunk, &info).ok());
  ASSERT_TRUE((*set)->Relocate(kChunk, on, &limiter).ok());
  EXPECT_TRUE(stores[1 - on]->Query(kChunk, &info).ok());
  (*set)->SetDraining({stores[0]->identity().disk, stores[1]->identity().disk});
  EXPECT_EQ((*set)->Relocate(kChunk, 1 - on, &limiter).code(), StatusCode::kNoSpace) << "the third one has other tags";
}

}  // namespace
}  // namespace cairn::chunkserver
