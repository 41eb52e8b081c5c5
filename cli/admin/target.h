// Which cluster and inode an administrator means. Beside the forms of cli/files/location.h a path below a
// local mount of Cairn is understood: the mount table tells the cluster and the directory that is mounted.
// Thread-safety: one thread.
#pragma once

#include <string>
#include <vector>

#include "cli/files/location.h"

namespace cairn::cli {

// "/mnt/cairn/a" on a mount of cairn://h:9400/dir -> {masters h:9400, path /dir/a}.
Result<Location> ParseTarget(const std::string& text);
// The masters that a command talks to: the location's, otherwise the default ones.
Result<std::vector<std::string>> MastersOf(const Context& context, const Location& location);
Result<client::Entry> ResolveTarget(Sessions& sessions, const Location& location);

// A directory that sets something of the policy in effect at a path.
struct PolicyOrigin {
  std::string path;  // without symlinks
  client::Policy own;
};
// The nearest first.
Result<std::vector<PolicyOrigin>> PolicyOrigins(client::Client& session, const std::string& path);

}  // namespace cairn::cli
