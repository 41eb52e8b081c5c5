// Disks that are drained, left out and forgotten, servers that are named and put into another rack, and a rebalancing that is limited
// to a part of the cluster, with real processes.
#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <thread>

#include "tests/cluster/file_ops.h"
#include "tests/cluster/harness.h"

namespace cairn::cluster_test {
namespace {

uint64_t Count(const nlohmann::json& object, const char* field) {
  return object.is_object() ? std::stoull(object.value(field, std::string("0"))) : UINT64_MAX;
}

std::string Content(int i) { return Pattern(static_cast<uint64_t>(i), 60'000); }

void WriteFiles(const LocalCluster& cluster, int count) {
  for (int i = 0; i < count; ++i) ASSERT_EQ(WriteFile(cluster.Path("f" + std::to_string(i)), Content(i)), 0) << i;
  ASSERT_TRUE(WaitUntil([&] { return Count(cluster.Status(), "chunks") >= static_cast<uint64_t>(count); }, 30'000));
}

nlohmann::json Disk(const LocalCluster& cluster, const std::string& path) {
  const RunResult run = cluster.Cairn({"disk", "list", "--json"});
  if (run.exit_code != 0) return {};
  for (const auto& disk : nlohmann::json::parse(run.out)) {
    if (disk["path"] == path) return disk;
  }
  return {};
}

TEST(AdminTopology, ADiskIsDrainedWhileItsFilesAreUsedThenLeftOutAndForgotten) {
  auto cluster = LocalCluster::Start();
  ASSERT_NE(cluster, nullptr);
  const std::string other = cluster->directory() + "/data/cs2-b";
  std::filesystem::create_directories(other);
  cluster->Down({"--only", "cs2"});
  cluster->Up({"--only", "cs2", "--chunkserver-flag=--data=" + other});
  ASSERT_TRUE(cluster->WaitHealthy(30'000));
  constexpr int kFiles = 80;
  WriteFiles(*cluster, kFiles);
  ASSERT_TRUE(WaitUntil([&] { return Count(Disk(*cluster, other), "chunks") > 0; }, 20'000))
      << cluster->Cairn({"disk", "list"}).out;
  EXPECT_EQ(cluster->Cairn({"disk", "drain", "cs1:" + cluster->DataOf("cs1")}).exit_code, 1) << "its only disk";
  EXPECT_EQ(cluster->Cairn({"disk", "drain", "cs2:" + other, "--preview"}).exit_code, 0);
  EXPECT_EQ(Disk(*cluster, other).value("state", ""), "ok") << "a preview changes nothing";

  std::atomic<bool> stop{false};
  std::atomic<int> errors{0};
  std::atomic<uint64_t> below{0};
  std::thread load([&] {
    for (int round = 0; !stop.load(); ++round) {
      if (ReadFile(cluster->Path("f" + std::to_string(round % kFiles))) != Content(round % kFiles)) ++errors;
      if (WriteFile(cluster->Path("w" + std::to_string(round % 20)), Content(round % 20)) != 0) ++errors;
    }
  });
  std::thread checker([&] {
    while (!stop.load()) {
      const auto status = cluster->Status();
      if (status.is_object()) below.store(std::max(below.load(), Count(status, "chunks_below_policy")));
    }
  });
  const int64_t start = NowMillis();
  const uint64_t chunks = Count(Disk(*cluster, other), "chunks");
  const RunResult drain = cluster->Cairn({"disk", "drain", "cs2:" + other, "--reason", "old", "--wait"}, 120);
  const int64_t took = NowMillis() - start;
  stop.store(true);
  load.join();
  checker.join();
  ASSERT_EQ(drain.exit_code, 0) << drain.Both() << cluster->Cairn({"disk", "list"}).out;
  EXPECT_EQ(errors.load(), 0);
  EXPECT_EQ(below.load(), 0u) << "no copy is missing while it moves";
  Figure("disk with " + std::to_string(chunks) + " chunks drained to its neighbour under load in " + std::to_string(took) + " ms");
  const std::string uuid = Disk(*cluster, other).value("disk_uuid", "");

  // It is left out, which is noticed, and costs no copy: it was empty.
  cluster->Down({"--only", "cs2"});
  cluster->Up({"--only", "cs2", "--chunkserver-flag=--max-syncs=4"});
  ASSERT_TRUE(WaitUntil([&] { return Disk(*cluster, other).value("state", "") == "missing"; }, 30'000));
  EXPECT_TRUE(cluster->WaitHealthy(60'000)) << cluster->Cairn({"status"}).out;
  const RunResult status = cluster->Cairn({"status"});
  EXPECT_NE(status.out.find("cairn disk forget " + uuid), std::string::npos) << status.out;
  const RunResult forgotten = cluster->Cairn({"disk", "forget", uuid.substr(0, 12)});
  ASSERT_EQ(forgotten.exit_code, 0) << forgotten.Both();
  EXPECT_TRUE(Disk(*cluster, other).is_null());
  const std::string second = cluster->AddMount();
  for (int i = 0; i < kFiles; ++i) ASSERT_EQ(ReadFile(second + "/f" + std::to_string(i)), Content(i)) << i;
  const RunResult fsck = cluster->Cairn({"fsck"});
  EXPECT_EQ(fsck.exit_code, 0) << fsck.Both();
}

TEST(AdminTopology, ServersAreNamedMovedToAnotherRackAndEvenedOutWithinIt) {
  LocalCluster::Options options;
  options.chunkservers = 2;
  options.up_arguments = {"--policy", "replicas=1,write_quorum=1"};
  auto cluster = LocalCluster::Start(options);
  ASSERT_NE(cluster, nullptr);
  constexpr int kFiles = 60;
  WriteFiles(*cluster, kFiles);
  cluster->Up({"--chunkservers", "3"});
  ASSERT_TRUE(cluster->WaitHealthy(30'000));
  const auto run = [&](std::vector<std::string> command) {
    const RunResult result = cluster->Cairn(command);
    EXPECT_EQ(result.exit_code, 0) << result.Both();
    return result.out;
  };
  run({"server", "set", "cs1", "--name", "alpha", "--rack", "A"});
  run({"server", "set", "cs3", "--rack", "A"});
  EXPECT_NE(run({"server", "show", "alpha"}).find("its place was set here"), std::string::npos);
  EXPECT_EQ(cluster->Cairn({"server", "set", "cs2", "--name", "alpha"}).exit_code, 1);
  EXPECT_EQ(cluster->Cairn({"rebalance", "plan", "--only", "cs2"}).exit_code, 1);
  EXPECT_EQ(cluster->Cairn({"rebalance", "plan", "--only", "rack:Z"}).exit_code, 1);

  const auto chunks_of = [&](uint32_t server) {
    const auto status = cluster->Status();
    if (!status.is_object()) return UINT64_MAX;
    for (const auto& one : status["servers"]) {
      if (one.value("server", 0u) == server) return Count(one, "chunks");
    }
    return UINT64_MAX;
  };
  // What heartbeats tell comes late.
  ASSERT_TRUE(WaitUntil([&] { return chunks_of(1) + chunks_of(2) == kFiles; }, 20'000));
  const uint64_t of_two = chunks_of(2);
  ASSERT_TRUE(WaitUntil(
      [&] {
        const RunResult plan =
            cluster->Cairn({"rebalance", "plan", "--only", "rack:A", "--threshold", "0.00001", "--json"});
        return plan.exit_code == 0 && Count(nlohmann::json::parse(plan.out)["plan"], "moves") > kFiles / 6u;
      },
      20'000, 500));
  const RunResult applied = cluster->Cairn(
      {"rebalance", "apply", "--only", "alpha,cs3", "--path", cluster->mount(), "--threshold", "0.00001", "--watch"}, 120);
  ASSERT_EQ(applied.exit_code, 0) << applied.Both();
  EXPECT_NE(applied.out.find("Only between cs1, cs3; files below /"), std::string::npos) << applied.out;
  EXPECT_TRUE(WaitUntil([&] { return chunks_of(3) >= kFiles / 6u; }, 30'000)) << run({"server", "list"});
  EXPECT_EQ(chunks_of(2), of_two) << "cs2 is not in the scope";

  // The log level changes at run time, and a request can be followed.
  EXPECT_EQ(ReadFile(cluster->LogOf("master")).find(" op=mkdir "), std::string::npos);
  run({"log-level", "all", "debug"});
  ASSERT_EQ(mkdir(cluster->Path("traced").c_str(), 0755), 0);
  EXPECT_TRUE(WaitUntil([&] { return ReadFile(cluster->LogOf("master")).find(" op=mkdir ") != std::string::npos; }, 10'000));
  ASSERT_EQ(WriteFile(cluster->Path("traced/file"), Content(1), true), 0);
  EXPECT_TRUE(WaitUntil(
      [&] {
        for (int i = 1; i <= 3; ++i) {
          if (ReadFile(cluster->LogOf("cs" + std::to_string(i))).find(" mutate offset=0 length=60000 ") != std::string::npos)
            return true;
        }
        return false;
      },
      10'000));
  EXPECT_EQ(cluster->Cairn({"log-level", "cs9", "debug"}).exit_code, 1);
  EXPECT_EQ(cluster->Cairn({"log-level", "master", "loud"}).exit_code, 2);
  const std::string second = cluster->AddMount();
  for (int i = 0; i < kFiles; ++i) ASSERT_EQ(ReadFile(second + "/f" + std::to_string(i)), Content(i)) << i;
}

}  // namespace
}  // namespace cairn::cluster_test
