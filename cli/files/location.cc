#include "cli/files/location.h"

#include <unistd.h>

#include "cli/core/config.h"

namespace cairn::cli {

Result<Location> ParseLocation(const std::string& text, bool plain_is_cluster) {
  Location location;
  constexpr std::string_view kScheme = "cairn:";
  if (text.compare(0, kScheme.size(), kScheme) != 0) {
    location.cluster = plain_is_cluster;
    location.path = text;
    if (plain_is_cluster && (text.empty() || text[0] != '/')) {
      return Status(StatusCode::kInvalidArgument, "'" + text +
                                                      "' is not an absolute path of the cluster (write /" +
                                                      text + " or cairn://HOST:PORT/" + text + ")");
    }
    return location;
  }
  location.cluster = true;
  std::string rest = text.substr(kScheme.size());
  if (rest.compare(0, 2, "//") == 0) {
    rest.erase(0, 2);
    const size_t slash = rest.find('/');
    location.masters = rest.substr(0, slash);
    rest = slash == std::string::npos ? "/" : rest.substr(slash);
    if (!location.masters.empty()) {
      CAIRN_RETURN_IF_ERROR(ParseMasters(location.masters).status().WithContext("'" + text + "'"));
    }
  }
  if (rest.empty() || rest[0] != '/') {
    return Status(StatusCode::kInvalidArgument,
                  "'" + text + "' needs an absolute path: cairn:/PATH or cairn://HOST:PORT/PATH");
  }
  location.path = rest;
  return location;
}

Result<std::unique_ptr<client::Client>> Sessions::Fresh(const Location& location) {
  client::ClientOptions options;
  if (location.masters.empty()) {
    CAIRN_ASSIGN_OR_RETURN(options.masters, FindMasters(context_));
  } else {
    CAIRN_ASSIGN_OR_RETURN(options.masters, ParseMasters(location.masters));
  }
  return context_.connect(options);
}

Result<client::Client*> Sessions::Get(const Location& location) {
  auto& slot = open_[location.masters];
  if (slot == nullptr) {
    CAIRN_ASSIGN_OR_RETURN(slot, Fresh(location));
  }
  return slot.get();
}

client::Caller CurrentCaller() {
  client::Caller caller;
  caller.uid = geteuid();
  caller.gid = getegid();
  gid_t groups[65536];
  const int count = getgroups(65536, groups);
  for (int i = 0; i < count; ++i) caller.groups.push_back(groups[i]);
  return caller;
}

Result<client::Entry> ClusterPath::Resolve(bool follow_last) const {
  auto entry = client::ResolvePath(*client, caller, path, follow_last);
  if (!entry.ok()) return entry.status().WithContext(path);
  return entry;
}

Result<client::ParentAndName> ClusterPath::Parent() const {
  auto parent = client::ResolveParent(*client, caller, path);
  if (!parent.ok()) return parent.status().WithContext(path);
  return parent;
}

Result<ClusterPath> OpenClusterPath(Sessions& sessions, const std::string& argument) {
  CAIRN_ASSIGN_OR_RETURN(const Location location, ParseLocation(argument, true));
  ClusterPath path;
  CAIRN_ASSIGN_OR_RETURN(path.client, sessions.Get(location));
  path.caller = CurrentCaller();
  path.path = location.path;
  return path;
}

std::string JoinPath(const std::string& directory, const std::string& name) {
  if (directory.empty()) return name;
  return directory.back() == '/' ? directory + name : directory + "/" + name;
}

std::string BaseName(const std::string& path) {
  std::string text = path;
  while (text.size() > 1 && text.back() == '/') text.pop_back();
  const size_t slash = text.rfind('/');
  return slash == std::string::npos || text == "/" ? text : text.substr(slash + 1);
}

Result<bool> CompleteEntry(client::Client& client, const client::Caller& caller, client::DirectoryEntry& entry) {
  if (entry.entry) return true;
  auto attributes = client.GetAttr(caller, entry.inode);
  if (attributes.code() == StatusCode::kNotFound || attributes.code() == StatusCode::kStaleHandle) return false;
  if (!attributes.ok()) return attributes.status().WithContext(entry.name);
  entry.entry = *std::move(attributes);
  return true;
}

Status ForEachEntry(client::Client& client, const client::Caller& caller, InodeId directory,
                    const std::function<Status(const client::DirectoryEntry&)>& visit) {
  uint64_t cursor = 0;
  for (;;) {
    CAIRN_ASSIGN_OR_RETURN(auto page, client.ReadDirectory(caller, directory, cursor, 1000, true));
    if (page.empty()) return Status::Ok();
    for (client::DirectoryEntry& entry : page) {
      if (Interrupted()) return {StatusCode::kInterrupted, "interrupted"};
      cursor = entry.cursor;
      CAIRN_ASSIGN_OR_RETURN(const bool present, CompleteEntry(client, caller, entry));
      if (present) CAIRN_RETURN_IF_ERROR(visit(entry));
    }
  }
}

}  // namespace cairn::cli
