// FileData as a reader, against chunkservers in this process.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <random>
#include <thread>

#include "tests/client/data/fake_cluster.h"

namespace cairn::client {
namespace {

using testing::ClusterOptions;
using testing::FakeCluster;
using ::testing::HasSubstr;
using testing::Pattern;
using wire::MessageType;

constexpr uint64_t kMiB = 1 << 20;
constexpr TimeSpec kNow{.seconds = 1000};

void Store(FakeCluster& cluster, const std::vector<std::byte>& data) {
  auto file = cluster.NewFile();
  cluster.OpenForWriting(*file);
  ASSERT_TRUE(file->Write(0, data, kNow).ok());
  ASSERT_EQ(cluster.Release(*file).ToString(), "ok");
}

TEST(FileDataRead, ASequentialStreamIsReadAheadOnceAndOverAllChunks) {
  FakeCluster cluster;
  const auto data = Pattern(19 * kMiB + 777, 1);
  Store(cluster, data);
  auto file = cluster.NewFile();
  file->AttachRead(data.size(), {});
  std::vector<std::byte> got(data.size());
  for (size_t at = 0; at < data.size(); at += 128 << 10) {
    const size_t n = std::min<size_t>(128 << 10, data.size() - at);
    const Result<size_t> read = file->Read(at, std::span(got).subspan(at, n));
    ASSERT_TRUE(read.ok()) << read.status().ToString();
    ASSERT_EQ(*read, n);
  }
  EXPECT_TRUE(got == data);
  uint64_t sent = 0;
  for (int number = 1; number <= 3; ++number) sent += cluster.server(number).read_bytes();
  EXPECT_LE(sent, data.size() + kMiB / 4);                  // nothing twice
  EXPECT_LE(cluster.requests(MessageType::kRead), 19 + 8);  // a mebibyte at a time
  EXPECT_LE(cluster.master().layouts(), 2);
}

TEST(FileDataRead, RandomSeeksWithStretchesOfSequentialReadsAreCorrect) {
  FakeCluster cluster;
  const auto data = Pattern(13 * kMiB + 5, 2);
  Store(cluster, data);
  auto file = cluster.NewFile();
  file->AttachRead(data.size(), {});
  std::mt19937_64 random(3);
  for (int i = 0; i < 150; ++i) {
    uint64_t at = random() % data.size();
    const int stretch = random() % 3 == 0 ? 12 : 1;
    for (int j = 0; j < stretch && at < data.size(); ++j) {
      const uint64_t n = 1 + random() % 200'000;
      std::vector<std::byte> got(n);
      const Result<size_t> read = file->Read(at, got);
      ASSERT_TRUE(read.ok()) << read.status().ToString();
      ASSERT_EQ(*read, std::min<uint64_t>(n, data.size() - at));
      ASSERT_TRUE(std::equal(got.begin(), got.begin() + static_cast<ptrdiff_t>(*read),
                             data.begin() + static_cast<ptrdiff_t>(at)));
      at += n;
    }
  }
  EXPECT_LE(cluster.clean().used_bytes(), 16 * kMiB);
  file->Detach();
  EXPECT_EQ(cluster.clean().used_bytes(), 0u);
}

TEST(FileDataRead, ARandomBlockCostsOneRequestOfThatBlock) {
  FakeCluster cluster;
  const auto data = Pattern(4 * kMiB, 4);
  Store(cluster, data);
  auto file = cluster.NewFile();
  file->AttachRead(data.size(), cluster.master().Chunks());
  std::vector<std::byte> got(4096);
  for (uint64_t block : {900, 17, 333, 501}) {
    ASSERT_TRUE(file->Read(block * 4096, got).ok());
    EXPECT_TRUE(std::equal(got.begin(), got.end(), data.begin() + static_cast<ptrdiff_t>(block * 4096)));
  }
  EXPECT_EQ(cluster.requests(MessageType::kRead), 4);
  uint64_t sent = 0;
  for (int number = 1; number <= 3; ++number) sent += cluster.server(number).read_bytes();
  EXPECT_EQ(sent, 4 * 4096u);
  EXPECT_EQ(cluster.master().layouts(), 0);
}

size_t AllConnections(FakeCluster& cluster) {
  return cluster.server(1).connections() + cluster.server(2).connections() + cluster.server(3).connections();
}

// Connections of the caller's threads beside those of the event loop show who carried a read out.
TEST(FileDataRead, ASmallReadIsCarriedOutByItsCaller) {
  FakeCluster cluster;
  const auto data = Pattern(4 * kMiB, 5);
  Store(cluster, data);
  const size_t before = AllConnections(cluster);
  auto file = cluster.NewFile();
  file->AttachRead(data.size(), cluster.master().Chunks());
  std::vector<std::byte> large(300'000), small(4096);
  ASSERT_TRUE(file->Read(1'000'000, large).ok());
  EXPECT_EQ(AllConnections(cluster), before);
  for (const uint64_t at : {3'000'000, 17, 2'222'222}) {
    const Result<size_t> read = file->Read(at, small);
    ASSERT_TRUE(read.ok());
    ASSERT_EQ(*read, small.size());
    EXPECT_TRUE(std::equal(small.begin(), small.end(), data.begin() + static_cast<ptrdiff_t>(at)));
  }
  EXPECT_EQ(AllConnections(cluster), before + 1);  // always the same carrier of one chunk
  EXPECT_EQ(cluster.requests(MessageType::kRead), 4);
}

TEST(FileDataRead, AfterASmallReadThatWasNotAnsweredOthersAreAsked) {
  FakeCluster cluster;
  const auto data = Pattern(2 * kMiB, 6);
  Store(cluster, data);
  auto file = cluster.NewFile();
  file->AttachRead(data.size(), cluster.master().Chunks());
  std::vector<std::byte> got(4096);
  ASSERT_TRUE(file->Read(8192, got).ok());
  int carrier = 1;
  while (cluster.server(carrier).requests()[MessageType::kRead] == 0) ++carrier;
  cluster.server(carrier).Hold();
  for (const uint64_t at : {900'000, 100'000, 1'500'000}) {
    ASSERT_TRUE(file->Read(at, got).ok());
    EXPECT_TRUE(std::equal(got.begin(), got.end(), data.begin() + static_cast<ptrdiff_t>(at)));
  }
  EXPECT_EQ(cluster.server(carrier).requests()[MessageType::kRead], 2) << "it was asked again while it is suspect";
  cluster.server(carrier).Release();
}

TEST(FileDataRead, HolesAndWhatLiesBeyondAChunksLengthAreZeros) {
  FakeCluster cluster;
  auto file = cluster.NewFile();
  cluster.OpenForWriting(*file);
  ASSERT_TRUE(file->Write(100, Pattern(50, 5), kNow).ok());
  ASSERT_TRUE(file->Write(9 * kMiB, Pattern(50, 6), kNow).ok());
  ASSERT_TRUE(file->Truncate(20 * kMiB, kNow).ok());
  ASSERT_EQ(cluster.Release(*file).ToString(), "ok");
  file->AttachRead(20 * kMiB, {});
  std::vector<std::byte> got(20 * kMiB + 100, std::byte{0xFF});
  const Result<size_t> read = file->Read(0, got);
  ASSERT_TRUE(read.ok());
  EXPECT_EQ(*read, 20 * kMiB);
  std::vector<std::byte> expected(20 * kMiB);
  const auto first = Pattern(50, 5), second = Pattern(50, 6);
  std::copy(first.begin(), first.end(), expected.begin() + 100);
  std::copy(second.begin(), second.end(), expected.begin() + static_cast<ptrdiff_t>(9 * kMiB));
  got.resize(20 * kMiB);
  EXPECT_TRUE(got == expected);
}

TEST(FileDataRead, ACorruptReplicaIsSkippedAndReported) {
  FakeCluster cluster;
  const auto data = Pattern(kMiB, 7);
  Store(cluster, data);
  const ChunkId chunk = cluster.master().Chunk(0).chunk;
  cluster.server(1).Corrupt(chunk, 5000);
  cluster.server(2).Corrupt(chunk, 5001);
  auto file = cluster.NewFile();
  file->AttachRead(data.size(), {});
  std::vector<std::byte> got(data.size());
  for (int i = 0; i < 20; ++i) {  // whichever is asked first
    ASSERT_TRUE(file->Read(0, got).ok());
    ASSERT_TRUE(got == data);
  }
  EXPECT_GE(cluster.counters().corrupt_replies, 1u);
  EXPECT_TRUE(FakeCluster::Eventually([&] {
    for (const MemberFailure& failure : cluster.master().Reports()) {
      if (failure.status.code() == StatusCode::kCorrupt) return true;
    }
    return false;
  }));
}

TEST(FileDataRead, WhenNoReplicaIsGoodTheErrorNamesThemAll) {
  FakeCluster cluster({.data = testing::ShortTimeouts()});
  const auto data = Pattern(8192, 8);
  Store(cluster, data);
  const ChunkId chunk = cluster.master().Chunk(0).chunk;
  for (int number = 1; number <= 3; ++number) cluster.server(number).Corrupt(chunk, 100);
  auto file = cluster.NewFile();
  file->AttachRead(data.size(), {});
  std::vector<std::byte> got(data.size());
  const Result<size_t> read = file->Read(0, got);
  EXPECT_EQ(read.code(), StatusCode::kDamaged);
  // It is tried again ten times a second, not as fast as the answers come.
  EXPECT_LE(cluster.master().layouts(), 600 / 100 + 2);
  for (const char* name : {"cs1", "cs2", "cs3"}) EXPECT_THAT(read.status().message(), HasSubstr(name));
  // The other block is not affected.
  std::vector<std::byte> block(4096);
  EXPECT_TRUE(file->Read(4096, block).ok());
}

TEST(FileDataRead, TheLastCarrierServesAndWithoutAnyTheReadIsRefused) {
  ClusterOptions options;
  options.data = testing::ShortTimeouts();
  FakeCluster cluster(options);
  const auto data = Pattern(100'000, 9);
  Store(cluster, data);
  cluster.Kill(1);
  cluster.Kill(3);
  auto file = cluster.NewFile();
  file->AttachRead(data.size(), {});
  std::vector<std::byte> got(data.size());
  ASSERT_TRUE(file->Read(0, got).ok());
  EXPECT_TRUE(got == data);
  cluster.Kill(2);
  const Result<size_t> read = file->Read(0, got);
  EXPECT_EQ(read.code(), StatusCode::kNoQuorum);
  EXPECT_THAT(read.status().message(), HasSubstr("cs2"));
  cluster.Restart(3);
  EXPECT_TRUE(FakeCluster::Eventually([&] { return file->Read(0, got).ok(); }));
}

TEST(FileDataRead, AReaderWaitsForARestartWithinItsTime) {
  ClusterOptions options;
  options.data.read_timeout_ms = 60'000;
  FakeCluster cluster(options);
  const auto data = Pattern(100'000, 10);
  Store(cluster, data);
  for (int number = 1; number <= 3; ++number) cluster.Kill(number);
  auto file = cluster.NewFile();
  file->AttachRead(data.size(), {});
  std::vector<std::byte> got(data.size());
  std::atomic<bool> finished{false};
  std::thread reader([&] {
    const Result<size_t> read = file->Read(0, got);
    EXPECT_TRUE(read.ok()) << read.status().ToString();
    finished = true;
  });
  EXPECT_TRUE(FakeCluster::Eventually([&] { return cluster.counters().read_failovers >= 3; }));
  EXPECT_FALSE(finished);
  cluster.Restart(2);
  reader.join();
  EXPECT_TRUE(got == data);
}

TEST(FileDataRead, ASlowCarrierIsHedged) {
  FakeCluster cluster;
  const auto data = Pattern(100'000, 11);
  Store(cluster, data);
  for (int number : {1, 2}) cluster.server(number).Hold();
  auto file = cluster.NewFile();
  file->AttachRead(data.size(), {});
  std::vector<std::byte> got(data.size());
  // Reads until a held server was the first choice of one of them: then only the hedge could have answered.
  for (uint64_t at = 0; at < 3; ++at) {
    const Result<size_t> read = file->Read(at, got);
    ASSERT_TRUE(read.ok()) << read.status().ToString();
    EXPECT_TRUE(std::equal(got.begin(), got.begin() + static_cast<ptrdiff_t>(*read),
                           data.begin() + static_cast<ptrdiff_t>(at)));
  }
  const bool asked_a_held_one = cluster.server(1).held() + cluster.server(2).held() > 0;
  EXPECT_EQ(cluster.counters().hedged_reads > 0, asked_a_held_one);
}

// One that is slow costs one hedge, not one for each file.
TEST(FileDataRead, AServerThatWasOvertakenIsAskedLastByAllFiles) {
  FakeCluster cluster;
  const auto data = Pattern(2 * kMiB, 12);
  Store(cluster, data);
  std::vector<std::byte> large(300'000), small(4096);
  const auto read = [&](std::vector<std::byte>& out) {
    auto file = cluster.NewFile();
    file->AttachRead(data.size(), cluster.master().Chunks());
    const Result<size_t> got = file->Read(4096, out);
    ASSERT_TRUE(got.ok()) << got.status().ToString();
    EXPECT_TRUE(std::equal(out.begin(), out.end(), data.begin() + 4096));
  };
  read(large);
  int carrier = 1;
  while (cluster.server(carrier).requests()[MessageType::kRead] == 0) ++carrier;
  const auto asked = [&] { return cluster.server(carrier).requests()[MessageType::kRead]; };
  cluster.server(carrier).Hold();
  read(large);
  EXPECT_EQ(asked(), 2);
  EXPECT_EQ(cluster.counters().hedged_reads, 1u);
  for (int i = 0; i < 5; ++i) {
    read(large);
    read(small);
  }
  EXPECT_EQ(asked(), 2);
  cluster.server(carrier).Release();
}

TEST(FileDataRead, MovedReplicasAreFoundThroughANewLayout) {
  FakeCluster cluster({.servers = 4});
  const auto data = Pattern(100'000, 12);
  Store(cluster, data);
  auto file = cluster.NewFile();
  file->AttachRead(data.size(), cluster.master().Chunks());
  // Repair changes the configuration: every replica gets a new stamp.
  cluster.Kill(1);
  const ChunkPlace before = cluster.master().Chunk(0);
  Result<ChunkPlace> after =
      cluster.master().ChunkTrouble(InodeId(7), before.chunk, before.config.epoch, {}, true);
  ASSERT_TRUE(after.ok());
  PendingCommit commit;
  commit.seals.push_back({.chunk = before.chunk,
                          .stamp = {after->config.epoch, after->config.base.seq},
                          .length = before.length,
                          .carriers = after->config.members});
  cluster.master().Apply(commit);
  std::vector<std::byte> got(data.size());
  const Result<size_t> read = file->Read(0, got);
  ASSERT_TRUE(read.ok()) << read.status().ToString();
  EXPECT_TRUE(got == data);
}

TEST(FileDataRead, TheWriterReadsItsOwnBytesWhereverTheyAre) {
  FakeCluster cluster;
  auto model = Pattern(2 * kMiB, 13);
  Store(cluster, model);
  auto file = cluster.NewFile();
  cluster.OpenForWriting(*file, model.size());
  const auto expect_all = [&] {
    std::vector<std::byte> got(model.size());
    const Result<size_t> read = file->Read(0, got);
    ASSERT_TRUE(read.ok()) << read.status().ToString();
    EXPECT_TRUE(got == model);
  };
  const auto write = [&](uint64_t offset, size_t length, uint32_t seed) {
    const auto data = Pattern(length, seed);
    ASSERT_TRUE(file->Write(offset, data, kNow).ok());
    std::copy(data.begin(), data.end(), model.begin() + static_cast<ptrdiff_t>(offset));
  };
  expect_all();             // sealed, nothing written
  write(10'000, 5000, 14);  // buffered over sealed
  expect_all();
  ASSERT_EQ(file->Flush().ToString(), "ok");
  expect_all();  // open, on the replicas
  write(12'000, 70'000, 15);
  ASSERT_TRUE(file->Zero(100, 15'000, kNow).ok());
  std::fill(model.begin() + 100, model.begin() + 15'100, std::byte{0});
  expect_all();  // in flight over open
  ASSERT_EQ(cluster.Release(*file).ToString(), "ok");
  file->AttachRead(model.size(), {});
  expect_all();
}

TEST(FileDataRead, AReadBehindTheFirstMutationOfAnOldChunkWaitsForIt) {
  FakeCluster cluster;
  auto model = Pattern(kMiB, 16);
  Store(cluster, model);
  auto file = cluster.NewFile();
  cluster.OpenForWriting(*file, model.size());
  for (int number = 1; number <= 3; ++number) cluster.server(number).Hold();
  const auto data = Pattern(4096, 17);
  ASSERT_TRUE(file->Write(0, data, kNow).ok());
  std::copy(data.begin(), data.end(), model.begin());
  EXPECT_TRUE(FakeCluster::Eventually([&] { return cluster.server(2).held() > 0; }));
  std::atomic<bool> finished{false};
  std::vector<std::byte> got(model.size());
  std::thread reader([&] {
    const Result<size_t> read = file->Read(0, got);
    EXPECT_TRUE(read.ok()) << read.status().ToString();
    finished = true;
  });
  // What is buffered needs nobody.
  std::vector<std::byte> own(4096);
  ASSERT_TRUE(file->Read(0, own).ok());
  EXPECT_EQ(own, data);
  EXPECT_FALSE(finished);
  for (int number = 1; number <= 3; ++number) cluster.server(number).Release();
  reader.join();
  EXPECT_TRUE(got == model);
}

}  // namespace
}  // namespace cairn::client
