// Administration of chunkservers with real processes: previews that refuse, a drain under load, maintenance,
// removal of a drained server and of one that never comes back.
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

nlohmann::json Server(const LocalCluster& cluster, int id) {
  const auto status = cluster.Status();
  if (!status.is_object()) return {};
  for (const auto& server : status["servers"]) {
    if (server.value("server", 0) == id) return server;
  }
  return {};
}

bool HasEvent(const LocalCluster& cluster, const std::string& kind) {
  const RunResult run = cluster.Cairn({"events", "-n", "1000", "--kind", kind, "--json"});
  return run.exit_code == 0 && run.out.find("\"" + kind) != std::string::npos;
}

std::string Name(int i) { return "f" + std::to_string(i); }
std::string Content(int i) {
  return Pattern(static_cast<uint64_t>(i), 1 + static_cast<size_t>(i) * 977 % 60'000);
}

void WriteFiles(const LocalCluster& cluster, int count) {
  for (int i = 0; i < count; ++i) ASSERT_EQ(WriteFile(cluster.Path(Name(i)), Content(i)), 0) << i;
}

std::string CheckFiles(const std::string& mount, int count) {
  for (int i = 0; i < count; ++i) {
    if (ReadFile(mount + "/" + Name(i)) != Content(i)) return Name(i) + " differs";
  }
  return "";
}

TEST(ServerAdmin, ADrainUnderLoadEmptiesTheServerWhichIsThenRemoved) {
  LocalCluster::Options options;
  options.chunkservers = 4;
  auto cluster = LocalCluster::Start(options);
  ASSERT_NE(cluster, nullptr);
  const int kFiles = LongTests() ? 13'400 : 400;  // three of four servers have each chunk: 10,000 on cs2
  WriteFiles(*cluster, kFiles);
  ASSERT_TRUE(WaitUntil([&] { return Count(cluster->Status(), "chunks") >= static_cast<uint64_t>(kFiles); },
                        300'000));

  const RunResult preview = cluster->Cairn({"server", "drain", "cs2", "--preview", "--json"});
  ASSERT_EQ(preview.exit_code, 0) << preview.Both();
  const auto impact = nlohmann::json::parse(preview.out)["impact"];
  EXPECT_GT(Count(impact, "chunks"), 0u);
  EXPECT_EQ(Count(impact, "chunks_homeless"), 0u);
  EXPECT_EQ(Server(*cluster, 2).value("mode", ""), "in service") << "a preview changes nothing";

  // This one looks at the files before, so that it knows where their chunks were.
  const std::string reader = cluster->AddMount();
  for (int i = 0; i < kFiles; ++i) ASSERT_TRUE(Exists(reader + "/" + Name(i)));

  // A writer goes on all the time, one file that stays open and is written again and again among the rest;
  // and never is a chunk below its policy for the drain's sake.
  std::atomic<bool> stop{false};
  std::atomic<int> written{0};
  std::atomic<int> errors{0};
  std::atomic<uint64_t> below{0};
  std::thread writer([&] {
    const int open_fd = open(cluster->Path("log").c_str(), O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0644);
    for (int i = 0; !stop.load(); ++i) {
      if (WriteFile(cluster->Path("w" + std::to_string(i)), Content(i)) != 0) ++errors;
      if (WriteWhole(open_fd, "line\n") != 0) ++errors;
      written.store(i + 1);
    }
    if (close(open_fd) != 0) ++errors;
  });
  std::thread checker([&] {
    while (!stop.load()) {
      const auto status = cluster->Status();
      if (status.is_object()) below.store(std::max(below.load(), Count(status, "chunks_below_policy")));
    }
  });
  const int64_t start = NowMillis();
  const RunResult drain = cluster->Cairn({"server", "drain", "cs2", "--reason", "disk swap", "--wait"}, LongTests() ? 1800 : 240);
  const int64_t took = NowMillis() - start;
  stop.store(true);
  writer.join();
  checker.join();
  ASSERT_EQ(drain.exit_code, 0) << drain.Both() << cluster->Cairn({"server", "show", "cs2"}).Both();
  EXPECT_EQ(errors.load(), 0);
  EXPECT_EQ(below.load(), 0u) << "a drain must not take redundancy away";
  Figure("drain of " + std::to_string(Count(impact, "chunks")) + " chunks while " +
         std::to_string(written.load()) + " files were written: " + std::to_string(took) + " ms");
  EXPECT_EQ(Server(*cluster, 2).value("mode", ""), "drained");
  EXPECT_EQ(CheckFiles(reader, kFiles), "") << "a mount that knew the old places";
  EXPECT_TRUE(HasEvent(*cluster, "drain.started"));
  EXPECT_TRUE(WaitUntil([&] { return HasEvent(*cluster, "drain.finished"); }, 10'000));
  EXPECT_TRUE(WaitUntil([&] { return Count(Server(*cluster, 2), "chunks") == 0; }, 60'000))
      << "the copies themselves are erased, too";

  const RunResult removed = cluster->Cairn({"server", "remove", "cs2"});
  ASSERT_EQ(removed.exit_code, 0) << removed.Both();
  EXPECT_TRUE(Server(*cluster, 2).is_null());
  EXPECT_TRUE(cluster->WaitHealthy(30'000)) << cluster->Status().dump(1);
  const std::string second = cluster->AddMount();
  EXPECT_EQ(CheckFiles(second, kFiles), "");
  for (int i = 0; i < written.load(); ++i)
    ASSERT_EQ(ReadFile(second + "/w" + std::to_string(i)), Content(i)) << i;
}

TEST(ServerAdmin, WhatWouldBreakAPolicyIsRefusedUnlessForced) {
  auto cluster = LocalCluster::Start();
  ASSERT_NE(cluster, nullptr);
  WriteFiles(*cluster, 20);
  ASSERT_TRUE(WaitUntil([&] { return Count(cluster->Status(), "chunks") >= 20; }, 30'000));

  // Three servers, three copies: nobody else can take them.
  const RunResult drain = cluster->Cairn({"server", "drain", "cs1"});
  EXPECT_EQ(drain.exit_code, 1);
  EXPECT_NE(drain.Both().find("20 chunks have nowhere to go"), std::string::npos) << drain.Both();
  EXPECT_EQ(cluster->Cairn({"server", "drain", "cs1", "--preview"}).exit_code, 1);
  EXPECT_EQ(Server(*cluster, 1).value("mode", ""), "in service");
  EXPECT_EQ(cluster->Cairn({"server", "drain", "cs1", "--force"}).exit_code, 2) << "force needs a reason";
  EXPECT_EQ(cluster->Cairn({"server", "drain", "cs1", "--force", "--reason", "moving house"}).exit_code, 0);
  // At first their writer has them open, which is a reason of its own.
  EXPECT_TRUE(WaitUntil(
      [&] {
        return cluster->Cairn({"server", "show", "cs1"}).out.find("no other server that is up has room") !=
               std::string::npos;
      },
      30'000, 300))
      << "a drain that cannot go on says why: " << cluster->Cairn({"server", "show", "cs1"}).Both();
  EXPECT_EQ(cluster->Cairn({"server", "undrain", "cs1"}).exit_code, 0);
  EXPECT_EQ(Server(*cluster, 1).value("mode", ""), "in service");

  // One server may go away for a while, a second one at the same time may not.
  EXPECT_EQ(cluster->Cairn({"server", "maintenance", "cs1", "--for", "1h"}).exit_code, 0);
  EXPECT_EQ(Server(*cluster, 1).value("mode", ""), "maintenance");
  cluster->Kill("cs1");
  ASSERT_TRUE(WaitUntil([&] { return Server(*cluster, 1).value("state", "") == "down"; }, 20'000));
  const RunResult second = cluster->Cairn({"server", "maintenance", "cs2", "--for", "1h"});
  EXPECT_EQ(second.exit_code, 1);
  EXPECT_NE(second.Both().find("below their write quorum"), std::string::npos) << second.Both();
  cluster->Up({"--only", "cs1"});

  const RunResult what = cluster->Cairn({"whatif", "--lose", "cs1,cs2", "--json"});
  ASSERT_EQ(what.exit_code, 0) << what.Both();
  const auto impact = nlohmann::json::parse(what.out);
  EXPECT_EQ(Count(impact, "chunks_unwritable"), 20u);
  EXPECT_EQ(Count(impact, "files_unwritable"), 20u);
  EXPECT_EQ(Count(impact, "chunks_lost"), 0u);
  EXPECT_EQ(cluster->Cairn({"whatif", "--lose", "rack:nowhere"}).exit_code, 1);
}

TEST(ServerAdmin, AServerThatNeverReturnsIsForgottenWithWhatWasDeletedMeanwhile) {
  LocalCluster::Options options;
  options.chunkservers = 4;
  options.up_arguments = {"--master-flag", "--repair-grace-ms=3600000"};  // nothing is replaced by itself
  auto cluster = LocalCluster::Start(options);
  ASSERT_NE(cluster, nullptr);
  constexpr int kFiles = 60;
  WriteFiles(*cluster, kFiles);
  ASSERT_TRUE(WaitUntil([&] { return Count(cluster->Status(), "chunks") >= kFiles; }, 30'000));
  ASSERT_TRUE(cluster->WaitHealthy(30'000));
  cluster->Kill("cs3");
  std::filesystem::remove_all(cluster->DataOf("cs3"));
  for (int i = kFiles / 2; i < kFiles; ++i) ASSERT_EQ(Remove(cluster->Path(Name(i))), 0);
  const auto left = [&] { return Count(cluster->Status(), "chunks_deleting"); };
  // The delete is committed and erased where it can be; what cs3 had stays on record.
  EXPECT_TRUE(
      WaitUntil([&] { return Count(cluster->Status(), "chunks") == kFiles / 2 && left() > 0; }, 30'000));

  const RunResult refused = cluster->Cairn({"server", "remove", "cs3"});
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_NE(refused.Both().find("still have a copy"), std::string::npos) << refused.Both();
  const RunResult forced =
      cluster->Cairn({"server", "remove", "cs3", "--force", "--reason", "the machine burnt"});
  ASSERT_EQ(forced.exit_code, 0) << forced.Both();
  EXPECT_TRUE(WaitUntil([&] { return left() == 0; }, 30'000)) << cluster->Status().dump(1);
  EXPECT_TRUE(cluster->WaitHealthy(60'000)) << cluster->Status().dump(1);
  EXPECT_EQ(CheckFiles(cluster->AddMount(), kFiles / 2), "");
  const RunResult events = cluster->Cairn({"events", "--kind", "server.removed"});
  EXPECT_NE(events.out.find("the machine burnt"), std::string::npos) << events.Both();
}

}  // namespace
}  // namespace cairn::cluster_test
