// Chunks that are closed while the lease stays, and written again.
#include <gtest/gtest.h>

#include "tests/client/data/fake_cluster.h"

namespace cairn::client {
namespace {

using testing::FakeCluster;
using testing::Pattern;
using wire::MessageType;

constexpr TimeSpec kNow{.seconds = 1000};

std::vector<std::byte> ReadAll(FileData& file, size_t bytes) {
  std::vector<std::byte> data(bytes);
  const Result<size_t> got = file.Read(0, data);
  EXPECT_TRUE(got.ok()) << got.status().ToString();
  EXPECT_EQ(got.ok() ? *got : 0, bytes);
  return data;
}

int SealedReplicas(FakeCluster& cluster, ChunkId chunk, Stamp stamp) {
  int sealed = 0;
  for (int number = 1; number <= 3; ++number) {
    const auto replica = cluster.server(number).Find(chunk);
    sealed += replica && replica->state.sealed == stamp.epoch && replica->state.accepted == stamp;
  }
  return sealed;
}

TEST(FileDataSeal, AnIdleChunkIsSealedUnderTheLeaseAndWrittenAgainInAFreshEpoch) {
  FakeCluster cluster;
  auto file = cluster.NewFile();
  cluster.OpenForWriting(*file);
  std::vector<std::byte> data = Pattern(10'000, 1);
  ASSERT_TRUE(file->Write(0, data, kNow).ok());
  EXPECT_FALSE(file->SealIdle(3'600'000).closed) << "it was written to a moment ago";
  ASSERT_TRUE(file->Flush().ok());
  EXPECT_FALSE(file->SealIdle(3'600'000).closed);
  EXPECT_EQ(cluster.requests(MessageType::kSeal), 0);
  ASSERT_TRUE(FakeCluster::Eventually([&] { return file->SealIdle(0).closed; }));
  EXPECT_TRUE(file->SealIdle(0).to_tell);
  const ChunkPlace first = cluster.master().Chunk(0);
  EXPECT_FALSE(first.sealed.epoch) << "the master was not told yet";
  EXPECT_GE(SealedReplicas(cluster, first.chunk, {first.config.epoch, 1}), 2);
  EXPECT_EQ(ReadAll(*file, data.size()), data);

  // The next write opens it again: the seal is told first, or the master could not know that the old epoch is over.
  const std::vector<std::byte> more = Pattern(5'000, 2);
  ASSERT_TRUE(file->Write(8'000, more, kNow).ok());
  data.resize(13'000);
  std::copy(more.begin(), more.end(), data.begin() + 8'000);
  EXPECT_EQ(ReadAll(*file, data.size()), data) << "before it is opened again";
  const Status flushed = file->Flush();
  ASSERT_TRUE(flushed.ok()) << flushed.ToString();
  const ChunkPlace again = cluster.master().Chunk(0);
  EXPECT_EQ(again.sealed, Stamp(first.config.epoch, 1));
  EXPECT_GT(again.config.epoch, first.config.epoch);
  EXPECT_EQ(again.config.base, again.sealed);
  EXPECT_EQ(ReadAll(*file, data.size()), data);
  ASSERT_TRUE(cluster.Release(*file).ok());
  const ChunkPlace last = cluster.master().Chunk(0);
  EXPECT_EQ(last.sealed, Stamp(again.config.epoch, 2));
  EXPECT_EQ(last.length, data.size());
  file->AttachRead(data.size(), {});
  EXPECT_EQ(ReadAll(*file, data.size()), data);
  EXPECT_EQ(cluster.counters().dropped_members, 0u);
}

TEST(FileDataSeal, WhatIsWrittenWhileTheSealIsUnderWayIsNotLost) {
  FakeCluster cluster;
  auto file = cluster.NewFile();
  cluster.OpenForWriting(*file);
  ASSERT_TRUE(file->Write(0, Pattern(4096, 3), kNow).ok());
  ASSERT_TRUE(file->Flush().ok());
  for (int number : {1, 2, 3}) cluster.server(number).Hold();
  EXPECT_FALSE(file->SealIdle(0).closed);
  const std::vector<std::byte> late = Pattern(6000, 4);
  ASSERT_TRUE(file->Write(0, late, kNow).ok());
  EXPECT_EQ(ReadAll(*file, late.size()), late);
  ASSERT_TRUE(FakeCluster::Eventually([&] { return cluster.requests(MessageType::kSeal) >= 2; }));
  for (int number : {1, 2, 3}) cluster.server(number).Release();
  const Status flushed = file->Flush();
  ASSERT_TRUE(flushed.ok()) << flushed.ToString();
  EXPECT_EQ(cluster.master().Chunk(0).length, 4096u) << "the seal is of what was there before";
  ASSERT_TRUE(cluster.Release(*file).ok());
  EXPECT_EQ(cluster.master().Chunk(0).length, late.size());
  file->AttachRead(late.size(), {});
  EXPECT_EQ(ReadAll(*file, late.size()), late);
}

TEST(FileDataSeal, GivingTheLeaseBackDuringASealWritesWhatCameMeanwhile) {
  FakeCluster cluster;
  auto file = cluster.NewFile();
  cluster.OpenForWriting(*file);
  ASSERT_TRUE(file->Write(0, Pattern(4096, 5), kNow).ok());
  ASSERT_TRUE(file->Flush().ok());
  for (int number : {1, 2, 3}) cluster.server(number).Hold();
  EXPECT_FALSE(file->SealIdle(0).closed);
  const std::vector<std::byte> late = Pattern(4096, 6);
  ASSERT_TRUE(file->Write(0, late, kNow).ok());
  std::thread release([&] {
    EXPECT_TRUE(FakeCluster::Eventually([&] { return cluster.requests(MessageType::kSeal) >= 2; }));
    for (int number : {1, 2, 3}) cluster.server(number).Release();
  });
  const Status released = cluster.Release(*file);
  release.join();
  ASSERT_TRUE(released.ok()) << released.ToString();
  file->AttachRead(late.size(), {});
  EXPECT_EQ(ReadAll(*file, late.size()), late);
}

TEST(FileDataSeal, AnAnnouncedChunkIsReadBeforeItsFirstWrite) {
  FakeCluster cluster;
  auto file = cluster.NewFile();
  cluster.OpenForWriting(*file);
  const std::vector<std::byte> data = Pattern(9000, 7);
  ASSERT_TRUE(file->Write(0, data, kNow).ok());
  ASSERT_TRUE(cluster.Release(*file).ok());
  // As a write lease on a small file is granted: its chunk is opened with it.
  const Epoch lease = cluster.master().NewLease();
  auto places = cluster.master().Announce(InodeId(7), lease, 0, 1, {});
  ASSERT_TRUE(places.ok());
  file->AttachWrite(lease, data.size(), *places);
  EXPECT_EQ(ReadAll(*file, data.size()), data);
}

TEST(FileDataSeal, SealsOfManyFilesShareARequest) {
  FakeCluster cluster;
  std::vector<std::unique_ptr<FileData>> files;
  for (int i = 0; i < 5; ++i) {
    files.push_back(cluster.NewFile());
    files.back()->AttachWrite(cluster.master().NewLease(), 0,
                              *cluster.master().Announce(InodeId(7), Epoch(1), static_cast<uint64_t>(i), 1, {}));
  }
  // One chunk each, of a file of its own as far as the data path is concerned.
  for (size_t i = 0; i < files.size(); ++i) {
    ASSERT_TRUE(files[i]->Write(i << 22, Pattern(100, 8), kNow).ok());
    ASSERT_TRUE(files[i]->Flush().ok());
  }
  {
    const SealGatherer::Hold hold(&cluster.seals());
    for (auto& file : files) EXPECT_FALSE(file->SealIdle(0).closed);
    EXPECT_EQ(cluster.requests(MessageType::kSeal), 0);
  }
  for (auto& file : files) EXPECT_TRUE(FakeCluster::Eventually([&] { return file->SealIdle(0).closed; }));
  // One for each server; a member beyond the quorum that is late with its mutation gets its seal behind that.
  EXPECT_LE(cluster.requests(MessageType::kSeal), 3 + static_cast<int>(files.size()));
}

// What fsync has to cover may be a sealed chunk that another thread opens again while the disks are waited for.
TEST(FileDataSeal, ASyncCoversASealedChunkThatIsOpenedAgainMeanwhile) {
  FakeCluster cluster({.data = testing::ShortTimeouts()});
  auto file = cluster.NewFile();
  cluster.OpenForWriting(*file);
  ASSERT_TRUE(file->Write(0, Pattern(4096, 10), kNow).ok());
  ASSERT_TRUE(file->Flush().ok());
  ASSERT_TRUE(FakeCluster::Eventually([&] { return file->SealIdle(0).closed; }));
  const ChunkPlace before = cluster.master().Chunk(0);
  const auto durable = [&] {
    int count = 0;
    for (int number : {1, 2, 3}) {
      const auto replica = cluster.server(number).Find(before.chunk);
      count += replica && replica->durable >= Stamp(before.config.epoch, 1);
    }
    return count;
  };
  for (int number : {1, 2, 3})
    cluster.server(number).Refuse(MessageType::kFlush, Status(StatusCode::kUnavailable, "the disk is busy"));
  Status synced;
  int durable_then = 0;
  std::thread sync([&] {
    synced = file->FlushDurable();
    durable_then = durable();
  });
  EXPECT_TRUE(FakeCluster::Eventually([&] { return cluster.requests(MessageType::kFlush) >= 2; }));
  EXPECT_TRUE(file->Write(4096, Pattern(1000, 11), kNow).ok());
  sync.join();
  if (synced.ok()) {
    EXPECT_GE(durable_then, 2) << "it said so without a disk";
  }
  for (int number : {1, 2, 3}) cluster.server(number).Refuse(MessageType::kFlush, Status::Ok());
  EXPECT_TRUE(FakeCluster::Eventually([&] { return file->FlushDurable().ok(); }));
  EXPECT_GE(durable(), 2);
}

TEST(FileDataSeal, ASealWithoutAQuorumNamesThoseWhoDidNotConfirmIt) {
  FakeCluster cluster({.data = testing::ShortTimeouts()});
  auto file = cluster.NewFile();
  cluster.OpenForWriting(*file);
  ASSERT_TRUE(file->Write(0, Pattern(100, 9), kNow).ok());
  ASSERT_TRUE(file->Flush().ok());
  for (int number : {1, 2, 3}) cluster.server(number).Hold();
  const auto sealed = file->FlushAndSeal(nullptr);
  ASSERT_FALSE(sealed.ok());
  EXPECT_NE(sealed.status().message().find("0 of the 2 confirmations"), std::string::npos) << sealed.status().message();
}

}  // namespace
}  // namespace cairn::client
