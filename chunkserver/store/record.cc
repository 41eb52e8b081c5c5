#include "chunkserver/store/record.h"

#include <algorithm>

#include "chunkserver/store/codec.h"
#include "common/check.h"

namespace cairn::chunkserver {
namespace {

constexpr uint32_t kMagic = 0x524E5243;  // "CRNR"
constexpr uint8_t kFlagCorrupt = 1;
constexpr uint8_t kFlagSyncBase = 2;
constexpr uint8_t kFlagAligned = 4;
constexpr uint32_t kExtentBytes = 20;
constexpr uint32_t kUuidBytes = 16;

bool HasPayload(RecordType type) { return type != RecordType::kMap; }

Status Malformed(LogPosition at, const char* what) {
  return {StatusCode::kMalformed, ToString(at) + ": " + what};
}

}  // namespace

std::string ToString(LogPosition position) {
  return "segment " + std::to_string(position.segment) + " offset " + std::to_string(position.offset);
}

Extent Extent::Slice(uint64_t first, uint64_t end) const {
  CAIRN_CHECK(block <= first && first < end && end <= end_block());
  Extent out;
  const uint64_t skip = first - block;
  out.block = first;
  out.at = {at.segment, static_cast<uint32_t>(at.offset + skip * kBlockBytes)};
  out.bytes = end == end_block() ? static_cast<uint32_t>(bytes - skip * kBlockBytes)
                                 : static_cast<uint32_t>((end - first) * kBlockBytes);
  out.checksums.assign(checksums.begin() + static_cast<ptrdiff_t>(skip),
                       checksums.begin() + static_cast<ptrdiff_t>(end - block));
  return out;
}

RecordSize SizeOf(const Record& record) {
  RecordSize size;
  size.type = record.type;
  size.aligned = record.aligned;
  if (record.type == RecordType::kSegmentHeader) {
    size.table_bytes = kUuidBytes;
    return size;
  }
  uint64_t table = 0;
  uint64_t payload = 0;
  for (const Extent& extent : record.extents) {
    table += kExtentBytes + 4 * extent.checksums.size();
    payload += extent.bytes;
  }
  if (!HasPayload(record.type)) payload = 0;
  CAIRN_CHECK(table <= kMaxTableBytes && payload <= kMaxPayloadBytes, "a record too large to be read again");
  size.table_bytes = static_cast<uint32_t>(table);
  size.payload_bytes = static_cast<uint32_t>(payload);
  return size;
}

std::vector<std::byte> EncodeHead(const Record& record, LogPosition at) {
  const RecordSize size = SizeOf(record);
  ByteWriter out(size.head_bytes());
  out.U32(kMagic);
  out.U32(0);  // CRC, below
  out.U8(static_cast<uint8_t>(record.type));
  out.U8(static_cast<uint8_t>((record.corrupt ? kFlagCorrupt : 0) |
                              (record.state.sync_base ? kFlagSyncBase : 0) |
                              (record.aligned ? kFlagAligned : 0)));
  out.U16(0);
  out.U32(size.table_bytes);
  out.U32(size.payload_bytes);
  out.U32(static_cast<uint32_t>(record.extents.size()));
  out.U64(at.Pack());
  out.U64(record.synced.Pack());
  out.U64(record.chunk.value());
  const replication::ReplicaState& state = record.state;
  const Stamp sync_base = state.sync_base.value_or(Stamp{});
  out.U64(state.promised.value());
  out.U64(state.accepted.epoch.value());
  out.U64(state.accepted.seq);
  out.U64(state.length);
  out.U64(state.sealed.value());
  out.U64(state.tombstone.value());
  out.U64(sync_base.epoch.value());
  out.U64(sync_base.seq);
  out.U64(record.drop_begin);
  out.U64(record.drop_end);
  out.U64(record.quarantine_until);
  out.U32(record.first_segment);
  out.U32(record.previous_end);
  CAIRN_CHECK(out.bytes().size() == kRecordHeaderBytes);
  if (record.type == RecordType::kSegmentHeader) {
    out.U64(record.disk.high);
    out.U64(record.disk.low);
  } else {
    for (const Extent& extent : record.extents) {
      out.U64(extent.block);
      out.U32(extent.bytes);
      const bool placed = !HasPayload(record.type);  // otherwise the place follows from the record's own
      out.U32(placed ? extent.at.segment : 0);
      out.U32(placed ? extent.at.offset : 0);
    }
    for (const Extent& extent : record.extents) out.U32s(extent.checksums);
  }
  CAIRN_CHECK(out.bytes().size() == size.head_bytes());
  out.Set32(4, Crc32c(std::span(out.bytes()).subspan(8)));
  return std::move(out.bytes());
}

Result<RecordSize> PeekSize(std::span<const std::byte> header, LogPosition at) {
  CAIRN_CHECK(header.size() >= kRecordHeaderBytes);
  ByteReader in(header);
  if (in.U32() != kMagic) return Malformed(at, "no record begins here");
  in.U32();
  RecordSize size;
  const uint8_t type = in.U8();
  size.aligned = (in.U8() & kFlagAligned) != 0;
  in.U16();
  size.table_bytes = in.U32();
  size.payload_bytes = in.U32();
  in.U32();
  if (in.U64() != at.Pack()) return Malformed(at, "a record that belongs to another place");
  if (type < static_cast<uint8_t>(RecordType::kSegmentHeader) ||
      type > static_cast<uint8_t>(RecordType::kEpochFloor)) {
    return Malformed(at, "unknown record type");
  }
  if (size.table_bytes > kMaxTableBytes || size.payload_bytes > kMaxPayloadBytes) {
    return Malformed(at, "a record larger than any can be");
  }
  if (at.offset % size.alignment() != 0) return Malformed(at, "an aligned record at an odd place");
  size.type = static_cast<RecordType>(type);
  return size;
}

Result<Record> DecodeHead(std::span<const std::byte> head, LogPosition at) {
  if (head.size() < kRecordHeaderBytes) return Malformed(at, "a record head too short");
  CAIRN_ASSIGN_OR_RETURN(const RecordSize size, PeekSize(head, at));
  if (head.size() != size.head_bytes()) return Malformed(at, "a record head of the wrong size");
  ByteReader in(head);
  in.U32();
  if (in.U32() != Crc32c(head.subspan(8)))
    return Malformed(at, "the checksum of a record head does not match");
  Record record;
  record.type = static_cast<RecordType>(in.U8());
  const uint8_t flags = in.U8();
  record.corrupt = (flags & kFlagCorrupt) != 0;
  record.aligned = size.aligned;
  in.U16();
  in.U32();
  record.payload_bytes = in.U32();
  const uint32_t extent_count = in.U32();
  in.U64();
  record.synced = LogPosition::Unpack(in.U64());
  record.chunk = ChunkId(in.U64());
  replication::ReplicaState& state = record.state;
  state.promised = Epoch(in.U64());
  state.accepted.epoch = Epoch(in.U64());
  state.accepted.seq = in.U64();
  state.length = in.U64();
  state.sealed = Epoch(in.U64());
  state.tombstone = Epoch(in.U64());
  Stamp sync_base;
  sync_base.epoch = Epoch(in.U64());
  sync_base.seq = in.U64();
  if ((flags & kFlagSyncBase) != 0) state.sync_base = sync_base;
  record.drop_begin = in.U64();
  record.drop_end = in.U64();
  record.quarantine_until = in.U64();
  record.first_segment = in.U32();
  record.previous_end = in.U32();
  if (record.previous_end > at.offset || RoundUp(record.previous_end, size.alignment()) != at.offset) {
    return Malformed(at, "a record that does not follow the one before it");
  }
  if (record.type == RecordType::kSegmentHeader) {
    record.disk.high = in.U64();
    record.disk.low = in.U64();
    if (!in.ok() || in.left() != 0 || record.payload_bytes != 0)
      return Malformed(at, "a malformed segment header");
    return record;
  }
  if (extent_count > in.left() / kExtentBytes) return Malformed(at, "more extents than the table can hold");
  record.extents.resize(extent_count);
  uint64_t payload = 0;
  for (Extent& extent : record.extents) {
    extent.block = in.U64();
    extent.bytes = in.U32();
    extent.at.segment = in.U32();
    extent.at.offset = in.U32();
    payload += extent.bytes;
    if (extent.bytes == 0) return Malformed(at, "an extent without bytes");
  }
  for (Extent& extent : record.extents) extent.checksums = in.U32s(BlocksTouched(0, extent.bytes));
  const uint64_t expected = HasPayload(record.type) ? payload : 0;
  if (!in.ok() || in.left() != 0 || expected != record.payload_bytes)
    return Malformed(at, "a malformed extent table");
  if (HasPayload(record.type)) PlaceExtents(&record, at);
  return record;
}

void PlaceExtents(Record* record, LogPosition at) {
  uint32_t offset = at.offset + SizeOf(*record).payload_offset();
  for (Extent& extent : record->extents) {
    extent.at = {at.segment, offset};
    offset += extent.bytes;
  }
}

}  // namespace cairn::chunkserver
