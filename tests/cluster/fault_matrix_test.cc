// Faults while work is going on: what the work notices, what is lost (nothing), and how long until all is
// well.
//
//   CAIRN_FAULTS=all tests/cluster_fault_matrix_test         the whole table of docs/fault-matrix.md
//   (minutes) CAIRN_FAULTS="disk" tests/cluster_fault_matrix_test      the rows whose name contains that
//
// Without it, a row of each kind. The figures are printed, not asserted: other programs run beside this.
// Asserted: no error where a quorum stays, nothing synced is lost, no stale read, and health without an
// operator.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "tests/cluster/load/load_process.h"
#include "tests/cluster/machines.h"

namespace cairn::cluster_test {
namespace {

struct Lap {
  int64_t operations = 0;
  int64_t errors = 0;
  int64_t longest_ms = 0;
};

std::map<std::string, Lap> ParseLap(const std::string& reply) {
  std::istringstream words(reply);
  std::string word;
  words >> word;
  std::map<std::string, Lap> laps;
  while (words >> word) {
    Lap& lap = laps[word];
    words >> lap.operations >> lap.errors >> lap.longest_ms;
  }
  return laps;
}

struct Fault {
  std::string name;
  std::function<void(Machines&)> begin;
  std::function<void(Machines&)> end;
  bool quorum_stays = true;  // then no operation may fail
  bool in_ci = false;
};

void Both(Machines& m, const std::string& one, const std::vector<std::string>& others) {
  for (const std::string& other : others) {
    m.Drop(one, other);
    m.Drop(other, one);
  }
}
void Restart(Machines& m, const std::string& node) { EXPECT_EQ(m.StartServers({node}), ""); }

std::vector<Fault> Faults() {
  using M = Machines&;
  const auto heal = [](M m) { m.HealNetwork(); };
  return {
      {"cs1: kill -9", [](M m) { m.Kill("cs1"); }, [](M m) { Restart(m, "cs1"); }, true, true},
      {"cs2: SIGSTOP", [](M m) { m.Signal("cs2", SIGSTOP); }, [](M m) { m.Signal("cs2", SIGCONT); }, true,
       true},
      {"cs3: cut off",
       [](M m) {
         Both(m, "cs3", {"master", "cs1", "cs2", "m1", "m2"});
       },
       heal, true, true},
      {"cs2: loses 5 % of packets", [](M m) { m.Lose("cs2", 5); }, heal},
      {"all: lose 2 % of packets",
       [](M m) {
         for (const char* node : {"master", "cs1", "cs2", "cs3", "m1", "m2"}) m.Lose(node, 2);
       },
       heal},
      {"cs1: hears nobody",
       [](M m) {
         for (const char* from : {"master", "cs2", "cs3", "m1", "m2"}) m.Drop(from, "cs1");
       },
       heal},
      {"cs1: is not heard",
       [](M m) {
         for (const char* to : {"master", "cs2", "cs3", "m1", "m2"}) m.Drop("cs1", to);
       },
       heal},
      {"cs2: disk full", [](M m) { m.FillDisk("cs2", 1 << 20); }, [](M m) { m.EmptyDisk("cs2"); }},
      {"cs3: disk errors", [](M m) { m.BreakDisk("cs3"); },
       [](M m) {
         m.CutPower({"cs3"});
         Restart(m, "cs3");
       }},
      {"cs1: disk stalls", [](M m) { m.FreezeDisk("cs1", true); }, [](M m) { m.FreezeDisk("cs1", false); },
       true, true},
      {"cs2: power", [](M m) { m.CutPower({"cs2"}); }, [](M m) { Restart(m, "cs2"); }},
      {"master: kill -9", [](M m) { m.Kill("master"); }, [](M m) { Restart(m, "master"); }},
      {"master: SIGSTOP", [](M m) { m.Signal("master", SIGSTOP); }, [](M m) { m.Signal("master", SIGCONT); }},
      {"master: cut off",
       [](M m) {
         Both(m, "master", {"cs1", "cs2", "cs3", "m1", "m2"});
       },
       heal},
      {"master: disk stalls", [](M m) { m.FreezeDisk("master", true); },
       [](M m) { m.FreezeDisk("master", false); }},
      {"master: power", [](M m) { m.CutPower({"master"}); }, [](M m) { Restart(m, "master"); }},
      {"cs1+cs2: kill -9",
       [](M m) {
         m.Kill("cs1");
         m.Kill("cs2");
       },
       [](M m) {
         EXPECT_EQ(m.StartServers({"cs1", "cs2"}), "");
       }},
      {"client m2: SIGSTOP", [](M m) { m.Signal("m2", SIGSTOP); }, [](M m) { m.Signal("m2", SIGCONT); }},
      {"client m1: cut off",
       [](M m) {
         Both(m, "m1", {"master", "cs1", "cs2", "cs3"});
       },
       heal},
  };
}

TEST(FaultMatrix, NothingIsLostAndLittleIsNoticed) {
  if (const std::string why = Machines::WhyNot(); !why.empty()) GTEST_SKIP() << why;
  const char* wanted = std::getenv("CAIRN_FAULTS");
  const auto runs = [wanted](const Fault& fault) {
    if (wanted == nullptr) return fault.in_ci;
    return std::string(wanted) == "all" || fault.name.find(wanted) != std::string::npos;
  };
  Machines::Options options;
  options.disk_mib = 512;
  auto machines = Machines::Start(options);
  ASSERT_NE(machines, nullptr);
  const std::string one = machines->Mount("m1", "cache=1M,read_ahead=0");
  const std::string two = machines->Mount("m2");
  ASSERT_FALSE(one.empty() || two.empty());
  Figure(
      "fault                     | write | fsync |  read | names | shared w | shared r |  (longest, ms; "
      "without fault)              | errors | healthy after ms");
  const int64_t hold_ms = 1500;
  for (const Fault& fault : Faults()) {
    if (!runs(fault)) continue;
    SCOPED_TRACE(fault.name);
    LoadProcess load("cairn-stream-load", {});
    ASSERT_EQ(load.Say("start " + one + " " + two), "started");
    std::this_thread::sleep_for(std::chrono::milliseconds(500));  // what starting costs is not the baseline
    load.Say("lap");
    std::this_thread::sleep_for(std::chrono::milliseconds(800));
    auto before = ParseLap(load.Say("lap"));
    fault.begin(*machines);
    std::this_thread::sleep_for(std::chrono::milliseconds(hold_ms));
    auto during = ParseLap(load.Say("lap"));
    fault.end(*machines);
    const int64_t ended = NowMillis();
    const std::string why = machines->WaitHealthy(60'000, true);
    const int64_t healthy_ms = NowMillis() - ended;
    EXPECT_EQ(why, "");
    auto after = ParseLap(load.Say("lap"));
    const std::string verdict = load.Say("stop");
    EXPECT_TRUE(verdict.starts_with("ok")) << verdict;
    std::string row = fault.name;
    row.resize(25, ' ');
    int64_t errors = 0;
    std::string calm;
    for (const char* kind : {"write", "fsync", "read", "names", "shared-write", "shared-read"}) {
      char cell[64];
      std::snprintf(cell, sizeof cell, " | %5lld",
                    static_cast<long long>(std::max(during[kind].longest_ms, after[kind].longest_ms)));
      row += cell;
      calm += " " + std::to_string(before[kind].longest_ms);
      errors += before[kind].errors + during[kind].errors + after[kind].errors;
    }
    Figure(row + " | " + calm + " | " + std::to_string(errors) + " | " +
           (why.empty() ? std::to_string(healthy_ms) : why) +
           (verdict.starts_with("ok") ? "" : " | " + verdict));
    if (fault.quorum_stays) {
      EXPECT_EQ(errors, 0);
    }
  }
}

}  // namespace
}  // namespace cairn::cluster_test
