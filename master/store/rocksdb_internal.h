// What the two halves of the RocksDB store share: opening (rocksdb_open.cc) and serving (rocksdb_store.cc).
// Thread-safety: pure functions.
#pragma once

#include <rocksdb/db.h>

#include <array>
#include <memory>
#include <string>
#include <string_view>

#include "master/store/meta_store.h"
#include "master/store/rocksdb_store.h"

namespace cairn::master::internal {

using ColumnFamilies = std::array<rocksdb::ColumnFamilyHandle*, kFamilyCount>;

// Closes column families and database when it goes.
struct OpenDatabase {
  std::unique_ptr<rocksdb::DB> db;
  ColumnFamilies families{};
  rocksdb::ColumnFamilyHandle* default_family = nullptr;  // unused, but RocksDB insists on it

  OpenDatabase() = default;
  OpenDatabase(OpenDatabase&&) = default;
  ~OpenDatabase();
};

// "reading the metadata store in /d: <RocksDB's words>; <what to do>".
Status ToStatus(const rocksdb::Status& status, std::string_view what, const std::string& directory);

std::unique_ptr<MetaStore> NewRocksdbStore(OpenDatabase database, Uuid cluster, const std::string& directory);

// Keys of family kMeta that the store itself owns.
inline constexpr std::string_view kFormatKey = "store/format";    // decimal
inline constexpr std::string_view kClusterKey = "store/cluster";  // 32 hex digits

}  // namespace cairn::master::internal
