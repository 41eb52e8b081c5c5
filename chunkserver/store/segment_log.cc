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

Status SegmentLog::SyncDirectory() {
  const int fd = open(options_.directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return ErrnoStatus(errno, "open directory " + options_.directory);
  const int failed = fsync(fd);
  const int error = errno;
  close(fd);
  if (failed != 0)
    return options_.health->Fail(ErrnoStatus(error, "fsync of directory " + options_.directory));
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
    if (options_.env->Fdatasync(file->fd()) != 0) {
      return options_.health->Fail(ErrnoStatus(errno, "fdatasync of " + file->path()));
    }
    std::lock_guard lock(sync_mu_);
    active_ = file;
    written_back_ = end.offset;
    end_ = synced_ = end.Pack();
    sync_target_ = end;
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
  std::vector<std::byte> head = EncodeHead(record, {number, 0});
  head.resize(SizeOf(record).total_bytes());
  Status written = WriteAll(*file, {{head.data(), head.size()}}, 0);
  if (written.ok()) written = SyncDirectory();
  if (!written.ok()) {
    unlink(file->path().c_str());
    return written;
  }
  {
    std::lock_guard lock(files_mu_);
    numbers_[number] = true;
  }
  std::lock_guard lock(sync_mu_);
  active_ = std::move(file);
  written_back_ = 0;
  end_ = LogPosition{number, static_cast<uint32_t>(head.size())}.Pack();
  return Status::Ok();
}

Status SegmentLog::WriteAll(const SegmentFile& file, std::vector<iovec> parts, uint64_t offset) {
  size_t first = 0;
  while (first < parts.size()) {
    const int count = static_cast<int>(std::min<size_t>(parts.size() - first, IOV_MAX));
    const ssize_t wrote =
        options_.env->Pwritev(file.fd(), parts.data() + first, count, static_cast<int64_t>(offset));
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) {
      const int error = wrote == 0 ? EIO : errno;
      const Status status = ErrnoStatus(error == EDQUOT ? ENOSPC : error,
                                        "append at offset " + std::to_string(offset) + " of " + file.path());
      return status.code() == StatusCode::kNoSpace ? status : options_.health->Fail(status);
    }
    offset += static_cast<uint64_t>(wrote);
    size_t left = static_cast<size_t>(wrote);
    while (first < parts.size() && left >= parts[first].iov_len) left -= parts[first++].iov_len;
    if (first < parts.size() && left > 0) {
      parts[first].iov_base = static_cast<char*>(parts[first].iov_base) + left;
      parts[first].iov_len -= left;
    }
  }
  return Status::Ok();
}

Status SegmentLog::Append(Record* record, std::span<const std::span<const std::byte>> payload, Place* place) {
  if (options_.health->failed()) return options_.health->failure();
  const RecordSize size = SizeOf(*record);
  LogPosition at = end();
  if (at.offset + size.total_bytes() > options_.segment_bytes && at.offset > kBlockBytes) {
    CAIRN_RETURN_IF_ERROR(Roll());
    at = end();
  }
  record->synced = synced();
  record->payload_bytes = size.payload_bytes;
  if (record->type != RecordType::kMap) PlaceExtents(record, at);
  std::vector<std::byte> head = EncodeHead(*record, at);
  static constexpr std::array<std::byte, kRecordAlignment> kPadding{};
  std::vector<iovec> parts;
  parts.reserve(payload.size() + 2);
  parts.push_back({head.data(), head.size()});
  uint64_t bytes = head.size();
  for (const auto& part : payload) {
    if (part.empty()) continue;
    parts.push_back({const_cast<std::byte*>(part.data()), part.size()});
    bytes += part.size();
  }
  CAIRN_CHECK(bytes == uint64_t{size.head_bytes()} + size.payload_bytes,
              "payload and extents differ in size");
  if (bytes < size.total_bytes()) {
    parts.push_back({const_cast<std::byte*>(kPadding.data()), size.total_bytes() - bytes});
  }
  if (Status written = WriteAll(*active_, std::move(parts), at.offset); !written.ok()) {
    // Half a record must not stand where the next one will be looked for.
    if (ftruncate(active_->fd(), at.offset) != 0) {
      return options_.health->Fail(ErrnoStatus(errno, "cut a half written record off " + active_->path()));
    }
    return written;
  }
  const LogPosition behind{at.segment, static_cast<uint32_t>(at.offset + size.total_bytes())};
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

Status SegmentLog::Roll() {
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
    sync_target_ = target;
    lock.unlock();
    CAIRN_CHECK(file->number() == target.segment);
    const int failed = options_.env->Fdatasync(file->fd());
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
