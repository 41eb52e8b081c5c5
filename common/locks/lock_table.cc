#include "common/locks/lock_table.h"

#include <algorithm>
#include <utility>

namespace cairn::locks {
namespace {

size_t IndexOf(LockSpace space) { return static_cast<size_t>(space); }

}  // namespace

bool LockTable::ConflictsWith(const Ranges& ranges, const Lock& request,
                              Ranges::const_iterator* first) const {
  auto it = ranges.upper_bound(request.start);
  if (it != ranges.begin() && std::prev(it)->second.end >= request.start) --it;
  for (; it != ranges.end() && it->first <= request.end; ++it) {
    if (request.type == LockType::kExclusive || it->second.type == LockType::kExclusive) {
      *first = it;
      return true;
    }
  }
  return false;
}

std::optional<Lock> LockTable::Conflict(const Lock& request) const {
  if (request.type == LockType::kUnlock) return std::nullopt;
  const auto file = files_.find(request.inode);
  if (file == files_.end()) return std::nullopt;
  std::optional<Lock> found;
  for (const auto& [owner, ranges] : file->second.owners[IndexOf(request.space)]) {
    Ranges::const_iterator at;
    if (owner == request.owner || !ConflictsWith(ranges, request, &at)) continue;
    if (found && found->start <= at->first) continue;
    found = Lock{.inode = request.inode,
                 .space = request.space,
                 .owner = owner,
                 .type = at->second.type,
                 .start = at->first,
                 .end = at->second.end,
                 .pid = at->second.pid,
                 .open_description = at->second.open_description};
  }
  return found;
}

std::vector<LockOwner> LockTable::Blockers(const File& file, const Lock& request) const {
  std::vector<LockOwner> owners;
  for (const auto& [owner, ranges] : file.owners[IndexOf(request.space)]) {
    Ranges::const_iterator at;
    if (owner != request.owner && ConflictsWith(ranges, request, &at)) owners.push_back(owner);
  }
  return owners;
}

bool LockTable::WouldDeadlock(const Lock& request) const {
  if (request.space != LockSpace::kRecord || request.open_description) return false;
  std::vector<LockOwner> open = Blockers(files_.at(request.inode), request);
  std::set<LockOwner> seen(open.begin(), open.end());
  while (!open.empty()) {
    const LockOwner owner = open.back();
    open.pop_back();
    const auto waits = waits_of_.find(owner);
    if (waits == waits_of_.end()) continue;
    for (const auto& [inode, arrival] : waits->second) {
      const File& file = files_.at(inode);
      for (const LockOwner& blocker : Blockers(file, file.queue.at(arrival).request)) {
        if (blocker == request.owner) return true;
        if (seen.insert(blocker).second) open.push_back(blocker);
      }
    }
  }
  return false;
}

bool LockTable::Apply(File& file, const Lock& request) {
  auto& owners = file.owners[IndexOf(request.space)];
  if (request.type == LockType::kUnlock && !owners.contains(request.owner)) return false;
  Ranges& ranges = owners[request.owner];
  const size_t before = ranges.size();
  bool weaker = false;
  // Cut the range out of what is there.
  auto it = ranges.upper_bound(request.start);
  if (it != ranges.begin() && std::prev(it)->second.end >= request.start) --it;
  while (it != ranges.end() && it->first <= request.end) {
    const uint64_t start = it->first;
    const Held_ old = it->second;
    weaker |= request.type < old.type;
    it = ranges.erase(it);
    if (start < request.start) {
      Held_ left = old;
      left.end = request.start - 1;
      ranges.emplace(start, left);
    }
    if (old.end > request.end) it = ranges.emplace(request.end + 1, old).first;
  }
  if (request.type != LockType::kUnlock) {
    uint64_t start = request.start;
    uint64_t end = request.end;
    // Neighbours of the same type become one lock with it.
    auto next = ranges.upper_bound(start);
    if (next != ranges.end() && end != kMaxOffset && next->first == end + 1 &&
        next->second.type == request.type) {
      end = next->second.end;
      next = ranges.erase(next);
    }
    if (next != ranges.begin()) {
      const auto previous = std::prev(next);
      if (previous->second.type == request.type && previous->second.end + 1 == start) {
        start = previous->first;
        ranges.erase(previous);
      }
    }
    ranges[start] = {
        .end = end, .type = request.type, .pid = request.pid, .open_description = request.open_description};
  }
  const size_t after = ranges.size();
  if (ranges.empty()) owners.erase(request.owner);
  size_t& count = held_of_[request.owner.session];
  count += after;
  count -= before;
  if (count == 0) held_of_.erase(request.owner.session);
  return weaker;
}

bool LockTable::TooMany(SessionId session) const {
  const auto it = held_of_.find(session);
  return it != held_of_.end() && it->second >= options_.max_per_session;
}

LockOutcome LockTable::Set(const Lock& request, std::vector<LockDecision>* decided) {
  if (request.type == LockType::kUnlock) {
    const auto file = files_.find(request.inode);
    if (file != files_.end() && Apply(file->second, request)) Pump(request.inode, decided);
    DropIfEmpty(request.inode);
    return LockOutcome::kGranted;
  }
  if (TooMany(request.owner.session)) return LockOutcome::kTooMany;
  const bool conflict = Conflict(request).has_value();
  if (conflict && request.space == LockSpace::kFlock) {
    // A conversion gives up first, whatever becomes of it.
    Lock old = request;
    old.type = LockType::kUnlock;
    const auto file = files_.find(request.inode);
    if (file != files_.end() && Apply(file->second, old)) Pump(request.inode, decided);
  }
  if (conflict) {
    DropIfEmpty(request.inode);
    return LockOutcome::kConflict;
  }
  if (Apply(files_[request.inode], request)) Pump(request.inode, decided);
  return LockOutcome::kGranted;
}

LockOutcome LockTable::SetOrWait(const Lock& request, uint64_t ticket, std::vector<LockDecision>* decided) {
  const WaiterKey key{request.owner.session, ticket};
  if (by_key_.contains(key)) return LockOutcome::kQueued;
  const LockOutcome outcome = Set(request, decided);
  if (outcome != LockOutcome::kConflict) return outcome;
  size_t waiting = 0;
  for (auto it = by_key_.lower_bound({key.session, 0});
       it != by_key_.end() && it->first.session == key.session; ++it) {
    if (++waiting >= options_.max_per_session) return LockOutcome::kTooMany;
  }
  // Giving up the old flock may have let others in, never the asking one itself.
  if (WouldDeadlock(request)) return LockOutcome::kDeadlock;
  const uint64_t arrival = next_arrival_++;
  files_[request.inode].queue.emplace(arrival, Waiting{key, request});
  by_key_.emplace(key, std::pair(request.inode, arrival));
  if (request.space == LockSpace::kRecord && !request.open_description) {
    waits_of_[request.owner].emplace(request.inode, arrival);
  }
  return LockOutcome::kQueued;
}

void LockTable::Assign(const Lock& lock) {
  Apply(files_[lock.inode], lock);
  DropIfEmpty(lock.inode);
}

void LockTable::ForgetWaiter(File& file, std::map<uint64_t, Waiting>::iterator waiter) {
  const Lock& request = waiter->second.request;
  const auto waits = waits_of_.find(request.owner);
  if (waits != waits_of_.end()) {
    waits->second.erase({request.inode, waiter->first});
    if (waits->second.empty()) waits_of_.erase(waits);
  }
  by_key_.erase(waiter->second.key);
  file.queue.erase(waiter);
}

bool LockTable::Cancel(const WaiterKey& key) {
  const auto it = by_key_.find(key);
  if (it == by_key_.end()) return false;
  const auto [inode, arrival] = it->second;
  File& file = files_.at(inode);
  ForgetWaiter(file, file.queue.find(arrival));
  DropIfEmpty(inode);
  return true;
}

void LockTable::Pump(InodeId inode, std::vector<LockDecision>* decided) {
  File& file = files_.at(inode);
  bool again = true;
  while (again) {
    again = false;
    bool recheck = false;
    for (auto it = file.queue.begin(); it != file.queue.end();) {
      const auto waiter = it++;
      if (Conflict(waiter->second.request)) continue;
      const Waiting granted = waiter->second;
      ForgetWaiter(file, waiter);
      again |= Apply(file, granted.request);  // it may have weakened a lock of its own
      // Another thread of that process still waits: those behind it may now wait in a circle.
      recheck |= waits_of_.contains(granted.request.owner);
      decided->push_back({granted.key, LockOutcome::kGranted, granted.request});
    }
    for (auto it = file.queue.begin(); recheck && it != file.queue.end();) {
      const auto waiter = it++;
      if (!WouldDeadlock(waiter->second.request)) continue;
      decided->push_back({waiter->second.key, LockOutcome::kDeadlock, waiter->second.request});
      ForgetWaiter(file, waiter);
    }
  }
}

bool LockTable::Holds(InodeId inode, LockSpace space, const LockOwner& owner) const {
  const auto file = files_.find(inode);
  return file != files_.end() && file->second.owners[IndexOf(space)].contains(owner);
}

bool LockTable::HoldsOverlapping(const Lock& request) const {
  const auto file = files_.find(request.inode);
  if (file == files_.end()) return false;
  const auto& owners = file->second.owners[IndexOf(request.space)];
  const auto owner = owners.find(request.owner);
  if (owner == owners.end()) return false;
  auto it = owner->second.upper_bound(request.end);
  return it != owner->second.begin() && std::prev(it)->second.end >= request.start;
}

bool LockTable::Covers(const Lock& lock) const {
  const auto file = files_.find(lock.inode);
  if (file == files_.end()) return false;
  const auto& owners = file->second.owners[IndexOf(lock.space)];
  const auto owner = owners.find(lock.owner);
  if (owner == owners.end()) return false;
  uint64_t at = lock.start;
  auto it = owner->second.upper_bound(at);
  if (it != owner->second.begin()) --it;
  for (; it != owner->second.end() && it->first <= at; ++it) {
    if (it->second.end < at) continue;
    if (it->second.type < lock.type) return false;
    if (it->second.end >= lock.end) return true;
    at = it->second.end + 1;
  }
  return false;
}

void LockTable::DropSession(SessionId session, std::vector<LockDecision>* decided) {
  for (auto it = by_key_.lower_bound({session, 0}); it != by_key_.end() && it->first.session == session;) {
    const auto [inode, arrival] = (it++)->second;
    File& file = files_.at(inode);
    ForgetWaiter(file, file.queue.find(arrival));
  }
  std::vector<InodeId> touched;
  for (auto& [inode, file] : files_) {
    bool found = false;
    for (auto& owners : file.owners) {
      for (auto it = owners.lower_bound({session, 0}); it != owners.end() && it->first.session == session;) {
        it = owners.erase(it);
        found = true;
      }
    }
    if (found || file.queue.empty()) touched.push_back(inode);
  }
  held_of_.erase(session);
  for (InodeId inode : touched) {
    Pump(inode, decided);
    DropIfEmpty(inode);
  }
}

std::vector<WaiterKey> LockTable::DropInode(InodeId inode) {
  std::vector<WaiterKey> waiters;
  const auto it = files_.find(inode);
  if (it == files_.end()) return waiters;
  File& file = it->second;
  while (!file.queue.empty()) {
    waiters.push_back(file.queue.begin()->second.key);
    ForgetWaiter(file, file.queue.begin());
  }
  for (const auto& owners : file.owners) {
    for (const auto& [owner, ranges] : owners) {
      size_t& count = held_of_[owner.session];
      count -= ranges.size();
      if (count == 0) held_of_.erase(owner.session);
    }
  }
  files_.erase(it);
  return waiters;
}

void LockTable::DropIfEmpty(InodeId inode) {
  const auto it = files_.find(inode);
  if (it == files_.end()) return;
  const File& file = it->second;
  if (file.owners[0].empty() && file.owners[1].empty() && file.queue.empty()) files_.erase(it);
}

void LockTable::AppendHeld(InodeId inode, const File& file, std::vector<Lock>* out) {
  for (const LockSpace space : {LockSpace::kRecord, LockSpace::kFlock}) {
    for (const auto& [owner, ranges] : file.owners[IndexOf(space)]) {
      for (const auto& [start, held] : ranges) {
        out->push_back({.inode = inode,
                        .space = space,
                        .owner = owner,
                        .type = held.type,
                        .start = start,
                        .end = held.end,
                        .pid = held.pid,
                        .open_description = held.open_description});
      }
    }
  }
}

std::vector<Lock> LockTable::Held() const {
  std::vector<Lock> all;
  for (const auto& [inode, file] : files_) AppendHeld(inode, file, &all);
  return all;
}

std::vector<Lock> LockTable::HeldOn(InodeId inode) const {
  std::vector<Lock> all;
  const auto it = files_.find(inode);
  if (it != files_.end()) AppendHeld(inode, it->second, &all);
  return all;
}

std::vector<Lock> LockTable::HeldBy(SessionId session) const {
  std::vector<Lock> all = Held();
  std::erase_if(all, [session](const Lock& lock) { return lock.owner.session != session; });
  return all;
}

std::vector<LockTable::Waiting> LockTable::WaitersOn(InodeId inode) const {
  std::vector<Waiting> all;
  const auto it = files_.find(inode);
  if (it == files_.end()) return all;
  for (const auto& [arrival, waiting] : it->second.queue) all.push_back(waiting);
  return all;
}

std::vector<LockTable::Waiting> LockTable::Waiters() const {
  std::vector<Waiting> all;
  for (const auto& [inode, file] : files_) {
    for (const auto& [arrival, waiting] : file.queue) all.push_back(waiting);
  }
  return all;
}

size_t LockTable::held() const {
  size_t count = 0;
  for (const auto& [session, held] : held_of_) count += held;
  return count;
}

}  // namespace cairn::locks
