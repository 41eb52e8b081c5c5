// A truncation that was not synced is lost when the power of all replicas fails, while the master has recorded the smaller size: the
// chunk has bytes beyond the end of the file. They are hidden, and stay so when the file grows again.
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/client/data/fake_cluster.h"

namespace cairn::client {
namespace {

using testing::FakeCluster;
using testing::Pattern;

constexpr TimeSpec kNow{100, 5};
constexpr uint64_t kOld = 100'000;   // bytes in the chunk
constexpr uint64_t kSize = 10'000;   // the recorded size
constexpr uint64_t kFrom = 50'000;   // where the file is written to next

class LostTruncation : public ::testing::Test {
 protected:
  void SetUp() override {
    file_ = cluster_.NewFile();
    cluster_.OpenForWriting(*file_);
    ASSERT_TRUE(file_->Write(0, old_, kNow).ok());
    ASSERT_EQ(cluster_.Release(*file_).ToString(), "ok");
    file_ = cluster_.NewFile();
    cluster_.OpenForWriting(*file_, kSize);
  }

  // What a reader sees, from the replicas alone.
  void ExpectHidden(uint64_t size, const std::vector<std::byte>& fresh = {}) {
    ASSERT_EQ(cluster_.Release(*file_).ToString(), "ok");
    const auto reader = cluster_.NewFile();
    reader->AttachRead(size, {});
    std::vector<std::byte> got(size);
    const Result<size_t> read = reader->Read(0, got);
    ASSERT_TRUE(read.ok()) << read.status().ToString();
    ASSERT_EQ(*read, size);
    std::vector<std::byte> expected(size);
    std::copy_n(old_.begin(), kSize, expected.begin());
    std::copy(fresh.begin(), fresh.end(), expected.begin() + static_cast<ptrdiff_t>(kFrom));
    const auto differs = std::mismatch(got.begin(), got.end(), expected.begin());
    EXPECT_TRUE(differs.first == got.end()) << "byte " << differs.first - got.begin();
  }

  FakeCluster cluster_;
  const std::vector<std::byte> old_ = Pattern(kOld, 1);
  std::unique_ptr<FileData> file_;
};

TEST_F(LostTruncation, AWriteBeyondTheEndDoesNotBringItBack) {
  const auto fresh = Pattern(5'000, 2);
  ASSERT_TRUE(file_->Write(kFrom, fresh, kNow).ok());
  std::vector<std::byte> got(1'000);
  ASSERT_TRUE(file_->Read(kSize + 100, got).ok());
  EXPECT_EQ(got, std::vector<std::byte>(1'000));
  ExpectHidden(kFrom + fresh.size(), fresh);
}

TEST_F(LostTruncation, AWriteToALaterChunkDoesNotBringItBack) {
  ASSERT_TRUE(file_->Write(5 << 20, Pattern(10, 2), kNow).ok());
  std::vector<std::byte> got(kOld - kSize);
  ASSERT_EQ(cluster_.Release(*file_).ToString(), "ok");
  const auto reader = cluster_.NewFile();
  reader->AttachRead((5 << 20) + 10, {});
  ASSERT_TRUE(reader->Read(kSize, got).ok());
  EXPECT_EQ(got, std::vector<std::byte>(got.size()));
}

TEST_F(LostTruncation, ALargerSizeDoesNotBringItBack) {
  ASSERT_TRUE(file_->Truncate(80'000, kNow).ok());
  ExpectHidden(80'000);
}

// If the writer vanished now, the size would be taken from the chunk.
TEST_F(LostTruncation, AWriteBeforeTheEndCutsTheChunk) {
  ASSERT_TRUE(file_->Write(5, Pattern(10, 2), kNow).ok());
  ASSERT_EQ(file_->Flush().ToString(), "ok");
  ASSERT_EQ(cluster_.Release(*file_).ToString(), "ok");
  EXPECT_EQ(cluster_.master().Chunk(0).length, kSize);
}

// The writer goes on under its lease, with a chunk that it had cut and sealed; the replicas are back at what they were before.
TEST_F(LostTruncation, AChunkThatWentBackWhileItWasSealedIsCutAgain) {
  ASSERT_TRUE(file_->Truncate(20'000, kNow).ok());
  ASSERT_TRUE(FakeCluster::Eventually([&] { return file_->SealIdle(0).closed; }));
  const auto other = cluster_.NewFile();
  cluster_.master().Apply(file_->TakeCommit());
  cluster_.OpenForWriting(*other, kOld);
  ASSERT_TRUE(other->Write(0, old_, kNow).ok());
  ASSERT_EQ(cluster_.Release(*other).ToString(), "ok");
  ASSERT_EQ(cluster_.master().Chunk(0).length, kOld);

  file_->OnReconfigured(cluster_.master().Chunk(0));
  const auto fresh = Pattern(5'000, 2);
  ASSERT_TRUE(file_->Write(kFrom, fresh, kNow).ok());
  ASSERT_EQ(file_->Flush().ToString(), "ok");
  std::vector<std::byte> got(20'000);
  ASSERT_TRUE(file_->Read(20'000, got).ok());
  EXPECT_EQ(got, std::vector<std::byte>(got.size()));
}

}  // namespace
}  // namespace cairn::client
