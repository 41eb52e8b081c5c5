// The MetaStore on disk: RocksDB, one column family per Family, its write-ahead log as the master's command
// log. Thread-safety: as MetaStore.
#pragma once

#include <memory>
#include <string>

#include "master/store/meta_store.h"

namespace cairn::master {

struct RocksdbStoreOptions {
  std::string directory;
  // Zero: take the one in the directory. A new directory gets this one, or a random one if it is zero.
  Uuid cluster;
  bool create_if_missing = true;
  // Of data, index and filter blocks. Index and filters are partitioned and their top level is pinned, so
  // that a cache smaller than they are costs a block read per access and not the reading of a whole filter.
  uint64_t cache_bytes = 64ull << 20;
  // Of memory for changes that are in the log but not yet in sorted files; bounds the log to be read at a
  // start, too.
  uint64_t write_buffer_bytes = 64ull << 20;
  int max_open_files = 1000;
};

// Opens or creates. Errors say what to do: kBusy (another process has it open), kWrongCluster,
// kVersionMismatch, kFailedPrecondition (not an empty directory and not a metadata store, or missing with
// !create_if_missing), kCorrupt, kNoSpace, kAccessDenied, kIoError.
Result<std::unique_ptr<MetaStore>> OpenRocksdbStore(const RocksdbStoreOptions& options);

}  // namespace cairn::master
