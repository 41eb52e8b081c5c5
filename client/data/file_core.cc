#include "client/data/file_core.h"

#include <algorithm>
#include <chrono>
#include <string>
#include <utility>

#include "client/interrupt.h"
#include "common/check.h"
#include "common/checksum.h"

namespace cairn::client {
namespace {
constexpr int64_t kPollNanos = 50 * kNanosPerMilli;
constexpr int64_t kRetryNanos = 100 * kNanosPerMilli;
constexpr int64_t kTickMs = 50;
}  // namespace

FileCore::FileCore(const FileDataContext& context, InodeId inode, uint64_t chunk_bytes)
    : context_(context),
      inode_(inode),
      chunk_bytes_(chunk_bytes),
      pool_(&context.data_client->pool()),
      read_ahead_(context.options.read_ahead_bytes) {
  CAIRN_CHECK(chunk_bytes_ >= kBlockBytes && (chunk_bytes_ & (chunk_bytes_ - 1)) == 0,
              "chunks have a size that is a power of two");
}

void FileCore::AttachRead(uint64_t size, std::vector<ChunkPlace> known) {
  std::lock_guard lock(mu_);
  ResetLocked();
  mode_ = Mode::kRead;
  SetRecordedSizeLocked(size);
  for (ChunkPlace& place : known) InstallPlaceLocked(std::move(place));
  changed_.notify_all();
}

void FileCore::AttachWrite(Epoch lease, uint64_t size, std::vector<ChunkPlace> known) {
  std::lock_guard lock(mu_);
  ResetLocked();
  mode_ = Mode::kWrite;
  lease_ = lease;
  SetRecordedSizeLocked(size);
  uncut_size_ = size % chunk_bytes_ == 0 ? 0 : size;
  for (ChunkPlace& place : known) InstallPlaceLocked(std::move(place));
  changed_.notify_all();
}

void FileCore::Detach() {
  std::lock_guard lock(mu_);
  if (dirty_bytes_ != 0 || std::any_of(active_.begin(), active_.end(),
                                       [&](uint64_t index) { return !chunks_.at(index)->clean(); })) {
    ++write_error_.number;
    write_error_.status =
        Status(StatusCode::kIoError, "the lease was lost with " + std::to_string(dirty_bytes_) +
                                         " buffered bytes that the write quorum had not confirmed");
  }
  ResetLocked();
  changed_.notify_all();
}

void FileCore::Shutdown() {
  Lock lock(mu_);
  ResetLocked();
  shut_down_ = true;
  changed_.notify_all();
  changed_.wait(lock, [&] { return background_ == 0; });
}

uint64_t FileCore::Size() const {
  std::lock_guard lock(mu_);
  return size_;
}

TimeSpec FileCore::Mtime() const {
  std::lock_guard lock(mu_);
  return mtime_;
}

uint64_t FileCore::DirtyBytes() const {
  std::lock_guard lock(mu_);
  return dirty_bytes_;
}

WriteError FileCore::LastWriteError() const {
  std::lock_guard lock(mu_);
  return write_error_;
}

PendingCommit FileCore::TakeCommit() {
  std::lock_guard lock(mu_);
  PendingCommit commit = std::exchange(commit_, {});
  // The master is not told of a length whose bytes may still be lost: others would read zeros there.
  const bool clean =
      std::all_of(active_.begin(), active_.end(), [&](uint64_t index) { return chunks_.at(index)->clean(); });
  const uint64_t size = clean ? size_ : std::min(size_, confirmed_size_);
  if (size != reported_size_) {
    commit.size = size;
    reported_size_ = size;
  }
  if (std::exchange(mtime_changed_, false)) commit.mtime = mtime_;
  return commit;
}

void FileCore::RestoreCommit(PendingCommit commit) {
  std::lock_guard lock(mu_);
  // The present size and time are at least as new as those that are put back.
  if (commit.size) reported_size_.reset();
  mtime_changed_ = mtime_changed_ || commit.mtime.has_value();
  commit_.seals.insert(commit_.seals.begin(), commit.seals.begin(), commit.seals.end());
  commit_.durable.insert(commit_.durable.begin(), commit.durable.begin(), commit.durable.end());
}

void FileCore::Discard() {
  std::lock_guard lock(mu_);
  closing_ = true;
  for (auto& [index, chunk] : chunks_) DropDirtyLocked(*chunk);
  active_.clear();
  reported_size_ = size_;
  mtime_changed_ = false;
  changed_.notify_all();
}

void FileCore::OnReconfigured(ChunkPlace place) {
  std::lock_guard lock(mu_);
  if (mode_ == Mode::kDetached) return;
  auto found = chunks_.find(place.index);
  if (found == chunks_.end()) return;
  ChunkState& chunk = *found->second;
  if (chunk.writer != nullptr) {
    if (chunk.place.chunk == place.chunk) ApplyConfigurationLocked(chunk, place);
  } else {
    InstallPlaceLocked(std::move(place));
  }
  changed_.notify_all();
}

ChunkState& FileCore::ChunkLocked(uint64_t index) {
  std::unique_ptr<ChunkState>& slot = chunks_[index];
  if (slot == nullptr) slot = std::make_unique<ChunkState>(index, pool_);
  return *slot;
}

ChunkState* FileCore::FindByIdLocked(ChunkId chunk) {
  auto found = index_of_.find(chunk);
  if (found == index_of_.end()) return nullptr;
  auto state = chunks_.find(found->second);
  return state == chunks_.end() ? nullptr : state->second.get();
}

// What the master says about a chunk that is not being written here.
void FileCore::InstallPlaceLocked(ChunkPlace place) {
  ChunkState& chunk = ChunkLocked(place.index);
  if (chunk.writer != nullptr) return;  // this client knows better
  // An answer from before the master heard of the seal: in that epoch nothing can be written any more.
  const bool outdated = !place.sealed.epoch && chunk.place.chunk == place.chunk && chunk.place.sealed.epoch &&
                        chunk.place.sealed.epoch == place.config.epoch;
  if (outdated) return;
  if (chunk.place.chunk && chunk.place.chunk != place.chunk) index_of_.erase(chunk.place.chunk);
  if (place.chunk) index_of_[place.chunk] = place.index;
  const Stamp held = place.sealed.epoch ? place.sealed : place.config.base;
  if (chunk.held() != held) chunk.sealed_durable = false;
  CutLocked(chunk, place);
  chunk.length = chunk.log.LengthAfter(place.length);  // writes may have been buffered before it was known
  if (chunk.log.all_done()) chunk.allocated = place.allocated_bytes;
  chunk.allocated = std::max(chunk.allocated, place.allocated_bytes);
  chunk.place = std::move(place);
  chunk.place_known = true;
}

// A truncation that was not synced may have been lost with its replicas' power, while the master recorded the smaller size: bytes
// behind it, which nobody could see since, must not come to light when the file grows, nor give it a size when its writer vanishes.
// So the chunk is cut before anything is written to it. Likewise one that this client had sealed under its lease, and that went back.
void FileCore::CutLocked(ChunkState& chunk, const ChunkPlace& place) {
  if (mode_ != Mode::kWrite) return;
  std::optional<uint64_t> length;
  if (uncut_size_ != 0 && uncut_size_ / chunk_bytes_ == place.index) {
    length = uncut_size_ % chunk_bytes_;
    uncut_size_ = 0;
  } else if (chunk.place_known && chunk.place.chunk == place.chunk && chunk.place.sealed.epoch && place.sealed.epoch) {
    length = chunk.place.length;
  }
  if (!length || place.length <= *length) return;
  chunk.log.PushFront({.kind = replication::MutationKind::kTruncate, .offset = *length, .number = next_number_++});
  if (chunk.waiting_since_ns == 0) chunk.waiting_since_ns = Now();
  active_.insert(chunk.index);
  ArmTickLocked();
}

void FileCore::InstallLayoutLocked(uint64_t first, uint64_t count, const std::vector<ChunkPlace>& places) {
  for (const ChunkPlace& place : places) InstallPlaceLocked(place);
  for (uint64_t index = first; index < first + count; ++index) {  // what the answer leaves out is a hole
    ChunkState& chunk = ChunkLocked(index);
    if (chunk.place_known &&
        std::none_of(places.begin(), places.end(), [&](const ChunkPlace& p) { return p.index == index; }) &&
        chunk.writer == nullptr && !chunk.writable_under(lease_)) {
      chunk.place_known = false;
    }
    if (!chunk.place_known) {
      chunk.place = {.index = index};
      chunk.place_known = true;
      chunk.length = chunk.log.LengthAfter(0);
    }
  }
}

// Takes the chunk out of writing and forgets what was buffered for it.
void FileCore::DropDirtyLocked(ChunkState& chunk) {
  in_flight_bytes_ -= chunk.log.in_flight_bytes();
  retained_bytes_ -= chunk.log.done_bytes();
  ReleaseBudgetLocked(chunk.dirty.TruncateTo(0) + chunk.log.undone_bytes());
  chunk.log = MutationLog();
  chunk.held_sends.clear();
  chunk.writer.reset();
  chunk.waiting_since_ns = 0;
  chunk.sealing_since_ns = 0;
  chunk.activated = false;
}

void FileCore::ResetLocked() {
  for (auto& [index, chunk] : chunks_) DropDirtyLocked(*chunk);
  context_.clean_budget->Release(cache_.Clear());
  chunks_.clear();
  index_of_.clear();
  active_.clear();
  read_ahead_.Reset();
  mode_ = Mode::kDetached;
  lease_ = {};
  lost_ = Status::Ok();
  closing_ = false;
  SetRecordedSizeLocked(size_);
  mtime_changed_ = false;
  commit_ = {};
  announces_ = 0;
  shrinking_from_ = kNoIndex;
  ++attachment_;
}

void FileCore::SetRecordedSizeLocked(uint64_t size) {
  size_ = size;
  confirmed_size_ = size;
  reported_size_ = size;
}

// The master or a quorum of replicas said that this client may not write any more. Everything waits for the
// owner to Detach.
void FileCore::LoseLeaseLocked(const Status& why) {
  if (lost_.ok()) lost_ = Status(StatusCode::kLeaseLost, why.message());
  changed_.notify_all();
}

Status FileCore::CheckWritableLocked() const {
  if (shut_down_) return Status(StatusCode::kCancelled, "the client is shutting down");
  if (mode_ != Mode::kWrite) return Status(StatusCode::kLeaseLost, "the write lease is not held");
  if (!lost_.ok()) return lost_;
  if (closing_) return Status(StatusCode::kLeaseLost, "the write lease is being given back");
  return Status::Ok();
}

void FileCore::ReleaseBudgetLocked(uint64_t bytes) {
  if (bytes == 0) return;
  dirty_bytes_ -= bytes;
  context_.dirty_budget->Release(bytes);
}

bool FileCore::WaitLocked(Lock& lock, int64_t deadline_ns) {
  const int64_t wait_ns = std::clamp<int64_t>(deadline_ns - Now(), 0, kPollNanos);
  changed_.wait_for(lock, std::chrono::nanoseconds(wait_ns));
  lock.unlock();
  const bool interrupted = ThreadInterrupted();
  lock.lock();
  return interrupted;
}

bool FileCore::PauseLocked(Lock& lock, int64_t deadline_ns) {
  const int64_t until = std::min(deadline_ns, Now() + kRetryNanos);
  const uint64_t attachment = attachment_;
  while (Now() < until && !shut_down_ && lost_.ok() && attachment == attachment_) {
    if (WaitLocked(lock, until)) return true;
  }
  return false;
}

void FileCore::RunLocked(std::function<void()> work) {
  if (shut_down_) return;
  ++background_;
  context_.scheduler->Run([self = shared_from_this(), work = std::move(work)] {
    work();
    std::lock_guard lock(self->mu_);
    --self->background_;
    self->changed_.notify_all();
  });
}

void FileCore::ArmTickLocked() {
  if (tick_armed_ || shut_down_ || active_.empty()) return;
  tick_armed_ = true;
  context_.scheduler->RunAfter(kTickMs, [weak = weak_from_this()] {
    if (auto self = weak.lock()) self->Tick();
  });
}

void FileCore::Tick() {
  std::lock_guard lock(mu_);
  tick_armed_ = false;
  if (shut_down_ || mode_ != Mode::kWrite) return;
  const int64_t now = Now();
  if (now - last_write_ns_ >= kTickMs * kNanosPerMilli) LogAllLocked();  // do not hold data for long
  const std::vector<uint64_t> active(active_.begin(), active_.end());
  for (uint64_t index : active) {
    auto found = chunks_.find(index);
    if (found != chunks_.end()) TickChunkLocked(*found->second, now);
  }
  ArmTickLocked();
}

}  // namespace cairn::client
