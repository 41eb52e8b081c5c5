// The master is killed while several processes create, write, rename and delete: every acknowledged operation
// is there exactly once afterwards, and the mount goes on by itself.
#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <mutex>
#include <random>
#include <thread>

#include "tests/cluster/file_ops.h"
#include "tests/cluster/harness.h"

namespace cairn::cluster_test {
namespace {

// One worker in a directory of its own: keeps the model of what was acknowledged.
struct Worker {
  std::string directory;
  std::map<std::string, std::string> files;  // name -> content, all acknowledged
  std::vector<std::string> problems;
  std::atomic<bool> in_flight{false};
  size_t operations = 0;

  void Fail(const std::string& what) { problems.push_back(what + ": " + std::strerror(errno)); }

  void Step(std::mt19937& random) {
    const std::string name = "f" + std::to_string(random() % 40);
    const std::string path = directory + "/" + name;
    in_flight = true;
    switch (random() % 4) {
      case 0:
      case 1: {
        const std::string content = Pattern(random(), 100 + random() % 9000);
        if (const int error = WriteFile(path, content, random() % 4 == 0); error != 0) {
          errno = error;
          Fail("write " + name);
        } else {
          files[name] = content;
        }
        break;
      }
      case 2: {
        const bool expected = files.count(name) != 0;
        const bool removed = unlink(path.c_str()) == 0;
        if (removed != expected) Fail("unlink " + name + (expected ? " (exists)" : " (absent)"));
        if (removed) files.erase(name);
        break;
      }
      case 3: {
        const std::string target = "f" + std::to_string(random() % 40);
        const bool expected = files.count(name) != 0;
        const bool renamed = rename(path.c_str(), (directory + "/" + target).c_str()) == 0;
        if (renamed != expected) Fail("rename " + name + " to " + target);
        if (renamed && target != name) {
          files[target] = files[name];
          files.erase(name);
        }
        break;
      }
    }
    in_flight = false;
    ++operations;
  }
};

TEST(MasterKill, NoAcknowledgedOperationIsLostOrDoubled) {
  auto cluster = LocalCluster::Start();
  ASSERT_NE(cluster, nullptr);
  constexpr int kWorkers = 4;
  std::vector<Worker> workers(kWorkers);
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (int i = 0; i < kWorkers; ++i) {
    workers[i].directory = cluster->Path("w" + std::to_string(i));
    ASSERT_EQ(mkdir(workers[i].directory.c_str(), 0755), 0);
  }
  for (int i = 0; i < kWorkers; ++i) {
    threads.emplace_back([&, i] {
      std::mt19937 random(static_cast<unsigned>(i) + 1);
      while (!stop) workers[i].Step(random);
    });
  }
  auto total = [&] {
    size_t sum = 0;
    for (const Worker& worker : workers) sum += worker.operations;
    return sum;
  };
  size_t in_flight_at_kills = 0;
  for (int round = 0; round < 3; ++round) {
    const size_t before = total();
    ASSERT_TRUE(WaitUntil([&] { return total() >= before + 200; }, 60'000, 1)) << "the load does not get on";
    cluster->Kill("master");
    for (const Worker& worker : workers) in_flight_at_kills += worker.in_flight ? 1 : 0;
    const int64_t start = NowMillis();
    const size_t at_kill = total();
    cluster->Up({"--only", "master"});
    EXPECT_TRUE(WaitUntil([&] { return total() > at_kill + kWorkers; }, 60'000, 1))
        << "the mount did not go on";
    Figure("master killed: operations go on " + std::to_string(NowMillis() - start) +
           " ms after its restart began");
  }
  stop = true;
  for (std::thread& thread : threads) thread.join();
  Figure(std::to_string(total()) + " operations, " + std::to_string(in_flight_at_kills) +
         " in flight at 3 kills");
  EXPECT_GT(in_flight_at_kills, 0u);

  const std::string second = cluster->AddMount();
  for (const Worker& worker : workers) {
    for (const std::string& problem : worker.problems) ADD_FAILURE() << worker.directory << ": " << problem;
    const std::string elsewhere = second + worker.directory.substr(cluster->mount().size());
    for (int i = 0; i < 40; ++i) {
      const std::string name = "f" + std::to_string(i);
      const auto expected = worker.files.find(name);
      EXPECT_EQ(Exists(elsewhere + "/" + name), expected != worker.files.end()) << name;
      if (expected != worker.files.end()) {
        EXPECT_TRUE(ReadFile(worker.directory + "/" + name) == expected->second) << name;
        EXPECT_TRUE(ReadFile(elsewhere + "/" + name) == expected->second) << name << " on the second mount";
      }
    }
  }
}

}  // namespace
}  // namespace cairn::cluster_test
