// ls, stat, find, du, df: what looks and changes nothing.
#include <fnmatch.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <iomanip>
#include <memory>
#include <nlohmann/json.hpp>
#include <ostream>
#include <set>

#include "cli/core/format.h"
#include "cli/files/files.h"
#include "cli/files/location.h"
#include "cli/files/walk.h"

namespace cairn::cli {
namespace {

using client::Attributes;
using client::DirectoryEntry;
using client::Entry;
using client::FileType;
using nlohmann::json;

json ToJson(const std::string& path, const Attributes& attr, const std::string& target = {}) {
  auto time = [](const client::TimeSpec& t) { return json{{"seconds", t.seconds}, {"nanos", t.nanos}}; };
  json row = {{"path", path},
              {"inode", attr.inode.value()},
              {"type", TypeWord(attr.type)},
              {"mode", attr.mode},
              {"nlink", attr.nlink},
              {"uid", attr.uid},
              {"gid", attr.gid},
              {"size", attr.size},
              {"blocks_512", attr.blocks_512},
              {"atime", time(attr.atime)},
              {"mtime", time(attr.mtime)},
              {"ctime", time(attr.ctime)},
              {"btime", time(attr.btime)}};
  if (!target.empty()) row["target"] = target;
  return row;
}

// JSON with names that are not UTF-8 kept readable instead of failing.
std::string Dump(const json& value) { return value.dump(2, ' ', false, json::error_handler_t::replace); }

struct ListOptions {
  std::vector<std::string> paths = {"/"};
  bool long_format = false, all = false, human = false, recursive = false, directory = false;
};

class Lister {
 public:
  Lister(Context& context, const ListOptions& options) : context_(context), options_(options) {}

  Status List(const ClusterPath& where) {
    CAIRN_ASSIGN_OR_RETURN(const Entry entry, where.Resolve(!options_.long_format && !options_.directory));
    if (entry.attr.type != FileType::kDirectory || options_.directory) {
      Print(where, where.path, where.path, entry.attr);
      return Status::Ok();
    }
    // Not recursive: see walk.h. What is still to be listed, the next one last.
    std::vector<std::pair<std::string, InodeId>> directories = {{where.path, entry.attr.inode}};
    while (!directories.empty()) {
      const auto [path, inode] = std::move(directories.back());
      directories.pop_back();
      CAIRN_RETURN_IF_ERROR(Directory(where, inode, path, directories));
    }
    return Status::Ok();
  }
  void Finish() {
    if (context_.json) *context_.out << Dump(rows_) << "\n";
  }
  void Heading(const std::string& path) {
    if (!context_.json) *context_.out << (printed_ ? "\n" : "") << Printable(path) << ":\n";
  }

 private:
  Status Directory(const ClusterPath& where, InodeId inode, const std::string& path,
                   std::vector<std::pair<std::string, InodeId>>& directories) {
    std::vector<DirectoryEntry> entries;
    CAIRN_RETURN_IF_ERROR(ForEachEntry(*where.client, where.caller, inode, [&](const DirectoryEntry& entry) {
                            if (options_.all || entry.name[0] != '.') entries.push_back(entry);
                            return Status::Ok();
                          }).WithContext(path));
    std::sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
    if (options_.recursive) Heading(path);
    for (const DirectoryEntry& entry : entries) {
      if (entry.entry) Print(where, entry.name, JoinPath(path, entry.name), entry.entry->attr);
    }
    printed_ = true;
    if (!options_.recursive) return Status::Ok();
    for (auto entry = entries.rbegin(); entry != entries.rend(); ++entry) {
      if (entry->type == FileType::kDirectory) directories.emplace_back(JoinPath(path, entry->name), entry->inode);
    }
    return Status::Ok();
  }

  void Print(const ClusterPath& where, const std::string& name, const std::string& path,
             const Attributes& attr) {
    std::string target;
    if (attr.type == FileType::kSymlink && (options_.long_format || context_.json)) {
      auto link = where.client->ReadLink(where.caller, attr.inode);
      target = link.ok() ? *link : "?";
    }
    if (context_.json) {
      rows_.push_back(ToJson(path, attr, target));
      return;
    }
    std::ostream& out = *context_.out;
    if (options_.long_format) {
      out << ModeString(attr.type, attr.mode) << ' ' << std::setw(3) << attr.nlink << ' ' << std::left
          << std::setw(8) << UserName(attr.uid) << ' ' << std::setw(8) << GroupName(attr.gid) << std::right
          << ' ' << std::setw(12) << (options_.human ? HumanSize(attr.size) : std::to_string(attr.size))
          << ' ' << IsoTime(attr.mtime) << ' ';
    }
    out << Printable(name);
    if (!target.empty()) out << " -> " << Printable(target);
    out << "\n";
  }

