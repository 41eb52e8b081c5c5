// trash ls, restore, purge; undelete.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <ctime>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <ostream>

#include "cli/admin/admin.h"
#include "cli/admin/target.h"
#include "cli/core/format.h"

namespace cairn::cli {
namespace {

constexpr size_t kPurgePage = 500;

struct TrashOptions {
  std::string path = "/";
  std::vector<std::string> numbers;
  std::string to, older;
  bool all = false;
};

using Entries = std::vector<client::TrashEntry>;

Result<Entries> ListAll(client::Client& session) {
  Entries all;
  for (InodeId after;;) {
    CAIRN_ASSIGN_OR_RETURN(Entries page, session.ListTrash(CurrentCaller(), after));
    if (page.empty()) break;
    after = page.back().inode;
    all.insert(all.end(), page.begin(), page.end());
    if (Interrupted()) return Status(StatusCode::kInterrupted, "interrupted");
  }
  return all;
}

bool Below(const std::string& path, const std::string& directory) {
  return directory == "/" || path == directory || path.starts_with(directory + "/");
}

Status List(Context& context, const TrashOptions& options) {
  CAIRN_ASSIGN_OR_RETURN(const Location location, ParseTarget(options.path));
  Sessions sessions(context);
  CAIRN_ASSIGN_OR_RETURN(client::Client * session, sessions.Get(location));
  CAIRN_ASSIGN_OR_RETURN(Entries entries, ListAll(*session));
  std::erase_if(entries, [&](const client::TrashEntry& entry) { return !Below(entry.path, location.path); });
  std::sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) {
    return std::make_pair(a.deleted, a.path) < std::make_pair(b.deleted, b.path);
  });
  if (context.json) {
    nlohmann::json list = nlohmann::json::array();
    for (const auto& entry : entries) {
      list.push_back({{"number", entry.inode.value()},
                      {"path", Printable(entry.path)},
                      {"type", TypeWord(entry.type)},
                      {"size", entry.size},
                      {"owner", entry.owner},
                      {"deleted_by", entry.deleted_by},
                      {"deleted", entry.deleted.seconds},
                      {"expires", entry.expires.seconds}});
    }
    *context.out << list.dump(2) << std::endl;
    return Status::Ok();
  }
  *context.out << fmt::format("{:>10}  {:<19}  {:<19}  {:>10}  {:<10}  {}\n", "NUMBER", "DELETED",
                              "KEPT UNTIL", "SIZE", "BY", "PATH");
  for (const auto& entry : entries) {
    *context.out << fmt::format("{:>10}  {:<19}  {:<19}  {:>10}  {:<10}  {}{}\n", entry.inode.value(),
                                IsoTime(entry.deleted), IsoTime(entry.expires), HumanBytes(entry.size),
                                UserName(entry.deleted_by), Printable(entry.path),
                                entry.type == client::FileType::kDirectory ? "/" : "");
  }
  *context.out << std::flush;
  return Status::Ok();
}

std::string ParentPath(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == 0 || slash == std::string::npos ? "/" : path.substr(0, slash);
}
std::string BaseName(const std::string& path) { return path.substr(path.rfind('/') + 1); }

// Gives names back, directories before what was in them.
class Restorer {
 public:
  Restorer(client::Client& session, Entries entries) : session_(session), entries_(std::move(entries)) {
    for (size_t i = 0; i < entries_.size(); ++i) by_inode_[entries_[i].inode] = i;
  }

  // What was deleted last at `path`, and below it if that was a directory.
  Result<size_t> RestorePath(const std::string& path, const std::string& to) {
    const client::TrashEntry* newest = nullptr;
    for (const auto& entry : entries_) {
      if (entry.path == path && (newest == nullptr || newest->deleted <= entry.deleted)) newest = &entry;
    }
    if (newest == nullptr) {
      // The directory itself may still be there (or was purged), while files of it were deleted.
      const bool below = std::any_of(entries_.begin(), entries_.end(), [&](const auto& entry) {
        return entry.path.starts_with(path == "/" ? path : path + "/");
      });
      if (!below || !to.empty())
        return Status(StatusCode::kNotFound, path + " is not in the trash (cairn trash ls shows what is)");
      return RestoreBelow(path);
    }
    const client::TrashEntry chosen = *newest;
    CAIRN_RETURN_IF_ERROR(Restore(chosen, to));
    if (chosen.type == client::FileType::kDirectory) CAIRN_RETURN_IF_ERROR(RestoreTree(chosen.inode));
    return restored_;
  }

  Result<size_t> RestoreNumber(InodeId inode, const std::string& to) {
    auto it = by_inode_.find(inode);
    if (it == by_inode_.end())
      return Status(StatusCode::kNotFound, "nothing with number " + ToString(inode) + " is in the trash");
    CAIRN_RETURN_IF_ERROR(Restore(entries_[it->second], to));
    return restored_;
  }

