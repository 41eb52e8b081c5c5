// The records of the segment log (docs/formats.md, "Chunk store on disk").
//
// A record says everything that is true of its chunk after it: the replica's whole protocol state, which
// blocks were dropped, which were added. So the newest record of a chunk carries its state, and any index can
// be built again from the records alone.
//
// A record is a head (fixed header and table, covered by one CRC) followed by its payload, which the block
// checksums in the table cover, and zeros up to a multiple of 8 bytes. Payload may be punched away once
// nothing refers to it; heads stay as long as their segment.
//
// A large record is aligned, so that it can be written past the page cache: record, payload and end lie at
// multiples of kBlockBytes. Zeros fill the gap before it, and it names the end of the record before the gap:
// zeros alone could as well be a record that did not reach the disk.
//
// Thread-safety: values and pure functions.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "common/checksum.h"
#include "common/ids.h"
#include "common/replication/replica.h"
#include "common/status.h"

namespace cairn::chunkserver {

// A place in the log; ordered as the log is.
struct LogPosition {
  uint32_t segment = 0;
  uint32_t offset = 0;
  constexpr auto operator<=>(const LogPosition&) const = default;
  constexpr uint64_t Pack() const { return uint64_t{segment} << 32 | offset; }
  static constexpr LogPosition Unpack(uint64_t packed) {
    return {static_cast<uint32_t>(packed >> 32), static_cast<uint32_t>(packed)};
  }
};
std::string ToString(LogPosition position);  // "segment 3 offset 4096"

// Consecutive blocks of a chunk that lie one after the other in a segment. Only the last block may be shorter
// than kBlockBytes; it continues as zeros.
struct Extent {
  uint64_t block = 0;  // the first one
  uint32_t bytes = 0;
  LogPosition at;
  std::vector<uint32_t> checksums;  // one BlockChecksum per block
  uint64_t end_block() const { return block + checksums.size(); }
  // Blocks [first, end) of this extent. Precondition: block <= first < end <= end_block().
  Extent Slice(uint64_t first, uint64_t end) const;
  bool operator==(const Extent&) const = default;
};

// On disk: do not change the values.
enum class RecordType : uint8_t {
  kSegmentHeader = 1,  // the first record of each segment; its table is the disk's uuid
  kWrite = 2,          // adds extents
  kTruncate = 3,       // drops blocks, may add the zeroed last one
  kZero = 4,           // drops blocks, may add the zeroed edges
  kState = 5,          // protocol state only
  kMove = 6,           // extents moved here by compaction; no change of contents
  kMap = 7,            // replaces all extents by the references in its table (sync swap, compaction)
  kErase = 8,          // the chunk is gone, or with quarantine_until: out of sight until then
  kShadow = 9,         // data of a running sync: nothing refers to it until a kMap does
  kEpochFloor = 10,    // state.promised is the floor of all replicas of this disk
};

struct Record {
  RecordType type = RecordType::kState;
  bool corrupt = false;  // the replica holds a block that failed its checksum
  ChunkId chunk;
  replication::ReplicaState state;
  uint64_t drop_begin = 0;  // blocks [drop_begin, drop_end) are dropped before the extents are added
  uint64_t drop_end = 0;
  uint64_t quarantine_until =
      0;  // seconds since 1970: the chunk is out of sight, its bytes are kept until then; 0 = it is not
  uint32_t first_segment = 0;  // the oldest segment that may hold records of this chunk
  bool aligned = false;        // the layout of large records, above
  uint32_t previous_end = 0;   // of the record before this one in the segment; behind it zeros, if anything
  LogPosition synced;  // known to be on disk when this record was made: damage below it is not a torn tail
  Uuid disk;           // kSegmentHeader
  std::vector<Extent> extents;  // in payload order; for kMap, `at` is part of the record
  uint32_t payload_bytes = 0;   // sum of extent bytes, 0 for kMap
};

inline constexpr uint32_t kRecordHeaderBytes = 144;
inline constexpr uint32_t kRecordAlignment = 8;
constexpr uint64_t RoundUp(uint64_t value, uint64_t unit) { return (value + unit - 1) / unit * unit; }
// Bounds that a decoder enforces before it allocates.
inline constexpr uint32_t kMaxTableBytes = 64u << 20;
inline constexpr uint32_t kMaxPayloadBytes = 16u << 20;

// What the fixed header says about the size of the whole record; enough to skip it.
struct RecordSize {
  RecordType type = RecordType::kState;
  bool aligned = false;
  uint32_t table_bytes = 0;
  uint32_t payload_bytes = 0;
  uint32_t alignment() const { return aligned ? static_cast<uint32_t>(kBlockBytes) : kRecordAlignment; }
  uint32_t head_bytes() const { return kRecordHeaderBytes + table_bytes; }
  // From the record's begin.
  uint32_t payload_offset() const {
    return aligned ? static_cast<uint32_t>(RoundUp(head_bytes(), kBlockBytes)) : head_bytes();
  }
  uint64_t total_bytes() const { return RoundUp(uint64_t{payload_offset()} + payload_bytes, alignment()); }
};

RecordSize SizeOf(const Record& record);
// Header and table for a record placed at `at`, which follows `record.previous_end`. Fills in nothing of the
// record.
std::vector<std::byte> EncodeHead(const Record& record, LogPosition at);
// Reads the sizes out of the first kRecordHeaderBytes; kMalformed when they cannot be a record's at `at`.
Result<RecordSize> PeekSize(std::span<const std::byte> header, LogPosition at);
// Precondition: head.size() == size.head_bytes(). Checks the CRC; places the extents behind the head.
Result<Record> DecodeHead(std::span<const std::byte> head, LogPosition at);
// Sets `at` of each extent of a record with payload that lies at `at`.
void PlaceExtents(Record* record, LogPosition at);

}  // namespace cairn::chunkserver
