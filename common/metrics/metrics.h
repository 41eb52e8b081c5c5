// Counters and latency histograms of one process, cheap enough for the data path: each thread adds to a
// stripe of its own, so that counting costs an uncontended atomic addition and no lock. What Prometheus asks
// for is summed up when it asks.
//
// Names follow https://prometheus.io/docs/practices/naming: cairn_PART_WHAT_UNIT, counters end in _total,
// durations are in seconds, sizes in bytes.
//
// Thread-safety: everything, from any thread. Metrics live as long as their registry; look them up once and
// keep the reference, a lookup takes a mutex.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace cairn::metrics {

using Labels = std::map<std::string, std::string>;

inline constexpr size_t kStripes = 16;
size_t ThisThreadsStripe();

class Counter {
 public:
  void Add(uint64_t amount = 1) {
    stripes_[ThisThreadsStripe()].value.fetch_add(amount, std::memory_order_relaxed);
  }
  uint64_t Value() const;

 private:
  struct alignas(64) Stripe {
    std::atomic<uint64_t> value{0};
  };
  std::array<Stripe, kStripes> stripes_;
};

// Durations, in buckets that double from 16 microseconds to 34 seconds.
class LatencyHistogram {
 public:
  static constexpr size_t kBuckets = 23;  // the last one: everything longer
  static constexpr int64_t kFirstNanos = 16'000;
  // Seconds; the upper bound of bucket i, for i < kBuckets - 1.
  static double UpperBound(size_t bucket);

  void Record(int64_t nanos);  // a negative duration (a clock that was set back) counts as zero

  struct Sums {
    std::array<uint64_t, kBuckets> counts{};  // not cumulative
    uint64_t count = 0;
    double seconds = 0;
  };
  Sums Read() const;

 private:
  struct alignas(64) Stripe {
    std::array<std::atomic<uint64_t>, kBuckets> counts{};
    std::atomic<uint64_t> nanos{0};
  };
  std::array<Stripe, kStripes> stripes_;
};

// One value with the labels that tell it from others of the same name.
struct Sample {
  Labels labels;
  double value = 0;
};

class Registry {
 public:
  Registry();
  ~Registry();
  Registry(const Registry&) = delete;
  Registry& operator=(const Registry&) = delete;

  // The same object for the same name and labels. A name has one kind and one help text: the first ones
  // given.
  Counter& GetCounter(const std::string& name, const std::string& help, const Labels& labels = {});
  LatencyHistogram& GetHistogram(const std::string& name, const std::string& help, const Labels& labels = {});
  // Values that somebody else keeps: `read` is asked whenever somebody reads, must not block for long, and is
  // dropped by the handle's end. AddTotal is for what only grows (its name ends in _total).
  class Handle;
  using Read = std::function<std::vector<Sample>()>;
  [[nodiscard]] std::unique_ptr<Handle> AddGauge(const std::string& name, const std::string& help, Read read);
  [[nodiscard]] std::unique_ptr<Handle> AddTotal(const std::string& name, const std::string& help, Read read);

  // All histograms of a name together, whatever their labels.
  LatencyHistogram::Sums Sums(const std::string& name) const;
  // Prometheus' text format, version 0.0.4.
  std::string Text() const;

 private:
  struct Impl;
  const std::unique_ptr<Impl> impl_;
};

class Registry::Handle {
 public:
  ~Handle();  // waits for a read under way
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;

 private:
  friend class Registry;
  Handle(Impl& registry, uint64_t id) : registry_(registry), id_(id) {}
  Impl& registry_;
  const uint64_t id_;
};

}  // namespace cairn::metrics
