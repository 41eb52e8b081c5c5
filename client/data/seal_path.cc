// FileCore: closing chunks, when the lease goes back and before that.
//
// A replica refuses an epoch that it has sealed. A chunk that is sealed while the lease stays is therefore announced again before
// its next write, and the master, which is told of the seal first, opens it in a fresh epoch.
#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "client/data/file_core.h"
#include "client/data/seal_gatherer.h"

namespace cairn::client {
namespace {

using replication::ChunkWriter;

Status Interruption(const char* what) {
  return Status(StatusCode::kInterrupted, std::string("interrupted while waiting for ") + what);
}

}  // namespace

// Starts the seals that can be started: of chunks whose mutations have all been handed over, whether they are confirmed or not.
void FileCore::StartSealsLocked() {
  for (auto& [index, chunk] : chunks_) {
    ChunkWriter* writer = chunk->writer.get();
    if (writer == nullptr || writer->never_begun() || chunk->has_unsent()) continue;
    if (!writer->sealed() && (writer->below_quorum() || writer->fenced_by_quorum())) {
      ReconfigureLocked(*chunk);
    } else if (!writer->sealing()) {
      (void)writer->StartSeal();  // begun: it can only succeed
    }
  }
  SendSealsLocked();
}

// Is all that was written on a quorum, and sealed there? With `settled` also at everybody else from whom an answer is expected soon.
bool FileCore::AllSealedLocked(bool settled) const {
  const int64_t now = Now();
  for (const auto& [index, chunk] : chunks_) {
    if (!chunk->clean()) return false;
    const ChunkWriter* writer = chunk->writer.get();
    if (writer == nullptr || writer->never_begun()) continue;
    if (!writer->sealed()) return false;
    if (!settled) continue;
    for (const ServerId server : writer->seal_missing()) {
      if (!context_.seals->IsLate(server, now)) return false;
    }
  }
  return true;
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
  // Who gives the lease back waits for the last of them, and need not wake at each.
  bool news = !closing_ || !status.ok();
  for (size_t i = 0; i < items.size(); ++i) {
    ChunkState* chunk = FindByIdLocked(items[i].chunk);
    if (chunk == nullptr || chunk->writer == nullptr) continue;
    const Status& item = status.ok() ? replies[i].status : status;
    news = news || !item.ok();
    chunk->writer->OnSealReply(server, items[i].stamp, item);
    if (item.ok()) NoteAllocatedLocked(*chunk, replies[i].allocated_bytes);
    if (chunk->writer->done_seq() != chunk->last_done_seq) SettleLocked(*chunk);
    ReportDropsLocked(*chunk);
    if (chunk->writer->seal_settled() && SealOverdueLocked(*chunk)) FinishIdleSealLocked(*chunk);
  }
  if (news || AllSealedLocked(true)) changed_.notify_all();
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
  return chunk.writer->seal_settled() || Now() - chunk.sealing_since_ns >= context_.options.seal_grace_ms * kNanosPerMilli;
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

// What did not answer in time is not waited for again the next few times: a file that changes hands all the time would be held up
// at each of them.
void FileCore::NoteLateSealsLocked() {
  for (const auto& [index, chunk] : chunks_) {
    if (chunk->writer == nullptr || !chunk->writer->sealed()) continue;
    for (const ServerId server : chunk->writer->seal_missing()) context_.seals->NoteLate(server, Now());
  }
}

// One step at the members: the seals go right behind what is still to be written.
Result<PendingCommit> FileCore::FlushAndSeal(const std::function<void(uint64_t dirty)>& progress) {
  Lock lock(mu_);
  CAIRN_RETURN_IF_ERROR(CheckWritableLocked());
  const uint64_t attachment = attachment_;
  closing_ = true;
  ++flushes_;
  {
    std::optional<net::DataClient::Gather> gather(context_.data_client);
    LogAllLocked();
    PumpWindowLocked();
    StartSealsLocked();
    ++background_;  // Shutdown waits
    lock.unlock();
    gather.reset();  // sends; answers are not held up meanwhile
    lock.lock();
    if (--background_ == 0 && shut_down_) changed_.notify_all();
  }
  const Status sealed = WaitSealedLocked(lock, attachment, progress);
  --flushes_;
  if (attachment != attachment_) return sealed;
  if (!sealed.ok()) {
    // Where replicas may be sealed nothing more is written under this lease.
    const bool begun = std::any_of(chunks_.begin(), chunks_.end(), [](const auto& entry) {
      return entry.second->writer != nullptr && entry.second->writer->sealing();
    });
    if (!begun) closing_ = false;
    return sealed;
  }
  FinishSealsLocked();
  lock.unlock();
  return TakeCommit();
}

Status FileCore::WaitSealedLocked(Lock& lock, uint64_t attachment, const std::function<void(uint64_t)>& progress) {
  int64_t quorum_since = 0;   // everything is sealed at a quorum since then
  int64_t flushed_since = 0;  // everything is written at a quorum since then
  for (;;) {
    if (progress) {  // not between looking and waiting: the answer that comes meanwhile would wake nobody
      const uint64_t dirty = dirty_bytes_;
      lock.unlock();
      progress(dirty);
      lock.lock();
    }
    if (shut_down_) return Status(StatusCode::kCancelled, "the client is shutting down");
    if (attachment != attachment_) return Status(StatusCode::kLeaseLost, "the lease was given back meanwhile");
    if (!lost_.ok()) return lost_;
    const int64_t now = Now();
    for (const uint64_t index : active_) {
      ChunkState& chunk = *chunks_.at(index);
      if (chunk.log.all_done() && chunk.dirty.empty()) continue;
      if (std::optional<Status> stalled = StalledLocked(chunk, now)) {
        NoteFailureLocked(chunk, *stalled);
        return *stalled;
      }
    }
    for (auto& [index, chunk] : chunks_) {  // sealed while idle, and written to again since
      if (SealOverdueLocked(*chunk)) FinishIdleSealLocked(*chunk);
    }
    StartSealsLocked();
    const bool flushed =
        std::all_of(active_.begin(), active_.end(), [&](uint64_t index) { return chunks_.at(index)->clean(); });
    flushed_since = !flushed ? 0 : flushed_since == 0 ? now : flushed_since;
    // A chunk that is being announced belongs to this lease: it has to be given back with it.
    if (announces_ == 0 && AllSealedLocked(true)) return Status::Ok();
    if (announces_ == 0 && AllSealedLocked(false)) {
      if (quorum_since == 0) quorum_since = now;
      if (now - quorum_since >= context_.options.seal_grace_ms * kNanosPerMilli) {
        NoteLateSealsLocked();
        return Status::Ok();
      }
    }
    if (flushed && now - flushed_since >= context_.options.write_timeout_ms * kNanosPerMilli) {
      for (auto& [index, chunk] : chunks_) {
        if (chunk->writer == nullptr || chunk->writer->never_begun() || chunk->writer->sealed()) continue;
        return chunk->writer->SealError();
      }
      return Status::Ok();  // only the master's answer is missing
    }
    if (WaitLocked(lock, now + kNanosPerSecond)) return Interruption("the seal of the file's chunks");
  }
}

}  // namespace cairn::client
