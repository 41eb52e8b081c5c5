// Recovers a file whose writer is gone: every chunk open under its lease goes through the configuration
// procedure and ends sealed; then the lease ends. The inode is locked meanwhile, so that nobody gets a lease
// on it or deletes it.
//
// Thread-safety: core thread only.
#pragma once

#include <set>
#include <string>

#include "master/core/operation.h"

namespace cairn::master {

class RecoverOp final : public Operation {
 public:
  // Starts the recovery of the inode unless it is under way.
  static void Ensure(Core& core, InodeId inode);

  explicit RecoverOp(InodeId inode) : inode_(inode) {}
  Progress Step(Core& core) override;
  std::string WaitReason() const override;

 private:
  const InodeId inode_;
  bool locked_ = false;
  std::set<ChunkId> running_;
  int64_t started_ns_ = 0;
  Core* core_ = nullptr;
};

}  // namespace cairn::master
