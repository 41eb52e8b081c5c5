#include "client/data/dirty_extents.h"

#include <algorithm>
#include <cstring>

#include "common/check.h"

namespace cairn::client {
namespace {

constexpr size_t kSmallestBuffer = 4096;
// An extent that outgrows this is taken for a stream and gets the memory of a whole slot at once.
constexpr size_t kStreamBytes = 64u << 10;

uint64_t SlotEnd(uint64_t offset) { return (offset / kSlotBytes + 1) * kSlotBytes; }

size_t CapacityFor(size_t needed) {
  if (needed > kStreamBytes) return kSlotBytes;
  size_t capacity = kSmallestBuffer;
  while (capacity < needed) capacity *= 4;
  return capacity;
}

}  // namespace

DirtyExtents::Map::const_iterator DirtyExtents::FirstBeyond(uint64_t offset) const {
  auto it = extents_.upper_bound(offset);
  if (it != extents_.begin() && std::prev(it)->second.end() > offset) --it;
  return it;
}

// The extent that holds `offset` or ends exactly there, if it may hold or take the byte at `offset`.
DirtyExtents::Extent* DirtyExtents::LastTouching(uint64_t offset) {
  auto it = extents_.upper_bound(offset);
  if (it == extents_.begin()) return nullptr;
  Extent& extent = std::prev(it)->second;
  if (extent.end() < offset || SlotEnd(extent.offset) <= offset) return nullptr;
  return &extent;
}

void DirtyExtents::Append(Extent& extent, std::span<const std::byte> data) {
  const size_t needed = extent.length + data.size();
  if (needed > extent.buffer.bytes.size()) {
    net::PooledBuffer larger = pool_->Acquire(CapacityFor(needed));
    if (extent.length != 0) std::memcpy(larger.bytes.data(), extent.buffer.bytes.data(), extent.length);
    extent.buffer = std::move(larger);
  }
  std::memcpy(extent.buffer.bytes.data() + extent.length, data.data(), data.size());
  extent.length = needed;
  bytes_ += data.size();
}

uint64_t DirtyExtents::Write(uint64_t offset, std::span<const std::byte> data) {
  const uint64_t before = bytes_;
  while (!data.empty()) {
    Extent* extent = LastTouching(offset);
    if (extent != nullptr && extent->end() > offset) {  // overwrite in place
      const size_t n = std::min<uint64_t>(data.size(), extent->end() - offset);
      std::memcpy(extent->buffer.bytes.data() + (offset - extent->offset), data.data(), n);
      data = data.subspan(n);
      offset += n;
      continue;
    }
    uint64_t gap_end = std::min(offset + data.size(), SlotEnd(offset));
    if (auto next = extents_.lower_bound(offset); next != extents_.end()) {
      gap_end = std::min(gap_end, next->second.offset);
    }
    const size_t n = gap_end - offset;
    if (extent == nullptr) {
      extent = &extents_[offset];
      extent->offset = offset;
    }
    Append(*extent, data.first(n));
    data = data.subspan(n);
    offset += n;
  }
  return bytes_ - before;
}

// Makes the contiguous extents [first, last) of one slot one.
ReadyExtent DirtyExtents::Join(Map::iterator first, Map::iterator last) {
  ReadyExtent ready{first->second.offset, {}};
  if (std::next(first) == last) {
    const Extent& only = first->second;
    ready.data = {only.buffer.bytes.first(only.length), only.buffer.owner};
  } else {
    size_t total = 0;
    for (auto it = first; it != last; ++it) total += it->second.length;
    net::PooledBuffer joined = pool_->Acquire(total);
    size_t at = 0;
    for (auto it = first; it != last; ++it) {
      std::memcpy(joined.bytes.data() + at, it->second.buffer.bytes.data(), it->second.length);
      at += it->second.length;
    }
    ready.data = {joined.bytes.first(total), joined.owner};
  }
  bytes_ -= ready.data.size();
  return ready;
}

std::vector<ReadyExtent> DirtyExtents::Take(bool all) {
  std::vector<ReadyExtent> ready;
  auto it = extents_.begin();
  while (it != extents_.end()) {
    auto last = std::next(it);
    uint64_t end = it->second.end();
    while (last != extents_.end() && last->second.offset == end && SlotEnd(it->second.offset) > end) {
      end = last->second.end();
      ++last;
    }
    if (all || end == SlotEnd(it->second.offset)) {
      ready.push_back(Join(it, last));
      it = extents_.erase(it, last);
    } else {
      it = last;
    }
  }
  return ready;
}

uint64_t DirtyExtents::TruncateTo(uint64_t length) {
  const uint64_t before = bytes_;
  while (!extents_.empty()) {
    auto last = std::prev(extents_.end());
    Extent& extent = last->second;
    if (extent.end() <= length) break;
    if (extent.offset >= length) {
      bytes_ -= extent.length;
      extents_.erase(last);
    } else {
      bytes_ -= extent.end() - length;
      extent.length = length - extent.offset;
    }
  }
  return before - bytes_;
}

void DirtyExtents::Overlay(uint64_t offset, std::span<std::byte> out) const {
  const uint64_t end = offset + out.size();
  for (auto it = FirstBeyond(offset); it != extents_.end() && it->second.offset < end; ++it) {
    const Extent& extent = it->second;
    const uint64_t from = std::max(offset, extent.offset);
    const uint64_t to = std::min(end, extent.end());
    std::memcpy(out.data() + (from - offset), extent.buffer.bytes.data() + (from - extent.offset), to - from);
  }
}

std::vector<Gap> DirtyExtents::Ranges(uint64_t offset, uint64_t length) const {
  std::vector<Gap> ranges;
  const uint64_t end = offset + length;
  for (auto it = FirstBeyond(offset); it != extents_.end() && it->second.offset < end; ++it) {
    const uint64_t from = std::max(offset, it->second.offset);
    ranges.push_back({from, std::min(end, it->second.end()) - from});
  }
  return ranges;
}

bool DirtyExtents::Overlaps(uint64_t offset, uint64_t length) const {
  if (length == 0) return false;
  auto it = FirstBeyond(offset);
  return it != extents_.end() && it->second.offset < offset + length;
}

}  // namespace cairn::client
