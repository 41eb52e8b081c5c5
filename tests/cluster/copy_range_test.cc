// copy_file_range(2) on a mount of a real cluster: the chunkservers copy, whatever happens to them meanwhile.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fstream>
#include <random>
#include <thread>

#include "tests/cluster/harness.h"

namespace cairn::cluster_test {
namespace {

constexpr size_t kMiB = 1 << 20;

class CopyRangeTest : public ::testing::Test {
 protected:
  // With four servers and three replicas the copies of source and target lie on different ones: bytes also go from chunkserver to
  // chunkserver.
  static void SetUpTestSuite() {
    cluster_ = LocalCluster::Start({.chunkservers = 4});
    ASSERT_NE(cluster_, nullptr);
  }
  static void TearDownTestSuite() { cluster_.reset(); }
  void SetUp() override { ASSERT_NE(cluster_, nullptr); }

  std::string P(const std::string& name) const { return cluster_->Path(name); }
  nlohmann::json Stats() const {
    char text[4096];
    const ssize_t n = getxattr(cluster_->mount().c_str(), "user.cairn.stats", text, sizeof text);
    EXPECT_GT(n, 0) << std::strerror(errno);
    return nlohmann::json::parse(std::string(text, static_cast<size_t>(std::max<ssize_t>(n, 0))), nullptr, false);
  }
  static void Put(const std::string& path, const std::string& content) {
    std::ofstream file(path, std::ios::binary | std::ios::trunc);
    file << content;
    file.close();
    ASSERT_TRUE(file.good()) << path;
  }
  // The error, or 0. Copies everything.
  static int Copy(const std::string& from, const std::string& to, size_t* copied) {
    const int in = open(from.c_str(), O_RDONLY | O_CLOEXEC);
    const int out = open(to.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    int error = in < 0 || out < 0 ? errno : 0;
    *copied = 0;
    while (error == 0) {
      const ssize_t n = copy_file_range(in, nullptr, out, nullptr, 1ull << 30, 0);
      if (n == 0) break;
      if (n < 0) error = errno;
      if (n > 0) *copied += static_cast<size_t>(n);
    }
    if (out >= 0 && close(out) != 0 && error == 0) error = errno;
    if (in >= 0) close(in);
    return error;
  }

  static std::unique_ptr<LocalCluster> cluster_;
};
std::unique_ptr<LocalCluster> CopyRangeTest::cluster_;

TEST_F(CopyRangeTest, TheBytesDoNotPassThroughTheMount) {
  // Small chunks: the copy goes over several, and they are not aligned to each other.
  ASSERT_EQ(mkdir(P("d").c_str(), 0755), 0);
  ASSERT_EQ(cluster_->Cairn({"policy", "set", "cairn:/d", "chunk_bytes=4MiB"}).exit_code, 0);
  const std::string content = Pattern(1, 30 * kMiB + 12'345);
  Put(P("d/a"), content);
  const auto before = Stats();
  size_t copied = 0;
  ASSERT_EQ(Copy(P("d/a"), P("d/b"), &copied), 0);
  EXPECT_EQ(copied, content.size());
  const auto after = Stats();
  const auto grown = [&](const char* what) { return after.value(what, int64_t{0}) - before.value(what, int64_t{0}); };
  EXPECT_EQ(grown("bytes_read"), 0);
  EXPECT_EQ(grown("bytes_written"), 0);
  EXPECT_EQ(grown("bytes_copied"), static_cast<int64_t>(content.size()));
  EXPECT_EQ(grown("bytes_copied_here"), 0);
  EXPECT_EQ(Sha256OfFile(P("d/b")), Sha256OfFile(P("d/a")));
  // As any other mount and the master see it.
  const std::string other = cluster_->AddMount();
  EXPECT_EQ(Sha256OfFile(other + "/d/b"), Sha256OfFile(P("d/a")));
  EXPECT_TRUE(cluster_->WaitHealthy(30'000));
  Figure("30 MiB copied by the chunkservers: " + std::to_string(grown("data_requests")) + " requests of the mount, " +
         std::to_string(grown("bytes_read") + grown("bytes_written")) + " bytes through it");
}

TEST_F(CopyRangeTest, WhatAnotherMountHasJustWrittenIsCopied) {
  const std::string other = cluster_->AddMount();
  const int writer = open((other + "/a").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  ASSERT_GE(writer, 0);
  std::string content = Pattern(2, 300'000);
  ASSERT_EQ(pwrite(writer, content.data(), content.size(), 0), static_cast<ssize_t>(content.size()));
  std::mt19937_64 random(3);
  for (int round = 0; round < 20; ++round) {
    const std::string text = Pattern(random(), 1000);
    const size_t at = random() % (content.size() - text.size());
    content.replace(at, text.size(), text);
    ASSERT_EQ(pwrite(writer, text.data(), text.size(), static_cast<off_t>(at)), static_cast<ssize_t>(text.size()));
    size_t copied = 0;
    ASSERT_EQ(Copy(P("a"), P("b"), &copied), 0);
    ASSERT_EQ(copied, content.size());
    std::ifstream copy(other + "/b", std::ios::binary);
    ASSERT_TRUE(std::string(std::istreambuf_iterator<char>(copy), {}) == content) << "round " << round;
  }
  close(writer);
}

TEST_F(CopyRangeTest, ChunkserversDieAndComeBackWhileTheyCopy) {
  ASSERT_EQ(mkdir(P("e").c_str(), 0755), 0);
  ASSERT_EQ(cluster_->Cairn({"policy", "set", "cairn:/e", "chunk_bytes=1MiB"}).exit_code, 0);
  const std::string content = Pattern(4, 24 * kMiB);
  Put(P("e/a"), content);
  ASSERT_TRUE(cluster_->WaitHealthy(30'000));
  const std::string expected = Sha256OfFile(P("e/a"));
  std::atomic<bool> stop{false};
  std::atomic<int> copies{0};
  std::atomic<int> failures{0};
  std::thread copy([&] {
    for (int i = 0; !stop; ++i) {
      size_t copied = 0;
      const int error = Copy(P("e/a"), P("e/copy" + std::to_string(i % 3)), &copied);
      if (error != 0 || copied != content.size()) {
        ++failures;
        ADD_FAILURE() << "copy " << i << ": " << copied << " bytes, " << std::strerror(error);
      } else if (Sha256OfFile(P("e/copy" + std::to_string(i % 3))) != expected) {
        ++failures;
        ADD_FAILURE() << "copy " << i << " differs";
      }
      ++copies;
    }
  });
  for (const char* server : {"cs1", "cs3"}) {
    EXPECT_TRUE(WaitUntil([&, now = copies.load()] { return copies > now || failures > 0; }, 60'000));
    cluster_->Kill(server);
    EXPECT_TRUE(WaitUntil([&, now = copies.load()] { return copies > now + 1 || failures > 0; }, 60'000));
    cluster_->Up();
    EXPECT_TRUE(WaitUntil([&, now = copies.load()] { return copies > now || failures > 0; }, 60'000));
  }
  stop = true;
  copy.join();
  const auto stats = Stats();
  EXPECT_GT(stats.value("bytes_copied", int64_t{0}), static_cast<int64_t>(content.size()));
  Figure(std::to_string(copies) + " copies of 24 MiB while chunkservers died: " +
         std::to_string(stats.value("bytes_copied", int64_t{0}) >> 20) + " MiB by the chunkservers, " +
         std::to_string(stats.value("bytes_copied_here", int64_t{0}) >> 20) + " MiB through the mount");
  EXPECT_TRUE(cluster_->WaitHealthy(60'000));
  for (int i = 0; i < std::min(3, copies.load()); ++i) EXPECT_EQ(Sha256OfFile(P("e/copy" + std::to_string(i))), expected);
}

TEST_F(CopyRangeTest, ALostQuorumIsEIOInTime) {
  Put(P("a"), Pattern(5, 4 * kMiB));
  ASSERT_TRUE(cluster_->WaitHealthy(60'000));
  for (const char* server : {"cs1", "cs2", "cs3"}) cluster_->Kill(server);
  size_t copied = 0;
  const int64_t began = NowMillis();
  EXPECT_EQ(Copy(P("a"), P("b"), &copied), EIO);
  EXPECT_LT(NowMillis() - began, 60'000);
  cluster_->Up();
  EXPECT_TRUE(cluster_->WaitHealthy(60'000));
  EXPECT_EQ(Copy(P("a"), P("b"), &copied), 0);
  EXPECT_EQ(Sha256OfFile(P("b")), Sha256OfFile(P("a")));
}

}  // namespace
}  // namespace cairn::cluster_test
