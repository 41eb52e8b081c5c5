#include "master/leases/lease_table.h"

#include <algorithm>
#include <limits>

#include "common/check.h"

namespace cairn::master {

const HeldLease* LeaseTable::Find(InodeId inode, SessionId session) const {
  auto it = by_inode_.find(inode);
  if (it == by_inode_.end()) return nullptr;
  for (const HeldLease& lease : it->second) {
    if (lease.session == session) return &lease;
  }
  return nullptr;
}

HeldLease* LeaseTable::FindMutable(InodeId inode, SessionId session) {
  return const_cast<HeldLease*>(Find(inode, session));
}

std::vector<HeldLease> LeaseTable::Holders(InodeId inode) const {
  auto it = by_inode_.find(inode);
  return it == by_inode_.end() ? std::vector<HeldLease>{} : it->second;
}

SessionId LeaseTable::Writer(InodeId inode) const {
  auto it = by_inode_.find(inode);
  if (it == by_inode_.end()) return SessionId{};
  for (const HeldLease& lease : it->second) {
    if (lease.mode == LeaseMode::kWrite) return lease.session;
  }
  return SessionId{};
}

bool LeaseTable::OthersHoldMore(InodeId inode, SessionId session, LeaseMode leave) const {
  auto it = by_inode_.find(inode);
  if (it == by_inode_.end()) return false;
  return std::any_of(it->second.begin(), it->second.end(),
                     [&](const HeldLease& lease) { return lease.session != session && lease.mode > leave; });
}

bool LeaseTable::Compatible(InodeId inode, SessionId session, LeaseMode mode) const {
  if (mode == LeaseMode::kNone) return true;
  return !OthersHoldMore(inode, session, mode == LeaseMode::kWrite ? LeaseMode::kNone : LeaseMode::kRead);
}

bool LeaseTable::BeforeReadersUnderRecall(InodeId inode, SessionId session, LeaseMode mode, Epoch number) const {
  const auto it = by_inode_.find(inode);
  return mode == LeaseMode::kWrite && it != by_inode_.end() && std::all_of(it->second.begin(), it->second.end(), [&](const HeldLease& held) {
           return held.session == session || (held.mode == LeaseMode::kRead && held.recalled && held.number > number);
         });
}

void LeaseTable::Index(InodeId inode, const HeldLease& lease) {
  PerSession& session = by_session_[lease.session];
  if (lease.mode == LeaseMode::kWrite) {
    session.writes.insert(inode);
  } else {
    session.reads.push_back(inode);
    session.read_position[inode] = std::prev(session.reads.end());
  }
  if (lease.recalled) recalls_.emplace(lease.recall_deadline_ns, inode, lease.session);
}

void LeaseTable::Unindex(InodeId inode, const HeldLease& lease) {
  if (lease.recalled) recalls_.erase({lease.recall_deadline_ns, inode, lease.session});
  auto it = by_session_.find(lease.session);
  CAIRN_CHECK(it != by_session_.end());
  PerSession& session = it->second;
  if (lease.mode == LeaseMode::kWrite) {
    session.writes.erase(inode);
  } else {
    auto position = session.read_position.find(inode);
    CAIRN_CHECK(position != session.read_position.end());
    session.reads.erase(position->second);
    session.read_position.erase(position);
  }
  if (session.reads.empty() && session.writes.empty()) by_session_.erase(it);
}

void LeaseTable::Erase(InodeId inode, SessionId session) {
  auto it = by_inode_.find(inode);
  if (it == by_inode_.end()) return;
  auto& leases = it->second;
  auto found = std::find_if(leases.begin(), leases.end(),
                            [&](const HeldLease& lease) { return lease.session == session; });
  if (found == leases.end()) return;
  Unindex(inode, *found);
  leases.erase(found);
  if (leases.empty()) by_inode_.erase(it);
}

std::vector<RecallOrder> LeaseTable::Grant(InodeId inode, SessionId session, LeaseMode mode, Epoch number,
                                           int64_t now_ns) {
  CAIRN_CHECK(mode != LeaseMode::kNone);
  CAIRN_CHECK(Compatible(inode, session, mode) || BeforeReadersUnderRecall(inode, session, mode, number),
              "a lease was granted against one that is held");
  Erase(inode, session);
  HeldLease lease{.session = session, .mode = mode, .number = number};
  by_inode_[inode].push_back(lease);
  Index(inode, lease);

  std::vector<RecallOrder> orders;
  const PerSession& mine = by_session_[session];
  if (mine.reads.size() <= options_.max_read_leases_per_session) return orders;
  // Recalled ones stay at the front until they come back, so look past them for as many as the bound is
  // exceeded by.
  size_t excess = mine.reads.size() - options_.max_read_leases_per_session;
  for (auto it = mine.reads.begin(); it != mine.reads.end() && excess > 0; ++it, --excess) {
    HeldLease* victim = FindMutable(*it, session);
    CAIRN_CHECK(victim != nullptr);
    StartRecall(*it, *victim, LeaseMode::kNone, false, now_ns, &orders);
  }
  return orders;
}

void LeaseTable::HoldForRecall(InodeId inode, SessionId session, Epoch number, int64_t now_ns) {
  CAIRN_CHECK(FindMutable(inode, session) == nullptr);
  const HeldLease lease{.session = session, .mode = LeaseMode::kRead, .number = number};
  by_inode_[inode].push_back(lease);
  Index(inode, lease);
  (void)RecallOne(inode, session, LeaseMode::kNone, false, now_ns);  // PendingRecalls has it
}

void LeaseTable::Touch(InodeId inode, SessionId session) {
  auto it = by_session_.find(session);
  if (it == by_session_.end()) return;
  auto position = it->second.read_position.find(inode);
  if (position == it->second.read_position.end()) return;
  it->second.reads.splice(it->second.reads.end(), it->second.reads, position->second);
}

void LeaseTable::StartRecall(InodeId inode, HeldLease& lease, LeaseMode leave, bool deleting, int64_t now_ns,
                             std::vector<RecallOrder>* orders) {
  if (lease.mode <= leave) return;
  if (lease.recalled && lease.recall_to <= leave && (lease.deleting || !deleting)) return;
  // A stricter recall replaces a weaker one but keeps its deadline: conflicting requests must not extend the
  // time that a silent holder gets.
  if (!lease.recalled) {
    lease.recalled = true;
    lease.recall_deadline_ns = now_ns + options_.recall_timeout_ns;
    lease.recall_to = leave;
    lease.deleting = deleting;
    recalls_.emplace(lease.recall_deadline_ns, inode, lease.session);
  } else {
    lease.recall_to = std::min(lease.recall_to, leave);
    lease.deleting = lease.deleting || deleting;
  }
  orders->push_back({lease.session, inode, lease.number, lease.recall_to, lease.deleting});
}

std::vector<RecallOrder> LeaseTable::RecallOthers(InodeId inode, SessionId session, LeaseMode leave,
                                                  bool deleting, int64_t now_ns) {
  std::vector<RecallOrder> orders;
  auto it = by_inode_.find(inode);
  if (it == by_inode_.end()) return orders;
  for (HeldLease& lease : it->second) {
    if (lease.session != session) StartRecall(inode, lease, leave, deleting, now_ns, &orders);
  }
  return orders;
}

std::vector<RecallOrder> LeaseTable::RecallOne(InodeId inode, SessionId session, LeaseMode leave,
                                               bool deleting, int64_t now_ns) {
  std::vector<RecallOrder> orders;
  if (HeldLease* lease = FindMutable(inode, session)) {
    StartRecall(inode, *lease, leave, deleting, now_ns, &orders);
  }
  return orders;
}

bool LeaseTable::Returned(InodeId inode, SessionId session, Epoch number, LeaseMode keep) {
  HeldLease* lease = FindMutable(inode, session);
  if (lease == nullptr || lease->number != number) return false;
  if (keep >= lease->mode) {
    // Nothing was given back. A recall that wants less goes on.
    return false;
  }
  if (keep == LeaseMode::kNone) {
    Erase(inode, session);
    return true;
  }
  Unindex(inode, *lease);
  lease->mode = keep;
  if (lease->recalled && lease->recall_to >= keep) {
    lease->recalled = false;
    lease->deleting = false;
    lease->dirty_bytes = UINT64_MAX;
  }
  Index(inode, *lease);
  return true;
}

void LeaseTable::Progress(InodeId inode, SessionId session, Epoch number, uint64_t dirty_bytes,
                          int64_t now_ns) {
  HeldLease* lease = FindMutable(inode, session);
  if (lease == nullptr || lease->number != number || !lease->recalled) return;
  if (dirty_bytes >= lease->dirty_bytes) return;
  recalls_.erase({lease->recall_deadline_ns, inode, session});
  lease->dirty_bytes = dirty_bytes;
  lease->recall_deadline_ns = now_ns + options_.recall_timeout_ns;
  recalls_.emplace(lease->recall_deadline_ns, inode, session);
}

std::vector<SessionId> LeaseTable::OverdueSessions(int64_t now_ns) const {
  std::vector<SessionId> sessions;
  for (const auto& [deadline, inode, session] : recalls_) {
    if (deadline > now_ns) break;
    if (std::find(sessions.begin(), sessions.end(), session) == sessions.end()) sessions.push_back(session);
  }
  return sessions;
}

int64_t LeaseTable::NextDeadline() const {
  return recalls_.empty() ? std::numeric_limits<int64_t>::max() : std::get<0>(*recalls_.begin());
}

std::vector<RecallOrder> LeaseTable::PendingRecalls(SessionId session) const {
  std::vector<RecallOrder> orders;
  for (const auto& [deadline, inode, holder] : recalls_) {
    if (holder != session) continue;
    const HeldLease* lease = Find(inode, session);
    CAIRN_CHECK(lease != nullptr);
    orders.push_back({session, inode, lease->number, lease->recall_to, lease->deleting});
  }
  return orders;
}

std::vector<InodeId> LeaseTable::DropSession(SessionId session) {
  std::vector<InodeId> inodes = ReadLeases(session);
  for (InodeId inode : WriteLeases(session)) inodes.push_back(inode);
  for (InodeId inode : inodes) Erase(inode, session);
  return inodes;
}

std::vector<InodeId> LeaseTable::WriteLeases(SessionId session) const {
  auto it = by_session_.find(session);
  if (it == by_session_.end()) return {};
  return {it->second.writes.begin(), it->second.writes.end()};
}

std::vector<InodeId> LeaseTable::ReadLeases(SessionId session) const {
  auto it = by_session_.find(session);
  if (it == by_session_.end()) return {};
  return {it->second.reads.begin(), it->second.reads.end()};
}

size_t LeaseTable::WriteLeaseCount(SessionId session) const {
  const auto it = by_session_.find(session);
  return it == by_session_.end() ? 0 : it->second.writes.size();
}

size_t LeaseTable::ReadLeaseCount(SessionId session) const {
  auto it = by_session_.find(session);
  return it == by_session_.end() ? 0 : it->second.reads.size();
}

size_t LeaseTable::size() const {
  size_t count = 0;
  for (const auto& [inode, leases] : by_inode_) count += leases.size();
  return count;
}

}  // namespace cairn::master
