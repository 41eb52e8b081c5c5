// The messages of the data plane: plain structs, each with an encoder of its meta part and a decoder that trusts
// nothing (every length and count is checked against the bytes present and against its limit; failure is kMalformed).
//
// Integers are little endian; a string is u16 length + bytes; a list is u32 count + items; a Stamp is u64 epoch, u64 seq.
// Thread-safety: values and pure functions.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "common/replication/types.h"
#include "common/wire/frame.h"

namespace cairn::wire {

inline constexpr uint32_t kMaxBatchItems = 4096;
inline constexpr uint32_t kDigestRangeBytes = 64 * 1024;
// Largest data part of one mutation or read: 4 MiB minus room so that an unaligned range still fits.
inline constexpr uint32_t kMaxTransferBytes = 2u << 20;

enum class PeerKind : uint8_t { kClient = 1, kChunkserver = 2, kTool = 3 };

struct HelloRequest {
  Uuid cluster;             // zero: not known yet (first contact of a tool)
  ServerId expected_server; // zero: any
  PeerKind kind = PeerKind::kClient;
  std::string name;         // for logs, at most 255 bytes
};
struct HelloReply {
  Status status;
  Uuid cluster;
  ServerId server;
  Uuid boot;                // changes when the machine boots
  uint64_t incarnation = 0; // changes when the chunkserver process starts
};

// data part: the bytes of a kWrite. checksums: one piece checksum per touched block (common/checksum.h).
struct MutateRequest {
  replication::Mutation mutation;
  std::vector<uint32_t> checksums;
};
struct MutateReply {
  Status status;
  replication::ReplicaInfo info;  // state after the mutation (or the present state on refusal)
};

// Where a replica of a chunk is.
struct Carrier { ServerId server; std::string address; };  // host:port, at most 255 bytes
inline constexpr uint32_t kMaxCarriers = 16;
// Takes `length` bytes of the source at exactly `want`, from the own replica or from a carrier, verifies them against their stored
// checksums and keeps them for a kMutateStaged that comes on the same connection before long.
struct StageRequest {
  ChunkId source;
  Stamp want;
  uint64_t source_offset = 0;
  ChunkId chunk;            // into which they will be written
  uint64_t offset = 0;
  uint32_t length = 0;      // 1..kMaxTransferBytes
  std::vector<Carrier> carriers;  // of the source, tried in order; at most kMaxCarriers
};
// checksums: of the staged bytes at their place in `chunk`, as a kMutate would carry them.
struct StageReply {
  Status status;
  uint64_t token = 0;       // not 0 on success
  std::vector<uint32_t> checksums;
};
// A kWrite whose bytes are those staged under `token`, with the same chunk, offset and length. The reply is that of kMutate;
// kNotFound: nothing (more) is staged under that token, nothing was applied, the bytes are to be sent. A token is good for one write; kSequenceGap does not use it up.
struct MutateStagedRequest {
  uint64_t token = 0;
  MutateRequest mutate;
};

struct ReadRequest {
  ChunkId chunk;
  Stamp want;
  bool exact = true;      // see replication::CheckRead
  uint64_t offset = 0;    // bytes in the chunk
  uint32_t length = 0;    // 1..kMaxTransferBytes
};
// The data part starts at `offset` (a multiple of kBlockBytes, at or below the requested one) and ends at a block boundary
// or at the chunk's length, whichever is lower. checksums: one BlockChecksum per block. Holes arrive as zeros with
// the checksum of zeros. A request beyond the chunk's length gets no data.
struct ReadReply {
  Status status;
  Stamp stamp;
  uint64_t chunk_length = 0;
  uint64_t offset = 0;
  std::vector<uint32_t> checksums;
};

// kFlush: on success every chunk's accepted stamp at the time of the request is on disk (one data sync for the whole list).
struct FlushRequest { std::vector<ChunkId> chunks; };
struct SealItem { ChunkId chunk; Stamp stamp; };
struct SealRequest { std::vector<SealItem> items; };
struct BeginItem { ChunkId chunk; Epoch epoch; Stamp base; };
struct BeginRequest { std::vector<BeginItem> items; };
struct QueryRequest { std::vector<ChunkId> chunks; };
// The reply to kFlush, kSeal, kBegin and kQuery: one item per requested item, in order.
struct ReplicaItem {
  Status status;
  replication::ReplicaInfo info;
  uint64_t allocated_bytes = 0;     // kFlush and kSeal: what the holes leave of the length, in whole blocks
};
struct BatchReply {
  Status status;                    // of the request as a whole (malformed, over limits)
  std::vector<ReplicaItem> items;
};

struct DigestsRequest { ChunkId chunk; Stamp want; uint64_t offset = 0; uint64_t length = 0; };  // multiples of kDigestRangeBytes
using Digest = std::array<uint8_t, 16>;  // first 16 bytes of SHA-256 over the range, zero-padded to its full size
struct DigestsReply {
  Status status;
  uint64_t chunk_length = 0;
  std::vector<Digest> digests;
};

inline constexpr uint32_t kMaxExtents = 4096;
struct ExtentsRequest {
  ChunkId chunk;
  Stamp want;
  bool exact = true;      // see replication::CheckRead
  uint64_t offset = 0;    // ranges that end at or before it are left out
};
struct DataRange { uint64_t offset = 0; uint64_t length = 0; bool operator==(const DataRange&) const = default; };
// Ranges in order, apart from each other, within the chunk's length; what lies between is a hole. More than kMaxExtents are left
// out: all is told up to complete_to.
struct ExtentsReply {
  Status status;
  uint64_t chunk_length = 0;
  uint64_t complete_to = 0;
  std::vector<DataRange> ranges;
};

using Bytes = std::vector<std::byte>;
Bytes Encode(const HelloRequest&);    Result<HelloRequest> DecodeHelloRequest(std::span<const std::byte> meta);
Bytes Encode(const HelloReply&);      Result<HelloReply> DecodeHelloReply(std::span<const std::byte> meta);
Bytes Encode(const MutateRequest&);   Result<MutateRequest> DecodeMutateRequest(std::span<const std::byte> meta);
Bytes Encode(const MutateReply&);     Result<MutateReply> DecodeMutateReply(std::span<const std::byte> meta);
Bytes Encode(const StageRequest&);    Result<StageRequest> DecodeStageRequest(std::span<const std::byte> meta);
Bytes Encode(const StageReply&);      Result<StageReply> DecodeStageReply(std::span<const std::byte> meta);
Bytes Encode(const MutateStagedRequest&); Result<MutateStagedRequest> DecodeMutateStagedRequest(std::span<const std::byte> meta);
Bytes Encode(const ReadRequest&);     Result<ReadRequest> DecodeReadRequest(std::span<const std::byte> meta);
Bytes Encode(const ReadReply&);       Result<ReadReply> DecodeReadReply(std::span<const std::byte> meta);
Bytes Encode(const FlushRequest&);    Result<FlushRequest> DecodeFlushRequest(std::span<const std::byte> meta);
Bytes Encode(const SealRequest&);     Result<SealRequest> DecodeSealRequest(std::span<const std::byte> meta);
Bytes Encode(const BeginRequest&);    Result<BeginRequest> DecodeBeginRequest(std::span<const std::byte> meta);
Bytes Encode(const QueryRequest&);    Result<QueryRequest> DecodeQueryRequest(std::span<const std::byte> meta);
Bytes Encode(const BatchReply&);      Result<BatchReply> DecodeBatchReply(std::span<const std::byte> meta);
Bytes Encode(const DigestsRequest&);  Result<DigestsRequest> DecodeDigestsRequest(std::span<const std::byte> meta);
Bytes Encode(const DigestsReply&);    Result<DigestsReply> DecodeDigestsReply(std::span<const std::byte> meta);
Bytes Encode(const ExtentsRequest&);  Result<ExtentsRequest> DecodeExtentsRequest(std::span<const std::byte> meta);
Bytes Encode(const ExtentsReply&);    Result<ExtentsReply> DecodeExtentsReply(std::span<const std::byte> meta);

}  // namespace cairn::wire
