// Two of three chunkservers die: writes and deletes are refused with reasons, in bounded time; what can be
// proven current is read; everything works again by itself when they return.
#include <gtest/gtest.h>

#include "tests/cluster/file_ops.h"
#include "tests/cluster/harness.h"

namespace cairn::cluster_test {
namespace {

TEST(QuorumLoss, WritesAndDeletesAreRefusedAndNothingIsLost) {
  auto cluster = LocalCluster::Start();
  ASSERT_NE(cluster, nullptr);
  const std::string content = Pattern(7, 3'000'000);
  ASSERT_EQ(WriteFile(cluster->Path("kept"), content, true), 0);
  ASSERT_EQ(WriteFile(cluster->Path("victim"), content, true), 0);
  const int open_fd = open(cluster->Path("open").c_str(), O_CREAT | O_WRONLY, 0644);
  ASSERT_GE(open_fd, 0);
  ASSERT_EQ(WriteWhole(open_fd, "before "), 0);
  ASSERT_EQ(fsync(open_fd), 0);
  // A reader can prove a replica current once its writer sealed it, which it does soon after it went idle.
  for (const char* path : {"/kept", "/victim"}) {
    ASSERT_TRUE(WaitUntil(
        [&] {
          const auto explained =
              nlohmann::json::parse(cluster->Cairn({"chunk", "explain", path, "--json"}).out, nullptr, false);
          return explained.is_object() && explained.value("state", "") == "sealed";
        },
        60'000, 200))
        << path;
  }
  ASSERT_TRUE(cluster->WaitHealthy(30'000)) << cluster->Status().dump(1);

  cluster->Kill("cs2");
  cluster->Kill("cs3");

  int64_t start = NowMillis();
  int error = WriteWhole(open_fd, "after");
  if (error == 0 && fsync(open_fd) != 0) error = errno;
  EXPECT_EQ(error, EIO) << std::strerror(error);
  int64_t took = NowMillis() - start;
  EXPECT_LT(took, 30'000) << "a hang is not a refusal";
  Figure("write+fsync below the quorum: refused after " + std::to_string(took) + " ms");
  close(open_fd);

  start = NowMillis();
  EXPECT_EQ(Remove(cluster->Path("victim")), EIO);
  took = NowMillis() - start;
  EXPECT_LT(took, 30'000);
  Figure("unlink below the quorum: refused after " + std::to_string(took) + " ms");

  const std::string reason = Xattr(cluster->Path("victim"), "user.cairn.error");
  EXPECT_NE(reason.find("1 of 2"), std::string::npos) << reason;
  EXPECT_NE(reason.find("cs2"), std::string::npos) << reason;
  EXPECT_NE(reason.find("cs3"), std::string::npos) << reason;
  const RunResult cli = cluster->Cairn({"rm", "/victim"}, 60);
  EXPECT_NE(cli.exit_code, 0);
  EXPECT_NE(cli.err.find("1 of 2"), std::string::npos) << cli.Both();
  EXPECT_NE(ReadFile(cluster->LogOf("master")).find("delete refused"), std::string::npos);

  // What the last replica can prove current is served, also to a mount that knows nothing yet.
  EXPECT_TRUE(ReadFile(cluster->Path("kept")) == content);
  const std::string second = cluster->AddMount();
  EXPECT_TRUE(ReadFile(second + "/kept") == content);

  cluster->Up();
  EXPECT_TRUE(cluster->WaitHealthy(120'000)) << cluster->Status().dump(1);
  EXPECT_TRUE(ReadFile(cluster->Path("victim")) == content) << "a failed delete must leave the file whole";
  EXPECT_TRUE(ReadFile(cluster->Path("kept")) == content);
  EXPECT_EQ(ReadFile(cluster->Path("open")).substr(0, 7), "before ");
  EXPECT_EQ(WriteFile(cluster->Path("open"), "works again", true), 0);
  EXPECT_EQ(Remove(cluster->Path("victim")), 0);
  EXPECT_FALSE(Exists(second + "/victim"));
}

}  // namespace
}  // namespace cairn::cluster_test
