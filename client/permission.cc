#include "client/permission.h"

#include <algorithm>
#include <fstream>
#include <sstream>
#include <string>

namespace cairn::client {

std::vector<uint32_t> GroupsOf(const Caller& caller) {
  if (caller.pid == 0 || !caller.groups.empty()) return caller.groups;
  std::vector<uint32_t> groups;
  std::ifstream status("/proc/" + std::to_string(caller.pid) + "/status");
  for (std::string line; std::getline(status, line);) {
    if (!line.starts_with("Groups:")) continue;
    std::istringstream numbers(line.substr(7));
    for (uint32_t group = 0; numbers >> group;)
      groups.push_back(caller.group_map == nullptr ? group : caller.group_map->GroupToCluster(group));
    break;
  }
  return groups;
}

Verdict CheckPermission(const Attributes& attr, const Caller& caller, uint32_t mask, bool squash_root) {
  if (mask == 0) return Verdict::kAllowed;
  if (caller.uid == 0) {
    if (squash_root) return Verdict::kAskMaster;
    // Root may do everything, but executes only what somebody may execute.
    const bool executable = attr.type == FileType::kDirectory || (attr.mode & 0111) != 0;
    return (mask & kMayExecute) != 0 && !executable ? Verdict::kDenied : Verdict::kAllowed;
  }
  const auto verdict = [&](uint32_t bits) {
    return (bits & mask) == mask ? Verdict::kAllowed : Verdict::kDenied;
  };
  const Verdict owner = verdict(attr.mode >> 6 & 7);
  const Verdict group = verdict(attr.mode >> 3 & 7);
  const Verdict other = verdict(attr.mode & 7);
  if (caller.uid == attr.uid) return owner;  // an access control list cannot say otherwise for the owner
  if (attr.has_acl) return Verdict::kAskMaster;
  if (group == other) return group;
  if (caller.gid == attr.gid) return group;
  // Only now do the supplementary groups matter, and reading them costs.
  const std::vector<uint32_t> groups = GroupsOf(caller);
  return std::find(groups.begin(), groups.end(), attr.gid) != groups.end() ? group : other;
}

}  // namespace cairn::client
