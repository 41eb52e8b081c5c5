// The remembered layout of a local cluster, and recognising its processes.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>

#include "cli/local/layout.h"
#include "cli/local/process.h"
#include "cli/local/up.h"

namespace cairn::cli {
namespace {

class LocalTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char pattern[] = "/tmp/cairn-local-test.XXXXXX";
    ASSERT_NE(mkdtemp(pattern), nullptr);
    directory_ = pattern;
  }
  void TearDown() override {
    for (const pid_t pid : started_) {
      kill(pid, SIGKILL);
      waitpid(pid, nullptr, 0);
    }
    std::filesystem::remove_all(directory_);
  }
  // A shell that runs `script`, looking like a daemon with our pid file.
  pid_t StartShell(const std::string& script) {
    const auto pid = Spawn({"/bin/sh", "-c", script, "sh", "--pid-file", pid_file()}, directory_ + "/errors");
    EXPECT_TRUE(pid.ok()) << pid.status().ToString();
    std::ofstream(pid_file()) << *pid << "\n";
    started_.push_back(*pid);
    return *pid;
  }
  // The shell has set its traps once it made this file.
  void AwaitReady() const {
    while (!std::filesystem::exists(directory_ + "/ready")) usleep(1000);
  }
  std::string pid_file() const { return directory_ + "/x.pid"; }
  std::string Ready() const { return ": > " + directory_ + "/ready; "; }

  std::string directory_;
  std::vector<pid_t> started_;
};

TEST_F(LocalTest, ALayoutIsRemembered) {
  LocalLayout layout(directory_ + "/d");
  layout.Add({.name = "master", .address = "127.0.0.1:1", .console = "127.0.0.1:3"});
  layout.console = false;
  layout.Add({.name = "cs1", .address = "127.0.0.1:2"});
  layout.Add({.name = "mount", .mountpoint = "/mnt/x y"});
  layout.master_flags = {"--root-squash"};
  layout.initialized = true;
  ASSERT_TRUE(layout.Save().ok());
  const auto loaded = LocalLayout::Load(directory_ + "/d/");
  ASSERT_TRUE(loaded.ok()) << loaded.status().ToString();
  EXPECT_EQ(loaded->directory(), directory_ + "/d");
  EXPECT_EQ(loaded->chunkservers(), 1);
  EXPECT_EQ(loaded->Find("cs1")->address, "127.0.0.1:2");
  EXPECT_EQ(loaded->Find("mount")->mountpoint, "/mnt/x y");
  EXPECT_EQ(loaded->Find("mount")->kind, PartKind::kMount);
  EXPECT_EQ(loaded->FlagsOf(PartKind::kMaster), (std::vector<std::string>{"--root-squash"}));
  EXPECT_TRUE(loaded->initialized);
  EXPECT_FALSE(loaded->console);
  EXPECT_EQ(loaded->Find("master")->console, "127.0.0.1:3");
  EXPECT_EQ(std::filesystem::status(directory_ + "/d").permissions(), std::filesystem::perms::owner_all);
}

TEST_F(LocalTest, ADamagedOrForeignLayoutIsRefused) {
  EXPECT_EQ(LocalLayout::Load(directory_ + "/absent").code(), StatusCode::kNotFound);
  for (const char* content :
       {"", "{", "[]", "{\"format\": 99}", "{\"format\": 1, \"parts\": [{\"name\": \"../evil\"}]}"}) {
    std::ofstream(directory_ + "/cluster.json", std::ios::trunc) << content;
    EXPECT_EQ(LocalLayout::Load(directory_).code(), StatusCode::kMalformed) << content;
  }
}

TEST_F(LocalTest, NamesOfChunkserversAreNumbers) {
  EXPECT_EQ(ChunkserverNumber("cs1"), 1);
  EXPECT_EQ(ChunkserverNumber("cs42"), 42);
  for (const char* bad : {"cs", "cs0", "cs01", "csx", "master", "cs-1", "cs1x", "cs99999"}) {
    EXPECT_EQ(ChunkserverNumber(bad), 0) << bad;
  }
}

