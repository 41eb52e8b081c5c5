// Byte-range locks of files for many owners, with the rules of Linux: which request is granted, which waits,
// which would wait for ever. Pure: no clock, no I/O, no threads.
//
//   std::vector<LockDecision> decided;
//   table.Set(request, &decided);                    // granted, or kConflict
//   table.SetOrWait(request, ticket, &decided);      // granted, kQueued, or kDeadlock
//   request.type = LockType::kUnlock; table.Set(request, &decided);   // `decided`: waiters that have it now
//
// Two spaces that never conflict with one another: record locks (fcntl: POSIX and open-file-description
// locks, the difference is only who the owner is) and flock. Within the record space an owner's ranges are
// split, merged and replaced; one owner never conflicts with itself. In the flock space an owner has at most
// one lock on the whole file, and converting it gives the old one up first, as on Linux: a conversion that
// fails or waits has lost it.
//
// Order. A request is decided by what is held; waiters are tried oldest first whenever something was given
// back, so those who want the same range get it in the order in which they came. A request that conflicts
// with nothing held does not queue behind waiters (neither does it on Linux): programs rely on a second
// shared lock being granted at once.
//
// Deadlock. Before a request waits, the owners that it would wait for are followed through what they wait for
// themselves, on all files; coming back to the asking owner is kDeadlock. Open-file-description and flock
// requests are not checked (nor on Linux).
//
// Used by the master for all sessions, and by a client for its own (what it holds, and files whose locks are
// delegated to it). Thread-safety: none; guarded by its owner.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <unordered_map>
#include <vector>

#include "common/ids.h"

namespace cairn::locks {

// Travel on the wire: do not change the values.
enum class LockSpace : uint8_t { kRecord = 0, kFlock = 1 };
enum class LockType : uint8_t { kUnlock = 0, kShared = 1, kExclusive = 2 };

inline constexpr uint64_t kMaxOffset = INT64_MAX;  // last byte that a lock can cover

struct LockOwner {
  SessionId session;
  uint64_t owner = 0;  // as the session's kernel names it: a process' files, or an open file
  auto operator<=>(const LockOwner&) const = default;
};

// A request, and a lock that is held (then type is never kUnlock).
struct Lock {
  InodeId inode;
  LockSpace space = LockSpace::kRecord;
  LockOwner owner;
  LockType type = LockType::kShared;
  uint64_t start = 0;
  uint64_t end = kMaxOffset;      // inclusive
  int32_t pid = 0;                // of the owner on its machine, for people and F_GETLK
  bool open_description = false;  // F_OFD_*
  bool operator==(const Lock&) const = default;
};

enum class LockOutcome : uint8_t {
  kGranted,
  kConflict,
  kQueued,
  kDeadlock,
  kTooMany,  // the session's bound
};

// A waiter, named by its session.
struct WaiterKey {
  SessionId session;
  uint64_t ticket = 0;
  auto operator<=>(const WaiterKey&) const = default;
};

struct LockDecision {
  WaiterKey waiter;
  LockOutcome outcome = LockOutcome::kGranted;  // or kDeadlock
  Lock request;
};

class LockTable {
 public:
  struct Options {
    size_t max_per_session = 50'000;  // held ranges, and as many waiters
  };

  LockTable() : LockTable(Options{}) {}
  explicit LockTable(const Options& options) : options_(options) {}

  // Decides at once. Also kUnlock, which is always granted.
  LockOutcome Set(const Lock& request, std::vector<LockDecision>* decided);
  // Queues what cannot be granted. A ticket that waits already stays where it is.
  LockOutcome SetOrWait(const Lock& request, uint64_t ticket, std::vector<LockDecision>* decided);
  // Installs without asking what others hold: for a copy of somebody else's decisions.
  void Assign(const Lock& lock);
  // False when nobody waits under that name.
  bool Cancel(const WaiterKey& waiter);

  // The conflicting lock that starts first; a request of kUnlock conflicts with nothing.
  std::optional<Lock> Conflict(const Lock& request) const;
  bool Holds(InodeId inode, LockSpace space, const LockOwner& owner) const;
  bool HoldsOverlapping(const Lock& request) const;
  // Is `lock` held, in full, with at least that type?
  bool Covers(const Lock& lock) const;

  void DropSession(SessionId session, std::vector<LockDecision>* decided);
  // The file is gone; returns its waiters, which will never be granted.
  std::vector<WaiterKey> DropInode(InodeId inode);

  // In order of inode, space, owner and start.
  std::vector<Lock> Held() const;
  std::vector<Lock> HeldOn(InodeId inode) const;
  std::vector<Lock> HeldBy(SessionId session) const;
  struct Waiting {
    WaiterKey key;
    Lock request;
  };
  std::vector<Waiting> Waiters() const;
  std::vector<Waiting> WaitersOn(InodeId inode) const;
  bool IsWaiting(const WaiterKey& waiter) const { return by_key_.contains(waiter); }
  size_t held() const;
  size_t waiting() const { return by_key_.size(); }

 private:
  struct Held_ {
    uint64_t end = 0;
    LockType type = LockType::kShared;
    int32_t pid = 0;
    bool open_description = false;
  };
  using Ranges = std::map<uint64_t, Held_>;  // by start; disjoint, and merged where type and owner agree
  struct File {
    std::map<LockOwner, Ranges> owners[2];  // by space; no empty entries
    std::map<uint64_t, Waiting> queue;      // by arrival
  };

  bool ConflictsWith(const Ranges& ranges, const Lock& request, Ranges::const_iterator* first) const;
  std::vector<LockOwner> Blockers(const File& file, const Lock& request) const;
  bool WouldDeadlock(const Lock& request) const;
  // Replaces what the owner holds in the range. True if others may profit (something was given up or
  // weakened).
  bool Apply(File& file, const Lock& request);
  void Pump(InodeId inode, std::vector<LockDecision>* decided);
  void ForgetWaiter(File& file, std::map<uint64_t, Waiting>::iterator waiter);
  void DropIfEmpty(InodeId inode);
  bool TooMany(SessionId session) const;
  static void AppendHeld(InodeId inode, const File& file, std::vector<Lock>* out);

  const Options options_;
  std::map<InodeId, File> files_;
  std::map<WaiterKey, std::pair<InodeId, uint64_t>> by_key_;
  // Those that wait for record locks of processes, for the search of deadlocks.
  std::map<LockOwner, std::set<std::pair<InodeId, uint64_t>>> waits_of_;
  std::unordered_map<SessionId, size_t> held_of_;
  uint64_t next_arrival_ = 1;
};

}  // namespace cairn::locks
