// FileCore: closing chunks, when the lease goes back and before that.
//
// A replica refuses an epoch that it has sealed. A chunk that is sealed while the lease stays is therefore announced again before
// its next write, and the master, which is told of the seal first, opens it in a fresh epoch.
#include <algorithm>
#include <map>
#include <string>
#include <utility>

#include "client/data/file_core.h"
#include "client/data/seal_gatherer.h"

namespace cairn::client {
namespace {

using replication::ChunkWriter;

// After W replicas confirmed a seal the others get this long to be listed as carriers too.
constexpr int64_t kSealGraceNanos = 200 * kNanosPerMilli;

Status Interruption(const char* what) {
  return Status(StatusCode::kInterrupted, std::string("interrupted while waiting for ") + what);
}

}  // namespace

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
  const int64_t deadline = Now() + context_.options.laggard_timeout_ms * kNanosPerMilli;
  for (auto& [server, items] : by_server) {
    const std::optional<ServerEntry> entry = context_.servers->Find(server);
    if (!entry || entry->address.empty()) {
      RunLocked([self = shared_from_this(), server = server, items = items] {
        self->OnSealReply(server, items,
                          Status(StatusCode::kUnavailable, "the address of " + ToString(server) + " is not known"), {});
      });
      continue;
    }
    for (size_t at = 0; at < items.size(); at += wire::kMaxBatchItems) {
      const size_t n = std::min<size_t>(wire::kMaxBatchItems, items.size() - at);
      std::vector<wire::SealItem> part(items.begin() + static_cast<ptrdiff_t>(at),
                                       items.begin() + static_cast<ptrdiff_t>(at + n));
      auto done = [self = shared_from_this(), server = server, part](const Status& status,
                                                                    std::span<const wire::ReplicaItem> replies) {
        self->OnSealReply(server, part, status, replies);
      };
      context_.seals->Send({server, entry->address}, std::move(part), deadline, std::move(done));
    }
  }
}

void FileCore::OnSealReply(ServerId server, const std::vector<wire::SealItem>& items, const Status& status,
                           std::span<const wire::ReplicaItem> replies) {
  std::lock_guard lock(mu_);
  if (shut_down_) return;
  for (size_t i = 0; i < items.size(); ++i) {
    ChunkState* chunk = FindByIdLocked(items[i].chunk);
    if (chunk == nullptr || chunk->writer == nullptr) continue;
    chunk->writer->OnSealReply(server, items[i].stamp, status.ok() ? replies[i].status : status);
    if (status.ok() && replies[i].status.ok()) NoteAllocatedLocked(*chunk, replies[i].allocated_bytes);
    ReportDropsLocked(*chunk);
    if (chunk->writer->seal_settled() && SealOverdueLocked(*chunk)) FinishIdleSealLocked(*chunk);
  }
  changed_.notify_all();
}

FileData::IdleSeals FileCore::SealIdle(int64_t idle_ms) {
  std::lock_guard lock(mu_);
  if (mode_ == Mode::kDetached) return {.closed = true};
  if (mode_ != Mode::kWrite || !lost_.ok() || closing_ || shut_down_) return {};
  const int64_t now = Now();
  bool open = announces_ != 0;
  for (auto& [index, chunk] : chunks_) {
    if (!chunk->clean()) open = true;
    ChunkWriter* writer = chunk->writer.get();
    if (writer == nullptr || writer->never_begun()) continue;  // given back with the lease as never begun
    if (!chunk->clean() || now - chunk->last_logged_ns < idle_ms * kNanosPerMilli) {
      open = true;
      continue;
    }
    if (!writer->sealing()) {
      chunk->sealing_since_ns = now;
      chunk->sealed_length = chunk->length;
    }
    if (!writer->sealed() && (writer->below_quorum() || writer->fenced_by_quorum())) {
      ReconfigureLocked(*chunk);
      open = true;
    } else if (!writer->StartSeal().ok()) {
      open = true;
    } else {
      if (SealOverdueLocked(*chunk)) {
        FinishIdleSealLocked(*chunk);
      } else {
        open = true;
      }
    }
  }
  SendSealsLocked();
  return {.closed = !open, .to_tell = !commit_.seals.empty()};
}

// Sealed, and whoever did not confirm it had time enough to. When the lease is given back this is left to FlushAndSeal, unless
// there is something that has to be written first.
bool FileCore::SealOverdueLocked(const ChunkState& chunk) const {
  if (closing_ && !chunk.has_unsent()) return false;
  if (chunk.sealing_since_ns == 0 || chunk.writer == nullptr || !chunk.writer->sealed()) return false;
  return chunk.writer->seal_settled() || Now() - chunk.sealing_since_ns >= kSealGraceNanos;
}

void FileCore::FinishIdleSealLocked(ChunkState& chunk) {
  const ChunkWriter& writer = *chunk.writer;
  SealedChunk seal{.chunk = chunk.place.chunk,
                   .stamp = writer.seal_stamp(),
                   .carriers = writer.carriers()};
  // Without what was written since and waits for the chunk to be opened again.
  const uint64_t kept = chunk.log.done_bytes();
  chunk.log.Release(writer.last_seq());
  retained_bytes_ -= kept - chunk.log.done_bytes();
  seal.length = chunk.sealed_length;
  NoteSealedLocked(chunk, &seal);
  chunk.sealed_durable = writer.durable_seq() >= writer.last_seq();
  chunk.place.sealed = seal.stamp;
  chunk.place.length = seal.length;
  chunk.place.carriers = seal.carriers;
  chunk.writer.reset();
  chunk.sealing_since_ns = 0;
  chunk.last_done_seq = 0;
  chunk.committed_durable_seq = 0;
  chunk.activated = false;
  chunk.retry_at_ns = 0;
  chunk.broken.clear();
  chunk.heard_ns.clear();
  chunk.held_sends.clear();
  commit_.seals.push_back(std::move(seal));
  if (chunk.log.empty() && chunk.dirty.empty()) {
    chunk.waiting_since_ns = 0;
    active_.erase(chunk.index);
  } else {
    PumpLocked(chunk);
  }
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
      NoteSealedLocked(*chunk, &seal);
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
        return chunk->writer->SealError();
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
