// Options of up, down, status and umount.
#include <CLI/CLI.hpp>
#include <memory>

#include "cli/core/context.h"
#include "cli/local/up.h"

namespace cairn::cli {

void RegisterLocalCommands(CLI::App& app, Context& context) {
  auto up_options = std::make_shared<UpOptions>();
  CLI::App* up = app.add_subcommand("up", "Start the local cluster: what is not running, with its data");
  up->add_option("--dir", context.directory, "Where it keeps data, logs and pid files");
  up->add_option("--mount", up_options->mountpoint, "Mount it there (remembered)");
  up->add_flag("--no-mount", up_options->no_mount, "Forget the remembered mount")->excludes("--mount");
  up->add_option("--chunkservers", up_options->chunkservers,
                 "Number of chunkservers; more may be added later (default 3)")
      ->check(CLI::Range(1, 64));
  up->add_option("--policy", up_options->policy,
                 "Policy of the root directory, e.g. replicas=3,write_quorum=2,chunk_bytes=64MiB");
  up->add_option("--only", up_options->only, "Start just this part: master, cs1, cs2, ..., mount");
  up->add_option("--master-flag", up_options->master_flags,
                 "A further flag for the master, e.g. --master-flag=--root-squash (repeatable, remembered)")
      ->allow_extra_args(false);
  up->add_option("--chunkserver-flag", up_options->chunkserver_flags, "A further flag for all chunkservers")
      ->allow_extra_args(false);
  up->add_option("--mount-flag", up_options->mount_flags, "A further flag for the mount")
      ->allow_extra_args(false);
  up->add_flag("--metrics", up_options->metrics,
               "Every part serves Prometheus metrics on a port of its own (remembered); "
               "DIR/run/metrics-targets.json lists "
               "them");
  up->add_option("--console", up_options->console,
                 "Where the master serves the web console: host:port, on (a free port; the default), off (remembered)");
  up->callback([&context, up_options] { context.Report(RunUp(context, *up_options)); });

  auto down_options = std::make_shared<DownOptions>();
  CLI::App* down = app.add_subcommand("down", "Stop the local cluster; its data stays");
  down->add_option("--dir", context.directory, "Where it keeps data, logs and pid files");
  down->add_option("--only", down_options->only, "Stop just this part: master, cs1, cs2, ..., mount");
  down->add_flag("--purge", down_options->purge, "Remove all data afterwards, after asking");
  down->add_flag("--yes", down_options->yes, "Do not ask");
  down->add_flag("--force", down_options->force, "Detach the mount even while files are open on it");
  down->callback([&context, down_options] { context.Report(RunDown(context, *down_options)); });

  CLI::App* status = app.add_subcommand("status", "State of the cluster, and of the local cluster's parts");
  status->add_option("--dir", context.directory, "A local cluster's directory");
  status->add_flag("--json", context.json, "For programs");
  auto watch = std::make_shared<bool>(false);
  status->add_flag("--watch", *watch, "Again every two seconds, until Ctrl-C");
  status->callback([&context, watch] { context.Report(*watch ? WatchStatus(context) : RunStatus(context)); });

  CLI::App* mount = app.add_subcommand("mount", "Mounts of this machine");
  mount->require_subcommand(1);
  auto status_path = std::make_shared<std::string>();
  CLI::App* mount_status = mount->add_subcommand("status", "What they are doing, and what they wait for");
  mount_status->add_option("mount", *status_path, "One mount (default: all)");
  mount_status->add_flag("--json", context.json, "For programs");
  mount_status->callback([&context, status_path] { context.Report(RunMountStatus(context, *status_path)); });

  auto mountpoint = std::make_shared<std::string>();
  auto lazy = std::make_shared<bool>(false);
  CLI::App* umount = app.add_subcommand("umount", "Unmount Cairn, also a mount whose process died");
  umount->add_option("mountpoint", *mountpoint, "Where it is mounted")->required();
  umount->add_flag("--lazy", *lazy, "Detach now, end when its last user is gone");
  umount->callback([&context, mountpoint, lazy] { context.Report(RunUmount(context, *mountpoint, *lazy)); });
}

}  // namespace cairn::cli
