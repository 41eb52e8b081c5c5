#include "common/daemon.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>

namespace cairn {
namespace {

class DaemonTest : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/cairn-daemon-test-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    directory_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }
  std::string Path(const std::string& name) const { return directory_ + "/" + name; }

  // Runs the starter of a background daemon and returns its exit code.
  int StartInBackground(bool succeed) {
    const pid_t starter = fork();
    if (starter == 0) {
      DaemonOptions options;
      options.background = true;
      options.pid_file = Path("d.pid");
      options.log.program = "test";
      options.log.file = Path("d.log");
      auto daemon = Daemon::Start(options);
      if (!daemon.ok()) _exit(99);
      if (!succeed) _exit(kExitInUse);
      if (!(*daemon)->Ready().ok()) _exit(98);
      (*daemon)->WaitForShutdown();
      daemon->reset();
      _exit(0);
    }
    int status = 0;
    waitpid(starter, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }

  std::string directory_;
};

TEST_F(DaemonTest, BackgroundStartReturnsAfterReadyAndLeavesAPidFile) {
  ASSERT_EQ(StartInBackground(true), 0);
  auto text = ReadSmallFile(Path("d.pid"));
  ASSERT_TRUE(text.ok()) << text.status().ToString();
  const pid_t pid = std::stoi(*text);
  ASSERT_EQ(kill(pid, SIGTERM), 0);
  // The pid file goes with the process.
  for (int i = 0; i < 1000 && std::filesystem::exists(Path("d.pid")); ++i) usleep(10'000);
  EXPECT_FALSE(std::filesystem::exists(Path("d.pid")));
}

TEST_F(DaemonTest, FailureBeforeReadyBecomesTheStartersExitCode) {
  EXPECT_EQ(StartInBackground(false), kExitInUse);
  EXPECT_FALSE(std::filesystem::exists(Path("d.pid")));
}

// A mount that was unmounted ends by itself; whoever unmounted it may send SIGTERM as well (a service
// manager, `cairn down`). It must not be killed while it flushes.
TEST_F(DaemonTest, ASignalDuringAnEndOfItsOwnIsNoSecondOne) {
  for (const int signals : {1, 2}) {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      DaemonOptions options;
      options.log.program = "test";
      options.log.file = Path("d.log");
      auto daemon = Daemon::Start(options);
      if (!daemon.ok() || !(*daemon)->Ready().ok()) _exit(99);
      (*daemon)->RequestShutdown();
      (*daemon)->WaitForShutdown();
      for (int i = 0; i < signals; ++i) kill(getpid(), SIGTERM);
      _exit(7);  // "everything is flushed"
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    if (signals == 1) {
      EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 7) << status;
    } else {
      EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM) << status;
    }
  }
}

TEST_F(DaemonTest, AtomicWriteReplacesAndReportsErrors) {
  ASSERT_TRUE(WriteFileAtomically(Path("f"), "one").ok());
  ASSERT_TRUE(WriteFileAtomically(Path("f"), "two").ok());
  EXPECT_EQ(*ReadSmallFile(Path("f")), "two");
  EXPECT_EQ(WriteFileAtomically(Path("missing/f"), "x").code(), StatusCode::kNotFound);
  EXPECT_EQ(ReadSmallFile(Path("f"), 2).code(), StatusCode::kInvalidArgument);
}

TEST(Log, UnknownLevelIsRefusedByName) {
  EXPECT_EQ(SetUpLogging({.program = "t", .level = "loud"}).code(), StatusCode::kInvalidArgument);
  EXPECT_FALSE(SetLogLevel("loud"));
}

}  // namespace
}  // namespace cairn
