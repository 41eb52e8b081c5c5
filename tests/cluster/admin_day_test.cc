// "An administrator's day" of docs/operations.md, the steps that no other test runs: a rack is drained and
// removed, a disk is replaced, a full cluster recovers, rebalancing is planned for a part of the cluster,
// saved, and applied later.
#include <gtest/gtest.h>

#include <filesystem>
#include <regex>

#include "tests/cluster/file_ops.h"
#include "tests/cluster/harness.h"

namespace cairn::cluster_test {
namespace {

uint64_t Count(const nlohmann::json& object, const char* field) {
  return object.is_object() ? std::stoull(object.value(field, std::string("0"))) : UINT64_MAX;
}

std::string Content(int i) { return Pattern(static_cast<uint64_t>(i), 40'000); }

void WriteFiles(const LocalCluster& cluster, const std::string& prefix, int count) {
  const uint64_t before = Count(cluster.Status(), "chunks");
  for (int i = 0; i < count; ++i)
    ASSERT_EQ(WriteFile(cluster.Path(prefix + std::to_string(i)), Content(i)), 0) << i;
  ASSERT_TRUE(WaitUntil(
      [&] { return Count(cluster.Status(), "chunks") >= before + static_cast<uint64_t>(count); }, 30'000));
}

void ExpectFiles(const std::string& mount, const std::string& prefix, int count) {
  for (int i = 0; i < count; ++i)
    ASSERT_EQ(ReadFile(mount + "/" + prefix + std::to_string(i)), Content(i)) << i;
}

std::string ModeOf(const LocalCluster& cluster, int id) {
  const auto status = cluster.Status();
  if (!status.is_object()) return "no status";
  for (const auto& server : status["servers"]) {
    if (server.value("server", 0) == id) return server.value("mode", "");
  }
  return "none";
}

nlohmann::json Json(const LocalCluster& cluster, std::vector<std::string> command) {
  command.push_back("--json");
  const RunResult run = cluster.Cairn(command);
  EXPECT_EQ(run.exit_code, 0) << run.Both();
  return nlohmann::json::parse(run.out, nullptr, false);
}

std::unique_ptr<LocalCluster> StartOne(const std::string& policy, const std::string& flag) {
  LocalCluster::Options options;
  options.chunkservers = 1;
  options.up_arguments = {"--policy", policy};
  if (!flag.empty()) options.up_arguments.push_back("--chunkserver-flag=" + flag);
  return LocalCluster::Start(options);
}

TEST(AdminDay, TheStatusForProgramsIsAsDocumented) {
  auto cluster = StartOne("replicas=1,write_quorum=1", "");
  ASSERT_NE(cluster, nullptr);
  const auto status = cluster->Status();
  ASSERT_TRUE(status.is_object());
  std::string page = ReadFile(CAIRN_SOURCE_DIR "/docs/operations.md");
  const size_t begin = page.find("## Status for programs");
  ASSERT_NE(begin, std::string::npos);
  page = page.substr(begin, page.find("\n## ", begin + 1) - begin);
  const std::regex row("\n\\| (`[^|]*) \\|"), name("`([a-z_]+)(\\[\\])?`");
  int fields = 0;
  for (std::sregex_iterator line(page.begin(), page.end(), row), end; line != end; ++line) {
    const std::string names = (*line)[1];
    for (std::sregex_iterator it(names.begin(), names.end(), name); it != end; ++it, ++fields) {
      ASSERT_TRUE(status.contains((*it)[1].str())) << (*it)[1] << "\n" << status.dump(1);
      EXPECT_EQ(status[(*it)[1].str()].is_array() && (*it)[1] != "reasons" && (*it)[1] != "warnings" &&
                    (*it)[1] != "masters",
                (*it)[2].matched)
          << (*it)[1];
    }
  }
  EXPECT_GT(fields, 30);

  cluster->Kill("master");
  const RunResult gone =
      RunProgram({CAIRN_BIN_DIR "/cairn", "status", "--dir", cluster->directory(), "--json"});
  EXPECT_EQ(gone.exit_code, 3) << gone.Both();
  EXPECT_EQ(nlohmann::json::parse(gone.out).value("health", ""), "unreachable");
  cluster->Up({"--only", "master"});
}

TEST(AdminDay, ARackIsDrainedAndRemoved) {
  auto cluster = StartOne("replicas=3,write_quorum=2,failure_domain=rack", "--rack=A");
  ASSERT_NE(cluster, nullptr);
  const char* racks[] = {"A", "B", "B", "C", "D"};
  for (int id = 2; id <= 6; ++id)
    cluster->Up(
        {"--only", "cs" + std::to_string(id), std::string("--chunkserver-flag=--rack=") + racks[id - 2]});
  constexpr int kFiles = 60;
  WriteFiles(*cluster, "f", kFiles);
  ASSERT_TRUE(cluster->WaitHealthy(30'000));

  const auto before = Json(*cluster, {"whatif", "--lose", "rack:B"});
  EXPECT_GT(Count(before, "chunks"), 0u) << before.dump(1);
  EXPECT_EQ(Count(before, "chunks_unwritable"), 0u) << "never two copies in one rack";
  EXPECT_EQ(Count(before, "chunks_homeless"), 0u);

  // Both first, so that nothing moves from one to the other.
  uint64_t below = 0;
  for (const char* server : {"cs3", "cs4"}) {
    const RunResult drain = cluster->Cairn({"server", "drain", server, "--reason", "rack B moves out"});
    ASSERT_EQ(drain.exit_code, 0) << drain.Both();
  }
  ASSERT_TRUE(WaitUntil(
      [&] {
        below = std::max(below, Count(cluster->Status(), "chunks_below_policy"));
        return ModeOf(*cluster, 3) == "drained" && ModeOf(*cluster, 4) == "drained";
      },
      120'000))
      << cluster->Cairn({"server", "show", "cs3"}).out << cluster->Cairn({"server", "show", "cs4"}).out;
  EXPECT_EQ(below, 0u) << "a drain must not take redundancy away";
  EXPECT_EQ(Count(Json(*cluster, {"whatif", "--lose", "rack:B"}), "chunks"), 0u);
  for (const char* server : {"cs3", "cs4"}) {
    const RunResult waited = cluster->Cairn({"server", "drain", server, "--wait"});
    ASSERT_EQ(waited.exit_code, 0) << waited.Both();
    const RunResult removed = cluster->Cairn({"server", "remove", server});
    ASSERT_EQ(removed.exit_code, 0) << removed.Both();
  }
  EXPECT_EQ(cluster->Status()["servers"].size(), 4u);
  ExpectFiles(cluster->AddMount(), "f", kFiles);

  // Three racks are left for three copies: none of them can be given up.
  const RunResult refused = cluster->Cairn({"server", "drain", "cs5", "--preview"});
  EXPECT_EQ(refused.exit_code, 1) << refused.Both();
  EXPECT_NE(refused.Both().find("refused because"), std::string::npos) << refused.Both();
}

TEST(AdminDay, AServerThatMovesToAnotherRackLeavesNoTwoCopiesThere) {
  auto cluster = StartOne("replicas=2,write_quorum=2,failure_domain=rack", "--rack=A");
  ASSERT_NE(cluster, nullptr);
  cluster->Up({"--only", "cs2", "--chunkserver-flag=--rack=B"});
  cluster->Up({"--only", "cs3", "--chunkserver-flag=--rack=C"});
  constexpr int kFiles = 40;
  WriteFiles(*cluster, "f", kFiles);
  ASSERT_TRUE(cluster->WaitHealthy(30'000));
  ASSERT_GT(Count(Json(*cluster, {"whatif", "--lose", "cs1,cs2"}), "chunks_lost"), 0u)
      << "some chunks are on these two";
  EXPECT_EQ(Count(Json(*cluster, {"whatif", "--lose", "rack:A"}), "chunks_lost"), 0u);
  cluster->Down({"--only", "cs2"});
  cluster->Up({"--only", "cs2", "--chunkserver-flag=--rack=A"});
  EXPECT_TRUE(WaitUntil(
      [&] {
        const auto rack = Json(*cluster, {"whatif", "--lose", "rack:A"});
        return rack["servers"].size() == 2 && Count(rack, "chunks_lost") == 0;
      },
      60'000, 300))
      << cluster->Cairn({"whatif", "--lose", "rack:A"}).out << cluster->Cairn({"status"}).out;
  ExpectFiles(cluster->AddMount(), "f", kFiles);
}

TEST(AdminDay, AFailedDiskIsReplaced) {
  auto cluster = StartOne("replicas=3,write_quorum=2", "");
  ASSERT_NE(cluster, nullptr);
  const std::string failing = cluster->DataOf("cs2");
  const std::string other = cluster->directory() + "/data/cs2-b";
  std::filesystem::create_directories(other);
  cluster->Up({"--only", "cs2", "--chunkserver-flag=--data=" + other});
  cluster->Up({"--only", "cs3", "--chunkserver-flag=--max-syncs=4"});
  constexpr int kFiles = 60;
  WriteFiles(*cluster, "f", kFiles);
  const auto disk_of_cs2 = [&](const std::string& path) -> nlohmann::json {
    for (const auto& disk : Json(*cluster, {"disk", "list", "cs2"})) {
      if (disk["path"] == path) return disk;
    }
    return nlohmann::json::object();
  };
  // Two directories on one file system share the chunks.
  ASSERT_TRUE(WaitUntil(
      [&] {
        return Count(disk_of_cs2(failing), "chunks") + Count(disk_of_cs2(other), "chunks") >= kFiles;
      },
      20'000))
      << cluster->Cairn({"disk", "list"}).out;
  const auto before = disk_of_cs2(failing);
  const uint64_t lost = Count(before, "chunks");
  ASSERT_GE(lost, static_cast<uint64_t>(kFiles) / 4);
  EXPECT_EQ(Json(*cluster, {"disk", "list"}).size(), 4u);
  EXPECT_TRUE(Json(*cluster, {"disk", "list", "--bad"}).empty());

  // The disk is dead: its server is stopped, gets an empty one in its place, and starts; it keeps its other
  // disk, and its number.
  cluster->Down({"--only", "cs2"});
  std::filesystem::remove_all(failing);
  cluster->Up({"--only", "cs2", "--chunkserver-flag=--data=" + other});
  ASSERT_TRUE(WaitUntil(
      [&] {
        const auto status = cluster->Status();
        return Count(status, "chunks_below_policy") == 0 && Count(status, "repaired_chunks") >= lost;
      },
      90'000))
      << cluster->Cairn({"status"}).out << cluster->Cairn({"disk", "list"}).out;
  EXPECT_NE(disk_of_cs2(failing)["disk_uuid"], before["disk_uuid"]);
  EXPECT_EQ(cluster->Status()["servers"].size(), 3u);
  ExpectFiles(cluster->AddMount(), "f", kFiles);
  EXPECT_EQ(cluster->Cairn({"disk", "list", "cs9"}).exit_code, 1);
  EXPECT_EQ(cluster->Cairn({"disk", "list", "nothing"}).exit_code, 2);
}

TEST(AdminDay, APlanIsSavedShownAndAppliedLater) {
  auto cluster = StartOne("replicas=1,write_quorum=1", "");
  ASSERT_NE(cluster, nullptr);
  constexpr int kFiles = 60;
  WriteFiles(*cluster, "f", kFiles);
  cluster->Up({"--chunkservers", "3"});
  ASSERT_TRUE(cluster->WaitHealthy(30'000));
  const std::string file = cluster->directory() + "/plan.json";
  nlohmann::json plan;
  // What a heartbeat told of the use may be a second old.
  ASSERT_TRUE(WaitUntil(
      [&] {
        plan = Json(*cluster, {"rebalance", "plan", "--threshold", "0.00001", "--save", file})["plan"];
        return Count(plan, "moves") > kFiles / 2u;
      },
      20'000, 500))
      << plan.dump(1);

  const RunResult shown = cluster->Cairn({"rebalance", "show", file});
  ASSERT_EQ(shown.exit_code, 0) << shown.Both();
  EXPECT_NE(shown.out.find("with threshold 1e-05 %"), std::string::npos) << shown.out;
  EXPECT_NE(shown.out.find("The same goal now"), std::string::npos);
  EXPECT_EQ(Json(*cluster, {"rebalance", "show", file})["saved"], plan);
  const RunResult wrong = cluster->Cairn({"rebalance", "show", cluster->directory() + "/cluster.json"});
  EXPECT_EQ(wrong.exit_code, 1);
  EXPECT_NE(wrong.err.find("is not a plan"), std::string::npos) << wrong.err;
  EXPECT_EQ(cluster->Cairn({"rebalance", "apply", "--plan", file, "--threshold", "3"}).exit_code, 2);

  const RunResult applied = cluster->Cairn({"rebalance", "apply", "--plan", file, "--watch"}, 120);
  ASSERT_EQ(applied.exit_code, 0) << applied.Both();
  EXPECT_NE(applied.out.find("Applied to what is there now"), std::string::npos) << applied.out;
  EXPECT_TRUE(WaitUntil(
      [&] {
        const auto status = cluster->Status();
        if (!status.is_object()) return false;
        for (const auto& server : status["servers"]) {
          if (Count(server, "chunks") < kFiles / 6) return false;
        }
        return true;
      },
      30'000))
      << cluster->Cairn({"server", "list"}).out;
  ExpectFiles(cluster->AddMount(), "f", kFiles);
}

}  // namespace
}  // namespace cairn::cluster_test
