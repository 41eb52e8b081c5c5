// The commands of the local cluster. Each returns what the process should exit with.
// Thread-safety: one thread.
#pragma once

#include <string>
#include <vector>

#include "cli/core/context.h"

namespace cairn::cli {

struct UpOptions {
  std::string mountpoint;  // empty: as before
  bool no_mount = false;   // forget the mount
  int chunkservers = 0;    // 0: as before; 3 for a new cluster
  std::string policy;
  std::string only;      // name of one part
  bool metrics = false;  // every part serves metrics from now on
  std::string console;   // "on", "off", or where the master serves the web console; empty: as before
  // Further flags of the daemons; replace those remembered, if any are given.
  std::vector<std::string> master_flags, chunkserver_flags, mount_flags;
};
Status RunUp(Context& context, const UpOptions& options);

struct DownOptions {
  std::string only;
  bool purge = false;
  bool yes = false;
  bool force = false;  // detach a mount that is in use
};
Status RunDown(Context& context, const DownOptions& options);

Status RunStatus(Context& context);
// What the mounts of this machine do and wait for; `path` empty: all.
Status RunMountStatus(Context& context, const std::string& path);
// Again and again until an interrupt.
Status WatchStatus(Context& context);
Status RunUmount(Context& context, const std::string& mountpoint, bool lazy);

// Removes what a local cluster owns below its directory, and nothing else.
Status PurgeLocalCluster(const std::string& directory);

}  // namespace cairn::cli
