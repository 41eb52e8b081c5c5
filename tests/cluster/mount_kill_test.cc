// A mount is killed while it writes: another mount sees every fsynced byte after bounded time, and nothing
// stays locked.
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "tests/cluster/file_ops.h"
#include "tests/cluster/harness.h"

namespace cairn::cluster_test {
namespace {

TEST(MountKill, AnotherMountSeesEveryFsyncedByte) {
  auto cluster = LocalCluster::Start();
  ASSERT_NE(cluster, nullptr);
  const std::string doomed = cluster->AddMount();
  std::atomic<uint64_t> synced{0};
  std::atomic<uint64_t> written{0};
  std::thread writer([&] {
    const int fd = open((doomed + "/log").c_str(), O_CREAT | O_WRONLY, 0644);
    uint64_t at = 0;
    for (uint64_t i = 0;; ++i) {
      const std::string block = Pattern(i, 50'000);
      if (WriteWhole(fd, block) != 0) break;
      at += block.size();
      written = at;
      if (i % 5 == 4) {
        if (fsync(fd) != 0) break;
        synced = at;
      }
    }
    close(fd);
  });
  EXPECT_TRUE(WaitUntil([&] { return synced.load() > 3'000'000; }, 60'000, 1));
  cluster->KillMount(doomed);
  writer.join();
  const uint64_t must_have = synced.load();
  Figure("mount killed with " + std::to_string(must_have) + " bytes fsynced, " +
         std::to_string(written.load() - must_have) + " written since the last fsync");

  const int64_t start = NowMillis();
  const std::string seen = ReadFile(cluster->Path("log"));
  Figure("the other mount read " + std::to_string(seen.size()) + " bytes after " +
         std::to_string(NowMillis() - start) + " ms");
  ASSERT_GE(seen.size(), must_have) << seen.substr(0, 100);
  for (uint64_t i = 0; (i + 1) * 50'000 <= must_have; ++i) {
    ASSERT_TRUE(seen.compare(i * 50'000, 50'000, Pattern(i, 50'000)) == 0) << "block " << i;
  }
  // No chunk stays locked.
  EXPECT_EQ(WriteFile(cluster->Path("log"), "new owner", true), 0);
  EXPECT_EQ(ReadFile(cluster->Path("log")), "new owner");
  EXPECT_EQ(Remove(cluster->Path("log")), 0);
  EXPECT_TRUE(cluster->WaitHealthy(30'000)) << cluster->Status().dump(1);
}

}  // namespace
}  // namespace cairn::cluster_test
