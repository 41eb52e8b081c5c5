#include "tests/cluster/load/register_history.h"

#include <algorithm>

namespace cairn::cluster_test {
namespace {

// All operations on one value: it is the register's value at least from the first end to the last begin.
struct Zone {
  uint64_t value = 0;
  int64_t first_end = RegisterHistory::kNever;
  int64_t last_begin = INT64_MIN;
  bool forward() const { return first_end < last_begin; }
  int64_t low() const { return std::min(first_end, last_begin); }
  int64_t high() const { return std::max(first_end, last_begin); }
  std::string Text() const {
    return std::to_string(value) + " (first end " + std::to_string(first_end) + ", last begin " +
           std::to_string(last_begin) + ")";
  }
};

void Extend(const Interval& when, Zone* zone) {
  zone->first_end = std::min(zone->first_end, when.end);
  zone->last_begin = std::max(zone->last_begin, when.begin);
}

}  // namespace

size_t RegisterHistory::size() const {
  size_t count = writes_.size();
  for (const auto& [value, reads] : reads_) count += reads.size();
  return count;
}

std::string RegisterHistory::Check() const {
  std::vector<Zone> zones;
  for (const auto& [value, reads] : reads_) {
    if (value == 0) continue;
    const auto write = writes_.find(value);
    if (write == writes_.end()) return "a read shows " + std::to_string(value) + ", which nobody wrote";
    for (const Interval& read : reads) {
      if (read.end < write->second.begin)
        return "a read shows " + std::to_string(value) + " before its write began";
    }
  }
  for (const auto& [value, write] : writes_) {
    const auto reads = reads_.find(value);
    if (write.end == kNever && reads == reads_.end()) continue;  // it may never have happened
    Zone zone{.value = value};
    Extend(write, &zone);
    if (reads != reads_.end()) {
      for (const Interval& read : reads->second) Extend(read, &zone);
    }
    zones.push_back(zone);
  }
  if (const auto initial = reads_.find(0); initial != reads_.end()) {
    Zone zone{.value = 0};
    Extend({INT64_MIN, INT64_MIN}, &zone);
    for (const Interval& read : initial->second) Extend(read, &zone);
    zones.push_back(zone);
  }
  // Two values cannot both be there for certain at one time.
  std::vector<Zone> forward;
  std::copy_if(zones.begin(), zones.end(), std::back_inserter(forward),
               [](const Zone& z) { return z.forward(); });
  std::sort(forward.begin(), forward.end(), [](const Zone& a, const Zone& b) { return a.low() < b.low(); });
  for (size_t i = 1; i < forward.size(); ++i) {
    if (forward[i].low() < forward[i - 1].high())
      return "the register held " + forward[i - 1].Text() + " and " + forward[i].Text() + " at one time";
  }
  // A value cannot come and go entirely while another one is there for certain.
  for (const Zone& zone : zones) {
    if (zone.forward()) continue;
    auto after = std::upper_bound(forward.begin(), forward.end(), zone.low(),
                                  [](int64_t time, const Zone& z) { return time < z.low(); });
    if (after == forward.begin()) continue;
    const Zone& around = *std::prev(after);
    if (around.low() < zone.low() && zone.high() < around.high())
      return "the register held " + around.Text() + " all the time that " + zone.Text() + " needs";
  }
  return {};
}

}  // namespace cairn::cluster_test
