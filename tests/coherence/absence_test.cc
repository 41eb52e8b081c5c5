// Mounts whose servers are silent, dead or elsewhere: nobody hangs for ever, and it is said what is waited
// for.
#include <gtest/gtest.h>
#include <sys/mount.h>

#include <cerrno>
#include <csignal>
#include <filesystem>
#include <fstream>

#include "common/daemon.h"
#include "tests/cluster/harness.h"
#include "tests/coherence/worker.h"

namespace cairn::coherence_test {
namespace {

using cluster_test::Figure;
using cluster_test::LocalCluster;
using cluster_test::NowMillis;
using cluster_test::RunProgram;
using cluster_test::WaitUntil;

const char* const kServers[] = {"master", "cs1", "cs2", "cs3"};

class AbsenceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    cluster = LocalCluster::Start();
    ASSERT_NE(cluster, nullptr);
  }
  std::string On(const std::string& name) const { return cluster->Path(name); }
  nlohmann::json MountStatusOf(const std::string& mount) {
    const auto result = cluster->Cairn({"mount", "status", mount, "--json"});
    const auto json = nlohmann::json::parse(result.out, nullptr, false);
    return json.is_array() && !json.empty() ? json[0] : nlohmann::json();
  }
  // Each operation in a process of its own; how many of them waited, and all must die soon.
  int KillAll(std::vector<std::unique_ptr<Worker>>& workers, const std::vector<std::string>& operations) {
    for (size_t i = 0; i < operations.size(); ++i) workers[i]->Send(operations[i]);
    int waited = 0;
    std::string answered;
    for (size_t i = 0; i < operations.size(); ++i) {
      if (workers[i]->HasAnswer(i == 0 ? 1'000 : 0)) {
        answered += "; " + operations[i] + ": " + workers[i]->Receive();
      } else {
        ++waited;
      }
    }
    const int64_t start = NowMillis();
    // All at once: those that change one directory queue for its lock in the kernel, which only its holder
    // can let go.
    for (auto& worker : workers) worker->Signal(SIGKILL);
    for (size_t i = 0; i < operations.size(); ++i) {
      EXPECT_TRUE(workers[i]->Kill(5'000)) << operations[i] << " cannot be killed";
    }
    Figure(std::to_string(waited) + " of " + std::to_string(operations.size()) +
           " operations waited; all were killed in " + std::to_string(NowMillis() - start) + " ms (answered" +
           answered + ")");
    return waited;
  }
  void CheckThatItServes() {
    Worker w;
    w.Must("open f " + On("after") + " rwc");
    w.Must("write f 0 all is well");
    w.Must("fsync f");
    EXPECT_EQ(w.Ask("read f 0 100"), "ok all is well");
  }

  std::unique_ptr<LocalCluster> cluster;
};

TEST_F(AbsenceTest, EveryOperationCanBeKilledWhileTheMasterIsSilent) {
  const std::vector<std::string> operations = {
      "create " + On("new"),
      "stat " + On("d/unknown"),
      "mkdir " + On("newdir"),
      "rmdir " + On("d2"),
      "unlink " + On("gone"),
      "rename " + On("from") + " " + On("to"),
      "truncate " + On("cut"),
      "chmod " + On("mode"),
      "setxattr " + On("x"),
      "getxattr " + On("x"),
      "statfs " + On(""),
      "symlink " + On("link"),
      "ls " + On("d"),
      "open n " + On("open") + " rw",
      "lock f w 0 0 try posix",
      "lock f w 0 0 wait ofd",
      "flock f ex wait",
      "write f 0 text",
      "append f text",
      "read f 0 10",
      "fsync f",
      "getlk f w 0 0",
  };
  Worker maker;
  for (const char* name : {"gone", "from", "cut", "mode", "x", "open"}) maker.Must("create " + On(name));
  for (const char* name : {"d", "d2"}) maker.Must("mkdir " + On(name));
  std::vector<std::unique_ptr<Worker>> workers;
  for (size_t i = 0; i < operations.size(); ++i) {
    workers.push_back(std::make_unique<Worker>());
    workers.back()->Must("open f " + On("file" + std::to_string(i)) + " rwc");
  }
  cluster->Signal("master", SIGSTOP);
  // The rest is answered under a lease.
  EXPECT_GE(KillAll(workers, operations), 10);
  cluster->Signal("master", SIGCONT);
  CheckThatItServes();
}

TEST_F(AbsenceTest, EveryOperationCanBeKilledWhileTheChunkserversAreSilent) {
  const std::vector<std::string> operations = {"fsync f", "close f", "read g 0 100", "truncate " + On("cut"),
                                               "unlink " + On("cut2")};
  {
    Worker maker;
    for (const char* name : {"cut", "cut2", "data"}) {
      maker.Must("open f " + On(name) + " rwc");
      maker.Must("write f 0 0123456789");
      maker.Must("close f");
    }
  }
  const std::string second = cluster->AddMount();
  std::vector<std::unique_ptr<Worker>> workers;
  for (size_t i = 0; i < operations.size(); ++i) {
    workers.push_back(std::make_unique<Worker>());
    workers.back()->Must("open f " + On("file" + std::to_string(i)) + " rwc");
    workers.back()->Must("open g " + second + "/data r");
  }
  for (const char* name : {"cs1", "cs2", "cs3"}) cluster->Signal(name, SIGSTOP);
  for (auto& worker : workers) worker->Must("write f 0 text");
  EXPECT_GE(KillAll(workers, operations), 3);
  for (const char* name : {"cs1", "cs2", "cs3"}) cluster->Signal(name, SIGCONT);
  EXPECT_TRUE(cluster->WaitHealthy(30'000));
  CheckThatItServes();
}

TEST_F(AbsenceTest, StatusSaysWhatAMountWaitsFor) {
  Worker w;
  w.Must("open f " + On("f") + " rwc");
  w.Must("lock f w 0 0 try posix");
  nlohmann::json status = MountStatusOf(cluster->mount());
  EXPECT_EQ(status["state"], "connected") << status.dump();
  EXPECT_EQ(status["locks_held"], 1);
  EXPECT_EQ(cluster->Cairn({"mount", "status", cluster->mount()}).exit_code, 0);

  cluster->Signal("master", SIGSTOP);
  w.Send("mkdir " + On("waits"));
  EXPECT_TRUE(WaitUntil(
      [&] {
        status = MountStatusOf(cluster->mount());
        return status.is_object() && status["state"] != "connected" && status["waiting"].size() == 1;
      },
      30'000));
  EXPECT_EQ(status["waiting"][0]["operation"], "Lookup")
      << status.dump();  // of the name that is not there yet
  EXPECT_EQ(status["waiting"][0]["thread"], w.pid()) << status.dump();
  EXPECT_EQ(cluster->Cairn({"mount", "status", cluster->mount()}).exit_code, 3);
  EXPECT_TRUE(WaitUntil(
      [&] {
        const auto log = ReadSmallFile(cluster->LogOf("mount"), 1 << 20);
        return log.ok() &&
               log->find("requests wait for more than 5 s, the longest is Lookup") != std::string::npos;
      },
      20'000));
  cluster->Signal("master", SIGCONT);
  EXPECT_EQ(w.Receive(), "ok");

  const std::string second = cluster->AddMount();
  ASSERT_EQ(kill(cluster->MountPid(second), SIGSTOP), 0);
  std::string state;  // a process stops a moment after the signal
  EXPECT_TRUE(WaitUntil(
      [&] {
        state = MountStatusOf(second).value("state", "");
        return state.find("does not answer") != std::string::npos;
      },
      20'000))
      << state;
  ASSERT_EQ(kill(cluster->MountPid(second), SIGCONT), 0);
  EXPECT_TRUE(WaitUntil([&] { return MountStatusOf(second)["state"] == "connected"; }, 20'000));
}

TEST_F(AbsenceTest, UnmountingNeedsNoServer) {
  const std::string second = cluster->AddMount();
  const std::string third = cluster->AddMount();
  Worker w;
  w.Must("open f " + third + "/f rwc");
  w.Must("write f 0 never sent");
  for (const char* name : kServers) cluster->Kill(name);
  int64_t start = NowMillis();
  const auto idle = cluster->Cairn({"umount", second});
  EXPECT_EQ(idle.exit_code, 0) << idle.Both();
  Figure("an idle mount went in " + std::to_string(NowMillis() - start) + " ms without servers");
  start = NowMillis();
  const auto busy = cluster->Cairn({"umount", third});
  EXPECT_EQ(busy.exit_code, 0) << busy.Both();
  Figure("a mount in use went in " + std::to_string(NowMillis() - start) + " ms without servers");
  std::ifstream table("/proc/self/mountinfo");
  const std::string mounts((std::istreambuf_iterator<char>(table)), std::istreambuf_iterator<char>());
  EXPECT_EQ(mounts.find(second + " "), std::string::npos);
  EXPECT_EQ(mounts.find(third + " "), std::string::npos);
  EXPECT_TRUE(w.Kill(5'000));
  start = NowMillis();
  EXPECT_TRUE(WaitUntil(
      [&] { return kill(cluster->MountPid(second), 0) != 0 && kill(cluster->MountPid(third), 0) != 0; },
      20'000))
      << "the processes of the mounts stay";
  Figure("their processes ended " + std::to_string(NowMillis() - start) + " ms later");
  const auto log = ReadSmallFile(cluster->LogOf("mnt3"), 1 << 20);
  ASSERT_TRUE(log.ok());
  EXPECT_NE(log->find("10 bytes written last did not reach the disks of a write quorum"), std::string::npos)
      << *log;
  EXPECT_NE(log->find("10 bytes of 1 files were not written back"), std::string::npos) << *log;
  cluster->Up();
}

TEST_F(AbsenceTest, AMountFollowsItsServersToOtherAddresses) {
  const std::string file = cluster->directory() + "/cluster.json";
  const auto before = ReadSmallFile(file, 1 << 20);
  ASSERT_TRUE(before.ok());

  const auto moved = [](const std::string& address) {
    const size_t colon = address.rfind(':');
    const int port = std::stoi(address.substr(colon + 1));
    return address.substr(0, colon + 1) + std::to_string(port > 40'000 ? port - 1'111 : port + 1'111);
  };
  const std::string master_now = cluster->MasterAddress();
  std::string text = *before;
  std::vector<std::string> addresses = cluster->ServerAddresses();
  addresses.push_back(master_now);
  for (const std::string& address : addresses) {
    for (size_t at = text.find(address); at != std::string::npos; at = text.find(address, at + 1)) {
      text.replace(at, address.size(), moved(address));
    }
  }
  const std::string master_then = moved(master_now);

  const std::string mountpoint = cluster->directory() + "/roaming";
  std::filesystem::create_directories(mountpoint);
  const auto mounted =
      RunProgram({std::string(CAIRN_BIN_DIR) + "/cairn-mount", master_now + "," + master_then, mountpoint,
                  "--pid-file", mountpoint + ".pid", "--log-file", mountpoint + ".log"});
  ASSERT_EQ(mounted.exit_code, 0) << mounted.Both();
  {
    Worker w, waiting;
    w.Must("open f " + mountpoint + "/f rwc");
    w.Must("write f 0 before");
    w.Must("fsync f");
    w.Must("lock f w 0 0 try posix");
    for (const char* name : kServers) cluster->Kill(name);
    waiting.Send("mkdir " + mountpoint + "/waits");
    std::ofstream(file) << text << std::flush;
    for (const char* name : kServers) cluster->Up({"--only", name});
    EXPECT_EQ(waiting.Receive(), "ok");
    w.Must("write f 6  and after");
    w.Must("fsync f");
    EXPECT_EQ(w.Ask("read f 0 100"), "ok before and after");
    Worker other;
    other.Must("open f " + mountpoint + "/f rw");
    EXPECT_EQ(other.Ask("lock f w 0 0 try posix"), Err(EAGAIN)) << "the lock moved along";
    EXPECT_EQ(cluster->MasterAddress(), master_then);
  }
  EXPECT_EQ(cluster->Cairn({"umount", mountpoint}).exit_code, 0);
}

}  // namespace
}  // namespace cairn::coherence_test
