// session list, master backup, master restore.
#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <ostream>

#include "cli/admin/admin.h"
#include "cli/admin/admin_client.h"
#include "cli/admin/disk_commands.h"
#include "cli/admin/status_text.h"
#include "cli/admin/target.h"
#include "cli/core/config.h"
#include "cli/core/format.h"
#include "cli/local/layout.h"
#include "cli/local/process.h"

extern char** environ;

namespace cairn::cli {
namespace {

Status ListSessions(Context& context, bool with_leases) {
  CAIRN_ASSIGN_OR_RETURN(const auto masters, FindMasters(context));
  AdminClient admin(masters);
  proto::SessionsRequest request;
  request.set_with_leases(with_leases);
  CAIRN_ASSIGN_OR_RETURN(const auto response, admin.Sessions(request));
  if (context.json) {
    *context.out << ToJson(response)["sessions"].dump(2) << std::endl;
    return Status::Ok();
  }
  *context.out << fmt::format("{:>10} {:>12} {:>12} {:>12} {:>8}  {}\n", "SESSION", "RENEWED", "READ LEASES",
                              "WRITE LEASES", "ORPHANS", "CLIENT");
  for (const auto& session : response.sessions()) {
    *context.out << fmt::format("{:>10} {:>9} ms {:>12} {:>12} {:>8}  {}\n", session.session(),
                                session.last_renewal_ms(), session.read_leases(), session.write_leases(),
                                session.open_orphans(), Printable(session.client_name()));
    for (const uint64_t inode : session.write_lease_inodes())
      *context.out << fmt::format("{:>10} writes inode {}\n", "", inode);
  }
  *context.out << std::flush;
  return Status::Ok();
}

Status Backup(Context& context, const std::string& directory) {
  CAIRN_ASSIGN_OR_RETURN(const auto masters, FindMasters(context));
  std::error_code error;
  proto::BackupRequest request;
  request.set_directory(std::filesystem::absolute(directory, error).lexically_normal().string());
  AdminClient admin(context, masters);
  CAIRN_ASSIGN_OR_RETURN(const auto response, admin.Backup(request));
  if (context.json) {
    *context.out << ToJson(response).dump(2) << std::endl;
  } else {
    *context.out << fmt::format("Metadata up to log index {} is in {} on the master's machine ({})",
                                response.log_index(), request.directory(), HumanBytes(response.bytes()))
                 << std::endl;
  }
  return Status::Ok();
}

struct RestoreOptions {
  std::string backup;
  std::string data;  // empty: the local cluster's master
};

Status RunToEnd(const std::vector<std::string>& arguments) {
  std::vector<char*> argv;
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  pid_t pid = 0;
  if (const int error = posix_spawn(&pid, argv[0], nullptr, nullptr, argv.data(), environ); error != 0) {
    return ErrnoStatus(error, "start " + arguments[0]);
  }
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return Status::Ok();
  return {StatusCode::kFailedPrecondition, "the restore failed; the reason is above"};
}

Status Restore(Context& context, RestoreOptions options) {
  std::string aside;
  if (options.data.empty()) {
    CAIRN_ASSIGN_OR_RETURN(const LocalLayout layout, LocalLayout::Load(LocalDirectory(context)));
    if (RunningDaemon(layout.PidFile("master"), BinaryName(PartKind::kMaster)) != 0) {
      return {StatusCode::kBusy, "the master runs; stop the cluster first (`cairn down`)"};
    }
    options.data = layout.DataDirectory("master");
    // What is there is kept, beside it: a restore that turns out wrong can be taken back.
    std::error_code error;
    if (std::filesystem::exists(options.data) && !std::filesystem::is_empty(options.data, error)) {
      aside = options.data + ".before-restore-" + std::to_string(time(nullptr));
      std::filesystem::rename(options.data, aside, error);
      if (error) return {StatusCode::kIoError, "move " + options.data + " aside: " + error.message()};
    }
  }
  CAIRN_ASSIGN_OR_RETURN(const std::string folder, BinaryDirectory());
  const Status restored =
      RunToEnd({folder + "/" + BinaryName(PartKind::kMaster), "--data", options.data, "--restore",
                std::filesystem::absolute(options.backup).lexically_normal().string()});
  if (!restored.ok()) {
    if (!aside.empty()) {
      std::error_code error;
      std::filesystem::remove_all(options.data, error);
      std::filesystem::rename(aside, options.data, error);
    }
    return restored;
  }
  *context.out << "Restored into " << options.data << "; start the master as usual";
  if (!aside.empty()) *context.out << " (its previous data is in " << aside << ")";
  *context.out << std::endl;
  return Status::Ok();
}

}  // namespace

void RegisterMasterCommands(CLI::App& app, Context& context) {
  CLI::App* session = app.add_subcommand("session", "Sessions of clients");
  session->require_subcommand(1);
  auto with_leases = std::make_shared<bool>(false);
  CLI::App* list = session->add_subcommand("list", "Who is connected, and what they hold");
  list->add_flag("--leases", *with_leases, "Also which inodes they write");
  list->add_flag("--json", context.json, "For programs");
  list->callback([&context, with_leases] {
    if (const Status status = ListSessions(context, *with_leases); !status.ok()) context.Fail(status);
  });

  CLI::App* master = app.add_subcommand("master", "The master's metadata");
  master->require_subcommand(1);
  auto directory = std::make_shared<std::string>();
  CLI::App* backup =
      master->add_subcommand("backup", "Write a consistent copy of the metadata while the cluster runs");
  backup->add_option("directory", *directory, "New directory on the master's machine")->required();
  backup->add_flag("--json", context.json, "For programs");
  backup->callback([&context, directory] {
    if (const Status status = Backup(context, *directory); !status.ok()) context.Fail(status);
  });
  auto restore_options = std::make_shared<RestoreOptions>();
  CLI::App* restore =
      master->add_subcommand("restore", "Put a backup into the data directory of a master that does not run");
  restore->add_option("backup", restore_options->backup, "Directory written by `cairn master backup`")
      ->required();
  restore->add_option("--data", restore_options->data,
                      "Empty data directory (default: that of the local cluster's master)");
  restore->add_option("--dir", context.directory, "Directory of the local cluster");
  restore->callback([&context, restore_options] {
    if (const Status status = Restore(context, *restore_options); !status.ok()) context.Fail(status);
  });
}

void RegisterAdminCommands(CLI::App& app, Context& context) {
  RegisterChunkCommands(app, context);
  RegisterFsckCommand(app, context);
  RegisterLockCommands(app, context);
  RegisterMasterCommands(app, context);
  RegisterDiskCommands(app, context);
  RegisterServerCommands(app, context);
  RegisterEventCommands(app, context);
  RegisterTrashCommands(app, context);
  RegisterRebalanceCommands(app, context);
  RegisterInsightCommands(app, context);
}

}  // namespace cairn::cli
