// Much at once: a thousand chunks to repair, most urgent first; servers that return together.
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "master/cluster/repair_manager.h"
#include "tests/master/core_fixture.h"

namespace cairn::master {
namespace {

class CoreStormTest : public CoreFixture {
 protected:
  void MakeFiles(uint32_t servers, int files) {
    for (uint32_t i = 4; i <= servers; ++i) h_.StartServer(i);
    for (int i = 0; i < files; ++i) chunks_.push_back(h_.SealedFile(*a_, "f" + std::to_string(i)).second);
    h_.Advance(2'000);
    ASSERT_EQ(h_.core().repair().counters().below_policy, 0u);
    servers_ = servers;
  }
  uint64_t Copies() {
    uint64_t copies = 0;
    for (uint32_t i = 1; i <= servers_; ++i) copies += h_.replicas(i).syncs;
    return copies;
  }

  // So long, with servers that answer ten times a second.
  void AdvanceSlowly(int64_t ms) {
    for (int64_t passed = 0; passed < ms; passed += 100) {
      for (uint32_t i = 1; i <= servers_; ++i) {
        if (!down_.contains(i)) h_.server(i).AnswerHeld();
        if (!down_.contains(i)) h_.server(i).mute = true;
      }
      h_.Advance(100);
    }
  }
  void Stop(uint32_t index) {
    h_.StopServer(index);
    down_.insert(index);
  }
  bool IsMember(uint64_t chunk, uint32_t server) {
    const proto::ChunkRecord record = Record(chunk);
    return std::count(record.members().begin(), record.members().end(), server) > 0;
  }

  std::set<uint32_t> down_;
  uint32_t servers_ = 0;
  std::vector<proto::ChunkLayout> chunks_;
};

// A switch was restarted: everybody is gone and comes back one after the other.
TEST_F(CoreStormTest, ServersThatReturnTogetherCauseNoCopying) {
  MakeFiles(30, 1'000);
  for (const int64_t away_ms : {5'000, 120'000}) {
    for (uint32_t i = 1; i <= servers_; ++i) h_.StopServer(i);
    h_.Advance(away_ms);
    for (uint32_t i = 1; i <= servers_; ++i) {
      h_.StartServer(i);
      h_.Advance(100);
    }
    h_.Advance(60'000);
    EXPECT_EQ(Copies(), 0u) << away_ms;
    EXPECT_EQ(h_.core().repair().counters().below_policy, 0u);
  }
}

// A second server comes back with an empty disk while the copies of a first one, which is down, are being made again: what has one copy left
// is brought back to it first.
TEST_F(CoreStormTest, WhatHasTheFewestCopiesIsRepairedFirst) {
  MakeFiles(6, 2'000);
  const uint32_t first = h_.server(1).id, second = h_.server(2).id;
  Stop(1);
  while (h_.copied.size() < 200) AdvanceSlowly(100);
  std::set<ChunkId> endangered;
  size_t on_second = 0;
  for (const proto::ChunkLayout& chunk : chunks_) {
    if (IsMember(chunk.chunk(), first) && IsMember(chunk.chunk(), second)) endangered.insert(ChunkId(chunk.chunk()));
    on_second += IsMember(chunk.chunk(), second) ? 1 : 0;
  }
  ASSERT_GE(endangered.size(), 200u);
  ASSERT_GE(on_second, 3 * endangered.size());
  h_.StopServer(2);
  h_.replicas(2).all().clear();
  h_.copied.clear();
  h_.StartServer(2);
  for (int i = 0; i < 3'000 && h_.core().repair().counters().below_policy > 0; ++i) AdvanceSlowly(100);
  EXPECT_EQ(h_.core().repair().counters().below_policy, 0u);
  size_t to_second = 0, urgent = 0, passed_over = 0;
  for (const auto& [server, chunk] : h_.copied) {
    if (server != 2) continue;
    ++to_second;
    if (endangered.contains(chunk)) ++urgent;
    if (!endangered.contains(chunk) && urgent + 10 < endangered.size()) ++passed_over;
  }
  EXPECT_GE(to_second, on_second * 9 / 10);
  // Only what had begun before all was known.
  EXPECT_LE(passed_over, RepairLimits::kFull * h_.core().options().max_repairs_per_server) << to_second << " copies, " << endangered.size() << " urgent";
}

// Two of three members are down: no copy helps, for the configuration cannot change without them. Others are not kept waiting for it.
TEST_F(CoreStormTest, WhatCannotBeRepairedTakesNobodysPlace) {
  MakeFiles(6, 1'000);
  const uint32_t first = h_.server(1).id, second = h_.server(2).id;
  size_t both = 0, one = 0;
  for (const proto::ChunkLayout& chunk : chunks_) {
    const int gone = (IsMember(chunk.chunk(), first) ? 1 : 0) + (IsMember(chunk.chunk(), second) ? 1 : 0);
    both += gone == 2 ? 1 : 0;
    one += gone == 1 ? 1 : 0;
  }
  ASSERT_GE(both, 100u);
  Stop(1);
  Stop(2);
  AdvanceSlowly(120'000);
  EXPECT_EQ(h_.core().repair().counters().below_policy, both);
  EXPECT_EQ(Copies(), one);
}

}  // namespace
}  // namespace cairn::master
