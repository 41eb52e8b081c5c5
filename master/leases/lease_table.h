// Who holds which lease on which inode, and which of them are being recalled. Pure: no clock, no I/O, no
// protobuf.
//
//   auto orders = table.RecallOthers(inode, session, LeaseMode::kNone, ...);  // send them, wait
//   table.Returned(inode, holder, number, LeaseMode::kNone);                  // one answer each
//   table.Compatible(inode, session, LeaseMode::kWrite) == true               // go on
//   table.Grant(inode, session, LeaseMode::kWrite, number);
//
// Any number of sessions may hold `read` on an inode, or exactly one `write`. A lease under recall counts as
// held until it was returned or its session ended. Read leases per session are bounded: the least recently
// granted ones are recalled.
//
// Thread-safety: none; owned by the master's core thread.
#pragma once

#include <cstdint>
#include <list>
#include <set>
#include <tuple>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "common/ids.h"

namespace cairn::master {

enum class LeaseMode : uint8_t { kNone = 0, kRead = 1, kWrite = 2 };

struct HeldLease {
  SessionId session;
  LeaseMode mode = LeaseMode::kNone;
  Epoch number;
  bool recalled = false;
  bool deleting = false;
  LeaseMode recall_to = LeaseMode::kNone;  // valid while recalled
  int64_t recall_deadline_ns = 0;
  uint64_t dirty_bytes = UINT64_MAX;  // last progress reported; only less of it extends the deadline
};

// One recall that has to be sent to its session.
struct RecallOrder {
  SessionId session;
  InodeId inode;
  Epoch number;
  LeaseMode keep = LeaseMode::kNone;
  bool deleting = false;
  bool operator==(const RecallOrder&) const = default;
};

class LeaseTable {
 public:
  struct Options {
    size_t max_read_leases_per_session = 100'000;
    int64_t recall_timeout_ns = 10'000'000'000;
  };

  explicit LeaseTable(const Options& options) : options_(options) {}

  // The session's lease on the inode; nullptr when it has none.
  const HeldLease* Find(InodeId inode, SessionId session) const;
  // Every lease on the inode, in order of grant.
  std::vector<HeldLease> Holders(InodeId inode) const;
  // Session that holds `write`; zero when nobody does.
  SessionId Writer(InodeId inode) const;

  // May `session` be given `mode` now, with what the other sessions hold? kNone asks nothing and is always
  // compatible.
  bool Compatible(InodeId inode, SessionId session, LeaseMode mode) const;
  // Installs or replaces the session's lease. Precondition: Compatible, or a write lease of the past (its number is lower) whose return
  // is still to come, beside readers under recall. Returns recalls of read leases by which the session now exceeds its bound.
  std::vector<RecallOrder> Grant(InodeId inode, SessionId session, LeaseMode mode, Epoch number,
                                 int64_t now_ns);
  // A read lease that its holder uses, although by what is known here it cannot: held until the recall that this begins is answered.
  // Precondition: the session holds none on the inode.
  void HoldForRecall(InodeId inode, SessionId session, Epoch number, int64_t now_ns);
  // Marks a use of a read lease, for the order of eviction.
  void Touch(InodeId inode, SessionId session);

  // Starts recalls so that no session but `session` holds more than `leave`. Returns those that were not
  // already sent at this level; the leases stay held until Returned.
  std::vector<RecallOrder> RecallOthers(InodeId inode, SessionId session, LeaseMode leave, bool deleting,
                                        int64_t now_ns);
  // Recalls the lease of one session, whatever the others hold.
  std::vector<RecallOrder> RecallOne(InodeId inode, SessionId session, LeaseMode leave, bool deleting,
                                     int64_t now_ns);
  // Does any session but `session` hold more than `leave`?
  bool OthersHoldMore(InodeId inode, SessionId session, LeaseMode leave) const;

  // The holder gave the lease back down to `keep`. False when it has no lease of that number (late or
  // repeated answer).
  bool Returned(InodeId inode, SessionId session, Epoch number, LeaseMode keep);
  // The holder is still flushing. The deadline moves only when the dirty bytes shrank.
  void Progress(InodeId inode, SessionId session, Epoch number, uint64_t dirty_bytes, int64_t now_ns);

  // Sessions with a recall unanswered past its deadline.
  std::vector<SessionId> OverdueSessions(int64_t now_ns) const;
  // Earliest recall deadline; INT64_MAX when nothing is being recalled.
  int64_t NextDeadline() const;
  // Recalls of a session that are still to be answered (sent again after a reconnect).
  std::vector<RecallOrder> PendingRecalls(SessionId session) const;

  // Forgets every lease of the session; returns the inodes concerned.
  std::vector<InodeId> DropSession(SessionId session);
  // Inodes on which the session holds `write` / `read`.
  std::vector<InodeId> WriteLeases(SessionId session) const;
  std::vector<InodeId> ReadLeases(SessionId session) const;
  size_t ReadLeaseCount(SessionId session) const;
  size_t WriteLeaseCount(SessionId session) const;
  size_t size() const;  // leases in the table

 private:
  struct PerSession {
    std::list<InodeId> reads;  // least recently used first
    std::unordered_map<InodeId, std::list<InodeId>::iterator> read_position;
    std::unordered_set<InodeId> writes;
  };

  HeldLease* FindMutable(InodeId inode, SessionId session);
  bool BeforeReadersUnderRecall(InodeId inode, SessionId session, LeaseMode mode, Epoch number) const;
  void Index(InodeId inode, const HeldLease& lease);
  void Unindex(InodeId inode, const HeldLease& lease);
  void Erase(InodeId inode, SessionId session);
  void StartRecall(InodeId inode, HeldLease& lease, LeaseMode leave, bool deleting, int64_t now_ns,
                   std::vector<RecallOrder>* orders);

  const Options options_;
  std::unordered_map<InodeId, std::vector<HeldLease>> by_inode_;
  std::unordered_map<SessionId, PerSession> by_session_;
  std::set<std::tuple<int64_t, InodeId, SessionId>> recalls_;  // by deadline
};

}  // namespace cairn::master
