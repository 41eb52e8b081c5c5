// One of three chunkservers dies in the middle of a long write, comes back and is repaired by difference; one
// stands still meanwhile; another one dies for good and a fourth takes its place.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "tests/cluster/file_ops.h"
#include "tests/cluster/harness.h"

namespace cairn::cluster_test {
namespace {

constexpr size_t kMiB = 1 << 20;

struct WriteRun {
  int error = 0;
  int64_t longest_write_ms = 0;
  std::string sha256;
};

// Writes `total_mib` MiB in 1 MiB calls and fsyncs; `at` tells the progress in MiB.
WriteRun WriteBig(const std::string& path, size_t total_mib, std::atomic<size_t>* at) {
  WriteRun run;
  const int fd = open(path.c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0644);
  if (fd < 0) {
    run.error = errno;
    return run;
  }
  for (size_t i = 0; i < total_mib && run.error == 0; ++i) {
    const std::string block = Pattern(i, kMiB);
    const int64_t start = NowMillis();
    run.error = WriteWhole(fd, block);
    run.longest_write_ms = std::max(run.longest_write_ms, NowMillis() - start);
    at->store(i + 1);
  }
  if (run.error == 0 && fsync(fd) != 0) run.error = errno;
  if (close(fd) != 0 && run.error == 0) run.error = errno;
  return run;
}

// Empty when the file holds what WriteBig wrote, otherwise where it differs.
std::string CheckBig(const std::string& path, size_t total_mib) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return std::strerror(errno);
  std::string difference;
  std::string block(kMiB, '\0');
  for (size_t i = 0; i < total_mib && difference.empty(); ++i) {
    size_t done = 0;
    while (done < kMiB) {
      const ssize_t n = read(fd, block.data() + done, kMiB - done);
      if (n <= 0) break;
      done += static_cast<size_t>(n);
    }
    if (done != kMiB || block != Pattern(i, kMiB)) difference = "MiB " + std::to_string(i) + " differs";
  }
  close(fd);
  return difference;
}

size_t FileMib() {
  const char* wanted = std::getenv("CAIRN_TEST_BIG_MIB");
  return wanted != nullptr ? static_cast<size_t>(std::atol(wanted)) : 256;
}

TEST(ChunkserverKill, AWriteGoesOnAndTheServerIsRepairedByDifference) {
  auto cluster = LocalCluster::Start();
  ASSERT_NE(cluster, nullptr);
  const size_t total = FileMib();
  std::atomic<size_t> at{0};
  WriteRun run;
  std::thread writer([&] { run = WriteBig(cluster->Path("big"), total, &at); });
  EXPECT_TRUE(WaitUntil([&] { return at.load() >= total / 3; }, 60'000, 1));
  const size_t killed_at = at.load();
  cluster->Kill("cs2");
  writer.join();
  ASSERT_EQ(run.error, 0) << std::strerror(run.error);
  EXPECT_LT(killed_at, total) << "the write was over before the kill";
  EXPECT_EQ(CheckBig(cluster->Path("big"), total), "");
  Figure("cs2 killed at MiB " + std::to_string(killed_at) + " of " + std::to_string(total) +
         ": longest write() " + std::to_string(run.longest_write_ms) + " ms");

  cluster->Up({"--only", "cs2"});
  const int64_t start = NowMillis();
  // The master hears of the stale copy when the writer's chunks are sealed.
  EXPECT_TRUE(WaitUntil(
      [&] {
        const auto now = cluster->Status();
        return now.is_object() && now.value("repaired_bytes_differing", std::string("0")) != "0";
      },
      120'000, 100));
  EXPECT_TRUE(cluster->WaitHealthy(120'000)) << cluster->Status().dump(1);
  const auto status = cluster->Status();
  const uint64_t sent = std::stoull(status.value("repaired_bytes", std::string("0")));
  const uint64_t differing = std::stoull(status.value("repaired_bytes_differing", std::string("0")));
  Figure("cs2 back: fully replicated after " + std::to_string(NowMillis() - start) + " ms, " +
         std::to_string(sent) + " bytes sent for " + std::to_string(differing) + " differing");
  EXPECT_GT(differing, 0u);
  EXPECT_LE(sent, 2 * differing);
  const std::string second = cluster->AddMount();
  EXPECT_EQ(CheckBig(second + "/big", total), "");
}

TEST(ChunkserverKill, AFrozenServerStopsNobodyAndIsWholeAgainWhenItGoesOn) {
  auto cluster = LocalCluster::Start();
  ASSERT_NE(cluster, nullptr);
  const size_t total = FileMib();
  std::atomic<size_t> at{0};
  WriteRun run;
  std::thread writer([&] { run = WriteBig(cluster->Path("big"), total, &at); });
  EXPECT_TRUE(WaitUntil([&] { return at.load() >= total / 3; }, 60'000, 1));
  const size_t frozen_at = at.load();
  cluster->Signal("cs2", SIGSTOP);
  writer.join();
  cluster->Signal("cs2", SIGCONT);
  ASSERT_EQ(run.error, 0) << std::strerror(run.error);
  EXPECT_LT(frozen_at, total) << "the write was over before the server stood still";
  Figure("cs2 frozen at MiB " + std::to_string(frozen_at) + " of " + std::to_string(total) + ": longest write() " +
         std::to_string(run.longest_write_ms) + " ms");
  EXPECT_TRUE(cluster->WaitHealthy(120'000)) << cluster->Status().dump(1);
  EXPECT_EQ(CheckBig(cluster->AddMount() + "/big", total), "");
}

TEST(ChunkserverKill, AFourthServerTakesTheDeadOnesPlace) {
  LocalCluster::Options options;
  options.up_arguments = {"--master-flag", "--repair-grace-ms=1000"};
  auto cluster = LocalCluster::Start(options);
  ASSERT_NE(cluster, nullptr);
  const size_t total = FileMib() / 4;
  std::atomic<size_t> at{0};
  const WriteRun run = WriteBig(cluster->Path("big"), total, &at);
  ASSERT_EQ(run.error, 0) << std::strerror(run.error);
  cluster->Kill("cs1");
  const int64_t start = NowMillis();
  cluster->Up({"--chunkservers", "4", "--only", "cs4"});
  EXPECT_TRUE(WaitUntil(
      [&] {
        const auto status = cluster->Status();
        if (!status.is_object() || status.value("repaired_chunks", std::string("0")) == "0") return false;
        return status.value("chunks_below_policy", std::string("1")) == "0" &&
               status.value("repairs_running", std::string("1")) == "0" &&
               status.value("repairs_queued", std::string("1")) == "0";
      },
      120'000, 200))
      << cluster->Status().dump(1);
  Figure("cs1 dead, cs4 new: " + std::to_string(total) + " MiB fully replicated after " +
         std::to_string(NowMillis() - start) + " ms (repair grace 1 s)");
  // Now two further losses among the old members may not matter: the new copy counts.
  cluster->Kill("cs2");
  EXPECT_EQ(CheckBig(cluster->AddMount() + "/big", total), "");
}

}  // namespace
}  // namespace cairn::cluster_test