 private:
  Result<size_t> RestoreBelow(const std::string& path) {
    // The newest of each path, the shortest paths first, so that directories come before their files.
    std::map<std::string, const client::TrashEntry*> newest;
    for (const auto& entry : entries_) {
      if (!entry.path.starts_with(path == "/" ? path : path + "/")) continue;
      const client::TrashEntry*& one = newest[entry.path];
      if (one == nullptr || one->deleted <= entry.deleted) one = &entry;
    }
    for (const auto& [where, entry] : newest) {
      if (!done_.contains(entry->inode)) CAIRN_RETURN_IF_ERROR(Restore(*entry, ""));
    }
    return restored_;
  }

  // Everything that was in the directory when it was deleted.
  Status RestoreTree(InodeId directory) {
    std::map<std::string, client::TrashEntry> newest;
    for (const auto& entry : entries_) {
      if (entry.parent != directory || done_.contains(entry.inode)) continue;
      auto [it, fresh] = newest.try_emplace(BaseName(entry.path), entry);
      if (!fresh && it->second.deleted <= entry.deleted) it->second = entry;
    }
    for (const auto& [name, entry] : newest) {
      CAIRN_RETURN_IF_ERROR(Restore(entry, ""));
      if (entry.type == client::FileType::kDirectory) CAIRN_RETURN_IF_ERROR(RestoreTree(entry.inode));
    }
    return Status::Ok();
  }

  Status Restore(const client::TrashEntry& entry, const std::string& to) {
    if (!to.empty()) {
      CAIRN_ASSIGN_OR_RETURN(const client::ParentAndName place,
                             client::ResolveParent(session_, CurrentCaller(), to));
      return Done(entry, session_.Undelete(CurrentCaller(), entry.inode, place.parent, place.name).status());
    }
    const std::string name = BaseName(entry.path);
    Status status = session_.Undelete(CurrentCaller(), entry.inode, InodeId{}, name).status();
    if (status.code() == StatusCode::kNotFound) {
      // Its directory is gone: in the trash, too, or made again where it was.
      if (auto above = by_inode_.find(entry.parent);
          above != by_inode_.end() && !done_.contains(entry.parent)) {
        CAIRN_RETURN_IF_ERROR(Restore(entries_[above->second], ""));
        status = session_.Undelete(CurrentCaller(), entry.inode, InodeId{}, name).status();
      } else {
        CAIRN_ASSIGN_OR_RETURN(const InodeId parent, MakeDirectory(ParentPath(entry.path)));
        status = session_.Undelete(CurrentCaller(), entry.inode, parent, name).status();
      }
    }
    return Done(entry, status);
  }

  Result<InodeId> MakeDirectory(const std::string& path) {
    auto there = client::ResolvePath(session_, CurrentCaller(), path, true);
    if (there.ok()) return there->attr.inode;
    if (there.status().code() != StatusCode::kNotFound) return there.status();
    CAIRN_ASSIGN_OR_RETURN(const InodeId above, MakeDirectory(ParentPath(path)));
    CAIRN_ASSIGN_OR_RETURN(const client::Entry made,
                           session_.Mkdir(CurrentCaller(), above, BaseName(path), 0755));
    return made.attr.inode;
  }

  Status Done(const client::TrashEntry& entry, const Status& status) {
    if (!status.ok()) return status.WithContext(entry.path);
    done_[entry.inode] = true;
    ++restored_;
    return Status::Ok();
  }

  client::Client& session_;
  const Entries entries_;
  std::map<InodeId, size_t> by_inode_;
  std::map<InodeId, bool> done_;
  size_t restored_ = 0;
};

void Tell(Context& context, size_t restored) {
  if (context.json) {
    *context.out << nlohmann::json{{"restored", restored}}.dump() << std::endl;
  } else {
    *context.out << fmt::format("restored {} {}", restored, restored == 1 ? "entry" : "entries") << std::endl;
  }
}

Result<std::string> PathOfTarget(const std::string& to) {
  if (to.empty()) return std::string();
  CAIRN_ASSIGN_OR_RETURN(const Location location, ParseTarget(to));
  return location.path;
}

Status Undelete(Context& context, const TrashOptions& options) {
  CAIRN_ASSIGN_OR_RETURN(const Location location, ParseTarget(options.path));
  CAIRN_ASSIGN_OR_RETURN(const std::string to, PathOfTarget(options.to));
  Sessions sessions(context);
  CAIRN_ASSIGN_OR_RETURN(client::Client * session, sessions.Get(location));
  CAIRN_ASSIGN_OR_RETURN(Entries entries, ListAll(*session));
  CAIRN_ASSIGN_OR_RETURN(const size_t restored,
                         Restorer(*session, std::move(entries)).RestorePath(location.path, to));
  Tell(context, restored);
  return Status::Ok();
}

