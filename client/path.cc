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

  Result<Entry> Run(std::deque<std::string> pending, bool follow_last) {
    CAIRN_ASSIGN_OR_RETURN(Entry current, client_.GetAttr(caller_, kRootInode));
    std::string walked;  // for messages
    while (!pending.empty()) {
      const std::string name = std::move(pending.front());
      pending.pop_front();
      if (current.attr.type != FileType::kDirectory) {
        return Status(StatusCode::kNotDirectory, (walked.empty() ? "/" : walked) + ": not a directory");
      }
      if (name.size() > kMaxNameBytes)
        return Status(StatusCode::kNameTooLong, name.substr(0, 32) + "...: name too long");
      if (name == "..") {
        CAIRN_ASSIGN_OR_RETURN(const InodeId parent, client_.ParentOf(caller_, current.attr.inode));
        CAIRN_ASSIGN_OR_RETURN(current, client_.GetAttr(caller_, parent));
        walked += "/..";
        continue;
      }
      auto next = client_.Lookup(caller_, current.attr.inode, name);
      if (!next.ok()) return next.status().WithContext(walked + "/" + name);
      if (next->attr.type == FileType::kSymlink && (follow_last || !pending.empty())) {
        if (++links_ > kMaxSymlinks)
          return Status(StatusCode::kLoop, walked + "/" + name + ": too many symbolic links");
        CAIRN_ASSIGN_OR_RETURN(const std::string target, client_.ReadLink(caller_, next->attr.inode));
        if (target.empty())
          return Status(StatusCode::kNotFound, walked + "/" + name + ": empty symbolic link");
        std::deque<std::string> parts = Split(target);
        pending.insert(pending.begin(), parts.begin(), parts.end());
        if (target.starts_with('/')) {
          CAIRN_ASSIGN_OR_RETURN(current, client_.GetAttr(caller_, kRootInode));
          walked.clear();
        }
        continue;
      }
      current = *std::move(next);
      walked += "/" + name;
    }
    return current;
  }

 private:
  Client& client_;
  const Caller& caller_;
  int links_ = 0;
};

}  // namespace

Result<Entry> ResolvePath(Client& client, const Caller& caller, const std::string& path, bool follow_last) {
  if (path.size() > kMaxPathBytes) return Status(StatusCode::kNameTooLong, "path longer than 4096 bytes");
  const bool directory = RequiresDirectory(path);
  CAIRN_ASSIGN_OR_RETURN(Entry entry, Walk(client, caller).Run(Split(path), follow_last || directory));
  if (directory && entry.attr.type != FileType::kDirectory) {
    return Status(StatusCode::kNotDirectory, path + ": not a directory");
  }
  return entry;
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
  CAIRN_ASSIGN_OR_RETURN(const Entry parent, Walk(client, caller).Run(std::move(parts), true));
  if (parent.attr.type != FileType::kDirectory)
    return Status(StatusCode::kNotDirectory, path + ": not a directory");
  return ParentAndName{parent.attr.inode, std::move(name)};
}

}  // namespace cairn::client
