// cp and cat.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <memory>
#include <ostream>

#include "cli/copy/copier.h"
#include "cli/core/format.h"
#include "cli/files/files.h"
#include "cli/files/location.h"

namespace cairn::cli {
namespace {

struct Arguments {
  std::vector<std::string> paths;
  bool recursive = false, archive = false, preserve = false, no_clobber = false, resume = false,
       verify = false, quiet = false;
  int jobs = 4;
};

// A side of the copy with the tree that serves it.
struct Side {
  Location location;
  Tree* tree = nullptr;
};

class Trees {
 public:
  explicit Trees(Context& context) : sessions_(context) {}
  Result<Side> Open(const std::string& argument) {
    Side side;
    CAIRN_ASSIGN_OR_RETURN(side.location, ParseLocation(argument, false));
    auto& tree = trees_[side.location.cluster ? "cairn:" + side.location.masters : "local"];
    if (tree == nullptr) {
      if (side.location.cluster) {
        CAIRN_ASSIGN_OR_RETURN(client::Client * client, sessions_.Get(side.location));
        tree = MakeClusterTree(client);
      } else {
        tree = MakeLocalTree();
      }
    }
    side.tree = tree.get();
    return side;
  }
  Sessions& sessions() { return sessions_; }

 private:
  Sessions sessions_;
  std::map<std::string, std::unique_ptr<Tree>> trees_;
};

Status CopyStandardInput(const Side& to, Progress& progress) {
  const auto present = to.tree->Stat(to.location.path, true);
  if (present.ok() && present->attr.type == client::FileType::kDirectory) {
    return {StatusCode::kIsDirectory,
            to.tree->Name(to.location.path) + ": is a directory; name the file that standard input goes to"};
  }
  const bool in_place = present.ok() && present->attr.type != client::FileType::kRegular;
  const std::string name =
      in_place ? to.location.path : to.location.path + ".cairn-cp." + std::to_string(getpid());
  CAIRN_ASSIGN_OR_RETURN(auto writer, to.tree->Create(name, 0644, in_place));
  auto copy = [&]() -> Status {
    std::vector<std::byte> buffer(1 << 20);
    uint64_t at = 0;
    size_t filled = 0;
    for (;;) {
      if (Interrupted()) return {StatusCode::kInterrupted, "interrupted"};
      const ssize_t n = read(STDIN_FILENO, buffer.data() + filled, buffer.size() - filled);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return ErrnoStatus(errno, "read standard input");
      filled += static_cast<size_t>(n);
      if (filled == buffer.size() || n == 0) {
        CAIRN_RETURN_IF_ERROR(writer->Write(at, std::span(buffer).first(filled)));
        at += filled;
        progress.AddBytes(filled);
        filled = 0;
      }
      if (n == 0) break;
    }
    CAIRN_RETURN_IF_ERROR(writer->Close());
    return in_place ? Status::Ok() : to.tree->Rename(name, to.location.path);
  };
  const Status status = copy();
  writer.reset();
  if (!status.ok() && !in_place) (void)to.tree->Remove(name);  // the first error is the one to report
  return status;
}

Status WriteStandardOutput(const Side& from, Progress* progress) {
  CAIRN_ASSIGN_OR_RETURN(const Info info, from.tree->Stat(from.location.path, true));
  if (info.attr.type == client::FileType::kDirectory) {
    return {StatusCode::kIsDirectory, from.tree->Name(from.location.path) + ": is a directory"};
  }
  CAIRN_ASSIGN_OR_RETURN(const auto reader, from.tree->Open(from.location.path));
  std::vector<std::byte> buffer(1 << 20);
  for (uint64_t at = 0;;) {
    if (Interrupted()) return {StatusCode::kInterrupted, "interrupted"};
    CAIRN_ASSIGN_OR_RETURN(const size_t got, reader->Read(at, buffer));
    size_t done = 0;
    while (done < got) {
      const ssize_t n = write(STDOUT_FILENO, buffer.data() + done, got - done);
      if (n < 0 && errno == EINTR && !Interrupted()) continue;
      if (n < 0) return ErrnoStatus(errno, "write standard output");
      done += static_cast<size_t>(n);
    }
    at += got;
    if (progress != nullptr) progress->AddBytes(got);
    if (got < buffer.size()) return Status::Ok();
  }
}

void RunCat(Context& context, const std::vector<std::string>& paths) {
  Trees trees(context);
  for (const std::string& path : paths) {
    auto location = ParseLocation(path, true);  // a plain path is the cluster's
    auto side =
        location.ok()
            ? trees.Open("cairn:" + std::string(location->masters.empty() ? "" : "//" + location->masters) +
                         location->path)
            : Result<Side>(location.status());
    const Status status = side.ok() ? WriteStandardOutput(*side, nullptr) : side.status();
    if (!status.ok()) context.Fail(status.WithContext("cat"));
    if (Interrupted()) return;
  }
}

CopyOptions OptionsFrom(const Arguments& arguments) {
  CopyOptions options;
  options.recursive = arguments.recursive || arguments.archive;
  options.follow_links = !options.recursive;
  options.keep_hard_links = arguments.archive;
  options.no_clobber = arguments.no_clobber;
  options.resume = arguments.resume;
  options.jobs = arguments.jobs;
  if (arguments.preserve || arguments.archive) {
    options.preserve = {.mode = true, .owner = true, .times = true, .xattrs = arguments.archive};
  }
  return options;
}

Status Verify(Context& context, Trees& trees, const Side& from, const Side& to,
              const std::vector<CopiedFile>& files, bool quiet) {
  // Sessions of their own: nothing that this copy cached may answer.
  std::unique_ptr<client::Client> clients[2];
  std::unique_ptr<Tree> fresh[2];
  const Side* sides[2] = {&from, &to};
  for (int i = 0; i < 2; ++i) {
    if (sides[i]->location.cluster) {
      CAIRN_ASSIGN_OR_RETURN(clients[i], trees.sessions().Fresh(sides[i]->location));
      fresh[i] = MakeClusterTree(clients[i].get());
    } else {
      fresh[i] = MakeLocalTree();
    }
  }
  Progress progress(*context.err, context.err_is_terminal, "verified");
  const uint64_t different = VerifyCopies(context, *fresh[0], *fresh[1], files, progress);
  progress.Finish();
  if (different == 0 && context.exit_code == kExitOk && !quiet) {
    *context.err << "verified: " << files.size() << " files equal their sources (SHA-256)\n";
  }
  return Status::Ok();
}

void RunCopy(Context& context, const Arguments& arguments) {
  if (arguments.paths.size() < 2)
    return context.FailWith(kExitUsage, "cp: a source and a destination are needed");
  Trees trees(context);
  const std::string& last = arguments.paths.back();
  if (last == "-") {
    for (size_t i = 0; i + 1 < arguments.paths.size(); ++i) {
      auto from = trees.Open(arguments.paths[i]);
      const Status status = from.ok() ? WriteStandardOutput(*from, nullptr) : from.status();
      if (!status.ok()) context.Fail(status.WithContext("cp"));
    }
    return;
  }
  auto to = trees.Open(last);
  if (!to.ok()) return context.Fail(to.status().WithContext("cp"));
  const std::string& destination = to->location.path;
  const auto present = to->tree->Stat(destination, true);
  if (!present.ok() && present.code() != StatusCode::kNotFound)
    return context.Fail(present.status().WithContext("cp"));
  const bool into = present.ok() && present->attr.type == client::FileType::kDirectory;
  if (!into && arguments.paths.size() > 2) {
    return context.FailWith(kExitFailure, "cp: " + to->tree->Name(destination) +
                                              " is not a directory, and there are several sources");
  }
  for (size_t i = 0; i + 1 < arguments.paths.size(); ++i) {
    Progress progress(*context.err, context.err_is_terminal && !arguments.quiet, "copied");
    if (arguments.paths[i] == "-") {
      const Status status = CopyStandardInput(*to, progress);
      if (!status.ok()) context.Fail(status.WithContext("cp"));
      continue;
    }
    auto from = trees.Open(arguments.paths[i]);
    if (!from.ok()) {
      context.Fail(from.status().WithContext("cp"));
      continue;
    }
    const auto source = from->tree->Stat(from->location.path, true);
    const bool is_directory = source.ok() && source->attr.type == client::FileType::kDirectory;
    if (!into && !is_directory && destination.back() == '/') {
      context.FailWith(kExitFailure, "cp: " + to->tree->Name(destination) + ": no such directory");
      continue;
    }
    const std::string target = into ? JoinPath(destination, BaseName(from->location.path)) : destination;
    Copier copier(context, OptionsFrom(arguments), *from->tree, *to->tree, from->tree == to->tree, progress);
    copier.Run(from->location.path, target);
    progress.Finish();
    if (Interrupted())
      return context.FailWith(kExitInterrupted,
                              "cp: interrupted; no partial file was left under a final name");
    if (arguments.verify) {
      const Status status = Verify(context, trees, *from, *to, copier.copied(), arguments.quiet);
      if (!status.ok()) context.Fail(status.WithContext("verify"));
    }
  }
}

}  // namespace

void RegisterCopyCommands(CLI::App& app, Context& context) {
  auto arguments = std::make_shared<Arguments>();
  CLI::App* cp = app.add_subcommand(
      "cp", "Copy files: cairn:/PATH is the cluster's side, other paths are local, - is stdin or stdout");
  cp->add_option("paths", arguments->paths, "SOURCE ... DESTINATION")->required();
  cp->add_flag("-r,-R,--recursive", arguments->recursive,
               "Directories and what is in them; links stay links");
  cp->add_flag("-a,--archive", arguments->archive, "-r -p, hard links and extended attributes too");
  cp->add_flag("-p,--preserve", arguments->preserve, "Keep mode, owner and times");
  cp->add_flag("-n,--no-clobber", arguments->no_clobber, "Never replace what is there");
  cp->add_flag("--resume", arguments->resume,
               "Go on with an interrupted copy; what is there is compared by content");
  cp->add_flag("--verify", arguments->verify, "Afterwards read both sides anew and compare SHA-256");
  cp->add_flag("-q,--quiet", arguments->quiet, "No progress");
  cp->add_option("-j,--jobs", arguments->jobs, "Files copied at once (default 4)")->check(CLI::Range(1, 64));
  cp->callback([&context, arguments] { RunCopy(context, *arguments); });

  auto cat_paths = std::make_shared<std::vector<std::string>>();
  CLI::App* cat = app.add_subcommand("cat", "Write files to standard output");
  cat->add_option("paths", *cat_paths, "Paths of the cluster")->required();
  cat->callback([&context, cat_paths] { RunCat(context, *cat_paths); });
}

void RegisterFileCommands(CLI::App& app, Context& context) {
  RegisterListCommands(app, context);
  RegisterChangeCommands(app, context);
  RegisterAttributeCommands(app, context);
  RegisterCopyCommands(app, context);
}

}  // namespace cairn::cli
