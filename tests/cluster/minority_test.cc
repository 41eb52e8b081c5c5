// A partition leaves the writer with one chunkserver, and the master with two: the writer is refused, its
// lease ends by its own clock, the others go on, and after healing there is one history, as the checker says.
#include <gtest/gtest.h>

#include <cstdlib>

#include "tests/cluster/load/load_process.h"
#include "tests/cluster/machines.h"

namespace cairn::cluster_test {
namespace {

TEST(Minority, TheWriterIsRefusedTheMajorityGoesOnAndHistoryIsOne) {
  if (const std::string why = Machines::WhyNot(); !why.empty()) GTEST_SKIP() << why;
  Machines::Options options;
  options.master_flags = {"--session-lease-ms", "2000", "--write-timeout-ms", "3000",
                          "--repair-grace-ms",  "3000"};
  auto machines = Machines::Start(options);
  ASSERT_NE(machines, nullptr);
  const std::string writer = machines->Mount("m1", "write_timeout_ms=3000,request_timeout_ms=6000");
  const std::string other = machines->Mount("m2");
  ASSERT_FALSE(writer.empty() || other.empty());
  LoadProcess load("cairn-stream-load", {});
  EXPECT_EQ(load.Say("write " + writer + " 1").substr(0, 2), "0 ");
  EXPECT_EQ(load.Say("read " + other), "1");
  EXPECT_EQ(load.Say("write " + writer + " 2").substr(0, 2), "0 ");  // the lease is the writer's

  const std::vector<std::string> minority = {"m1", "cs1"};
  const std::vector<std::string> majority = {"master", "cs2", "cs3", "m2"};
  for (const std::string& one : minority) {
    for (const std::string& two : majority) {
      machines->Drop(one, two);
      machines->Drop(two, one);
    }
  }
  const std::string refused = load.Say("write " + writer + " 3");
  EXPECT_NE(refused.substr(0, 2), "0 ") << "a write was confirmed by a minority";
  Figure("the writer with the minority: errno " + refused.substr(0, refused.find(' ')) + " after " +
         refused.substr(refused.find(' ') + 1) + " ms");
  const std::string blind = load.Say("read " + writer);
  EXPECT_TRUE(blind.starts_with("-") || blind == "2" || blind == "3") << blind;

  const int64_t start = NowMillis();
  EXPECT_EQ(load.Say("read " + other), "2");
  EXPECT_EQ(load.Say("write " + other + " 4").substr(0, 2), "0 ");
  Figure("the majority went on after " + std::to_string(NowMillis() - start) + " ms");
  EXPECT_EQ(load.Say("read " + other), "4");
  const std::string stale = load.Say("read " + writer);
  EXPECT_TRUE(stale.starts_with("-")) << "the writer's side still reads " << stale;

  machines->HealNetwork();
  EXPECT_EQ(machines->WaitHealthy(60'000), "");
  // Whether the refused write counts is open, but both sides must see the same from now on.
  const std::string healed = load.Say("read " + writer);
  EXPECT_TRUE(healed == "4" || healed == "3") << healed;
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(load.Say("read " + other), healed);
    EXPECT_EQ(load.Say("read " + writer), healed);
  }
  EXPECT_EQ(load.Say("write " + writer + " 5").substr(0, 2), "0 ");
  EXPECT_EQ(load.Say("read " + other), "5");
  const std::string history = load.Say("history");
  EXPECT_EQ(history, "ok");
  Figure("one history: " + history);
}

}  // namespace
}  // namespace cairn::cluster_test
