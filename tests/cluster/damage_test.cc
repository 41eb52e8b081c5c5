// A flipped byte at rest is found by the reader, another replica serves, the damage is repaired, and the
// story is told.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "tests/cluster/file_ops.h"
#include "tests/cluster/harness.h"

namespace cairn::cluster_test {
namespace {
namespace fs = std::filesystem;

// Flips one byte of the first occurrence of `needle` in any file below `directory`; answers whether it was
// found.
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
  // Several files, each damaged on two of its three replicas: readers spread over the replicas by chunk, so
  // that some meet it.
  constexpr int kFiles = 8;
  const auto content = [](int i) { return Pattern(99 + static_cast<uint64_t>(i), 300'000); };
  const auto name = [](int i) { return "precious" + std::to_string(i); };
  for (int i = 0; i < kFiles; ++i) ASSERT_EQ(WriteFile(cluster->Path(name(i)), content(i), true), 0);
  ASSERT_TRUE(cluster->WaitHealthy(30'000)) << cluster->Status().dump(1);
  for (int i = 0; i < kFiles; ++i) {
    const std::string needle = content(i).substr(100'000, 64);
    ASSERT_TRUE(FlipByteAfter(cluster->DataOf("cs1"), needle));
    ASSERT_TRUE(FlipByteAfter(cluster->DataOf("cs2"), needle));
  }

  const std::string second = cluster->AddMount();
  for (int i = 0; i < kFiles; ++i) {
    EXPECT_TRUE(ReadFile(second + "/" + name(i)) == content(i))
        << "wrong bytes reached the reader of " << name(i);
  }
  // Readers report; a sync replaces the blocks; the chunk's story tells both.
  std::string story;
  EXPECT_TRUE(WaitUntil(
      [&] {
        for (int i = 0; i < kFiles; ++i) {
          story = cluster->Cairn({"chunk", "explain", "/" + name(i)}).Both();
          if (story.find("is corrupt") != std::string::npos && story.find("sync of") != std::string::npos)
            return true;
        }
        return false;
      },
      30'000, 500))
      << story;
  EXPECT_TRUE(cluster->WaitHealthy(60'000)) << cluster->Status().dump(1);
  for (int i = 0; i < kFiles; ++i) {
    EXPECT_TRUE(ReadFile(second + "/" + name(i)) == content(i));
  }
}

}  // namespace
}  // namespace cairn::cluster_test
