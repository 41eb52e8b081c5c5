// The trash with real processes: what is deleted below a directory that keeps deleted files comes back with
// its content.
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/cluster/file_ops.h"
#include "tests/cluster/harness.h"

namespace cairn::cluster_test {
namespace {

namespace fs = std::filesystem;

uint64_t Count(const nlohmann::json& object, const char* field) {
  return object.is_object() ? std::stoull(object.value(field, std::string("0"))) : UINT64_MAX;
}

class TrashTest : public testing::Test {
 protected:
  void SetUp() override {
    cluster_ = LocalCluster::Start();
    ASSERT_NE(cluster_, nullptr);
    ASSERT_EQ(mkdir(cluster_->Path("kept").c_str(), 0755), 0);
    ASSERT_EQ(cluster_->Cairn({"policy", "set", "cairn:/kept", "trash=1h"}).exit_code, 0);
  }
  void Ok(const std::vector<std::string>& arguments) {
    const RunResult run = cluster_->Cairn(arguments);
    EXPECT_EQ(run.exit_code, 0) << run.Both();
  }
  nlohmann::json List() {
    const RunResult run = cluster_->Cairn({"trash", "ls", "--json"});
    EXPECT_EQ(run.exit_code, 0) << run.Both();
    return nlohmann::json::parse(run.out);
  }
  std::unique_ptr<LocalCluster> cluster_;
};

TEST_F(TrashTest, ADeletedFileComesBackWithItsContentEvenWithoutAPauseBeforeTheDelete) {
  const std::string content = Pattern(1, 300'000);
  // Nothing is sealed yet when the name goes: what the writer has cached must not be dropped.
  ASSERT_EQ(WriteFile(cluster_->Path("kept/file"), content), 0);
  ASSERT_EQ(Remove(cluster_->Path("kept/file")), 0);
  EXPECT_FALSE(Exists(cluster_->Path("kept/file")));
  const auto list = List();
  ASSERT_EQ(list.size(), 1u) << list.dump(1);
  EXPECT_EQ(list[0].value("path", ""), "/kept/file");
  // The size arrives with what the writer writes back.
  EXPECT_TRUE(WaitUntil([&] { return List()[0].value("size", 0u) == content.size(); }, 20'000)) << List().dump(1);
  EXPECT_TRUE(WaitUntil([&] { return Count(cluster_->Status(), "trash_bytes") >= content.size(); }, 20'000));
  Ok({"undelete", "cairn:/kept/file"});
  EXPECT_EQ(ReadFile(cluster_->Path("kept/file")), content) << "also on the mount that had seen it go";
  EXPECT_EQ(ReadFile(cluster_->AddMount() + "/kept/file"), content);
  EXPECT_TRUE(List().empty());
  EXPECT_EQ(cluster_->Cairn({"undelete", "cairn:/kept/file"}).exit_code, 1) << "nothing more of that name";
  EXPECT_EQ(cluster_->Cairn({"fsck"}).exit_code, 0);
}

TEST_F(TrashTest, WhatARenameReplacedAndATreeThatWasRemovedComeBack) {
  ASSERT_EQ(WriteFile(cluster_->Path("kept/a"), "the old one"), 0);
  ASSERT_EQ(WriteFile(cluster_->Path("kept/b"), "the new one"), 0);
  ASSERT_EQ(rename(cluster_->Path("kept/b").c_str(), cluster_->Path("kept/a").c_str()), 0);
  EXPECT_EQ(cluster_->Cairn({"undelete", "cairn:/kept/a"}).exit_code, 1) << "the name is taken";
  Ok({"undelete", "cairn:/kept/a", "--to", "cairn:/kept/old"});
  EXPECT_EQ(ReadFile(cluster_->Path("kept/a")), "the new one");
  EXPECT_EQ(ReadFile(cluster_->Path("kept/old")), "the old one");

  fs::create_directories(cluster_->Path("kept/tree/sub"));
  ASSERT_EQ(chmod(cluster_->Path("kept/tree/sub").c_str(), 0700), 0);
  ASSERT_EQ(WriteFile(cluster_->Path("kept/tree/x"), "x"), 0);
  ASSERT_EQ(WriteFile(cluster_->Path("kept/tree/sub/y"), "y"), 0);
  fs::create_symlink("sub/y", cluster_->Path("kept/tree/link"));
  ASSERT_GT(fs::remove_all(cluster_->Path("kept/tree")), 0u);
  // By the path of one file: its directories come back with it, the rest does not.
  Ok({"undelete", "cairn:/kept/tree/sub/y"});
  EXPECT_EQ(ReadFile(cluster_->Path("kept/tree/sub/y")), "y");
  EXPECT_FALSE(Exists(cluster_->Path("kept/tree/x")));
  Ok({"undelete", "cairn:/kept/tree"});
  EXPECT_EQ(ReadFile(cluster_->Path("kept/tree/x")), "x");
  EXPECT_EQ(ReadFile(cluster_->Path("kept/tree/link")), "y");
  struct stat info {};
  ASSERT_EQ(stat(cluster_->Path("kept/tree/sub").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0700u) << "a directory comes back as it was";
}

TEST_F(TrashTest, OutsideOfSuchADirectoryNothingIsKeptAndPurgingDeletesForGood) {
  ASSERT_EQ(WriteFile(cluster_->Path("plain"), "gone"), 0);
  ASSERT_EQ(Remove(cluster_->Path("plain")), 0);
  EXPECT_TRUE(List().empty()) << "off unless somebody switched it on";
  for (int i = 0; i < 5; ++i) {
    ASSERT_EQ(WriteFile(cluster_->Path("kept/f" + std::to_string(i)), Pattern(9, 50'000), true), 0);
    ASSERT_EQ(Remove(cluster_->Path("kept/f" + std::to_string(i))), 0);
  }
  auto list = List();
  ASSERT_EQ(list.size(), 5u);
  EXPECT_EQ(Count(cluster_->Status(), "trash_files"), 5u);
  Ok({"trash", "purge", std::to_string(list[0].value("number", 0u))});
  EXPECT_EQ(List().size(), 4u);
  Ok({"trash", "purge", "--all"});
  EXPECT_TRUE(WaitUntil([&] { return Count(cluster_->Status(), "chunks") == 0; }, 30'000))
      << cluster_->Status().dump(1);
  EXPECT_EQ(Count(cluster_->Status(), "trash_files"), 0u);
  EXPECT_EQ(Count(cluster_->Status(), "trash_bytes"), 0u);

  Ok({"policy", "set", "cairn:/kept", "trash=1s"});
  ASSERT_EQ(WriteFile(cluster_->Path("kept/short"), "short"), 0);
  ASSERT_EQ(Remove(cluster_->Path("kept/short")), 0);
  EXPECT_TRUE(WaitUntil([&] { return List().empty(); }, 20'000)) << "its time is over";
}

TEST_F(TrashTest, AFileThatIsStillOpenGoesOnWorkingWhereverItsNameWent) {
  const int fd = open(cluster_->Path("kept/open").c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0644);
  ASSERT_GE(fd, 0);
  ASSERT_EQ(WriteWhole(fd, "before "), 0);
  ASSERT_EQ(Remove(cluster_->Path("kept/open")), 0);
  ASSERT_EQ(WriteWhole(fd, "after"), 0);
  ASSERT_EQ(close(fd), 0);
  Ok({"undelete", "cairn:/kept/open"});
  EXPECT_EQ(ReadFile(cluster_->AddMount() + "/kept/open"), "before after");
}

}  // namespace
}  // namespace cairn::cluster_test