  Context& context_;
  const ListOptions& options_;
  bool printed_ = false;
  json rows_ = json::array();
};

void RunList(Context& context, const ListOptions& options) {
  Sessions sessions(context);
  Lister lister(context, options);
  for (const std::string& argument : options.paths) {
    auto where = OpenClusterPath(sessions, argument);
    if (where.ok() && options.paths.size() > 1 && !options.recursive) lister.Heading(where->path);
    const Status status = where.ok() ? lister.List(*where) : where.status();
    if (!status.ok()) context.Fail(status.WithContext("ls"));
  }
  lister.Finish();
}

void RunStat(Context& context, const std::vector<std::string>& paths) {
  Sessions sessions(context);
  json rows = json::array();
  for (const std::string& argument : paths) {
    auto where = OpenClusterPath(sessions, argument);
    auto entry = where.ok() ? where->Resolve(false) : Result<Entry>(where.status());
    if (!entry.ok()) {
      context.Fail(entry.status().WithContext("stat"));
      continue;
    }
    const Attributes& attr = entry->attr;
    std::string target;
    if (attr.type == FileType::kSymlink) {
      auto link = where->client->ReadLink(where->caller, attr.inode);
      if (link.ok()) target = *link;
    }
    if (context.json) {
      rows.push_back(ToJson(where->path, attr, target));
      continue;
    }
    char mode[8];
    std::snprintf(mode, sizeof mode, "%04o", attr.mode);
    *context.out << "  File: " << Printable(where->path) << (target.empty() ? "" : " -> " + Printable(target))
                 << "\n  Type: " << TypeName(attr.type) << "   Inode: " << attr.inode.value()
                 << "   Links: " << attr.nlink << "\n  Size: " << attr.size
                 << "   Blocks: " << attr.blocks_512
                 << " of 512 bytes   Chunk: " << HumanBytes(attr.chunk_bytes) << "\nAccess: " << mode << "/"
                 << ModeString(attr.type, attr.mode) << "   Uid: " << attr.uid << "/" << UserName(attr.uid)
                 << "   Gid: " << attr.gid << "/" << GroupName(attr.gid)
                 << "\nAccess: " << FullTime(attr.atime) << "\nModify: " << FullTime(attr.mtime)
                 << "\nChange: " << FullTime(attr.ctime) << "\n Birth: " << FullTime(attr.btime) << "\n";
  }
  if (context.json) *context.out << Dump(rows) << "\n";
}

struct FindOptions {
  std::vector<std::string> paths = {"/"};
  std::string name, type;
  int max_depth = -1;
  bool print0 = false;
};

class Finder final : public TreeVisitor {
 public:
  Finder(Context& context, const FindOptions& options) : context_(context), options_(options) {}
  Result<bool> Enter(const Visited& at) override {
    if (Matches(at.name, at.attr.type)) {
      if (context_.json) {
        rows_.push_back(ToJson(at.path, at.attr));
      } else {
        *context_.out << at.path << (options_.print0 ? '\0' : '\n');
      }
    }
    return options_.max_depth < 0 || at.depth < static_cast<size_t>(options_.max_depth);
  }
  Status Leave(const Visited& at, const Status& listed) override {
    if (listed.code() != StatusCode::kAccessDenied) return listed;
    context_.Fail(listed.WithContext("find: " + at.path));  // as find(1): say so and go on
    return Status::Ok();
  }
  void Finish() {
    if (context_.json) *context_.out << Dump(rows_) << "\n";
  }

