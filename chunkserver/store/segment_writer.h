// Puts records at the end of the active segment: small ones through the page cache, large ones past it.
//
// Through the page cache always whole pages are written: the page in which the last record ended is kept here
// and written again, with what follows and zeros behind. So the kernel never reads a page to change a part of
// it, also where the file was zeroed ahead. Aligned records are written with O_DIRECT from where their bytes
// lie: no page of the cache is allocated, filled and written back for them. No page holds parts of both
// kinds.
//
// A log that is synced again and again (fsync of small appends) is zeroed ahead, so that syncs find the file
// neither grown nor given new blocks: then they need no commit of the file system's journal.
//
// Thread-safety: one thread at a time.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>
#include <vector>

#include "chunkserver/store/record.h"
#include "chunkserver/store/segment_file.h"
#include "chunkserver/store/store_env.h"
#include "common/status.h"

namespace cairn::chunkserver {

class SegmentWriter {
 public:
  // Bytes that O_DIRECT takes from and puts into: the page size of every file system that matters here.
  static constexpr uint64_t kPage = kBlockBytes;

  explicit SegmentWriter(StoreEnv* env);
  ~SegmentWriter();
  SegmentWriter(const SegmentWriter&) = delete;
  SegmentWriter& operator=(const SegmentWriter&) = delete;

  // Goes on in `file` behind `end`, at most the file's size. Nothing but zeros may follow it in the file.
  Status Start(std::shared_ptr<SegmentFile> file, uint32_t end);
  // Whether aligned records make sense in this file.
  bool direct() const { return direct_fd_ >= 0; }
  // Writes a record that begins at `begin`: the end of the one before, rounded up to the record's alignment.
  // On failure bytes of it may stand in the file: Cut.
  Status Append(uint32_t begin, const RecordSize& size, std::span<const std::byte> head,
                std::span<const std::span<const std::byte>> payload);
  // Removes what stands behind the last whole record.
  Status Cut();
  // Writes zeros up to `limit` at most, so far ahead that many small records fit. Only a help: errors are
  // left to the next record.
  void ZeroAhead(uint64_t limit);
  uint64_t file_bytes() const { return file_bytes_; }

 private:
  struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
  };
  using AlignedBytes = std::unique_ptr<std::byte[], Free>;
  static AlignedBytes Allocate(size_t bytes);

  Status AppendCached(uint32_t begin, const RecordSize& size, std::span<const std::byte> head,
                      std::span<const std::span<const std::byte>> payload);
  Status AppendDirect(uint32_t begin, const RecordSize& size, std::span<const std::byte> head,
                      std::span<const std::span<const std::byte>> payload);
  // Copies into scratch_, which starts out empty.
  iovec Scratch(std::span<const std::byte> bytes, size_t padded_bytes);
  // Uses up parts_. Returns 0 or an errno.
  int WriteAll(int fd, uint64_t offset);
  Status WriteError(int error, uint64_t offset) const;

  StoreEnv* const env_;
  std::shared_ptr<SegmentFile> file_;
  int direct_fd_ = -1;  // of file_
  uint64_t file_bytes_ = 0;
  bool cannot_zero_ = false;
  uint32_t end_ = 0;   // of the last whole record
  AlignedBytes tail_;  // the page in which it ends
  AlignedBytes scratch_;
  size_t scratch_bytes_ = 0;
  size_t scratch_used_ = 0;
  std::vector<iovec> parts_;
};

}  // namespace cairn::chunkserver
