// A lease that goes to somebody else: how many steps its end takes at the members, and whom it waits for.
#include <gtest/gtest.h>

#include <thread>

#include "tests/client/data/fake_cluster.h"

namespace cairn::client {
namespace {

using testing::FakeCluster;
using testing::Pattern;
using wire::MessageType;

constexpr TimeSpec kNow{1'700'000'000, 0};
constexpr int64_t kHour = 3'600'000;

std::vector<std::byte> ReadAll(FileData& file, size_t size) {
  std::vector<std::byte> out(size);
  const auto got = file.Read(0, out);
  EXPECT_TRUE(got.ok()) << got.status().ToString();
  out.resize(got.ok() ? *got : 0);
  return out;
}

// Counted while nobody answers, so a step that waited for another one would never come.
TEST(FileDataHandover, WhatIsBufferedAndTheSealLeaveTogether) {
  FakeCluster cluster;
  auto file = cluster.NewFile();
  cluster.OpenForWriting(*file);
  ASSERT_TRUE(file->Write(0, Pattern(100, 1), kNow).ok());
  ASSERT_TRUE(file->Flush().ok());
  const std::vector<std::byte> data = Pattern(300, 2);
  ASSERT_TRUE(file->Write(0, data, kNow).ok());
  ASSERT_TRUE(FakeCluster::Eventually([&] { return cluster.requests(MessageType::kMutate) == 3; }));
  for (int number : {1, 2, 3}) cluster.server(number).Hold();
  std::thread answers([&] {
    EXPECT_TRUE(FakeCluster::Eventually([&] {
      return cluster.requests(MessageType::kMutate) == 6 && cluster.requests(MessageType::kSeal) == 3;
    })) << cluster.requests(MessageType::kMutate)
        << " mutations, " << cluster.requests(MessageType::kSeal) << " seals";
    for (int number : {1, 2, 3}) cluster.server(number).Release();
  });
  const Status released = cluster.Release(*file);
  answers.join();
  ASSERT_TRUE(released.ok()) << released.ToString();
  EXPECT_EQ(cluster.requests(MessageType::kSeal), 3);
  EXPECT_EQ(cluster.master().Chunk(0).carriers.size(), 3u);
  EXPECT_EQ(cluster.counters().dropped_members, 0u);
  file->AttachRead(data.size(), {});
  EXPECT_EQ(ReadAll(*file, data.size()), data);
}

TEST(FileDataHandover, AMemberThatIsLateIsWaitedForOnceAndThenNotForAWhile) {
  FakeCluster cluster({.data = {.write_timeout_ms = 30'000, .seal_grace_ms = 100}});
  auto file = cluster.NewFile();
  cluster.OpenForWriting(*file);
  ASSERT_TRUE(file->Write(0, Pattern(100, 1), kNow).ok());
  ASSERT_TRUE(file->Flush().ok());
  cluster.server(3).Hold();
  ASSERT_TRUE(cluster.Release(*file).ok());
  EXPECT_EQ(cluster.master().Chunk(0).carriers.size(), 2u);
  const int64_t now = SystemClock::Get()->NowNanos();
  EXPECT_TRUE(cluster.seals().IsLate(ServerId(3), now));
  EXPECT_FALSE(cluster.seals().IsLate(ServerId(1), now));
  EXPECT_FALSE(cluster.seals().IsLate(ServerId(3), now + 10 * kNanosPerSecond)) << "it gets another chance";
}

TEST(FileDataHandover, NobodyWaitsForAServerThatIsKnownToBeLate) {
  FakeCluster cluster({.data = {.write_timeout_ms = 30'000, .seal_grace_ms = kHour}});
  cluster.seals().NoteLate(ServerId(3), SystemClock::Get()->NowNanos());
  auto file = cluster.NewFile();
  cluster.OpenForWriting(*file);
  ASSERT_TRUE(file->Write(0, Pattern(100, 1), kNow).ok());
  ASSERT_TRUE(file->Flush().ok());
  cluster.server(3).Hold();
  ASSERT_TRUE(cluster.Release(*file).ok());  // or it takes an hour
  EXPECT_EQ(cluster.master().Chunk(0).carriers.size(), 2u);
}

// Connections break when mutation and seal are on their way: both are sent again, in their order.
TEST(FileDataHandover, ABrokenConnectionInTheMiddleOfItLosesNothing) {
  FakeCluster cluster;
  auto file = cluster.NewFile();
  cluster.OpenForWriting(*file);
  ASSERT_TRUE(file->Write(0, Pattern(100, 1), kNow).ok());
  ASSERT_TRUE(file->Flush().ok());
  const std::vector<std::byte> data = Pattern(5000, 3);
  ASSERT_TRUE(file->Write(0, data, kNow).ok());
  ASSERT_TRUE(FakeCluster::Eventually([&] { return cluster.requests(MessageType::kMutate) == 3; }));
  for (int number : {1, 2, 3}) cluster.server(number).Hold();
  std::thread breaks([&] {
    EXPECT_TRUE(FakeCluster::Eventually([&] { return cluster.requests(MessageType::kSeal) >= 3; }));
    for (int number : {1, 2}) cluster.server(number).BreakConnections();
    for (int number : {1, 2, 3}) cluster.server(number).Release();
  });
  const Status released = cluster.Release(*file);
  breaks.join();
  ASSERT_TRUE(released.ok()) << released.ToString();
  EXPECT_EQ(cluster.master().Chunk(0).length, data.size());
  file->AttachRead(data.size(), {});
  EXPECT_EQ(ReadAll(*file, data.size()), data);
}

// A quorum is lost between the mutation and the seal: the chunk goes on in another configuration, and is sealed there.
TEST(FileDataHandover, AQuorumLostInTheMiddleOfItIsReplaced) {
  FakeCluster cluster({.servers = 4});
  auto file = cluster.NewFile();
  cluster.OpenForWriting(*file);
  ASSERT_TRUE(file->Write(0, Pattern(100, 1), kNow).ok());
  ASSERT_TRUE(file->Flush().ok());
  ASSERT_TRUE(FakeCluster::Eventually([&] { return cluster.requests(MessageType::kMutate) == 3; }));
  const std::vector<std::byte> data = Pattern(5000, 4);
  ASSERT_TRUE(file->Write(0, data, kNow).ok());
  const Epoch before = cluster.master().Chunk(0).config.epoch;
  cluster.server(1).Refuse(MessageType::kSeal, Status(StatusCode::kIoError, "the disk failed"));
  cluster.server(2).Refuse(MessageType::kMutate, Status(StatusCode::kIoError, "the disk failed"));
  cluster.server(2).Refuse(MessageType::kSeal, Status(StatusCode::kIoError, "the disk failed"));
  std::thread mends([&] {
    EXPECT_TRUE(FakeCluster::Eventually([&] { return cluster.counters().reconfigurations >= 1; }));
    cluster.server(1).Refuse(MessageType::kSeal, Status::Ok());
    cluster.Kill(2);
  });
  const Status released = cluster.Release(*file);
  mends.join();
  ASSERT_TRUE(released.ok()) << released.ToString();
  EXPECT_GT(cluster.master().Chunk(0).config.epoch, before);
  file->AttachRead(data.size(), {});
  EXPECT_EQ(ReadAll(*file, data.size()), data);
}

}  // namespace
}  // namespace cairn::client
