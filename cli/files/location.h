// Which cluster and which path an argument means, and one session per cluster for the whole command.
//
//   cairn://host:port/path   that cluster          cairn:/path, cairn:///path   the default cluster
//   /path                    the default cluster for commands that only know the cluster; a local path for cp
//
// Thread-safety: Sessions from one thread; the clients that it hands out from any.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "cli/core/context.h"
#include "client/client.h"

namespace cairn::cli {

struct Location {
  bool cluster = false;
  std::string masters;  // "host:port[,host:port]"; empty: the default cluster
  std::string path;     // of a cluster: absolute; local: as given
};

// `plain_is_cluster`: what an argument without "cairn:" means. kInvalidArgument for a malformed URL.
Result<Location> ParseLocation(const std::string& text, bool plain_is_cluster);

class Sessions {
 public:
  explicit Sessions(Context& context) : context_(context) {}
  // The session with the cluster of `location`, opened at first use.
  Result<client::Client*> Get(const Location& location);
  // A session of its own, with nothing cached (for --verify).
  Result<std::unique_ptr<client::Client>> Fresh(const Location& location);

 private:
  Context& context_;
  std::map<std::string, std::unique_ptr<client::Client>> open_;
};

// Who runs this command, with its groups.
client::Caller CurrentCaller();

// A path of a cluster, ready to be worked on.
struct ClusterPath {
  client::Client* client = nullptr;
  client::Caller caller;
  std::string path;
  Result<client::Entry> Resolve(bool follow_last) const;
  Result<client::ParentAndName> Parent() const;
};
Result<ClusterPath> OpenClusterPath(Sessions& sessions, const std::string& argument);

std::string JoinPath(const std::string& directory, const std::string& name);
// Last component without trailing slashes: "a/b/" -> "b", "/" -> "/".
std::string BaseName(const std::string& path);

// Asks for the attributes of an entry when the listing had none: it carries none of a file that another session writes. False: it was
// removed since it was listed.
Result<bool> CompleteEntry(client::Client& client, const client::Caller& caller, client::DirectoryEntry& entry);

// Calls `visit` for every entry of a directory, page by page, with attributes. Stops at the first error.
Status ForEachEntry(client::Client& client, const client::Caller& caller, InodeId directory,
                    const std::function<Status(const client::DirectoryEntry&)>& visit);

}  // namespace cairn::cli
