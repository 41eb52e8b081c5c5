// Which operations wait for which inode, oldest first, and which one has an inode to itself.
//
// Operations are re-evaluated from their start whenever something they wait for changed, so nobody holds one
// inode while waiting for another, and there is no deadlock to avoid. Age (the operation's number) decides
// the order. An inode that somebody waits for gives no optional leases away, otherwise readers could starve a
// waiting writer.
//
// Thread-safety: none; owned by the master's core thread.
#pragma once

#include <cstdint>
#include <set>
#include <unordered_map>
#include <vector>

#include "common/check.h"
#include "common/ids.h"

namespace cairn::master {

using OperationId = uint64_t;  // increasing with age; 0 = none

class InodeQueue {
 public:
  void Wait(InodeId inode, OperationId op) {
    waiting_[inode].insert(op);
    waits_of_[op].insert(inode);
  }
  // Forgets every wait of the operation (before it is evaluated again, or when it ended) and returns them. Those that it does
  // not take up again are for the caller to wake: a younger operation may stand behind this one.
  std::vector<InodeId> StopWaiting(OperationId op) {
    auto it = waits_of_.find(op);
    if (it == waits_of_.end()) return {};
    std::vector<InodeId> inodes(it->second.begin(), it->second.end());
    for (InodeId inode : inodes) {
      auto waiting = waiting_.find(inode);
      waiting->second.erase(op);
      if (waiting->second.empty()) waiting_.erase(waiting);
    }
    waits_of_.erase(it);
    return inodes;
  }
  bool IsWaiting(InodeId inode, OperationId op) const {
    auto it = waits_of_.find(op);
    return it != waits_of_.end() && it->second.contains(inode);
  }
  // Those who wait, oldest first.
  std::vector<OperationId> Waiters(InodeId inode) const {
    auto it = waiting_.find(inode);
    if (it == waiting_.end()) return {};
    return {it->second.begin(), it->second.end()};
  }
  bool HasWaiters(InodeId inode) const { return waiting_.contains(inode); }
  bool HasOlderWaiter(InodeId inode, OperationId op) const {
    auto it = waiting_.find(inode);
    return it != waiting_.end() && *it->second.begin() < op;
  }

  // Exclusive use by one operation, across its own waits. Precondition: nobody else has it.
  void Lock(InodeId inode, OperationId op) {
    CAIRN_CHECK(!LockedByOther(inode, op), "an inode has two exclusive operations");
    locks_[inode] = op;
  }
  void Unlock(InodeId inode, OperationId op) {
    auto it = locks_.find(inode);
    if (it != locks_.end() && it->second == op) locks_.erase(it);
  }
  bool Locked(InodeId inode) const { return locks_.contains(inode); }
  bool LockedByOther(InodeId inode, OperationId op) const {
    auto it = locks_.find(inode);
    return it != locks_.end() && it->second != op;
  }

 private:
  std::unordered_map<InodeId, std::set<OperationId>> waiting_;
  std::unordered_map<OperationId, std::set<InodeId>> waits_of_;
  std::unordered_map<InodeId, OperationId> locks_;
};

}  // namespace cairn::master
