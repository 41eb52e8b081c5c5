// A disk is pulled out in the middle of a drain: its server's copies are made anew elsewhere, the drain goes on to its end, and a
// drain that cannot end says for each chunk why.
#include <gtest/gtest.h>

#include <thread>

#include "tests/cluster/file_ops.h"
#include "tests/cluster/machines.h"

namespace cairn::cluster_test {
namespace {

std::string Name(int i) { return "/f" + std::to_string(i); }
std::string Content(int i) { return Pattern(static_cast<uint64_t>(i), 1 + static_cast<size_t>(i) * 977 % (LongTests() ? 40'000 : 120'000)); }

class DrainFailureTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const std::string why = Machines::WhyNot(); !why.empty()) GTEST_SKIP() << why;
    Machines::Options options;
    options.chunkservers = 5;
    options.disk_mib = LongTests() ? 2048 : 512;
    machines_ = Machines::Start(options);
    ASSERT_NE(machines_, nullptr);
    ASSERT_EQ(machines_->WaitHealthy(60'000), "");  // all take chunks
    mount_ = machines_->Mount("m1");
    ASSERT_NE(mount_, "");
    for (int i = 0; i < files_; ++i) ASSERT_EQ(WriteFile(mount_ + Name(i), Content(i)), 0) << i;
    ASSERT_TRUE(WaitUntil([&] { return Number(machines_->Status(), "chunks") >= static_cast<uint64_t>(files_); }, 120'000))
        << machines_->Status().dump(1);
    ASSERT_EQ(machines_->WaitHealthy(60'000), "");
  }

  void ExpectAllFiles() {
    const std::string reader = machines_->Mount("m2");
    for (int i = 0; i < files_; ++i) ASSERT_EQ(ReadFile(reader + Name(i)) == Content(i), true) << i;
  }

  // Three of five servers have each chunk: at full size 10,000 on the one that is drained.
  const int files_ = LongTests() ? 17'000 : 250;
  std::unique_ptr<Machines> machines_;
  std::string mount_;
};

TEST_F(DrainFailureTest, ADiskIsPulledOutInTheMiddle) {
  const uint64_t before = machines_->ChunksOnRecord("cs2");
  ASSERT_GE(before, static_cast<uint64_t>(files_) / 10) << machines_->Status().dump(1);
  const int64_t start = NowMillis();
  ASSERT_EQ(machines_->Cairn({"server", "drain", machines_->ServerName("cs2")}).exit_code, 0);
  // At full size when a part of it is done; few chunks are moved within seconds.
  if (LongTests()) {
    ASSERT_TRUE(WaitUntil([&] { return machines_->ChunksOnRecord("cs2") < before - before / 8; }, 300'000, 5))
        << machines_->Cairn({"server", "show", machines_->ServerName("cs2")}).Both() << machines_->Status().dump(1);
  }
  machines_->BreakDisk("cs3");
  const uint64_t left = machines_->ChunksOnRecord("cs2");
  EXPECT_GT(left, 0u);
  EXPECT_TRUE(WaitUntil([&] { return machines_->ServerStatus("cs2").value("mode", "") == "drained"; }, LongTests() ? 1'800'000 : 240'000, 200))
      << machines_->Cairn({"server", "show", machines_->ServerName("cs2")}).Both() << machines_->Status().dump(1);
  const int64_t drained = NowMillis();
  EXPECT_TRUE(WaitUntil(
      [&] { return machines_->ChunksOnRecord("cs3") == 0 && Number(machines_->Status(), "chunks_below_policy") == 0; }, 600'000, 200))
      << machines_->Status().dump(1);
  Figure(std::to_string(before) + " chunks on cs2, the disk of cs3 pulled out with " + std::to_string(left) + " left: drained after " +
         std::to_string(drained - start) + " ms, every chunk as its policy wants after " + std::to_string(NowMillis() - start) + " ms");
  EXPECT_EQ(Number(machines_->Status(), "chunks_damaged"), 0u);
  ExpectAllFiles();
  const RunResult removed = machines_->Cairn({"server", "remove", machines_->ServerName("cs2")});
  EXPECT_EQ(removed.exit_code, 0) << removed.Both();
  const RunResult fsck = machines_->Cairn({"fsck"});
  EXPECT_EQ(fsck.exit_code, 0) << fsck.Both();
}

// Of five servers two lost their disks, one after the other, and one is drained: two are left for three copies.
TEST_F(DrainFailureTest, ADrainThatCannotEndSaysWhy) {
  machines_->BreakDisk("cs3");
  ASSERT_TRUE(WaitUntil(
      [&] { return machines_->ChunksOnRecord("cs3") == 0 && Number(machines_->Status(), "chunks_below_policy") == 0; }, 240'000, 200))
      << machines_->Status().dump(1);
  ASSERT_EQ(machines_->Cairn({"server", "drain", machines_->ServerName("cs2")}).exit_code, 0);
  machines_->BreakDisk("cs4");
  EXPECT_TRUE(WaitUntil(
      [&] { return machines_->Cairn({"server", "show", machines_->ServerName("cs2")}).out.find("no other server that is up has room") != std::string::npos; },
      240'000, 500))
      << machines_->Cairn({"server", "show", machines_->ServerName("cs2")}).Both();
  EXPECT_NE(machines_->ServerStatus("cs2").value("mode", ""), "drained");
  EXPECT_GT(machines_->ChunksOnRecord("cs2"), 0u) << "its copies are what is left";
  ExpectAllFiles();
}

}  // namespace
}  // namespace cairn::cluster_test
