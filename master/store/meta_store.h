// The master's metadata on its way to disk: an ordered key-value store with families of keys, and
// transactions.
//
// One thread owns the writing side. It begins one transaction, lets a group of commands read and change it,
// and commits the group as one write of the log:
//
//   MetaTxn txn(store->Latest());
//   for (command : group) {
//     txn.SetSavepoint();
//     if (!apply(command, txn)) txn.RollbackToSavepoint(); else txn.DropSavepoint();
//   }
//   store->Commit(txn);      // in the log: survives a crash of the process; txn is empty again
//   store->SyncLog();        // on disk: survives a loss of power (from a thread of its own, as often as
//   wanted)
//
// Reads answer "absent" after an I/O error and remember the error in status(): what was computed from them
// must not be used or committed (Commit refuses). The state machine stays free of error paths that cannot be
// decided in it.
//
// Thread-safety: MetaStore may be used from any thread, but only one may commit. A MetaReader, MetaIterator
// or MetaTxn belongs to one thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "common/ids.h"
#include "common/status.h"

namespace cairn::master {

// Families of keys. Key formats: master/state/keys.h; values: proto/cairn/state.proto. The numbers and names
// are on disk.
enum class Family : uint8_t {
  kMeta = 0,          // format, cluster, id ranges, counters, applied index
  kInodes = 1,        // inode -> InodeRecord
  kDentries = 2,      // (directory, name) -> DentryRecord
  kDirIndex = 3,      // (directory, entry number) -> DirIndexRecord
  kLinks = 4,         // (inode, directory, name) -> "": names beyond the one in the inode record
  kXattrs = 5,        // (inode, name) -> value
  kChunks = 6,        // chunk -> ChunkRecord
  kInodeChunks = 7,   // (inode, index) -> chunk
  kServerChunks = 8,  // (server, chunk) -> ""
  kChunkLists = 9,    // (list, inode, chunk) -> "": open, reconfiguring, deleting, damaged chunks
  kSessions = 10,     // session -> SessionRecord
  kResults = 11,      // (session, request number) -> Reply
  kWriteLeases = 12,  // inode -> WriteLeaseRecord
  kSessionRefs = 13,  // (session, kind, inode) -> "": write leases and holds of a session
  kServers = 14,      // server -> ServerRecord
  kPolicies = 15,     // directory -> Policy
  kHolds = 16,        // (inode, session) -> "": open in a session that has no lease
  kOrphans = 17,      // inode -> "": no name left, still open somewhere or waiting to be reclaimed
  kEvents = 18,       // event number -> EventRecord
  kTrash = 19,        // (kind, ...) -> deleted files that are kept for a while (keys.h)
};
inline constexpr size_t kFamilyCount = 20;
// Name of the family on disk and in messages, for example "inodes".
std::string_view FamilyName(Family family);

// Walks keys in ascending byte order. Views are valid until the next call.
class MetaIterator {
 public:
  virtual ~MetaIterator() = default;
  virtual bool Valid() const = 0;
  virtual void Next() = 0;
  virtual std::string_view key() const = 0;
  virtual std::string_view value() const = 0;
};

class MetaReader {
 public:
  virtual ~MetaReader() = default;
  // The value of `key`; nullopt if it is absent (or after an I/O error: see status()).
  virtual std::optional<std::string> Get(Family family, std::string_view key) const = 0;
  // Keys in [lower, upper), positioned at the first. An empty `upper` means to the end of the family.
  virtual std::unique_ptr<MetaIterator> Scan(Family family, std::string_view lower,
                                             std::string_view upper) const = 0;
  // The first I/O error that a read through this object met.
  virtual Status status() const = 0;
};

class MetaTxn;

class MetaStore {
 public:
  virtual ~MetaStore() = default;
  // A reader that always sees what was committed last; base of a MetaTxn. Must not outlive the store.
  virtual std::unique_ptr<MetaReader> Latest() const = 0;
  // A frozen view of what is committed now. Must not outlive the store.
  virtual std::unique_ptr<MetaReader> Snapshot() const = 0;

  // Writes all changes of `txn` as one atomic entry of the log and empties it. Nothing is written, and `txn`
  // stays as it is, on an error: kNoSpace (the disk is full; may be tried again) or kIoError (stop the
  // process: its memory and the disk may differ).
  virtual Status Commit(MetaTxn* txn) = 0;
  // Everything that was committed before the call is on disk when it returns. From any thread, beside
  // commits.
  virtual Status SyncLog() = 0;
  // A consistent copy that can be opened as a store of its own, in `directory`, which must not exist yet.
  // From any thread.
  virtual Status Checkpoint(const std::string& directory) = 0;

  // Identity of the cluster whose metadata this is.
  virtual Uuid cluster() const = 0;
  // Bytes that the store takes on disk (an estimate), and bytes free for it there.
  virtual uint64_t used_bytes() const = 0;
  virtual uint64_t free_bytes() const = 0;
};

// Version of the key and value formats; stored, and checked at every start.
inline constexpr uint32_t kMetaFormatVersion = 1;

}  // namespace cairn::master
