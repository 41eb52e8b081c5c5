// Power is cut while a mixed load with fsyncs runs: what was synced is there, every store opens by itself,
// and the cluster is healthy again without anybody's help.
//
//   CAIRN_POWER_CUTS=200 tests/cluster_power_cut_test     (a soak; default: a few cuts of each kind)
//   CAIRN_POWER_SEED=7                                    (which moments, sets and operations)
#include <gtest/gtest.h>

#include <cstdlib>
#include <random>
#include <sstream>
#include <thread>

#include "tests/cluster/load/load_process.h"
#include "tests/cluster/machines.h"

namespace cairn::cluster_test {
namespace {

int64_t FromEnvironment(const char* name, int64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::atoll(text);
}

struct Totals {
  int cuts = 0;
  int64_t operations = 0;
  int64_t syncs = 0;
  int64_t errors = 0;
  int64_t longest_recovery_ms = 0;
};

class PowerCut : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const std::string why = Machines::WhyNot(); !why.empty()) GTEST_SKIP() << why;
    Machines::Options options;
    options.master_flags = {"--session-lease-ms", "2000", "--repair-grace-ms", "3000"};
    options.disk_mib = 1024;  // what a load writes between two cuts is much more than what it keeps
    machines_ = Machines::Start(options);
    ASSERT_NE(machines_, nullptr);
    const RunResult policy = machines_->Cairn({"policy", "set", "/", "chunk_bytes=256KiB"});
    ASSERT_EQ(policy.exit_code, 0) << policy.Both();
    seed_ = static_cast<uint64_t>(FromEnvironment("CAIRN_POWER_SEED", 1));
    random_.seed(seed_);
    load_ =
        std::make_unique<LoadProcess>("cairn-power-load", std::vector<std::string>{std::to_string(seed_)});
    writer_ = machines_->Mount("m1");
    reader_ = machines_->Mount("m2");
  }
  void TearDown() override {
    if (totals_.cuts == 0) return;
    Figure(std::to_string(totals_.cuts) + " cuts, " + std::to_string(totals_.operations) + " operations, " +
           std::to_string(totals_.syncs) + " of them synced, " + std::to_string(totals_.errors) +
           " answered with an error, healthy again at most " + std::to_string(totals_.longest_recovery_ms) +
           " ms after power was back");
    load_.reset();
  }

  // Loads, cuts the power of `nodes`, restores it, and checks. writer_dies: the mount under load goes as
  // well.
  void CutOnce(const std::vector<std::string>& nodes, bool writer_dies, bool reader_dies, bool all_kept) {
    SCOPED_TRACE("cut " + std::to_string(++totals_.cuts) + " of CAIRN_POWER_SEED=" + std::to_string(seed_));
    ASSERT_EQ(load_->Say("run " + writer_), "running");
    std::this_thread::sleep_for(std::chrono::milliseconds(100 + random_() % 1200));  // any moment will do
    if (writer_dies) {
      const pid_t mount = machines_->Pid("m1");
      kill(mount, SIGKILL);
    }
    machines_->CutPower(nodes);
    if (writer_dies) machines_->KillMount("m1");
    if (reader_dies) machines_->KillMount("m2");
    std::this_thread::sleep_for(std::chrono::milliseconds(random_() % 500));
    const int64_t start = NowMillis();
    ASSERT_EQ(machines_->StartServers(nodes), "");
    if (writer_dies) writer_ = machines_->Mount("m1");
    if (reader_dies) reader_ = machines_->Mount("m2");
    ASSERT_FALSE(writer_.empty() || reader_.empty());
    const std::string stopped = load_->Say("stop");
    ASSERT_TRUE(stopped.starts_with("stopped ")) << stopped;
    long long operations = 0, syncs = 0, errors = 0;
    std::sscanf(stopped.c_str(), "stopped %lld %lld %lld", &operations, &syncs, &errors);
    // At once, and again when everything is whole: what a writer that died had not synced may appear until
    // then.
    const std::string kept = all_kept ? " all" : " synced";
    EXPECT_EQ(load_->Say("look " + reader_ + kept), "ok") << What(nodes, writer_dies, reader_dies) << "\n" << Explanations();
    const std::string unhealthy = machines_->WaitHealthy(60'000);
    EXPECT_EQ(unhealthy, "") << Explanations();
    totals_.longest_recovery_ms = std::max(totals_.longest_recovery_ms, NowMillis() - start);
    const std::string checked = load_->Say("check " + reader_ + kept);
    EXPECT_EQ(checked, "ok") << What(nodes, writer_dies, reader_dies);
    const RunResult fsck = machines_->Cairn({"fsck"});
    EXPECT_EQ(fsck.exit_code, 0) << fsck.Both();
    if (all_kept) {
      EXPECT_EQ(errors, 0) << "operations failed although a quorum stayed";
    }
    totals_.operations += operations;
    totals_.syncs += syncs;
    totals_.errors += errors;
  }

  // Why the cluster is not whole: what it says of each chunk.
  std::string Explanations() {
    std::string text = machines_->Cairn({"status"}).out;
    std::istringstream files(machines_->Cairn({"find", "/", "--type", "f"}).out);
    for (std::string file; std::getline(files, file);) {
      text += machines_->Cairn({"chunk", "explain", "--all", file}).Both();
    }
    return text;
  }

  static std::string What(const std::vector<std::string>& nodes, bool writer_dies, bool reader_dies) {
    std::string text = "power cut of";
    for (const std::string& node : nodes) text += " " + node;
    return text + (writer_dies ? ", the writing mount killed" : "") +
           (reader_dies ? ", the reading mount killed" : "");
  }

  bool Coin() { return random_() % 2 == 0; }

  std::unique_ptr<Machines> machines_;
  std::unique_ptr<LoadProcess> load_;
  uint64_t seed_ = 1;
  std::mt19937_64 random_;
  std::string writer_, reader_;
  Totals totals_;
};

TEST_F(PowerCut, OfEverythingKeepsWhatWasSynced) {
  const int64_t cuts = FromEnvironment("CAIRN_POWER_CUTS", 3);
  for (int64_t i = 0; i < cuts && !HasFailure(); ++i)
    CutOnce(machines_->servers(), Coin(), random_() % 4 == 0, false);
}

TEST_F(PowerCut, OfTheMasterKeepsWhatClientsCanRepeat) {
  const int64_t cuts = FromEnvironment("CAIRN_POWER_CUTS", 2);
  for (int64_t i = 0; i < cuts && !HasFailure(); ++i) {
    const bool writer_dies = i % 2 == 1;
    CutOnce({"master"}, writer_dies, false, !writer_dies);
  }
}

TEST_F(PowerCut, OfOneChunkserverIsNotNoticed) {
  const int64_t cuts = FromEnvironment("CAIRN_POWER_CUTS", 2);
  for (int64_t i = 0; i < cuts && !HasFailure(); ++i)
    CutOnce({"cs" + std::to_string(1 + random_() % 3)}, false, false, true);
}

TEST_F(PowerCut, OfAnySetKeepsWhatWasSynced) {
  const int64_t cuts = FromEnvironment("CAIRN_POWER_CUTS", 3);
  for (int64_t i = 0; i < cuts && !HasFailure(); ++i) {
    std::vector<std::string> nodes;
    for (const std::string& server : machines_->servers()) {
      if (random_() % 3 != 0) nodes.push_back(server);
    }
    CutOnce(nodes, Coin(), Coin(), false);
  }
}

}  // namespace
}  // namespace cairn::cluster_test
