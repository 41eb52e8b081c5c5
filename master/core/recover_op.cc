#include "master/core/recover_op.h"

#include "common/log.h"
#include "master/core/core.h"
#include "master/core/reconfigure_op.h"
#include "master/state/chunk_queries.h"

namespace cairn::master {
namespace {

// Of one file at a time; the rest follows as these end.
constexpr size_t kConcurrentChunks = 32;
constexpr int64_t kRetryNanos = kNanosPerSecond;

}  // namespace

void RecoverOp::Ensure(Core& core, InodeId inode) {
  auto it = core.running().recoveries.find(inode);
  if (it != core.running().recoveries.end()) {
    core.Wake(it->second);
    return;
  }
  core.running().recoveries[inode] = core.StartOperation(std::make_unique<RecoverOp>(inode));
}

Progress RecoverOp::Step(Core& core) {
  core_ = &core;
  if (!locked_) {
    if (core.inodes().LockedByOther(inode_, id)) {
      core.inodes().Wait(inode_, id);
      return Progress::kWaiting;
    }
    core.inodes().Lock(inode_, id);
    locked_ = true;
    started_ns_ = core.now();
  }
  const auto lease = WriteLeaseOf(core.txn(), inode_);
  std::vector<ChunkId> open;
  if (!lease || lease->vanished) open = OpenChunksOf(core.txn(), inode_);
  for (ChunkId chunk : open) {
    if (running_.size() >= kConcurrentChunks) break;
    if (running_.contains(chunk)) continue;
    auto done = [&core, me = id, chunk](const Status& status) {
      auto* op = core.FindOperation<RecoverOp>(me);
      if (op == nullptr) return;
      op->running_.erase(chunk);
      if (!status.ok()) {
        CAIRN_LOG(Warning, "recovery of chunk {}: {}", ToString(chunk), status.ToString());
        core.timers().At(core.now() + kRetryNanos, [&core, me] { core.Wake(me); });
        return;
      }
      core.Wake(me);
    };
    running_.insert(chunk);
    if (ReconfigureOp* other = ReconfigureOp::Running(core, chunk)) {
      // One for the writer that is gone meanwhile: when it ends, look again.
      other->AddListener(done);
      continue;
    }
    ReconfigureRequest request;
    request.chunk = chunk;
    request.purpose = replication::ReconfigurePurpose::kVanishedWriter;
    request.reason = "recovery of a vanished writer";
    ReconfigureOp::Start(core, std::move(request), done);
  }
  if (!open.empty() || !running_.empty()) return Progress::kWaiting;
  if (lease && lease->vanished) {
    proto::LogCommand command;
    command.mutable_end_write_lease()->set_inode(inode_.value());
    command.mutable_end_write_lease()->set_lease(lease->lease.value());
    core.Apply(command);
  }
  core.running().recoveries.erase(inode_);
  core.inodes().Unlock(inode_, id);
  core.WakeInode(inode_);
  return Progress::kFinished;
}

std::string RecoverOp::WaitReason() const {
  std::string reason = "inode " + ToString(inode_) + " is being recovered from a writer that vanished";
  if (core_ == nullptr) return reason;
  for (ChunkId chunk : running_) {
    if (const ReconfigureOp* op = ReconfigureOp::Running(*core_, chunk))
      return reason + "; " + op->WaitReason();
  }
  return reason;
}

}  // namespace cairn::master
