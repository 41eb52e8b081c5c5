// FileCore: waiting for the write quorum, for its disks, and closing chunks.
#include <algorithm>
#include <string>
#include <utility>

#include "client/data/file_core.h"
#include "common/check.h"

namespace cairn::client {
namespace {

using replication::ChunkWriter;
using replication::MemberProblem;
using wire::MessageType;

// After W replicas confirmed a seal the others get this long to be listed as carriers too.
constexpr int64_t kSealGraceNanos = 200 * kNanosPerMilli;
constexpr int64_t kFlushRetryNanos = 100 * kNanosPerMilli;
constexpr uint64_t kLayoutBatch = 256;

Status Interruption(const char* what) {
  return Status(StatusCode::kInterrupted, std::string("interrupted while waiting for ") + what);
}

}  // namespace

// Waits until every mutation up to `number` is on W replicas.
Status FileCore::WaitDoneLocked(Lock& lock, uint64_t number, const std::function<void(uint64_t)>& progress) {
  for (;;) {
    if (shut_down_) return Status(StatusCode::kCancelled, "the client is shutting down");
    if (!lost_.ok()) return lost_;
    bool waiting = false;
    const int64_t now = Now();
    for (uint64_t index : active_) {
      ChunkState& chunk = *chunks_.at(index);
      if (chunk.log.all_done() || chunk.log.oldest_undone() > number) continue;
      if (std::optional<Status> stalled = StalledLocked(chunk, now)) {
        NoteFailureLocked(chunk, *stalled);
        return *stalled;
      }
      waiting = true;
    }
    if (!waiting) return Status::Ok();
    if (progress) {
      const uint64_t dirty = dirty_bytes_;
      lock.unlock();
      progress(dirty);
      lock.lock();
    }
    const uint64_t attachment = attachment_;
    if (WaitLocked(lock, now + kNanosPerSecond)) return Interruption("the write quorum");
    if (attachment != attachment_)
      return Status(StatusCode::kLeaseLost, "the lease was given back meanwhile");
  }
}

Status FileCore::Flush() {
  Lock lock(mu_);
  if (!lost_.ok()) return lost_;
  if (mode_ != Mode::kWrite) return Status::Ok();  // nothing can be buffered
  return FlushAllLocked(lock, nullptr);
}

Status FileCore::FlushAllLocked(Lock& lock, const std::function<void(uint64_t)>& progress) {
  LogAllLocked();
  const uint64_t size = size_;
  const uint64_t shrinks = shrinks_;
  ++flushes_;
  PumpWindowLocked();
  const Status done = WaitDoneLocked(lock, next_number_ - 1, progress);
  --flushes_;
  CAIRN_RETURN_IF_ERROR(done);
  if (shrinks == shrinks_) confirmed_size_ = std::max(confirmed_size_, size);
  return Status::Ok();
}

// The places of all chunks of the file.
Status FileCore::LoadWholeLayoutLocked(Lock& lock) {
  const uint64_t chunks = (size_ + chunk_bytes_ - 1) / chunk_bytes_;
  for (uint64_t first = 0; first < chunks; first += kLayoutBatch) {
    CAIRN_RETURN_IF_ERROR(EnsureLayoutLocked(lock, first, std::min(first + kLayoutBatch, chunks) - 1));
  }
  return Status::Ok();
}

bool FileCore::DurableLocked(const ChunkState& chunk, const FlushTargets& targets,
                             const FlushRound* round) const {
  if (chunk.writer != nullptr && !chunk.writer->never_begun()) {
    auto target = targets.find(chunk.index);
    return target == targets.end() || chunk.writer->durable_seq() >= target->second;
  }
  if (!chunk.place.chunk || !chunk.place.sealed.epoch || chunk.sealed_durable) return true;
  if (round == nullptr) return false;
  auto found = round->durable.find(chunk.place.chunk);
  return found != round->durable.end() && found->second.size() >= chunk.place.config.write_quorum;
}

std::vector<ChunkState*> FileCore::NotDurableLocked(const FlushTargets& targets, const FlushRound* round) {
  std::vector<ChunkState*> left;
  for (auto& [index, chunk] : chunks_) {
    if (!DurableLocked(*chunk, targets, round)) left.push_back(chunk.get());
  }
  return left;
}

std::shared_ptr<FileCore::FlushRound> FileCore::SendFlushesLocked(const std::vector<ChunkState*>& chunks) {
  auto round = std::make_shared<FlushRound>();
  std::map<ServerId, std::vector<ChunkId>> by_server;
  for (ChunkState* chunk : chunks) {
    const bool open = chunk->writer != nullptr && !chunk->writer->never_begun();
    const std::vector<ServerId>& servers = open ? chunk->place.config.members : chunk->place.carriers;
    for (ServerId server : servers) {
      // A member that has not answered yet gets the flush behind its mutations.
      if (open && !chunk->writer->is_live(server)) continue;
      by_server[server].push_back(chunk->place.chunk);
    }
  }
  for (auto& [server, ids] : by_server) {
    for (size_t at = 0; at < ids.size(); at += wire::kMaxBatchItems) {
      const size_t n = std::min<size_t>(wire::kMaxBatchItems, ids.size() - at);
      wire::FlushRequest request;
      request.chunks.assign(ids.begin() + static_cast<ptrdiff_t>(at),
                            ids.begin() + static_cast<ptrdiff_t>(at + n));
      ++round->outstanding;
      CallLocked(server, MessageType::kFlush, net::SharedBytes::Own(wire::Encode(request)), {},
                 context_.options.laggard_timeout_ms,
                 [self = shared_from_this(), round, server = server, sent = request.chunks](
                     const Status& transport, std::span<const std::byte> meta, const net::SharedBytes&) {
                   self->OnFlushReply(round, server, sent, transport, meta);
                 });
    }
  }
  return round;
}

void FileCore::OnFlushReply(const std::shared_ptr<FlushRound>& round, ServerId server,
                            const std::vector<ChunkId>& chunks, const Status& transport,
                            std::span<const std::byte> meta) {
  Result<wire::BatchReply> reply = transport.ok() ? wire::DecodeBatchReply(meta) : transport;
  Status status = reply.ok() ? reply->status : reply.status();
  if (status.ok() && reply->items.size() != chunks.size()) {
    status = Status(StatusCode::kMalformed, ToString(server) + " answered a flush of " +
                                                std::to_string(chunks.size()) + " chunks with " +
                                                std::to_string(reply->items.size()) + " items");
  }
  std::lock_guard lock(mu_);
  if (shut_down_) return;
  --round->outstanding;
  if (!status.ok()) round->failures[server] = status;
  for (size_t i = 0; i < chunks.size(); ++i) {
    ChunkState* chunk = FindByIdLocked(chunks[i]);
    if (chunk == nullptr) continue;
    const Status& item = status.ok() ? reply->items[i].status : status;
    if (!item.ok()) round->failures[server] = item;
    if (chunk->writer != nullptr) {
      if (item.ok()) {
        chunk->writer->OnDurable(server, reply->items[i].info);
      } else if (item.code() != StatusCode::kUnavailable) {
        // A disk that fails to sync has forgotten what it confirmed: that member is out.
        chunk->writer->OnError(server, item);
        SettleLocked(*chunk);
      }
    } else if (item.ok() && reply->items[i].info.durable >= chunk->place.sealed) {
      round->durable[chunks[i]].push_back(server);
    }
  }
  changed_.notify_all();
}

// Precondition: everything of interest is done (on W replicas).
Status FileCore::FlushDurableLocked(Lock& lock) {
  const int64_t deadline = Now() + context_.options.write_timeout_ms * kNanosPerMilli;
  FlushTargets targets;  // what is written from now on is not waited for
  for (auto& [index, chunk] : chunks_) {
    if (chunk->writer != nullptr && !chunk->writer->never_begun()) targets[index] = chunk->writer->done_seq();
  }
  std::map<ServerId, int64_t> failing_since;
  std::map<ServerId, Status> failures;  // the last one of each member
  for (;;) {
    std::vector<ChunkState*> left = NotDurableLocked(targets, nullptr);
    if (left.empty()) break;
    const uint64_t attachment = attachment_;
    const std::shared_ptr<FlushRound> round = SendFlushesLocked(left);
    while (!NotDurableLocked(targets, round.get()).empty() && round->outstanding != 0) {
      if (WaitLocked(lock, deadline)) return Interruption("the disks of the write quorum");
      if (shut_down_) return Status(StatusCode::kCancelled, "the client is shutting down");
      if (!lost_.ok()) return lost_;
      if (attachment != attachment_)
        return Status(StatusCode::kLeaseLost, "the lease was given back meanwhile");
      if (Now() >= deadline) break;
    }
    left = NotDurableLocked(targets, round.get());
    for (const auto& [server, status] : round->failures) failures.insert_or_assign(server, status);
    for (auto& [index, chunk] : chunks_) {
      if (DurableLocked(*chunk, targets, round.get())) chunk->sealed_durable = true;
    }
    if (left.empty()) break;
    if (Now() >= deadline) {
      std::vector<MemberProblem> problems;
      for (const auto& [server, status] : failures) problems.push_back({server, status});
      return Status(StatusCode::kNoQuorum,
                    "sync refused: " + std::to_string(left.size()) +
                        " chunks are not on the disks of their write quorum (" +
                        (problems.empty()
                             ? "no answer within " + std::to_string(context_.options.write_timeout_ms) + " ms"
                             : replication::DescribeProblems(problems)) +
                        ")");
    }
    const int64_t now = Now();
    for (const auto& [server, status] : round->failures) failing_since.try_emplace(server, now);
    for (ChunkState* chunk : left) {
      if (chunk->writer == nullptr) continue;
      for (const auto& [server, since] : failing_since) {
        auto failure = round->failures.find(server);
        if (failure != round->failures.end() && now - since >= PatienceNanos()) {
          chunk->writer->OnError(server, failure->second);
        }
      }
      ReportDropsLocked(*chunk);
      if (chunk->writer->below_quorum() || chunk->writer->fenced_by_quorum()) ReconfigureLocked(*chunk);
    }
    if (WaitLocked(lock, std::min(deadline, Now() + kFlushRetryNanos)))
      return Interruption("the disks of the write quorum");
    if (attachment != attachment_)
      return Status(StatusCode::kLeaseLost, "the lease was given back meanwhile");
  }
  for (auto& [index, chunk] : chunks_) {
    if (chunk->writer == nullptr || chunk->writer->never_begun()) continue;
    const uint64_t seq = chunk->writer->durable_seq();
    if (seq <= chunk->committed_durable_seq) continue;
    chunk->committed_durable_seq = seq;
    commit_.durable.push_back({chunk->place.chunk, {chunk->writer->config().epoch, seq}});
  }
  return Status::Ok();
}

Status FileCore::FlushDurable() {
  Lock lock(mu_);
  if (!lost_.ok()) return lost_;
  if (mode_ == Mode::kDetached) return Status(StatusCode::kLeaseLost, "no lease is held");
  if (mode_ == Mode::kWrite) {
    CAIRN_RETURN_IF_ERROR(FlushAllLocked(lock, nullptr));
  }
  CAIRN_RETURN_IF_ERROR(LoadWholeLayoutLocked(lock));
  return FlushDurableLocked(lock);
}

bool FileCore::SealAllLocked(bool settled) {
  bool all = true;
  for (auto& [index, chunk] : chunks_) {
    ChunkWriter* writer = chunk->writer.get();
    if (writer == nullptr || writer->never_begun()) continue;
    if (!writer->sealed() && (writer->below_quorum() || writer->fenced_by_quorum())) {
      ReconfigureLocked(*chunk);
      all = false;
    } else if (!writer->StartSeal().ok() || !writer->sealed() || (settled && !writer->seal_settled())) {
      all = false;
    }
  }
  SendSealsLocked();
  return all;
}

void FileCore::SendSealsLocked() {
  std::map<ServerId, std::vector<wire::SealItem>> by_server;
  for (auto& [index, chunk] : chunks_) {
    if (chunk->writer == nullptr || !chunk->writer->sealing()) continue;
    for (const ChunkWriter::SealSend& send : chunk->writer->TakeSealSends()) {
      by_server[send.server].push_back({chunk->place.chunk, send.stamp});
    }
  }
  for (auto& [server, items] : by_server) {
    for (size_t at = 0; at < items.size(); at += wire::kMaxBatchItems) {
      const size_t n = std::min<size_t>(wire::kMaxBatchItems, items.size() - at);
      wire::SealRequest request;
      request.items.assign(items.begin() + static_cast<ptrdiff_t>(at),
                           items.begin() + static_cast<ptrdiff_t>(at + n));
      CallLocked(server, MessageType::kSeal, net::SharedBytes::Own(wire::Encode(request)), {},
                 context_.options.laggard_timeout_ms,
                 [self = shared_from_this(), server = server, sent = request.items](
                     const Status& transport, std::span<const std::byte> meta, const net::SharedBytes&) {
                   self->OnSealReply(server, sent, transport, meta);
                 });
    }
  }
}

void FileCore::OnSealReply(ServerId server, const std::vector<wire::SealItem>& items, const Status& transport,
                           std::span<const std::byte> meta) {
  Result<wire::BatchReply> reply = transport.ok() ? wire::DecodeBatchReply(meta) : transport;
  Status status = reply.ok() ? reply->status : reply.status();
  if (status.ok() && reply->items.size() != items.size()) {
    status = Status(StatusCode::kMalformed, ToString(server) + " did not answer every item of a seal");
  }
  std::lock_guard lock(mu_);
  if (shut_down_) return;
  for (size_t i = 0; i < items.size(); ++i) {
    ChunkState* chunk = FindByIdLocked(items[i].chunk);
    if (chunk == nullptr || chunk->writer == nullptr) continue;
    chunk->writer->OnSealReply(server, items[i].stamp, status.ok() ? reply->items[i].status : status);
    ReportDropsLocked(*chunk);
  }
  changed_.notify_all();
}

// Every begun chunk is sealed: what is to be recorded, and from now on the chunks are only read here.
void FileCore::FinishSealsLocked() {
  for (auto& [index, chunk] : chunks_) {
    if (!chunk->writable_under(lease_)) continue;
    SealedChunk seal{.chunk = chunk->place.chunk};
    if (chunk->writer == nullptr || chunk->writer->never_begun()) {
      seal.never_begun = true;
      seal.stamp = chunk->place.sealed;
      seal.length = chunk->place.length;
      seal.carriers = chunk->place.carriers;
    } else {
      seal.stamp = chunk->writer->seal_stamp();
      seal.length = chunk->length;
      seal.carriers = chunk->writer->carriers();
      chunk->sealed_durable = chunk->writer->durable_seq() >= chunk->writer->last_seq();
      chunk->place.sealed = seal.stamp;
      chunk->place.length = seal.length;
      chunk->place.carriers = seal.carriers;
    }
    DropDirtyLocked(*chunk);
    commit_.seals.push_back(std::move(seal));
  }
  active_.clear();
}

Result<PendingCommit> FileCore::FlushAndSeal(const std::function<void(uint64_t dirty)>& progress) {
  Lock lock(mu_);
  CAIRN_RETURN_IF_ERROR(CheckWritableLocked());
  const uint64_t attachment = attachment_;
  closing_ = true;
  if (const Status done = FlushAllLocked(lock, progress); !done.ok()) {
    if (attachment == attachment_) closing_ = false;
    return done;
  }
  // From here on replicas may be sealed: whatever happens, nothing more is written under this lease.
  const int64_t started = Now();
  const int64_t deadline = started + context_.options.write_timeout_ms * kNanosPerMilli;
  for (;;) {
    const bool wait_for_all = Now() - started < kSealGraceNanos;
    // A chunk that is being announced belongs to this lease: it has to be given back with it.
    if (SealAllLocked(wait_for_all) && announces_ == 0) break;
    if (Now() >= deadline) {
      for (auto& [index, chunk] : chunks_) {
        if (chunk->writer == nullptr || chunk->writer->never_begun() || chunk->writer->sealed()) continue;
        return chunk->writer->QuorumError("seal");
      }
      break;  // only the master's answer is missing
    }
    if (WaitLocked(lock, deadline)) return Interruption("the seal of the file's chunks");
    if (shut_down_) return Status(StatusCode::kCancelled, "the client is shutting down");
    if (!lost_.ok()) return lost_;
    if (attachment != attachment_)
      return Status(StatusCode::kLeaseLost, "the lease was given back meanwhile");
  }
  FinishSealsLocked();
  lock.unlock();
  return TakeCommit();
}

}  // namespace cairn::client
