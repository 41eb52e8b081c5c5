// The small files of a data directory: IDENTITY (whose disk this is), STATE (how it was left), LOCK (one
// process). Both text files end in a checksum and are replaced atomically (docs/formats.md). Thread-safety:
// functions may run in any thread; the caller serialises writers of one file.
#pragma once

#include <string>

#include "chunkserver/store/chunk_store.h"
#include "chunkserver/store/store_env.h"
#include "common/ids.h"
#include "common/status.h"

namespace cairn::chunkserver {

inline constexpr uint32_t kStoreFormatVersion = 2;

struct DiskState {
  Uuid boot;             // of the machine when the store was opened
  bool clean = false;    // everything was synced at the last close
  bool amnesic = false;  // stays until the master knows
  bool rebuild_index = false;
};

// Made with their parents, durably.
Status MakeDirectories(const std::string& directory, StoreEnv* env);

// kNotFound when there is none; kCorrupt when it is damaged; kVersionMismatch for another format.
Result<DiskIdentity> ReadIdentity(const std::string& directory);
Status WriteIdentity(const std::string& directory, const DiskIdentity& identity, StoreEnv* env);
Result<DiskState> ReadState(const std::string& directory);
Status WriteState(const std::string& directory, const DiskState& state, StoreEnv* env);

// Refuses what holds files that no store made, and an empty directory unless `create_if_missing`.
// *fresh: nothing of a store is there yet.
Status InspectDirectory(const std::string& directory, bool create_if_missing, bool* fresh);

class DirectoryLock {
 public:
  DirectoryLock() = default;
  ~DirectoryLock();
  DirectoryLock(const DirectoryLock&) = delete;
  DirectoryLock& operator=(const DirectoryLock&) = delete;
  // kBusy when another process has it.
  Status Take(const std::string& directory);

 private:
  int fd_ = -1;
};

}  // namespace cairn::chunkserver
