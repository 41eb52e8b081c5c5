#include "chunkserver/request_handler.h"

#include <utility>

#include "common/checksum.h"

namespace cairn::chunkserver {

using replication::MutationKind;
using replication::ReplicaInfo;

namespace {

// Without an answer of the index the whole length counts.
uint64_t AllocatedOr(const ReplicaInfo& info, const Result<uint64_t>& allocated) {
  return allocated.ok() ? *allocated : (info.length + kBlockBytes - 1) / kBlockBytes * kBlockBytes;
}

}  // namespace

RequestHandler::RequestHandler(DiskSet* disks, const ServerIdentity* identity, DamageSink damage)
    : disks_(disks), identity_(identity), damage_(std::move(damage)) {}

wire::HelloReply RequestHandler::Hello(const wire::HelloRequest& request) const {
  const IdentityValues own = identity_->Get();
  wire::HelloReply reply;
  reply.cluster = own.cluster;
  reply.server = own.server;
  reply.boot = own.boot;
  reply.incarnation = own.incarnation;
  if (!own.cluster) {
    reply.status = Status(StatusCode::kUnavailable, "this chunkserver has not joined a cluster yet");
  } else if (request.cluster && request.cluster != own.cluster) {
    reply.status =
        Status(StatusCode::kWrongCluster, "this chunkserver belongs to cluster " + own.cluster.ToString() +
                                              ", not to " + request.cluster.ToString());
  } else if (request.expected_server && request.expected_server != own.server) {
    reply.status = Status(StatusCode::kWrongCluster,
                          "this is " + ToString(own.server) + ", not " + ToString(request.expected_server));
  }
  return reply;
}

Status RequestHandler::CheckMutation(const wire::MutateRequest& request,
                                     std::span<const std::byte> data) const {
  const replication::Mutation& m = request.mutation;
  if (!m.chunk) return Status(StatusCode::kInvalidArgument, "a mutation names no chunk");
  if (m.offset > kMaxChunkBytes || m.length > kMaxChunkBytes || m.offset + m.length > kMaxChunkBytes) {
    return Status(StatusCode::kInvalidArgument, "a mutation reaches beyond the largest possible chunk");
  }
  if (m.kind != MutationKind::kWrite) {
    if (!data.empty() || !request.checksums.empty()) {
      return Status(StatusCode::kInvalidArgument, "data came with a mutation that takes none");
    }
    return Status::Ok();
  }
  if (data.empty() || data.size() > wire::kMaxTransferBytes || data.size() != m.length) {
    return Status(StatusCode::kInvalidArgument,
                  "a write of " + std::to_string(m.length) + " bytes carries " + std::to_string(data.size()) +
                      " (at most " + std::to_string(wire::kMaxTransferBytes) + " are allowed)");
  }
  if (request.checksums.size() != BlocksTouched(m.offset, m.length)) {
    return Status(StatusCode::kInvalidArgument,
                  "a write touches " + std::to_string(BlocksTouched(m.offset, m.length)) +
                      " blocks but carries " + std::to_string(request.checksums.size()) + " checksums");
  }
  return Status::Ok();
}

wire::MutateReply RequestHandler::Mutate(const wire::MutateRequest& request,
                                         std::span<const std::byte> data) const {
  wire::MutateReply reply;
  reply.info.chunk = request.mutation.chunk;
  reply.status = CheckMutation(request, data);
  if (!reply.status.ok()) return reply;
  reply.status = disks_->Mutate(request, data, &reply.info);
  if (reply.status.code() != StatusCode::kCorrupt) return reply;
  // What was damaged on the way is told apart from what is damaged on the disk. The store has checked it
  // already; only for this question is it looked at again.
  const int64_t bad = FirstBadBlock(request.mutation.chunk, request.mutation.offset, data, request.checksums);
  if (bad >= 0) {
    reply.status = Status(StatusCode::kCorrupt, "block " + std::to_string(bad) + " of a write to chunk " +
                                                    ToString(request.mutation.chunk) +
                                                    " was damaged on the way (checksum mismatch)");
  } else {
    damage_(request.mutation.chunk, request.mutation.offset, request.mutation.length, reply.status.message());
  }
  return reply;
}

ReadAnswer RequestHandler::Read(const wire::ReadRequest& request) const {
  Status possible = CheckRead(request);
  return Answer(request, possible.ok() ? disks_->Read(request, /*verify=*/false) : std::move(possible));
}

std::variant<ReadAnswer, std::function<ReadAnswer()>> RequestHandler::StartRead(
    const wire::ReadRequest& request) const {
  if (Status possible = CheckRead(request); !possible.ok()) return Answer(request, std::move(possible));
  StartedRead started = disks_->StartRead(request);
  if (auto* done = std::get_if<Result<ReadData>>(&started)) return Answer(request, std::move(*done));
  return std::function<ReadAnswer()>(
      [this, request, rest = std::get<1>(std::move(started))] { return Answer(request, rest()); });
}

Status RequestHandler::CheckRead(const wire::ReadRequest& request) const {
  if (request.chunk && request.offset <= kMaxChunkBytes) return Status::Ok();
  return {StatusCode::kInvalidArgument, "a read names no possible range of a chunk"};
}

ReadAnswer RequestHandler::Answer(const wire::ReadRequest& request, Result<ReadData> read) const {
  ReadAnswer answer;
  if (!read.ok()) {
    answer.reply.status = read.status();
    if (read.code() == StatusCode::kCorrupt) {
      damage_(request.chunk, request.offset, request.length, read.status().message());
    }
    return answer;
  }
  answer.reply.stamp = read->stamp;
  answer.reply.chunk_length = read->chunk_length;
  answer.reply.offset = read->offset;
  answer.reply.checksums = std::move(read->checksums);
  answer.data = std::move(read->data);
  return answer;
}

wire::BatchReply RequestHandler::Seal(const wire::SealRequest& request) const {
  wire::BatchReply reply;
  reply.items.resize(request.items.size());
  for (size_t i = 0; i < request.items.size(); ++i) {
    reply.items[i].info.chunk = request.items[i].chunk;
    reply.items[i].status =
        disks_->Seal(request.items[i].chunk, request.items[i].stamp, &reply.items[i].info);
    if (reply.items[i].status.ok())
      reply.items[i].allocated_bytes = AllocatedOr(reply.items[i].info, disks_->AllocatedBytes(request.items[i].chunk));
  }
  return reply;
}

wire::BatchReply RequestHandler::Begin(const wire::BeginRequest& request) const {
  wire::BatchReply reply;
  reply.items.resize(request.items.size());
  for (size_t i = 0; i < request.items.size(); ++i) {
    const wire::BeginItem& item = request.items[i];
    reply.items[i].info.chunk = item.chunk;
    reply.items[i].status = item.chunk
                                ? disks_->Begin(item.chunk, item.epoch, item.base, &reply.items[i].info)
                                : Status(StatusCode::kInvalidArgument, "a begin names no chunk");
  }
  return reply;
}

wire::BatchReply RequestHandler::Query(const wire::QueryRequest& request) const {
  wire::BatchReply reply;
  reply.items.resize(request.chunks.size());
  for (size_t i = 0; i < request.chunks.size(); ++i) {
    reply.items[i].status = disks_->Query(request.chunks[i], &reply.items[i].info);
    reply.items[i].info.chunk = request.chunks[i];
  }
  return reply;
}

wire::DigestsReply RequestHandler::Digests(const wire::DigestsRequest& request) const {
  wire::DigestsReply reply;
  Result<std::vector<wire::Digest>> digests = disks_->Digests(request, &reply.chunk_length);
  if (!digests.ok()) {
    reply.status = digests.status();
    return reply;
  }
  reply.digests = *std::move(digests);
  // The store's answer for a range with a bad block.
  for (size_t i = 0; i < reply.digests.size(); ++i) {
    if (reply.digests[i] != wire::Digest{}) continue;
    const uint64_t offset = request.offset + i * wire::kDigestRangeBytes;
    (void)disks_->MarkCorrupt(request.chunk, offset);
    damage_(request.chunk, offset, wire::kDigestRangeBytes, "a block does not match its checksum");
  }
  return reply;
}

wire::ExtentsReply RequestHandler::Extents(const wire::ExtentsRequest& request) const {
  Result<wire::ExtentsReply> reply = disks_->Extents(request);
  return reply.ok() ? *std::move(reply) : wire::ExtentsReply{.status = reply.status()};
}

void RequestHandler::Flush(wire::FlushRequest request, std::function<void(wire::BatchReply)> done) const {
  auto shared = std::make_shared<wire::FlushRequest>(std::move(request));
  disks_->Flush(shared->chunks, [disks = disks_, shared, done = std::move(done)](const Status& flushed) {
    wire::BatchReply reply;
    reply.items.resize(shared->chunks.size());
    for (size_t i = 0; i < shared->chunks.size(); ++i) {
      wire::ReplicaItem& item = reply.items[i];
      item.status = disks->Query(shared->chunks[i], &item.info);
      item.info.chunk = shared->chunks[i];
      if (item.status.ok()) item.allocated_bytes = AllocatedOr(item.info, disks->AllocatedBytes(shared->chunks[i]));
      if (item.status.ok() && !flushed.ok()) item.status = flushed;
    }
    done(std::move(reply));
  });
}

}  // namespace cairn::chunkserver
