// What is true at the moment a call returns, asked of the chunkservers themselves.
#include <gtest/gtest.h>

#include "tests/cluster/file_ops.h"
#include "tests/cluster/harness.h"

namespace cairn::cluster_test {
namespace {

ChunkId ChunkOf(const LocalCluster& cluster, const std::string& path) {
  const RunResult result = cluster.Cairn({"chunk", "explain", path, "--json"});
  const auto json = nlohmann::json::parse(result.out, nullptr, false);
  if (!json.is_object() || !json.contains("chunk")) {
    ADD_FAILURE() << "chunk explain " << path << ": " << result.Both();
    return {};
  }
  return ChunkId(std::stoull(json["chunk"].get<std::string>()));
}

TEST(Commit, AtCloseTheQuorumHoldsTheBytesAndAtUnlinkItHoldsTombstones) {
  auto cluster = LocalCluster::Start();
  ASSERT_NE(cluster, nullptr);
  const std::vector<std::string> servers = cluster->ServerAddresses();
  ASSERT_EQ(servers.size(), 3u);
  for (int i = 0; i < 20; ++i) {
    const std::string name = "f" + std::to_string(i);
    const size_t size = 5000 + 777 * static_cast<size_t>(i);
    ASSERT_EQ(WriteFile(cluster->Path(name), Pattern(static_cast<uint64_t>(i), size)), 0);
    const ChunkId chunk = ChunkOf(*cluster, "/" + name);
    int holding = 0;
    for (const std::string& server : servers) {
      const auto info = QueryReplica(server, chunk);
      if (info.ok() && info->length == size && info->accepted.seq >= 1) ++holding;
    }
    EXPECT_GE(holding, 2) << name;

    ASSERT_EQ(Remove(cluster->Path(name)), 0);
    int confirmed = 0;
    for (const std::string& server : servers) {
      const auto info = QueryReplica(server, chunk);
      // The tombstone itself, or already the erasure that follows it.
      if (info.ok() ? static_cast<bool>(info->tombstone)
                    : info.code() == StatusCode::kDeleted || info.code() == StatusCode::kUnknownChunk) {
        ++confirmed;
      }
    }
    EXPECT_GE(confirmed, 2) << name;
  }
}

}  // namespace
}  // namespace cairn::cluster_test
