#include "cli/admin/target.h"

#include <filesystem>

#include "cli/core/config.h"
#include "cli/core/policy_text.h"
#include "fuse/mountpoint.h"

namespace cairn::cli {

Result<Location> ParseTarget(const std::string& text) {
  if (!text.starts_with("cairn:")) {
    std::error_code error;
    // The last component is not followed: a symbolic link on the mount belongs to the cluster.
    const auto absolute = std::filesystem::absolute(text, error).lexically_normal();
    const auto parent = std::filesystem::weakly_canonical(absolute.parent_path(), error);
    std::string path = (error ? absolute : parent / absolute.filename()).string();
    while (path.size() > 1 && path.ends_with('/')) path.pop_back();
    const auto mount = fuse::FindMountAbove(path);
    if (mount && mount->type == fuse::kMountType) {
      CAIRN_ASSIGN_OR_RETURN(Location location, ParseLocation(mount->source, true));
      const std::string inside = path.substr(mount->mountpoint.size());
      if (inside.size() > 1) location.path = JoinPath(location.path, inside.substr(1));
      return location;
    }
  }
  return ParseLocation(text, true);
}

Result<std::vector<std::string>> MastersOf(const Context& context, const Location& location) {
  return location.masters.empty() ? FindMasters(context) : ParseMasters(location.masters);
}

Result<client::Entry> ResolveTarget(Sessions& sessions, const Location& location) {
  CAIRN_ASSIGN_OR_RETURN(client::Client * session, sessions.Get(location));
  return client::ResolvePath(*session, CurrentCaller(), location.path, true);
}

Result<std::vector<PolicyOrigin>> PolicyOrigins(client::Client& session, const std::string& path) {
  const client::Caller caller = CurrentCaller();
  CAIRN_ASSIGN_OR_RETURN(const auto steps, client::ResolveSteps(session, caller, path, true));
  std::vector<PolicyOrigin> origins;
  for (auto step = steps.rbegin(); step != steps.rend(); ++step) {
    if (step->entry.attr.type != client::FileType::kDirectory) continue;
    CAIRN_ASSIGN_OR_RETURN(client::PolicyPair policy, session.GetPolicy(caller, step->entry.attr.inode));
    if (!PolicyText(policy.own).empty()) origins.push_back({step->path, std::move(policy.own)});
  }
  return origins;
}

}  // namespace cairn::cli
