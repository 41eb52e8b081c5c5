// A flipped byte at rest is found by the reader, another replica serves, the damage is repaired, and the story is told.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "tests/cluster/file_ops.h"
#include "tests/cluster/harness.h"

namespace cairn::cluster_test {
namespace {
namespace fs = std::filesystem;

// Flips one byte of the first occurrence of `needle` in any file below `directory`; answers whether it was found.
bool FlipByteAfter(const std::string& directory, const std::string& needle) {
  for (const auto& entry : fs::recursive_directory_iterator(directory)) {
    if (!entry.is_regular_file() || entry.file_size() < needle.size()) continue;
    std::string content = ReadFile(entry.path().string());
    const size_t at = content.find(needle);
    if (at == std::string::npos) continue;
    std::fstream file(entry.path(), std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(at + needle.size() / 2));
    const char flipped = static_cast<char>(content[at + needle.size() / 2] ^ 0x10);
    file.write(&flipped, 1);
    return file.good();
  }
  return false;
}

TEST(Damage, AFlippedByteIsFoundServedAroundRepairedAndExplained) {
  auto cluster = LocalCluster::Start();
  ASSERT_NE(cluster, nullptr);
  const std::string content = Pattern(99, 300'000);
  ASSERT_EQ(WriteFile(cluster->Path("precious"), content, true), 0);
  ASSERT_TRUE(cluster->WaitHealthy(30'000)) << cluster->Status().dump(1);

  // Two of three: whichever replica a reader prefers, it soon meets the damage.
  const std::string needle = content.substr(100'000, 64);
  ASSERT_TRUE(FlipByteAfter(cluster->DataOf("cs1"), needle));
  ASSERT_TRUE(FlipByteAfter(cluster->DataOf("cs2"), needle));

  const std::string second = cluster->AddMount();
  EXPECT_TRUE(ReadFile(second + "/precious") == content) << "wrong bytes reached the reader";
  // Readers report; repair replaces the blocks; afterwards every replica serves alone.
  RunResult explain;
  EXPECT_TRUE(WaitUntil(
      [&] {
        (void)ReadFile(cluster->AddMount() + "/precious");
        explain = cluster->Cairn({"chunk", "explain", "/precious"});
        return explain.Both().find("corrupt") != std::string::npos && cluster->WaitHealthy(5'000);
      },
      60'000, 1'000))
      << explain.Both();
  EXPECT_NE(explain.Both().find("sync of"), std::string::npos) << explain.Both();
  EXPECT_TRUE(ReadFile(second + "/precious") == content);
}

}  // namespace
}  // namespace cairn::cluster_test
