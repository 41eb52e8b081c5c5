#include "chunkserver/store/segment_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

namespace cairn::chunkserver {
namespace {

constexpr size_t kWindowBytes = 64 * 1024;
constexpr const char* kSuffix = ".seg";
constexpr size_t kDigits = 10;

}  // namespace

std::string SegmentFileName(uint32_t number) {
  char name[32];
  std::snprintf(name, sizeof(name), "%010u%s", number, kSuffix);
  return name;
}

std::optional<uint32_t> ParseSegmentFileName(const std::string& name) {
  if (name.size() != kDigits + std::strlen(kSuffix) || name.substr(kDigits) != kSuffix) return std::nullopt;
  uint64_t number = 0;
  for (size_t i = 0; i < kDigits; ++i) {
    if (name[i] < '0' || name[i] > '9') return std::nullopt;
    number = number * 10 + static_cast<uint64_t>(name[i] - '0');
  }
  if (number == 0 || number > UINT32_MAX) return std::nullopt;
  return static_cast<uint32_t>(number);
}

Result<std::shared_ptr<SegmentFile>> SegmentFile::Open(const std::string& directory, uint32_t number,
                                                       bool create) {
  std::string path = directory + "/" + SegmentFileName(number);
  const int flags = O_RDWR | O_CLOEXEC | (create ? O_CREAT | O_EXCL : 0);
  const int fd = open(path.c_str(), flags, 0640);
  if (fd < 0) {
    if (errno == ENOENT && !create) {
      return Status(StatusCode::kCorrupt,
                    "segment file " + path + " is missing: its chunks must be synced from other replicas");
    }
    return ErrnoStatus(errno, "open segment file " + path);
  }
  return std::shared_ptr<SegmentFile>(new SegmentFile(fd, number, std::move(path)));
}

SegmentFile::~SegmentFile() {
  close(fd_);
  if (direct_fd_ >= 0) close(direct_fd_);
}

int SegmentFile::direct_fd() const {
  // The path still names this file: segments are removed only when nobody uses them.
  std::call_once(direct_once_, [this] { direct_fd_ = open(path_.c_str(), O_RDWR | O_DIRECT | O_CLOEXEC); });
  return direct_fd_;
}

Result<uint64_t> SegmentFile::Size() const {
  struct stat stat {};
  if (fstat(fd_, &stat) != 0) return ErrnoStatus(errno, "stat " + path_);
  return static_cast<uint64_t>(stat.st_size);
}

Status SegmentFile::Read(uint32_t offset, std::span<std::byte> out) const {
  size_t done = 0;
  while (done < out.size()) {
    const ssize_t got = pread(fd_, out.data() + done, out.size() - done, static_cast<off_t>(offset) + done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      return {StatusCode::kCorrupt, "cannot read " + std::to_string(out.size()) + " bytes at offset " +
                                        std::to_string(offset) + " of " + path_ + ": " +
                                        std::strerror(errno)};
    }
    if (got == 0) {
      return {StatusCode::kCorrupt, path_ + " ends at " + std::to_string(offset + done) +
                                        ", but data up to " + std::to_string(offset + out.size()) +
                                        " belongs to it: the file was truncated"};
    }
    done += static_cast<size_t>(got);
  }
  return Status::Ok();
}

Status SegmentFile::ReadDirect(uint32_t offset, std::span<std::byte> out) const {
  const int fd = direct_fd();
  const uint64_t padded = RoundUp(out.size(), kBlockBytes);
  size_t done = 0;
  while (fd >= 0 && done < out.size()) {
    const ssize_t got = pread(fd, out.data() + done, padded - done, static_cast<off_t>(offset) + done);
    if (got < 0 && errno == EINTR) continue;
    // A short read that is no multiple of blocks cannot be continued here, nor can a refusal.
    if (got <= 0) break;
    done += static_cast<size_t>(got);
    if (done % kBlockBytes != 0) break;
  }
  // The ordinary way has the words for what went wrong, too.
  return done >= out.size() ? Status::Ok() : Read(offset, out);
}

bool SegmentFile::ReadCached(uint32_t offset, std::span<std::byte> out) const {
  iovec part{out.data(), out.size()};
  const ssize_t got = preadv2(fd_, &part, 1, offset, RWF_NOWAIT);
  return got == static_cast<ssize_t>(out.size());
}

void SegmentFile::ReadAhead(uint32_t offset, uint32_t bytes) const { (void)readahead(fd_, offset, bytes); }

SegmentScanner::SegmentScanner(std::shared_ptr<SegmentFile> file, uint32_t offset, uint64_t size)
    : file_(std::move(file)), size_(size), offset_(offset) {}

std::span<const std::byte> SegmentScanner::Window(uint64_t offset, uint64_t bytes) {
  if (offset + bytes > size_) return {};
  if (offset < buffer_offset_ || offset + bytes > buffer_offset_ + buffer_.size()) {
    buffer_.resize(std::min<uint64_t>(std::max<uint64_t>(bytes, kWindowBytes), size_ - offset));
    buffer_offset_ = offset;
    if (Status read = file_->Read(static_cast<uint32_t>(offset), buffer_); !read.ok()) {
      buffer_.clear();
      bad_ = read;
      return {};
    }
  }
  return std::span(buffer_).subspan(offset - buffer_offset_, bytes);
}

std::optional<uint32_t> SegmentScanner::BehindGap() {
  const auto at = static_cast<uint32_t>(RoundUp(offset_, kBlockBytes));
  const LogPosition position{file_->number(), at};
  const auto header = Window(at, kRecordHeaderBytes);
  if (at == offset_ || header.empty()) return std::nullopt;
  const auto size = PeekSize(header, position);
  if (!size.ok() || !size->aligned) return std::nullopt;
  const auto head = Window(at, size->head_bytes());
  if (head.empty()) return std::nullopt;
  const auto record = DecodeHead(head, position);
  if (!record.ok() || record->previous_end != offset_) return std::nullopt;
  return at;
}

bool SegmentScanner::OnlyZerosFollow(uint64_t offset) {
  for (uint64_t at = offset; at < size_;) {
    const auto bytes = Window(at, std::min<uint64_t>(kWindowBytes, size_ - at));
    if (bytes.empty()) return false;
    if (std::any_of(bytes.begin(), bytes.end(), [](std::byte b) { return b != std::byte{0}; })) return false;
    at += bytes.size();
  }
  return true;
}

std::optional<SegmentScanner::Item> SegmentScanner::Next() {
  bad_ = Status::Ok();
  if (offset_ >= size_) return std::nullopt;
  const auto torn = [&] {
    if (bad_.ok())
      bad_ = {StatusCode::kMalformed,
              file_->path() + " ends inside the record at " + std::to_string(offset_)};
    return std::nullopt;
  };
  const auto fail = [&](const Status& error) {
    bad_ = error.WithContext(file_->path());
    return std::nullopt;
  };
  const auto word = Window(offset_, std::min<uint64_t>(kRecordAlignment, size_ - offset_));
  if (word.empty()) return torn();
  if (std::all_of(word.begin(), word.end(), [](std::byte b) { return b == std::byte{0}; })) {
    if (const auto behind = BehindGap()) {
      offset_ = *behind;
    } else if (OnlyZerosFollow(offset_)) {
      return std::nullopt;
    }
    bad_ = Status::Ok();
  }
  const LogPosition at{file_->number(), offset_};
  const auto header = Window(offset_, kRecordHeaderBytes);
  if (header.empty()) return torn();
  const auto size = PeekSize(header, at);
  if (!size.ok()) return fail(size.status());
  if (offset_ + size->total_bytes() > size_) return torn();
  const auto head = Window(offset_, size->head_bytes());
  if (head.empty()) return torn();
  auto record = DecodeHead(head, at);
  if (!record.ok()) return fail(record.status());
  offset_ += static_cast<uint32_t>(size->total_bytes());
  return Item{at, {at.segment, offset_}, std::move(*record)};
}

bool SegmentScanner::SkipToNextRecord() {
  for (uint64_t at = offset_ + kRecordAlignment; at + kRecordHeaderBytes <= size_; at += kRecordAlignment) {
    const auto header = Window(at, kRecordHeaderBytes);
    if (header.empty()) {  // unreadable sectors: go on behind them
      at += kBlockBytes - kRecordAlignment;
      continue;
    }
    const LogPosition position{file_->number(), static_cast<uint32_t>(at)};
    const auto size = PeekSize(header, position);
    if (!size.ok() || at + size->total_bytes() > size_) continue;
    const auto head = Window(at, size->head_bytes());
    if (head.empty() || !DecodeHead(head, position).ok()) continue;
    offset_ = static_cast<uint32_t>(at);
    bad_ = Status::Ok();
    return true;
  }
  return false;
}

bool SegmentScanner::PayloadMatches(const Record& record, uint64_t* bad_block) const {
  if (record.payload_bytes == 0) return true;
  std::vector<std::byte> data;
  for (const Extent& extent : record.extents) {
    data.resize(extent.bytes);
    *bad_block = extent.block;
    if (!file_->Read(extent.at.offset, data).ok()) return false;
    for (size_t i = 0; i < extent.checksums.size(); ++i) {
      const auto rest = std::span<const std::byte>(data).subspan(i * kBlockBytes);
      *bad_block = extent.block + i;
      if (BlockChecksum(record.chunk, extent.block + i,
                        rest.first(std::min<size_t>(rest.size(), kBlockBytes))) != extent.checksums[i]) {
        return false;
      }
    }
  }
  return true;
}

bool SegmentScanner::IsTorn(const Record& record, uint64_t bad_block) {
  for (const Extent& extent : record.extents) {
    if (bad_block < extent.block || bad_block >= extent.end_block()) continue;
    return OnlyZerosFollow(RoundUp(extent.at.offset + (bad_block - extent.block) * kBlockBytes, kBlockBytes));
  }
  return false;
}

}  // namespace cairn::chunkserver
