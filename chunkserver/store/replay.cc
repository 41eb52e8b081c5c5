// Bringing the index up to date with the segments after any stop.
//
// After a crash of the process everything appended is still there, except half of the record that was being
// appended: the file ends in it, or zeros follow that were written ahead. After a loss of power the last
// segment may hold anything behind its last sync: records are believed as far as heads and payloads match
// their checksums. Every record names a position that was synced before it; what is damaged below such a
// position is damage and not a torn tail, and is never cut off.
#include <algorithm>
#include <limits>

#include "chunkserver/store/log_chunk_store.h"
#include "common/log.h"

namespace cairn::chunkserver {
namespace {

constexpr uint64_t kReplayMemoryBytes = 32ull << 20;
// Replayed records are synced before the store is used.
constexpr LogPosition kEverything{std::numeric_limits<uint32_t>::max(), std::numeric_limits<uint32_t>::max()};

}  // namespace

Result<LogPosition> LogChunkStore::SyncedMark(uint32_t number, uint32_t offset) const {
  CAIRN_ASSIGN_OR_RETURN(const auto file, log_->File(number));
  CAIRN_ASSIGN_OR_RETURN(const uint64_t size, file->Size());
  SegmentScanner scanner(file, offset, size);
  LogPosition mark;
  do {
    while (const auto item = scanner.Next()) mark = std::max(mark, item->record.synced);
  } while (!scanner.bad().ok() && scanner.SkipToNextRecord());
  return mark;
}

Result<LogPosition> LogChunkStore::LastRecord(uint32_t number, uint32_t offset) const {
  CAIRN_ASSIGN_OR_RETURN(const auto file, log_->File(number));
  CAIRN_ASSIGN_OR_RETURN(const uint64_t size, file->Size());
  SegmentScanner scanner(file, offset, size);
  LogPosition last;
  while (const auto item = scanner.Next()) last = item->begin;
  return last;
}

LogPosition LogChunkStore::EndNamedBySuccessor(uint32_t number) const {
  const auto file = log_->File(number + 1);
  if (!file.ok()) return {};
  const auto size = (*file)->Size();
  if (!size.ok()) return {};
  const auto header = SegmentScanner(*file, 0, *size).Next();
  return header && header->record.synced.segment == number ? header->record.synced : LogPosition{};
}

Status LogChunkStore::Replay(Stop stop) {
  const LogPosition from = index_->checkpoint();
  const std::vector<uint32_t> segments = log_->Segments();
  const bool rebuild = from == LogPosition{} && !segments.empty();
  if (rebuild)
    CAIRN_LOG(Info, "{}: reading {} segments from the beginning", options_.directory, segments.size());
  std::set<ChunkId> damaged;
  LogPosition end;
  for (const uint32_t number : segments) {
    if (number < from.segment) continue;
    CAIRN_RETURN_IF_ERROR(ReplaySegment(number, number == segments.back(), stop, &end, &damaged));
  }
  for (const auto& [number, bytes] : index_->live_bytes()) {
    if (bytes > 0 && !log_->Exists(number)) {
      CAIRN_LOG(Error,
                "{}: segment {} with {} bytes of chunk data is missing: the chunks in it must be synced from "
                "other replicas",
                options_.directory, number, bytes);
    }
  }
  if (end.segment != 0 && end.offset == 0) {
    // Not even the header of the last segment reached the disk: nothing can be in it. The next segment that is begun, in
    // StartAppending, makes that durable with its own name.
    CAIRN_RETURN_IF_ERROR(log_->Remove(end.segment));
    end = {};
  }
  const uint32_t newest = index_->live_bytes().empty() ? 0 : index_->live_bytes().rbegin()->first;
  CAIRN_RETURN_IF_ERROR(log_->StartAppending(end, std::max(newest, from.segment)));
  for (const ChunkId chunk : damaged) {
    std::lock_guard lock(mu_);
    CAIRN_ASSIGN_OR_RETURN(const Present present, Load(chunk));
    if (present.visible) CAIRN_RETURN_IF_ERROR(MarkCorruptLocked(chunk, present));
  }
  return Status::Ok();
}

Status LogChunkStore::ReplaySegment(uint32_t number, bool last, Stop stop, LogPosition* end,
                                    std::set<ChunkId>* damaged) {
  const LogPosition from = index_->checkpoint();
  const uint32_t begin = number == from.segment ? from.offset : 0;
  CAIRN_ASSIGN_OR_RETURN(const auto file, log_->File(number));
  CAIRN_ASSIGN_OR_RETURN(const uint64_t size, file->Size());
  if (size < begin) {
    CAIRN_LOG(
        Error,
        "{}: {} was truncated to {} bytes, {} were on disk at the last checkpoint: its chunks must be synced "
        "from other replicas",
        options_.directory, file->path(), size, begin);
    *end = {};
    return Status::Ok();
  }
  // Below the mark everything was synced. All segments but the last are synced whole; after a mere crash of
  // the process so is, in effect, everything.
  LogPosition mark = kEverything;
  if (last && stop == Stop::kPowerLoss) {
    CAIRN_ASSIGN_OR_RETURN(mark, SyncedMark(number, begin));
    mark = std::max(mark, from);
  }
  // The process may have been killed while it appended this one.
  LogPosition half_written;
  if (last && stop == Stop::kProcessCrash) {
    CAIRN_ASSIGN_OR_RETURN(half_written, LastRecord(number, begin));
  }
  // Zeros may stand behind the last record, but also where records were lost.
  const LogPosition known_end = last ? (mark == kEverything ? from : mark) : EndNamedBySuccessor(number);
  SegmentScanner scanner(file, begin, size);
  *end = {number, begin};
  for (;;) {
    auto item = scanner.Next();
    if (!item) {
      if (scanner.bad().ok() && LogPosition{number, scanner.offset()} < known_end) {
        amnesic_ = true;
        CAIRN_LOG(Error, "{}: the records of {} end at offset {}, there were more up to {}",
                  options_.directory, file->path(), scanner.offset(), known_end.offset);
      }
      if (scanner.bad().ok()) break;
      const uint32_t bad_at = scanner.offset();
      const Status why = scanner.bad();
      const bool below_mark = LogPosition{number, bad_at} < mark;
      if (!below_mark || !scanner.SkipToNextRecord()) {
        if (!last || stop == Stop::kClean) {
          amnesic_ = true;
          CAIRN_LOG(Error, "{}: {} is damaged from offset {} on: {}", options_.directory, file->path(),
                    bad_at, why.message());
        } else if (bad_at < size) {
          CAIRN_LOG(Warning, "{}: {} ends in {} bytes that are no whole record, cut off at {}: {}",
                    options_.directory, file->path(), size - bad_at, bad_at, why.message());
        }
        break;
      }
      amnesic_ = true;  // which chunks the lost records changed cannot be known
      CAIRN_LOG(Error, "{}: {} is damaged between offsets {} and {}: {}", options_.directory, file->path(),
                bad_at, scanner.offset(), why.message());
      continue;
    }
    const Record& record = item->record;
    if (record.type == RecordType::kSegmentHeader) {
      if (record.disk != identity_.disk) {
        return {StatusCode::kWrongCluster, file->path() + " belongs to disk " + record.disk.ToString() +
                                               ", not to " + identity_.disk.ToString() +
                                               ": it was copied here; move it away"};
      }
      *end = item->end;
      continue;
    }
    uint64_t bad_block = 0;
    const bool doubtful = (last && stop == Stop::kPowerLoss) || item->begin == half_written;
    if (doubtful && !scanner.PayloadMatches(record, &bad_block)) {
      if (item->begin == half_written && scanner.IsTorn(record, bad_block)) {
        CAIRN_LOG(Warning, "{}: {} is cut off at {}: the process ended while it wrote the record there",
                  options_.directory, file->path(), item->begin.offset);
        break;
      }
      if (item->begin >= mark) {
        CAIRN_LOG(Warning,
                  "{}: {} is cut off at {}: the data of the record there did not reach the disk before the "
                  "loss of power",
                  options_.directory, file->path(), item->begin.offset);
        break;
      }
      CAIRN_LOG(Error, "{}: block {} of chunk {} is damaged in {}", options_.directory, bad_block,
                ToString(record.chunk), file->path());
      damaged->insert(record.chunk);
    }
    CAIRN_RETURN_IF_ERROR(index_->Apply(record, {item->begin, item->end, kEverything, {}}));
    *end = item->end;
    if (!last && index_->memory_bytes() > kReplayMemoryBytes) {
      CAIRN_RETURN_IF_ERROR(index_->Freeze(item->end));
      CAIRN_RETURN_IF_ERROR(index_->FinishCheckpoint());
    }
  }
  return Status::Ok();
}

}  // namespace cairn::chunkserver
