// What a mutation stores: which blocks it drops and which it adds, as a record and its payload.
//
// Blocks are stored whole (the last one of a chunk up to its length). A write that touches a part of a block
// therefore reads the rest of it, checks it against its checksum and stores the merged block under a new one;
// a block that fails the check is never given a fresh checksum.
//
// Thread-safety: an Edit belongs to one thread.
#pragma once

#include <array>
#include <deque>
#include <optional>
#include <span>
#include <vector>

#include "chunkserver/store/record.h"
#include "common/wire/messages.h"

namespace cairn::chunkserver {

// Reads one block of the present replica into `out` (kBlockBytes, zero-filled behind the bytes stored) and
// checks it. Returns the number of bytes stored, nothing for a hole; kCorrupt when the check fails.
class BlockReader {
 public:
  virtual Result<std::optional<uint32_t>> ReadBlock(ChunkId chunk, uint64_t block,
                                                    std::span<std::byte> out) const = 0;

 protected:
  ~BlockReader() = default;
};

class Edit {
 public:
  // Fills in record->drop_*, extents; payload() lies in `data` and in this object.
  Edit(ChunkId chunk, Record* record, const BlockReader* reader)
      : chunk_(chunk), record_(record), reader_(reader) {}
  Edit(const Edit&) = delete;
  Edit& operator=(const Edit&) = delete;

  // `length` is the chunk's before the mutation.
  Status Write(uint64_t offset, std::span<const std::byte> data, std::span<const uint32_t> checksums,
               uint64_t length);
  Status Truncate(uint64_t new_length, uint64_t length);
  Status Zero(uint64_t offset, uint64_t zero_length, uint64_t length);

  const std::vector<std::span<const std::byte>>& payload() const { return payload_; }

 private:
  using Block = std::array<std::byte, kBlockBytes>;
  Result<std::optional<uint32_t>> Load(uint64_t block, Block** out);
  void AddBlock(uint64_t block, std::span<const std::byte> bytes);  // as an extent of its own

  const ChunkId chunk_;
  Record* const record_;
  const BlockReader* const reader_;
  std::deque<Block> blocks_;
  std::vector<std::span<const std::byte>> payload_;
};

}  // namespace cairn::chunkserver
