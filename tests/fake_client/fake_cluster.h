// An in-memory file system behind the Client interface: lets the mount and the CLI be tested without a
// cluster.
//
// A FakeCluster holds the files; any number of FakeClients (sessions) share it. Semantics are those of POSIX
// on one machine: everything is visible at once, nothing is buffered. Faults are injected by operation name
// ("write", "unlink", ...). Thread-safety: any thread; one lock for everything.
#pragma once

#include <array>
#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <string>

#include "client/client.h"
#include "common/locks/lock_table.h"

namespace cairn::testing {

inline constexpr uint64_t kFakeBlockBytes = 4096;

struct FakeInode {
  client::Attributes attr;
  InodeId parent;                                                     // directories
  std::map<std::string, InodeId> names;                               // directories
  std::map<std::string, uint64_t> cursors;                            // directories: cursor of each name
  std::map<uint64_t, std::array<std::byte, kFakeBlockBytes>> blocks;  // regular files
  std::map<std::string, std::string> xattrs;
  std::string target;  // symbolic links
  client::Policy policy;
  int open_handles = 0;
};

class FakeCluster {
 public:
  FakeCluster();

  // The next `times` calls of `operation` fail with `status`.
  void Fail(const std::string& operation, Status status, int times = 1);
  // Calls of `operation` wait until Release (or until they are interrupted).
  void Hold(const std::string& operation);
  void Release(const std::string& operation);
  // Waits until a call of `operation` is held.
  void AwaitHeld(const std::string& operation);
  // Waits until `count` calls are held at the same time; false when that does not happen within half a minute.
  bool AwaitHeldTogether(const std::string& operation, int count);
  int Calls(const std::string& operation);
  // Flips a bit of a file's content, as damage that no checksum noticed.
  void Corrupt(InodeId inode, uint64_t offset);
  size_t inodes();
  // What CopyRange copied.
  uint64_t copied_bytes();
  int64_t valid_ns = 0;  // what entries carry as their validity
  int64_t negative_ns = 0;
  bool attributes_in_listings = true;  // false: as for files that another session writes

 private:
  friend class FakeClient;

  // All with mu held.
  Status Enter(std::unique_lock<std::mutex>& lock, const std::string& operation);
  Result<FakeInode*> Find(InodeId inode);
  Result<FakeInode*> FindDirectory(InodeId inode);
  FakeInode& NewInode(client::FileType type, uint32_t mode, const client::Caller& caller);
  void AddName(FakeInode& directory, const std::string& name, FakeInode& inode);
  void RemoveName(FakeInode& directory, const std::string& name);
  void DropIfUnused(InodeId inode);
  client::Entry EntryOf(const FakeInode& inode) const;
  static void Resize(FakeInode& inode, uint64_t size);
  static client::TimeSpec Now();

  std::mutex mu_;
  std::condition_variable changed_;
  std::map<InodeId, FakeInode> inodes_;
  std::map<std::string, std::pair<Status, int>> failures_;
  std::set<std::string> held_;
  std::map<std::string, int> waiting_;
  std::map<std::string, int> calls_;
  uint64_t copied_bytes_ = 0;
  // File locks. A request between BeginLock and RunLock, and those that wait.
  struct LockWait {
    locks::Lock lock;
    bool wait = false;
    client::LockDone done;
    bool cancelled = false;
  };
  using Decided = std::vector<std::pair<client::LockDone, Status>>;
  void Take(const std::vector<locks::LockDecision>& decisions, Decided* decided);
  locks::LockTable locks_;
  std::map<uint64_t, LockWait> lock_waits_;
  uint64_t next_ticket_ = 1;
  uint64_t next_session_ = 1;
  uint64_t next_inode_ = 2;
  uint64_t next_cursor_ = 1;
};

}  // namespace cairn::testing
