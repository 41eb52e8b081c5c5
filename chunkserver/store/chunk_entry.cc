#include "chunkserver/store/chunk_entry.h"

#include <algorithm>

#include "chunkserver/store/codec.h"

namespace cairn::chunkserver {
namespace {

constexpr uint8_t kFlagCorrupt = 1;
constexpr uint8_t kFlagSyncBase = 2;

}  // namespace

Stamp DurableStamp(const ChunkEntry& entry, LogPosition synced) {
  if (entry.last_end <= synced) return entry.state.accepted;
  if (entry.pending_end.segment != 0 && entry.pending_end <= synced) return entry.pending;
  return entry.durable;
}

ChunkEntry NextEntry(const ChunkEntry* old, const Record& record, const SegmentLog::Place& place) {
  ChunkEntry entry;
  if (old != nullptr) {
    entry = *old;
    entry.durable = DurableStamp(*old, place.synced);
    if (old->last_end > place.synced && old->last_end <= place.target) {
      // The running sync covers the record before this one but not this one: remember what it will make
      // durable.
      entry.pending = old->state.accepted;
      entry.pending_end = old->last_end;
    } else if (old->pending_end <= place.synced) {
      entry.pending = {};
      entry.pending_end = {};
    }
  }
  entry.state = record.state;
  entry.corrupt = record.corrupt;
  entry.quarantine_until = record.quarantine_until;
  entry.first_segment = record.first_segment;
  entry.last_begin = place.begin;
  entry.last_end = place.end;
  if (record.type == RecordType::kMap) {
    entry.map_at = place.begin;
    entry.end_block = 0;
  }
  if (record.drop_begin < record.drop_end && record.drop_end >= entry.end_block) {
    entry.end_block = std::min(entry.end_block, record.drop_begin);
  }
  if (record.type != RecordType::kShadow) {
    for (const Extent& extent : record.extents)
      entry.end_block = std::max(entry.end_block, extent.end_block());
  }
  return entry;
}

std::string EncodeEntry(const ChunkEntry& entry) {
  ByteWriter out(192);
  const replication::ReplicaState& state = entry.state;
  out.U8(static_cast<uint8_t>((entry.corrupt ? kFlagCorrupt : 0) | (state.sync_base ? kFlagSyncBase : 0)));
  out.U64(state.promised.value());
  out.U64(state.accepted.epoch.value());
  out.U64(state.accepted.seq);
  out.U64(state.length);
  out.U64(state.sealed.value());
  out.U64(state.tombstone.value());
  out.U64(state.sync_base.value_or(Stamp{}).epoch.value());
  out.U64(state.sync_base.value_or(Stamp{}).seq);
  out.U64(entry.quarantine_until);
  out.U32(entry.first_segment);
  out.U64(entry.last_begin.Pack());
  out.U64(entry.last_end.Pack());
  out.U64(entry.map_at.Pack());
  out.U64(entry.end_block);
  out.U64(entry.durable.epoch.value());
  out.U64(entry.durable.seq);
  out.U64(entry.pending.epoch.value());
  out.U64(entry.pending.seq);
  out.U64(entry.pending_end.Pack());
  return std::string(out.view());
}

std::optional<ChunkEntry> DecodeEntry(std::string_view text) {
  ByteReader in(text);
  ChunkEntry entry;
  replication::ReplicaState& state = entry.state;
  const auto stamp = [&in] {
    Stamp value;
    value.epoch = Epoch(in.U64());
    value.seq = in.U64();
    return value;
  };
  const uint8_t flags = in.U8();
  entry.corrupt = (flags & kFlagCorrupt) != 0;
  state.promised = Epoch(in.U64());
  state.accepted = stamp();
  state.length = in.U64();
  state.sealed = Epoch(in.U64());
  state.tombstone = Epoch(in.U64());
  const Stamp sync_base = stamp();
  if ((flags & kFlagSyncBase) != 0) state.sync_base = sync_base;
  entry.quarantine_until = in.U64();
  entry.first_segment = in.U32();
  entry.last_begin = LogPosition::Unpack(in.U64());
  entry.last_end = LogPosition::Unpack(in.U64());
  entry.map_at = LogPosition::Unpack(in.U64());
  entry.end_block = in.U64();
  entry.durable = stamp();
  entry.pending = stamp();
  entry.pending_end = LogPosition::Unpack(in.U64());
  if (!in.ok() || in.left() != 0) return std::nullopt;
  return entry;
}

std::string EncodeExtent(const Extent& extent) {
  ByteWriter out(12 + 4 * extent.checksums.size());
  out.U32(extent.bytes);
  out.U64(extent.at.Pack());
  out.U32s(extent.checksums);
  return std::string(out.view());
}

std::optional<Extent> DecodeExtent(uint64_t block, std::string_view text) {
  ByteReader in(text);
  Extent extent;
  extent.block = block;
  extent.bytes = in.U32();
  extent.at = LogPosition::Unpack(in.U64());
  extent.checksums = in.U32s(BlocksTouched(0, extent.bytes));
  if (!in.ok() || in.left() != 0 || extent.bytes == 0) return std::nullopt;
  return extent;
}

}  // namespace cairn::chunkserver
