#include "client/data/read_ahead.h"

#include <gtest/gtest.h>

#include <random>

namespace cairn::client {
namespace {

constexpr uint64_t kMiB = 1u << 20;

TEST(ReadAhead, SequentialReadsAreAheadByTheWindowAndNothingIsAskedForTwice) {
  ReadAhead ahead(8 * kMiB);
  const uint64_t size = 100 * kMiB + 17;
  uint64_t fetched = 0, requests = 0;
  for (uint64_t at = 0; at < size; at += 128 << 10) {
    const uint64_t n = std::min<uint64_t>(128 << 10, size - at);
    const auto range = ahead.OnRead(at, n, size);
    if (range.empty()) continue;
    ++requests;
    EXPECT_GE(range.from, fetched);
    EXPECT_LE(range.to, size);
    EXPECT_LE(range.to - std::min(range.to, at + n), 8 * kMiB);
    fetched = range.to;
  }
  EXPECT_EQ(fetched, size);
  EXPECT_LE(requests, 2 * size / (8 * kMiB) + 8);
}

TEST(ReadAhead, RandomReadsCauseNone) {
  ReadAhead ahead(8 * kMiB);
  std::mt19937_64 random(1);
  for (int i = 0; i < 1000; ++i) {
    const uint64_t at = random() % (1ull << 40) / 4096 * 4096;
    EXPECT_TRUE(ahead.OnRead(at, 4096, 1ull << 40).empty());
  }
}

TEST(ReadAhead, SeveralStreamsAreToldApart) {
  ReadAhead ahead(4 * kMiB);
  int planned[3] = {};
  for (uint64_t i = 0; i < 64; ++i) {
    for (uint64_t stream = 0; stream < 3; ++stream) {
      const uint64_t at = stream * (1ull << 30) + i * (256 << 10);
      if (!ahead.OnRead(at, 256 << 10, 1ull << 40).empty()) ++planned[stream];
    }
  }
  for (int count : planned) EXPECT_GT(count, 2);
}

TEST(ReadAhead, NothingIsReadBeyondTheEnd) {
  ReadAhead ahead(8 * kMiB);
  EXPECT_TRUE(ahead.OnRead(0, 4096, 8192).empty());
  const auto range = ahead.OnRead(4096, 4096, 8192);
  EXPECT_TRUE(range.empty());
}

}  // namespace
}  // namespace cairn::client