 private:
  bool Matches(const std::string& name, FileType type) const {
    if (!options_.name.empty() && fnmatch(options_.name.c_str(), name.c_str(), 0) != 0) return false;
    if (options_.type.empty()) return true;
    return ModeString(type, 0)[0] == (options_.type == "f" ? '-' : options_.type[0]);
  }
  Context& context_;
  const FindOptions& options_;
  json rows_ = json::array();
};

void RunFind(Context& context, const FindOptions& options) {
  Sessions sessions(context);
  Finder finder(context, options);
  for (const std::string& argument : options.paths) {
    auto where = OpenClusterPath(sessions, argument);
    auto entry = where.ok() ? where->Resolve(false) : Result<Entry>(where.status());
    Status status = entry.status();
    if (status.ok()) status = WalkTree(*where, InodeId(), BaseName(where->path), entry->attr, finder);
    if (!status.ok()) context.Fail(status.WithContext("find"));
  }
  finder.Finish();
}

struct UsageOptions {
  std::vector<std::string> paths = {"/"};
  bool human = false, summary = false, all = false;
};

class UsageCounter final : public TreeVisitor {
 public:
  UsageCounter(Context& context, const UsageOptions& options) : context_(context), options_(options) {}
  struct Total {
    uint64_t bytes = 0;      // of content, as ls shows
    uint64_t allocated = 0;  // of one copy
    uint64_t files = 0;
  };
  Result<bool> Enter(const Visited& at) override {
    if (at.attr.type == FileType::kDirectory) {
      if (at.depth == 0) totals_.clear();
      totals_.emplace_back();
      return true;
    }
    // Of hard links: a file counts once.
    const bool first = at.attr.nlink <= 1 || seen_.insert(at.attr.inode.value()).second;
    if (first) Add(at, {at.attr.size, at.attr.blocks_512 * 512, 1});
    return false;
  }
  Status Leave(const Visited& at, const Status& listed) override {
    if (!listed.ok()) return listed.WithContext(at.path);
    const Total total = totals_.back();
    totals_.pop_back();
    Add(at, total);
    return Status::Ok();
  }
  void Finish() {
    if (context_.json) *context_.out << Dump(rows_) << "\n";
  }

