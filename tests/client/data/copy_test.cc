// FileData on both sides of a copy that chunkservers make, against chunkservers in this process.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <random>
#include <thread>

#include "client/client.h"
#include "common/checksum.h"
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
constexpr TimeSpec kLater{.seconds = 2000};

// Two files: the source is sealed and open for reading, the target is being written.
class CopyTest : public ::testing::Test {
 protected:
  void Start(ClusterOptions options, std::vector<std::byte> content) {
    cluster_ = std::make_unique<FakeCluster>(options);
    chunk_bytes_ = options.chunk_bytes;
    content_ = std::move(content);
    source_ = cluster_->NewOtherFile();
    source_->AttachWrite(cluster_->other_master().NewLease(), 0, {});
    Fill(*source_, content_);
    const auto commit = source_->FlushAndSeal(nullptr);
    ASSERT_TRUE(commit.ok()) << commit.status().ToString();
    cluster_->other_master().Apply(*commit);
    source_->Detach();
    source_->AttachRead(content_.size(), {});
    target_ = cluster_->NewFile();
    cluster_->OpenForWriting(*target_);
  }
  // Blocks of zeros are left out.
  static void Fill(FileData& file, const std::vector<std::byte>& content) {
    for (uint64_t at = 0; at < content.size(); at += kBlockBytes) {
      const auto block = std::span(content).subspan(at, std::min<uint64_t>(kBlockBytes, content.size() - at));
      if (std::all_of(block.begin(), block.end(), [](std::byte byte) { return byte == std::byte{0}; })) continue;
      ASSERT_TRUE(file.Write(at, block, kNow).ok());
    }
  }
  std::vector<CopyPart> Plan(uint64_t offset, uint64_t length) {
    const auto parts = source_->PlanCopy(offset, length, 1ull << 40);
    EXPECT_TRUE(parts.ok()) << parts.status().ToString();
    return parts.ok() ? *parts : std::vector<CopyPart>();
  }
  Result<uint64_t> Copy(uint64_t from, uint64_t to, uint64_t length) {
    return target_->CopyParts(to, Plan(from, length), kLater, {});
  }
  std::vector<std::byte> Expected(uint64_t from, uint64_t to, uint64_t length) const {
    std::vector<std::byte> bytes(to + length);
    std::copy_n(content_.begin() + static_cast<ptrdiff_t>(from), length, bytes.begin() + static_cast<ptrdiff_t>(to));
    return bytes;
  }
  static std::vector<std::byte> ReadAll(FileData& file) {
    std::vector<std::byte> bytes(file.Size());
    for (uint64_t at = 0; at < bytes.size();) {
      const auto got = file.Read(at, std::span(bytes).subspan(at, std::min<uint64_t>(kMiB, bytes.size() - at)));
      EXPECT_TRUE(got.ok()) << got.status().ToString();
      if (!got.ok() || *got == 0) break;
      at += *got;
    }
    return bytes;
  }
  // Every running server has the same bytes of every chunk of the target once they agree on the stamp.
  void ExpectReplicasEqual(std::vector<int> servers) {
    for (const ChunkPlace& place : cluster_->master().Chunks()) {
      std::optional<FakeReplica> first;
      for (int number : servers) {
        const auto replica = cluster_->server(number).Find(place.chunk);
        ASSERT_TRUE(replica.has_value()) << "cs" << number;
        if (!first) first = replica;
        EXPECT_EQ(first->state.accepted, replica->state.accepted) << "cs" << number;
        EXPECT_TRUE(first->bytes == replica->bytes) << "cs" << number;
      }
    }
  }

  std::unique_ptr<FakeCluster> cluster_;
  uint64_t chunk_bytes_ = 0;
  std::vector<std::byte> content_;
  std::unique_ptr<FileData> source_;
  std::unique_ptr<FileData> target_;
};

