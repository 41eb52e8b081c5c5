// Path resolution over the inode interface, with symbolic links, as path_resolution(7) describes it.
#include <algorithm>
#include <deque>

#include "client/client.h"

namespace cairn::client {
namespace {

constexpr int kMaxSymlinks = 40;  // as the kernel
constexpr size_t kMaxNameBytes = 255;
constexpr size_t kMaxPathBytes = 4096;

std::deque<std::string> Split(const std::string& path) {
  std::deque<std::string> parts;
  size_t at = 0;
  while (at < path.size()) {
    const size_t end = std::min(path.find('/', at), path.size());
    if (end > at && path.compare(at, end - at, ".") != 0) parts.push_back(path.substr(at, end - at));
    at = end + 1;
  }
  return parts;
}

bool RequiresDirectory(const std::string& path) {
  return path.empty() || path.ends_with('/') || path.ends_with("/.") || path == ".";
}

// One walk from the root of the cluster.
class Walk {
 public:
  Walk(Client& client, const Caller& caller) : client_(client), caller_(caller) {}

  // The directories passed on the way, from the root, and what the path names at the end.
  Result<std::vector<PathStep>> Run(std::deque<std::string> pending, bool follow_last) {
    CAIRN_ASSIGN_OR_RETURN(Entry root, client_.GetAttr(caller_, kRootInode));
    std::vector<PathStep> steps{{"/", std::move(root)}};
    while (!pending.empty()) {
      const std::string name = std::move(pending.front());
      pending.pop_front();
      const PathStep& current = steps.back();
      if (current.entry.attr.type != FileType::kDirectory) {
        return Status(StatusCode::kNotDirectory, current.path + ": not a directory");
      }
      if (name.size() > kMaxNameBytes)
        return Status(StatusCode::kNameTooLong, name.substr(0, 32) + "...: name too long");
      if (name == "..") {
        if (steps.size() > 1) steps.pop_back();
        continue;
      }
      const std::string path = (steps.size() == 1 ? "" : current.path) + "/" + name;
      auto next = client_.Lookup(caller_, current.entry.attr.inode, name);
      if (!next.ok()) return next.status().WithContext(path);
      if (next->attr.type == FileType::kSymlink && (follow_last || !pending.empty())) {
        if (++links_ > kMaxSymlinks) return Status(StatusCode::kLoop, path + ": too many symbolic links");
        CAIRN_ASSIGN_OR_RETURN(const std::string target, client_.ReadLink(caller_, next->attr.inode));
        if (target.empty()) return Status(StatusCode::kNotFound, path + ": empty symbolic link");
        std::deque<std::string> parts = Split(target);
        pending.insert(pending.begin(), parts.begin(), parts.end());
        if (target.starts_with('/')) steps.resize(1);
        continue;
      }
      steps.push_back({path, *std::move(next)});
    }
    return steps;
  }

 private:
  Client& client_;
  const Caller& caller_;
  int links_ = 0;
};

}  // namespace

Result<std::vector<PathStep>> ResolveSteps(Client& client, const Caller& caller, const std::string& path, bool follow_last) {
  if (path.size() > kMaxPathBytes) return Status(StatusCode::kNameTooLong, "path longer than 4096 bytes");
  const bool directory = RequiresDirectory(path);
  CAIRN_ASSIGN_OR_RETURN(auto steps, Walk(client, caller).Run(Split(path), follow_last || directory));
  if (directory && steps.back().entry.attr.type != FileType::kDirectory) {
    return Status(StatusCode::kNotDirectory, path + ": not a directory");
  }
  return steps;
}

Result<Entry> ResolvePath(Client& client, const Caller& caller, const std::string& path, bool follow_last) {
  CAIRN_ASSIGN_OR_RETURN(auto steps, ResolveSteps(client, caller, path, follow_last));
  return std::move(steps.back().entry);
}

Result<ParentAndName> ResolveParent(Client& client, const Caller& caller, const std::string& path) {
  if (path.size() > kMaxPathBytes) return Status(StatusCode::kNameTooLong, "path longer than 4096 bytes");
  std::deque<std::string> parts = Split(path);
  if (parts.empty()) return Status(StatusCode::kBusy, "the root directory has no parent");
  std::string name = std::move(parts.back());
  parts.pop_back();
  if (name == ".." || path.ends_with("/."))
    return Status(StatusCode::kInvalidArgument, path + ": ends in . or ..");
  if (name.size() > kMaxNameBytes)
    return Status(StatusCode::kNameTooLong, name.substr(0, 32) + "...: name too long");
  CAIRN_ASSIGN_OR_RETURN(const auto steps, Walk(client, caller).Run(std::move(parts), true));
  const Entry& parent = steps.back().entry;
  if (parent.attr.type != FileType::kDirectory)
    return Status(StatusCode::kNotDirectory, path + ": not a directory");
  return ParentAndName{parent.attr.inode, std::move(name)};
}

}  // namespace cairn::client
