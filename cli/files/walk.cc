#include "cli/files/walk.h"

#include <utility>
#include <vector>

namespace cairn::cli {
namespace {

using client::DirectoryEntry;
using client::FileType;

// Entries that are kept of one level: a page, and of each level of a deep tree only a few.
constexpr size_t kPage = 1000;
constexpr size_t kDeepPage = 16;
constexpr size_t kDeep = 64;

// A directory that the walk is in.
struct Level {
  InodeId parent;
  std::string name;
  client::Attributes attr;
  size_t path_bytes = 0;  // of the walk's path, up to and with this directory
  std::vector<DirectoryEntry> page;
  size_t next = 0;  // in page
  uint64_t cursor = 0;
};

// The next entry, with attributes; nullptr at the end.
Result<DirectoryEntry*> Next(const ClusterPath& where, Level& level, size_t depth) {
  for (;;) {
    if (level.next == level.page.size()) {
      CAIRN_ASSIGN_OR_RETURN(level.page, where.client->ReadDirectory(where.caller, level.attr.inode, level.cursor,
                                                                     depth < kDeep ? kPage : kDeepPage, true));
      level.next = 0;
      if (level.page.empty()) return nullptr;
      level.cursor = level.page.back().cursor;
    }
    DirectoryEntry& entry = level.page[level.next++];
    CAIRN_ASSIGN_OR_RETURN(const bool present, CompleteEntry(*where.client, where.caller, entry));
    if (present) return &entry;
  }
}

}  // namespace

Status WalkTree(const ClusterPath& where, InodeId parent, const std::string& name, const client::Attributes& attr,
                TreeVisitor& visitor) {
  std::string path = where.path;
  const auto enter = [&](const Visited& at) -> Result<bool> {
    if (Interrupted()) return Status(StatusCode::kInterrupted, "interrupted");
    CAIRN_ASSIGN_OR_RETURN(const bool down, visitor.Enter(at));
    return down && at.attr.type == FileType::kDirectory;
  };
  CAIRN_ASSIGN_OR_RETURN(const bool down, enter({path, name, attr, parent, 0}));
  if (!down) return Status::Ok();
  std::vector<Level> levels;
  levels.push_back({.parent = parent, .name = name, .attr = attr, .path_bytes = path.size()});
  while (!levels.empty()) {
    Level& level = levels.back();
    path.resize(level.path_bytes);
    const auto next = Next(where, level, levels.size());
    if (!next.ok() || *next == nullptr) {
      if (next.code() == StatusCode::kInterrupted) return next.status();
      CAIRN_RETURN_IF_ERROR(
          visitor.Leave({path, level.name, level.attr, level.parent, levels.size() - 1}, next.status()));
      levels.pop_back();
      continue;
    }
    DirectoryEntry& entry = **next;
    path = JoinPath(path, entry.name);
    CAIRN_ASSIGN_OR_RETURN(const bool into,
                           enter({path, entry.name, entry.entry->attr, level.attr.inode, levels.size()}));
    if (!into) continue;
    // Not its page, which others of it may still be in: the entry itself is used up.
    Level below{.parent = level.attr.inode, .name = std::move(entry.name), .attr = entry.entry->attr, .path_bytes = path.size()};
    levels.push_back(std::move(below));
  }
  return Status::Ok();
}

}  // namespace cairn::cli
