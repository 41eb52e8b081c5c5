// FileCore: what needs the master (announcing chunks, replacing members), reports to it, and time limits.
#include <algorithm>
#include <string>
#include <utility>

#include "client/data/file_core.h"
#include "common/log.h"

namespace cairn::client {
namespace {

using replication::ChunkWriter;
using replication::MemberProblem;

constexpr int64_t kMasterRetryNanos = 300 * kNanosPerMilli;
constexpr uint32_t kAnnounceAhead = 4;

bool EndsLease(StatusCode code) {
  return code == StatusCode::kLeaseLost || code == StatusCode::kSessionUnknown ||
         code == StatusCode::kStaleHandle || code == StatusCode::kFenced || code == StatusCode::kNotFound;
}

// Failures that waiting does not cure within a write timeout.
bool FailsAtOnce(StatusCode code) {
  return code == StatusCode::kNoSpace || code == StatusCode::kQuotaExceeded ||
         code == StatusCode::kReadOnly || code == StatusCode::kFileTooLarge ||
         code == StatusCode::kInvalidArgument;
}

std::vector<MemberFailure> ToFailures(const std::vector<MemberProblem>& problems) {
  std::vector<MemberFailure> failures;
  failures.reserve(problems.size());
  for (const MemberProblem& problem : problems) failures.push_back({problem.server, problem.status});
  return failures;
}

}  // namespace

// Asks the master to place chunk `index` and, for a stream, those that follow. Answers come to OnAnnounced.
void FileCore::AnnounceLocked(uint64_t index) {
  if (index >= shrinking_from_) return;
  ChunkState& chunk = ChunkLocked(index);
  if (chunk.announcing || chunk.writable_under(lease_) || Now() < chunk.retry_at_ns) return;
  auto previous = index == 0 ? chunks_.end() : chunks_.find(index - 1);
  const bool stream = previous != chunks_.end() && previous->second->writer != nullptr;
  uint32_t count = 1;
  chunk.announcing = true;
  // The longer the file already is, the further it probably goes.
  while (stream && count < std::min<uint64_t>(kAnnounceAhead, index) && index + count < shrinking_from_) {
    ChunkState& next = ChunkLocked(index + count);
    if (next.announcing || next.writable_under(lease_)) break;
    next.announcing = true;
    ++count;
  }
  SendAnnounceLocked(index, count);
}

void FileCore::SendAnnounceLocked(uint64_t first, uint32_t count) {
  ++announces_;
  // A chunk that was sealed under this lease is opened again only by a master that knows of the seal.
  RunLocked([self = shared_from_this(), lease = lease_, shrinks = shrinks_, first, count,
             seals = std::exchange(commit_.seals, {})] {
    const Result<std::vector<ChunkPlace>> places =
        self->context_.master->Announce(self->inode_, lease, first, count, seals);
    if (!places.ok() && !seals.empty()) self->RestoreSeals(lease, seals);
    self->OnAnnounced(lease, shrinks, first, count, places);
  });
}

void FileCore::RestoreSeals(Epoch lease, const std::vector<SealedChunk>& seals) {
  std::lock_guard lock(mu_);
  if (shut_down_ || mode_ != Mode::kWrite || lease_ != lease) return;
  commit_.seals.insert(commit_.seals.begin(), seals.begin(), seals.end());
}

void FileCore::OnAnnounced(Epoch lease, uint64_t shrinks, uint64_t first, uint32_t count,
                           const Result<std::vector<ChunkPlace>>& places) {
  std::lock_guard lock(mu_);
  if (shut_down_ || mode_ != Mode::kWrite || lease_ != lease) return;
  --announces_;
  changed_.notify_all();
  if (!places.ok() && EndsLease(places.code())) return LoseLeaseLocked(places.status());
  // The file shrank meanwhile: these chunks may be gone at the master, or may have been placed after it.
  // Asking again settles it: what the master holds open under this lease has to be known here when it is
  // given back.
  if (places.ok() && shrinks != shrinks_) return SendAnnounceLocked(first, count);
  if (places.ok()) {
    for (const ChunkPlace& place : *places) {
      if (place.index >= first && place.index < first + count) InstallPlaceLocked(place);
    }
  }
  for (uint64_t index = first; index < first + count; ++index) {
    auto found = chunks_.find(index);
    if (found == chunks_.end()) continue;  // truncated away meanwhile
    ChunkState& chunk = *found->second;
    chunk.announcing = false;
    if (chunk.writable_under(lease_)) {
      chunk.master_status = Status::Ok();
    } else {
      // Soon, if only the news of a seal has not got there yet.
      chunk.retry_at_ns = Now() + (places.ok() && chunk.place.sealed.epoch ? 0 : kMasterRetryNanos);
      chunk.master_status = places.ok()
                                ? Status(StatusCode::kUnavailable, "the master did not place the chunk")
                                : places.status();
    }
    // Without a place the next tick tries again.
    if (chunk.writable_under(lease_)) PumpLocked(chunk);
  }
}

void FileCore::ReportDropsLocked(ChunkState& chunk) {
  std::vector<MemberProblem> drops = chunk.writer->TakeDrops();
  if (drops.empty()) return RepeatDropsLocked(chunk);
  context_.counters->dropped_members += drops.size();
  chunk.last_drop = drops.back().status.WithContext(ToString(drops.back().server));
  CAIRN_LOG(Warning, "inode {}: chunk {} goes on without {}", ToString(inode_), ToString(chunk.place.chunk),
            replication::DescribeProblems(drops));
  // Below the quorum the request for a replacement names them.
  if (chunk.writer->below_quorum()) return;
  chunk.drops_told_ns = Now();
  ReportReplicasLocked(chunk.place.chunk, chunk.place.config.epoch, drops);
}

// Only the writer knows who is left out of an open chunk: a master that was told while that server was down, or that restarted
// since, would take it for whole until the chunk is sealed, which may be never while it is written all the time.
void FileCore::RepeatDropsLocked(ChunkState& chunk) {
  const int64_t again = context_.options.report_again_ms * kNanosPerMilli;
  if (chunk.drops_told_ns == 0 || Now() - chunk.drops_told_ns < again || chunk.writer->below_quorum()) return;
  const std::vector<MemberProblem> left_out = chunk.writer->dropped();
  chunk.drops_told_ns = left_out.empty() ? 0 : Now();
  if (!left_out.empty()) ReportReplicasLocked(chunk.place.chunk, chunk.place.config.epoch, left_out);
}

void FileCore::ReportReplicasLocked(ChunkId chunk, Epoch epoch, const std::vector<MemberProblem>& problems) {
  RunLocked([self = shared_from_this(), chunk, epoch, failures = ToFailures(problems)] {
    // Only a report: the master also finds out by itself, later.
    (void)self->context_.master->ChunkTrouble(self->inode_, chunk, epoch, failures, false);
  });
}

// Below the write quorum: asks the master for a configuration in which the chunk can go on.
void FileCore::ReconfigureLocked(ChunkState& chunk) {
  if (chunk.reconfiguring || Now() < chunk.retry_at_ns) return;
  chunk.reconfiguring = true;
  RunLocked([self = shared_from_this(), id = chunk.place.chunk, epoch = chunk.writer->config().epoch,
             failures = ToFailures(chunk.writer->dropped())] {
    self->OnReconfigureAnswer(id, epoch,
                              self->context_.master->ChunkTrouble(self->inode_, id, epoch, failures, true));
  });
}

void FileCore::OnReconfigureAnswer(ChunkId id, Epoch asked, const Result<ChunkPlace>& place) {
  std::lock_guard lock(mu_);
  if (shut_down_) return;
  ChunkState* chunk = FindByIdLocked(id);
  if (chunk == nullptr) return;
  chunk->reconfiguring = false;  // also when it was sealed meanwhile after all: its next writer may need help, too
  if (chunk->writer == nullptr) return;
  if (!place.ok()) {
    if (EndsLease(place.code())) return LoseLeaseLocked(place.status());
    chunk->master_status = place.status();
    chunk->retry_at_ns = Now() + kMasterRetryNanos;
  } else if (place->config.epoch <= chunk->writer->config().epoch) {
    chunk->retry_at_ns = Now() + kMasterRetryNanos;  // nothing new (a notice may have been quicker)
  } else {
    ApplyConfigurationLocked(*chunk, *place);
  }
  changed_.notify_all();
}

// The master activated a new configuration for a chunk that is being written: what lies beyond its base is
// sent again.
void FileCore::ApplyConfigurationLocked(ChunkState& chunk, const ChunkPlace& place) {
  if (place.config.epoch <= chunk.writer->config().epoch) return;
  if (const Status applied = chunk.writer->Reconfigure(place.config); !applied.ok()) {
    NoteFailureLocked(chunk, applied);
    return LoseLeaseLocked(applied);
  }
  ++context_.counters->reconfigurations;
  CAIRN_LOG(Info, "inode {}: chunk {} goes on in epoch {} with {} members", ToString(inode_),
            ToString(place.chunk), ToString(place.config.epoch), place.config.members.size());
  const uint64_t index = chunk.index;
  chunk.place = place;
  chunk.place.index = index;
  chunk.broken.clear();
  chunk.heard_ns.clear();
  chunk.held_sends.clear();
  chunk.retry_at_ns = Now() + kMasterRetryNanos;  // not again at once, unless there is progress
  chunk.master_status = Status::Ok();
  chunk.committed_durable_seq = 0;
  chunk.activated = true;
  chunk.sealing_since_ns = 0;
  // The new members get a fair part of the time, once.
  if (chunk.waiting_since_ns != 0 && !std::exchange(chunk.time_extended, true)) {
    const int64_t fair = context_.options.write_timeout_ms * kNanosPerMilli / 2;
    chunk.waiting_since_ns = std::max(chunk.waiting_since_ns, Now() - fair);
  }
  SettleLocked(chunk);
}

void FileCore::TickChunkLocked(ChunkState& chunk, int64_t now) {
  if (chunk.writer == nullptr) {
    PumpLocked(chunk);
  } else {
    for (auto it = chunk.broken.begin(); it != chunk.broken.end();) {
      auto& [server, state] = *it;
      if (state.retrying) {
        ++it;
      } else if (now - state.since_ns > PatienceNanos()) {
        chunk.writer->OnError(server, state.status);
        it = chunk.broken.erase(it);
      } else {
        if (now >= state.retry_at_ns) {
          state.retrying = true;
          chunk.writer->OnConnect(server);
        }
        ++it;
      }
    }
    DropSilentLocked(chunk, now);
    SendAllHeldLocked(chunk);
    SettleLocked(chunk);
    if (SealOverdueLocked(chunk)) FinishIdleSealLocked(chunk);
  }
  if (std::optional<Status> stalled = StalledLocked(chunk, now)) NoteFailureLocked(chunk, *stalled);
}

// A chunk makes no progress: members that owe an answer and say nothing are given up while there is still
// time to find others.
void FileCore::DropSilentLocked(ChunkState& chunk, int64_t now) {
  const int64_t limit = context_.options.write_timeout_ms * kNanosPerMilli / 3;
  if (chunk.log.in_flight() == 0 || chunk.waiting_since_ns == 0 || now - chunk.waiting_since_ns < limit)
    return;
  for (const auto& [server, heard] : chunk.heard_ns) {
    const int64_t silent = now - std::max(heard, chunk.waiting_since_ns);
    if (silent < limit || !chunk.writer->is_live(server)) continue;
    if (chunk.writer->acked_seq(server).value_or(0) > chunk.writer->done_seq()) continue;  // owes nothing
    chunk.writer->OnError(server, Status(StatusCode::kTimeout,
                                         "no answer for " + std::to_string(silent / kNanosPerMilli) + " ms"));
  }
}

// The error of a chunk that could not go on for the write timeout, or that will not.
std::optional<Status> FileCore::StalledLocked(ChunkState& chunk, int64_t now) {
  if (chunk.waiting_since_ns == 0) return std::nullopt;
  // Waits behind other chunks of the file: those tell.
  if (chunk.writer != nullptr && chunk.log.in_flight() == 0) return std::nullopt;
  const bool timed_out = now - chunk.waiting_since_ns >= context_.options.write_timeout_ms * kNanosPerMilli;
  bool full = false;
  if (chunk.writer != nullptr) {
    for (const MemberProblem& problem : chunk.writer->dropped()) {
      full = full || problem.status.code() == StatusCode::kNoSpace;
    }
  }
  // Below the quorum because disks are full, and the master has no replacement: waiting does not help.
  const bool hopeless = FailsAtOnce(chunk.master_status.code()) ||
                        (full && chunk.writer->below_quorum() && !chunk.master_status.ok());
  if (!timed_out && !hopeless) return std::nullopt;
  if (chunk.writer == nullptr) {
    if (!chunk.master_status.ok()) {
      return chunk.master_status.WithContext("write refused: chunk " + std::to_string(chunk.index) +
                                             " could not be opened for writing");
    }
    return Status(StatusCode::kNoQuorum, "write refused: chunk " + std::to_string(chunk.index) +
                                             " could not be opened for writing: no answer from the master");
  }
  Status status = chunk.writer->QuorumError("write");
  StatusCode code = status.code();
  std::string message = status.message();
  if (!chunk.master_status.ok()) {
    message += "; " + chunk.master_status.message();
    if (FailsAtOnce(chunk.master_status.code())) code = chunk.master_status.code();
  }
  if (full) code = StatusCode::kNoSpace;
  if (chunk.writer->dropped().empty() && !chunk.last_drop.ok()) {  // just reconfigured: nobody had time to refuse again
    message += "; before the last change of members: " + chunk.last_drop.message();
    if (chunk.last_drop.code() == StatusCode::kNoSpace) code = StatusCode::kNoSpace;
  }
  return Status(code, std::move(message));
}

void FileCore::NoteFailureLocked(ChunkState& chunk, const Status& status) {
  if (chunk.failed) return;
  chunk.failed = true;
  CAIRN_LOG(Error, "inode {}: {}", ToString(inode_), status.ToString());
  ++write_error_.number;
  write_error_.status = status;
  changed_.notify_all();
}

}  // namespace cairn::client
