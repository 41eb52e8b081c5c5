// FileData as a writer, against chunkservers in this process.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <random>
#include <thread>

#include "client/client.h"
#include "tests/client/data/fake_cluster.h"

namespace cairn::client {
namespace {

using testing::ClusterOptions;
using testing::FakeCluster;
using testing::FakeReplica;
using ::testing::HasSubstr;
using testing::Pattern;
using wire::MessageType;

constexpr uint64_t kMiB = 1 << 20;
constexpr TimeSpec kNow{.seconds = 1000};

// The bytes of the whole file as a new reader sees them after the lease was given back.
std::vector<std::byte> ReadBack(FakeCluster& cluster, uint64_t size) {
  auto file = cluster.NewFile();
  file->AttachRead(size, {});
  std::vector<std::byte> bytes(size);
  const Result<size_t> read = file->Read(0, bytes);
  EXPECT_TRUE(read.ok()) << read.status().ToString();
  EXPECT_EQ(*read, size);
  return bytes;
}

TEST(FileDataWrite, SequentialWritesOverSeveralChunksArriveOnAllReplicas) {
  FakeCluster cluster;
  auto file = cluster.NewFile();
  cluster.OpenForWriting(*file);
  const auto data = Pattern(11 * kMiB + 12345, 1);
  for (size_t at = 0; at < data.size(); at += 100'000) {
    const size_t n = std::min<size_t>(100'000, data.size() - at);
    ASSERT_TRUE(file->Write(at, std::span(data).subspan(at, n), kNow).ok());
  }
  EXPECT_EQ(file->Size(), data.size());
  ASSERT_EQ(file->Flush().ToString(), "ok");
  EXPECT_EQ(file->DirtyBytes(), 0u);
  Result<PendingCommit> commit = file->FlushAndSeal(nullptr);
  ASSERT_TRUE(commit.ok()) << commit.status().ToString();
  EXPECT_EQ(commit->size, data.size());
  EXPECT_EQ(commit->mtime, kNow);
  cluster.master().Apply(*commit);
  file->Detach();
  EXPECT_TRUE(ReadBack(cluster, data.size()) == data);
  for (const SealedChunk& seal : commit->seals) {
    if (!seal.never_begun) {
      EXPECT_EQ(seal.carriers.size(), 3u);
    }
  }
  // Mutations of a stream have the largest size: 12 pieces, three times.
  EXPECT_EQ(cluster.counters().mutations, 12u);
  EXPECT_EQ(cluster.requests(MessageType::kMutate), 36);
  EXPECT_EQ(cluster.dirty().used_bytes(), 0u);
}

TEST(FileDataWrite, ASmallFileCostsOneMutationAndOneSealPerReplica) {
  FakeCluster cluster;
  auto file = cluster.NewFile();
  cluster.OpenForWriting(*file);
  const auto data = Pattern(5000, 2);
  for (size_t at = 0; at < data.size(); at += 100) {
    ASSERT_TRUE(file->Write(at, std::span(data).subspan(at, 100), kNow).ok());
  }
  ASSERT_EQ(file->Flush().ToString(), "ok");
  EXPECT_GE(cluster.requests(MessageType::kMutate), 2);  // the quorum has it
  ASSERT_EQ(cluster.Release(*file).ToString(), "ok");
  EXPECT_EQ(cluster.requests(MessageType::kMutate), 3);
  EXPECT_EQ(cluster.requests(MessageType::kSeal), 3);
  EXPECT_EQ(cluster.master().announces(), 1);
  EXPECT_TRUE(ReadBack(cluster, data.size()) == data);
  EXPECT_EQ(cluster.requests(MessageType::kRead), 1);
}

TEST(FileDataWrite, DataLeavesByItselfAfterAShortIdle) {
  FakeCluster cluster;
  auto file = cluster.NewFile();
  cluster.OpenForWriting(*file);
  ASSERT_TRUE(file->Write(0, Pattern(3000, 3), kNow).ok());
  EXPECT_TRUE(FakeCluster::Eventually([&] { return file->DirtyBytes() == 0; }));
  EXPECT_TRUE(FakeCluster::Eventually([&] { return cluster.requests(MessageType::kMutate) == 3; }));
}

TEST(FileDataWrite, OverwritesOfBufferedBytesMergeInMemory) {
  FakeCluster cluster;
  auto file = cluster.NewFile();
  cluster.OpenForWriting(*file);
  auto data = Pattern(4096, 4);
  for (int i = 0; i < 50; ++i) {
    data = Pattern(4096, 100 + static_cast<uint32_t>(i));
    ASSERT_TRUE(file->Write(0, data, kNow).ok());
  }
  ASSERT_EQ(cluster.Release(*file).ToString(), "ok");
  EXPECT_LE(cluster.counters().mutations, 3u);  // one, unless the idle flush came in between
  EXPECT_TRUE(ReadBack(cluster, 4096) == data);
}

// Random writes, zeroings, truncations, flushes, lease changes and reads against a plain vector.
class FileDataModel : public ::testing::TestWithParam<std::tuple<int, uint64_t>> {};

TEST_P(FileDataModel, AgreesWithAPlainVector) {
  const auto [seed, chunk_bytes] = GetParam();
  std::mt19937_64 random(static_cast<uint64_t>(seed));
  FakeCluster cluster({.chunk_bytes = chunk_bytes});
  auto file = cluster.NewFile();
  cluster.OpenForWriting(*file);
  std::vector<std::byte> model;
  const uint64_t limit = 3 * chunk_bytes + 100'000;
  for (int step = 0; step < 250; ++step) {
    const uint64_t offset = random() % limit;
    const uint64_t most = random() % 4 == 0 ? 300'000 : 9'000;
    const uint64_t length = std::min(limit - offset, 1 + random() % most);
    switch (random() % 16) {
      case 0:
        ASSERT_EQ(file->Flush().ToString(), "ok");
        break;
      case 1:
        ASSERT_TRUE(file->FlushDurable().ok());
        break;
      case 2: {  // give the lease back, take a new one
        ASSERT_EQ(cluster.Release(*file).ToString(), "ok");
        if (random() % 2 == 0) file = cluster.NewFile();
        cluster.OpenForWriting(*file, model.size());
        break;
      }
      case 3: {
        const uint64_t size = random() % limit;
        const Result<uint64_t> seq = file->TruncationSeq(size);
        ASSERT_TRUE(seq.ok());
        if (random() % 8 == 0) {  // refused by the master
          file->CancelTruncation();
          break;
        }
        if (size < model.size()) cluster.master().Shrink(size, chunk_bytes);
        ASSERT_TRUE(file->Truncate(size, kNow).ok());
        model.resize(size);
        break;
      }
      case 4:
        ASSERT_TRUE(file->Zero(offset, length, kNow).ok());
        for (uint64_t i = offset; i < std::min<uint64_t>(offset + length, model.size()); ++i)
          model[i] = std::byte{0};
        break;
      case 5:
      case 6:
      case 7:
      case 8: {
        std::vector<std::byte> got(length);
        const Result<size_t> read = file->Read(offset, got);
        ASSERT_TRUE(read.ok()) << read.status().ToString();
        const size_t expected = offset >= model.size() ? 0 : std::min<size_t>(length, model.size() - offset);
        ASSERT_EQ(*read, expected);
        for (size_t i = 0; i < expected; ++i) {
          ASSERT_EQ(got[i], model[offset + i]) << "step " << step << " byte " << offset + i;
        }
        break;
      }
      default: {
        const auto data = Pattern(length, static_cast<uint32_t>(random()));
        ASSERT_TRUE(file->Write(offset, data, kNow).ok());
        if (model.size() < offset + length) model.resize(offset + length);
        std::copy(data.begin(), data.end(), model.begin() + static_cast<ptrdiff_t>(offset));
      }
    }
    ASSERT_EQ(file->Size(), model.size());
  }
  ASSERT_EQ(cluster.Release(*file).ToString(), "ok");
  if (!model.empty()) {
    EXPECT_TRUE(ReadBack(cluster, model.size()) == model);
  }
  EXPECT_EQ(cluster.dirty().used_bytes(), 0u);
  file.reset();
  EXPECT_EQ(cluster.clean().used_bytes(), 0u);
  for (int number = 1; number <= 3; ++number) EXPECT_EQ(cluster.server(number).bad_checksums(), 0u);
}

INSTANTIATE_TEST_SUITE_P(Seeds, FileDataModel,
                         ::testing::Combine(::testing::Range(0, 8), ::testing::Values(64 << 10, 1 << 20)));

TEST(FileDataWrite, AKilledServerCostsNothingWhileTheQuorumStands) {
  FakeCluster cluster;
  auto file = cluster.NewFile();
  cluster.OpenForWriting(*file);
  const auto data = Pattern(8 * kMiB, 5);
  for (size_t at = 0; at < data.size(); at += kMiB / 2) {
    if (at == 3 * kMiB) cluster.Kill(2);
    ASSERT_TRUE(file->Write(at, std::span(data).subspan(at, kMiB / 2), kNow).ok());
  }
  ASSERT_EQ(file->Flush().ToString(), "ok");
  ASSERT_EQ(cluster.Release(*file).ToString(), "ok");
  EXPECT_EQ(cluster.counters().reconfigurations, 0u);
  EXPECT_TRUE(ReadBack(cluster, data.size()) == data);
  // The master learns from the carriers who missed what.
  const ChunkPlace last = cluster.master().Chunk(1);
  EXPECT_EQ(last.carriers.size(), 2u);
  EXPECT_EQ(std::count(last.carriers.begin(), last.carriers.end(), ServerId(2)), 0);
}

TEST(FileDataWrite, BelowTheQuorumTheErrorNamesWhoDidNotConfirmAndTheDataArrivesLater) {
  FakeCluster cluster({.data = testing::ShortTimeouts()});
  auto file = cluster.NewFile();
  cluster.OpenForWriting(*file);
  const auto data = Pattern(200'000, 6);
  ASSERT_TRUE(file->Write(0, std::span(data).first(100'000), kNow).ok());
  ASSERT_EQ(file->Flush().ToString(), "ok");
  cluster.Kill(1);
  cluster.Kill(3);
  ASSERT_TRUE(file->Write(100'000, std::span(data).subspan(100'000), kNow).ok());
  const Status refused = file->Flush();
  EXPECT_EQ(refused.code(), StatusCode::kNoQuorum);
  EXPECT_THAT(refused.message(), HasSubstr("write refused: 1 of the 2 confirmations required"));
  EXPECT_THAT(refused.message(), HasSubstr("cs1"));
  EXPECT_THAT(refused.message(), HasSubstr("cs3"));
  EXPECT_EQ(file->LastWriteError().number, 1u);
  EXPECT_EQ(file->LastWriteError().status.code(), StatusCode::kNoQuorum);
  // More is not taken while the file cannot be written.
  EXPECT_EQ(file->Write(200'000, data, kNow).code(), StatusCode::kNoQuorum);
  cluster.Restart(1);
  EXPECT_TRUE(FakeCluster::Eventually([&] { return file->Flush().ok(); }));
  ASSERT_EQ(cluster.Release(*file).ToString(), "ok");
  EXPECT_GE(cluster.counters().reconfigurations, 1u);
  EXPECT_TRUE(ReadBack(cluster, data.size()) == data);
}

TEST(FileDataWrite, TheMasterIsNotToldOfALengthThatNoQuorumHas) {
  FakeCluster cluster;
  auto file = cluster.NewFile();
  cluster.OpenForWriting(*file);
  ASSERT_TRUE(file->Write(0, Pattern(1000, 1), kNow).ok());
  ASSERT_EQ(file->Flush().ToString(), "ok");
  for (int number = 1; number <= 3; ++number) cluster.server(number).Hold();
  ASSERT_TRUE(file->Write(1000, Pattern(1000, 2), kNow).ok());
  PendingCommit commit = file->TakeCommit();
  EXPECT_EQ(commit.size, 1000u);
  EXPECT_EQ(file->TakeCommit().size, std::nullopt);
  file->RestoreCommit(std::move(commit));
  EXPECT_EQ(file->TakeCommit().size, 1000u);
  for (int number = 1; number <= 3; ++number) cluster.server(number).Release();
  ASSERT_EQ(file->Flush().ToString(), "ok");
  EXPECT_EQ(file->TakeCommit().size, 2000u);
}

TEST(FileDataWrite, AReplacementTakesOverAndWhatWasNotConfirmedIsSentAgain) {
  FakeCluster cluster({.servers = 4, .replicas = 3, .quorum = 3});
  auto file = cluster.NewFile();
  cluster.OpenForWriting(*file);
  const auto data = Pattern(6 * kMiB, 7);
  ASSERT_TRUE(file->Write(0, std::span(data).first(kMiB), kNow).ok());
  ASSERT_EQ(file->Flush().ToString(), "ok");
  cluster.server(3).Hold();  // takes what follows, confirms nothing
  ASSERT_TRUE(file->Write(kMiB, std::span(data).subspan(kMiB), kNow).ok());
  EXPECT_TRUE(FakeCluster::Eventually([&] { return cluster.server(3).held() > 0; }));
  cluster.Kill(3);
  ASSERT_EQ(file->Flush().ToString(), "ok");
  EXPECT_GE(cluster.counters().reconfigurations, 1u);
  ASSERT_EQ(cluster.Release(*file).ToString(), "ok");
  const ChunkPlace place = cluster.master().Chunk(0);
  EXPECT_EQ(place.carriers.size(), 3u);
  EXPECT_EQ(std::count(place.carriers.begin(), place.carriers.end(), ServerId(4)), 1);
  EXPECT_TRUE(ReadBack(cluster, data.size()) == data);
}

TEST(FileDataWrite, ASilentServerIsLeftOutAndReported) {
  ClusterOptions options;
  options.data.laggard_bytes = 2 * kMiB;
  FakeCluster cluster(options);
  auto file = cluster.NewFile();
  cluster.OpenForWriting(*file);
  cluster.server(1).Hold();
  const auto data = Pattern(8 * kMiB, 8);
  ASSERT_TRUE(file->Write(0, data, kNow).ok());
  ASSERT_EQ(file->Flush().ToString(), "ok");
  EXPECT_GE(cluster.counters().dropped_members, 1u);
  ASSERT_EQ(cluster.Release(*file).ToString(), "ok");
  for (const ChunkPlace& place : cluster.master().Chunks()) {
    EXPECT_EQ(std::count(place.carriers.begin(), place.carriers.end(), ServerId(1)), 0);
  }
  EXPECT_TRUE(ReadBack(cluster, data.size()) == data);
}

TEST(FileDataWrite, AServerThatLagsButGoesOnIsWaitedForInsteadOfDropped) {
  ClusterOptions options;
  options.chunk_bytes = 64 << 10;  // cheap for the fake: its cost grows with the chunk
  options.data.laggard_bytes = 2 * kMiB;
  options.data.window_bytes = 128 << 10;
  options.data.write_timeout_ms =
      600'000;  // how long it is waited for is a part of this: no busy machine reaches it
  FakeCluster cluster(options);
  auto file = cluster.NewFile();
  cluster.OpenForWriting(*file);
  cluster.server(3).Slow(3);
  const auto data = Pattern(12 * kMiB, 20);  // 192 mutations: the slow one takes over half a second
  ASSERT_TRUE(file->Write(0, data, kNow).ok());
  ASSERT_EQ(file->Flush().ToString(), "ok");
  EXPECT_EQ(cluster.counters().dropped_members, 0u);
  ASSERT_EQ(cluster.Release(*file).ToString(), "ok");
  EXPECT_TRUE(ReadBack(cluster, data.size()) == data);
}

// Writes 12 MiB in a thread of its own while the files' clock stands still but for `advance_ms`: true if no call waited longer.
bool WritesOnWithin(FakeCluster& cluster, FileData& file, ManualClock& clock, int64_t advance_ms) {
  const auto data = Pattern(12 * kMiB, 21);
  std::atomic<bool> written{false};
  std::thread writer([&] {
    EXPECT_TRUE(file.Write(0, data, kNow).ok());
    written = true;
  });
  clock.Advance(advance_ms * kNanosPerMilli);
  const bool in_time = FakeCluster::Eventually([&] { return written.load(); });
  // What follows may wait for time to pass, as the seals do for the one that says nothing.
  std::atomic<bool> over{false};
  std::thread time([&] {
    while (!over) {
      clock.Advance(20 * kNanosPerMilli);
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  });
  writer.join();
  EXPECT_EQ(file.Flush().ToString(), "ok");
  EXPECT_EQ(cluster.Release(file).ToString(), "ok");
  over = true;
  time.join();
  EXPECT_TRUE(ReadBack(cluster, data.size()) == data);
  return in_time;
}
ClusterOptions SmallBuffers(const Clock* clock) {
  ClusterOptions options;
  options.clock = clock;
  options.chunk_bytes = 64 << 10;
  options.data = {.window_bytes = 128 << 10, .laggard_bytes = 2 * kMiB};
  return options;
}

TEST(FileDataWrite, AFrozenServerCostsAWriterLessThanATenthOfASecond) {
  ManualClock clock(SystemClock::Get()->NowNanos());  // requests have deadlines by it
  FakeCluster cluster(SmallBuffers(&clock));
  auto file = cluster.NewFile();
  cluster.OpenForWriting(*file);
  ASSERT_TRUE(file->Write(0, Pattern(1000, 22), kNow).ok());
  ASSERT_EQ(file->Flush().ToString(), "ok");
  ASSERT_TRUE(FakeCluster::Eventually([&] { return cluster.server(2).requests()[MessageType::kMutate] > 0; }));
  cluster.server(2).Hold();
  EXPECT_TRUE(WritesOnWithin(cluster, *file, clock, 99));
  cluster.server(2).Release();
}

TEST(FileDataWrite, AKilledServerCostsAWriterNoWaitAtAll) {
  ManualClock clock(SystemClock::Get()->NowNanos());
  FakeCluster cluster(SmallBuffers(&clock));
  auto file = cluster.NewFile();
  cluster.OpenForWriting(*file);
  ASSERT_TRUE(file->Write(0, Pattern(1000, 22), kNow).ok());
  ASSERT_EQ(file->Flush().ToString(), "ok");
  cluster.Kill(2);
  EXPECT_TRUE(WritesOnWithin(cluster, *file, clock, 0));
}

TEST(FileDataWrite, WhoIsLeftOutIsReportedAgainWhileTheChunkIsWritten) {
  // The master forgets reports about servers that are down, and all of them when it restarts.
  ClusterOptions options;
  options.data.report_again_ms = 50;
  FakeCluster cluster(options);
  auto file = cluster.NewFile();
  cluster.OpenForWriting(*file);
  cluster.server(3).Refuse(MessageType::kMutate, Status(StatusCode::kIoError, "disk gone"));
  uint64_t at = 0;
  const auto write_one = [&] {
    const auto data = Pattern(4096, 1);
    EXPECT_TRUE(file->Write(at, data, kNow).ok());
    at = (at + data.size()) % kMiB;
    EXPECT_EQ(file->Flush().ToString(), "ok");
    return cluster.master().Reports().size();
  };
  EXPECT_TRUE(FakeCluster::Eventually([&] { return write_one() >= 4; }));
  for (const MemberFailure& report : cluster.master().Reports()) EXPECT_EQ(report.server, ServerId(3));
}

TEST(FileDataWrite, ABrokenConnectionIsBridged) {
  FakeCluster cluster;
  auto file = cluster.NewFile();
  cluster.OpenForWriting(*file);
  const auto data = Pattern(6 * kMiB, 9);
  for (int number = 1; number <= 3; ++number) cluster.server(number).Hold();
  ASSERT_TRUE(file->Write(0, data, kNow).ok());
  EXPECT_TRUE(
      FakeCluster::Eventually([&] { return cluster.server(1).held() > 0 && cluster.server(2).held() > 0; }));
  for (int number = 1; number <= 3; ++number) {
    cluster.server(number).BreakConnections();
    cluster.server(number).Release();
  }
  ASSERT_EQ(file->Flush().ToString(), "ok");
  EXPECT_EQ(cluster.counters().reconfigurations, 0u);
  ASSERT_EQ(cluster.Release(*file).ToString(), "ok");
  EXPECT_TRUE(ReadBack(cluster, data.size()) == data);
}

TEST(FileDataWrite, AFenceByAQuorumEndsTheLease) {
  FakeCluster cluster;
  auto file = cluster.NewFile();
  cluster.OpenForWriting(*file);
  ASSERT_TRUE(file->Write(0, Pattern(1000, 10), kNow).ok());
  ASSERT_EQ(file->Flush().ToString(), "ok");
  const ChunkPlace place = cluster.master().Chunk(0);
  for (int number = 1; number <= 3; ++number) {
    FakeReplica replica;
    ASSERT_TRUE(cluster.server(number).Fence(place.chunk, Epoch(1'000'000), &replica));
  }
  cluster.master().EndLease();
  ASSERT_TRUE(file->Write(1000, Pattern(1000, 11), kNow).ok());
  EXPECT_EQ(file->Flush().code(), StatusCode::kLeaseLost);
  EXPECT_EQ(file->Write(2000, Pattern(10, 1), kNow).code(), StatusCode::kLeaseLost);
  std::vector<std::byte> buffer(10);
  EXPECT_EQ(file->Read(0, buffer).code(), StatusCode::kLeaseLost);
  file->Detach();
  EXPECT_EQ(file->LastWriteError().number, 1u);
  EXPECT_EQ(cluster.dirty().used_bytes(), 0u);
}

TEST(FileDataWrite, WritersWaitAtTheBoundOfBufferedBytes) {
  ClusterOptions options;
  options.dirty_limit_bytes = 4 * kMiB;
  options.data.write_timeout_ms = 60'000;
  FakeCluster cluster(options);
  for (int number = 1; number <= 3; ++number) cluster.server(number).Hold();
  auto file = cluster.NewFile();
  cluster.OpenForWriting(*file);
  const auto data = Pattern(12 * kMiB, 12);
  std::atomic<bool> written{false};
  std::thread writer([&] {
    EXPECT_TRUE(file->Write(0, data, kNow).ok());
    written = true;
  });
  EXPECT_TRUE(FakeCluster::Eventually([&] { return cluster.dirty().used_bytes() == 4 * kMiB; }));
  EXPECT_FALSE(written);
  EXPECT_LE(cluster.dirty().used_bytes(), 4 * kMiB);
  for (int number = 1; number <= 3; ++number) cluster.server(number).Release();
  writer.join();
  ASSERT_EQ(file->Flush().ToString(), "ok");
  EXPECT_EQ(cluster.dirty().used_bytes(), 0u);
}

TEST(FileDataWrite, AnInterruptEndsTheWaitForTheQuorum) {
  ClusterOptions options;
  options.data.write_timeout_ms = 600'000;
  FakeCluster cluster(options);
  for (int number = 1; number <= 3; ++number) cluster.server(number).Hold();
  auto file = cluster.NewFile();
  cluster.OpenForWriting(*file);
  ASSERT_TRUE(file->Write(0, Pattern(1000, 13), kNow).ok());
  InterruptScope scope([] { return true; });
  EXPECT_EQ(file->Flush().code(), StatusCode::kInterrupted);
}

TEST(FileDataWrite, AFullClusterSaysSo) {
  FakeCluster cluster;
  cluster.master().RefuseAnnounce(Status(StatusCode::kNoSpace, "all chunkservers are full"));
  auto file = cluster.NewFile();
  cluster.OpenForWriting(*file);
  ASSERT_TRUE(file->Write(0, Pattern(1000, 14), kNow).ok());
  const Status refused = file->Flush();
  EXPECT_EQ(refused.code(), StatusCode::kNoSpace);
  EXPECT_THAT(refused.message(), HasSubstr("all chunkservers are full"));
}

TEST(FileDataWrite, FullDisksOfAQuorumEndInNoSpaceAndNotInAnEndlessSearch) {
  FakeCluster cluster({.data = testing::ShortTimeouts()});
  for (int number : {1, 2, 3}) {
    cluster.server(number).Refuse(MessageType::kMutate, Status(StatusCode::kNoSpace, "disk full"));
  }
  auto file = cluster.NewFile();
  cluster.OpenForWriting(*file);
  ASSERT_TRUE(file->Write(0, Pattern(1000, 19), kNow).ok());
  const Status refused = file->Flush();
  EXPECT_EQ(refused.code(), StatusCode::kNoSpace);
  EXPECT_THAT(refused.message(), HasSubstr("disk full"));
  EXPECT_LE(cluster.counters().reconfigurations, 10u);
  for (int number : {1, 2, 3}) cluster.server(number).Refuse(MessageType::kMutate, Status::Ok());
  EXPECT_TRUE(FakeCluster::Eventually([&] { return file->Flush().ok(); }));
}

TEST(FileDataSync, DurableMeansOnTheDisksOfTheQuorum) {
  FakeCluster cluster;
  auto file = cluster.NewFile();
  cluster.OpenForWriting(*file);
  const auto data = Pattern(9 * kMiB, 15);
  ASSERT_TRUE(file->Write(0, data, kNow).ok());
  cluster.server(2).Refuse(MessageType::kFlush, Status(StatusCode::kIoError, "disk gone"));
  ASSERT_TRUE(file->FlushDurable().ok());
  const PendingCommit commit = file->TakeCommit();
  EXPECT_EQ(commit.durable.size(), 3u);
  for (const ChunkPlace& place : cluster.master().Chunks()) {
    int durable = 0;
    for (int number = 1; number <= 3; ++number) {
      const auto replica = cluster.server(number).Find(place.chunk);
      if (replica && replica->state.accepted.seq > 0 && replica->durable == replica->state.accepted)
        ++durable;
    }
    if (place.index < 3) {
      EXPECT_GE(durable, 2);
    }
  }
  // Any number of chunks costs one request per server.
  EXPECT_EQ(cluster.server(1).requests()[MessageType::kFlush], 1);
  ASSERT_TRUE(file->FlushDurable().ok());
  EXPECT_EQ(cluster.server(1).requests()[MessageType::kFlush], 1);
}

TEST(FileDataSync, WithoutAQuorumOfDisksItIsRefused) {
  FakeCluster cluster({.data = testing::ShortTimeouts()});
  auto file = cluster.NewFile();
  cluster.OpenForWriting(*file);
  ASSERT_TRUE(file->Write(0, Pattern(1000, 16), kNow).ok());
  ASSERT_EQ(cluster.Release(*file).ToString(), "ok");
  for (int number : {1, 2})
    cluster.server(number).Refuse(MessageType::kFlush, Status(StatusCode::kIoError, "disk gone"));
  file->AttachRead(1000, {});
  const Status refused = file->FlushDurable();
  EXPECT_EQ(refused.code(), StatusCode::kNoQuorum);
  EXPECT_THAT(refused.message(), HasSubstr("disk gone"));
  for (int number : {1, 2}) cluster.server(number).Refuse(MessageType::kFlush, Status::Ok());
  EXPECT_TRUE(file->FlushDurable().ok());
}

TEST(FileDataSeal, ChunksThatWereOnlyAnnouncedAreReportedAsNeverBegun) {
  FakeCluster cluster;
  auto file = cluster.NewFile();
  cluster.OpenForWriting(*file);
  ASSERT_TRUE(
      file->Write(0, Pattern(3 * kMiB, 17), kNow).ok());  // past half of chunk 0: chunk 1 is announced ahead
  EXPECT_TRUE(FakeCluster::Eventually([&] { return cluster.master().Chunks().size() > 1; }));
  ASSERT_EQ(file->Flush().ToString(), "ok");
  Result<PendingCommit> commit = file->FlushAndSeal(nullptr);
  ASSERT_TRUE(commit.ok());
  int begun = 0, never = 0;
  for (const SealedChunk& seal : commit->seals) ++(seal.never_begun ? never : begun);
  EXPECT_EQ(begun, 1);
  EXPECT_GE(never, 1);
  EXPECT_EQ(file->Write(0, Pattern(10, 1), kNow).code(), StatusCode::kLeaseLost);
  std::vector<std::byte> bytes(3 * kMiB);
  ASSERT_TRUE(file->Read(0, bytes).ok());
  EXPECT_TRUE(bytes == Pattern(3 * kMiB, 17));
}

TEST(FileDataSeal, DiscardDropsWhatNobodyWillRead) {
  FakeCluster cluster;
  auto file = cluster.NewFile();
  cluster.OpenForWriting(*file);
  for (int number = 1; number <= 3; ++number) cluster.server(number).Hold();
  ASSERT_TRUE(file->Write(0, Pattern(2 * kMiB, 18), kNow).ok());
  file->Discard();
  EXPECT_EQ(file->DirtyBytes(), 0u);
  EXPECT_EQ(cluster.dirty().used_bytes(), 0u);
  file->Detach();
  EXPECT_EQ(file->LastWriteError().number, 0u);
}

// A file of nearly 2^63 bytes with two bytes in it: what is asked for and kept goes by its chunks, not by its
// length.
TEST(FileDataWrite, AHugeHoleCostsNothing) {
  FakeCluster cluster;
  auto file = cluster.NewFile();
  cluster.OpenForWriting(*file);
  constexpr uint64_t kHuge = (uint64_t{1} << 63) - 1;
  ASSERT_TRUE(file->Truncate(kHuge, kNow).ok());
  const auto byte = Pattern(1, 1);
  ASSERT_TRUE(file->Write(5, byte, kNow).ok());
  ASSERT_EQ(file->Write(kHuge - 1, byte, kNow).ToString(), "ok");
  EXPECT_EQ(file->Write(kHuge, byte, kNow).code(), StatusCode::kFileTooLarge);
  const int before = cluster.master().layouts();
  ASSERT_EQ(file->FlushDurable().ToString(), "ok");
  ASSERT_EQ(file->Zero(4096, kHuge - 8192, kNow).ToString(), "ok");
  ASSERT_EQ(file->FlushDurable().ToString(), "ok");
  EXPECT_LE(cluster.master().layouts() - before, 6);
  EXPECT_LE(file->AllocatedChange(), 2 * 4096);
  std::vector<std::byte> got(4);
  const Result<size_t> read = file->Read(kHuge / 2, got);
  ASSERT_TRUE(read.ok()) << read.status().ToString();
  EXPECT_EQ(got, std::vector<std::byte>(4));
  ASSERT_EQ(cluster.Release(*file).ToString(), "ok");
}

}  // namespace
}  // namespace cairn::client
