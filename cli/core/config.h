// Finding the cluster that a command means.
// Order: the cairn:// URL itself, --master, CAIRN_MASTER, ~/.config/cairn/config, /etc/cairn/cairn.conf, the
// local cluster. A config file has lines `master = host:port` (several, separated by commas, are tried in
// turn); # begins a comment. Thread-safety: pure functions over the environment and the file system.
#pragma once

#include <string>
#include <vector>

#include "cli/core/context.h"
#include "common/status.h"

namespace cairn::cli {

inline constexpr int kDefaultMasterPort = 9400;

// "host", "host:port", "[v6]:port", "v6" -> "host:port" with the default port where none is given.
Result<std::string> NormalizeAddress(const std::string& text);
// The same for a list separated by commas; at least one.
Result<std::vector<std::string>> ParseMasters(const std::string& text);
// The value of `key` in the text of a config file, or an empty string.
std::string ConfigValue(const std::string& text, const std::string& key);

// The masters that a command means when its arguments name none.
Result<std::vector<std::string>> FindMasters(const Context& context);

// The administrator's token for these masters: out of the file that the arguments name, or CAIRN_ADMIN_TOKEN_FILE, or
// `admin_token_file = path` of the config file whose `master` these are; otherwise of the local cluster, if they are its master, or of
// the master that a package runs on this machine, if they are on it: a token is shown to no master that it was not meant for. An error
// says where to put it.
Result<std::string> FindAdminToken(const Context& context, const std::vector<std::string>& masters);

// Root: /var/lib/cairn/local; others: $XDG_DATA_HOME/cairn or ~/.local/share/cairn.
std::string DefaultLocalDirectory();
std::string LocalDirectory(const Context& context);

}  // namespace cairn::cli
