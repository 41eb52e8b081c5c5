#include "chunkserver/store/segment_writer.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>

#include "common/check.h"
#include "common/log.h"

namespace cairn::chunkserver {
namespace {

// What O_DIRECT may ask of the memory; pooled receive buffers have more.
constexpr uintptr_t kMemoryAlignment = 512;
// One in 240 appends of 4 KiB zeroes ahead.
constexpr uint64_t kZeroAheadBytes = 1 << 20;
constexpr size_t kKeepScratchBytes = 4u << 20;

alignas(SegmentWriter::kPage) constexpr std::array<std::byte, 16 * SegmentWriter::kPage> kZeros{};

iovec PartOf(std::span<const std::byte> bytes) {
  return {const_cast<std::byte*>(bytes.data()), bytes.size()};
}

// The last `count` bytes of all parts together.
void CopyEnd(std::span<const iovec> parts, size_t count, std::byte* out) {
  out += count;
  for (auto part = parts.rbegin(); part != parts.rend() && count > 0; ++part) {
    const size_t take = std::min(count, part->iov_len);
    out -= take;
    // The kept page is a source, too, when the record ends in it.
    std::memmove(out, static_cast<const std::byte*>(part->iov_base) + (part->iov_len - take), take);
    count -= take;
  }
}

}  // namespace

SegmentWriter::AlignedBytes SegmentWriter::Allocate(size_t bytes) {
  auto* memory = static_cast<std::byte*>(std::aligned_alloc(kPage, RoundUp(bytes, kPage)));
  CAIRN_CHECK(memory != nullptr, "out of memory");
  return AlignedBytes(memory);
}

SegmentWriter::SegmentWriter(StoreEnv* env) : env_(env), tail_(Allocate(kPage)) {}
SegmentWriter::~SegmentWriter() = default;

Status SegmentWriter::Start(std::shared_ptr<SegmentFile> file, uint32_t end) {
  CAIRN_ASSIGN_OR_RETURN(file_bytes_, file->Size());
  CAIRN_CHECK(end <= file_bytes_);
  const uint32_t in_page = end % kPage;
  CAIRN_RETURN_IF_ERROR(file->Read(end - in_page, std::span(tail_.get(), in_page)));
  direct_fd_ = file->direct_fd();
  file_ = std::move(file);
  end_ = end;
  cannot_zero_ = false;
  return Status::Ok();
}

int SegmentWriter::WriteAll(int fd, uint64_t offset) {
  size_t first = 0;
  while (first < parts_.size()) {
    const int count = static_cast<int>(std::min<size_t>(parts_.size() - first, IOV_MAX));
    const ssize_t wrote = env_->Pwritev(fd, parts_.data() + first, count, static_cast<int64_t>(offset));
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) return wrote == 0 ? EIO : errno;
    offset += static_cast<uint64_t>(wrote);
    file_bytes_ = std::max(file_bytes_, offset);
    auto left = static_cast<size_t>(wrote);
    while (first < parts_.size() && left >= parts_[first].iov_len) left -= parts_[first++].iov_len;
    if (first < parts_.size() && left > 0) {
      parts_[first].iov_base = static_cast<std::byte*>(parts_[first].iov_base) + left;
      parts_[first].iov_len -= left;
    }
  }
  return 0;
}

Status SegmentWriter::WriteError(int error, uint64_t offset) const {
  if (error == 0) return Status::Ok();
  return ErrnoStatus(error, "append at offset " + std::to_string(offset) + " of " + file_->path());
}

Status SegmentWriter::Append(uint32_t begin, const RecordSize& size, std::span<const std::byte> head,
                             std::span<const std::span<const std::byte>> payload) {
  CAIRN_CHECK(head.size() == size.head_bytes() && begin == RoundUp(end_, size.alignment()));
  uint64_t bytes = 0;
  for (const auto& part : payload) bytes += part.size();
  CAIRN_CHECK(bytes == size.payload_bytes, "payload and extents differ in size");
  Status written;
  if (size.aligned) {
    written = AppendDirect(begin, size, head, payload);
  } else {
    written = AppendCached(begin, size, head, payload);
  }
  if (written.ok()) end_ = static_cast<uint32_t>(begin + size.total_bytes());
  return written;
}

