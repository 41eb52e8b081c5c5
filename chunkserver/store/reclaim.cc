// Giving space back: mostly dead segments are emptied and removed, the others get holes where large parts are
// dead.
//
// The rule that keeps this safe: bytes go only after the index on disk no longer refers to them (a
// checkpoint, which syncs the superseding data first) and no reader does. The rule that keeps a rebuild from
// the segments possible: before a segment goes, whatever only its records say is said again by new ones -
// live blocks (kMove), the newest state of a chunk, what was dropped (kMap), what was erased while older
// records of it remain.
#include <sys/stat.h>

#include <algorithm>

#include "chunkserver/store/log_chunk_store.h"
#include "common/check.h"
#include "common/log.h"

namespace cairn::chunkserver {
namespace {

constexpr uint64_t kMaxMovedPerCall = 128ull << 20;
constexpr uint64_t kMinActiveBytes = 1ull << 20;  // a smaller active segment is not worth closing
constexpr size_t kQuarantinesPerCall = 4096;
constexpr uint64_t kMovePartBytes = 1ull << 20;
// The file system is asked again for room after so many moved bytes.
constexpr uint64_t kMoveGrant = 4 * kMovePartBytes;
constexpr uint64_t kMoveMargin = 64 << 10;
constexpr uint64_t kLookAgainAfter = 16;  // segments

Result<uint64_t> BytesOnDisk(const SegmentFile& file) {
  struct stat stat {};
  if (fstat(file.fd(), &stat) != 0) return ErrnoStatus(errno, "stat " + file.path());
  return static_cast<uint64_t>(stat.st_blocks) * 512;
}

}  // namespace

Result<uint64_t> LogChunkStore::Reclaim() {
  std::lock_guard one(checkpoint_mu_);
  {
    std::lock_guard lock(mu_);
    CAIRN_RETURN_IF_ERROR(CheckWritable());
    moved_since_asked_ = moved_bytes_ = 0;
  }
  if (const Status ended = EndQuarantines(); !ended.ok() && ended.code() != StatusCode::kNoSpace) return ended;
  CAIRN_ASSIGN_OR_RETURN(Victims victims, ChooseVictims());
  MakeRoomForReclaim(!victims.empty.empty() || !victims.punch.empty());
  if (victims.empty.empty() && victims.punch.empty()) {
    TakeSpareSpace();
    return uint64_t{0};
  }

  Status stopped;
  CAIRN_ASSIGN_OR_RETURN(const std::vector<uint32_t> emptied, EvacuateAll(&victims, &stopped));
  std::vector<std::vector<std::pair<uint64_t, uint64_t>>> holes;
  for (const Punch& victim : victims.punch) {
    CAIRN_ASSIGN_OR_RETURN(holes.emplace_back(), DeadRanges(victim.number));
  }
  CAIRN_RETURN_IF_ERROR(CheckpointLocked());
  pins_.WaitForEarlier();

  CAIRN_ASSIGN_OR_RETURN(uint64_t given_back, RemoveEmptied(emptied));
  for (size_t i = 0; i < holes.size(); ++i) {
    const auto [number, live] = victims.punch[i];
    CAIRN_ASSIGN_OR_RETURN(const auto file, log_->File(number));
    CAIRN_ASSIGN_OR_RETURN(const uint64_t before, BytesOnDisk(*file));
    Status punched;
    for (const auto& [begin, end] : holes[i]) {
      punched = log_->Punch(number, begin, end).status();
      if (!punched.ok()) break;
    }
    CAIRN_ASSIGN_OR_RETURN(const uint64_t after, BytesOnDisk(*file));
    given_back += before - std::min(before, after);
    if (punched.code() == StatusCode::kNoSpace) continue;  // a hole takes a block at times: once more, when there is one
    CAIRN_RETURN_IF_ERROR(punched);
    std::lock_guard lock(mu_);
    punched_live_[number] = live;
  }
  TakeSpareSpace();
  given_back -= std::min(given_back, moved_bytes_);
  if (!stopped.ok() && given_back == 0) return stopped;
  return given_back;
}

// On a full disk what is set aside for giving back is used now, if there is something to give back; and what the index holds in memory
// does not stay room that cannot be used. Is even that too little, nothing is moved.
void LogChunkStore::MakeRoomForReclaim(bool something_to_give) {
  uint64_t needed = kMoveGrant;
  bool much_in_memory = false;
  {
    std::lock_guard lock(mu_);
    much_in_memory = index_->memory_bytes() > checkpoint_memory_bytes_ / 4;
    needed += CheckpointNeeds();
  }
  if (!something_to_give && !much_in_memory) return;
  if (!CheckRoomForCheckpoint(needed).ok() && much_in_memory) (void)CheckpointLocked();
}

Result<std::vector<uint32_t>> LogChunkStore::EvacuateAll(Victims* victims, Status* stopped) {
  std::vector<uint32_t> emptied;
  for (const uint32_t number : victims->empty) {
    uint64_t live_bytes = 0;
    bool much_in_memory = false;
    {
      std::lock_guard lock(mu_);
      live_bytes = LiveBytesOf(number);
      much_in_memory = index_->memory_bytes() > checkpoint_memory_bytes_;
    }
    // What is said again fills the index's memory, and changes wait for a checkpoint when that is far over its bound.
    if (much_in_memory) (void)CheckpointLocked();
    // Without room to move more, those where nothing lives may still go.
    if (stopped->ok() || live_bytes == 0) {
      const Status evacuated = Evacuate(number);
      if (evacuated.ok()) {
        emptied.push_back(number);
        continue;
      }
      if (evacuated.code() != StatusCode::kNoSpace) return evacuated;
      *stopped = evacuated;
    }
    // What is dead in the others goes without moving anything.
    std::lock_guard lock(mu_);
    live_bytes = LiveBytesOf(number);
    const auto punched = punched_live_.find(number);
    if (punched == punched_live_.end() || punched->second != live_bytes) victims->punch.push_back({number, live_bytes});
  }
  return emptied;
}

Result<uint64_t> LogChunkStore::RemoveEmptied(const std::vector<uint32_t>& emptied) {
  uint64_t given_back = 0;
  bool removed = false;
  for (const uint32_t number : emptied) {
    CAIRN_ASSIGN_OR_RETURN(const bool empty, IsEmpty(number));
    if (!empty) continue;  // something in it could not be read
    CAIRN_ASSIGN_OR_RETURN(const auto file, log_->File(number));
    CAIRN_ASSIGN_OR_RETURN(const uint64_t allocated, BytesOnDisk(*file));
    std::lock_guard lock(mu_);
    CAIRN_RETURN_IF_ERROR(log_->Remove(number));
    if (Status forgotten = index_->ForgetSegment(number); !forgotten.ok()) return IndexError(forgotten);
    closed_bytes_.erase(number);
    punched_live_.erase(number);
    said_again_.erase(number);
    ++removed_segments_;
    given_back += allocated;
    removed = true;
  }
  if (removed) CAIRN_RETURN_IF_ERROR(log_->SyncDirectory(SyncPoint::kSegmentsRemoved));
  return given_back;
}

Status LogChunkStore::EndQuarantines() {
  auto ended = index_->QuarantinesEndingBy(env_->WallSeconds(), kQuarantinesPerCall);
  if (!ended.ok()) return IndexError(ended.status());
  for (const ChunkId chunk : *ended) {
    std::lock_guard lock(mu_);
    CAIRN_ASSIGN_OR_RETURN(Present present, Load(chunk));
    CAIRN_RETURN_IF_ERROR(MakeAbsent(chunk, &present));
  }
  return Status::Ok();
}

Result<bool> LogChunkStore::IsEmpty(uint32_t number) {
  std::lock_guard lock(mu_);
  for (const auto& [chunk, shadow] : shadows_) {
    if (shadow.segments.contains(number)) return false;
  }
  return LiveBytesOf(number) == 0;
}

uint64_t LogChunkStore::LiveBytesOf(uint32_t number) const {
  const auto live = index_->live_bytes().find(number);
  return live == index_->live_bytes().end() ? 0 : live->second;
}

Result<LogChunkStore::Victims> LogChunkStore::ChooseVictims() {
  CAIRN_ASSIGN_OR_RETURN(const FileSystemSpace space, env_->Space(options_.directory));
  std::lock_guard lock(mu_);
  // Short of space, more is moved for less gain.
  const bool short_of_space = space.free_bytes < 2 * reserve_bytes_;
  // The active segment cannot shrink: when most of it is dead, close it. Short of space an eighth is enough, which
  // is what holes are punched for: a full disk takes no writes that would close it otherwise.
  const LogPosition end = log_->end();
  if (end.offset >= std::min(kMinActiveBytes, options_.segment_bytes / 4) &&
      KeptBytesOf(end.segment) * (short_of_space ? 8 : 2) <= end.offset * (short_of_space ? 7 : 1)) {
    if (const Status rolled = log_->Roll(); !rolled.ok() && rolled.code() != StatusCode::kNoSpace) return rolled;
  }
  struct Candidate {
    uint64_t to_write;
    uint32_t number;
  };
  std::vector<Candidate> mostly_dead;  // oldest first
  Victims victims;
  for (const uint32_t number : log_->Segments()) {
    if (number == log_->end().segment) continue;
    const bool pinned = std::any_of(shadows_.begin(), shadows_.end(),
                                    [&](const auto& item) { return item.second.segments.contains(number); });
    if (pinned) continue;
    uint64_t& size = closed_bytes_[number];
    if (size == 0) {
      CAIRN_ASSIGN_OR_RETURN(const auto file, log_->File(number));
      CAIRN_ASSIGN_OR_RETURN(size, file->Size());
    }
    const uint64_t live = KeptBytesOf(number);
    if (live == 0 || live * (short_of_space ? 4 : 2) < size * (short_of_space ? 3 : 1)) {
      // Besides what lives, what has to be said again is written; how much that is, is known only of what this process said.
      const auto said = said_again_.find(number);
      mostly_dead.push_back({LiveBytesOf(number) + (said == said_again_.end() ? size / 16 : said->second.bytes), number});
      continue;
    }
    const auto punched = punched_live_.find(number);
    const uint64_t live_before = punched == punched_live_.end() ? size : punched->second;
    if (live + size / 8 <= live_before) victims.punch.push_back({number, live});
  }
  // The oldest first: what was erased has to be said again as long as there are older records of it, so emptying a segment full of
  // erasures before those that they are about gains nothing, again and again.
  uint64_t moved = 0;
  for (const Candidate& candidate : mostly_dead) {
    if (moved > 0 && moved + candidate.to_write > kMaxMovedPerCall) break;
    moved += candidate.to_write;
    victims.empty.push_back(candidate.number);
  }
  return victims;
}

Status LogChunkStore::Evacuate(uint32_t number) {
  CAIRN_ASSIGN_OR_RETURN(const auto file, log_->File(number));
  CAIRN_ASSIGN_OR_RETURN(const uint64_t size, file->Size());
  SegmentScanner scanner(file, 0, size);
  for (;;) {
    while (const auto item = scanner.Next()) CAIRN_RETURN_IF_ERROR(EvacuateRecord(item->record, item->begin));
    if (scanner.bad().ok()) return Status::Ok();
    // What a damaged head said is in the index; what lies behind it is found again.
    CAIRN_LOG(Error, "{}: {} is damaged at offset {}: {}", options_.directory, file->path(), scanner.offset(),
              scanner.bad().message());
    if (!scanner.SkipToNextRecord()) return Status::Ok();
  }
}

// Moving must not take what the checkpoint behind it needs: nothing would be given back, and what was moved be kept twice.
Status LogChunkStore::CheckRoomToMove(uint64_t bytes) {
  if (moved_since_asked_ == 0 || moved_since_asked_ + bytes > kMoveGrant) {
    CAIRN_ASSIGN_OR_RETURN(const FileSystemSpace space, env_->Space(options_.directory));
    free_for_moves_ = space.free_bytes;
    moved_since_asked_ = 0;
  }
  // The index grows with each record, too.
  if (free_for_moves_ < moved_since_asked_ + bytes + CheckpointNeeds() + kMoveMargin) {
    return {StatusCode::kNoSpace, options_.directory + " has " + std::to_string(free_for_moves_) +
                                      " bytes free, too few to move what lives in mostly dead segments"};
  }
  moved_since_asked_ += bytes;
  moved_bytes_ += bytes;
  return Status::Ok();
}

Status LogChunkStore::EvacuateRecord(const Record& record, LogPosition begin) {
  if (record.type == RecordType::kSegmentHeader) return Status::Ok();
  std::lock_guard lock(mu_);
  CAIRN_RETURN_IF_ERROR(CheckWritable());
  if (record.type == RecordType::kEpochFloor) {
    if (record.state.promised != index_->epoch_floor()) return Status::Ok();
    Record again;
    again.type = RecordType::kEpochFloor;
    again.state.promised = record.state.promised;
    return SayAgain(&again);
  }
  auto entry = index_->Find(record.chunk);
  if (!entry.ok()) return IndexError(entry.status());
  if (!*entry) return record.type == RecordType::kErase ? CarryErase(record, begin) : Status::Ok();

  CAIRN_RETURN_IF_ERROR(MoveLive(record));
  entry = index_->Find(record.chunk);
  if (!entry.ok()) return IndexError(entry.status());
  const ChunkEntry& now = **entry;
  const bool drops = record.drop_begin < record.drop_end || record.type == RecordType::kMap ||
                     record.type == RecordType::kErase;
  const bool carries_drop = drops && begin >= now.map_at;
  if (!carries_drop && now.last_begin != begin) return Status::Ok();
  Record again;
  again.type = carries_drop ? RecordType::kMap : RecordType::kState;
  again.chunk = record.chunk;
  again.state = now.state;
  again.corrupt = now.corrupt;
  again.first_segment = now.first_segment;
  again.quarantine_until = now.quarantine_until;
  if (carries_drop) {
    auto view = index_->Look(record.chunk, 0, UINT64_MAX);
    if (!view.ok()) return IndexError(view.status());
    again.extents = std::move(view->extents);
  }
  return SayAgain(&again);
}

Status LogChunkStore::SayAgain(Record* record) {
  const uint64_t bytes = SizeOf(*record).total_bytes();
  CAIRN_RETURN_IF_ERROR(CheckRoomToMove(bytes));
  CAIRN_RETURN_IF_ERROR(Commit(record, {}));
  SaidAgain& said = said_again_[log_->end().segment];
  if (said.bytes == 0) said.removed_before = removed_segments_;
  said.bytes += bytes;
  return Status::Ok();
}

// What a segment holds that emptying it would only write once more. Some of what was said again need not be any more when older
// segments are gone, so it is looked at again after a number of those that keeps the writing small beside what is given back.
uint64_t LogChunkStore::KeptBytesOf(uint32_t number) const {
  const auto said = said_again_.find(number);
  const bool holds = said != said_again_.end() &&
                     removed_segments_ - said->second.removed_before < std::max<uint64_t>(kLookAgainAfter, 4 * said_again_.size());
  return LiveBytesOf(number) + (holds ? said->second.bytes : 0);
}

Status LogChunkStore::CarryErase(const Record& record, LogPosition begin) {
  auto grave = index_->FindGrave(record.chunk);
  if (!grave.ok()) return IndexError(grave.status());
  if (!*grave || (*grave)->erased_at != begin) return Status::Ok();
  const std::vector<uint32_t> segments = log_->Segments();
  const auto older = std::lower_bound(segments.begin(), segments.end(), (*grave)->first_segment);
  if (older != segments.end() && *older < begin.segment) {
    Record again;
    again.type = RecordType::kErase;
    again.chunk = record.chunk;
    again.first_segment = (*grave)->first_segment;
    return SayAgain(&again);
  }
  if (Status dropped = index_->DropGrave(record.chunk); !dropped.ok()) return IndexError(dropped);
  return Status::Ok();
}

Result<std::vector<Extent>> LogChunkStore::LiveParts(const Record& record) const {
  std::vector<Extent> parts;
  for (const Extent& extent : record.extents) {
    auto view = index_->Look(record.chunk, extent.block, extent.end_block());
    if (!view.ok()) return IndexError(view.status());
    for (const Extent& present : view->extents) {
      const uint64_t first = std::max(present.block, extent.block);
      const uint64_t end = std::min(present.end_block(), extent.end_block());
      Extent part = present.Slice(first, end);
      // Of this record, and not of another one with the same blocks.
      if (part.at == extent.Slice(first, end).at) parts.push_back(std::move(part));
    }
  }
  return parts;
}

Status LogChunkStore::MoveLive(const Record& record) {
  if (record.payload_bytes == 0) return Status::Ok();
  CAIRN_ASSIGN_OR_RETURN(const std::vector<Extent> parts, LiveParts(record));
  size_t next = 0;
  while (next < parts.size()) {
    CAIRN_ASSIGN_OR_RETURN(const auto entry, index_->Find(record.chunk));
    Record moved;
    moved.type = RecordType::kMove;
    moved.chunk = record.chunk;
    moved.state = entry->state;
    moved.corrupt = entry->corrupt;
    moved.first_segment = entry->first_segment;
    moved.quarantine_until = entry->quarantine_until;
    std::vector<std::vector<std::byte>> data;
    uint64_t bytes = 0;
    while (next < parts.size() && bytes < kMovePartBytes) {
      const Extent& part = parts[next++];
      std::vector<std::byte> buffer(part.bytes);
      if (Status read = log_->Read(part.at, buffer); !read.ok()) {
        CAIRN_LOG(Error, "{}: chunk {} cannot be moved: {}", options_.directory, ToString(record.chunk),
                  read.message());
        moved.corrupt = true;
        continue;  // its segment stays
      }
      for (size_t i = 0; i < part.checksums.size(); ++i) {
        const auto rest = std::span<const std::byte>(buffer).subspan(i * kBlockBytes);
        // A damaged block moves with its old checksum, so that it stays known as damaged.
        if (BlockChecksum(record.chunk, part.block + i,
                          rest.first(std::min<size_t>(rest.size(), kBlockBytes))) != part.checksums[i]) {
          CAIRN_LOG(Error, "{}: block {} of chunk {} is damaged", options_.directory, part.block + i,
                    ToString(record.chunk));
          moved.corrupt = true;
        }
      }
      bytes += part.bytes;
      moved.extents.push_back(part);
      data.push_back(std::move(buffer));
    }
    std::vector<std::span<const std::byte>> payload(data.begin(), data.end());
    CAIRN_RETURN_IF_ERROR(CheckRoomToMove(SizeOf(moved).total_bytes()));
    CAIRN_RETURN_IF_ERROR(Commit(&moved, payload));
  }
  return Status::Ok();
}

Result<std::vector<std::pair<uint64_t, uint64_t>>> LogChunkStore::DeadRanges(uint32_t number) const {
  CAIRN_ASSIGN_OR_RETURN(const auto file, log_->File(number));
  CAIRN_ASSIGN_OR_RETURN(const uint64_t size, file->Size());
  SegmentScanner scanner(file, 0, size);
  std::vector<std::pair<uint64_t, uint64_t>> dead;
  while (const auto item = scanner.Next()) {
    if (item->record.payload_bytes == 0) continue;
    CAIRN_ASSIGN_OR_RETURN(const std::vector<Extent> live, LiveParts(item->record));
    uint64_t from = item->record.extents.front().at.offset;
    const uint64_t end = from + item->record.payload_bytes;
    for (const Extent& part : live) {
      if (part.at.offset > from) dead.emplace_back(from, part.at.offset);
      from = part.at.offset + part.bytes;
    }
    if (from < end) dead.emplace_back(from, end);
  }
  return dead;
}

}  // namespace cairn::chunkserver