Status RestoreNumbers(Context& context, const TrashOptions& options) {
  if (!options.to.empty() && options.numbers.size() != 1)
    return {StatusCode::kInvalidArgument, "--to goes with one number"};
  CAIRN_ASSIGN_OR_RETURN(const Location location, ParseTarget("/"));
  CAIRN_ASSIGN_OR_RETURN(const std::string to, PathOfTarget(options.to));
  Sessions sessions(context);
  CAIRN_ASSIGN_OR_RETURN(client::Client * session, sessions.Get(location));
  CAIRN_ASSIGN_OR_RETURN(Entries entries, ListAll(*session));
  Restorer restorer(*session, std::move(entries));
  size_t restored = 0;
  for (const std::string& number : options.numbers) {
    CAIRN_ASSIGN_OR_RETURN(const uint64_t inode, ParseChunkId(number));
    CAIRN_ASSIGN_OR_RETURN(restored, restorer.RestoreNumber(InodeId(inode), to));
  }
  Tell(context, restored);
  return Status::Ok();
}

Status Purge(Context& context, const TrashOptions& options) {
  const int ways =
      (options.all ? 1 : 0) + (options.numbers.empty() ? 0 : 1) + (options.older.empty() ? 0 : 1);
  if (ways != 1)
    return {StatusCode::kInvalidArgument, "say what to purge: numbers, --older-than TIME, or --all"};
  CAIRN_ASSIGN_OR_RETURN(const Location location, ParseTarget("/"));
  Sessions sessions(context);
  CAIRN_ASSIGN_OR_RETURN(client::Client * session, sessions.Get(location));
  std::vector<InodeId> chosen;
  for (const std::string& number : options.numbers) {
    CAIRN_ASSIGN_OR_RETURN(const uint64_t inode, ParseChunkId(number));
    chosen.push_back(InodeId(inode));
  }
  if (options.numbers.empty()) {
    int64_t before = std::time(nullptr) + 1;
    if (!options.older.empty()) {
      CAIRN_ASSIGN_OR_RETURN(const uint64_t age, ParseDuration(options.older));
      before -= static_cast<int64_t>(age) + 1;
    }
    CAIRN_ASSIGN_OR_RETURN(const Entries entries, ListAll(*session));
    for (const auto& entry : entries) {
      if (options.all || entry.deleted.seconds < before) chosen.push_back(entry.inode);
    }
  }
  for (size_t i = 0; i < chosen.size(); i += kPurgePage) {
    const std::vector<InodeId> page(
        chosen.begin() + static_cast<ptrdiff_t>(i),
        chosen.begin() + static_cast<ptrdiff_t>(std::min(chosen.size(), i + kPurgePage)));
    CAIRN_RETURN_IF_ERROR(session->PurgeTrash(CurrentCaller(), page));
  }
  if (context.json) {
    *context.out << nlohmann::json{{"purged", chosen.size()}}.dump() << std::endl;
  } else {
    *context.out << fmt::format("purged {} {}", chosen.size(), chosen.size() == 1 ? "entry" : "entries")
                 << std::endl;
  }
  return Status::Ok();
}

}  // namespace

void RegisterTrashCommands(CLI::App& app, Context& context) {
  auto options = std::make_shared<TrashOptions>();
  CLI::App* trash = app.add_subcommand(
      "trash", "Deleted files that are kept for a while (switched on by `cairn policy set DIR trash=24h`)");
  trash->require_subcommand(1);
  CLI::App* ls = trash->add_subcommand("ls", "What is there; users see what they own or deleted");
  ls->add_option("path", options->path, "Only what was below this directory");
  ls->add_flag("--json", context.json, "For programs");
  ls->callback([&context, options] { context.Report(List(context, *options)); });

  CLI::App* restore = trash->add_subcommand("restore", "Give entries their names back");
  restore->add_option("number", options->numbers, "Numbers as `trash ls` shows them")->required();
  restore->add_option("--to", options->to, "Another path");
  restore->add_flag("--json", context.json, "For programs");
  restore->callback([&context, options] { context.Report(RestoreNumbers(context, *options)); });

  CLI::App* purge = trash->add_subcommand("purge", "Delete entries for good, before their time");
  purge->add_option("number", options->numbers, "Numbers as `trash ls` shows them");
  purge->add_option("--older-than", options->older, "What was deleted longer ago: 90s, 30m, 2h, 7d");
  purge->add_flag("--all", options->all, "Everything");
  purge->add_flag("--json", context.json, "For programs");
  purge->callback([&context, options] { context.Report(Purge(context, *options)); });

  CLI::App* undelete = app.add_subcommand("undelete",
                                          "Bring back what was deleted last at a path; directories with "
                                          "everything that was in them");
  undelete->add_option("path", options->path, "Where it was, in the cluster or on a mount")->required();
  undelete->add_option("--to", options->to, "Another path");
  undelete->add_flag("--json", context.json, "For programs");
  undelete->callback([&context, options] { context.Report(Undelete(context, *options)); });
}

}  // namespace cairn::cli
