// Replicas brought up to date from others, over real sockets, on disks in memory and on the real store.
#include <gtest/gtest.h>

#include <map>

#include "chunkserver/copier.h"
#include "common/checksum.h"
#include "tests/chunkserver/fake_master.h"
#include "tests/chunkserver/test_server.h"

namespace cairn::chunkserver {
namespace {

constexpr ChunkId kChunk{42};
constexpr uint64_t kLength = 8'000'000;  // ends in the middle of a block

enum class StoreKind { kMemory, kLog };

class SyncTest : public testing::TestWithParam<StoreKind> {
 protected:
  static constexpr size_t kServers = 3;

  void SetUp() override {
    options_.cluster = kTestCluster;
    master_ = std::make_unique<FakeMaster>(options_);
    for (size_t i = 0; i < kServers; ++i) {
      TestChunkServer& server = servers_[i];
      std::vector<Disk> disks;
      if (GetParam() == StoreKind::kMemory) {
        disks = server.MemoryDisksFor(1);
      } else {
        StoreOptions store;
        store.directory = directory_.path() + "/cs" + std::to_string(i);
        auto opened = ChunkStore::Open(store);
        ASSERT_TRUE(opened.ok()) << opened.status().ToString();
        Disk disk;
        disk.path = store.directory;
        disk.store = *std::move(opened);
        disks.push_back(std::move(disk));
      }
      server.Start(TestChunkServer::Options(master_->address()), std::move(disks));
      master_->WaitForRegistration(i + 1);  // ids in the order of the start
    }
    for (size_t i = 0; i < kServers; ++i) master_->WaitForReport(Id(i));
  }

  static ServerId Id(size_t index) { return ServerId{static_cast<uint32_t>(index + 1)}; }
  DiskSet& disks(size_t index) { return servers_[index].server->disks(); }

  // Applies the whole content in pieces under one epoch; the last piece has the stamp {epoch, pieces}.
  Stamp Fill(size_t server, Epoch epoch, const std::vector<std::byte>& content) {
    uint64_t seq = 0;
    replication::ReplicaInfo info;
    for (size_t at = 0; at < content.size(); at += 1 << 20) {
      const size_t end = std::min<size_t>(content.size(), at + (1 << 20));
      const std::vector<std::byte> piece(content.begin() + static_cast<ptrdiff_t>(at),
                                         content.begin() + static_cast<ptrdiff_t>(end));
      ++seq;
      const Status status = disks(server).Mutate(
          WriteRequest(kChunk, {epoch, seq}, seq == 1 ? std::optional(Stamp{}) : std::nullopt, at, piece),
          piece, &info);
      EXPECT_TRUE(status.ok()) << status.ToString();
    }
    return info.accepted;
  }
  // One more mutation.
  Stamp Write(size_t server, Stamp after, uint64_t offset, const std::vector<std::byte>& data) {
    replication::ReplicaInfo info;
    const Status status = disks(server).Mutate(
        WriteRequest(kChunk, {after.epoch, after.seq + 1}, std::nullopt, offset, data), data, &info);
    EXPECT_TRUE(status.ok()) << status.ToString();
    return info.accepted;
  }
  proto::ChunkResult Sync(size_t target, Stamp base, uint64_t length, const std::vector<size_t>& sources,
                          uint64_t epoch = 100) {
    proto::ChunkCommand command;
    command.set_chunk(kChunk.value());
    auto* sync = command.mutable_sync();
    sync->set_epoch(epoch);
    sync->mutable_base()->set_epoch(base.epoch.value());
    sync->mutable_base()->set_seq(base.seq);
    sync->set_length(length);
    for (size_t source : sources) {
      auto* address = sync->add_sources();
      address->set_server(Id(source).value());
      address->set_address(addresses_.contains(source) ? addresses_[source]
                                                       : servers_[source].server->data_address());
    }
    return master_->Execute(Id(target), command);
  }
  void ExpectContent(size_t server, Stamp stamp, const std::vector<std::byte>& content) {
    std::vector<std::byte> got;
    while (got.size() < content.size()) {
      const auto length = static_cast<uint32_t>(std::min<size_t>(1 << 20, content.size() - got.size()));
      const auto read = disks(server).Read({kChunk, stamp, true, got.size(), length}, /*verify=*/true);
      ASSERT_TRUE(read.ok()) << read.status().ToString();
      got.insert(got.end(), read->data.bytes.begin(), read->data.bytes.begin() + length);
    }
    EXPECT_TRUE(got == content);
    replication::ReplicaInfo info;
    ASSERT_TRUE(disks(server).Query(kChunk, &info).ok());
    EXPECT_EQ(info.accepted, stamp);
    EXPECT_EQ(info.durable, stamp);
    EXPECT_EQ(info.length, content.size());
    EXPECT_FALSE(info.corrupt);
  }

