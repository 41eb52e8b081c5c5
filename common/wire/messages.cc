#include "common/wire/messages.h"

#include <algorithm>
#include <utility>

#include "common/checksum.h"
#include "common/wire/codec.h"

namespace cairn::wire {
namespace {

using replication::Mutation;
using replication::MutationKind;
using replication::ReplicaInfo;

constexpr size_t kMaxNameBytes = 255;
constexpr size_t kMaxAddressBytes = 255;
// Lists are limited by what one transfer can touch: an unaligned 2 MiB range touches one block more.
constexpr uint32_t kMaxChecksums = kMaxDataBytes / kBlockBytes + 1;
constexpr uint32_t kMaxDigests = 4096;  // 256 MiB in ranges of 64 KiB

constexpr size_t kInfoBytes = 8 + 8 + 16 + 16 + 8 + 8 + 8 + 1;
constexpr size_t kItemBytes = 4 + kInfoBytes + 8;  // with an empty message
constexpr uint8_t kInfoAmnesic = 1;
constexpr uint8_t kInfoCorrupt = 2;

void PutInfo(Writer& to, const ReplicaInfo& info) {
  to.Put(info.chunk.value());
  to.Put(info.promised.value());
  to.PutStamp(info.accepted);
  to.PutStamp(info.durable);
  to.Put(info.length);
  to.Put(info.sealed.value());
  to.Put(info.tombstone.value());
  to.Put(static_cast<uint8_t>((info.amnesic ? kInfoAmnesic : 0) | (info.corrupt ? kInfoCorrupt : 0)));
}

ReplicaInfo GetInfo(Reader& from) {
  ReplicaInfo info;
  info.chunk = ChunkId{from.Get<uint64_t>()};
  info.promised = Epoch{from.Get<uint64_t>()};
  info.accepted = from.GetStamp();
  info.durable = from.GetStamp();
  info.length = from.Get<uint64_t>();
  info.sealed = Epoch{from.Get<uint64_t>()};
  info.tombstone = Epoch{from.Get<uint64_t>()};
  const auto flags = from.Get<uint8_t>();
  if ((flags & ~(kInfoAmnesic | kInfoCorrupt)) != 0) from.Fail("unknown flags of a replica");
  info.amnesic = (flags & kInfoAmnesic) != 0;
  info.corrupt = (flags & kInfoCorrupt) != 0;
  return info;
}

void PutChecksums(Writer& to, const std::vector<uint32_t>& checksums) {
  to.Put(static_cast<uint32_t>(checksums.size()));
  to.PutBytes(checksums.data(), checksums.size() * sizeof(uint32_t));
}

std::vector<uint32_t> GetChecksums(Reader& from) {
  std::vector<uint32_t> checksums(from.GetCount(kMaxChecksums, sizeof(uint32_t)));
  from.GetBytes(checksums.data(), checksums.size() * sizeof(uint32_t));
  return checksums;
}

void PutChunks(Writer& to, const std::vector<ChunkId>& chunks) {
  to.Put(static_cast<uint32_t>(chunks.size()));
  for (ChunkId chunk : chunks) to.Put(chunk.value());
}

std::vector<ChunkId> GetChunks(Reader& from) {
  std::vector<ChunkId> chunks(from.GetCount(kMaxBatchItems, sizeof(uint64_t)));
  for (ChunkId& chunk : chunks) chunk = ChunkId{from.Get<uint64_t>()};
  return chunks;
}

void PutMutate(Writer& to, const MutateRequest& m) {
  to.Put(m.mutation.chunk.value());
  to.Put(m.mutation.epoch.value());
  to.Put(m.mutation.seq);
  to.PutBool(m.mutation.begin.has_value());
  if (m.mutation.begin) to.PutStamp(*m.mutation.begin);
  to.Put(static_cast<uint8_t>(m.mutation.kind));
  to.Put(m.mutation.offset);
  to.Put(m.mutation.length);
  PutChecksums(to, m.checksums);
}

MutateRequest GetMutate(Reader& from) {
  MutateRequest m;
  m.mutation.chunk = ChunkId{from.Get<uint64_t>()};
  m.mutation.epoch = Epoch{from.Get<uint64_t>()};
  m.mutation.seq = from.Get<uint64_t>();
  if (from.GetBool()) m.mutation.begin = from.GetStamp();
  const auto kind = from.Get<uint8_t>();
  if (kind < static_cast<uint8_t>(MutationKind::kWrite) || kind > static_cast<uint8_t>(MutationKind::kZero)) {
    from.Fail("unknown kind of mutation");
  }
  m.mutation.kind = static_cast<MutationKind>(kind);
  m.mutation.offset = from.Get<uint64_t>();
  m.mutation.length = from.Get<uint64_t>();
  m.checksums = GetChecksums(from);
  return m;
}

template <typename T>
Result<T> Finish(Reader& reader, T message) {
  CAIRN_RETURN_IF_ERROR(reader.Finish());
  return message;
}

}  // namespace

Bytes Encode(const HelloRequest& m) {
  Writer to;
  to.PutUuid(m.cluster);
  to.Put(m.expected_server.value());
  to.Put(static_cast<uint8_t>(m.kind));
  to.PutString(std::string_view(m.name).substr(0, kMaxNameBytes));
  return to.Take();
}

Result<HelloRequest> DecodeHelloRequest(std::span<const std::byte> meta) {
  Reader from(meta, "hello request");
  HelloRequest m;
  m.cluster = from.GetUuid();
  m.expected_server = ServerId{from.Get<uint32_t>()};
  const auto kind = from.Get<uint8_t>();
  if (kind < static_cast<uint8_t>(PeerKind::kClient) || kind > static_cast<uint8_t>(PeerKind::kTool)) {
    from.Fail("unknown kind of peer");
  }
  m.kind = static_cast<PeerKind>(kind);
  m.name = from.GetString(kMaxNameBytes);
  return Finish(from, std::move(m));
}

Bytes Encode(const HelloReply& m) {
  Writer to(128);
  to.PutStatus(m.status);
  to.PutUuid(m.cluster);
  to.Put(m.server.value());
  to.PutUuid(m.boot);
  to.Put(m.incarnation);
  return to.Take();
}

Result<HelloReply> DecodeHelloReply(std::span<const std::byte> meta) {
  Reader from(meta, "hello reply");
  HelloReply m;
  m.status = from.GetStatus();
  m.cluster = from.GetUuid();
  m.server = ServerId{from.Get<uint32_t>()};
  m.boot = from.GetUuid();
  m.incarnation = from.Get<uint64_t>();
  return Finish(from, std::move(m));
}

Bytes Encode(const MutateRequest& m) {
  Writer to(80 + m.checksums.size() * sizeof(uint32_t));
  PutMutate(to, m);
  return to.Take();
}

Result<MutateRequest> DecodeMutateRequest(std::span<const std::byte> meta) {
  Reader from(meta, "mutate request");
  MutateRequest m = GetMutate(from);
  return Finish(from, std::move(m));
}

Bytes Encode(const MutateStagedRequest& m) {
  Writer to(88 + m.mutate.checksums.size() * sizeof(uint32_t));
  to.Put(m.token);
  PutMutate(to, m.mutate);
  return to.Take();
}

Result<MutateStagedRequest> DecodeMutateStagedRequest(std::span<const std::byte> meta) {
  Reader from(meta, "staged mutate request");
  MutateStagedRequest m;
  m.token = from.Get<uint64_t>();
  m.mutate = GetMutate(from);
  if (m.mutate.mutation.kind != MutationKind::kWrite) from.Fail("only a write has staged bytes");
  return Finish(from, std::move(m));
}

Bytes Encode(const StageRequest& m) {
  Writer to(64 + m.carriers.size() * 32);
  to.Put(m.source.value());
  to.PutStamp(m.want);
  to.Put(m.source_offset);
  to.Put(m.chunk.value());
  to.Put(m.offset);
  to.Put(m.length);
  const size_t carriers = std::min<size_t>(m.carriers.size(), kMaxCarriers);
  to.Put(static_cast<uint32_t>(carriers));
  for (const Carrier& carrier : std::span(m.carriers).first(carriers)) {
    to.Put(carrier.server.value());
    to.PutString(std::string_view(carrier.address).substr(0, kMaxAddressBytes));
  }
  return to.Take();
}

Result<StageRequest> DecodeStageRequest(std::span<const std::byte> meta) {
  Reader from(meta, "stage request");
  StageRequest m;
  m.source = ChunkId{from.Get<uint64_t>()};
  m.want = from.GetStamp();
  m.source_offset = from.Get<uint64_t>();
  m.chunk = ChunkId{from.Get<uint64_t>()};
  m.offset = from.Get<uint64_t>();
  m.length = from.Get<uint32_t>();
  if (m.length == 0 || m.length > kMaxTransferBytes) from.Fail("the length to stage is out of range");
  m.carriers.resize(from.GetCount(kMaxCarriers, 6));
  for (Carrier& carrier : m.carriers) {
    carrier.server = ServerId{from.Get<uint32_t>()};
    carrier.address = from.GetString(kMaxAddressBytes);
  }
  return Finish(from, std::move(m));
}

Bytes Encode(const StageReply& m) {
  Writer to(64 + m.checksums.size() * sizeof(uint32_t));
  to.PutStatus(m.status);
  to.Put(m.token);
  PutChecksums(to, m.checksums);
  return to.Take();
}

Result<StageReply> DecodeStageReply(std::span<const std::byte> meta) {
  Reader from(meta, "stage reply");
  StageReply m;
  m.status = from.GetStatus();
  m.token = from.Get<uint64_t>();
  m.checksums = GetChecksums(from);
  return Finish(from, std::move(m));
}

Bytes Encode(const MutateReply& m) {
  Writer to(128);
  to.PutStatus(m.status);
  PutInfo(to, m.info);
  return to.Take();
}

Result<MutateReply> DecodeMutateReply(std::span<const std::byte> meta) {
  Reader from(meta, "mutate reply");
  MutateReply m;
  m.status = from.GetStatus();
  m.info = GetInfo(from);
  return Finish(from, std::move(m));
}

Bytes Encode(const ReadRequest& m) {
  Writer to;
  to.Put(m.chunk.value());
  to.PutStamp(m.want);
  to.PutBool(m.exact);
  to.Put(m.offset);
  to.Put(m.length);
  return to.Take();
}

Result<ReadRequest> DecodeReadRequest(std::span<const std::byte> meta) {
  Reader from(meta, "read request");
  ReadRequest m;
  m.chunk = ChunkId{from.Get<uint64_t>()};
  m.want = from.GetStamp();
  m.exact = from.GetBool();
  m.offset = from.Get<uint64_t>();
  m.length = from.Get<uint32_t>();
  if (m.length == 0 || m.length > kMaxTransferBytes) from.Fail("the length to read is out of range");
  return Finish(from, std::move(m));
}

Bytes Encode(const ReadReply& m) {
  Writer to(64 + m.checksums.size() * sizeof(uint32_t));
  to.PutStatus(m.status);
  to.PutStamp(m.stamp);
  to.Put(m.chunk_length);
  to.Put(m.offset);
  PutChecksums(to, m.checksums);
  return to.Take();
}

Result<ReadReply> DecodeReadReply(std::span<const std::byte> meta) {
  Reader from(meta, "read reply");
  ReadReply m;
  m.status = from.GetStatus();
  m.stamp = from.GetStamp();
  m.chunk_length = from.Get<uint64_t>();
  m.offset = from.Get<uint64_t>();
  m.checksums = GetChecksums(from);
  return Finish(from, std::move(m));
}

Bytes Encode(const FlushRequest& m) {
  Writer to(4 + m.chunks.size() * 8);
  PutChunks(to, m.chunks);
  return to.Take();
}

Result<FlushRequest> DecodeFlushRequest(std::span<const std::byte> meta) {
  Reader from(meta, "flush request");
  FlushRequest m{GetChunks(from)};
  return Finish(from, std::move(m));
}

Bytes Encode(const SealRequest& m) {
  Writer to(4 + m.items.size() * 24);
  to.Put(static_cast<uint32_t>(m.items.size()));
  for (const SealItem& item : m.items) {
    to.Put(item.chunk.value());
    to.PutStamp(item.stamp);
  }
  return to.Take();
}

Result<SealRequest> DecodeSealRequest(std::span<const std::byte> meta) {
  Reader from(meta, "seal request");
  SealRequest m;
  m.items.resize(from.GetCount(kMaxBatchItems, 24));
  for (SealItem& item : m.items) {
    item.chunk = ChunkId{from.Get<uint64_t>()};
    item.stamp = from.GetStamp();
  }
  return Finish(from, std::move(m));
}

Bytes Encode(const BeginRequest& m) {
  Writer to(4 + m.items.size() * 32);
  to.Put(static_cast<uint32_t>(m.items.size()));
  for (const BeginItem& item : m.items) {
    to.Put(item.chunk.value());
    to.Put(item.epoch.value());
    to.PutStamp(item.base);
  }
  return to.Take();
}

Result<BeginRequest> DecodeBeginRequest(std::span<const std::byte> meta) {
  Reader from(meta, "begin request");
  BeginRequest m;
  m.items.resize(from.GetCount(kMaxBatchItems, 32));
  for (BeginItem& item : m.items) {
    item.chunk = ChunkId{from.Get<uint64_t>()};
    item.epoch = Epoch{from.Get<uint64_t>()};
    item.base = from.GetStamp();
  }
  return Finish(from, std::move(m));
}

Bytes Encode(const QueryRequest& m) {
  Writer to(4 + m.chunks.size() * 8);
  PutChunks(to, m.chunks);
  return to.Take();
}

Result<QueryRequest> DecodeQueryRequest(std::span<const std::byte> meta) {
  Reader from(meta, "query request");
  QueryRequest m{GetChunks(from)};
  return Finish(from, std::move(m));
}

Bytes Encode(const BatchReply& m) {
  Writer to(64 + m.items.size() * (kItemBytes));
  to.PutStatus(m.status);
  to.Put(static_cast<uint32_t>(m.items.size()));
  // A full batch of long explanations must still fit into a frame, so they share the room.
  constexpr size_t kRoom = kMaxMetaBytes - UINT16_MAX - 64;
  const size_t item_room = m.items.empty() ? 0 : kRoom / m.items.size();
  const size_t message_bytes = item_room > kItemBytes ? item_room - kItemBytes : 0;
  for (const ReplicaItem& item : m.items) {
    to.Put(static_cast<uint16_t>(item.status.code()));
    to.PutString(std::string_view(item.status.message()).substr(0, message_bytes));
    PutInfo(to, item.info);
    to.Put(item.allocated_bytes);
  }
  return to.Take();
}

Result<BatchReply> DecodeBatchReply(std::span<const std::byte> meta) {
  Reader from(meta, "batch reply");
  BatchReply m;
  m.status = from.GetStatus();
  m.items.resize(from.GetCount(kMaxBatchItems, kItemBytes));
  for (ReplicaItem& item : m.items) {
    item.status = from.GetStatus();
    item.info = GetInfo(from);
    item.allocated_bytes = from.Get<uint64_t>();
  }
  return Finish(from, std::move(m));
}

Bytes Encode(const DigestsRequest& m) {
  Writer to;
  to.Put(m.chunk.value());
  to.PutStamp(m.want);
  to.Put(m.offset);
  to.Put(m.length);
  return to.Take();
}

Result<DigestsRequest> DecodeDigestsRequest(std::span<const std::byte> meta) {
  Reader from(meta, "digests request");
  DigestsRequest m;
  m.chunk = ChunkId{from.Get<uint64_t>()};
  m.want = from.GetStamp();
  m.offset = from.Get<uint64_t>();
  m.length = from.Get<uint64_t>();
  if (m.offset % kDigestRangeBytes != 0 || m.length % kDigestRangeBytes != 0) {
    from.Fail("the range is not a multiple of " + std::to_string(kDigestRangeBytes));
  }
  if (m.length == 0 || m.length / kDigestRangeBytes > kMaxDigests || m.offset + m.length < m.offset) {
    from.Fail("the length of the range is out of bounds");
  }
  return Finish(from, std::move(m));
}

Bytes Encode(const DigestsReply& m) {
  Writer to(64 + m.digests.size() * sizeof(Digest));
  to.PutStatus(m.status);
  to.Put(m.chunk_length);
  to.Put(static_cast<uint32_t>(m.digests.size()));
  for (const Digest& digest : m.digests) to.PutBytes(digest.data(), digest.size());
  return to.Take();
}

Result<DigestsReply> DecodeDigestsReply(std::span<const std::byte> meta) {
  Reader from(meta, "digests reply");
  DigestsReply m;
  m.status = from.GetStatus();
  m.chunk_length = from.Get<uint64_t>();
  m.digests.resize(from.GetCount(kMaxDigests, sizeof(Digest)));
  for (Digest& digest : m.digests) from.GetBytes(digest.data(), digest.size());
  return Finish(from, std::move(m));
}

Bytes Encode(const ExtentsRequest& m) {
  Writer to;
  to.Put(m.chunk.value());
  to.PutStamp(m.want);
  to.Put(static_cast<uint8_t>(m.exact));
  to.Put(m.offset);
  return to.Take();
}

Result<ExtentsRequest> DecodeExtentsRequest(std::span<const std::byte> meta) {
  Reader from(meta, "extents request");
  ExtentsRequest m;
  m.chunk = ChunkId{from.Get<uint64_t>()};
  m.want = from.GetStamp();
  const auto exact = from.Get<uint8_t>();
  if (exact > 1) from.Fail("not a truth value");
  m.exact = exact == 1;
  m.offset = from.Get<uint64_t>();
  return Finish(from, m);
}

Bytes Encode(const ExtentsReply& m) {
  Writer to(64 + m.ranges.size() * 16);
  to.PutStatus(m.status);
  to.Put(m.chunk_length);
  to.Put(m.complete_to);
  to.Put(static_cast<uint32_t>(m.ranges.size()));
  for (const DataRange& range : m.ranges) {
    to.Put(range.offset);
    to.Put(range.length);
  }
  return to.Take();
}

Result<ExtentsReply> DecodeExtentsReply(std::span<const std::byte> meta) {
  Reader from(meta, "extents reply");
  ExtentsReply m;
  m.status = from.GetStatus();
  m.chunk_length = from.Get<uint64_t>();
  m.complete_to = from.Get<uint64_t>();
  m.ranges.resize(from.GetCount(kMaxExtents, 16));
  uint64_t end = 0;
  for (DataRange& range : m.ranges) {
    range.offset = from.Get<uint64_t>();
    range.length = from.Get<uint64_t>();
    if (range.length == 0 || range.offset < end || range.length > UINT64_MAX - range.offset ||
        range.offset + range.length > m.chunk_length) {
      from.Fail("ranges out of order or outside of the chunk");
      break;
    }
    end = range.offset + range.length;
  }
  return Finish(from, std::move(m));
}

}  // namespace cairn::wire
