// FileCore: from the log of a chunk to its members, and the answers.
#include <algorithm>
#include <string>
#include <utility>

#include "client/data/file_core.h"
#include "common/check.h"
#include "common/checksum.h"
#include "common/log.h"

namespace cairn::client {
namespace {

using replication::ChunkWriter;
using replication::MutationKind;
using wire::MessageType;

// Sending is held back for members that lag but go on: at first at most for this part of the write timeout (a
// second of ten), then for a quarter of the time, saved up to twice that.
constexpr int64_t kPaceFirstPart = 10;
constexpr int64_t kPaceShare = 4;
// A member that answered nothing for this part of the write timeout stands still (78 ms of ten seconds): a writer that waited for it
// would notice.
constexpr int64_t kStandstillPart = 128;
// A broken connection is tried again after this long.
constexpr int64_t kReconnectNanos = 100 * kNanosPerMilli;

bool IsBrokenConnection(StatusCode code) {
  return code == StatusCode::kUnavailable || code == StatusCode::kResourceExhausted;
}

}  // namespace

// Submits what the window allows and sends what the writer wants sent.
void FileCore::PumpLocked(ChunkState& chunk) {
  if (mode_ != Mode::kWrite || !lost_.ok() || chunk.log.empty() || chunk.index >= shrinking_from_) return;
  if (chunk.writer == nullptr) {
    if (chunk.log.all_done()) return;
    if (!chunk.writable_under(lease_)) return AnnounceLocked(chunk.index);
    replication::WriterOptions options;
    options.config = chunk.place.config;
    options.window_bytes = context_.options.window_bytes;
    options.pending_bytes = 2 * context_.options.window_bytes + kSlotBytes;
    options.laggard_bytes = context_.options.laggard_bytes;
    chunk.writer = std::make_unique<ChunkWriter>(chunk.place.chunk, options);
    chunk.last_done_seq = chunk.writer->done_seq();
  }
  while (LoggedMutation* next = chunk.log.NextToSubmit()) {
    const uint64_t bytes = next->staged != nullptr ? next->length : next->data.size();
    if (PacedLocked()) {
      window_blocked_ = true;
      break;
    }
    // What is staged is no memory here; CopyParts bounds it.
    if (in_flight_bytes_ != 0 && in_flight_bytes_ + next->data.size() > context_.options.window_bytes) {
      window_blocked_ = true;
      break;
    }
    Result<uint64_t> seq = chunk.writer->Submit(bytes);
    if (!seq.ok()) break;  // its own bounds; tried again after the next answer
    if (next->kind == MutationKind::kWrite && next->checksums.empty()) {
      next->checksums = ChecksumRange(chunk.place.chunk, next->offset, next->data.bytes);
    }
    in_flight_bytes_ += next->data.size();
    if (chunk.log.in_flight() == 0) chunk.waiting_since_ns = Now();
    chunk.log.SetSeq(*seq);
    ++context_.counters->mutations;
    // The next chunks are placed before the stream gets there.
    if (next->offset + next->length > chunk_bytes_ / 2) AnnounceLocked(chunk.index + 1);
  }
  for (const ChunkWriter::Send& send : chunk.writer->TakeSends()) SendLocked(chunk, send);
}

void FileCore::PumpWindowLocked() {
  if (!window_blocked_) return;
  window_blocked_ = false;
  for (uint64_t index : active_) {
    ChunkState& chunk = *chunks_.at(index);
    if (chunk.writer == nullptr || chunk.log.not_submitted() == 0) continue;
    PumpLocked(chunk);
    if (window_blocked_) return;
  }
}

void FileCore::SendLocked(ChunkState& chunk, const ChunkWriter::Send& send) {
  const LoggedMutation& logged = chunk.log.Submitted(send.seq);
  const auto held = chunk.held_sends.find(send.server);
  if (logged.staged == nullptr && (held == chunk.held_sends.end() || held->second.empty()))
    return SendMutationLocked(chunk, send, logged, logged.data, 0);
  chunk.held_sends[send.server].push_back(send);
  SendHeldLocked(chunk, send.server);
}

void FileCore::SendMutationLocked(ChunkState& chunk, const ChunkWriter::Send& send, const LoggedMutation& logged,
                                  net::SharedBytes data, uint64_t token) {
  wire::MutateRequest request;
  request.mutation = {.chunk = chunk.place.chunk,
                      .epoch = send.epoch,
                      .seq = send.seq,
                      .begin = send.begin,
                      .kind = logged.kind,
                      .offset = logged.offset,
                      .length = logged.length};
  request.checksums = logged.checksums;
  chunk.heard_ns.try_emplace(send.server, Now());
  answered_ns_.try_emplace(send.server, Now());
  // chunk, epoch and seq name the mutation everywhere: the members log them too (chunkserver/data_session.cc).
  CAIRN_LOG(Debug, "inode={} chunk={} epoch={} seq={} mutate offset={} length={} to={}", ToString(inode_),
            request.mutation.chunk.value(), send.epoch.value(), send.seq, logged.offset, logged.length, ToString(send.server));
  const bool staged = token != 0;
  wire::Bytes meta = staged ? wire::Encode(wire::MutateStagedRequest{token, std::move(request)}) : wire::Encode(request);
  CallLocked(send.server, staged ? MessageType::kMutateStaged : MessageType::kMutate, net::SharedBytes::Own(std::move(meta)),
             std::move(data), context_.options.laggard_timeout_ms,
             [self = shared_from_this(), id = chunk.place.chunk, send, staged, taken_back = chunk.sends_taken_back[send.server]](
                 const Status& transport, std::span<const std::byte> reply, const net::SharedBytes&) {
               self->OnMutateDone(id, send, taken_back, staged, transport, reply);
             });
}

void FileCore::CallLocked(ServerId server, MessageType type, net::SharedBytes meta, net::SharedBytes data,
                          int64_t timeout_ms, net::DataClient::Callback done) {
  std::optional<ServerEntry> entry = context_.servers->Find(server);
  if (!entry || entry->address.empty()) {
    RunLocked([server, done = std::move(done)] {
      done(Status(StatusCode::kUnavailable, "the address of " + ToString(server) + " is not known"), {}, {});
    });
    return;
  }
  ++context_.counters->requests;
  context_.data_client->Call({server, std::move(entry->address)}, type, std::move(meta), std::move(data),
                             Now() + timeout_ms * kNanosPerMilli, std::move(done));
}

void FileCore::OnMutateDone(ChunkId id, const ChunkWriter::Send& send, uint64_t taken_back, bool staged,
                            const Status& transport, std::span<const std::byte> meta) {
  const auto& [server, epoch, seq, begin] = send;
  Result<wire::MutateReply> reply = transport.ok() ? wire::DecodeMutateReply(meta) : transport;
  std::lock_guard lock(mu_);
  if (shut_down_) return;
  ChunkState* chunk = FindByIdLocked(id);
  if (chunk == nullptr || chunk->writer == nullptr || chunk->writer->config().epoch != epoch) return;
  if (chunk->sends_taken_back[server] != taken_back) return;
  const int64_t now = Now();
  if (staged && reply.ok() && reply->status.code() == StatusCode::kNotFound) {
    // It does not have the bytes any more, and refuses what was sent behind: from here on once more, with the bytes.
    if (chunk->log.Keeps(seq)) {
      auto& members = chunk->log.Submitted(seq).staged->members;
      members[server].state = StagedPiece::Member::kNeedsBytes;
    }
    chunk->heard_ns[server] = answered_ns_[server] = now;
    TakeBackSendsLocked(*chunk, server);
  } else if (reply.ok()) {
    chunk->heard_ns[server] = answered_ns_[server] = now;
    chunk->broken.erase(server);
    chunk->writer->OnMutateReply(server, epoch, seq, reply->status, reply->info);
  } else if (!transport.ok() && IsBrokenConnection(transport.code())) {
    auto [broken, first] = chunk->broken.try_emplace(server);
    if (first) broken->second.since_ns = now;
    broken->second.retry_at_ns = now + kReconnectNanos;
    broken->second.retrying = false;
    broken->second.status = transport;
    chunk->held_sends.erase(server);
    chunk->writer->OnDisconnect(server);
  } else {
    chunk->writer->OnError(server, reply.status());
  }
  SettleLocked(*chunk);
}

// After anything that happened to a chunk's writer: counts what is done, frees what is not needed, asks for
// help, goes on.
void FileCore::SettleLocked(ChunkState& chunk) {
  ChunkWriter& writer = *chunk.writer;
  const uint64_t retained_before = chunk.log.done_bytes();
  const uint64_t done = chunk.log.AdvanceDone(writer.done_seq());
  const bool progress = writer.done_seq() != chunk.last_done_seq;
  chunk.last_done_seq = writer.done_seq();
  in_flight_bytes_ -= done;
  ReleaseBudgetLocked(done);
  chunk.log.Release(writer.released_seq());
  retained_bytes_ += chunk.log.done_bytes() - retained_before;
  if (progress || chunk.log.all_done()) {
    chunk.failed = false;
    chunk.last_drop = Status::Ok();
    chunk.time_extended = false;
    chunk.retry_at_ns = 0;
    chunk.waiting_since_ns = chunk.log.all_done() ? 0 : Now();
  }
  ReportDropsLocked(chunk);
  if (!chunk.log.all_done() && (writer.below_quorum() || writer.fenced_by_quorum())) ReconfigureLocked(chunk);
  PumpLocked(chunk);
  for (const ChunkWriter::Send& send : writer.TakeSends()) SendLocked(chunk, send);
  PumpWindowLocked();
  if (retained_bytes_ > context_.options.laggard_bytes) DropLaggardsLocked();
  if (chunk.log.empty() && chunk.dirty.empty()) active_.erase(chunk.index);
  if (writer.sealing()) SendSealsLocked();
  // Those who wait want a quorum, room, or to hear that there is none: an answer that changes nothing of that
  // wakes nobody.
  // Whoever gives the lease back waits for the seal behind it.
  const bool wanted = progress && !(closing_ && writer.sealing());
  if (wanted || writer.below_quorum() || writer.fenced_by_quorum()) changed_.notify_all();
}

// Whether to wait for members that lag behind the quorum. On a busy machine healthy replicas drift apart by
// more than what can be kept for them; dropping them would cost a repair each. A member that stands still is
// not waited for, nor is one that is slower than the others for good: the allowance ends that. Callers that
// wait for the quorum are never held back.
bool FileCore::PacedLocked() {
  const int64_t now = Now();
  const int64_t timeout = context_.options.write_timeout_ms * kNanosPerMilli;
  const int64_t first = timeout / kPaceFirstPart;
  if (pace_earned_ns_ == 0) {
    pace_earned_ns_ = now;
    pace_allowance_ns_ = first;
  }
  const bool wanted = retained_bytes_ > context_.options.laggard_bytes / 2 && flushes_ == 0 &&
                      LaggardGoesOnLocked(now - timeout / kStandstillPart);
  if (wanted && paced_since_ns_ == 0) {
    pace_allowance_ns_ = std::min(2 * first, pace_allowance_ns_ + (now - pace_earned_ns_) / kPaceShare);
    pace_earned_ns_ = paced_since_ns_ = now;
  }
  if (wanted && now - paced_since_ns_ < pace_allowance_ns_) return true;
  if (paced_since_ns_ != 0) {
    pace_allowance_ns_ = std::max<int64_t>(0, pace_allowance_ns_ - (now - paced_since_ns_));
    pace_earned_ns_ = now;
    paced_since_ns_ = 0;
  }
  return false;
}

// Whether some member that is behind the quorum answered since `since_ns`. A connection that is broken does not count: what that
// member lacks may have to be sent again from the start.
bool FileCore::LaggardGoesOnLocked(int64_t since_ns) const {
  for (uint64_t index : active_) {
    const ChunkState& chunk = *chunks_.at(index);
    if (chunk.writer == nullptr || chunk.log.done_bytes() == 0) continue;
    for (ServerId server : chunk.place.config.members) {
      if (!chunk.writer->is_live(server) || chunk.broken.contains(server)) continue;
      if (chunk.writer->acked_seq(server).value_or(0) >= chunk.writer->done_seq()) continue;
      const auto answered = answered_ns_.find(server);
      if (answered != answered_ns_.end() && answered->second > since_ns) return true;
    }
  }
  return false;
}

// The file keeps too much for slow members: those that hold the oldest bytes are left out of their chunks.
void FileCore::DropLaggardsLocked() {
  const std::vector<uint64_t> active(active_.begin(), active_.end());
  for (uint64_t index : active) {
    if (retained_bytes_ <= context_.options.laggard_bytes) return;
    ChunkState& chunk = *chunks_.at(index);
    if (chunk.writer == nullptr || chunk.log.done_bytes() == 0) continue;
    const uint64_t kept = chunk.log.done_bytes();
    for (ServerId server : chunk.place.config.members) {
      if (!chunk.writer->is_live(server)) continue;
      if (chunk.writer->acked_seq(server).value_or(0) >= chunk.writer->done_seq()) continue;
      chunk.writer->OnError(server, Status(StatusCode::kTimeout, "too slow: " + std::to_string(kept >> 20) +
                                                                     " MiB behind the write quorum"));
    }
    chunk.log.Release(chunk.writer->released_seq());
    retained_bytes_ += chunk.log.done_bytes() - kept;
    ReportDropsLocked(chunk);
  }
}

}  // namespace cairn::client
