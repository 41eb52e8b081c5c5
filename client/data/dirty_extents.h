// Written bytes of one chunk that were not made into mutations yet. Overwrites merge in memory; sequential
// writes grow an extent in place until it fills its slot (kSlotBytes, aligned in the chunk), so that a stream
// becomes aligned mutations of kSlotBytes, and scattered small writes become small ones.
//
// A byte is copied once, from the caller into the extent; twice while a small extent outgrows its buffer, and
// when neighbouring extents that were written out of order are joined. Thread-safety: none; the owner's lock
// protects it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "common/net/buffer_pool.h"
#include "common/net/shared_bytes.h"

namespace cairn::client {

// The largest mutation of written data, and the alignment of those of a stream. At most
// wire::kMaxTransferBytes.
inline constexpr uint64_t kSlotBytes = 1u << 20;

// A range of the chunk, or of a buffer that is still to be filled.
struct Gap {
  uint64_t offset = 0;  // in the chunk
  uint64_t length = 0;
};

// Bytes at an offset of the chunk, ready to be sent.
struct ReadyExtent {
  uint64_t offset = 0;
  net::SharedBytes data;
  uint64_t end() const { return offset + data.size(); }
};

class DirtyExtents {
 public:
  explicit DirtyExtents(net::BufferPool* pool) : pool_(pool) {}

  // Returns the bytes that were not dirty before.
  uint64_t Write(uint64_t offset, std::span<const std::byte> data);

  // Takes out what should be sent now, by offset. With `all`, everything; otherwise extents that reach the
  // end of their slot: a sequential writer is done with those.
  std::vector<ReadyExtent> Take(bool all);

  // Drops dirty bytes at and beyond `length`; returns how many.
  uint64_t TruncateTo(uint64_t length);

  // Copies what is dirty in [offset, offset + out.size()) over `out`.
  void Overlay(uint64_t offset, std::span<std::byte> out) const;
  // The dirty ranges within [offset, offset + length), by offset.
  std::vector<Gap> Ranges(uint64_t offset, uint64_t length) const;
  bool Overlaps(uint64_t offset, uint64_t length) const;

  bool empty() const { return extents_.empty(); }
  size_t count() const { return extents_.size(); }
  uint64_t bytes() const { return bytes_; }
  uint64_t end() const { return extents_.empty() ? 0 : extents_.rbegin()->second.end(); }

 private:
  struct Extent {
    uint64_t offset = 0;  // in the chunk
    size_t length = 0;
    net::PooledBuffer buffer;  // its first byte is at `offset`
    uint64_t end() const { return offset + length; }
  };
  using Map = std::map<uint64_t, Extent>;  // by offset; extents do not overlap and do not cross a slot

  Extent* LastTouching(uint64_t offset);
  void Append(Extent& extent, std::span<const std::byte> data);
  ReadyExtent Join(Map::iterator first, Map::iterator last);
  Map::const_iterator FirstBeyond(uint64_t offset) const;  // the first extent whose end is greater

  net::BufferPool* const pool_;
  Map extents_;
  uint64_t bytes_ = 0;
};

}  // namespace cairn::client
