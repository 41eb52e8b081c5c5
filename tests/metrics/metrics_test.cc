#include "common/metrics/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>
#include <vector>

namespace cairn::metrics {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST(CounterTest, NothingIsLostBetweenThreads) {
  Registry registry;
  Counter& counter = registry.GetCounter("cairn_test_total", "things");
  std::vector<std::thread> threads;
  for (int t = 0; t < 20; ++t) {  // more than there are stripes
    threads.emplace_back([&counter] {
      for (int i = 0; i < 10'000; ++i) counter.Add(3);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(counter.Value(), 600'000u);
}

TEST(LatencyHistogramTest, ABucketHoldsWhatIsAtMostItsBound) {
  LatencyHistogram histogram;
  const auto bucket_of = [](int64_t nanos) {
    LatencyHistogram one;
    one.Record(nanos);
    const auto sums = one.Read();
    for (size_t i = 0; i < LatencyHistogram::kBuckets; ++i) {
      if (sums.counts[i] == 1) return i;
    }
    return LatencyHistogram::kBuckets;
  };
  EXPECT_EQ(bucket_of(-5), 0u);
  EXPECT_EQ(bucket_of(0), 0u);
  for (size_t i = 0; i + 1 < LatencyHistogram::kBuckets; ++i) {
    const auto bound = static_cast<int64_t>(LatencyHistogram::UpperBound(i) * 1e9 + 0.5);
    EXPECT_EQ(bucket_of(bound), i);
    EXPECT_EQ(bucket_of(bound + 1), i + 1);
  }
  EXPECT_EQ(bucket_of(int64_t{3600} * 1'000'000'000), LatencyHistogram::kBuckets - 1);
}

TEST(LatencyHistogramTest, SumsAreThoseOfAllThreads) {
  LatencyHistogram histogram;
  std::thread other([&histogram] { histogram.Record(1'000'000'000); });
  histogram.Record(500'000'000);
  other.join();
  const auto sums = histogram.Read();
  EXPECT_EQ(sums.count, 2u);
  EXPECT_DOUBLE_EQ(sums.seconds, 1.5);
}

TEST(RegistryTest, TheSameNameAndLabelsAreTheSameMetric) {
  Registry registry;
  Counter& read = registry.GetCounter("cairn_test_total", "things", {{"op", "read"}});
  EXPECT_EQ(&read, &registry.GetCounter("cairn_test_total", "things", {{"op", "read"}}));
  EXPECT_NE(&read, &registry.GetCounter("cairn_test_total", "things", {{"op", "write"}}));
}

TEST(RegistryTest, TextIsPrometheusFormat) {
  Registry registry;
  registry.GetCounter("cairn_test_requests_total", "Requests served", {{"op", "read"}}).Add(7);
  registry.GetHistogram("cairn_test_seconds", "How long").Record(20'000);
  auto gauge = registry.AddGauge("cairn_test_disk_free_bytes", "Free", [] {
    return std::vector<Sample>{{{{"disk", "a\"b"}}, 12}, {{{"disk", "c"}}, 13}};
  });
  auto total = registry.AddTotal("cairn_test_copied_bytes_total", "Copied", [] {
    return std::vector<Sample>{{{}, 14}};
  });
  const std::string text = registry.Text();
  EXPECT_THAT(text,
              HasSubstr("# TYPE cairn_test_copied_bytes_total counter\ncairn_test_copied_bytes_total 14\n"));
  EXPECT_THAT(text, HasSubstr("# TYPE cairn_test_disk_free_bytes gauge\n"));
  EXPECT_THAT(
      text,
      HasSubstr("# HELP cairn_test_requests_total Requests served\n# TYPE cairn_test_requests_total counter\n"
                "cairn_test_requests_total{op=\"read\"} 7\n"));
  EXPECT_THAT(text, HasSubstr("# TYPE cairn_test_seconds histogram\n"));
  EXPECT_THAT(text, HasSubstr("cairn_test_seconds_count 1\n"));
  EXPECT_THAT(text, HasSubstr("cairn_test_seconds_bucket{le=\"1.6e-05\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("cairn_test_seconds_bucket{le=\"3.2e-05\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("cairn_test_seconds_bucket{le=\"+Inf\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("cairn_test_disk_free_bytes{disk=\"a\\\"b\"} 12\n"));
  EXPECT_THAT(text, HasSubstr("cairn_test_disk_free_bytes{disk=\"c\"} 13\n"));
}

TEST(RegistryTest, AGaugeGoesWithItsHandle) {
  Registry registry;
  auto gauge = registry.AddGauge("cairn_test_gauge", "x", [] { return std::vector<Sample>{{{}, 1}}; });
  EXPECT_THAT(registry.Text(), HasSubstr("cairn_test_gauge 1\n"));
  gauge.reset();
  EXPECT_THAT(registry.Text(), Not(HasSubstr("cairn_test_gauge 1\n")));
}

}  // namespace
}  // namespace cairn::metrics
