// Bringing a replica to the base of a sync, and what a crash or another sync in the middle leaves.
#include <algorithm>

#include "tests/store/store_fixture.h"

namespace cairn::chunkserver {
namespace {

using replication::ReplicaInfo;

class StoreSyncTest : public StoreFixture {
 protected:
  void SetUp() override {
    OpenStore();
    old_ = Pattern(200'000, 1);
    ASSERT_TRUE(Write(chunk_, 0, old_).ok());
  }
  Status Send(uint64_t offset, const Bytes& data) {
    std::vector<uint32_t> checksums;
    for (uint64_t at = 0; at < data.size(); at += kBlockBytes) {
      const auto rest = std::span<const std::byte>(data).subspan(at);
      checksums.push_back(BlockChecksum(chunk_, (offset + at) / kBlockBytes,
                                        rest.first(std::min<size_t>(rest.size(), kBlockBytes))));
    }
    return store_->SyncWrite(chunk_, offset, data, checksums);
  }
  const ChunkId chunk_{42};
  const Stamp base_{Epoch{20}, 500};
  Bytes old_;
  ReplicaInfo info_;
};

TEST_F(StoreSyncTest, OnlyWhatWasSentChanges) {
  ASSERT_TRUE(store_->SyncStart(chunk_, Epoch{21}, base_, 150'000).ok());
  const Bytes part = Pattern(65'536, 2);
  ASSERT_TRUE(Send(65'536, part).ok());
  EXPECT_EQ(*ReadAll(chunk_), old_) << "a shadow is not read";
  ASSERT_TRUE(store_->SyncFinish(chunk_, base_, &info_).ok());
  EXPECT_EQ(info_.accepted, base_);
  EXPECT_EQ(info_.durable, base_);
  EXPECT_EQ(info_.length, 150'000u);
  Bytes expected = old_;
  expected.resize(150'000);
  std::copy(part.begin(), part.end(), expected.begin() + 65'536);
  EXPECT_EQ(*ReadAll(chunk_), expected);
  ASSERT_TRUE(store_->SyncFinish(chunk_, base_, &info_).ok()) << "a repeated finish is answered as done";
  ContinueWith(CopyDirectory());
  env_.boot.low++;
  OpenStore();
  EXPECT_EQ(*ReadAll(chunk_), expected) << "durable when finish returned";
}

TEST_F(StoreSyncTest, AMissingReplicaIsBuiltFromNothing) {
  const Bytes data = Pattern(10'000, 3);
  std::vector<uint32_t> checksums;
  for (uint64_t at = 0; at < data.size(); at += kBlockBytes) {
    const auto rest = std::span<const std::byte>(data).subspan(at);
    checksums.push_back(
        BlockChecksum(ChunkId{50}, at / kBlockBytes, rest.first(std::min<size_t>(rest.size(), 4096))));
  }
  ASSERT_TRUE(store_->SyncStart(ChunkId{50}, Epoch{21}, base_, data.size()).ok());
  ASSERT_TRUE(store_->SyncWrite(ChunkId{50}, 0, data, checksums).ok());
  ASSERT_TRUE(store_->SyncFinish(ChunkId{50}, base_, &info_).ok());
  EXPECT_EQ(*ReadAll(ChunkId{50}), data);
}

TEST_F(StoreSyncTest, ACrashInTheMiddleLeavesTheOldReplica) {
  ASSERT_TRUE(store_->SyncStart(chunk_, Epoch{21}, base_, 150'000).ok());
  ASSERT_TRUE(Send(0, Pattern(65'536, 2)).ok());
  ASSERT_TRUE(store_->Flush().ok());
  ContinueWith(CopyDirectory());
  OpenStore();
  EXPECT_EQ(*ReadAll(chunk_), old_);
  EXPECT_EQ(store_->SyncFinish(chunk_, base_, &info_).code(), StatusCode::kFailedPrecondition);
  EXPECT_EQ(Send(0, Pattern(65'536, 2)).code(), StatusCode::kFailedPrecondition);
  EXPECT_NE(Write(chunk_, 0, Pattern(10, 1)).code(), StatusCode::kOk) << "the pin refuses older mutations";
  ASSERT_TRUE(store_->SyncStart(chunk_, Epoch{21}, base_, 100).ok());
  ASSERT_TRUE(Send(0, Pattern(100, 2)).ok());
  ASSERT_TRUE(store_->SyncFinish(chunk_, base_, &info_).ok());
  EXPECT_EQ(*ReadAll(chunk_), Pattern(100, 2));
}

TEST_F(StoreSyncTest, AnAbandonedSyncChangesNothing) {
  ASSERT_TRUE(store_->SyncStart(chunk_, Epoch{21}, base_, 150'000).ok());
  ASSERT_TRUE(Send(0, Pattern(65'536, 2)).ok());
  store_->SyncAbandon(chunk_);
  EXPECT_EQ(*ReadAll(chunk_), old_);
  EXPECT_EQ(store_->SyncFinish(chunk_, base_, &info_).code(), StatusCode::kFailedPrecondition);
}

TEST_F(StoreSyncTest, ANewerSyncTakesOver) {
  ASSERT_TRUE(store_->SyncStart(chunk_, Epoch{21}, base_, 150'000).ok());
  ASSERT_TRUE(Send(0, Pattern(65'536, 2)).ok());
  const Stamp newer{Epoch{22}, 600};
  ASSERT_TRUE(store_->SyncStart(chunk_, Epoch{23}, newer, 200'000).ok());
  EXPECT_EQ(store_->SyncFinish(chunk_, base_, &info_).code(), StatusCode::kFailedPrecondition);
  ASSERT_TRUE(store_->SyncFinish(chunk_, newer, &info_).ok());
  EXPECT_EQ(*ReadAll(chunk_), old_) << "nothing of the older shadow";
}

TEST_F(StoreSyncTest, AFenceInTheMiddleEndsTheSync) {
  ASSERT_TRUE(store_->SyncStart(chunk_, Epoch{21}, base_, 150'000).ok());
  ASSERT_TRUE(store_->Fence(chunk_, Epoch{30}, &info_).ok());
  EXPECT_EQ(store_->SyncFinish(chunk_, base_, &info_).code(), StatusCode::kFailedPrecondition);
  EXPECT_EQ(*ReadAll(chunk_), old_);
}

TEST_F(StoreSyncTest, DamagedOrMisplacedSyncDataIsRefused) {
  ASSERT_TRUE(store_->SyncStart(chunk_, Epoch{21}, base_, 10'000).ok());
  const Bytes data = Pattern(4096, 2);
  const std::vector<uint32_t> wrong{BlockChecksum(chunk_, 1, data)};
  EXPECT_EQ(store_->SyncWrite(chunk_, 0, data, wrong).code(), StatusCode::kCorrupt);
  EXPECT_EQ(Send(100, data).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(Send(8192, Pattern(4096, 3)).code(), StatusCode::kInvalidArgument) << "beyond the length";
  EXPECT_EQ(Send(0, Pattern(100, 3)).code(), StatusCode::kInvalidArgument) << "ends inside a block";
  EXPECT_TRUE(Send(8192, Pattern(1808, 3)).ok());
}

TEST_F(StoreSyncTest, ASyncAtTheSameStampRepairsADamagedReplica) {
  const auto segment = Segments(directory_).front();
  FlipByte(segment, Find(segment, old_) + 70'000);
  ASSERT_TRUE(store_->MarkCorrupt(chunk_, 70'000).ok());
  const Stamp accepted = Info(chunk_).accepted;
  ASSERT_TRUE(store_->SyncStart(chunk_, Epoch{21}, accepted, old_.size()).ok());
  ASSERT_TRUE(Send(65'536, Bytes(old_.begin() + 65'536, old_.begin() + 131'072)).ok());
  ASSERT_TRUE(store_->SyncFinish(chunk_, accepted, &info_).ok());
  EXPECT_FALSE(info_.corrupt);
  EXPECT_EQ(*ReadAll(chunk_), old_);
}

TEST_F(StoreSyncTest, ReclaimDoesNotTakeARunningShadowAway) {
  ASSERT_TRUE(store_->SyncStart(chunk_, Epoch{21}, base_, 2'000'000).ok());
  const Bytes part = Pattern(1'000'000 / 4096 * 4096, 2);
  ASSERT_TRUE(Send(0, part).ok());
  // Enough to close the segments that the shadow lies in, and all of it dead.
  for (uint64_t id = 100; id < 110; ++id) {
    ASSERT_TRUE(Write(ChunkId{id}, 0, Pattern(500'000, id)).ok());
    ASSERT_TRUE(Erase(ChunkId{id}).ok());
  }
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(store_->Reclaim().ok());
  ASSERT_TRUE(store_->SyncFinish(chunk_, base_, &info_).ok());
  Bytes expected = part;
  expected.resize(2'000'000);
  EXPECT_TRUE(*ReadAll(chunk_) == expected);
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(store_->Reclaim().ok());
  EXPECT_TRUE(*ReadAll(chunk_) == expected);
}

}  // namespace
}  // namespace cairn::chunkserver
