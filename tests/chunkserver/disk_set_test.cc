#include "chunkserver/disk_set.h"

#include <gtest/gtest.h>

#include <set>

#include "tests/chunkserver/data_node.h"

namespace cairn::chunkserver {
namespace {

using replication::ReplicaInfo;

constexpr Epoch kEpoch{5};

class DiskSetTest : public testing::Test {
 protected:
  Status Write(ChunkId chunk, size_t bytes = 4096) {
    const auto data = Pattern(bytes, chunk.value());
    ReplicaInfo info;
    return disks_->Mutate(WriteRequest(chunk, {kEpoch, 1}, Stamp{}, 0, data), data, &info);
  }
  size_t DiskOf(ChunkId chunk) {
    ReplicaInfo info;
    for (size_t i = 0; i < stores_.size(); ++i) {
      if (stores_[i]->Query(chunk, &info).ok()) return i;
    }
    return SIZE_MAX;
  }
  std::vector<MemoryStore*> stores_;
  std::unique_ptr<DiskSet> disks_ = MemoryDisks(3, &stores_);
  ReplicaInfo info_;
};

TEST_F(DiskSetTest, NewChunksGoWhereMostSpaceIs) {
  for (uint64_t i = 1; i <= 30; ++i) ASSERT_TRUE(Write(ChunkId{i}, 1 << 20).ok());
  for (MemoryStore* store : stores_) EXPECT_EQ(store->Usage().chunks, 10u);
}

TEST_F(DiskSetTest, AChunkStaysOnItsDisk) {
  ASSERT_TRUE(Write(ChunkId{1}, 1 << 20).ok());
  const size_t disk = DiskOf(ChunkId{1});
  const auto data = Pattern(100, 1);
  ASSERT_TRUE(
      disks_->Mutate(WriteRequest(ChunkId{1}, {kEpoch, 2}, std::nullopt, 0, data), data, &info_).ok());
  EXPECT_EQ(DiskOf(ChunkId{1}), disk);
  EXPECT_EQ(info_.accepted, (Stamp{kEpoch, 2}));
  std::set<ChunkId> seen;
  ASSERT_TRUE(disks_->ForEach([&](const ReplicaInfo& info) { return seen.insert(info.chunk).second; }).ok());
  EXPECT_EQ(seen, std::set<ChunkId>{ChunkId{1}});
}

TEST_F(DiskSetTest, AFailedDiskTakesOnlyItsOwnChunksAway) {
  for (uint64_t i = 1; i <= 9; ++i) ASSERT_TRUE(Write(ChunkId{i}, 1 << 20).ok());
  stores_[1]->Fail("the head crashed");
  for (uint64_t i = 1; i <= 9; ++i) {
    const bool lost = DiskOf(ChunkId{i}) == 1;
    const Status status = disks_->Query(ChunkId{i}, &info_);
    EXPECT_EQ(status.code(), lost ? StatusCode::kIoError : StatusCode::kOk) << i;
    if (lost) {
      EXPECT_NE(status.message().find("the head crashed"), std::string::npos);
      EXPECT_NE(status.message().find("/disk1"), std::string::npos);
      // Its state is unknown, not empty: nothing may begin it anew.
      EXPECT_EQ(disks_->Begin(ChunkId{i}, Epoch{9}, {}, &info_).code(), StatusCode::kIoError);
      EXPECT_EQ(disks_->Fence(ChunkId{i}, Epoch{9}, &info_).code(), StatusCode::kIoError);
    }
  }
  for (uint64_t i = 20; i < 30; ++i) ASSERT_TRUE(Write(ChunkId{i}).ok()) << "new chunks go to the others";
  const auto states = disks_->States();
  EXPECT_TRUE(states[0].failure.ok());
  EXPECT_FALSE(states[1].failure.ok());
}

TEST_F(DiskSetTest, ASyncBringsAChunkOfAFailedDiskToAnother) {
  for (uint64_t i = 1; i <= 3; ++i) ASSERT_TRUE(Write(ChunkId{i}, 1 << 20).ok());
  const size_t disk = DiskOf(ChunkId{2});
  stores_[disk]->Fail("gone");
  ASSERT_TRUE(disks_->SyncStart(ChunkId{2}, Epoch{9}, {kEpoch, 1}, 0).ok());
  ASSERT_TRUE(disks_->SyncFinish(ChunkId{2}, {kEpoch, 1}, &info_).ok());
  ASSERT_TRUE(disks_->Query(ChunkId{2}, &info_).ok());
  EXPECT_EQ(info_.accepted, (Stamp{kEpoch, 1}));
  size_t visits = 0;
  ASSERT_TRUE(disks_
                  ->ForEach([&](const ReplicaInfo& info) {
                    visits += info.chunk == ChunkId{2};
                    return true;
                  })
                  .ok());
  EXPECT_EQ(visits, 1u);
}

// A replica that died with its disk must not answer a recovery as one that never had anything.
TEST(MissingDiskTest, WhatItHeldIsNotTakenForAbsent) {
  enum class Second { kJoined, kNew, kBroken };
  const auto open = [](bool joined, Second second) {
    std::vector<Disk> disks(2);
    for (size_t i = 0; i < 2; ++i) {
      disks[i].path = "/disk" + std::to_string(i);
      auto store = std::make_unique<MemoryStore>();
      if (joined && (i == 0 || second == Second::kJoined)) {
        EXPECT_TRUE(store->SetIdentity(Uuid{1, 2}, Uuid{3, 4}, ServerId{5}).ok());
      }
      disks[i].store = std::move(store);
    }
    if (second == Second::kBroken) {
      disks[1].store.reset();
      disks[1].open_error = Status(StatusCode::kIoError, "no such device");
    }
    auto set = DiskSet::Make(std::move(disks));
    EXPECT_TRUE(set.ok()) << set.status().ToString();
    return *std::move(set);
  };
  EXPECT_FALSE(open(true, Second::kJoined)->States()[0].amnesic);
  EXPECT_FALSE(open(false, Second::kNew)->States()[0].amnesic) << "this server never promised anything";
  EXPECT_FALSE(open(false, Second::kBroken)->States()[0].amnesic);
  const auto replaced = open(true, Second::kNew);
  EXPECT_TRUE(replaced->States()[0].amnesic);
  EXPECT_TRUE(replaced->States()[1].amnesic);
  const auto broken = open(true, Second::kBroken);
  EXPECT_TRUE(broken->States()[0].amnesic);
  ASSERT_TRUE(broken->SetEpochFloor(Epoch{100}).ok());
  EXPECT_FALSE(broken->States()[0].amnesic);
}

TEST_F(DiskSetTest, AnErasedChunkMayComeBackElsewhere) {
  ASSERT_TRUE(Write(ChunkId{1}).ok());
  ASSERT_TRUE(disks_->Erase(ChunkId{1}, Epoch{9}, false).ok());
  EXPECT_EQ(disks_->Query(ChunkId{1}, &info_).code(), StatusCode::kUnknownChunk);
  EXPECT_EQ(disks_->Erase(ChunkId{1}, Epoch{9}, false).code(), StatusCode::kUnknownChunk);
  ASSERT_TRUE(Write(ChunkId{1}).ok());
}

TEST_F(DiskSetTest, FlushCoversEveryDiskConcerned) {
  for (uint64_t i = 1; i <= 3; ++i) ASSERT_TRUE(Write(ChunkId{i}, 1 << 20).ok());
  const std::vector<ChunkId> all{ChunkId{1}, ChunkId{2}, ChunkId{3}};
  ASSERT_TRUE(disks_->FlushAndWait(all).ok());
  for (MemoryStore* store : stores_) EXPECT_EQ(store->flushes(), 1);
  const std::vector<ChunkId> one{ChunkId{1}, ChunkId{1}};
  ASSERT_TRUE(disks_->FlushAndWait(one).ok());
  EXPECT_EQ(stores_[0]->flushes() + stores_[1]->flushes() + stores_[2]->flushes(), 4);
  stores_[DiskOf(ChunkId{2})]->Fail("no more");
  EXPECT_EQ(disks_->FlushAndWait(all).code(), StatusCode::kIoError);
  EXPECT_TRUE(disks_->FlushAndWait({}).ok());
}

TEST_F(DiskSetTest, TheIdentityIsRecordedOnEveryDisk) {
  const Uuid uuid = Uuid::Random();
  ASSERT_TRUE(disks_->SetIdentity(kTestCluster, uuid, ServerId{4}).ok());
  for (MemoryStore* store : stores_) {
    EXPECT_EQ(store->identity().cluster, kTestCluster);
    EXPECT_EQ(store->identity().server, ServerId{4});
  }
  EXPECT_EQ(disks_->identity().server_uuid, uuid);
}

TEST(DiskSetMakeTest, DisksOfDifferentServersAreRefused) {
  std::vector<Disk> disks(2);
  for (uint32_t i = 0; i < 2; ++i) {
    auto store = std::make_unique<MemoryStore>();
    ASSERT_TRUE(store->SetIdentity(kTestCluster, Uuid{1, i}, ServerId{i + 1}).ok());
    disks[i].path = "/disk" + std::to_string(i);
    disks[i].store = std::move(store);
  }
  const auto made = DiskSet::Make(std::move(disks));
  ASSERT_FALSE(made.ok());
  EXPECT_EQ(made.code(), StatusCode::kWrongCluster);
  EXPECT_NE(made.status().message().find("/disk1"), std::string::npos) << made.status().ToString();
}

TEST(DiskSetMakeTest, ADiskThatCannotBeOpenedLeavesTheOthers) {
  std::vector<Disk> disks(2);
  disks[0].path = "/broken";
  disks[0].open_error = Status(StatusCode::kIoError, "bad superblock");
  disks[1].path = "/good";
  disks[1].store = std::make_unique<MemoryStore>();
  auto made = DiskSet::Make(std::move(disks));
  ASSERT_TRUE(made.ok()) << made.status().ToString();
  ReplicaInfo info;
  EXPECT_TRUE((*made)->Begin(ChunkId{1}, kEpoch, {}, &info).ok());
  EXPECT_EQ((*made)->States()[0].failure.code(), StatusCode::kIoError);
  std::vector<Disk> none(1);
  none[0].path = "/broken";
  none[0].open_error = Status(StatusCode::kIoError, "bad superblock");
  EXPECT_EQ(DiskSet::Make(std::move(none)).code(), StatusCode::kIoError);
}

TEST(DiskSetMakeTest, OfTwoCopiesOfAChunkTheNewerIsServed) {
  std::vector<Disk> disks(2);
  for (uint32_t i = 0; i < 2; ++i) {
    auto store = std::make_unique<MemoryStore>();
    const auto data = Pattern(1000 * (i + 1), i);
    ReplicaInfo info;
    ASSERT_TRUE(
        store->Mutate(WriteRequest(ChunkId{1}, {Epoch{10 - i}, 1}, Stamp{}, 0, data), data, &info).ok());
    disks[i].path = "/disk" + std::to_string(i);
    disks[i].store = std::move(store);
  }
  auto made = DiskSet::Make(std::move(disks));
  ASSERT_TRUE(made.ok());
  ReplicaInfo info;
  ASSERT_TRUE((*made)->Query(ChunkId{1}, &info).ok());
  EXPECT_EQ(info.accepted.epoch, Epoch{10});
  size_t visits = 0;
  ASSERT_TRUE((*made)->ForEach([&](const ReplicaInfo&) { return ++visits > 0; }).ok());
  EXPECT_EQ(visits, 1u);
}

TEST(DiskSetPlacementTest, DirectoriesOnOneFileSystemShareTheChunks) {
  std::vector<Disk> disks(2);
  std::vector<MemoryStore*> stores;
  for (size_t i = 0; i < 2; ++i) {
    auto store = std::make_unique<MemoryStore>();
    stores.push_back(store.get());
    disks[i].path = "/disk" + std::to_string(i);
    disks[i].file_system_id = "same";
    disks[i].store = std::move(store);
  }
  stores[0]->SetFree(1ull << 31);  // as if asked a moment before somebody else wrote
  auto set = DiskSet::Make(std::move(disks));
  ASSERT_TRUE(set.ok());
  ReplicaInfo info;
  for (uint64_t i = 1; i <= 10; ++i) {
    const auto data = Pattern(10'000, i);
    ASSERT_TRUE((*set)->Mutate(WriteRequest(ChunkId{i}, {Epoch{5}, 1}, Stamp{}, 0, data), data, &info).ok());
  }
  EXPECT_EQ(stores[0]->Usage().chunks, 5u);
  EXPECT_EQ(stores[1]->Usage().chunks, 5u);
}

}  // namespace
}  // namespace cairn::chunkserver
