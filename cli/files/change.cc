// mkdir, rmdir, rm, mv, ln, sync: what changes names.
#include <CLI/CLI.hpp>
#include <memory>
#include <ostream>

#include "cli/files/files.h"
#include "cli/files/location.h"
#include "cli/files/walk.h"

namespace cairn::cli {
namespace {

using client::Entry;
using client::FileType;

// Runs `work` for each argument, reports each failure under the command's name and goes on.
void ForEachPath(Context& context, const char* command, const std::vector<std::string>& arguments,
                 const std::function<Status(const ClusterPath&)>& work) {
  Sessions sessions(context);
  for (const std::string& argument : arguments) {
    auto where = OpenClusterPath(sessions, argument);
    const Status status = where.ok() ? work(*where) : where.status();
    if (!status.ok()) context.Fail(status.WithContext(command));
    if (Interrupted()) return;
  }
}

Status MakeDirectory(const ClusterPath& where, uint32_t mode, bool parents) {
  if (!parents) {
    CAIRN_ASSIGN_OR_RETURN(const auto parent, where.Parent());
    return where.client->Mkdir(where.caller, parent.parent, parent.name, mode)
        .status()
        .WithContext(where.path);
  }
  // Each component in turn; what is there already is fine if it is a directory.
  size_t at = 0;
  while (at != std::string::npos) {
    at = where.path.find('/', where.path.find_first_not_of('/', at));
    ClusterPath part = where;
    part.path = where.path.substr(0, at);
    if (part.path.find_first_not_of('/') == std::string::npos) return Status::Ok();
    const auto present = client::ResolvePath(*part.client, part.caller, part.path, true);
    if (present.ok()) {
      if (present->attr.type != FileType::kDirectory)
        return {StatusCode::kNotDirectory, part.path + ": not a directory"};
    } else if (present.code() == StatusCode::kNotFound) {
      CAIRN_ASSIGN_OR_RETURN(const auto parent, part.Parent());
      const Status made = part.client->Mkdir(part.caller, parent.parent, parent.name, mode).status();
      if (!made.ok() && made.code() != StatusCode::kAlreadyExists) return made.WithContext(part.path);
    } else {
      return present.status().WithContext(part.path);
    }
  }
  return Status::Ok();
}

struct RemoveOptions {
  std::vector<std::string> paths;
  bool recursive = false, force = false, verbose = false;
};

class Remover final : public TreeVisitor {
 public:
  Remover(Context& context, const RemoveOptions& options) : context_(context), options_(options) {}

  Status Remove(const ClusterPath& where) {
    if (where.path.find_first_not_of('/') == std::string::npos) {
      return {StatusCode::kInvalidArgument, "the root directory cannot be removed"};
    }
    CAIRN_ASSIGN_OR_RETURN(const auto parent, where.Parent());
    const auto entry = where.client->Lookup(where.caller, parent.parent, parent.name);
    if (entry.code() == StatusCode::kNotFound && options_.force) return Status::Ok();
    if (!entry.ok()) return entry.status().WithContext(where.path);
    where_ = &where;
    incomplete_.clear();
    last_ = Status::Ok();
    CAIRN_RETURN_IF_ERROR(WalkTree(where, parent.parent, parent.name, entry->attr, *this));
    return last_;
  }

 private:
  Result<bool> Enter(const Visited& at) override {
    if (at.attr.type != FileType::kDirectory) {
      CAIRN_RETURN_IF_ERROR(Ended(at, where_->client->Unlink(where_->caller, at.parent, at.name)));
      return false;
    }
    if (!options_.recursive) return Status(StatusCode::kIsDirectory, at.path + ": is a directory (use -r)");
    incomplete_.push_back(false);
    return true;
  }
  Status Leave(const Visited& at, const Status& listed) override {
    const bool incomplete = incomplete_.back();
    incomplete_.pop_back();
    if (!listed.ok()) return Ended(at, listed);
    if (incomplete) return Ended(at, {StatusCode::kNotEmpty, "not removed, because something in it was not"});
    return Ended(at, where_->client->Rmdir(where_->caller, at.parent, at.name));
  }
  // An error keeps the rest going, as rm(1) does.
  Status Ended(const Visited& at, const Status& status) {
    if (status.code() == StatusCode::kInterrupted) return status;
    if (status.ok()) {
      if (options_.verbose) *context_.out << "removed " << at.path << "\n";
    } else if (at.depth == 0) {
      last_ = status.WithContext(at.path);
    } else {
      context_.Fail(status.WithContext("rm: " + at.path));
      incomplete_.back() = true;
    }
    return Status::Ok();
  }

