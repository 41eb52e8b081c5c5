// FileCore: waiting for the write quorum, and for its disks.
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

Status FileCore::FlushAllLocked(Lock& lock, const std::function<void(uint64_t)>& progress,
                                const std::function<void()>& sent) {
  const uint64_t attachment = attachment_;
  std::optional<net::DataClient::Gather> gather(context_.data_client);
  LogAllLocked();
  const uint64_t size = size_;
  const uint64_t shrinks = shrinks_;
  const uint64_t last = next_number_ - 1;
  ++flushes_;
  PumpWindowLocked();
  if (sent) sent();
  ++background_;  // Shutdown waits
  lock.unlock();
  gather.reset();  // sends; answers are not held up meanwhile
  lock.lock();
  if (--background_ == 0 && shut_down_) changed_.notify_all();
  Status done = WaitDoneLocked(lock, last, progress);
  if (done.ok() && attachment != attachment_) done = Status(StatusCode::kLeaseLost, "the lease was given back meanwhile");
  --flushes_;
  CAIRN_RETURN_IF_ERROR(done);
  if (shrinks == shrinks_) confirmed_size_ = std::max(confirmed_size_, size);
  return Status::Ok();
}

// The places of all chunks of the file.
Status FileCore::LoadWholeLayoutLocked(Lock& lock) {
  const uint64_t chunks = (size_ + chunk_bytes_ - 1) / chunk_bytes_;
  if (chunks == 0 || whole_layout_of_ == attachment_) return Status::Ok();
  const uint64_t attachment = attachment_;
  CAIRN_RETURN_IF_ERROR(EnsureExistingLocked(lock, 0, chunks - 1));
  // Chunks that come later under this attachment are made here.
  whole_layout_of_ = attachment;
  return Status::Ok();
}

bool FileCore::DurableLocked(const ChunkState& chunk, const FlushTargets& targets,
                             const FlushRound* round) const {
  if (chunk.writer != nullptr && !chunk.writer->never_begun()) {
    if (auto target = targets.find(chunk.index); target != targets.end())
      return chunk.writer->durable_seq() >= target->second;
    // Opened since: what is written now is not waited for, what it continues on is.
    return chunk.sealed_durable || chunk.writer->durable_seq() >= chunk.writer->config().base.seq;
  }
  if (!chunk.place.chunk || !chunk.held().epoch || chunk.sealed_durable) return true;
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
    const std::vector<ServerId>& servers = open || chunk->place.carriers.empty() ? chunk->place.config.members : chunk->place.carriers;
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
  bool news = round->outstanding == 0;
  for (size_t i = 0; i < chunks.size(); ++i) {
    ChunkState* chunk = FindByIdLocked(chunks[i]);
    if (chunk == nullptr) continue;
    const Status& item = status.ok() ? reply->items[i].status : status;
    if (!item.ok()) round->failures[server] = item;
    if (chunk->writer != nullptr) {
      if (item.ok()) {
        const uint64_t before = chunk->writer->durable_seq();
        chunk->writer->OnDurable(server, reply->items[i].info);
        NoteAllocatedLocked(*chunk, reply->items[i].allocated_bytes);
        news = news || chunk->writer->durable_seq() != before;
      } else if (round->early) {
        // The mutations may have been held up where the flush was not.
      } else if (item.code() != StatusCode::kUnavailable) {
        // A disk that fails to sync has forgotten what it confirmed: that member is out.
        chunk->writer->OnError(server, item);
        SettleLocked(*chunk);
      }
    } else if (item.ok() && reply->items[i].info.durable >= chunk->held()) {
      round->durable[chunks[i]].push_back(server);
      news = true;
    }
  }
  // Waking those who wait for a quorum at every single answer costs more than the answer.
  if (news) changed_.notify_all();
}

// A member handles the frames of one connection in order: a flush right behind the mutations covers them, and saves waiting for
// their answers first.
std::shared_ptr<FileCore::FlushRound> FileCore::SendEarlyFlushesLocked(FlushTargets* targets) {
  std::vector<ChunkState*> written;
  for (auto& [index, chunk] : chunks_) {
    if (chunk->has_unsent() || (!chunk->log.all_done() && chunk->writer == nullptr)) return nullptr;
    if (chunk->writer == nullptr || chunk->writer->never_begun()) continue;
    (*targets)[index] = chunk->writer->last_seq();
    if (chunk->writer->durable_seq() < chunk->writer->last_seq()) written.push_back(chunk.get());
  }
  std::shared_ptr<FlushRound> round = SendFlushesLocked(written);
  round->early = true;
  return round;
}

// Precondition: everything of interest is done (on W replicas). `round`: sent already, or none.
Status FileCore::FlushDurableLocked(Lock& lock, FlushTargets targets, std::shared_ptr<FlushRound> round) {
  const int64_t deadline = Now() + context_.options.write_timeout_ms * kNanosPerMilli;
  if (round == nullptr) {
    targets.clear();  // what is written from now on is not waited for
    for (auto& [index, chunk] : chunks_) {
      if (chunk->writer != nullptr && !chunk->writer->never_begun()) targets[index] = chunk->writer->done_seq();
    }
  }
  std::map<ServerId, int64_t> failing_since;
  std::map<ServerId, Status> failures;  // the last one of each member
  for (;;) {
    std::vector<ChunkState*> left = NotDurableLocked(targets, nullptr);
    if (left.empty()) break;
    const uint64_t attachment = attachment_;
    if (round == nullptr) round = SendFlushesLocked(left);
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
    const std::shared_ptr<FlushRound> ended = std::exchange(round, nullptr);
    if (ended->early) continue;  // the usual way, which looks at who failed
    const int64_t now = Now();
    for (const auto& [server, status] : ended->failures) failing_since.try_emplace(server, now);
    for (ChunkState* chunk : left) {
      if (chunk->writer == nullptr) continue;
      for (const auto& [server, since] : failing_since) {
        auto failure = ended->failures.find(server);
        if (failure != ended->failures.end() && now - since >= PatienceNanos()) {
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
  FlushTargets targets;
  std::shared_ptr<FlushRound> early;
  if (mode_ == Mode::kWrite) {
    CAIRN_RETURN_IF_ERROR(FlushAllLocked(lock, nullptr, [&] { early = SendEarlyFlushesLocked(&targets); }));
  }
  CAIRN_RETURN_IF_ERROR(LoadWholeLayoutLocked(lock));
  return FlushDurableLocked(lock, std::move(targets), std::move(early));
}

}  // namespace cairn::client
