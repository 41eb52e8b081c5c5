#include <fmt/format.h>
#include <unistd.h>

#include <filesystem>
#include <iostream>
#include <optional>

#include "cli/core/config.h"
#include "cli/local/cluster.h"
#include "cli/local/up.h"
#include "fuse/mountpoint.h"

namespace cairn::cli {
namespace {

Status Confirm(Context& context, const std::string& directory) {
  if (isatty(STDIN_FILENO) == 0) {
    return {StatusCode::kInvalidArgument, "--purge removes all data in " + directory +
                                              "; without a terminal to ask at, confirm with --yes"};
  }
  *context.out << "This removes the local cluster in " << directory
               << " with ALL DATA stored in it.\nType yes to go on: " << std::flush;
  std::string answer;
  std::getline(std::cin, answer);
  if (answer != "yes") return {StatusCode::kCancelled, "not confirmed; nothing was changed"};
  return Status::Ok();
}

}  // namespace

Status PurgeLocalCluster(const std::string& directory) {
  std::error_code error;
  for (const char* name : {"data", "log", "run", "cluster.json"}) {
    std::filesystem::remove_all(directory + "/" + name, error);
    if (error) return {StatusCode::kIoError, "remove " + directory + "/" + name + ": " + error.message()};
  }
  std::filesystem::remove(directory, error);  // only if nothing of the user's own is left in it
  return Status::Ok();
}

Status RunDown(Context& context, const DownOptions& options) {
  if (options.purge && !options.only.empty()) {
    return {StatusCode::kInvalidArgument, "--purge removes the whole cluster; it does not go with --only"};
  }
  CAIRN_ASSIGN_OR_RETURN(LocalLayout layout, LocalLayout::Load(LocalDirectory(context)));
  if (!options.only.empty() && layout.Find(options.only) == nullptr) {
    return {StatusCode::kInvalidArgument, "there is no part '" + options.only + "' in " + layout.directory()};
  }
  if (options.purge && !options.yes) CAIRN_RETURN_IF_ERROR(Confirm(context, layout.directory()));
  const std::string directory = layout.directory();
  {
    LocalCluster cluster(context, std::move(layout));
    CAIRN_RETURN_IF_ERROR(cluster.Lock());
    // The mount first (it flushes to the chunkservers), the master last.
    Status first_error;
    for (const PartKind kind : {PartKind::kMount, PartKind::kChunkserver, PartKind::kMaster}) {
      for (const LocalPart& part : cluster.layout().parts()) {
        if (part.kind != kind || (!options.only.empty() && options.only != part.name)) continue;
        Status stopped = cluster.Stop(part, options.force || options.purge);
        // Chunkservers must not go away under a mount that still has data to flush.
        if (!stopped.ok() && kind == PartKind::kMount) {
          return stopped.WithContext("nothing was stopped (--force detaches a mount that is in use)");
        }
        if (!stopped.ok() && first_error.ok()) first_error = std::move(stopped);
      }
    }
    CAIRN_RETURN_IF_ERROR(first_error);
  }
  if (options.purge) {
    CAIRN_RETURN_IF_ERROR(PurgeLocalCluster(directory));
    *context.out << "Removed " << directory << std::endl;
  }
  return Status::Ok();
}

Status RunUmount(Context& context, const std::string& mountpoint, bool lazy) {
  std::error_code error;
  // Not canonical(): it asks the mount itself, which may be dead.
  std::string path = std::filesystem::absolute(mountpoint, error).lexically_normal().string();
  while (path.size() > 1 && path.ends_with('/')) path.pop_back();
  auto mounted = fuse::FindMount(path);
  if (!mounted) {
    const auto parent = std::filesystem::weakly_canonical(std::filesystem::path(path).parent_path(), error);
    if (!error) path = (parent / std::filesystem::path(path).filename()).string();
    mounted = fuse::FindMount(path);
  }
  if (!mounted) return {StatusCode::kInvalidArgument, mountpoint + ": nothing is mounted there"};
  if (mounted->type != fuse::kMountType) {
    return {StatusCode::kInvalidArgument,
            mountpoint + ": is a mount of type " + mounted->type + ", not of Cairn"};
  }
  const Status unmounted = fuse::Unmount(path, {.lazy = lazy});
  if (unmounted.code() != StatusCode::kBusy) return unmounted;
  CAIRN_ASSIGN_OR_RETURN(const auto state, fuse::ProbeMount(path, 5'000));
  if (state == fuse::MountState::kAlive) return unmounted;
  // Its users wait for servers that do not answer, and cannot leave: it goes out of their way.
  CAIRN_RETURN_IF_ERROR(fuse::Unmount(path, {.lazy = true}));
  *context.err << path << ": it is in use and does not answer; detached, it ends when its last user is gone\n";
  return Status::Ok();
}

}  // namespace cairn::cli
