// The RocksDB under the index: its tuning, and the proof of when its memory reached the disk.
// Thread-safety: all methods from any thread; Flush by one thread at a time.
#pragma once

#include <rocksdb/db.h>

#include <cstdint>
#include <memory>
#include <string>

#include "common/status.h"

namespace cairn::chunkserver {

// kCorrupt when RocksDB found damage, otherwise kIoError (kNoSpace for a full disk).
Status FromRocks(const rocksdb::Status& status, const std::string& what);

class FlushListener;

class IndexDb {
 public:
  static Result<std::unique_ptr<IndexDb>> Open(const std::string& directory, uint64_t cache_bytes,
                                               bool create);
  ~IndexDb();

  rocksdb::DB* db() { return db_.get(); }
  const std::string& directory() const { return directory_; }
  // To memory only: the segments are the log.
  Status Write(rocksdb::WriteBatch* batch);
  // Freezes what was written so far and starts writing it to disk; what is written later is not part of it.
  Status StartFlush();
  Status WaitForFlush();

 private:
  IndexDb() = default;
  std::string directory_;
  std::shared_ptr<FlushListener> listener_;
  std::unique_ptr<rocksdb::DB> db_;
  uint64_t flushes_before_ = 0;
};

}  // namespace cairn::chunkserver
