// Carries out the master's commands on chunks. Quick ones of a batch run together and share one data sync;
// syncs run in a pool of their own, because they take long.
//
// What arrives is checked: ids, sizes and counts. Beyond the bound on what is queued commands are refused,
// not taken.
//
// Thread-safety: all methods may be called from any thread.
#pragma once

#include <atomic>
#include <functional>
#include <memory>

#include "chunkserver/copier.h"
#include "chunkserver/disk_set.h"
#include "chunkserver/worker_pool.h"
#include "proto/cairn/cluster.pb.h"

namespace cairn::chunkserver {

struct CommandExecutorOptions {
  size_t quick_threads = 2;
  size_t syncs = 4;                   // at the same time
  size_t max_queued_chunks = 65'536;  // chunk commands taken and not answered
};

class CommandExecutor {
 public:
  using Done = std::function<void(proto::CommandResult)>;

  CommandExecutor(DiskSet* disks, Copier* copier, CommandExecutorOptions options);
  ~CommandExecutor();  // as Stop

  // Carries out a batch that consists of short changes only, those that somebody waits for (tombstones and
  // their end), in the caller's thread: handing them to another one costs more than they do. False: nothing
  // was done, use Execute.
  bool ExecuteNow(const proto::Command& command, proto::CommandResult* result) const;
  // `done` runs once, on some thread, with one result per chunk command, in order.
  void Execute(proto::Command command, Done done);
  void Stop();  // finishes the quick ones, cuts the syncs short

 private:
  struct Batch;
  proto::ChunkResult ExecuteQuick(const proto::ChunkCommand& command, bool* wants_flush) const;
  void RunQuick(const std::shared_ptr<Batch>& batch);
  void RunSync(const std::shared_ptr<Batch>& batch, int index);
  void Finish(const std::shared_ptr<Batch>& batch);

  DiskSet* const disks_;
  Copier* const copier_;
  const CommandExecutorOptions options_;
  std::atomic<size_t> queued_chunks_{0};
  WorkerPool quick_;
  WorkerPool syncs_;
};

}  // namespace cairn::chunkserver