TEST_F(CopyTest, TheBytesDoNotPassThroughTheClient) {
  Start({.chunk_bytes = 1 << 20}, Pattern(5 * kMiB + 777, 1));
  const uint64_t writes = static_cast<uint64_t>(cluster_->requests(MessageType::kMutate));
  const auto copied = Copy(0, 0, content_.size());
  ASSERT_TRUE(copied.ok()) << copied.status().ToString();
  EXPECT_EQ(*copied, content_.size());
  EXPECT_EQ(cluster_->requests(MessageType::kRead), 0);
  EXPECT_EQ(cluster_->requests(MessageType::kMutate), static_cast<int>(writes));
  // Two of the three are waited for.
  EXPECT_TRUE(FakeCluster::Eventually([&] { return cluster_->requests(MessageType::kMutateStaged) == 3 * 6; }));
  EXPECT_EQ(cluster_->counters().bytes_copied, content_.size());
  EXPECT_EQ(cluster_->counters().bytes_copied_here, 0u);
  EXPECT_EQ(target_->Mtime(), kLater);
  EXPECT_TRUE(ReadAll(*target_) == content_);
  ASSERT_EQ(cluster_->Release(*target_).ToString(), "ok");
  ExpectReplicasEqual({1, 2, 3});
}

TEST_F(CopyTest, AnyRangeComesOutAsInTheModel) {
  Start({.chunk_bytes = 64 << 10}, Pattern(700'000, 2));
  std::mt19937_64 random(20261130);
  std::vector<std::byte> model;
  for (int i = 0; i < 60; ++i) {
    const uint64_t from = random() % content_.size();
    const uint64_t length = 1 + random() % (random() % 4 == 0 ? 300'000 : 9'000);
    const uint64_t to = random() % 500'000;
    const uint64_t n = std::min(length, content_.size() - from);
    const auto copied = Copy(from, to, length);
    ASSERT_TRUE(copied.ok()) << copied.status().ToString();
    ASSERT_EQ(*copied, n);
    if (model.size() < to + n) model.resize(to + n);
    std::copy_n(content_.begin() + static_cast<ptrdiff_t>(from), n, model.begin() + static_cast<ptrdiff_t>(to));
    if (i % 7 == 0) {  // in between buffered writes of the target
      const auto bytes = Pattern(5'000, static_cast<uint32_t>(i));
      const uint64_t at = random() % model.size();
      ASSERT_TRUE(target_->Write(at, bytes, kNow).ok());
      if (model.size() < at + bytes.size()) model.resize(at + bytes.size());
      std::copy(bytes.begin(), bytes.end(), model.begin() + static_cast<ptrdiff_t>(at));
    }
    ASSERT_TRUE(ReadAll(*target_) == model) << "step " << i;
  }
  EXPECT_EQ(cluster_->counters().bytes_copied_here, 0u);
}

TEST_F(CopyTest, HolesOfTheSourceReplaceDataOfTheTarget) {
  auto content = Pattern(2 * kMiB, 3);
  std::fill(content.begin() + 256 * 1024, content.begin() + 1024 * 1024, std::byte{0});
  std::fill(content.begin() + 1'500 * 1024, content.end(), std::byte{0});
  Start({.chunk_bytes = 512 << 10}, content);
  ASSERT_TRUE(target_->Write(0, Pattern(content.size(), 4), kNow).ok());
  // A source that ends in a hole is as long as it is said to be.
  source_->Detach();
  source_->AttachRead(content.size(), {});
  const auto copied = Copy(0, 0, content.size());
  ASSERT_TRUE(copied.ok()) << copied.status().ToString();
  EXPECT_EQ(*copied, content.size());
  EXPECT_TRUE(ReadAll(*target_) == content);
  // What was hole was not staged.
  EXPECT_EQ(cluster_->counters().bytes_copied, 256u * 1024 + 476u * 1024);
}

TEST_F(CopyTest, AHoleAtTheEndGrowsTheTarget) {
  Start({}, std::vector<std::byte>(100'000));
  source_->Detach();
  source_->AttachRead(100'000, {});
  const auto copied = Copy(0, 5'000, 100'000);
  ASSERT_TRUE(copied.ok()) << copied.status().ToString();
  EXPECT_EQ(*copied, 100'000u);
  EXPECT_EQ(target_->Size(), 105'000u);
  EXPECT_TRUE(ReadAll(*target_) == std::vector<std::byte>(105'000));
}

TEST_F(CopyTest, PlansEndAtTheEndOfTheSource) {
  Start({}, Pattern(10'000, 5));
  EXPECT_TRUE(Plan(10'000, 5).empty());
  EXPECT_TRUE(Plan(1ull << 50, 5).empty());
  const auto parts = Plan(9'990, 1ull << 62);
  ASSERT_EQ(parts.size(), 1u);
  EXPECT_EQ(parts[0].length, 10u);
  EXPECT_EQ(parts[0].offset, 9'990u);
}

TEST_F(CopyTest, WhatIsBufferedAtTheSourceIsCopied) {
  Start({}, Pattern(100'000, 6));
  source_->Detach();
  source_->AttachWrite(cluster_->other_master().NewLease(), content_.size(), {});
  const auto fresh = Pattern(30'000, 7);
  ASSERT_TRUE(source_->Write(50'000, fresh, kNow).ok());
  std::copy(fresh.begin(), fresh.end(), content_.begin() + 50'000);
  const auto copied = Copy(0, 0, content_.size());
  ASSERT_TRUE(copied.ok()) << copied.status().ToString();
  EXPECT_EQ(*copied, content_.size());
  EXPECT_EQ(cluster_->requests(MessageType::kRead), 0);
  EXPECT_TRUE(ReadAll(*target_) == content_);
}

// The names are exact: what is written to the source after they were given makes them void, and does not get into the copy.
TEST_F(CopyTest, AChangedSourceIsNotCopiedUnderAnOldName) {
  Start({}, Pattern(100'000, 8));
  const auto parts = Plan(0, content_.size());
  source_->Detach();
  source_->AttachWrite(cluster_->other_master().NewLease(), content_.size(), {});
  ASSERT_TRUE(source_->Write(0, Pattern(100, 9), kNow).ok());
  ASSERT_TRUE(source_->Flush().ok());
  const auto copied = target_->CopyParts(0, parts, kLater, {});
  ASSERT_TRUE(copied.ok()) << copied.status().ToString();
  EXPECT_EQ(*copied, 0u);
  EXPECT_EQ(target_->Size(), 0u);
}

TEST_F(CopyTest, WithinOneFileEverythingIsStagedFirst) {
  Start({.chunk_bytes = 8 << 20}, Pattern(3 * kMiB, 10));
  const auto content = Pattern(3 * kMiB, 11);
  ASSERT_TRUE(target_->Write(0, content, kNow).ok());
  const auto parts = target_->PlanCopy(0, content.size(), kStageWindowBytes);
  ASSERT_TRUE(parts.ok()) << parts.status().ToString();
  const auto copied = target_->CopyParts(4 * kMiB, *parts, kLater, {.at_once = true});
  ASSERT_TRUE(copied.ok()) << copied.status().ToString();
  EXPECT_EQ(*copied, content.size());
  auto expected = content;
  expected.resize(4 * kMiB);
  expected.insert(expected.end(), content.begin(), content.end());
  EXPECT_TRUE(ReadAll(*target_) == expected);
}

TEST_F(CopyTest, AMemberThatIsDownCostsNothingButItself) {
  Start({}, Pattern(5 * kMiB, 12));
  cluster_->Kill(2);
  const auto copied = Copy(0, 0, content_.size());
  ASSERT_TRUE(copied.ok()) << copied.status().ToString();
  EXPECT_EQ(*copied, content_.size());
  EXPECT_TRUE(ReadAll(*target_) == content_);
  ASSERT_EQ(cluster_->Release(*target_).ToString(), "ok");
  ExpectReplicasEqual({1, 3});
}

TEST_F(CopyTest, AMemberThatCannotStageGetsTheBytes) {
  Start({}, Pattern(3 * kMiB, 13));
  cluster_->server(3).Refuse(MessageType::kStage, Status(StatusCode::kResourceExhausted, "too much is staged"));
  const auto copied = Copy(0, 0, content_.size());
  ASSERT_TRUE(copied.ok()) << copied.status().ToString();
  EXPECT_EQ(*copied, content_.size());
  ASSERT_TRUE(FakeCluster::Eventually([&] {
    const auto replica = cluster_->server(3).Find(cluster_->master().Chunk(0).chunk);
    return replica && replica->bytes == content_;
  }));
  EXPECT_EQ(cluster_->counters().bytes_copied_here, content_.size());
  ASSERT_EQ(cluster_->Release(*target_).ToString(), "ok");
  ExpectReplicasEqual({1, 2, 3});
  EXPECT_TRUE(cluster_->master().Reports().empty());
}

TEST_F(CopyTest, AMemberThatStagedOtherBytesGetsThoseOfTheQuorum) {
  Start({}, Pattern(3 * kMiB, 14));
  cluster_->server(1).StageWrong(true);
  const auto copied = Copy(0, 0, content_.size());
  ASSERT_TRUE(copied.ok()) << copied.status().ToString();
  EXPECT_EQ(*copied, content_.size());
  ASSERT_TRUE(FakeCluster::Eventually([&] {
    const auto replica = cluster_->server(1).Find(cluster_->master().Chunk(0).chunk);
    return replica && replica->bytes == content_;
  }));
  EXPECT_EQ(cluster_->server(1).bad_checksums(), 0u);
  EXPECT_TRUE(ReadAll(*target_) == content_);
}

TEST_F(CopyTest, WithoutAQuorumThatAgreesNothingIsWritten) {
  Start({}, Pattern(3 * kMiB, 15));
  cluster_->server(1).StageWrong(true);
  cluster_->server(2).Refuse(MessageType::kStage, Status(StatusCode::kUnavailable, "no carrier"));
  const auto copied = Copy(0, 0, content_.size());
  ASSERT_TRUE(copied.ok()) << copied.status().ToString();
  EXPECT_EQ(*copied, 0u);
  EXPECT_EQ(cluster_->requests(MessageType::kMutateStaged), 0);
  EXPECT_EQ(target_->Size(), 0u);
}

TEST_F(CopyTest, WhatWasStagedAndForgottenIsSent) {
  Start({}, Pattern(4 * kMiB, 16));
  // The third member stages in time and forgets before the mutations arrive.
  const auto parts = Plan(0, content_.size());
  cluster_->server(3).Hold();
  const auto copied = target_->CopyParts(0, parts, kLater, {});  // two members are a quorum
  ASSERT_TRUE(copied.ok()) << copied.status().ToString();
  EXPECT_EQ(*copied, content_.size());
  const ChunkId chunk = cluster_->master().Chunk(0).chunk;
  cluster_->server(3).Refuse(MessageType::kMutateStaged, Status(StatusCode::kNotFound, "nothing is staged under this token"));
  cluster_->server(3).Release();
  EXPECT_TRUE(FakeCluster::Eventually([&] {
    const auto replica = cluster_->server(3).Find(chunk);
    return replica && replica->bytes == content_;
  }));
  EXPECT_GT(cluster_->counters().bytes_copied_here, 0u);
  ASSERT_EQ(cluster_->Release(*target_).ToString(), "ok");
  ExpectReplicasEqual({1, 2, 3});
  EXPECT_TRUE(cluster_->master().Reports().empty()) << "nobody had to be left out";
}

TEST_F(CopyTest, MembersThatDieBetweenStageAndMutationAreReplaced) {
  Start({.servers = 5}, Pattern(3 * kMiB, 17));
  const auto parts = Plan(0, content_.size());
  cluster_->server(3).Hold();
  cluster_->server(1).Refuse(MessageType::kMutateStaged, Status(StatusCode::kIoError, "the disk failed"));
  cluster_->server(2).Refuse(MessageType::kMutateStaged, Status(StatusCode::kIoError, "the disk failed"));
  std::thread copy([&] {
    const auto copied = target_->CopyParts(0, parts, kLater, {});
    ASSERT_TRUE(copied.ok()) << copied.status().ToString();
    EXPECT_EQ(*copied, content_.size());
  });
  ASSERT_TRUE(FakeCluster::Eventually([&] { return cluster_->requests(MessageType::kMutateStaged) >= 2; }));
  cluster_->server(3).Refuse(MessageType::kMutateStaged, Status(StatusCode::kNotFound, "nothing is staged under this token"));
  // One of the two goes for good: the next configuration has a member that staged nothing.
  cluster_->Kill(1);
  cluster_->server(3).Release();
  copy.join();
  EXPECT_GE(cluster_->counters().reconfigurations, 1u);
  EXPECT_GT(cluster_->counters().bytes_copied_here, 0u);
  EXPECT_TRUE(ReadAll(*target_) == content_);
}

TEST_F(CopyTest, ALostQuorumIsAnErrorInTime) {
  Start({.data = testing::ShortTimeouts()}, Pattern(3 * kMiB, 18));
  for (int number : {1, 2, 3})
    cluster_->server(number).Refuse(MessageType::kMutateStaged, Status(StatusCode::kIoError, "the disk failed"));
  for (int number : {1, 2, 3}) cluster_->server(number).Refuse(MessageType::kMutate, Status(StatusCode::kIoError, "the disk failed"));
  const auto copied = Copy(0, 0, content_.size());
  ASSERT_FALSE(copied.ok());
  EXPECT_EQ(copied.code(), StatusCode::kNoQuorum) << copied.status().ToString();
  EXPECT_THAT(copied.status().message(), HasSubstr("the disk failed"));
  EXPECT_EQ(target_->LastWriteError().number, 1u);
}

// The bytes are nowhere any more, and the mutation has its number: the lease ends, so that recovery decides.
TEST_F(CopyTest, ASourceThatChangesBeforeTheQuorumHasTheCopyEndsTheLease) {
  Start({.servers = 5}, Pattern(100'000, 19));
  const auto parts = Plan(0, content_.size());
  cluster_->server(1).Refuse(MessageType::kMutateStaged, Status(StatusCode::kNotFound, "forgotten"));
  cluster_->server(2).Refuse(MessageType::kMutateStaged, Status(StatusCode::kNotFound, "forgotten"));
  for (int number = 1; number <= 5; ++number)
    cluster_->server(number).Refuse(MessageType::kRead, Status(StatusCode::kStaleReplica, "at a newer stamp"));
  const auto copied = target_->CopyParts(0, parts, kLater, {});
  ASSERT_FALSE(copied.ok());
  EXPECT_EQ(copied.code(), StatusCode::kLeaseLost) << copied.status().ToString();
  EXPECT_THAT(copied.status().message(), HasSubstr("changed"));
  EXPECT_EQ(target_->LastWriteError().number, 1u);
}

TEST_F(CopyTest, AReaderWaitsForWhatIsOnItsWay) {
  Start({}, Pattern(2 * kMiB, 20));
  ASSERT_TRUE(target_->Write(0, Pattern(2 * kMiB, 21), kNow).ok());
  ASSERT_TRUE(target_->Flush().ok());
  for (int number : {1, 2, 3}) cluster_->server(number).Slow(20);
  std::thread copy([&] { EXPECT_TRUE(Copy(0, 0, content_.size()).ok()); });
  while (cluster_->counters().bytes_copied == 0) std::this_thread::yield();
  std::vector<std::byte> got(1000);
  const auto read = target_->Read(100, got);
  ASSERT_TRUE(read.ok()) << read.status().ToString();
  EXPECT_TRUE(std::equal(got.begin(), got.end(), content_.begin() + 100));
  copy.join();
}

TEST_F(CopyTest, AnInterruptedCopyAnswersWhatItDid) {
  Start({.chunk_bytes = 1 << 20}, Pattern(12 * kMiB, 22));
  for (int number : {1, 2, 3}) cluster_->server(number).Slow(2);
  const auto parts = Plan(0, content_.size());
  const InterruptScope scope([&] { return cluster_->counters().bytes_copied >= 4 * kMiB; });
  const auto copied = target_->CopyParts(0, parts, kLater, {});
  ASSERT_TRUE(copied.ok()) << copied.status().ToString();
  EXPECT_GE(*copied, 4 * kMiB);
  EXPECT_LT(*copied, content_.size());
}

TEST_F(CopyTest, WhatIsStagedAndUnderWayIsBounded) {
  Start({.chunk_bytes = 1 << 20}, Pattern(12 * kMiB, 23));
  const auto parts = Plan(0, content_.size());
  cluster_->server(2).Hold();
  cluster_->server(3).Hold();
  std::thread copy([&] { EXPECT_EQ(target_->CopyParts(0, parts, kLater, {}).value(), content_.size()); });
  ASSERT_TRUE(FakeCluster::Eventually([&] { return cluster_->server(1).staged() >= kStageWindowBytes / kMiB; }));
  EXPECT_LE(cluster_->requests(MessageType::kStage), static_cast<int>(3 * kStageWindowBytes / kMiB));
  cluster_->server(2).Release();
  cluster_->server(3).Release();
  copy.join();
  EXPECT_TRUE(ReadAll(*target_) == content_);
}

}  // namespace
}  // namespace cairn::client