Status SegmentWriter::AppendCached(uint32_t begin, const RecordSize& size, std::span<const std::byte> head,
                                   std::span<const std::span<const std::byte>> payload) {
  const uint32_t in_page = begin % kPage;
  const uint64_t end = begin + size.total_bytes();
  parts_.clear();
  if (in_page > 0) parts_.push_back({tail_.get(), in_page});
  parts_.push_back(PartOf(head));
  for (const auto& part : payload) {
    if (!part.empty()) parts_.push_back(PartOf(part));
  }
  const uint64_t padding = end - (begin + uint64_t{size.head_bytes()} + size.payload_bytes);
  if (padding > 0) parts_.push_back(PartOf(std::span(kZeros).first(padding)));
  std::array<std::byte, kPage> last;
  const size_t last_bytes = end % kPage;
  CopyEnd(parts_, last_bytes, last.data());
  if (last_bytes > 0) parts_.push_back(PartOf(std::span(kZeros).first(kPage - last_bytes)));
  const int error = WriteAll(file_->fd(), begin - in_page);
  if (error != 0) return WriteError(error, begin);
  std::memcpy(tail_.get(), last.data(), last_bytes);
  return Status::Ok();
}

iovec SegmentWriter::Scratch(std::span<const std::byte> bytes, size_t padded_bytes) {
  std::byte* const to = scratch_.get() + scratch_used_;
  CAIRN_CHECK(scratch_used_ + padded_bytes <= scratch_bytes_);
  scratch_used_ += padded_bytes;
  std::memcpy(to, bytes.data(), bytes.size());
  std::memset(to + bytes.size(), 0, padded_bytes - bytes.size());
  return {to, padded_bytes};
}

Status SegmentWriter::AppendDirect(uint32_t begin, const RecordSize& size, std::span<const std::byte> head,
                                   std::span<const std::span<const std::byte>> payload) {
  // Whole pages are written from where they lie; a shorter last piece is copied. If anything else does not
  // fit, all of it is.
  bool fits = true;
  for (size_t i = 0; i < payload.size(); ++i) {
    const bool last = i + 1 == payload.size();
    fits = fits && reinterpret_cast<uintptr_t>(payload[i].data()) % kMemoryAlignment == 0 &&
           (last || payload[i].size() % kPage == 0);
  }
  const uint64_t padded_payload = RoundUp(size.payload_bytes, kPage);
  const size_t needed = size.payload_offset() + (fits ? kPage : padded_payload);
  if (scratch_bytes_ < needed) {
    scratch_ = Allocate(needed);
    scratch_bytes_ = RoundUp(needed, kPage);
  }
  scratch_used_ = 0;
  parts_.clear();
  parts_.push_back(Scratch(head, size.payload_offset()));
  if (fits) {
    for (const auto& part : payload) {
      const size_t whole = part.size() / kPage * kPage;
      if (whole > 0) parts_.push_back(PartOf(part.first(whole)));
      if (whole < part.size()) parts_.push_back(Scratch(part.subspan(whole), kPage));
    }
  } else {
    std::byte* to = scratch_.get() + scratch_used_;
    parts_.push_back({to, padded_payload});
    for (const auto& part : payload) {
      std::memcpy(to, part.data(), part.size());
      to += part.size();
    }
    std::memset(to, 0, padded_payload - size.payload_bytes);
  }
  const std::vector<iovec> again = parts_;
  int error = WriteAll(direct_fd_, begin);
  if (error == EINVAL) {
    CAIRN_LOG(Warning, "{}: this file system does not take direct writes; going on without", file_->path());
    direct_fd_ = -1;
    parts_ = again;
    error = WriteAll(file_->fd(), begin);
  }
  if (scratch_bytes_ > kKeepScratchBytes) {
    scratch_.reset();
    scratch_bytes_ = 0;
  }
  return WriteError(error, begin);
}

Status SegmentWriter::Cut() {
  if (ftruncate(file_->fd(), end_) != 0) {
    return ErrnoStatus(errno, "cut off what stands behind the last record of " + file_->path());
  }
  file_bytes_ = end_;
  return Status::Ok();
}

void SegmentWriter::ZeroAhead(uint64_t limit) {
  if (!direct() || cannot_zero_) return;
  const uint64_t from = RoundUp(std::max<uint64_t>(end_, file_bytes_), kPage);
  const uint64_t until = std::min(from + kZeroAheadBytes, limit / kPage * kPage);
  parts_.clear();
  for (uint64_t at = from; at < until; at += parts_.back().iov_len) {
    parts_.push_back(PartOf(std::span(kZeros).first(std::min<uint64_t>(kZeros.size(), until - at))));
  }
  cannot_zero_ = WriteAll(direct_fd_, from) != 0;
}

}  // namespace cairn::chunkserver
