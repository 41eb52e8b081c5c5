// Faults in the middle of an operation: it is held at a moment that can be seen from outside (a server that is stopped, an answer that
// is dropped), the test waits until it sees that moment, and only then something fails. Nothing is left to timing.
//
//   CAIRN_FAULTS=all tests/cluster_fault_moments_test    every moment with every fault, the table of docs/testing.md
//   CAIRN_FAULTS="rename" …                              the rows whose name contains that
//
// Without it, two rows. Beside each runs the load of the fault matrix on two other mounts, whose pauses are printed with those of the
// same run before the fault. Asserted: the call under way ends as if nothing had happened, what was acknowledged is there and is what
// everybody reads, the load lost nothing and read nothing stale, and all is whole again without an operator.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
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

constexpr char kClient[] = "10.77.0.103";  // m3, whose call is under way
constexpr char kMaster[] = "10.77.0.1";

struct Stage {
  Machines& m;
  LoadProcess& calls;
  std::string one, two, actor;  // mount points: of the load, and of the call under way
  std::string name;             // of this row's files
  int next = 0;

  std::string Path(const std::string& mount, const std::string& file) const { return mount + "/" + name + file; }
  std::string Begin(const std::string& call) {
    const std::string id = name + std::to_string(next++);
    EXPECT_EQ(calls.Say("begin " + id + " " + call), "begun");
    return id;
  }
  std::string Result(const std::string& id) { return calls.Say("result " + id); }
  std::string Await(const std::string& id) {
    EXPECT_TRUE(WaitUntil([&] { return Result(id) != "pending"; }, 60'000)) << id << " does not end";
    return Result(id);
  }
  std::string Do(const std::string& call) { return Await(Begin(call)); }
  nlohmann::json Explain(const std::string& file) const {
    const RunResult explained = m.Cairn({"chunk", "explain", "cairn:/" + name + file, "--json"});
    return explained.exit_code == 0 ? nlohmann::json::parse(explained.out, nullptr, false) : nlohmann::json();
  }
  ChunkId ChunkOf(const std::string& file) const {
    const auto explained = Explain(file);
    return ChunkId(explained.is_object() ? std::stoull(explained.value("chunk", std::string("0")), nullptr, 0) : 0);
  }
  // The chunk of the newest mutation that `node` logged for this mount; zero: none was logged after `from`.
  ChunkId Mutated(const std::string& node, const std::string& mount_node, size_t from) const {
    const std::string log = LogOf(node).substr(from);
    const size_t line = log.rfind(":" + std::to_string(m.Pid(mount_node)) + ":");
    const size_t chunk = line == std::string::npos ? line : log.find(" chunk=", line);
    return ChunkId(chunk == std::string::npos ? 0 : std::stoull(log.substr(chunk + 7)));
  }
  std::string LogOf(const std::string& node) const {
    std::ifstream file(m.LogOf(node), std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  std::string StateOf(ChunkId chunk) const {
    const RunResult explained = m.Cairn({"chunk", "explain", ToString(chunk), "--json"});
    const auto json = nlohmann::json::parse(explained.out, nullptr, false);
    return explained.exit_code == 0 && json.is_object() ? json.value("state", "") : "";
  }
  // Bytes that arrived at `node` from `ip` and that its process has not taken.
  bool Unread(const std::string& node, const std::string& ip) const {
    unsigned a = 0, b = 0, c = 0, d = 0;
    std::sscanf(ip.c_str(), "%u.%u.%u.%u", &a, &b, &c, &d);
    char wanted[16];
    std::snprintf(wanted, sizeof wanted, "%02X%02X%02X%02X", d, c, b, a);
    std::istringstream table(m.RunAt(node, {"cat", "/proc/net/tcp"}).out);
    std::string line;
    while (std::getline(table, line)) {
      std::istringstream fields(line);
      std::string number, local, remote, state, queues;
      fields >> number >> local >> remote >> state >> queues;
      if (remote.starts_with(wanted) && queues.size() == 17 && queues.substr(9) != "00000000") return true;
    }
    return false;
  }
};

struct Moment {
  std::string name;
  // Brings the operation to the moment, and says what was seen there; empty: it never came.
  std::function<bool(Stage&)> reach;
  std::function<void(Stage&)> release;
  std::function<void(Stage&)> verify;
  bool in_ci = false;
  bool short_lease = false;  // it waits for a session to end; others must not lose theirs while a fault is made
};

bool Seen(const std::function<bool()>& sight) { return WaitUntil(sight, 20'000, 20); }

void Stop(Stage& s, const std::vector<std::string>& nodes) {
  for (const std::string& node : nodes) s.m.Signal(node, SIGSTOP);
}
void Go(Stage& s, const std::vector<std::string>& nodes) {
  for (const std::string& node : nodes) {
    if (s.m.Running(node)) s.m.Signal(node, SIGCONT);
  }
}

std::vector<Moment> Moments() {
  const auto is = [](Stage& s, const std::string& expected) { EXPECT_EQ(s.Await(s.name + "0"), expected); };
  const auto read_by_all = [](Stage& s, const std::string& file, int seed) {
    for (const std::string& mount : {s.one, s.two, s.actor})
      EXPECT_EQ(s.Do("read " + s.Path(mount, file) + " 200000 " + std::to_string(seed)), "ok") << mount;
  };
  return {
      {"create, asked for and not carried out",
       [](Stage& s) {
         Stop(s, {"master"});
         s.Begin("create " + s.Path(s.actor, "new"));
         return Seen([&] { return s.Unread("master", kClient); });
       },
       [](Stage& s) { Go(s, {"master"}); },
       [=](Stage& s) {
         is(s, "ok");
         EXPECT_EQ(s.Do("read " + s.Path(s.two, "new") + " 0 1"), "ok");
       }},
      {"create, carried out and not answered",
       [](Stage& s) {
         if (s.Do("stat " + s.Path(s.actor, "new")) != "errno 2") return false;  // so that it need not ask for the name again
         s.m.Drop("master", "m3");
         s.Begin("create " + s.Path(s.actor, "new"));
         return Seen([&] { return s.Do("stat " + s.Path(s.two, "new")) == "ok"; }) && s.Result(s.name + "1") == "pending";
       },
       [](Stage& s) { s.m.HealNetwork(); },
       [](Stage& s) {
         EXPECT_EQ(s.Await(s.name + "1"), "ok");
         EXPECT_EQ(s.Do("read " + s.Path(s.two, "new") + " 0 1"), "ok");
       }},
      {"a chunk's first write, on one of three",
       [](Stage& s) {
         const size_t log = s.LogOf("cs1").size();
         Stop(s, {"cs2", "cs3"});
         s.Begin("write " + s.Path(s.actor, "first") + " 200000 2");
         return Seen([&] { return s.Mutated("cs1", "m3", log) != ChunkId{}; }) && s.Result(s.name + "0") == "pending";
       },
       [](Stage& s) { Go(s, {"cs2", "cs3"}); },
       [=](Stage& s) {
         is(s, "ok");
         read_by_all(s, "first", 2);
       },
       true},
      {"recovery of a writer that is gone",
       [](Stage& s) {
         const std::string doomed = s.m.Mount("m4");
         const size_t log = s.LogOf("cs1").size();
         if (doomed.empty() || s.Do("hold " + s.Path(doomed, "left") + " 200000 3") != "ok") return false;
         const ChunkId chunk = s.Mutated("cs1", "m4", log);
         s.m.KillMount("m4");
         s.calls.Say("drop");
         // Two of three have to answer the master; one does.
         s.m.Drop("master", "cs2");
         s.m.Drop("master", "cs3");
         return Seen([&] { return s.StateOf(chunk) == "recovering"; });
       },
       [](Stage& s) { s.m.HealNetwork(); },
       [=](Stage& s) { read_by_all(s, "left", 3); },
       false,
       true},
      {"repair of a copy that was away",
       [](Stage& s) {
         s.m.Kill("cs3");
         if (s.Do("write " + s.Path(s.actor, "copied") + " 200000 4") != "ok") return false;
         // It is told to fetch what it missed, and hears nothing of the others.
         s.m.Drop("cs1", "cs3");
         s.m.Drop("cs2", "cs3");
         EXPECT_EQ(s.m.StartServers({"cs3"}), "");
         return Seen([&] { return s.m.Status().value("repairs_running", std::string("0")) != "0"; });
       },
       [](Stage& s) { s.m.HealNetwork(); },
       [=](Stage& s) { read_by_all(s, "copied", 4); }},
      {"a delete's first phase, on one of three",
       [](Stage& s) {
         if (s.Do("write " + s.Path(s.actor, "gone") + " 200000 5") != "ok") return false;
         const ChunkId chunk = s.ChunkOf("gone");
         Stop(s, {"cs2", "cs3"});
         s.Begin("unlink " + s.Path(s.actor, "gone"));
         return Seen([&] {
           const auto replica = QueryReplica(s.m.AddressOf("cs1"), chunk);
           return replica.ok() && replica->tombstone != Epoch{};
         });
       },
       [](Stage& s) { Go(s, {"cs2", "cs3"}); },
       [](Stage& s) {
         EXPECT_EQ(s.Await(s.name + "1"), "ok");
         EXPECT_EQ(s.Do("stat " + s.Path(s.two, "gone")), "errno 2");
       }},
      {"a delete's second phase, erased on two of three",
       [](Stage& s) {
         if (s.Do("write " + s.Path(s.actor, "erased") + " 200000 6") != "ok") return false;
         const ChunkId chunk = s.ChunkOf("erased");
         if (!chunk || s.Do("unlink " + s.Path(s.actor, "erased")) != "ok") return false;
         Stop(s, {"cs3"});
         return Seen([&] {
           const auto gone = [&](const char* node) {
             return QueryReplica(s.m.AddressOf(node), chunk).status().code() == StatusCode::kUnknownChunk;
           };
           return gone("cs1") && gone("cs2") &&
                  s.m.Cairn({"chunk", "explain", ToString(chunk), "--json"}).out.find("deleting") != std::string::npos;
         });
       },
       [](Stage& s) { Go(s, {"cs3"}); },
       [](Stage& s) {
         EXPECT_EQ(s.Do("stat " + s.Path(s.one, "erased")), "errno 2");
         EXPECT_EQ(s.Do("stat " + s.Path(s.actor, "erased")), "errno 2");
       }},
      {"a rename, carried out and not answered",
       [](Stage& s) {
         // Nobody has to ask m3 for anything to see what became of it.
         if (s.Do("write " + s.Path(s.one, "old") + " 200000 7") != "ok") return false;
         if (s.Do("stat " + s.Path(s.actor, "old")) != "ok" || s.Do("stat " + s.Path(s.actor, "renamed")) != "errno 2") return false;
         s.m.Drop("master", "m3");
         s.Begin("rename " + s.Path(s.actor, "old") + " " + s.Path(s.actor, "renamed"));
         return Seen([&] { return s.Do("stat " + s.Path(s.two, "renamed")) == "ok"; }) && s.Result(s.name + "3") == "pending";
       },
       [](Stage& s) { s.m.HealNetwork(); },
       [=](Stage& s) {
         EXPECT_EQ(s.Await(s.name + "3"), "ok");
         EXPECT_EQ(s.Do("stat " + s.Path(s.two, "old")), "errno 2");
         read_by_all(s, "renamed", 7);
       },
       true},
      {"a lease recall, arrived and not answered",
       [](Stage& s) {
         if (s.Do("hold " + s.Path(s.actor, "leased") + " 200000 8") != "ok") return false;
         Stop(s, {"m3"});
         s.Begin("read " + s.Path(s.two, "leased") + " 200000 8");
         return Seen([&] { return s.Unread("m3", kMaster); });
       },
       [](Stage& s) { Go(s, {"m3"}); },
       [=](Stage& s) {
         EXPECT_EQ(s.Await(s.name + "1"), "ok") << "what was fsynced before is what the other mount reads";
         s.calls.Say("drop");
         read_by_all(s, "leased", 8);
       }},
  };
}

struct Fault {
  std::string name;
  std::function<void(Machines&)> begin;
  std::string restart;
};

std::vector<Fault> Faults() {
  return {{"nothing", [](Machines&) {}, ""},
          {"master kill -9", [](Machines& m) { m.Kill("master"); }, "master"},
          {"cs1 kill -9", [](Machines& m) { m.Kill("cs1"); }, "cs1"},
          {"master power", [](Machines& m) { m.CutPower({"master"}); }, "master"}};
}

struct Lap {
  int64_t longest_write_ms = 0;
  int64_t longest_read_ms = 0;
  int64_t errors = 0;
};
Lap ParseLap(const std::string& reply) {
  std::istringstream words(reply);
  std::string kind;
  words >> kind;
  Lap lap;
  int64_t operations = 0, errors = 0, longest = 0;
  while (words >> kind >> operations >> errors >> longest) {
    const bool reads = kind.find("read") != std::string::npos;
    int64_t& slot = reads ? lap.longest_read_ms : lap.longest_write_ms;
    slot = std::max(slot, longest);
    lap.errors += errors;
  }
  return lap;
}

void RunRow(Machines& machines, LoadProcess& calls, const std::vector<std::string>& mounts, const Moment& moment, const Fault& fault,
            int number) {
  SCOPED_TRACE(moment.name + " / " + fault.name);
  const auto failures = [] {
    int count = 0;
    const testing::TestResult* result = testing::UnitTest::GetInstance()->current_test_info()->result();
    for (int i = 0; i < result->total_part_count(); ++i) count += result->GetTestPartResult(i).failed();
    return count;
  };
  const int failed_before = failures();
  Stage stage{machines, calls, mounts[0], mounts[1], mounts[2], "row" + std::to_string(number) + "-"};
  LoadProcess load("cairn-stream-load", {});
  ASSERT_EQ(load.Say("start " + mounts[0] + " " + mounts[1]), "started");
  std::this_thread::sleep_for(std::chrono::milliseconds(500));  // what starting costs is not the baseline
  load.Say("lap");
  std::this_thread::sleep_for(std::chrono::milliseconds(800));
  const Lap before = ParseLap(load.Say("lap"));
  const bool reached = moment.reach(stage);
  EXPECT_TRUE(reached) << "the moment was never seen";
  fault.begin(machines);
  moment.release(stage);
  if (!fault.restart.empty()) {
    EXPECT_EQ(machines.StartServers({fault.restart}), "");
  }
  const int64_t ended = NowMillis();
  const std::string why = machines.WaitHealthy(90'000, true);
  const int64_t healthy_ms = NowMillis() - ended;
  EXPECT_EQ(why, "");
  moment.verify(stage);
  const Lap during = ParseLap(load.Say("lap"));
  const std::string verdict = load.Say("stop");
  EXPECT_TRUE(verdict.starts_with("ok")) << verdict;  // everything synced is there, no read was stale
  EXPECT_EQ(before.errors + during.errors, 0);
  char row[256];
  std::snprintf(row, sizeof row, "| %s | %s | %lld | %lld | %lld / %lld | %lld | %s | %lld | 0 |", moment.name.c_str(), fault.name.c_str(),
                static_cast<long long>(during.longest_write_ms), static_cast<long long>(during.longest_read_ms),
                static_cast<long long>(before.longest_write_ms), static_cast<long long>(before.longest_read_ms),
                static_cast<long long>(before.errors + during.errors),
                failures() == failed_before ? "0, 0" : "see the log", static_cast<long long>(healthy_ms));
  Figure(row);
}

struct Row {
  Moment moment;
  Fault fault;
};

std::vector<Row> WantedRows() {
  const char* wanted = std::getenv("CAIRN_FAULTS");
  std::vector<Row> rows;
  for (const Moment& moment : Moments()) {
    for (const Fault& fault : Faults()) {
      const std::string row = moment.name + " / " + fault.name;
      const bool runs = wanted == nullptr ? moment.in_ci && fault.name == "master kill -9"
                                          : std::string(wanted) == "all" || row.find(wanted) != std::string::npos;
      if (runs) rows.push_back({moment, fault});
    }
  }
  return rows;
}

void RunRows(const std::vector<Row>& rows, const std::vector<std::string>& master_flags) {
  if (rows.empty()) return;
  Machines::Options options;
  options.disk_mib = 512;
  options.master_flags = master_flags;
  options.chunkserver_flags = {"--log-level=debug"};  // names each mutation
  auto machines = Machines::Start(options);
  ASSERT_NE(machines, nullptr);
  const std::vector<std::string> mounts = {machines->Mount("m1", "cache=1M,read_ahead=0"), machines->Mount("m2"), machines->Mount("m3")};
  for (const std::string& mount : mounts) ASSERT_FALSE(mount.empty());
  LoadProcess calls("cairn-call-load", {});
  Figure("| in the middle of | fault | longest write, ms | longest read, ms | the same before it | errors | lost, stale | healthy after ms | "
         "operator actions |");
  int number = 0;
  for (const Row& row : rows) RunRow(*machines, calls, mounts, row.moment, row.fault, number++);
  EXPECT_EQ(machines->Cairn({"fsck"}).exit_code, 0);
}

TEST(FaultMoments, WhatIsUnderWayEndsAsIfNothingHadHappened) {
  if (const std::string why = Machines::WhyNot(); !why.empty()) GTEST_SKIP() << why;
  std::vector<Row> rows = WantedRows();
  ASSERT_FALSE(rows.empty()) << "no row has this in its name";
  const auto short_ones = std::stable_partition(rows.begin(), rows.end(), [](const Row& row) { return !row.moment.short_lease; });
  RunRows({rows.begin(), short_ones}, {});
  RunRows({short_ones, rows.end()}, {"--session-lease-ms=3000"});
}

}  // namespace
}  // namespace cairn::cluster_test
