// What the store asks of the machine: the identity of the boot, the time, and the calls that can fail in ways
// that tests must be able to provoke (a full disk, a failing disk, a loss of power).
//
// Thread-safety: implementations may be used from any thread.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <string>

#include "common/ids.h"
#include "common/status.h"

namespace cairn::chunkserver {

// Every place where the store makes something durable. tests/store/store_power_test.cc has for each what a loss of power would take
// without it; one that nothing needs does not belong here.
enum class SyncPoint : uint8_t {
  kDirectoryName,    // a directory that was made, in the one above
  kSmallFile,        // IDENTITY or STATE, before it takes the place of the one before
  kSmallFileName,    // and that it did
  kSegmentName,      // a new segment, in its directory
  kRecords,          // what was appended: everything that is answered as flushed
  kRecordsReadBack,  // what a start found behind the last sync, which from then on counts as synced
  kSegmentsRemoved,  // emptied segments: later ones no longer repeat what would contradict them
  kCount,
};

struct FileSystemSpace {
  uint64_t total_bytes = 0;
  uint64_t free_bytes = 0;  // available to an ordinary user
};

class StoreEnv {
 public:
  virtual ~StoreEnv() = default;
  // Changes when the machine boots (/proc/sys/kernel/random/boot_id).
  virtual Uuid BootId() const = 0;
  // Seconds since 1970-01-01 UTC: only for ending quarantines.
  virtual uint64_t WallSeconds() const = 0;
  virtual Result<FileSystemSpace> Space(const std::string& directory) const = 0;
  // As pwritev(2), fdatasync(2), and fsync(2) of a directory: -1 and errno on failure.
  virtual ssize_t Pwritev(int fd, const iovec* parts, int count, int64_t offset) = 0;
  virtual int SyncFile(int fd, SyncPoint point) = 0;
  virtual int SyncDirectory(const std::string& directory, SyncPoint point) = 0;

  static StoreEnv* System();
};

// What System() does; tests override the call that they make fail.
class SystemStoreEnv : public StoreEnv {
 public:
  Uuid BootId() const override;
  uint64_t WallSeconds() const override;
  Result<FileSystemSpace> Space(const std::string& directory) const override;
  ssize_t Pwritev(int fd, const iovec* parts, int count, int64_t offset) override;
  int SyncFile(int fd, SyncPoint point) override;
  int SyncDirectory(const std::string& directory, SyncPoint point) override;
};

}  // namespace cairn::chunkserver
