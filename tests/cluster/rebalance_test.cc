// A skewed cluster: three servers hold everything, two empty ones join. The plan predicts what the moves then
// do, while files are written, with a kill of the master in the middle, and never a chunk below its policy.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <thread>

#include "tests/cluster/file_ops.h"
#include "tests/cluster/harness.h"

namespace cairn::cluster_test {
namespace {

uint64_t Count(const nlohmann::json& object, const char* field) {
  return object.is_object() ? std::stoull(object.value(field, std::string("0"))) : UINT64_MAX;
}

int FileCount() {
  const char* wanted = std::getenv("CAIRN_TEST_REBALANCE_FILES");
  return wanted != nullptr ? std::atoi(wanted) : LongTests() ? 2000 : 150;
}

std::string Name(int i) { return "f" + std::to_string(i); }
std::string Content(int i) { return Pattern(static_cast<uint64_t>(i), 200'000); }

TEST(Rebalance, TwoEmptyServersAreFilledAsPlannedAcrossAKillOfTheMaster) {
  auto cluster = LocalCluster::Start();
  ASSERT_NE(cluster, nullptr);
  const int files = FileCount();
  for (int i = 0; i < files; ++i) ASSERT_EQ(WriteFile(cluster->Path(Name(i)), Content(i)), 0) << i;
  ASSERT_TRUE(
      WaitUntil([&] { return Count(cluster->Status(), "chunks") >= static_cast<uint64_t>(files); }, 60'000));
  cluster->Up({"--chunkservers", "5", "--only", "cs4"});
  cluster->Up({"--only", "cs5"});
  ASSERT_TRUE(cluster->WaitHealthy(30'000));

  // Percent of a large disk: the difference is a small number here. What a heartbeat told may be a second
  // old.
  const std::vector<std::string> goal = {"--threshold", "0.0001"};
  nlohmann::json plan;
  ASSERT_TRUE(WaitUntil(
      [&] {
        const RunResult run = cluster->Cairn({"rebalance", "plan", goal[0], goal[1], "--json"});
        if (run.exit_code != 0) return false;
        plan = nlohmann::json::parse(run.out)["plan"];
        return Count(plan, "moves") > static_cast<uint64_t>(files) / 2;
      },
      20'000, 500))
      << plan.dump(1);
  EXPECT_EQ(plan.value("fewest_copies", 0u), 3u);
  EXPECT_EQ(cluster->Status()["rebalance"].value("state", ""), "idle") << "a plan changes nothing";

  std::atomic<bool> stop{false};
  std::atomic<uint64_t> below{0};
  std::atomic<int> errors{0};
  std::atomic<int64_t> longest_ms{0};
  std::atomic<int> written{0};
  std::atomic<bool> moving{false};
  std::vector<int64_t> before_ms, during_ms;  // of the writer's thread
  std::thread writer([&] {
    for (int i = 0; !stop.load(); ++i) {
      const int64_t start = NowMillis();
      if (WriteFile(cluster->Path("w" + std::to_string(i % 50)), Content(i % 50)) != 0) ++errors;
      longest_ms.store(std::max(longest_ms.load(), NowMillis() - start));
      (moving.load() ? during_ms : before_ms).push_back(NowMillis() - start);
      ++written;
      std::this_thread::sleep_for(std::chrono::milliseconds(20));  // a load, not a stress test
    }
  });
  std::atomic<bool> master_away{false};
  std::thread checker([&] {
    while (!stop.load()) {
      const auto status = master_away.load() ? nlohmann::json() : cluster->Status();
      // Right after its start the master does not know yet who has what.
      if (status.is_object() && !master_away.load())
        below.store(std::max(below.load(), Count(status, "chunks_below_policy")));
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
  });
  ASSERT_TRUE(WaitUntil([&] { return written.load() >= (LongTests() ? 500 : 50); }, 60'000));
  const int64_t start = NowMillis();
  moving.store(true);
  const RunResult applied = cluster->Cairn({"rebalance", "apply", goal[0], goal[1], "--rate", "4MiB"});
  ASSERT_EQ(applied.exit_code, 0) << applied.Both();
  const auto moved = [&] { return Count(cluster->Status()["rebalance"], "moved_chunks"); };
  ASSERT_TRUE(WaitUntil([&] { return moved() >= 10; }, 60'000));
  EXPECT_EQ(cluster->Cairn({"rebalance", "pause"}).exit_code, 0);
  ASSERT_TRUE(WaitUntil([&] { return Count(cluster->Status()["rebalance"], "moves_running") == 0; }, 30'000));
  const uint64_t at_pause = moved();
  EXPECT_LT(at_pause, Count(plan, "moves"));
  EXPECT_EQ(cluster->Cairn({"rebalance", "apply"}).exit_code, 1) << "paused means paused";
  EXPECT_EQ(cluster->Cairn({"rebalance", "set-rate", "32MiB"}).exit_code, 0);
  EXPECT_EQ(moved(), at_pause);
  EXPECT_EQ(cluster->Cairn({"rebalance", "resume"}).exit_code, 0);
  ASSERT_TRUE(WaitUntil([&] { return moved() > at_pause; }, 60'000));
  master_away.store(true);
  cluster->Kill("master");
  cluster->Up({"--only", "master"});
  ASSERT_TRUE(WaitUntil([&] { return Count(cluster->Status(), "chunks_below_policy") == 0; }, 60'000));
  master_away.store(false);
  EXPECT_TRUE(
      WaitUntil([&] { return cluster->Status()["rebalance"].value("state", "") == "idle"; }, 180'000, 300))
      << cluster->Status()["rebalance"].dump(1);
  const int64_t took = NowMillis() - start;
  stop.store(true);
  writer.join();
  checker.join();
  EXPECT_EQ(errors.load(), 0);
  Figure("rebalancing planned " + std::to_string(Count(plan, "moves")) + " moves (" +
         std::to_string(Count(plan, "bytes") >> 20) + " MiB); took " + std::to_string(took) +
         " ms with a pause and a kill of the master; " + std::to_string(written.load()) +
         " files written, 99 % of them within " + std::to_string(Percentile99(before_ms)) + " ms before and " +
         std::to_string(Percentile99(during_ms)) + " ms during it, the longest in " + std::to_string(longest_ms.load()) +
         " ms; most chunks below policy " + std::to_string(below.load()));
  EXPECT_EQ(below.load(), 0u) << "a move must not take redundancy away";
  // What the plan predicted: everybody holds about the same.
  EXPECT_TRUE(WaitUntil(
      [&] {
        uint64_t least = UINT64_MAX, most = 0;
        const auto status = cluster->Status();
        if (!status.is_object()) return false;
        for (const auto& server : status["servers"]) {
          least = std::min(least, Count(server, "chunks"));
          most = std::max(most, Count(server, "chunks"));
        }
        return least * 10 >= most * 6;
      },
      60'000, 500))
      << cluster->Cairn({"server", "list"}).out;
  const std::string second = cluster->AddMount();
  for (int i = 0; i < files; ++i) ASSERT_EQ(ReadFile(second + "/" + Name(i)), Content(i)) << i;
  const RunResult events = cluster->Cairn({"events", "--kind", "rebalance."});
  EXPECT_NE(events.out.find("rebalance.finished"), std::string::npos) << events.out;
}

TEST(Rebalance, GoesOnWithoutTheCommandThatStartedItAndWithoutAServerThatDies) {
  LocalCluster::Options options;
  options.up_arguments = {"--master-flag", "--repair-grace-ms=2000"};
  auto cluster = LocalCluster::Start(options);
  ASSERT_NE(cluster, nullptr);
  const int files = LongTests() ? 1000 : 100;
  for (int i = 0; i < files; ++i) ASSERT_EQ(WriteFile(cluster->Path(Name(i)), Content(i)), 0) << i;
  ASSERT_TRUE(
      WaitUntil([&] { return Count(cluster->Status(), "chunks") >= static_cast<uint64_t>(files); }, 60'000));
  cluster->Up({"--chunkservers", "5", "--only", "cs4"});
  cluster->Up({"--only", "cs5"});
  ASSERT_TRUE(cluster->WaitHealthy(30'000));
  const auto state = [&] { return cluster->Status()["rebalance"]; };
  ASSERT_TRUE(WaitUntil(
      [&] {
        const RunResult plan = cluster->Cairn({"rebalance", "plan", "--threshold", "0.0001", "--json"});
        return plan.exit_code == 0 && Count(nlohmann::json::parse(plan.out)["plan"], "moves") > static_cast<uint64_t>(files) / 2;
      },
      20'000, 500));
  // Killed while it watches: the time is over after two seconds.
  const RunResult watching =
      cluster->Cairn({"rebalance", "apply", "--threshold", "0.0001", "--rate", "2MiB", "--watch"}, 2);
  EXPECT_EQ(watching.exit_code, 137) << watching.Both();
  const uint64_t moved = Count(state(), "moved_chunks");
  ASSERT_TRUE(WaitUntil([&] { return Count(state(), "moved_chunks") > moved; }, 30'000)) << state().dump();
  EXPECT_EQ(state().value("state", ""), "running");
  EXPECT_EQ(Count(cluster->Status(), "chunks_below_policy"), 0u);

  cluster->Kill("cs2");
  // What it had is made again first, then the rest is evened out among the four that are left.
  ASSERT_TRUE(WaitUntil([&] { return Count(cluster->Status(), "chunks_below_policy") > 0; }, 30'000));
  ASSERT_TRUE(WaitUntil([&] { return Count(cluster->Status(), "chunks_below_policy") == 0; }, 120'000, 300))
      << cluster->Cairn({"status"}).out;
  EXPECT_EQ(cluster->Cairn({"rebalance", "set-rate", "64MiB"}).exit_code, 0);
  EXPECT_TRUE(WaitUntil([&] { return state().value("state", "") == "idle"; }, 180'000, 300)) << state().dump(1);
  const std::string second = cluster->AddMount();
  for (int i = 0; i < files; ++i) ASSERT_EQ(ReadFile(second + "/" + Name(i)), Content(i)) << i;
}

TEST(Insight, StatusEventsExplainTopAndSupportBundleTellWhatTheClusterDoes) {
  auto cluster = LocalCluster::Start();
  ASSERT_NE(cluster, nullptr);
  ASSERT_EQ(WriteFile(cluster->Path("file"), Pattern(1, 100'000)), 0);
  const RunResult status = cluster->Cairn({"status"});
  ASSERT_EQ(status.exit_code, 0);
  for (const char* text :
       {"Health:   healthy", "Servers:  3 of 3 up", "Events:", "server.new", "Balance:  idle"})
    EXPECT_NE(status.out.find(text), std::string::npos) << text << "\n" << status.out;

  const RunResult explained = cluster->Cairn({"file", "explain", cluster->Path("file"), "--json"});
  ASSERT_EQ(explained.exit_code, 0) << explained.Both();
  const auto file = nlohmann::json::parse(explained.out);
  EXPECT_EQ(file["policy_origins"][0].value("path", ""), "/");
  ASSERT_EQ(file["chunks"].size(), 1u);
  EXPECT_EQ(file["chunks"][0]["members"].size(), 3u);

  std::atomic<bool> stop{false};
  std::thread load([&] {
    for (int i = 0; !stop.load(); ++i) (void)WriteFile(cluster->Path("t" + std::to_string(i % 10)), "x");
  });
  const RunResult top = cluster->Cairn({"top", "--rounds", "1", "--seconds", "1", "--json"});
  stop.store(true);
  load.join();
  ASSERT_EQ(top.exit_code, 0) << top.Both();
  const auto look = nlohmann::json::parse(top.out);
  EXPECT_EQ(look["servers"].size(), 3u);
  EXPECT_FALSE(look["operations"].empty());
  EXPECT_FALSE(look["clients"].empty());

  const std::string bundle = cluster->directory() + "/bundle";
  const RunResult made = cluster->Cairn({"support-bundle", bundle, "--dir", cluster->directory()});
  ASSERT_EQ(made.exit_code, 0) << made.Both();
  for (const char* name :
       {"status.json", "events.json", "sessions.json", "rebalance-plan.json", "master.log"})
    EXPECT_TRUE(Exists(bundle + "/" + name)) << name;
  EXPECT_FALSE(Exists(bundle + "/problems.txt")) << ReadFile(bundle + "/problems.txt");

  const RunResult plan = cluster->Cairn({"policy", "plan", "--json"});
  ASSERT_EQ(plan.exit_code, 0) << plan.Both();
  EXPECT_EQ(nlohmann::json::parse(plan.out)["policies"].size(), 6u) << "N up to the three servers there are";
  EXPECT_EQ(cluster->Cairn({"server", "show", "cs9"}).exit_code, 1);
  EXPECT_EQ(cluster->Cairn({"server", "show", "none"}).exit_code, 2);
}

}  // namespace
}  // namespace cairn::cluster_test
