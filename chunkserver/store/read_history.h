// How often regions of the segments were read from disk, a little forgetful. A region that is read once or
// twice, as copies, backups and repairs do, does not displace what others read again and again; from its
// third read on it is worth a place in the page cache.
//
// Thread-safety: all methods from any thread.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>

#include "chunkserver/store/record.h"

namespace cairn::chunkserver {

class ReadHistory {
 public:
  static constexpr uint32_t kMaxCount = 3;

  // Regions of `region_bytes`.
  explicit ReadHistory(uint32_t region_bytes) : region_bytes_(region_bytes) {}

  // How many reads were noted, kMaxCount at most.
  uint32_t Count(LogPosition at) const {
    const uint64_t key = Key(at);
    const uint64_t slot = slots_[Slot(key)].load(std::memory_order_relaxed);
    return slot / (kMaxCount + 1) == key ? static_cast<uint32_t>(slot % (kMaxCount + 1)) : 0;
  }
  // To be called with each read from disk; returns the count before.
  uint32_t Note(LogPosition at) {
    const uint32_t before = Count(at);
    const uint64_t key = Key(at);
    slots_[Slot(key)].store(key * (kMaxCount + 1) + std::min(before + 1, kMaxCount),
                            std::memory_order_relaxed);
    return before;
  }
  LogPosition RegionOf(LogPosition at) const {
    return {at.segment, at.offset / region_bytes_ * region_bytes_};
  }
  uint32_t region_bytes() const { return region_bytes_; }

 private:
  static constexpr size_t kSlots = 16384;  // 128 KiB; two regions that share a slot forget each other

  uint64_t Key(LogPosition at) const { return uint64_t{at.segment} << 20 | at.offset / region_bytes_; }
  static size_t Slot(uint64_t key) { return (key * 0x9E3779B97F4A7C15ull) >> 50; }

  const uint32_t region_bytes_;
  std::array<std::atomic<uint64_t>, kSlots> slots_{};
};

}  // namespace cairn::chunkserver
