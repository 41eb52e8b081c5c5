#include "master/cluster/rejoin_pacer.h"

#include <gtest/gtest.h>

namespace cairn::master {
namespace {

TEST(RejoinPacerTest, TheFirstTimeIsAtOnceAndEachFurtherOneTwiceAsLate) {
  RejoinPacer pacer;
  const ChunkId chunk(1);
  EXPECT_EQ(pacer.NextTime(chunk), 0);
  int64_t now = 0;
  int64_t expected = RejoinPacer::kFirstNanos;
  for (int i = 0; i < 10; ++i) {
    pacer.Ended(chunk, now);
    EXPECT_EQ(pacer.NextTime(chunk) - now, expected);
    now = pacer.NextTime(chunk);
    expected = std::min(2 * expected, RejoinPacer::kMostNanos);
  }
  EXPECT_EQ(pacer.NextTime(ChunkId(2)), 0) << "chunks do not wait for each other";
}

TEST(RejoinPacerTest, AChunkThatWasLeftInPeaceStartsAnew) {
  RejoinPacer pacer;
  pacer.Ended(ChunkId(1), 0);
  pacer.Ended(ChunkId(1), kNanosPerSecond);
  pacer.Prune(pacer.NextTime(ChunkId(1)) + RejoinPacer::kMostNanos - 1);
  EXPECT_EQ(pacer.size(), 1u);
  pacer.Prune(pacer.NextTime(ChunkId(1)) + RejoinPacer::kMostNanos);
  EXPECT_EQ(pacer.size(), 0u);
  EXPECT_EQ(pacer.NextTime(ChunkId(1)), 0);
}

}  // namespace
}  // namespace cairn::master