  Context& context_;
  const RemoveOptions& options_;
  const ClusterPath* where_ = nullptr;
  std::vector<bool> incomplete_;  // of each directory that the walk is in
  Status last_;                   // of the path that was given
};

// The directory and name that SOURCE gets under DESTINATION, as mv(1) and ln(1) decide: into it when it is a
// directory.
struct Target {
  InodeId parent;
  std::string name;
  std::string path;
};
Result<Target> TargetFor(const ClusterPath& destination, const std::string& source_path,
                         bool must_be_directory) {
  const bool slash = destination.path.size() > 1 && destination.path.back() == '/';
  const auto present = client::ResolvePath(*destination.client, destination.caller, destination.path, true);
  if (present.ok() && present->attr.type == FileType::kDirectory) {
    const std::string name = BaseName(source_path);
    return Target{present->attr.inode, name, JoinPath(destination.path, name)};
  }
  if (!present.ok() && present.code() != StatusCode::kNotFound)
    return present.status().WithContext(destination.path);
  if (must_be_directory || (slash && present.ok())) {
    return Status(StatusCode::kNotDirectory, destination.path + ": not a directory");
  }
  CAIRN_ASSIGN_OR_RETURN(const auto parent, destination.Parent());
  return Target{parent.parent, parent.name, destination.path};
}

void RunMove(Context& context, const std::vector<std::string>& arguments, bool no_clobber) {
  if (arguments.size() < 2) return context.FailWith(kExitUsage, "mv: a source and a destination are needed");
  Sessions sessions(context);
  auto destination = OpenClusterPath(sessions, arguments.back());
  if (!destination.ok()) return context.Fail(destination.status().WithContext("mv"));
  for (size_t i = 0; i + 1 < arguments.size(); ++i) {
    auto move = [&]() -> Status {
      CAIRN_ASSIGN_OR_RETURN(const ClusterPath source, OpenClusterPath(sessions, arguments[i]));
      if (source.client != destination->client) {
        return {StatusCode::kCrossDevice,
                "source and destination are in different clusters: copy with `cairn cp -a`, then remove"};
      }
      CAIRN_ASSIGN_OR_RETURN(const auto from, source.Parent());
      CAIRN_ASSIGN_OR_RETURN(const Target to, TargetFor(*destination, source.path, arguments.size() > 2));
      constexpr uint32_t kNoReplace = 1;
      const Status status = source.client->Rename(source.caller, from.parent, from.name, to.parent, to.name,
                                                  no_clobber ? kNoReplace : 0);
      if (no_clobber && status.code() == StatusCode::kAlreadyExists) return Status::Ok();
      return status.WithContext(source.path + " to " + to.path);
    };
    const Status status = move();
    if (!status.ok()) context.Fail(status.WithContext("mv"));
  }
}

void RunLink(Context& context, const std::vector<std::string>& arguments, bool symbolic, bool force) {
  Sessions sessions(context);
  auto link = [&]() -> Status {
    CAIRN_ASSIGN_OR_RETURN(const ClusterPath destination, OpenClusterPath(sessions, arguments[1]));
    CAIRN_ASSIGN_OR_RETURN(const Target to, TargetFor(destination, arguments[0], false));
    if (force) {
      const Status removed = destination.client->Unlink(destination.caller, to.parent, to.name);
      if (!removed.ok() && removed.code() != StatusCode::kNotFound) return removed.WithContext(to.path);
    }
    if (symbolic) {
      return destination.client->Symlink(destination.caller, to.parent, to.name, arguments[0])
          .status()
          .WithContext(to.path);
    }
    CAIRN_ASSIGN_OR_RETURN(const ClusterPath source, OpenClusterPath(sessions, arguments[0]));
    if (source.client != destination.client)
      return {StatusCode::kCrossDevice, "a hard link cannot lead to another cluster"};
    CAIRN_ASSIGN_OR_RETURN(const Entry entry, source.Resolve(false));
    return source.client->Link(source.caller, entry.attr.inode, to.parent, to.name)
        .status()
        .WithContext(to.path);
  };
  const Status status = link();
  if (!status.ok()) context.Fail(status.WithContext("ln"));
}

}  // namespace

void RegisterChangeCommands(CLI::App& app, Context& context) {
  using Paths = std::vector<std::string>;
  auto mkdir_paths = std::make_shared<Paths>();
  auto parents = std::make_shared<bool>(false);
  auto mode = std::make_shared<std::string>("755");
  CLI::App* mkdir = app.add_subcommand("mkdir", "Make directories");
  mkdir->add_option("paths", *mkdir_paths, "Paths of the cluster")->required();
  mkdir->add_flag("-p,--parents", *parents, "Also missing parents; no error if it is there");
  mkdir->add_option("-m,--mode", *mode, "Permissions, octal (default 755)");
  mkdir->callback([&context, mkdir_paths, parents, mode] {
    char* end = nullptr;
    const unsigned long bits = std::strtoul(mode->c_str(), &end, 8);
    if (*end != '\0' || bits > 07777)
      return context.FailWith(kExitUsage, "mkdir: '" + *mode + "' is not an octal mode");
    ForEachPath(context, "mkdir", *mkdir_paths, [&](const ClusterPath& where) {
      return MakeDirectory(where, static_cast<uint32_t>(bits), *parents);
    });
  });

  auto rmdir_paths = std::make_shared<Paths>();
  CLI::App* rmdir = app.add_subcommand("rmdir", "Remove empty directories");
  rmdir->add_option("paths", *rmdir_paths, "Paths of the cluster")->required();
  rmdir->callback([&context, rmdir_paths] {
    ForEachPath(context, "rmdir", *rmdir_paths, [](const ClusterPath& where) -> Status {
      CAIRN_ASSIGN_OR_RETURN(const auto parent, where.Parent());
      return where.client->Rmdir(where.caller, parent.parent, parent.name).WithContext(where.path);
    });
  });

  auto remove = std::make_shared<RemoveOptions>();
  CLI::App* rm =
      app.add_subcommand("rm", "Remove files; each is gone once a quorum of its replicas confirmed");
  rm->add_option("paths", remove->paths, "Paths of the cluster")->required();
  rm->add_flag("-r,-R,--recursive", remove->recursive, "Directories and what is in them");
  rm->add_flag("-f,--force", remove->force, "No error for what is not there");
  rm->add_flag("-v,--verbose", remove->verbose, "Say what was removed");
  rm->callback([&context, remove] {
    Remover remover(context, *remove);
    ForEachPath(context, "rm", remove->paths,
                [&](const ClusterPath& where) { return remover.Remove(where); });
  });

  auto move = std::make_shared<Paths>();
  auto no_clobber = std::make_shared<bool>(false);
  CLI::App* mv = app.add_subcommand("mv", "Rename within the cluster");
  mv->add_option("paths", *move, "SOURCE ... DESTINATION")->required();
  mv->add_flag("-n,--no-clobber", *no_clobber, "Never replace what is there");
  mv->callback([&context, move, no_clobber] { RunMove(context, *move, *no_clobber); });

  auto link = std::make_shared<Paths>();
  auto symbolic = std::make_shared<bool>(false);
  auto force = std::make_shared<bool>(false);
  CLI::App* ln = app.add_subcommand("ln", "Make a hard or symbolic link");
  ln->add_option("paths", *link, "TARGET NAME")->required()->expected(2);
  ln->add_flag("-s,--symbolic", *symbolic, "A symbolic link; TARGET is taken as it is");
  ln->add_flag("-f,--force", *force, "Remove NAME first if it is there");
  ln->callback([&context, link, symbolic, force] { RunLink(context, *link, *symbolic, *force); });

  auto sync_paths = std::make_shared<Paths>(Paths{"/"});
  CLI::App* sync = app.add_subcommand("sync", "Wait until the metadata of what was changed is on disk");
  sync->add_option("paths", *sync_paths, "Paths of the cluster (default: /)");
  sync->callback([&context, sync_paths] {
    ForEachPath(context, "sync", *sync_paths, [](const ClusterPath& where) -> Status {
      CAIRN_ASSIGN_OR_RETURN(const Entry entry, where.Resolve(true));
      return where.client->FsyncInode(entry.attr.inode).WithContext(where.path);
    });
  });
}

}  // namespace cairn::cli
