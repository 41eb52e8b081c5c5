// The local cluster: starts, awaits and stops its parts. Commands in up.cc, down.cc and status.cc.
//
//   LocalCluster cluster(context, layout);
//   cluster.Lock();
//   cluster.StartPart("master"); cluster.AwaitMaster(...); ...
//
// Thread-safety: one thread.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "cli/core/context.h"
#include "cli/local/layout.h"

namespace cairn::cli {

class LocalCluster {
 public:
  LocalCluster(Context& context, LocalLayout layout) : context_(context), layout_(std::move(layout)) {}
  ~LocalCluster();
  LocalCluster(const LocalCluster&) = delete;
  LocalCluster& operator=(const LocalCluster&) = delete;

  LocalLayout& layout() { return layout_; }
  // One `cairn up` or `down` at a time per directory: kBusy if another one runs.
  Status Lock();

  pid_t Running(const LocalPart& part) const;
  // Starts a part that is not running: chooses a port if it has none or lost it, and spawns the daemon.
  Status Start(LocalPart& part);
  // Waits until the part serves; on failure stops it again and quotes its log.
  Status Await(const LocalPart& part);
  // Waits until the master counts all running chunkservers as up.
  Status AwaitChunkservers();
  // Ends a part. The mount is unmounted, which flushes it; a mount in use is an error unless `force`.
  Status Stop(const LocalPart& part, bool force);
  // Owner and policy of the root directory, at the first start or when a policy is given.
  Status InitializeRoot(const std::string& policy);

  void Progress(const std::string& name, const std::string& text);

 private:
  Result<std::vector<std::string>> CommandLine(const LocalPart& part) const;
  // Whether the master is started with a console of ours.
  bool ServesConsole() const;
  Status ChooseAddresses(LocalPart& part);
  // A free port for `address`, the one it has if nobody took that.
  Status ChooseAddress(const std::string& whose, std::string& address);
  // The error for a part that did not come up, with the end of what it wrote.
  Status StartFailed(const LocalPart& part, const std::string& what);

  Context& context_;
  LocalLayout layout_;
  int lock_fd_ = -1;
  std::vector<std::pair<std::string, pid_t>> started_;  // our children
};

}  // namespace cairn::cli
