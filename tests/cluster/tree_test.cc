// A real tree goes in and comes out unchanged: through the mount, through the CLI, after a new mount and a
// full restart.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>

#include "tests/cluster/file_ops.h"
#include "tests/cluster/harness.h"

namespace cairn::cluster_test {
namespace {
namespace fs = std::filesystem;

// Makes a tree with the things that trip copies: links of both kinds, odd names, modes, times, empty and
// sparse files.
void MakeOddTree(const std::string& root) {
  fs::create_directories(root + "/deep/er/and/deeper");
  fs::create_directories(root + "/empty directory");
  ASSERT_EQ(WriteFile(root + "/plain", Pattern(1, 10'000)), 0);
  ASSERT_EQ(WriteFile(root + "/empty", ""), 0);
  ASSERT_EQ(WriteFile(root + "/deep/er/and/deeper/big", Pattern(2, 5'000'001)), 0);
  ASSERT_EQ(WriteFile(root + "/new\nline", "n"), 0);
  ASSERT_EQ(WriteFile(root + "/-dash", "d"), 0);
  ASSERT_EQ(WriteFile(root + "/" + std::string(255, 'x'), "long"), 0);
  ASSERT_EQ(WriteFile(root + "/\xff\xfe not utf-8", "bytes"), 0);
  ASSERT_EQ(symlink("plain", (root + "/symbolic").c_str()), 0);
  ASSERT_EQ(symlink("/nowhere/at all", (root + "/dangling").c_str()), 0);
  ASSERT_EQ(link((root + "/plain").c_str(), (root + "/hard").c_str()), 0);
  ASSERT_EQ(chmod((root + "/empty").c_str(), 04711), 0);
  ASSERT_EQ(mkfifo((root + "/fifo").c_str(), 0600), 0);
  const int sparse = open((root + "/sparse").c_str(), O_CREAT | O_WRONLY, 0600);
  ASSERT_EQ(ftruncate(sparse, 200'000'000), 0);
  ASSERT_EQ(pwrite(sparse, "tail", 4, 150'000'000), 4);
  close(sparse);
  timespec old[2] = {{1'000'000'000, 123'456'789}, {981'173'106, 987'654'321}};
  ASSERT_EQ(utimensat(AT_FDCWD, (root + "/plain").c_str(), old, 0), 0);
  ASSERT_EQ(utimensat(AT_FDCWD, (root + "/empty directory").c_str(), old, 0), 0);
}

// Names, types, modes, owners, sizes, link counts, mtimes and targets, one line each, sorted.
std::string Listing(const std::string& root) {
  const RunResult result =
      RunProgram({"sh", "-c",
                  "cd '" + root +
                      "' && find . -mindepth 1 \\( -type d -printf '%P|%y|%m|%U:%G|%T@\\0' -o "
                      "-printf '%P|%y|%m|%U:%G|%s|%n|%T@|%l\\0' \\) | sort -z | tr '\\0' '\\n'"});
  return result.exit_code == 0 ? result.out : "listing failed: " + result.err;
}

TEST(Tree, SurvivesCopyNewMountAndRestartOfEverything) {
  auto cluster = LocalCluster::Start();
  ASSERT_NE(cluster, nullptr);
  const std::string source = cluster->directory() + "/source";
  MakeOddTree(source);
  if (testing::Test::HasFatalFailure()) return;
  // A few thousand real files as well.
  const RunResult real = RunProgram({"cp", "-a", "/usr/include/linux", source + "/linux"});
  ASSERT_EQ(real.exit_code, 0) << real.err;

  const RunResult in = RunProgram({"cp", "-a", source, cluster->Path("tree")}, {}, 200);
  ASSERT_EQ(in.exit_code, 0) << in.err;
  const std::string expected = Listing(source);
  EXPECT_EQ(Listing(cluster->Path("tree")), expected);
  RunResult diff =
      RunProgram({"diff", "-r", "--no-dereference", "--exclude=fifo", source, cluster->Path("tree")});
  EXPECT_EQ(diff.exit_code, 0) << diff.Both().substr(0, 2000);

  // Through another mount, which has nothing cached.
  const std::string second = cluster->AddMount();
  EXPECT_EQ(Listing(second + "/tree"), expected);
  diff = RunProgram({"diff", "-r", "--no-dereference", "--exclude=fifo", source, second + "/tree"});
  EXPECT_EQ(diff.exit_code, 0) << diff.Both().substr(0, 2000);

  // With the CLI, both ways.
  const RunResult copy_in = cluster->Cairn({"cp", "-a", source, "cairn:/cli"}, 200);
  ASSERT_EQ(copy_in.exit_code, 0) << copy_in.Both();
  EXPECT_EQ(Listing(cluster->Path("cli")), expected);
  const std::string back = cluster->directory() + "/back";
  const RunResult copy_out = cluster->Cairn({"cp", "-a", "cairn:/cli", back}, 200);
  ASSERT_EQ(copy_out.exit_code, 0) << copy_out.Both();
  EXPECT_EQ(Listing(back), expected);
  diff = RunProgram({"diff", "-r", "--no-dereference", "--exclude=fifo", source, back});
  EXPECT_EQ(diff.exit_code, 0) << diff.Both().substr(0, 2000);

  // After a restart of all daemons.
  cluster->Down();
  cluster->Up();
  EXPECT_EQ(Listing(cluster->Path("tree")), expected);
  diff = RunProgram({"diff", "-r", "--no-dereference", "--exclude=fifo", source, cluster->Path("tree")});
  EXPECT_EQ(diff.exit_code, 0) << diff.Both().substr(0, 2000);

  const RunResult remove = RunProgram({"rm", "-rf", cluster->Path("tree"), cluster->Path("cli")}, {}, 200);
  EXPECT_EQ(remove.exit_code, 0) << remove.err;
  EXPECT_TRUE(cluster->WaitHealthy(30'000)) << cluster->Status().dump(1);
}

}  // namespace
}  // namespace cairn::cluster_test
