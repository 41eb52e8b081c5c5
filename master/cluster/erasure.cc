#include "master/cluster/erasure.h"

#include "common/log.h"
#include "master/core/core.h"
#include "master/state/chunk_queries.h"

namespace cairn::master {
namespace {

constexpr size_t kCapacity = 200'000;
constexpr size_t kLooksPerTick = 4000;
constexpr size_t kMaxRunning = 4096;
constexpr size_t kPage = 5000;
constexpr int64_t kRetryNanos = 5 * kNanosPerSecond;

}  // namespace

void Erasure::Add(ChunkId chunk, uint64_t log_index) {
  if (const auto queued = queue_.find(chunk); queued != queue_.end()) {
    // Whoever reports it now may have been down when the commands under way were sent: another round.
    if (queued->second.running > 0) queued->second.failed = true;
    return;
  }
  if (queue_.size() >= kCapacity) {
    overflow_ = true;
    return;
  }
  queue_[chunk].log_index = log_index;
}

void Erasure::Tick() {
  if (overflow_ && queue_.size() < kCapacity / 2) {
    overflow_ = false;
    ChunkId after;
    while (queue_.size() < kCapacity) {
      const auto page = DeletingChunks(core_.txn(), after, kPage);
      for (ChunkId chunk : page) Add(chunk, core_.log_index());
      if (page.size() < kPage) break;
      after = page.back();
      if (queue_.size() >= kCapacity) overflow_ = true;
    }
  }
  const uint64_t durable = core_.durable_index();
  auto it = queue_.upper_bound(cursor_);
  for (size_t looks = 0; looks < kLooksPerTick && looks <= queue_.size() && !queue_.empty(); ++looks) {
    if (it == queue_.end()) it = queue_.begin();
    if (running_ >= kMaxRunning) break;
    Entry& entry = it->second;
    cursor_ = it->first;
    const bool waits = core_.options().rules.Hold(ServiceRule::kEraseAfterDurableDelete);
    if (entry.running > 0 || (entry.log_index > durable && waits)) {
      ++it;
      continue;
    }
    if (entry.due_ns == 0) entry.due_ns = core_.now() + core_.options().delete_grace_ms * kNanosPerMilli;
    if ((entry.due_ns > core_.now() && waits) || Send(it->first, entry)) {
      ++it;
    } else {
      it = queue_.erase(it);
    }
  }
}

bool Erasure::Send(ChunkId chunk, Entry& entry) {
  auto record = ChunkRecordOf(core_.txn(), chunk);
  if (!record || record->state() != proto::CHUNK_DELETING) return false;
  const Epoch epoch = core_.ids().NextEpoch();
  for (uint32_t member : record->members()) {
    const ServerId server(member);
    if (!core_.servers().IsUp(server)) continue;  // its next report brings the chunk back here
    ++entry.running;
    ++running_;
    proto::ChunkCommand command;
    command.set_chunk(chunk.value());
    command.mutable_erase()->set_epoch(epoch.value());
    core_.commander().Send(server, std::move(command),
                           core_.now() + core_.options().command_timeout_ms * kNanosPerMilli,
                           [this, chunk, server](const CommandOutcome& outcome) {
                             --running_;
                             auto it = queue_.find(chunk);
                             CAIRN_CHECK(it != queue_.end());
                             Entry& mine = it->second;
                             --mine.running;
                             if (outcome.status.ok() || outcome.status.code() == StatusCode::kUnknownChunk) {
                               proto::LogCommand done;
                               done.mutable_chunk_erased()->set_chunk(chunk.value());
                               done.mutable_chunk_erased()->set_server(server.value());
                               core_.Apply(done);
                             } else {
                               mine.failed = true;
                               CAIRN_LOG(Warning, "{} did not erase chunk {}: {}", ToString(server),
                                         ToString(chunk), outcome.status.ToString());
                             }
                             if (mine.running > 0) return;
                             if (mine.failed) {
                               mine.failed = false;
                               mine.due_ns = core_.now() + kRetryNanos;
                             } else {
                               queue_.erase(it);
                             }
                           });
  }
  return entry.running > 0;
}

}  // namespace cairn::master
