#include "chunkserver/store/edit.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "common/check.h"

namespace cairn::chunkserver {

Result<std::optional<uint32_t>> Edit::Load(uint64_t block, Block** out) {
  blocks_.emplace_back();
  blocks_.back().fill(std::byte{0});
  *out = &blocks_.back();
  return reader_->ReadBlock(chunk_, block, **out);
}

void Edit::AddBlock(uint64_t block, std::span<const std::byte> bytes) {
  Extent extent;
  extent.block = block;
  extent.bytes = static_cast<uint32_t>(bytes.size());
  extent.checksums.push_back(BlockChecksum(chunk_, block, bytes));
  record_->extents.push_back(std::move(extent));
  payload_.push_back(bytes);
}

Status Edit::Write(uint64_t offset, std::span<const std::byte> data, std::span<const uint32_t> checksums,
                   uint64_t length) {
  CAIRN_CHECK(!data.empty() && checksums.size() == BlocksTouched(offset, data.size()));
  const uint64_t end = offset + data.size();
  const uint64_t first = offset / kBlockBytes;
  const uint64_t last = (end - 1) / kBlockBytes;
  const size_t head_skip = offset % kBlockBytes;
  const auto tail_bytes = static_cast<uint32_t>(end - last * kBlockBytes);
  const bool merge_head = head_skip != 0;
  const bool merge_tail = tail_bytes < kBlockBytes && length > end;

  Extent extent;
  extent.block = first;
  extent.checksums.assign(checksums.begin(), checksums.end());
  uint32_t last_bytes = tail_bytes;
  if (first == last && (merge_head || merge_tail)) {
    Block* block = nullptr;
    CAIRN_ASSIGN_OR_RETURN(const auto stored, Load(first, &block));
    std::memcpy(block->data() + head_skip, data.data(), data.size());
    last_bytes = std::max(stored.value_or(0), tail_bytes);
    const auto merged = std::span<const std::byte>(*block).first(last_bytes);
    payload_.push_back(merged);
    extent.checksums[0] = BlockChecksum(chunk_, first, merged);
  } else {
    std::span<const std::byte> middle = data;
    if (merge_head) {
      Block* block = nullptr;
      CAIRN_RETURN_IF_ERROR(Load(first, &block).status());
      std::memcpy(block->data() + head_skip, data.data(), kBlockBytes - head_skip);
      payload_.push_back(*block);
      extent.checksums.front() = BlockChecksum(chunk_, first, *block);
      middle = middle.subspan(kBlockBytes - head_skip);
    }
    if (merge_tail) {
      const auto tail = middle.last(tail_bytes);
      middle = middle.first(middle.size() - tail_bytes);
      Block* block = nullptr;
      CAIRN_ASSIGN_OR_RETURN(const auto stored, Load(last, &block));
      std::memcpy(block->data(), tail.data(), tail.size());
      last_bytes = std::max(stored.value_or(0), tail_bytes);
      const auto merged = std::span<const std::byte>(*block).first(last_bytes);
      payload_.push_back(middle);
      payload_.push_back(merged);
      extent.checksums.back() = BlockChecksum(chunk_, last, merged);
    } else {
      payload_.push_back(middle);
      // A piece's checksum is not padded, a block's is.
      if (tail_bytes < kBlockBytes)
        extent.checksums.back() = BlockChecksum(chunk_, last, middle.last(tail_bytes));
    }
  }
  extent.bytes = static_cast<uint32_t>((last - first) * kBlockBytes + last_bytes);
  record_->extents.push_back(std::move(extent));
  return Status::Ok();
}

Status Edit::Truncate(uint64_t new_length, uint64_t length) {
  if (new_length >= length) return Status::Ok();  // what is behind the length is a hole or zeros already
  record_->drop_begin = new_length / kBlockBytes;
  record_->drop_end = std::numeric_limits<uint64_t>::max();
  const size_t keep = new_length % kBlockBytes;
  if (keep == 0) return Status::Ok();
  Block* block = nullptr;
  CAIRN_ASSIGN_OR_RETURN(const auto stored, Load(record_->drop_begin, &block));
  if (stored)
    AddBlock(record_->drop_begin, std::span<const std::byte>(*block).first(std::min<size_t>(keep, *stored)));
  return Status::Ok();
}

Status Edit::Zero(uint64_t offset, uint64_t zero_length, uint64_t length) {
  const uint64_t end =
      std::min(length, offset + std::min(zero_length, std::numeric_limits<uint64_t>::max() - offset));
  if (offset >= end) return Status::Ok();
  const uint64_t first = offset / kBlockBytes;
  const uint64_t last = (end - 1) / kBlockBytes;
  record_->drop_begin = first;
  record_->drop_end = last + 1;
  const size_t head_keep = offset % kBlockBytes;
  // Behind the chunk's end there is nothing to keep.
  const size_t tail_skip = end == length ? 0 : end % kBlockBytes;
  if (head_keep != 0 || (first == last && tail_skip != 0)) {
    Block* block = nullptr;
    CAIRN_ASSIGN_OR_RETURN(const auto stored, Load(first, &block));
    if (stored) {
      const size_t until = first == last && tail_skip != 0 ? tail_skip : kBlockBytes;
      std::fill(block->begin() + static_cast<ptrdiff_t>(head_keep),
                block->begin() + static_cast<ptrdiff_t>(until), std::byte{0});
      AddBlock(first, std::span<const std::byte>(*block).first(*stored));
    }
  }
  if (first != last && tail_skip != 0) {
    Block* block = nullptr;
    CAIRN_ASSIGN_OR_RETURN(const auto stored, Load(last, &block));
    if (stored) {
      std::fill(block->begin(), block->begin() + static_cast<ptrdiff_t>(tail_skip), std::byte{0});
      AddBlock(last, std::span<const std::byte>(*block).first(*stored));
    }
  }
  return Status::Ok();
}

}  // namespace cairn::chunkserver