TEST_F(LocalTest, AProcessIsOursOnlyWithItsBinaryAndPidFile) {
  const pid_t pid = StartShell(Ready() + "while :; do sleep 1; done");
  AwaitReady();
  EXPECT_EQ(RunningDaemon(pid_file(), "sh"), pid);
  EXPECT_EQ(RunningDaemon(pid_file(), "cairn-master"), 0) << "another binary under a recycled number";
  // The number of some other process, as after a reboot.
  std::ofstream(pid_file(), std::ios::trunc) << getpid() << "\n";
  EXPECT_EQ(RunningDaemon(pid_file(), "sh"), 0);
  const auto stopped = StopDaemon(pid_file(), "sh", 1000);
  ASSERT_TRUE(stopped.ok());
  EXPECT_FALSE(stopped->was_running);
  EXPECT_FALSE(std::filesystem::exists(pid_file())) << "a stale pid file goes";
}

TEST_F(LocalTest, ADaemonEndsOnSigterm) {
  StartShell("trap 'exit 0' TERM; " + Ready() + "while :; do sleep 0.05; done");
  AwaitReady();
  const auto stopped = StopDaemon(pid_file(), "sh", 30'000);
  ASSERT_TRUE(stopped.ok()) << stopped.status().ToString();
  EXPECT_TRUE(stopped->was_running);
  EXPECT_FALSE(stopped->killed);
  EXPECT_EQ(RunningDaemon(pid_file(), "sh"), 0);
}

TEST_F(LocalTest, ADaemonThatIgnoresSigtermIsKilled) {
  const pid_t pid = StartShell("trap '' TERM; " + Ready() + "while :; do sleep 1; done");
  AwaitReady();
  const auto stopped = StopDaemon(pid_file(), "sh", 50);
  ASSERT_TRUE(stopped.ok()) << stopped.status().ToString();
  EXPECT_TRUE(stopped->killed);
  EXPECT_NE(kill(pid, 0), 0);
}

TEST_F(LocalTest, ThatABinaryIsMissingIsReportedAtOnce) {
  const auto pid = Spawn({directory_ + "/no-such-binary"}, directory_ + "/errors");
  ASSERT_FALSE(pid.ok());
  EXPECT_EQ(pid.code(), StatusCode::kNotFound);
}

TEST_F(LocalTest, AChildThatEndedTellsHow) {
  const auto pid = Spawn({"/bin/sh", "-c", "echo no disk >&2; exit 3"}, directory_ + "/errors");
  ASSERT_TRUE(pid.ok());
  std::string ended;
  while (ended.empty()) ended = ChildEnded(*pid);
  EXPECT_EQ(ended, "exited with code 3");
  EXPECT_EQ(TailOf(directory_ + "/errors", 5), "    no disk\n");
}

TEST_F(LocalTest, AnOccupiedPortIsNotFree) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(listen(fd, 1), 0);
  socklen_t size = sizeof address;
  ASSERT_EQ(getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size), 0);
  const int port = ntohs(address.sin_port);
  EXPECT_FALSE(PortIsFree(port));
  close(fd);
  EXPECT_TRUE(PortIsFree(port));
  const auto chosen = ChooseFreePort({});
  ASSERT_TRUE(chosen.ok());
  EXPECT_TRUE(PortIsFree(*chosen));
}

TEST_F(LocalTest, PurgeRemovesOnlyWhatIsTheClusters) {
  LocalLayout layout(directory_ + "/d");
  ASSERT_TRUE(layout.Save().ok());
  std::ofstream(layout.directory() + "/data/file") << "x";
  std::ofstream(layout.directory() + "/mine") << "x";
  ASSERT_TRUE(PurgeLocalCluster(layout.directory()).ok());
  EXPECT_TRUE(std::filesystem::exists(layout.directory() + "/mine"));
  EXPECT_FALSE(std::filesystem::exists(layout.directory() + "/data"));
  EXPECT_FALSE(std::filesystem::exists(layout.directory() + "/cluster.json"));
}

}  // namespace
}  // namespace cairn::cli
