// One open segment file, and reading its records one after the other.
// Thread-safety: SegmentFile from any thread; a SegmentScanner belongs to one thread.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "chunkserver/store/record.h"
#include "common/status.h"

namespace cairn::chunkserver {

std::string SegmentFileName(uint32_t number);  // "0000000007.seg"
std::optional<uint32_t> ParseSegmentFileName(const std::string& name);

class SegmentFile {
 public:
  static Result<std::shared_ptr<SegmentFile>> Open(const std::string& directory, uint32_t number,
                                                   bool create);
  ~SegmentFile();
  SegmentFile(const SegmentFile&) = delete;
  SegmentFile& operator=(const SegmentFile&) = delete;

  int fd() const { return fd_; }
  // Past the page cache; -1 where the file system cannot. Opened when first asked for.
  int direct_fd() const;
  uint32_t number() const { return number_; }
  const std::string& path() const { return path_; }
  Result<uint64_t> Size() const;
  // Fills `out` or fails: kCorrupt when the file ends early or the sectors cannot be read.
  Status Read(uint32_t offset, std::span<std::byte> out) const;
  // Past the page cache, where that is possible. offset: a multiple of kBlockBytes. Behind out's end the
  // memory up to the next multiple of kBlockBytes may be overwritten.
  Status ReadDirect(uint32_t offset, std::span<std::byte> out) const;
  // Fills `out` if the page cache has all of it.
  bool ReadCached(uint32_t offset, std::span<std::byte> out) const;
  // Starts reading into the page cache.
  void ReadAhead(uint32_t offset, uint32_t bytes) const;

 private:
  SegmentFile(int fd, uint32_t number, std::string path) : fd_(fd), number_(number), path_(std::move(path)) {}
  const int fd_;
  const uint32_t number_;
  const std::string path_;
  mutable std::once_flag direct_once_;
  mutable int direct_fd_ = -1;  // written once, under direct_once_
};

class SegmentScanner {
 public:
  // Reads records from `offset` up to `size`.
  SegmentScanner(std::shared_ptr<SegmentFile> file, uint32_t offset, uint64_t size);

  struct Item {
    LogPosition begin;
    LogPosition end;
    Record record;
  };
  // The next record; nothing at the end of the file, where only zeros follow, or where no whole record stands
  // (then bad() says why).
  std::optional<Item> Next();
  const Status& bad() const { return bad_; }
  uint32_t offset() const { return offset_; }
  // After bad(): moves to the next place behind offset() where a record with a valid head begins. False if
  // there is none.
  bool SkipToNextRecord();
  // Whether the payload of `record` matches its block checksums; *bad_block gets the first that does not.
  bool PayloadMatches(const Record& record, uint64_t* bad_block) const;
  // Whether `record`, the last one, ends in a write that went no further than into `bad_block`: a write of whole pages to where
  // nothing but zeros was.
  bool IsTorn(const Record& record, uint64_t bad_block);

 private:
  // The aligned record behind the gap that begins at offset_, if there is one.
  std::optional<uint32_t> BehindGap();
  bool OnlyZerosFollow(uint64_t offset);
  // A view of at least `bytes` bytes at `offset`, empty when they cannot be had.
  std::span<const std::byte> Window(uint64_t offset, uint64_t bytes);

  const std::shared_ptr<SegmentFile> file_;
  const uint64_t size_;
  uint32_t offset_;
  Status bad_;
  std::vector<std::byte> buffer_;
  uint64_t buffer_offset_ = 0;
};

}  // namespace cairn::chunkserver