 private:
  void Add(const Visited& at, const Total& total) {
    if (at.depth > 0) {
      totals_.back().bytes += total.bytes;
      totals_.back().allocated += total.allocated;
      totals_.back().files += total.files;
    }
    if (at.depth == 0 || (!options_.summary && (options_.all || at.attr.type == FileType::kDirectory)))
      Print(at.path, total);
  }
  void Print(const std::string& path, const Total& total) {
    if (context_.json) {
      rows_.push_back({{"path", path},
                       {"bytes", total.bytes},
                       {"allocated_bytes", total.allocated},
                       {"files", total.files}});
    } else {
      *context_.out << (options_.human ? HumanSize(total.allocated)
                                       : std::to_string((total.allocated + 1023) / 1024))
                    << "\t" << Printable(path) << "\n";
    }
  }
  Context& context_;
  const UsageOptions& options_;
  std::set<uint64_t> seen_;
  std::vector<Total> totals_;  // of each directory that the walk is in
  json rows_ = json::array();
};

void RunUsage(Context& context, const UsageOptions& options) {
  Sessions sessions(context);
  UsageCounter counter(context, options);
  for (const std::string& argument : options.paths) {
    auto where = OpenClusterPath(sessions, argument);
    auto entry = where.ok() ? where->Resolve(false) : Result<Entry>(where.status());
    Status status = entry.status();
    if (status.ok()) status = WalkTree(*where, InodeId(), BaseName(where->path), entry->attr, counter);
    if (!status.ok()) context.Fail(status.WithContext("du"));
  }
  counter.Finish();
}

void RunSpace(Context& context, const std::vector<std::string>& paths, bool human) {
  Sessions sessions(context);
  json rows = json::array();
  if (!context.json) *context.out << "Path                          Size         Used    Available  Use%\n";
  for (const std::string& argument : paths) {
    auto where = OpenClusterPath(sessions, argument);
    auto entry = where.ok() ? where->Resolve(true) : Result<Entry>(where.status());
    auto space =
        entry.ok() ? where->client->StatFs(entry->attr.inode) : Result<client::SpaceUsage>(entry.status());
    if (!space.ok()) {
      context.Fail(space.status().WithContext("df"));
      continue;
    }
    const uint64_t used = space->total_bytes - std::min(space->total_bytes, space->free_bytes);
    if (context.json) {
      rows.push_back({{"path", where->path},
                      {"total_bytes", space->total_bytes},
                      {"used_bytes", used},
                      {"available_bytes", space->available_bytes},
                      {"trash_bytes", space->trash_bytes},
                      {"files", space->files}});
      continue;
    }
    auto text = [&](uint64_t bytes) { return human ? HumanSize(bytes) : std::to_string(bytes / 1024); };
    const uint64_t of = used + space->available_bytes;
    *context.out << std::left << std::setw(24) << Printable(where->path) << std::right << ' ' << std::setw(10)
                 << text(space->total_bytes) << "  " << std::setw(11) << text(used) << "  " << std::setw(11)
                 << text(space->available_bytes) << "  " << std::setw(3)
                 << (of == 0 ? 0 : (used * 100 + of - 1) / of) << "%\n";
    // The whole cluster's: it has one trash.
    if (space->trash_bytes > 0)
      *context.out << "  of which in the trash: " << text(space->trash_bytes) << " (given back when needed)\n";
  }
  if (context.json) *context.out << Dump(rows) << "\n";
}

}  // namespace

void RegisterListCommands(CLI::App& app, Context& context) {
  auto list = std::make_shared<ListOptions>();
  CLI::App* ls = app.add_subcommand("ls", "List directories");
  ls->add_option("paths", list->paths, "Paths of the cluster (default: /)");
  ls->add_flag("-l", list->long_format, "Mode, links, owner, size, time");
  ls->add_flag("-a,--all", list->all, "Also names that begin with a dot");
  ls->add_flag("--human,-H", list->human, "Sizes as 1.5G (with -l)");
  ls->add_flag("-R,--recursive", list->recursive, "Also what is below");
  ls->add_flag("-d,--directory", list->directory, "The directory itself, not its entries");
  ls->add_flag("--json", context.json, "For programs");
  ls->callback([&context, list] { RunList(context, *list); });

  auto stat_paths = std::make_shared<std::vector<std::string>>();
  CLI::App* stat = app.add_subcommand("stat", "Attributes of files");
  stat->add_option("paths", *stat_paths, "Paths of the cluster")->required();
  stat->add_flag("--json", context.json, "For programs");
  stat->callback([&context, stat_paths] { RunStat(context, *stat_paths); });

  auto find_options = std::make_shared<FindOptions>();
  CLI::App* find = app.add_subcommand("find", "Names below directories");
  find->add_option("paths", find_options->paths, "Where to begin (default: /)");
  find->add_option("--name", find_options->name, "Shell pattern that the name must match");
  find->add_option("--type", find_options->type,
                   "f file, d directory, l symlink, p fifo, s socket, b or c device")
      ->check(CLI::IsMember({"f", "d", "l", "p", "s", "b", "c"}));
  find->add_option("--max-depth", find_options->max_depth, "Levels to go down")
      ->check(CLI::NonNegativeNumber);
  find->add_flag("--print0", find_options->print0, "End each name with a NUL");
  find->add_flag("--json", context.json, "For programs");
  find->callback([&context, find_options] { RunFind(context, *find_options); });

  auto usage = std::make_shared<UsageOptions>();
  CLI::App* du = app.add_subcommand("du", "Space that files take (one copy, KiB)");
  du->add_option("paths", usage->paths, "Paths of the cluster (default: /)");
  du->add_flag("--human,-H", usage->human, "Sizes as 1.5G");
  du->add_flag("-s,--summarize", usage->summary, "Only a total for each path");
  du->add_flag("-a,--all", usage->all, "Files too");
  du->add_flag("--json", context.json, "For programs");
  du->callback([&context, usage] { RunUsage(context, *usage); });

  auto space_paths = std::make_shared<std::vector<std::string>>(std::vector<std::string>{"/"});
  auto human = std::make_shared<bool>(false);
  CLI::App* df = app.add_subcommand("df", "Usable space (raw space divided by the number of replicas, KiB)");
  df->add_option("paths", *space_paths, "Paths of the cluster (default: /)");
  df->add_flag("--human,-H", *human, "Sizes as 1.5G");
  df->add_flag("--json", context.json, "For programs");
  df->callback([&context, space_paths, human] { RunSpace(context, *space_paths, *human); });
}

}  // namespace cairn::cli
