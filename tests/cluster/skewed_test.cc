// The administrator's rebalancing at full size, CAIRN_LONG_TESTS only (tests/cluster/rebalance_test.cc is the short version): three servers
// at 80 % of their disks, two empty ones join while fio runs; the master, the command and a server are killed in the middle.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "tests/cluster/file_ops.h"
#include "tests/cluster/machines.h"

namespace cairn::cluster_test {
namespace {

constexpr uint64_t kFileBytes = 1 << 20;

class SkewedTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!LongTests()) GTEST_SKIP() << "takes minutes: set CAIRN_LONG_TESTS";
    if (const std::string why = Machines::WhyNot(); !why.empty()) GTEST_SKIP() << why;
    ASSERT_EQ(RunProgram({"fio", "--version"}).exit_code, 0) << "fio is not installed";
    Machines::Options options;
    options.chunkservers = 5;
    options.disk_mib = 1024;
    options.master_flags = {"--repair-grace-ms", "3000"};
    machines_ = Machines::Start(options);
    ASSERT_NE(machines_, nullptr);
    mount_ = machines_->Mount("m1");
    ASSERT_NE(mount_, "");
  }

  // Percent of its disk.
  double Use(const std::string& node) const {
    const auto server = machines_->ServerStatus(node);
    if (!server.is_object()) return -1;
    double used = 0, room = 0;
    for (const auto& disk : server["disks"]) {
      used += static_cast<double>(Number(disk, "used_bytes"));
      room += static_cast<double>(Number(disk, "total_bytes"));
    }
    return room == 0 ? -1 : 100 * used / room;
  }

  // Five seconds of random reads and writes of 16 KiB; the 99th percentile of both in ms.
  double Fio() {
    const RunResult run = RunProgram({"fio", "--name=load", "--directory=" + mount_, "--rw=randrw", "--bs=16k", "--size=16m", "--numjobs=2",
                                      "--rate_iops=100", "--time_based", "--runtime=5", "--group_reporting", "--output-format=json"});
    if (run.exit_code != 0) {
      ++fio_errors_;
      return 0;
    }
    const auto job = nlohmann::json::parse(run.out.substr(run.out.find('{')))["jobs"][0];
    double worst = 0;
    for (const char* way : {"read", "write"}) worst = std::max(worst, job[way]["clat_ns"]["percentile"]["99.000000"].get<double>() / 1e6);
    return worst;
  }

  nlohmann::json Balance() const {
    const auto status = machines_->Status();
    return status.is_object() ? status["rebalance"] : nlohmann::json();
  }

  std::unique_ptr<Machines> machines_;
  std::string mount_;
  std::atomic<int> fio_errors_{0};
};

double Median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

