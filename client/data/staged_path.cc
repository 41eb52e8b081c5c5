// FileCore: mutations whose bytes the members fetched by themselves, and members that did not.
//
// Mutations reach a member in order. So what cannot be sent to it yet (its answer is awaited, or the bytes are being fetched for it)
// holds back what comes behind, for this member alone: a write needs W of them, and whoever takes too long is dropped like
// any laggard.
#include <algorithm>
#include <string>
#include <utility>

#include "client/data/file_core.h"
#include "common/checksum.h"
#include "common/wire/read_reply.h"

namespace cairn::client {
namespace {

using replication::ChunkWriter;
using wire::MessageType;

constexpr int64_t kAskTimeoutMs = 5000;
constexpr int64_t kFetchAgainNanos = 300 * kNanosPerMilli;

// The carrier is there and says that it has not got the stamp (any more).
bool SaysGone(StatusCode code) {
  return code == StatusCode::kStaleReplica || code == StatusCode::kUnknownChunk || code == StatusCode::kDeleted;
}

}  // namespace

// Asks every member of the target chunk to fetch a piece of `part`. Precondition: the chunk is open for writing.
std::shared_ptr<StagedPiece> FileCore::StageLocked(ChunkState& chunk, const CopyPart& part, uint64_t part_offset,
                                                   uint64_t in_chunk, uint32_t length) {
  auto piece = std::make_shared<StagedPiece>();
  piece->source = part.chunk;
  piece->stamp = part.stamp;
  piece->source_offset = part.offset + part_offset;
  piece->carriers = RankLocked(part.carriers, part.chunk);
  piece->chunk = chunk.place.chunk;
  piece->offset = in_chunk;
  piece->length = length;
  const replication::Configuration& config = chunk.writer != nullptr ? chunk.writer->config() : chunk.place.config;
  piece->quorum = config.write_quorum;
  wire::StageRequest request{.source = piece->source,
                             .want = piece->stamp,
                             .source_offset = piece->source_offset,
                             .chunk = piece->chunk,
                             .offset = in_chunk,
                             .length = length};
  for (ServerId carrier : piece->carriers) {
    const std::optional<ServerEntry> entry = context_.servers->Find(carrier);
    if (entry && !entry->address.empty() && request.carriers.size() < wire::kMaxCarriers)
      request.carriers.push_back({carrier, entry->address});
  }
  const net::SharedBytes meta = net::SharedBytes::Own(wire::Encode(request));
  for (ServerId server : config.members) {
    if (chunk.writer != nullptr && !chunk.writer->is_live(server)) continue;
    piece->members[server];
    // Not longer than a member that says nothing is waited for: the bytes can still be written another way.
    CallLocked(server, MessageType::kStage, meta, {}, context_.options.write_timeout_ms / 3,
               [self = shared_from_this(), piece, server](const Status& transport, std::span<const std::byte> reply,
                                                          const net::SharedBytes&) {
                 self->OnStaged(piece, server, transport, reply);
               });
  }
  if (piece->members.size() < piece->quorum) piece->failed = true;
  return piece;
}

void FileCore::OnStaged(const std::shared_ptr<StagedPiece>& piece, ServerId server, const Status& transport,
                        std::span<const std::byte> meta) {
  Result<wire::StageReply> reply = transport.ok() ? wire::DecodeStageReply(meta) : transport;
  Status status = reply.ok() ? reply->status : reply.status();
  if (status.ok() && reply->checksums.size() != BlocksTouched(piece->offset, piece->length)) {
    status = Status(StatusCode::kMalformed, ToString(server) + " staged " + std::to_string(piece->length) + " bytes with " +
                                                std::to_string(reply->checksums.size()) + " checksums");
  }
  std::lock_guard lock(mu_);
  if (shut_down_) return;
  if (status.ok()) {
    piece->Answered(server, status, reply->token, std::move(reply->checksums));
  } else {
    piece->Answered(server, status, 0, {});
  }
  if (ChunkState* chunk = FindByIdLocked(piece->chunk); chunk != nullptr && chunk->writer != nullptr) SendHeldLocked(*chunk, server);
  changed_.notify_all();
}

void FileCore::SendHeldLocked(ChunkState& chunk, ServerId server) {
  const auto found = chunk.held_sends.find(server);
  if (found == chunk.held_sends.end()) return;
  std::deque<ChunkWriter::Send>& held = found->second;
  while (!held.empty()) {
    const ChunkWriter::Send send = held.front();
    if (send.epoch != chunk.writer->config().epoch || !chunk.writer->is_live(server)) {
      held.clear();
      break;
    }
    if (!chunk.log.Keeps(send.seq)) {  // it has it already
      held.pop_front();
      continue;
    }
    const LoggedMutation& logged = chunk.log.Submitted(send.seq);
    if (logged.staged == nullptr) {
      held.pop_front();
      SendMutationLocked(chunk, send, logged, logged.data, 0);
      continue;
    }
    const std::shared_ptr<StagedPiece> piece = logged.staged;
    const auto member = piece->members.find(server);
    if (member != piece->members.end() && member->second.state == StagedPiece::Member::kAsked) return;
    if (member != piece->members.end() && member->second.state == StagedPiece::Member::kStaged) {
      held.pop_front();
      SendMutationLocked(chunk, send, logged, {}, member->second.token);
    } else if (!piece->bytes.empty()) {
      held.pop_front();
      context_.counters->bytes_copied_here += piece->length;
      SendMutationLocked(chunk, send, logged, piece->bytes, 0);
    } else {
      return FetchStagedLocked(piece);
    }
  }
  chunk.held_sends.erase(server);
}

void FileCore::SendAllHeldLocked(ChunkState& chunk) {
  std::vector<ServerId> servers;
  for (const auto& [server, held] : chunk.held_sends) servers.push_back(server);
  for (ServerId server : servers) SendHeldLocked(chunk, server);
}

// What was sent to the member and is not confirmed counts as unsent.
void FileCore::TakeBackSendsLocked(ChunkState& chunk, ServerId server) {
  ++chunk.sends_taken_back[server];
  chunk.held_sends.erase(server);
  chunk.writer->OnDisconnect(server);
  chunk.writer->OnConnect(server);
}

void FileCore::FetchStagedLocked(const std::shared_ptr<StagedPiece>& piece) {
  if (piece->fetching || Now() < piece->fetch_again_ns) return;
  piece->fetching = true;
  const wire::ReadRequest request{.chunk = piece->source,
                                  .want = piece->stamp,
                                  .exact = true,
                                  .offset = piece->source_offset,
                                  .length = piece->length};
  CallLocked(piece->carriers[piece->fetch_from], MessageType::kRead, net::SharedBytes::Own(wire::Encode(request)), {},
             kAskTimeoutMs,
             [self = shared_from_this(), piece](const Status& transport, std::span<const std::byte> meta,
                                                net::SharedBytes data) {
               self->OnStagedFetched(piece, transport, meta, std::move(data));
             });
}

void FileCore::OnStagedFetched(const std::shared_ptr<StagedPiece>& piece, const Status& transport,
                               std::span<const std::byte> meta, net::SharedBytes data) {
  Status status = transport;
  Result<wire::ReadReply> reply = transport.ok() ? wire::DecodeReadReply(meta) : transport;
  if (status.ok()) status = reply.status();
  if (status.ok()) status = wire::CheckReadReply(piece->source, piece->source_offset, piece->length, *reply, data.bytes);
  const uint64_t skip = status.ok() ? piece->source_offset - reply->offset : 0;
  if (status.ok() && (reply->stamp != piece->stamp || data.size() < skip + piece->length))
    status = Status(StatusCode::kStaleReplica, "it answered with another stamp or less than was staged");
  if (status.ok()) {
    data.bytes = data.bytes.subspan(skip, piece->length);
    // `checksums` does not change any more once the mutation is in the log.
    if (FirstBadBlock(piece->chunk, piece->offset, data.bytes, piece->checksums) >= 0)
      status = Status(StatusCode::kCorrupt, "it answered with other bytes than the members staged");
  }
  std::lock_guard lock(mu_);
  piece->fetching = false;
  if (shut_down_) return;
  if (!status.ok()) {
    StagedFetchFailedLocked(piece, status.WithContext(ToString(piece->carriers[piece->fetch_from])));
    return;
  }
  piece->bytes = std::move(data);
  ChunkState* chunk = FindByIdLocked(piece->chunk);
  if (chunk != nullptr && chunk->writer != nullptr) SendAllHeldLocked(*chunk);
  piece->bytes = {};  // whoever needs them later has them fetched again
}

// The next carrier; after the last one the members that wait for the bytes are left out of the chunk. A mutation that is not on W
// replicas and cannot come there any more ends the lease: the master's recovery decides what the chunk is.
void FileCore::StagedFetchFailedLocked(const std::shared_ptr<StagedPiece>& piece, const Status& why) {
  if (!SaysGone(why.code())) piece->gone = false;
  if (++piece->fetch_from < piece->carriers.size()) return FetchStagedLocked(piece);
  piece->fetch_from = 0;
  piece->fetch_again_ns = Now() + kFetchAgainNanos;
  const bool gone = std::exchange(piece->gone, true);
  ChunkState* chunk = FindByIdLocked(piece->chunk);
  if (chunk == nullptr || chunk->writer == nullptr) return;
  std::vector<ServerId> waiting;
  uint64_t seq = 0;
  for (const auto& [server, held] : chunk->held_sends) {
    if (held.empty() || !chunk->log.Keeps(held.front().seq)) continue;
    if (chunk->log.Submitted(held.front().seq).staged != piece) continue;
    seq = held.front().seq;
    waiting.push_back(server);
  }
  if (waiting.empty()) return;
  const bool done = seq <= chunk->writer->done_seq();
  // Below the quorum another try may help, unless all carriers say that the bytes are gone; the tick makes it.
  if (!done && !gone && chunk->writer->live_members() < waiting.size() + chunk->writer->config().write_quorum) return;
  for (ServerId server : waiting) {
    chunk->writer->OnError(server, why.WithContext("did not stage a copied range, which cannot be fetched for it either"));
    chunk->held_sends.erase(server);
  }
  if (!done && gone && chunk->writer->below_quorum()) {
    const Status lost(StatusCode::kIoError, "the source of a copied range changed before a write quorum had the copy: " + why.message());
    NoteFailureLocked(*chunk, lost);
    return LoseLeaseLocked(lost);
  }
  SettleLocked(*chunk);
}

}  // namespace cairn::client
