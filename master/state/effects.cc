#include "master/state/effects.h"

#include <algorithm>
#include <iterator>
#include <unordered_set>
#include <utility>

namespace cairn::master {
namespace {

// Calls `visit(list_of_a, list_of_b)` for every pair of lists.
template <typename Visit>
void ForEachList(Effects& a, Effects& b, Visit visit) {
  visit(a.inodes, b.inodes);
  visit(a.accessed, b.accessed);
  visit(a.directories, b.directories);
  visit(a.last_name_gone, b.last_name_gone);
  visit(a.chunks_allocated, b.chunks_allocated);
  visit(a.chunks_opened, b.chunks_opened);
  visit(a.chunks_sealed, b.chunks_sealed);
  visit(a.chunks_configured, b.chunks_configured);
  visit(a.chunks_deleting, b.chunks_deleting);
  visit(a.chunks_dropped, b.chunks_dropped);
  visit(a.chunks_to_recover, b.chunks_to_recover);
  visit(a.chunks_damaged, b.chunks_damaged);
  visit(a.placements_needed, b.placements_needed);
  visit(a.orphans, b.orphans);
  visit(a.orphans_released, b.orphans_released);
  visit(a.inodes_removed, b.inodes_removed);
  visit(a.leases_granted, b.leases_granted);
  visit(a.leases_ended, b.leases_ended);
  visit(a.sessions_opened, b.sessions_opened);
  visit(a.sessions_closed, b.sessions_closed);
  visit(a.servers_changed, b.servers_changed);
  visit(a.policies_changed, b.policies_changed);
}

template <typename Id>
void KeepFirst(std::vector<Id>& ids) {
  if (ids.size() < 2) return;
  if constexpr (requires { std::hash<Id>()(ids[0]); }) {
    std::unordered_set<Id> seen;
    std::erase_if(ids, [&seen](const Id& id) { return !seen.insert(id).second; });
  }
}

}  // namespace

void AppendEffects(Effects from, Effects* to) {
  ForEachList(from, *to, [](auto& source, auto& target) {
    target.insert(target.end(), std::make_move_iterator(source.begin()),
                  std::make_move_iterator(source.end()));
  });
}

void RemoveDuplicates(Effects* effects) {
  Effects unused;
  ForEachList(*effects, unused, [](auto& list, auto&) { KeepFirst(list); });
}

}  // namespace cairn::master
