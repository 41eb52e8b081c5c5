// Reclaims an inode without names after its last holder closed it: tombstones on W replicas of each chunk,
// then the record goes. Retried silently until the quorum is there.
//
// Thread-safety: core thread only.
#pragma once

#include <memory>

#include "master/core/delete_procedure.h"
#include "master/core/operation.h"

namespace cairn::master {

class ReclaimOp final : public Operation {
 public:
  // Starts it unless it is under way.
  static void Ensure(Core& core, InodeId inode);

  explicit ReclaimOp(InodeId inode) : inode_(inode) {}
  Progress Step(Core& core) override;
  std::string WaitReason() const override;

 private:
  Progress RetryLater(Core& core);

  const InodeId inode_;
  std::shared_ptr<DeleteProcedure> procedure_;
  bool waiting_ = false;
};

}  // namespace cairn::master
