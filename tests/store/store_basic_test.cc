// What each method of the store promises, on a healthy disk.
#include <algorithm>

#include "tests/store/store_fixture.h"

namespace cairn::chunkserver {
namespace {

using replication::ReplicaInfo;

class StoreBasicTest : public StoreFixture {
 protected:
  void SetUp() override { OpenStore(); }
  const ChunkId chunk_{42};
};

TEST_F(StoreBasicTest, WrittenBytesComeBackWithTheirChecksums) {
  const Bytes data = Pattern(10'000, 1);
  ASSERT_TRUE(Write(chunk_, 0, data).ok());
  EXPECT_EQ(*ReadAll(chunk_), data);
  EXPECT_EQ(*ReadAll(chunk_, false, 4096), data);
  const ReplicaInfo info = Info(chunk_);
  EXPECT_EQ(info.length, 10'000u);
  EXPECT_EQ(info.accepted, (Stamp{epoch_, 1}));
}

TEST_F(StoreBasicTest, PartialWritesMergeWithWhatIsThere) {
  Bytes expected = Pattern(20'000, 2);
  ASSERT_TRUE(Write(chunk_, 0, expected).ok());
  for (const auto& [offset, size] : std::vector<std::pair<uint64_t, size_t>>{{100, 10},
                                                                             {4090, 12},
                                                                             {8192, 100},
                                                                             {5000, 9000},
                                                                             {19'990, 10},
                                                                             {19'990, 30},
                                                                             {0, 4096},
                                                                             {4096, 1}}) {
    const Bytes patch = Pattern(size, offset + size);
    ASSERT_TRUE(Write(chunk_, offset, patch).ok());
    expected.resize(std::max(expected.size(), offset + size));
    std::copy(patch.begin(), patch.end(), expected.begin() + static_cast<ptrdiff_t>(offset));
    EXPECT_EQ(*ReadAll(chunk_), expected) << offset << " " << size;
  }
}

TEST_F(StoreBasicTest, HolesReadAsZeros) {
  const Bytes data = Pattern(100, 3);
  ASSERT_TRUE(Write(chunk_, 50'000, data).ok());
  Bytes expected(50'000);
  expected.insert(expected.end(), data.begin(), data.end());
  EXPECT_EQ(*ReadAll(chunk_), expected);
}

TEST_F(StoreBasicTest, TruncateZeroesThePartialLastBlock) {
  ASSERT_TRUE(Write(chunk_, 0, Pattern(10'000, 4)).ok());
  ASSERT_TRUE(Truncate(chunk_, 5000).ok());
  Bytes expected = Pattern(10'000, 4);
  expected.resize(5000);
  EXPECT_EQ(*ReadAll(chunk_), expected);
  ASSERT_TRUE(Truncate(chunk_, 9000).ok());
  expected.resize(9000);
  EXPECT_EQ(*ReadAll(chunk_), expected);
  ASSERT_TRUE(Truncate(chunk_, 0).ok());
  EXPECT_TRUE(ReadAll(chunk_)->empty());
}

TEST_F(StoreBasicTest, ZeroPunchesAndKeepsTheLength) {
  Bytes expected = Pattern(30'000, 5);
  ASSERT_TRUE(Write(chunk_, 0, expected).ok());
  for (const auto& [offset, size] : std::vector<std::pair<uint64_t, size_t>>{
           {10, 20}, {4000, 9000}, {16'384, 4096}, {29'000, 5000}, {40'000, 10}}) {
    ASSERT_TRUE(Zero(chunk_, offset, size).ok());
    for (uint64_t at = offset; at < std::min<uint64_t>(offset + size, expected.size()); ++at) {
      expected[at] = std::byte{0};
    }
    EXPECT_EQ(*ReadAll(chunk_), expected) << offset << " " << size;
  }
  EXPECT_EQ(Info(chunk_).length, 30'000u);
}

TEST_F(StoreBasicTest, DamagedIncomingDataIsRefusedAndChangesNothing) {
  const Bytes data = Pattern(8192, 6);
  wire::MutateRequest request;
  request.mutation = {chunk_, epoch_, 1, Stamp{}, replication::MutationKind::kWrite, 0, data.size()};
  request.checksums = ChecksumRange(chunk_, 0, data);
  request.checksums[1] ^= 1;
  ReplicaInfo info;
  EXPECT_EQ(store_->Mutate(request, data, &info).code(), StatusCode::kCorrupt);
  EXPECT_FALSE(Known(chunk_));
  request.checksums.pop_back();
  EXPECT_EQ(store_->Mutate(request, data, &info).code(), StatusCode::kInvalidArgument);
  EXPECT_FALSE(Known(chunk_));
}

TEST_F(StoreBasicTest, TheRulesDecideAndRefusalsTellThePresentState) {
  ASSERT_TRUE(Write(chunk_, 0, Pattern(100, 7)).ok());
  ReplicaInfo info;
  ASSERT_TRUE(store_->Fence(chunk_, Epoch{20}, &info).ok());
  EXPECT_EQ(info.promised, Epoch{20});
  EXPECT_EQ(Write(chunk_, 0, Pattern(100, 8)).code(), StatusCode::kFenced);
  EXPECT_EQ(store_->Begin(chunk_, Epoch{20}, Stamp{epoch_, 9}, &info).code(), StatusCode::kStaleReplica);
  EXPECT_EQ(info.accepted, (Stamp{epoch_, 1}));
  ASSERT_TRUE(store_->Begin(chunk_, Epoch{20}, Stamp{epoch_, 1}, &info).ok());
  EXPECT_EQ(info.accepted, (Stamp{Epoch{20}, 1}));
  EXPECT_EQ(store_->Seal(chunk_, Stamp{Epoch{20}, 2}, &info).code(), StatusCode::kStaleReplica);
  ASSERT_TRUE(store_->Seal(chunk_, Stamp{Epoch{20}, 1}, &info).ok());
  EXPECT_EQ(info.sealed, Epoch{20});
  EXPECT_EQ(*ReadAll(chunk_), Pattern(100, 7));
  EXPECT_EQ(store_->Seal(ChunkId{77}, Stamp{Epoch{20}, 1}, &info).code(), StatusCode::kUnknownChunk);
}

TEST_F(StoreBasicTest, AFenceBindsAChunkThatIsNotHere) {
  ReplicaInfo info;
  ASSERT_TRUE(store_->Fence(chunk_, Epoch{11}, &info).ok());
  EXPECT_EQ(info.accepted, Stamp{});
  EXPECT_EQ(Write(chunk_, 0, Pattern(10, 1)).code(), StatusCode::kFenced);
}

TEST_F(StoreBasicTest, ATombstoneKeepsTheBytesUntilErase) {
  ASSERT_TRUE(Write(chunk_, 0, Pattern(5000, 9)).ok());
  ReplicaInfo info;
  ASSERT_TRUE(store_->PrepareDelete(chunk_, Epoch{30}, &info).ok());
  EXPECT_EQ(info.tombstone, Epoch{30});
  EXPECT_EQ(*ReadAll(chunk_), Pattern(5000, 9));
  ASSERT_TRUE(store_->AbortDelete(chunk_, Epoch{31}, &info).ok());
  EXPECT_EQ(info.tombstone, Epoch{});
  EXPECT_EQ(store_->Erase(chunk_, Epoch{30}, false).code(), StatusCode::kFenced);
  EXPECT_TRUE(Known(chunk_));
  ASSERT_TRUE(store_->Erase(chunk_, Epoch{32}, false).ok());
  EXPECT_FALSE(Known(chunk_));
  EXPECT_TRUE(store_->Erase(chunk_, Epoch{32}, false).ok());
}

TEST_F(StoreBasicTest, QuarantineHidesTheChunkAndEndsAfterItsTime) {
  ASSERT_TRUE(Write(chunk_, 0, Pattern(5000, 10)).ok());
  ASSERT_TRUE(Erase(chunk_, true).ok());
  EXPECT_FALSE(Known(chunk_));
  EXPECT_EQ(store_->Usage().chunks, 0u);
  EXPECT_EQ(store_->Usage().used_bytes, 5000u);
  ASSERT_TRUE(store_->Reclaim().ok());
  EXPECT_EQ(store_->Usage().used_bytes, 5000u);
  Reopen();
  EXPECT_FALSE(Known(chunk_));
  EXPECT_EQ(store_->Usage().used_bytes, 5000u);
  env_.wall_seconds += 3601;
  ASSERT_TRUE(store_->Reclaim().ok());
  EXPECT_EQ(store_->Usage().used_bytes, 0u);
}

TEST_F(StoreBasicTest, AChunkMayComeBackUnderItsIdAfterErase) {
  ASSERT_TRUE(Write(chunk_, 0, Pattern(9000, 11)).ok());
  ASSERT_TRUE(Erase(chunk_, true).ok());
  ASSERT_TRUE(Write(chunk_, 5000, Pattern(10, 12)).ok());
  Bytes expected(5000);
  const Bytes tail = Pattern(10, 12);
  expected.insert(expected.end(), tail.begin(), tail.end());
  EXPECT_EQ(*ReadAll(chunk_), expected);
  EXPECT_EQ(store_->Usage().used_bytes, 5010u - 4096u);
}

TEST_F(StoreBasicTest, DurableFollowsFlush) {
  ASSERT_TRUE(Write(chunk_, 0, Pattern(100, 13)).ok());
  EXPECT_EQ(Info(chunk_).durable, Stamp{});
  ASSERT_TRUE(store_->Flush().ok());
  EXPECT_EQ(Info(chunk_).durable, (Stamp{epoch_, 1}));
  ASSERT_TRUE(Write(chunk_, 0, Pattern(100, 14)).ok());
  EXPECT_EQ(Info(chunk_).durable, (Stamp{epoch_, 1}));
  EXPECT_EQ(Info(chunk_).accepted, (Stamp{epoch_, 2}));
  ASSERT_TRUE(store_->Flush().ok());
  EXPECT_EQ(Info(chunk_).durable, (Stamp{epoch_, 2}));
}

TEST_F(StoreBasicTest, FlushWithNothingNewCostsNoSync) {
  ASSERT_TRUE(Write(chunk_, 0, Pattern(100, 15)).ok());
  ASSERT_TRUE(store_->Flush().ok());
  const uint64_t syncs = env_.syncs;
  ASSERT_TRUE(store_->Flush().ok());
  EXPECT_EQ(env_.syncs, syncs);
}

TEST_F(StoreBasicTest, ReadsNameTheirStamp) {
  ASSERT_TRUE(Write(chunk_, 0, Pattern(100, 16)).ok());
  wire::ReadRequest request{chunk_, Stamp{epoch_, 2}, true, 0, 100};
  EXPECT_EQ(store_->Read(request, true).code(), StatusCode::kStaleReplica);
  request.want = Stamp{epoch_, 0};
  EXPECT_EQ(store_->Read(request, true).code(), StatusCode::kStaleReplica);
  request.exact = false;
  EXPECT_TRUE(store_->Read(request, true).ok());
  request.offset = 1000;
  EXPECT_TRUE(store_->Read(request, true)->data.empty());
  request.length = 0;
  EXPECT_EQ(store_->Read(request, true).code(), StatusCode::kInvalidArgument);
  request = {ChunkId{77}, Stamp{}, true, 0, 100};
  EXPECT_EQ(store_->Read(request, true).code(), StatusCode::kUnknownChunk);
}

TEST_F(StoreBasicTest, ForEachVisitsEveryReplicaInOrder) {
  for (const uint64_t id : {5u, 1u, 300u, 2u}) ASSERT_TRUE(Write(ChunkId{id}, 0, Pattern(9000, id)).ok());
  ASSERT_TRUE(Erase(ChunkId{2}).ok());
  std::vector<uint64_t> seen;
  const auto remember = [&](const ReplicaInfo& info) {
    seen.push_back(info.chunk.value());
    return seen.size() != 2;
  };
  ASSERT_TRUE(store_->ForEach(remember).ok());
  EXPECT_EQ(seen, (std::vector<uint64_t>{1, 5}));
  ASSERT_TRUE(store_->ForEach(remember).ok());
  EXPECT_EQ(seen, (std::vector<uint64_t>{1, 5, 1, 5, 300}));
}

TEST_F(StoreBasicTest, EverythingIsThereAfterACleanReopen) {
  ASSERT_TRUE(Write(chunk_, 0, Pattern(1'500'000, 17)).ok());
  ASSERT_TRUE(Write(ChunkId{43}, 10, Pattern(50, 18)).ok());
  ReplicaInfo sealed;
  ASSERT_TRUE(store_->Seal(chunk_, Stamp{epoch_, 1}, &sealed).ok());
  const StoreUsage before = store_->Usage();
  Reopen();
  EXPECT_FALSE(store_->amnesic());
  EXPECT_EQ(*ReadAll(chunk_), Pattern(1'500'000, 17));
  sealed.durable = sealed.accepted;
  EXPECT_EQ(Info(chunk_), sealed);
  EXPECT_EQ(Info(ChunkId{43}).length, 60u);
  EXPECT_EQ(store_->Usage().used_bytes, before.used_bytes);
  EXPECT_EQ(store_->Usage().chunks, 2u);
}

TEST_F(StoreBasicTest, AnOwnerThatMissesAnotherDiskGetsNoPromises) {
  ASSERT_TRUE(store_->SetAmnesic().ok());
  EXPECT_EQ(store_->Fence(ChunkId{7}, Epoch{20}, nullptr).code(), StatusCode::kUnavailable);
  Reopen();
  EXPECT_TRUE(store_->amnesic());
  ASSERT_TRUE(store_->SetEpochFloor(Epoch{100}).ok());
  EXPECT_EQ(store_->Fence(ChunkId{7}, Epoch{99}, nullptr).code(), StatusCode::kFenced);
  ASSERT_TRUE(store_->Fence(ChunkId{7}, Epoch{101}, nullptr).ok());
  EXPECT_TRUE(Info(ChunkId{7}).amnesic) << "it may have been on the disk that is missing: no full vote";
}

TEST_F(StoreBasicTest, TheEpochFloorHoldsForAllReplicasAndSurvives) {
  ASSERT_TRUE(Write(chunk_, 0, Pattern(10, 19)).ok());
  ASSERT_TRUE(store_->SetEpochFloor(Epoch{50}).ok());
  EXPECT_EQ(Info(chunk_).promised, Epoch{50});
  EXPECT_EQ(Write(chunk_, 0, Pattern(10, 20)).code(), StatusCode::kFenced);
  Reopen();
  EXPECT_EQ(Info(chunk_).promised, Epoch{50});
  EXPECT_EQ(Write(chunk_, 0, Pattern(10, 20)).code(), StatusCode::kFenced);
  epoch_ = Epoch{50};
  EXPECT_TRUE(Write(chunk_, 0, Pattern(10, 20)).ok());
}

TEST_F(StoreBasicTest, ExtentsTellDataFromHoles) {
  ASSERT_TRUE(Write(chunk_, 8192, Pattern(10'000, 1)).ok());
  ASSERT_TRUE(Write(chunk_, 100'000, Pattern(1, 2)).ok());
  const auto ask = [&](uint64_t offset) {
    return store_->Extents({.chunk = chunk_, .want = {epoch_, 1}, .exact = false, .offset = offset});
  };
  auto extents = ask(0);
  ASSERT_TRUE(extents.ok()) << extents.status().ToString();
  EXPECT_EQ(extents->chunk_length, 100'001u);
  EXPECT_EQ(extents->complete_to, 100'001u);
  EXPECT_EQ(extents->ranges, (std::vector<wire::DataRange>{{8192, 12'288}, {98'304, 1'697}}));
  EXPECT_EQ(ask(30'000)->ranges, (std::vector<wire::DataRange>{{98'304, 1'697}}));
  EXPECT_EQ(*store_->AllocatedBytes(chunk_), 4u * 4096);
  ASSERT_TRUE(Zero(chunk_, 8192, 8192).ok());
  EXPECT_EQ(ask(0)->ranges, (std::vector<wire::DataRange>{{16'384, 4'096}, {98'304, 1'697}}));
  EXPECT_EQ(*store_->AllocatedBytes(chunk_), 2u * 4096);
  Reopen();
  EXPECT_EQ(*store_->AllocatedBytes(chunk_), 2u * 4096);
  EXPECT_EQ(store_->Extents({.chunk = ChunkId{999}, .want = {}, .exact = false, .offset = 0}).code(),
            StatusCode::kUnknownChunk);
  EXPECT_EQ(store_->Extents({.chunk = chunk_, .want = {epoch_, 1}, .exact = true, .offset = 0}).code(),
            StatusCode::kStaleReplica);
}

TEST_F(StoreBasicTest, DigestsTellRangesApart) {
  const Bytes data = Pattern(200'000, 21);
  ASSERT_TRUE(Write(chunk_, 0, data).ok());
  ASSERT_TRUE(Write(ChunkId{43}, 0, data).ok());
  ASSERT_TRUE(Write(ChunkId{43}, 70'000, Pattern(3, 99)).ok());
  uint64_t length = 0;
  const auto one = store_->Digests({chunk_, Stamp{}, 0, 256 * 1024}, &length);
  ASSERT_TRUE(one.ok());
  EXPECT_EQ(length, 200'000u);
  ASSERT_EQ(one->size(), 4u);
  const auto two = store_->Digests({ChunkId{43}, Stamp{}, 0, 256 * 1024}, &length);
  ASSERT_TRUE(two.ok());
  EXPECT_EQ((*one)[0], (*two)[0]);
  EXPECT_NE((*one)[1], (*two)[1]);
  EXPECT_EQ((*one)[3], (*two)[3]);
  EXPECT_EQ(store_->Digests({chunk_, Stamp{epoch_, 5}, 0, 65'536}, &length).code(),
            StatusCode::kStaleReplica);
  EXPECT_EQ(store_->Digests({chunk_, Stamp{}, 100, 65'536}, &length).code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace cairn::chunkserver
