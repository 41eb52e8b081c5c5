// What the index knows of one chunk, and of one segment.
// Thread-safety: values.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "chunkserver/store/record.h"
#include "chunkserver/store/segment_log.h"
#include "common/replication/replica.h"

namespace cairn::chunkserver {

struct ChunkEntry {
  replication::ReplicaState state;
  bool corrupt = false;
  uint64_t quarantine_until = 0;  // not 0: erased, out of sight, bytes kept until then
  uint32_t first_segment = 0;     // the oldest segment that may hold records of this chunk
  LogPosition last_begin;         // the newest record of the chunk, which carries its state
  LogPosition last_end;
  LogPosition map_at;      // the newest kMap or kErase record of the chunk: nothing before it matters
  uint64_t end_block = 0;  // no extent reaches beyond it
  // The newest accepted stamp known to be on disk follows from: last_end is synced -> state.accepted; else
  // pending_end is synced -> pending; else durable.
  Stamp durable;
  Stamp pending;
  LogPosition pending_end;
  bool operator==(const ChunkEntry&) const = default;
};

Stamp DurableStamp(const ChunkEntry& entry, LogPosition synced);
// The entry after `record`, which lies at `place`.
ChunkEntry NextEntry(const ChunkEntry* old, const Record& record, const SegmentLog::Place& place);

std::string EncodeEntry(const ChunkEntry& entry);
std::optional<ChunkEntry> DecodeEntry(std::string_view text);
std::string EncodeExtent(const Extent& extent);  // all but the block number, which is in the key
std::optional<Extent> DecodeExtent(uint64_t block, std::string_view text);

// What remains of an erased chunk while older records of it may still lie in segments: without it, an index
// that is built again from the segments would bring the chunk back.
struct Grave {
  LogPosition erased_at;
  uint32_t first_segment = 0;
};

// Bytes of a segment that extents refer to. The rest of its payload is dead.
using LiveBytes = std::map<uint32_t, uint64_t>;

}  // namespace cairn::chunkserver
