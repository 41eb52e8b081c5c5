#include "chunkserver/store/segment_log.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "common/check.h"

namespace cairn::chunkserver {
namespace {

// Bounds the descriptors of one store; a 16 TB disk has 65,536 segments.
constexpr size_t kMaxOpenFiles = 128;
// Writeback begins early, so that the sync at a segment's end or an fsync finds little left to write.
constexpr uint64_t kWritebackStep = 8ull << 20;
constexpr uint64_t kMaxSegmentBytes = 2ull << 30;  // offsets are 32 bits
constexpr uint64_t kPunchAlignment = 4096;
// Whoever has synced so often, with so little in between, will again.
constexpr int kManySyncs = 4;
constexpr uint32_t kOftenSyncedBytes = 64 << 10;

bool Close(LogPosition synced, LogPosition end) {
  return synced.segment == end.segment && end.offset - synced.offset <= kOftenSyncedBytes;
}

}  // namespace

Result<std::unique_ptr<SegmentLog>> SegmentLog::Open(const SegmentLogOptions& options) {
  SegmentLogOptions bounded = options;
  bounded.segment_bytes = std::clamp<uint64_t>(options.segment_bytes, 64 * 1024, kMaxSegmentBytes);
  std::unique_ptr<SegmentLog> log(new SegmentLog(bounded));
  DIR* dir = opendir(options.directory.c_str());
  if (dir == nullptr) return ErrnoStatus(errno, "open directory " + options.directory);
  while (const dirent* entry = readdir(dir)) {
    if (const auto number = ParseSegmentFileName(entry->d_name)) log->numbers_[*number] = true;
  }
  closedir(dir);
  return log;
}

std::vector<uint32_t> SegmentLog::Segments() const {
  std::lock_guard lock(files_mu_);
  std::vector<uint32_t> numbers;
  for (const auto& [number, present] : numbers_) numbers.push_back(number);
  return numbers;
}

bool SegmentLog::Exists(uint32_t number) const {
  std::lock_guard lock(files_mu_);
  return numbers_.contains(number);
}

Result<std::shared_ptr<SegmentFile>> SegmentLog::File(uint32_t number) const {
  std::lock_guard lock(files_mu_);
  if (const auto found = open_index_.find(number); found != open_index_.end()) {
    open_files_.splice(open_files_.begin(), open_files_, found->second);
    return *found->second;
  }
  CAIRN_ASSIGN_OR_RETURN(auto file, SegmentFile::Open(options_.directory, number, false));
  open_files_.push_front(file);
  open_index_[number] = open_files_.begin();
  if (open_files_.size() > kMaxOpenFiles) {
    open_index_.erase(open_files_.back()->number());
    open_files_.pop_back();
  }
  return file;
}

Status SegmentLog::SyncDirectory(SyncPoint point) {
  if (options_.env->SyncDirectory(options_.directory, point) != 0)
    return options_.health->Fail(ErrnoStatus(errno, "fsync of directory " + options_.directory));
  return Status::Ok();
}

Status SegmentLog::StartAppending(LogPosition end, uint32_t after) {
  if (end.segment != 0 && end.offset > 0) {
    CAIRN_ASSIGN_OR_RETURN(auto file, File(end.segment));
    CAIRN_ASSIGN_OR_RETURN(const uint64_t size, file->Size());
    if (size > end.offset && ftruncate(file->fd(), end.offset) != 0) {
      return ErrnoStatus(errno, "cut the torn end off " + file->path());
    }
    // Records read back after a crash of the process may still be only in memory.
    if (options_.env->SyncFile(file->fd(), SyncPoint::kRecordsReadBack) != 0) {
      return options_.health->Fail(ErrnoStatus(errno, "fdatasync of " + file->path()));
    }
    CAIRN_RETURN_IF_ERROR(writer_.Start(file, end.offset));
    std::lock_guard lock(sync_mu_);
    active_ = file;
    written_back_ = end.offset;
    end_ = synced_ = end.Pack();
    sync_target_ = {};
    if (end.segment >= after && end.offset < options_.segment_bytes) return Status::Ok();
  }
  const std::vector<uint32_t> present = Segments();
  return StartSegment(std::max(after, present.empty() ? 0 : present.back()) + 1);
}

Status SegmentLog::StartSegment(uint32_t number) {
  CAIRN_ASSIGN_OR_RETURN(auto file, SegmentFile::Open(options_.directory, number, true));
  Record record;
  record.type = RecordType::kSegmentHeader;
  record.disk = options_.disk;
  record.synced = synced();
  const RecordSize size = SizeOf(record);
  Status written = writer_.Start(file, 0);
  if (written.ok()) written = writer_.Append(0, size, EncodeHead(record, {number, 0}), {});
  if (written.ok()) written = SyncDirectory(SyncPoint::kSegmentName);
  if (!written.ok()) {
    unlink(file->path().c_str());
    // What was written before stays the end of the log.
    if (active_) CAIRN_RETURN_IF_ERROR(writer_.Start(active_, end().offset));
    return Failed(written);
  }
  {
    std::lock_guard lock(files_mu_);
    numbers_[number] = true;
  }
  std::lock_guard lock(sync_mu_);
  active_ = std::move(file);
  written_back_ = 0;
  end_ = LogPosition{number, static_cast<uint32_t>(size.total_bytes())}.Pack();
  return Status::Ok();
}

Status SegmentLog::Failed(const Status& error) {
  return error.code() == StatusCode::kNoSpace ? error : options_.health->Fail(error);
}

Status SegmentLog::Append(Record* record, std::span<const std::span<const std::byte>> payload, Place* place) {
  if (options_.health->failed()) return options_.health->failure();
  uint64_t payload_bytes = 0;
  for (const auto& part : payload) payload_bytes += part.size();
  record->aligned = options_.direct_bytes > 0 && payload_bytes >= options_.direct_bytes && writer_.direct();
  const RecordSize size = SizeOf(*record);
  LogPosition before = end();
  if (RoundUp(before.offset, size.alignment()) + size.total_bytes() > options_.segment_bytes &&
      before.offset > kBlockBytes) {
    CAIRN_RETURN_IF_ERROR(Roll());
    before = end();
  }
  const LogPosition at{before.segment, static_cast<uint32_t>(RoundUp(before.offset, size.alignment()))};
  record->synced = synced();
  record->previous_end = before.offset;
  record->payload_bytes = size.payload_bytes;
  if (record->type != RecordType::kMap) PlaceExtents(record, at);
  const LogPosition behind{at.segment, static_cast<uint32_t>(at.offset + size.total_bytes())};
  if (behind.offset > writer_.file_bytes() && SyncedOften(before)) {
    writer_.ZeroAhead(options_.segment_bytes);
  }
  if (Status written = writer_.Append(at.offset, size, EncodeHead(*record, at), payload); !written.ok()) {
    // Half a record must not stand where the next one will be looked for.
    if (Status cut = writer_.Cut(); !cut.ok()) return options_.health->Fail(cut);
    return Failed(written);
  }
  {
    // A sync takes its target under the same lock: it either covers this record or is seen here as not
    // covering it.
    std::lock_guard lock(sync_mu_);
    end_.store(behind.Pack(), std::memory_order_release);
    *place = {at, behind, synced(), sync_target_};
  }
  if (behind.offset - written_back_ >= kWritebackStep) {
    // Only a hint: errors of writeback surface at fdatasync.
    sync_file_range(active_->fd(), static_cast<off_t>(written_back_),
                    static_cast<off_t>(behind.offset - written_back_), SYNC_FILE_RANGE_WRITE);
    written_back_ = behind.offset;
  }
  return Status::Ok();
}

bool SegmentLog::SyncedOften(LogPosition end) {
  std::lock_guard lock(sync_mu_);
  return close_syncs_ >= kManySyncs && Close(sync_target_, end);
}

Status SegmentLog::Roll() {
  // Zeros ahead of the end are of no use any more.
  if (writer_.file_bytes() > RoundUp(end().offset, kBlockBytes)) {
    if (Status cut = writer_.Cut(); !cut.ok()) return options_.health->Fail(cut);
  }
  CAIRN_RETURN_IF_ERROR(SyncTo(end()));
  return StartSegment(end().segment + 1);
}

Status SegmentLog::Sync() { return SyncTo(end()); }

Status SegmentLog::SyncTo(LogPosition want) {
  std::unique_lock lock(sync_mu_);
  while (synced() < want) {
    if (options_.health->failed()) return options_.health->failure();
    // One at a time: of two concurrent fdatasyncs of one descriptor only the first would be told of an error.
    if (syncing_) {
      sync_done_.wait(lock);
      continue;
    }
    syncing_ = true;
    const LogPosition target = end();
    const std::shared_ptr<SegmentFile> file = active_;
    close_syncs_ = Close(sync_target_, target) ? close_syncs_ + 1 : 0;
    sync_target_ = target;
    lock.unlock();
    CAIRN_CHECK(file->number() == target.segment);
    const int failed = options_.env->SyncFile(file->fd(), SyncPoint::kRecords);
    const int error = errno;
    lock.lock();
    syncing_ = false;
    if (failed != 0) {
      (void)options_.health->Fail(ErrnoStatus(error, "fdatasync of " + file->path()));
    } else if (synced() < target) {
      synced_.store(target.Pack(), std::memory_order_release);
    }
    sync_done_.notify_all();
  }
  return Status::Ok();
}

Status SegmentLog::Read(LogPosition at, std::span<std::byte> out) const {
  CAIRN_ASSIGN_OR_RETURN(const auto file, File(at.segment));
  return file->Read(at.offset, out);
}

Result<uint64_t> SegmentLog::Punch(uint32_t number, uint64_t begin, uint64_t end) {
  begin = (begin + kPunchAlignment - 1) / kPunchAlignment * kPunchAlignment;
  end = end / kPunchAlignment * kPunchAlignment;
  if (begin >= end) return uint64_t{0};
  CAIRN_ASSIGN_OR_RETURN(const auto file, File(number));
  if (fallocate(file->fd(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(begin),
                static_cast<off_t>(end - begin)) != 0) {
    if (errno == EOPNOTSUPP) return uint64_t{0};  // compaction gives the space back instead
    return ErrnoStatus(errno, "punch a hole into " + file->path());
  }
  return end - begin;
}

Status SegmentLog::Remove(uint32_t number) {
  CAIRN_CHECK(number != end().segment, "the active segment is never removed");
  std::lock_guard lock(files_mu_);
  const std::string path = options_.directory + "/" + SegmentFileName(number);
  if (unlink(path.c_str()) != 0 && errno != ENOENT) return ErrnoStatus(errno, "remove " + path);
  numbers_.erase(number);
  if (const auto found = open_index_.find(number); found != open_index_.end()) {
    open_files_.erase(found->second);
    open_index_.erase(found);
  }
  return Status::Ok();
}

}  // namespace cairn::chunkserver
