// What an administrator does after a disaster: the master's metadata from a backup, and a chunk of which two
// of three copies are gone for good.
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/cluster/file_ops.h"
#include "tests/cluster/harness.h"

namespace cairn::cluster_test {
namespace {

constexpr int kFiles = 50;

std::string Name(int i) { return "f" + std::to_string(i); }
std::string Content(int i) {
  return Pattern(static_cast<uint64_t>(i), 1 + static_cast<size_t>(i) * 5003 % 200'000);
}

uint64_t Count(const nlohmann::json& object, const char* field) {
  return object.is_object() ? std::stoull(object.value(field, std::string("0"))) : UINT64_MAX;
}

TEST(RecoveryCommands, ABackupRestoredIntoAFreshMasterServesTheWholeCluster) {
  auto cluster = LocalCluster::Start();
  ASSERT_NE(cluster, nullptr);
  for (int i = 0; i < kFiles; ++i) ASSERT_EQ(WriteFile(cluster->Path(Name(i)), Content(i), true), 0);
  ASSERT_EQ(WriteFile(cluster->Path("grows"), "before", true), 0);
  ASSERT_TRUE(WaitUntil([&] { return Count(cluster->Status(), "chunks") >= kFiles + 1; }, 30'000));
  ASSERT_TRUE(cluster->WaitHealthy(30'000));
  const std::string backup = cluster->directory() + "/backup";
  const RunResult made = cluster->Cairn({"master", "backup", backup, "--json"});
  ASSERT_EQ(made.exit_code, 0) << made.Both();
  EXPECT_EQ(cluster->Cairn({"master", "backup", backup}).exit_code, 1)
      << "an existing directory is not overwritten";

  // What happens after the backup is not in it: a new file is gone, a deleted one is back if its copies still
  // are.
  ASSERT_EQ(WriteFile(cluster->Path("later"), "after the backup", true), 0);
  cluster->Down();
  std::filesystem::remove_all(cluster->DataOf("master"));
  const int64_t start = NowMillis();
  const RunResult restored = cluster->Cairn({"master", "restore", backup, "--dir", cluster->directory()});
  ASSERT_EQ(restored.exit_code, 0) << restored.Both();
  cluster->Up();
  for (int i = 0; i < kFiles; ++i) ASSERT_EQ(ReadFile(cluster->Path(Name(i))), Content(i)) << i;
  Figure("restored and all of " + std::to_string(kFiles) + " files read again after " +
         std::to_string(NowMillis() - start) + " ms");
  EXPECT_EQ(ReadFile(cluster->Path("grows")), "before");
  EXPECT_FALSE(Exists(cluster->Path("later")));
  EXPECT_EQ(WriteFile(cluster->Path("later"), "written again", true), 0);
  EXPECT_EQ(WriteFile(cluster->Path("grows"), "before and after", true), 0);
  EXPECT_EQ(Remove(cluster->Path(Name(0))), 0);
  EXPECT_TRUE(cluster->WaitHealthy(60'000)) << cluster->Status().dump(1);
  EXPECT_EQ(cluster->Cairn({"fsck"}).exit_code, 0);
  const std::string second = cluster->AddMount();
  EXPECT_EQ(ReadFile(second + "/later"), "written again");
  EXPECT_EQ(ReadFile(second + "/grows"), "before and after");
}

TEST(RecoveryCommands, ALossIsAcceptedOnlyExplicitlyAndTheFileGoesOnWithWhatIsLeft) {
  LocalCluster::Options options;
  options.chunkservers = 3;
  auto cluster = LocalCluster::Start(options);
  ASSERT_NE(cluster, nullptr);
  const std::string content = Pattern(7, 300'000);
  ASSERT_EQ(WriteFile(cluster->Path("victim"), content, true), 0);
  ASSERT_TRUE(WaitUntil([&] { return Count(cluster->Status(), "chunks") >= 1; }, 30'000));
  ASSERT_TRUE(cluster->WaitHealthy(30'000));
  const RunResult before = cluster->Cairn({"chunk", "explain", "cairn:/victim", "--json"});
  ASSERT_EQ(before.exit_code, 0) << before.Both();
  const std::string chunk = nlohmann::json::parse(before.out).value("chunk", "");
  const std::string epoch = nlohmann::json::parse(before.out).value("epoch", "");

  for (const char* name : {"cs2", "cs3"}) {
    cluster->Kill(name);
    std::filesystem::remove_all(cluster->DataOf(name));
  }
  ASSERT_TRUE(WaitUntil([&] { return cluster->Status().value("health", "") == "unavailable"; }, 20'000));
  // Not decided by the cluster itself: a write quorum of copies is gone.
  EXPECT_EQ(ReadFile(cluster->Path("victim")), content)
      << "the copy that is left is current, so it can be read";

  EXPECT_EQ(cluster->Cairn({"chunk", "accept-loss", chunk, "--yes"}).exit_code, 2) << "a reason is required";
  // Two new servers in the place of the two that burnt; those are declared lost.
  cluster->Up({"--chunkservers", "5", "--only", "cs4"});
  cluster->Up({"--only", "cs5"});
  for (const char* name : {"cs2", "cs3"}) {
    const RunResult removed = cluster->Cairn({"server", "remove", name, "--force", "--reason", "burnt"});
    ASSERT_EQ(removed.exit_code, 0) << removed.Both();
  }
  const RunResult accepted =
      cluster->Cairn({"chunk", "accept-loss", chunk, "--reason", "cs2 and cs3 burnt", "--yes"});
  ASSERT_EQ(accepted.exit_code, 0) << accepted.Both();
  EXPECT_TRUE(WaitUntil(
      [&] {
        const RunResult now = cluster->Cairn({"chunk", "explain", chunk, "--json"});
        if (now.exit_code != 0) return false;
        const auto explained = nlohmann::json::parse(now.out);
        size_t current = 0;
        for (const auto& member : explained["members"]) current += member.value("state", "") == "current";
        return current == 3 && explained.value("epoch", "") != epoch;
      },
      60'000, 300))
      << cluster->Cairn({"chunk", "explain", chunk}).Both();
  const RunResult events = cluster->Cairn({"events", "--kind", "loss.accepted"});
  EXPECT_NE(events.out.find("cs2 and cs3 burnt"), std::string::npos) << events.Both();
  const std::string second = cluster->AddMount();
  EXPECT_EQ(ReadFile(second + "/victim"), content) << "nothing newer existed, so nothing was lost";
  EXPECT_EQ(WriteFile(second + "/victim", "goes on", true), 0);
  EXPECT_TRUE(cluster->WaitHealthy(60'000)) << cluster->Status().dump(1);
}

}  // namespace
}  // namespace cairn::cluster_test