  TempDirectory directory_;
  FakeMaster::Options options_;
  std::unique_ptr<FakeMaster> master_;
  std::map<size_t, std::string> addresses_;  // where another than the real one is told
  TestChunkServer servers_[kServers];
};

TEST_P(SyncTest, AMissingReplicaIsFetchedWhole) {
  const auto content = Pattern(kLength, 1);
  const Stamp base = Fill(0, Epoch{5}, content);
  const auto result = Sync(1, base, kLength, {0});
  ASSERT_EQ(result.status().code(), 0u) << result.status().message();
  EXPECT_EQ(result.bytes_differing(), kLength);
  EXPECT_EQ(result.bytes_transferred(), kLength);
  EXPECT_EQ(result.info().accepted().seq(), base.seq);
  ExpectContent(1, base, content);
  disks(1).RefreshUsage();
  EXPECT_EQ(disks(1).States()[0].usage.chunks, 1u);
  EXPECT_GE(disks(1).States()[0].usage.used_bytes, kLength);
}

TEST_P(SyncTest, ADiskWithoutRoomForAllOfItRefusesBeforeAnythingIsFetched) {
  if (GetParam() != StoreKind::kMemory) GTEST_SKIP() << "the space of the real store is the test machine's";
  const auto content = Pattern(kLength, 1);
  const Stamp base = Fill(0, Epoch{5}, content);
  servers_[1].stores[0]->SetFree(kLength / 2);
  const auto refused = Sync(1, base, kLength, {0});
  EXPECT_EQ(static_cast<StatusCode>(refused.status().code()), StatusCode::kNoSpace) << refused.status().message();
  EXPECT_EQ(refused.bytes_transferred(), 0u);
  EXPECT_TRUE(refused.refused_here());
  EXPECT_FALSE(Sync(1, base, kLength, {2}, 101).refused_here()) << "that source does not have it: not the disk's fault";
  servers_[1].stores[0]->SetFree(1ull << 30);
  EXPECT_EQ(Sync(1, base, kLength, {0}, 102).status().code(), 0u);
  ExpectContent(1, base, content);
}

TEST_P(SyncTest, HolesOfAMissingReplicaAreNotFetched) {
  std::vector<std::byte> content(kLength);
  const auto piece = Pattern(10'000, 1);
  std::copy(piece.begin(), piece.end(), content.begin() + 3'000'000);
  replication::ReplicaInfo info;
  ASSERT_TRUE(
      disks(0).Mutate(WriteRequest(kChunk, {Epoch{5}, 1}, Stamp{}, 3'000'000, piece), piece, &info).ok());
  wire::MutateRequest grow;
  grow.mutation = {kChunk, Epoch{5}, 2, std::nullopt, replication::MutationKind::kTruncate, kLength, 0};
  ASSERT_TRUE(disks(0).Mutate(grow, {}, &info).ok());
  const auto result = Sync(1, info.accepted, kLength, {0});
  ASSERT_EQ(result.status().code(), 0u) << result.status().message();
  EXPECT_LE(result.bytes_transferred(), 2u * wire::kDigestRangeBytes);
  ExpectContent(1, {Epoch{5}, 2}, content);
}

TEST_P(SyncTest, OnlyWhatDiffersIsFetched) {
  auto content = Pattern(kLength, 1);
  ASSERT_EQ(Fill(0, Epoch{5}, content), Fill(1, Epoch{5}, content));
  replication::ReplicaInfo info;
  ASSERT_TRUE(disks(0).Query(kChunk, &info).ok());
  // The other one misses these: 300,000 bytes in two places.
  Stamp base = info.accepted;
  for (uint64_t offset : {1'000'000u, 6'500'000u}) {
    const auto change = Pattern(150'000, offset);
    std::copy(change.begin(), change.end(), content.begin() + static_cast<ptrdiff_t>(offset));
    base = Write(0, base, offset, change);
  }
  const auto result = Sync(1, base, kLength, {0});
  ASSERT_EQ(result.status().code(), 0u) << result.status().message();
  EXPECT_LE(result.bytes_transferred(), 2u * 300'000);
  EXPECT_GE(result.bytes_transferred(), 300'000u);
  EXPECT_EQ(result.bytes_differing(), result.bytes_transferred());
  ExpectContent(1, base, content);
}

TEST_P(SyncTest, AReplicaThatIsTooLongIsCutAndOneThatIsTooShortGrows) {
  auto content = Pattern(3'000'000, 1);
  Fill(1, Epoch{5}, Pattern(kLength, 1));
  content.resize(2'999'999);
  const Stamp base = Fill(0, Epoch{7}, content);
  Fill(2, Epoch{5}, Pattern(100'001, 1));
  for (size_t target : {1u, 2u}) {
    const auto result = Sync(target, base, content.size(), {0});
    ASSERT_EQ(result.status().code(), 0u) << result.status().message();
    ExpectContent(target, base, content);
  }
}

TEST_P(SyncTest, ADeadSourceIsPassedOver) {
  const auto content = Pattern(kLength, 1);
  const Stamp base = Fill(0, Epoch{5}, content);
  addresses_[2] = "127.0.0.1:1";
  const auto result = Sync(1, base, kLength, {2, 0});
  ASSERT_EQ(result.status().code(), 0u) << result.status().message();
  ExpectContent(1, base, content);
}

TEST_P(SyncTest, AStaleSourceIsPassedOverAndNamedWhenThereIsNoOther) {
  const auto content = Pattern(kLength, 1);
  Stamp base = Fill(0, Epoch{5}, content);
  Fill(2, Epoch{5}, content);
  base = Write(0, base, 0, Pattern(10, 3));
  const auto failed = Sync(1, base, kLength, {2});
  EXPECT_EQ(failed.status().code(), static_cast<uint32_t>(StatusCode::kStaleReplica))
      << failed.status().message();
  EXPECT_NE(failed.status().message().find("cs3"), std::string::npos) << failed.status().message();
  const auto result = Sync(1, base, kLength, {2, 0});
  EXPECT_EQ(result.status().code(), 0u) << result.status().message();
}

TEST_P(SyncTest, AnotherServerAtTheAddressOfASourceIsNotBelieved) {
  const auto content = Pattern(100'000, 1);
  const Stamp base = Fill(0, Epoch{5}, content);
  addresses_[2] = servers_[0].server->data_address();
  const auto failed = Sync(1, base, content.size(), {2});
  EXPECT_EQ(failed.status().code(), static_cast<uint32_t>(StatusCode::kWrongCluster))
      << failed.status().message();
}

TEST_P(SyncTest, ASyncNeverMovesAReplicaBack) {
  const auto content = Pattern(100'000, 1);
  const Stamp base = Fill(0, Epoch{5}, content);
  Fill(1, Epoch{5}, content);
  const Stamp newer = Write(1, base, 0, Pattern(10, 3));
  const auto refused = Sync(1, base, content.size(), {0});
  EXPECT_EQ(refused.status().code(), static_cast<uint32_t>(StatusCode::kStaleReplica))
      << refused.status().message();
  EXPECT_EQ(refused.info().accepted().seq(), newer.seq);
}

TEST_P(SyncTest, ManySyncsAtOnceAllEnd) {
  std::vector<std::byte> content = Pattern(200'000, 1);
  proto::Command batch;
  for (uint64_t i = 1; i <= 50; ++i) {
    replication::ReplicaInfo info;
    ASSERT_TRUE(
        disks(0).Mutate(WriteRequest(ChunkId{i}, {Epoch{5}, 1}, Stamp{}, 0, content), content, &info).ok());
    auto* command = batch.add_chunks();
    command->set_chunk(i);
    command->mutable_sync()->set_epoch(9);
    command->mutable_sync()->mutable_base()->set_epoch(5);
    command->mutable_sync()->mutable_base()->set_seq(1);
    command->mutable_sync()->set_length(content.size());
    auto* source = command->mutable_sync()->add_sources();
    source->set_server(1);
    source->set_address(servers_[0].server->data_address());
  }
  const auto result = master_->Execute(Id(1), batch);
  ASSERT_EQ(result.results_size(), 50);
  for (const auto& one : result.results()) {
    EXPECT_EQ(one.status().code(), 0u) << one.status().message();
    EXPECT_EQ(one.bytes_transferred(), content.size());
  }
}

INSTANTIATE_TEST_SUITE_P(Stores, SyncTest, testing::Values(StoreKind::kMemory, StoreKind::kLog),
                         [](const auto& param) {
                           return param.param == StoreKind::kMemory ? "Memory" : "Log";
                         });

// Damage needs a disk that can be damaged on purpose.
class DamagedSyncTest : public SyncTest {};

TEST_P(DamagedSyncTest, OnlyTheDamagedRangesAreFetched) {
  const auto content = Pattern(kLength, 1);
  const Stamp base = Fill(0, Epoch{5}, content);
  Fill(1, Epoch{5}, content);
  servers_[1].stores[0]->DamageBlock(kChunk, 100);
  servers_[1].stores[0]->DamageBlock(kChunk, 1900);
  ASSERT_TRUE(disks(1).MarkCorrupt(kChunk, 100 * 4096).ok());
  const auto result = Sync(1, base, kLength, {0});
  ASSERT_EQ(result.status().code(), 0u) << result.status().message();
  EXPECT_EQ(result.bytes_transferred(), 2u * wire::kDigestRangeBytes);
  ExpectContent(1, base, content);
}

// Each carrier has another bad block: together they are whole.
TEST_P(DamagedSyncTest, SourcesWithDifferentDamageTogetherRepairAReplica) {
  const auto content = Pattern(kLength, 1);
  const Stamp base = Fill(0, Epoch{5}, content);
  Fill(2, Epoch{5}, content);
  servers_[0].stores[0]->DamageBlock(kChunk, 100);
  servers_[2].stores[0]->DamageBlock(kChunk, 1900);
  const auto result = Sync(1, base, kLength, {0, 2});
  ASSERT_EQ(result.status().code(), 0u) << result.status().message();
  ExpectContent(1, base, content);
  // What was found on the way was reported.
  EXPECT_EQ(master_->WaitForDamage(Id(0)).chunk(), kChunk.value());
}

TEST_P(DamagedSyncTest, DamageEverywhereIsAnErrorThatNamesTheSources) {
  const auto content = Pattern(kLength, 1);
  const Stamp base = Fill(0, Epoch{5}, content);
  Fill(1, Epoch{5}, content);
  Fill(2, Epoch{5}, content);
  for (auto& server : servers_) server.stores[0]->DamageBlock(kChunk, 100);
  const auto result = Sync(1, base, kLength, {0, 2});
  EXPECT_EQ(result.status().code(), static_cast<uint32_t>(StatusCode::kCorrupt)) << result.status().message();
  EXPECT_NE(result.status().message().find("cs1"), std::string::npos) << result.status().message();
  EXPECT_NE(result.status().message().find("cs3"), std::string::npos) << result.status().message();
}

INSTANTIATE_TEST_SUITE_P(Stores, DamagedSyncTest, testing::Values(StoreKind::kMemory),
                         [](const auto&) { return "Memory"; });

}  // namespace
}  // namespace cairn::chunkserver