TEST_F(SkewedTest, TwoEmptyServersJoinThreeThatAreNearlyFullUnderLoad) {
  machines_->Kill("cs4");
  machines_->Kill("cs5");
  ASSERT_TRUE(WaitUntil([&] { return machines_->WhyNotHealthy() == "3 chunkservers are up"; }, 60'000)) << machines_->WhyNotHealthy();
  int files = 0;
  while (Use("cs1") < 80) {
    for (int i = 0; i < 10; ++i, ++files) {
      ASSERT_EQ(WriteFile(mount_ + "/f" + std::to_string(files), Pattern(static_cast<uint64_t>(files), kFileBytes)), 0) << files;
    }
  }
  ASSERT_TRUE(WaitUntil([&] { return Number(machines_->Status(), "chunks") >= static_cast<uint64_t>(files); }, 120'000));
  const double full = Use("cs1");
  ASSERT_EQ(machines_->StartServers({"cs4", "cs5"}), "");
  ASSERT_EQ(machines_->WaitHealthy(60'000), "");

  std::vector<double> before;
  for (int i = 0; i < 4; ++i) before.push_back(Fio());

  nlohmann::json plan;
  ASSERT_TRUE(WaitUntil(
      [&] {
        const RunResult run = machines_->Cairn({"rebalance", "plan", "--threshold", "3", "--rate", "16MiB", "--json"});
        if (run.exit_code != 0) return false;
        plan = nlohmann::json::parse(run.out)["plan"];
        return Number(plan, "moves") > static_cast<uint64_t>(files) / 2;
      },
      30'000, 500))
      << plan.dump(1);
  EXPECT_EQ(plan.value("fewest_copies", 0u), 3u);

  std::atomic<bool> stop{false}, watching{true};
  std::atomic<uint64_t> below{0};
  std::vector<double> during;  // of the load's thread
  std::thread load([&] {
    while (!stop.load()) during.push_back(Fio());
  });
  std::thread checker([&] {
    while (!stop.load()) {
      const auto status = watching.load() ? machines_->Status() : nlohmann::json();
      if (status.is_object() && watching.load()) below.store(std::max(below.load(), Number(status, "chunks_below_policy")));
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
  });
  const int64_t start = NowMillis();
  // The command is killed while it watches.
  EXPECT_EQ(machines_->Cairn({"rebalance", "apply", "--threshold", "3", "--rate", "16MiB", "--watch"}, 5).exit_code, 137);
  const uint64_t early = Number(Balance(), "moved_bytes");
  const int64_t measured_from = NowMillis();
  std::this_thread::sleep_for(std::chrono::seconds(10));
  const double rate = static_cast<double>(Number(Balance(), "moved_bytes") - early) / 1.048576e3 / static_cast<double>(NowMillis() - measured_from);
  // A server and the master die in the middle. Until the server is back, what it had is below its policy, which no move did.
  watching.store(false);
  machines_->Kill("cs2");
  ASSERT_TRUE(WaitUntil([&] { return Number(machines_->Status(), "chunks_below_policy") > 0; }, 60'000));
  EXPECT_EQ(machines_->StartServers({"cs2"}), "");
  EXPECT_EQ(machines_->WaitHealthy(120'000, true), "");
  watching.store(true);
  EXPECT_NE(Balance().value("state", ""), "idle") << "the server was to die in the middle";
  std::this_thread::sleep_for(std::chrono::seconds(2));
  watching.store(false);
  machines_->Kill("master");
  EXPECT_EQ(machines_->StartServers({"master"}), "");
  ASSERT_TRUE(WaitUntil([&] { return Number(machines_->Status(), "chunks_below_policy") == 0; }, 60'000));
  watching.store(true);
  EXPECT_NE(Balance().value("state", ""), "idle") << "the master was to die in the middle";
  EXPECT_TRUE(WaitUntil([&] { return Balance().value("state", "") == "idle"; }, 600'000, 300)) << Balance().dump(1);
  const int64_t took = NowMillis() - start;
  const uint64_t moved = Number(Balance(), "moved_bytes");
  const uint64_t planned = Number(plan, "bytes");
  EXPECT_LE(moved * 10, planned * 11) << "it was to stop when it is balanced";
  // What moved away is erased at once, and its space given back soon after.
  std::vector<double> uses;
  EXPECT_TRUE(WaitUntil(
      [&] {
        uses.clear();
        for (const std::string& node : machines_->chunkservers()) uses.push_back(Use(node));
        return *std::max_element(uses.begin(), uses.end()) - *std::min_element(uses.begin(), uses.end()) <= 8;
      },
      60'000, 500));
  std::string held, percents;
  for (size_t i = 0; i < uses.size(); ++i) {
    held += " " + std::to_string(machines_->ChunksOnRecord(machines_->chunkservers()[i]));
    percents += " " + std::to_string(static_cast<int>(uses[i] + 0.5));
  }
  stop.store(true);
  load.join();
  checker.join();

  EXPECT_EQ(fio_errors_.load(), 0);
  EXPECT_EQ(below.load(), 0u) << "a move must not take redundancy away";
  Figure(std::to_string(files) + " files of 1 MiB, three servers at " + std::to_string(static_cast<int>(full)) + " %; planned " +
         std::to_string(Number(plan, "moves")) + " moves, " + std::to_string(planned >> 20) + " MiB, " +
         std::to_string(Number(plan, "eta_seconds")) + " s; moved " + std::to_string(moved >> 20) + " MiB in " + std::to_string(took / 1000) +
         " s with kills of the command, a server and the master, " + std::to_string(static_cast<int>(rate)) +
         " MiB/s of 16 held; chunks on each server afterwards:" + held + ", percent of its disk:" + percents);
  Figure("99th percentile of fio's 16 KiB reads and writes, median of 5 s slices: " + std::to_string(Median(before)) + " ms before, " +
         std::to_string(Median(during)) + " ms during it; most chunks below policy while moving " +
         std::to_string(below.load()));
  const std::string reader = machines_->Mount("m2");
  for (int i = 0; i < files; ++i)
    ASSERT_EQ(ReadFile(reader + "/f" + std::to_string(i)) == Pattern(static_cast<uint64_t>(i), kFileBytes), true) << i;
}

}  // namespace
}  // namespace cairn::cluster_test
