#include "common/metrics/metrics.h"

#include <prometheus/check_names.h>
#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>

#include <algorithm>
#include <bit>
#include <limits>
#include <sstream>

#include "common/check.h"

namespace cairn::metrics {

size_t ThisThreadsStripe() {
  static std::atomic<size_t> next{0};
  thread_local const size_t stripe = next.fetch_add(1, std::memory_order_relaxed) % kStripes;
  return stripe;
}

uint64_t Counter::Value() const {
  uint64_t sum = 0;
  for (const Stripe& stripe : stripes_) sum += stripe.value.load(std::memory_order_relaxed);
  return sum;
}

double LatencyHistogram::UpperBound(size_t bucket) {
  return static_cast<double>(kFirstNanos << bucket) / 1e9;
}

void LatencyHistogram::Record(int64_t nanos) {
  const auto duration = static_cast<uint64_t>(std::max<int64_t>(nanos, 0));
  // Bounds are inclusive: a bucket holds what is at most its bound.
  const uint64_t units = duration == 0 ? 0 : (duration - 1) / kFirstNanos;
  const size_t bucket = std::min<size_t>(static_cast<size_t>(std::bit_width(units)), kBuckets - 1);
  Stripe& stripe = stripes_[ThisThreadsStripe()];
  stripe.counts[bucket].fetch_add(1, std::memory_order_relaxed);
  stripe.nanos.fetch_add(duration, std::memory_order_relaxed);
}

LatencyHistogram::Sums LatencyHistogram::Read() const {
  Sums sums;
  uint64_t nanos = 0;
  for (const Stripe& stripe : stripes_) {
    for (size_t i = 0; i < kBuckets; ++i) sums.counts[i] += stripe.counts[i].load(std::memory_order_relaxed);
    nanos += stripe.nanos.load(std::memory_order_relaxed);
  }
  for (const uint64_t count : sums.counts) sums.count += count;
  sums.seconds = static_cast<double>(nanos) / 1e9;
  return sums;
}

struct Registry::Impl {
  template <typename Metric>
  struct Family {
    std::string help;
    std::map<Labels, std::unique_ptr<Metric>> metrics;
  };
  struct Source {
    std::string name, help;
    prometheus::MetricType type;
    Read read;
  };

  template <typename Metric>
  Metric& Get(std::map<std::string, Family<Metric>>& families, const std::string& name,
              const std::string& help, const Labels& labels) {
    CAIRN_CHECK(prometheus::CheckMetricName(name), "metric name");
    const std::lock_guard lock(mu);
    Family<Metric>& family = families[name];
    if (family.help.empty()) family.help = help;
    std::unique_ptr<Metric>& metric = family.metrics[labels];
    if (metric == nullptr) metric = std::make_unique<Metric>();
    return *metric;
  }

  mutable std::mutex mu;
  std::map<std::string, Family<Counter>> counters;
  std::map<std::string, Family<LatencyHistogram>> histograms;
  std::map<uint64_t, Source> sources;
  uint64_t next_source = 1;

  std::unique_ptr<Handle> Add(Source source) {
    CAIRN_CHECK(prometheus::CheckMetricName(source.name), "metric name");
    const std::lock_guard lock(mu);
    const uint64_t id = next_source++;
    sources[id] = std::move(source);
    return std::unique_ptr<Handle>(new Handle(*this, id));
  }
};

namespace {

prometheus::ClientMetric Labelled(const Labels& labels) {
  prometheus::ClientMetric metric;
  for (const auto& [name, value] : labels) metric.label.push_back({name, value});
  return metric;
}

prometheus::ClientMetric::Histogram Buckets(const LatencyHistogram::Sums& sums) {
  prometheus::ClientMetric::Histogram histogram;
  histogram.sample_count = sums.count;
  histogram.sample_sum = sums.seconds;
  uint64_t cumulative = 0;
  for (size_t i = 0; i < LatencyHistogram::kBuckets; ++i) {
    cumulative += sums.counts[i];
    const bool last = i + 1 == LatencyHistogram::kBuckets;
    histogram.bucket.push_back(
        {cumulative, last ? std::numeric_limits<double>::infinity() : LatencyHistogram::UpperBound(i)});
  }
  return histogram;
}

}  // namespace

Registry::Registry() : impl_(std::make_unique<Impl>()) {}
Registry::~Registry() = default;

Counter& Registry::GetCounter(const std::string& name, const std::string& help, const Labels& labels) {
  return impl_->Get(impl_->counters, name, help, labels);
}

LatencyHistogram& Registry::GetHistogram(const std::string& name, const std::string& help,
                                         const Labels& labels) {
  return impl_->Get(impl_->histograms, name, help, labels);
}

std::unique_ptr<Registry::Handle> Registry::AddGauge(const std::string& name, const std::string& help,
                                                     Read read) {
  return impl_->Add({name, help, prometheus::MetricType::Gauge, std::move(read)});
}

std::unique_ptr<Registry::Handle> Registry::AddTotal(const std::string& name, const std::string& help,
                                                     Read read) {
  return impl_->Add({name, help, prometheus::MetricType::Counter, std::move(read)});
}

Registry::Handle::~Handle() {
  const std::lock_guard lock(registry_.mu);
  registry_.sources.erase(id_);
}

LatencyHistogram::Sums Registry::Sums(const std::string& name) const {
  LatencyHistogram::Sums all;
  const std::lock_guard lock(impl_->mu);
  const auto family = impl_->histograms.find(name);
  if (family == impl_->histograms.end()) return all;
  for (const auto& [labels, histogram] : family->second.metrics) {
    const LatencyHistogram::Sums one = histogram->Read();
    for (size_t i = 0; i < LatencyHistogram::kBuckets; ++i) all.counts[i] += one.counts[i];
    all.count += one.count;
    all.seconds += one.seconds;
  }
  return all;
}

std::string Registry::Text() const {
  std::map<std::string, prometheus::MetricFamily> families;
  const auto family = [&families](const std::string& name, const std::string& help,
                                  prometheus::MetricType type) -> auto& {
    prometheus::MetricFamily& result = families[name];
    result.name = name;
    if (result.help.empty()) result.help = help;
    result.type = type;
    return result.metric;
  };
  {
    const std::lock_guard lock(impl_->mu);
    for (const auto& [name, counters] : impl_->counters) {
      auto& metrics = family(name, counters.help, prometheus::MetricType::Counter);
      for (const auto& [labels, counter] : counters.metrics) {
        metrics.push_back(Labelled(labels));
        metrics.back().counter.value = static_cast<double>(counter->Value());
      }
    }
    for (const auto& [name, histograms] : impl_->histograms) {
      auto& metrics = family(name, histograms.help, prometheus::MetricType::Histogram);
      for (const auto& [labels, histogram] : histograms.metrics) {
        metrics.push_back(Labelled(labels));
        metrics.back().histogram = Buckets(histogram->Read());
      }
    }
    for (const auto& [id, source] : impl_->sources) {
      const std::vector<Sample> samples = source.read();
      if (samples.empty()) continue;
      auto& metrics = family(source.name, source.help, source.type);
      for (const Sample& sample : samples) {
        metrics.push_back(Labelled(sample.labels));
        (source.type == prometheus::MetricType::Gauge ? metrics.back().gauge.value
                                                      : metrics.back().counter.value) = sample.value;
      }
    }
  }
  std::vector<prometheus::MetricFamily> ordered;
  for (auto& [name, content] : families) ordered.push_back(std::move(content));
  std::ostringstream text;
  prometheus::TextSerializer().Serialize(text, ordered);
  return text.str();
}

}  // namespace cairn::metrics
