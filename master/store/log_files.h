// The files of RocksDB's log, written ahead of their end while they are synced often.
//
// A sync after an append to a file that grew, or into blocks that were never written, needs a commit of the file system's journal,
// which every other file system user waits for as well. Over blocks that were written before, it is one write to the disk. So once
// the log is synced again and again with little in between (fsync of applications), the file is filled ahead, and cut to its true
// length when it is closed.
//
// What a crash leaves behind the end of the log is this filling, and after a loss of power it may also stand where a page never
// reached the disk although a later one did. Zeros would be wrong there: RocksDB's reader skips them without a word, and would apply
// what follows such a gap. Filling looks like a record with a false checksum, which ends a point-in-time recovery: nothing behind
// it is applied, and a following log only if it goes on with exactly the next change.
//
// Thread-safety: of the file system, any thread; of a file, as RocksDB uses it: one thread appends, one syncs at the same time.
#pragma once

#include <rocksdb/env.h>

#include <cstdint>
#include <memory>

namespace cairn::master::internal {

inline constexpr char kLogFilling = '\x01';
inline constexpr uint64_t kLogFillBytes = 256u << 10;

// The system's environment, but with logs that are written ahead. Outlives the database that uses it.
std::unique_ptr<rocksdb::Env> NewLogFillingEnv();

}  // namespace cairn::master::internal
