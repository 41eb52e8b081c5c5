// Opening, closing, identity, health and checkpoints of the chunk store.
#include "chunkserver/store/log_chunk_store.h"

#include <sys/stat.h>

#include <algorithm>

#include "common/check.h"
#include "common/log.h"

namespace cairn::chunkserver {
namespace {

constexpr uint64_t kCheckpointMemoryBytes = 32ull << 20;
constexpr uint64_t kMinReserve = 64ull << 20;
constexpr uint64_t kMaxReserve = 8ull << 30;
constexpr uint64_t kMaxCheckpointSlack = 8ull << 20;
// Enough for a checkpoint of what is in memory when one is due, with its slack and a little that came since.
constexpr uint64_t kMaxSpare = 56ull << 20;
// Left to Reclaim by deletes.
constexpr uint64_t kMaxRoomToMove = 1ull << 20;
constexpr uint64_t kMinSegmentBytes = 4ull << 20;
constexpr uint64_t kMinCheckpointMemory = 1ull << 20;
// Opening writes a few small files.
constexpr uint64_t kOpenBytes = 4ull << 20;

uint64_t DefaultReserve(uint64_t total_bytes) {
  return std::min(std::clamp(total_bytes / 100, kMinReserve, kMaxReserve), total_bytes / 10);
}

}  // namespace

Result<std::unique_ptr<ChunkStore>> ChunkStore::Open(const StoreOptions& options) {
  auto store = std::make_unique<LogChunkStore>(options);
  CAIRN_RETURN_IF_ERROR(store->Start());
  return std::unique_ptr<ChunkStore>(std::move(store));
}

LogChunkStore::LogChunkStore(const StoreOptions& options)
    : options_(options),
      env_(options.env != nullptr ? options.env : StoreEnv::System()),
      health_([this](const Status& error) { OnDiskFailure(error); }) {}

LogChunkStore::~LogChunkStore() {
  if (!checkpointer_.joinable()) return;  // never started: nothing was changed
  {
    std::lock_guard lock(mu_);
    stopping_ = true;
    wake_checkpointer_.notify_all();
  }
  checkpointer_.join();
  // Without room for a checkpoint the next start reads more segments; what counts is that they are synced.
  const Status checkpoint = Checkpoint();
  const Status synced = checkpoint.ok() ? checkpoint : log_->Sync();
  if (!checkpoint.ok()) {
    CAIRN_LOG(Warning, "{}: closed without a checkpoint: {}", options_.directory, checkpoint.ToString());
  }
  if (!synced.ok() || failed()) return;
  const Status saved = UpdateState([](DiskState* state) { state->clean = true; });
  if (!saved.ok()) {
    CAIRN_LOG(Error, "{}: the clean close could not be recorded: {}", options_.directory, saved.ToString());
  }
}

Status LogChunkStore::PrepareDirectory(bool* fresh) {
  const std::string& directory = options_.directory;
  if (directory.empty()) return {StatusCode::kInvalidArgument, "no data directory given"};
  if (options_.create_if_missing) CAIRN_RETURN_IF_ERROR(MakeDirectories(directory, env_));
  CAIRN_RETURN_IF_ERROR(InspectDirectory(directory, options_.create_if_missing, fresh));
  CAIRN_RETURN_IF_ERROR(lock_.Take(directory));
  // Another process may have made it a store since.
  CAIRN_RETURN_IF_ERROR(InspectDirectory(directory, options_.create_if_missing, fresh));
  CAIRN_RETURN_IF_ERROR(MakeDirectories(directory + "/segments", env_));
  if (*fresh) {
    identity_.disk = Uuid::Random();
    identity_.cluster = options_.cluster;
    identity_.server = options_.server;
    identity_.format_version = kStoreFormatVersion;
    return WriteIdentity(directory, identity_, env_);
  }
  CAIRN_ASSIGN_OR_RETURN(identity_, ReadIdentity(directory));
  if (options_.cluster && identity_.cluster && identity_.cluster != options_.cluster) {
    return {StatusCode::kWrongCluster, "data directory " + directory + " belongs to cluster " +
                                           identity_.cluster.ToString() + ", not to " +
                                           options_.cluster.ToString()};
  }
  if (options_.server && identity_.server && identity_.server != options_.server) {
    return {StatusCode::kWrongCluster, "data directory " + directory + " belongs to chunkserver " +
                                           ToString(identity_.server) + ", not to " +
                                           ToString(options_.server)};
  }
  return Status::Ok();
}

Status LogChunkStore::OpenIndex(bool rebuild) {
  IndexOptions options;
  options.directory = options_.directory + "/index";
  options.cache_bytes = options_.index_cache_bytes;
  if (rebuild) CAIRN_RETURN_IF_ERROR(Index::Destroy(options.directory));
  const bool new_disk = log_->Segments().empty();
  auto opened = Index::Open(options, rebuild || new_disk);
  if (opened.code() == StatusCode::kCorrupt && !rebuild) {
    CAIRN_LOG(Warning, "{}: building the index again from the segments: {}", options_.directory,
              opened.status().message());
    return OpenIndex(true);
  }
  CAIRN_ASSIGN_OR_RETURN(index_, std::move(opened));
  return Status::Ok();
}

Status LogChunkStore::Start() {
  bool fresh = false;
  CAIRN_RETURN_IF_ERROR(PrepareDirectory(&fresh));
  CAIRN_ASSIGN_OR_RETURN(const FileSystemSpace space, env_->Space(options_.directory));
  reserve_bytes_ = options_.reserve_bytes != 0 ? options_.reserve_bytes : DefaultReserve(space.total_bytes);
  const uint64_t spare_bytes = std::min(kMaxSpare, reserve_bytes_ / 2);
  checkpoint_slack_bytes_ = std::min(kMaxCheckpointSlack, reserve_bytes_ / 4);
  room_to_move_bytes_ = std::min(kMaxRoomToMove, reserve_bytes_ / 16);
  checkpoint_memory_bytes_ = std::clamp((spare_bytes - checkpoint_slack_bytes_ - room_to_move_bytes_) / 4 * 3,
                                        kMinCheckpointMemory, kCheckpointMemoryBytes);
  spare_.Init(options_.directory + "/SPARE", spare_bytes);
  if (space.free_bytes < kOpenBytes && spare_.Give()) {
    CAIRN_LOG(Warning, "{}: full: {} bytes free; the space that was kept for this is used to open it", options_.directory,
              space.free_bytes);
  }
  const Uuid boot = env_->BootId();

  DiskState left;
  Stop stop = Stop::kClean;
  if (auto read = ReadState(options_.directory); read.ok()) {
    left = *read;
    if (!left.clean) stop = boot && left.boot == boot ? Stop::kProcessCrash : Stop::kPowerLoss;
  } else if (read.code() == StatusCode::kNotFound || read.code() == StatusCode::kCorrupt) {
    // Without knowing how it was left, nothing that is not provably synced is trusted.
    if (!fresh) stop = Stop::kPowerLoss;
    if (!fresh)
      CAIRN_LOG(Warning, "{}: {}; treated as a loss of power", options_.directory, read.status().message());
  } else {
    return read.status();
  }

  SegmentLogOptions log_options;
  log_options.directory = options_.directory + "/segments";
  log_options.disk = identity_.disk;
  // Space is given back by segments: a small disk needs small ones.
  log_options.segment_bytes = std::min(options_.segment_bytes, std::max(kMinSegmentBytes, space.total_bytes / 32));
  log_options.direct_bytes = options_.direct_bytes;
  log_options.env = env_;
  log_options.health = &health_;
  CAIRN_ASSIGN_OR_RETURN(log_, SegmentLog::Open(log_options));
  if (log_->Segments().empty()) stop = Stop::kClean;

  DiskState state;
  state.boot = boot;
  state.clean = false;
  state.amnesic = left.amnesic || stop == Stop::kPowerLoss;
  state.rebuild_index = left.rebuild_index;
  amnesic_ = state.amnesic;
  CAIRN_RETURN_IF_ERROR(UpdateState([&](DiskState* saved) { *saved = state; }));

  CAIRN_RETURN_IF_ERROR(OpenIndex(state.rebuild_index));
  Status replayed = Replay(stop);
  if (replayed.code() == StatusCode::kCorrupt && !state.rebuild_index) {
    // Damage that showed only while reading the index.
    CAIRN_LOG(Warning, "{}: building the index again from the segments: {}", options_.directory,
              replayed.message());
    index_.reset();
    CAIRN_RETURN_IF_ERROR(OpenIndex(true));
    replayed = Replay(stop);
  }
  CAIRN_RETURN_IF_ERROR(replayed);
  if (state.rebuild_index || amnesic_ != state.amnesic) {
    // The checkpoint makes the rebuilt index durable before the order to rebuild it is taken back.
    // Without room for it the next start builds the index once more.
    const Status durable = Checkpoint();
    if (!durable.ok() && durable.code() != StatusCode::kNoSpace) return durable;
    CAIRN_RETURN_IF_ERROR(UpdateState([&](DiskState* saved) {
      if (durable.ok()) saved->rebuild_index = false;
      saved->amnesic = amnesic_;
    }));
  }

  if (amnesic_) {
    CAIRN_LOG(
        Warning,
        "{}: the disk may have forgotten changes that were applied before a loss of power or an I/O error; "
        "the master is told",
        options_.directory);
  }
  TakeSpareSpace();
  checkpointer_ = std::thread([this] { RunCheckpoints(); });
  return Status::Ok();
}

void LogChunkStore::TakeSpareSpace() {
  const uint64_t missing = spare_.missing_bytes();
  if (missing == 0) return;
  const auto space = env_->Space(options_.directory);
  if (!space.ok() || space->free_bytes < missing + reserve_bytes_ / 2) return;  // tried again by the next Reclaim
  if (const Status taken = spare_.Take(); !taken.ok()) {
    CAIRN_LOG(Warning, "{}: no space set aside: {}", options_.directory, taken.ToString());
  }
}

Status LogChunkStore::UpdateState(const std::function<void(DiskState*)>& change) {
  std::lock_guard lock(state_mu_);
  DiskState next = disk_state_;
  change(&next);
  Status written = WriteState(options_.directory, next, env_);
  if (written.code() == StatusCode::kNoSpace && spare_.Give()) written = WriteState(options_.directory, next, env_);
  CAIRN_RETURN_IF_ERROR(written);
  disk_state_ = next;
  return Status::Ok();
}

void LogChunkStore::OnDiskFailure(const Status& error) {
  CAIRN_LOG(Error, "{}: the disk failed: {}", options_.directory, error.message());
  // The page cache may hold less than was acknowledged; the next start must know, if the disk still takes the
  // note.
  const Status saved = UpdateState([&](DiskState* state) {
    state->amnesic = true;
    amnesic_ = true;
  });
  if (!saved.ok()) {
    CAIRN_LOG(Error, "{}: the failure could not be recorded: {}", options_.directory, saved.ToString());
  }
}

Status LogChunkStore::IndexError(const Status& error) const {
  auto* self = const_cast<LogChunkStore*>(this);
  if (error.code() == StatusCode::kCorrupt) {
    {
      std::lock_guard lock(self->state_mu_);
      self->disk_state_.rebuild_index = true;  // OnDiskFailure saves it
    }
    return self->health_.Fail({StatusCode::kIoError, error.message() + "; a restart builds the index again"});
  }
  return self->health_.Fail(error);
}

Status LogChunkStore::SetIdentity(Uuid cluster, Uuid server_uuid, ServerId server) {
  std::lock_guard lock(mu_);
  CAIRN_RETURN_IF_ERROR(CheckWritable());
  if (identity_.cluster && identity_.cluster != cluster) {
    return {StatusCode::kWrongCluster, "data directory " + options_.directory + " belongs to cluster " +
                                           identity_.cluster.ToString() + ", not to " + cluster.ToString()};
  }
  if ((identity_.server && identity_.server != server) ||
      (identity_.server_uuid && identity_.server_uuid != server_uuid)) {
    return {StatusCode::kWrongCluster, "data directory " + options_.directory + " belongs to chunkserver " +
                                           ToString(identity_.server) + ", not to " + ToString(server)};
  }
  DiskIdentity next = identity_;
  next.cluster = cluster;
  next.server_uuid = server_uuid;
  next.server = server;
  CAIRN_RETURN_IF_ERROR(WriteIdentity(options_.directory, next, env_));
  identity_ = next;
  return Status::Ok();
}

Status LogChunkStore::SetAmnesic() {
  return UpdateState([this](DiskState* state) {
    state->amnesic = true;
    amnesic_ = true;
  });
}

Epoch LogChunkStore::epoch_floor() const { return index_->epoch_floor(); }

Status LogChunkStore::SetEpochFloor(Epoch floor) {
  {
    std::lock_guard lock(mu_);
    CAIRN_RETURN_IF_ERROR(CheckWritable());
    if (floor > index_->epoch_floor()) {
      Record record;
      record.type = RecordType::kEpochFloor;
      record.state.promised = floor;
      CAIRN_RETURN_IF_ERROR(Commit(&record, {}));
    }
  }
  CAIRN_RETURN_IF_ERROR(Flush());
  // A failure meanwhile makes the disk amnesic anew; that must not be taken back.
  CAIRN_RETURN_IF_ERROR(UpdateState([&](DiskState* state) {
    if (health_.failed()) return;
    state->amnesic = false;
    amnesic_ = false;
  }));
  return CheckWritable();
}

StoreUsage LogChunkStore::Usage() const {
  StoreUsage usage;
  if (const auto space = env_->Space(options_.directory); space.ok()) {
    usage.total_bytes = space->total_bytes;
    usage.free_bytes = space->free_bytes;
  }
  usage.reserve_bytes = reserve_bytes_;
  std::lock_guard lock(mu_);
  usage.used_bytes = index_->used_bytes();
  usage.chunks = index_->chunks();
  return usage;
}

Status LogChunkStore::Flush() { return log_->Sync(); }

Status LogChunkStore::Checkpoint() {
  std::lock_guard one(checkpoint_mu_);
  return CheckpointLocked();
}

Status LogChunkStore::CheckpointLocked() {
  uint64_t needed = 0;
  {
    std::lock_guard lock(mu_);
    if (health_.failed()) return health_.failure();
    if (log_->end() == index_->checkpoint() && index_->memory_bytes() == 0) return Status::Ok();
    needed = CheckpointNeeds();
  }
  CAIRN_RETURN_IF_ERROR(CheckRoomForCheckpoint(needed));
  CAIRN_RETURN_IF_ERROR(log_->Sync());  // most of it without holding up changes
  {
    std::lock_guard lock(mu_);
    CAIRN_RETURN_IF_ERROR(log_->Sync());
    if (Status frozen = index_->Freeze(log_->end()); !frozen.ok()) return IndexError(frozen);
    log_bytes_since_checkpoint_ = 0;
    checkpoint_overdue_ = false;
  }
  if (Status done = index_->FinishCheckpoint(); !done.ok()) return IndexError(done);
  return Status::Ok();
}

void LogChunkStore::WantCheckpoint() {
  if (checkpoint_wanted_) return;
  checkpoint_wanted_ = true;
  wake_checkpointer_.notify_all();
}

uint64_t LogChunkStore::CheckpointNeeds() const {
  return index_->memory_bytes() + checkpoint_slack_bytes_;
}

// RocksDB does not survive a full disk well: rather keep the index in memory a while longer.
Status LogChunkStore::CheckRoomForCheckpoint(uint64_t needed) {
  CAIRN_ASSIGN_OR_RETURN(FileSystemSpace space, env_->Space(options_.directory));
  if (space.free_bytes >= needed) return Status::Ok();
  if (spare_.Give()) {
    CAIRN_LOG(Warning, "{}: full: {} bytes free; the space that was kept for this is used to give back what is dead",
              options_.directory, space.free_bytes);
    CAIRN_ASSIGN_OR_RETURN(space, env_->Space(options_.directory));
    if (space.free_bytes >= needed) return Status::Ok();
  }
  return {StatusCode::kNoSpace,
          options_.directory + " has " + std::to_string(space.free_bytes) + " bytes free, but writing the index takes " +
              std::to_string(needed) + ": make room on this file system (somebody else uses it, too), or add space"};
}

void LogChunkStore::RunCheckpoints() {
  for (;;) {
    {
      std::unique_lock lock(mu_);
      wake_checkpointer_.wait(lock, [&] { return checkpoint_wanted_ || stopping_; });
      if (stopping_) return;
      checkpoint_wanted_ = false;
    }
    if (const Status done = Checkpoint(); !done.ok()) {
      CAIRN_LOG(Warning, "{}: no checkpoint: {}", options_.directory, done.ToString());
    }
  }
}

Status LogChunkStore::Commit(Record* record, std::span<const std::span<const std::byte>> payload) {
  SegmentLog::Place place;
  Status appended = log_->Append(record, payload, &place);
  // Changes without data are what makes room: deletes, above all.
  if (appended.code() == StatusCode::kNoSpace && payload.empty() && spare_.Give()) {
    CAIRN_LOG(Warning, "{}: full: the space that was kept for deletes is used", options_.directory);
    appended = log_->Append(record, payload, &place);
    WantCheckpoint();
  }
  CAIRN_RETURN_IF_ERROR(appended);
  // The record is in the log: if the index cannot follow, only replay can bring them together again.
  if (Status applied = index_->Apply(*record, place); !applied.ok()) return IndexError(applied);
  const uint64_t bytes = SizeOf(*record).total_bytes();
  log_bytes_since_checkpoint_ += bytes;
  room_left_bytes_ -= static_cast<int64_t>(bytes);
  if (log_bytes_since_checkpoint_ >= options_.checkpoint_bytes || index_->memory_bytes() >= checkpoint_memory_bytes_) {
    WantCheckpoint();
  }
  if (index_->memory_bytes() >= 4 * checkpoint_memory_bytes_) checkpoint_overdue_ = true;
  return Status::Ok();
}

}  // namespace cairn::chunkserver
