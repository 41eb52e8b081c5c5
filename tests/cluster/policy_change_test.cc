// Policies change online: another N, another W and another failure domain for files that exist, while they
// are written.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <thread>

#include "tests/cluster/file_ops.h"
#include "tests/cluster/harness.h"

namespace cairn::cluster_test {
namespace {

int FileCount() {
  const char* wanted = std::getenv("CAIRN_TEST_POLICY_FILES");
  return wanted != nullptr ? std::atoi(wanted) : LongTests() ? 2000 : 300;
}

std::string Name(int i) { return "d/f" + std::to_string(i); }
std::string Content(int i, int version) {
  return Pattern(static_cast<uint64_t>(i) * 1000 + static_cast<uint64_t>(version),
                 1 + static_cast<size_t>(i) * 331 % 30'000);
}

uint64_t Count(const nlohmann::json& object, const char* field) {
  return object.is_object() ? std::stoull(object.value(field, std::string("0"))) : UINT64_MAX;
}

struct Shape {
  size_t members = 0;
  uint32_t quorum = 0;
  size_t current = 0;
  bool operator==(const Shape&) const = default;
};
Shape ShapeOf(const LocalCluster& cluster, const std::string& name) {
  const RunResult run = cluster.Cairn({"chunk", "explain", "cairn:/" + name, "--json"});
  Shape shape;
  if (run.exit_code != 0) return shape;
  const auto chunk = nlohmann::json::parse(run.out);
  shape.members = chunk["members"].size();
  shape.quorum = chunk.value("write_quorum", 0u);
  for (const auto& member : chunk["members"]) shape.current += member.value("state", "") == "current";
  return shape;
}

// Until nothing is left to move and the files at hand look as wanted.
bool Converges(const LocalCluster& cluster, const Shape& wanted, int files, int64_t timeout_ms) {
  return WaitUntil(
      [&] {
        const auto status = cluster.Status();
        if (Count(status, "chunks_misplaced") != 0 || Count(status, "chunks_below_policy") != 0 ||
            Count(status, "repairs_queued") != 0 || Count(status, "repairs_running") != 0) {
          return false;
        }
        for (int i = 0; i < files; i += files / 10) {
          if (ShapeOf(cluster, Name(i)) != wanted) return false;
        }
        return true;
      },
      timeout_ms, 300);
}

TEST(PolicyChange, FewerThenMoreReplicasAndAnotherQuorumWhileTheFilesAreWritten) {
  auto cluster = LocalCluster::Start();
  ASSERT_NE(cluster, nullptr);
  const int files = FileCount();
  ASSERT_EQ(mkdir(cluster->Path("d").c_str(), 0755), 0);
  for (int i = 0; i < files; ++i) ASSERT_EQ(WriteFile(cluster->Path(Name(i)), Content(i, 0)), 0);

  std::atomic<bool> stop{false};
  std::atomic<int> errors{0};
  std::atomic<int> rewritten{0};
  std::vector<int> version(static_cast<size_t>(files), 0);
  std::thread writer([&] {
    for (int round = 1; !stop.load(); ++round) {
      for (int i = 0; i < files && !stop.load(); i += 7) {
        if (WriteFile(cluster->Path(Name(i)), Content(i, round)) == 0) {
          version[static_cast<size_t>(i)] = round;
        } else {
          ++errors;
        }
        ++rewritten;
        std::this_thread::sleep_for(std::chrono::milliseconds(5));  // a load, not a stress test of the writer
      }
    }
  });
  const auto change = [&](const std::string& policy, const Shape& wanted) {
    const int64_t start = NowMillis();
    const RunResult set = cluster->Cairn({"policy", "set", "cairn:/d", policy});
    ASSERT_EQ(set.exit_code, 0) << set.Both();
    ASSERT_TRUE(WaitUntil([&] { return ShapeOf(*cluster, Name(1)) == wanted; }, 120'000, 200))
        << policy << ": " << cluster->Cairn({"chunk", "explain", "cairn:/" + Name(1)}).out;
    Figure("policy " + policy + " on " + std::to_string(files) +
           " files under load: first looked at has it after " + std::to_string(NowMillis() - start) + " ms");
  };
  change("replicas=2,write_quorum=2", {2, 2, 2});
  change("replicas=3,write_quorum=2", {3, 2, 3});
  change("replicas=3,write_quorum=3", {3, 3, 3});
  stop.store(true);
  writer.join();
  EXPECT_EQ(errors.load(), 0);
  EXPECT_GT(rewritten.load(), 0);
  EXPECT_TRUE(Converges(*cluster, {3, 3, 3}, files, 180'000)) << cluster->Status().dump(1);

  // Quiet now: how long the whole directory takes.
  for (const auto& [policy, wanted] :
       {std::pair<std::string, Shape>{"replicas=2,write_quorum=1", {2, 1, 2}},
        std::pair<std::string, Shape>{"replicas=3,write_quorum=2", {3, 2, 3}}}) {
    const int64_t start = NowMillis();
    const RunResult set = cluster->Cairn({"policy", "set", "cairn:/d", policy});
    ASSERT_EQ(set.exit_code, 0) << set.Both();
    EXPECT_TRUE(Converges(*cluster, wanted, files, 180'000)) << policy << cluster->Status().dump(1);
    Figure("policy " + policy + " on " + std::to_string(files) + " files at rest: all of them after " +
           std::to_string(NowMillis() - start) + " ms");
  }
  const std::string second = cluster->AddMount();
  for (int i = 0; i < files; ++i)
    ASSERT_EQ(ReadFile(second + "/" + Name(i)), Content(i, version[static_cast<size_t>(i)])) << i;
  const RunResult fsck = cluster->Cairn({"fsck"});
  EXPECT_EQ(fsck.exit_code, 0) << fsck.Both();
}

}  // namespace
}  // namespace cairn::cluster_test
