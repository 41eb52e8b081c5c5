// Programs on a mount: one cluster per case, shell snippets that run in a
// directory of the mount ($M), with a directory of the local file system beside
// ($L). A snippet fails at its first failing command. Thread-safety: one
// thread.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "tests/cluster/harness.h"

namespace cairn::programs_test {

using cluster_test::Figure;
using cluster_test::LocalCluster;
using cluster_test::RunProgram;
using cluster_test::RunResult;

// Longer cases run when the variable CAIRN_LONG_TESTS is set.
inline bool LongTestsWanted() { return std::getenv("CAIRN_LONG_TESTS") != nullptr; }
inline bool Installed(const std::string& program) {
  return RunProgram({"sh", "-c", "command -v " + program}).exit_code == 0;
}

// Debian keeps the server programs of PostgreSQL out of the PATH.
inline void AddServerProgramsToPath() {
  std::error_code none;
  for (const auto& version : std::filesystem::directory_iterator("/usr/lib/postgresql", none)) {
    const std::string path = std::getenv("PATH") == nullptr ? "/usr/bin:/bin" : std::getenv("PATH");
    const std::string add = version.path() / "bin";
    if (path.find(add) == std::string::npos) setenv("PATH", (path + ":" + add).c_str(), 1);
  }
}

class ProgramTest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "run it as root";
    if (access("/dev/fuse", R_OK | W_OK) != 0) GTEST_SKIP() << "/dev/fuse is not accessible";
    AddServerProgramsToPath();
    cluster_ = LocalCluster::Start();
    ASSERT_NE(cluster_, nullptr);
    local_ = cluster_->directory() + "/local";
    std::filesystem::create_directories(local_);
    std::filesystem::create_directories(cluster_->Path("m"));
  }
  RunResult Script(const std::string& text, int timeout_s = 120) {
    return RunProgram({"bash", "-c", "set -euo pipefail; cd \"$M\"\n" + text},
                      {"M=" + mount_directory(), "L=" + local_, "HOME=" + local_, "GIT_CONFIG_NOSYSTEM=1"},
                      timeout_s);
  }
  void Succeeds(const std::string& text, int timeout_s = 120) {
    const RunResult result = Script(text, timeout_s);
    EXPECT_EQ(result.exit_code, 0) << text << "\n" << result.Both().substr(0, 4000);
  }
  std::string mount_directory() const { return cluster_->Path("m"); }

  std::unique_ptr<LocalCluster> cluster_;
  std::string local_;
};

}  // namespace cairn::programs_test

#define NEEDS(program)                                    \
  ASSERT_TRUE(::cairn::programs_test::Installed(program)) \
      << program << " is not installed: run scripts/install-packages test"
