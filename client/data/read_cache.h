// Ranges of a file that were asked for ahead of the application, by offset. A range leaves when it was read
// to its end, when it is overwritten, or as the oldest one when there are too many: the kernel's page cache
// above keeps what was read. Thread-safety: none; the owner's lock protects it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <utility>

namespace cairn::client {

template <typename Value>
class ReadCache {
 public:
  struct Range {
    uint64_t start = 0;
    uint64_t end = 0;
    uint64_t consumed = 0;  // bytes handed out
    uint64_t age = 0;
    Value value;
  };

  // The range that holds `offset`, or nullptr.
  Range* Find(uint64_t offset) {
    auto it = ranges_.upper_bound(offset);
    if (it == ranges_.begin()) return nullptr;
    Range& range = std::prev(it)->second;
    return range.end > offset ? &range : nullptr;
  }
  // The start of the first range at or beyond `offset`, or `otherwise`.
  uint64_t NextStart(uint64_t offset, uint64_t otherwise) const {
    auto it = ranges_.lower_bound(offset);
    return it == ranges_.end() ? otherwise : it->first;
  }
  // Precondition: overlaps no other range.
  void Insert(uint64_t start, uint64_t end, Value value) {
    ranges_.emplace(start, Range{start, end, 0, next_age_++, std::move(value)});
    bytes_ += end - start;
  }
  // Each of these returns the bytes of the ranges that left.
  uint64_t Consume(uint64_t start, uint64_t bytes) {
    Range* range = Find(start);
    if (range == nullptr) return 0;
    range->consumed += bytes;
    return range->consumed >= range->end - range->start ? Erase(ranges_.find(range->start)) : 0;
  }
  uint64_t Invalidate(uint64_t from, uint64_t to) {
    uint64_t freed = 0;
    auto it = ranges_.upper_bound(from);
    if (it != ranges_.begin() && std::prev(it)->second.end > from) --it;
    while (it != ranges_.end() && it->first < to) freed += Erase(it++);
    return freed;
  }
  uint64_t EvictOldest() {
    auto oldest = ranges_.begin();
    for (auto it = ranges_.begin(); it != ranges_.end(); ++it) {
      if (it->second.age < oldest->second.age) oldest = it;
    }
    return oldest == ranges_.end() ? 0 : Erase(oldest);
  }
  uint64_t Clear() {
    ranges_.clear();
    return std::exchange(bytes_, 0);
  }

  bool empty() const { return ranges_.empty(); }
  uint64_t bytes() const { return bytes_; }

 private:
  uint64_t Erase(typename std::map<uint64_t, Range>::iterator it) {
    const uint64_t bytes = it->second.end - it->second.start;
    ranges_.erase(it);
    bytes_ -= bytes;
    return bytes;
  }

  std::map<uint64_t, Range> ranges_;  // by start; they do not overlap
  uint64_t bytes_ = 0;
  uint64_t next_age_ = 0;
};

}  // namespace cairn::client
