#include "master/core/reclaim_op.h"

#include <algorithm>

#include "common/log.h"
#include "master/core/core.h"
#include "master/core/reconfigure_op.h"
#include "master/state/chunk_queries.h"
#include "master/state/queries.h"
#include "master/state/trash.h"

namespace cairn::master {
namespace {

constexpr int64_t kRetryNanos = 5 * kNanosPerSecond;

}  // namespace

void ReclaimOp::Ensure(Core& core, InodeId inode) {
  if (core.running().reclaims.contains(inode)) return;
  core.running().reclaims[inode] = core.StartOperation(std::make_unique<ReclaimOp>(inode));
}

std::string ReclaimOp::WaitReason() const { return "inode " + ToString(inode_) + " is being reclaimed"; }

Progress ReclaimOp::RetryLater(Core& core) {
  procedure_.reset();
  waiting_ = true;
  core.inodes().Unlock(inode_, id);
  core.WakeInode(inode_);
  core.timers().At(core.now() + kRetryNanos, [&core, me = id] {
    if (auto* op = core.FindOperation<ReclaimOp>(me)) op->waiting_ = false;
    core.Wake(me);
  });
  return Progress::kWaiting;
}

Progress ReclaimOp::Step(Core& core) {
  if (waiting_) return Progress::kWaiting;
  auto finish = [&] {
    core.running().reclaims.erase(inode_);
    core.inodes().Unlock(inode_, id);
    core.WakeInode(inode_);
    return Progress::kFinished;
  };
  const auto record = InodeRecordOf(core.txn(), inode_);
  if (!record || record->nlink() > 0 || IsHeld(core.txn(), inode_)) {
    if (procedure_ != nullptr) procedure_->Refuse();  // takes the tombstones back
    return finish();
  }
  if (procedure_ != nullptr) {
    switch (procedure_->state()) {
      case DeleteProcedure::State::kPreparing:
        return Progress::kWaiting;
      case DeleteProcedure::State::kRefused:
        CAIRN_LOG(Info, "inode {} cannot be reclaimed yet: {}", inode_.value(),
                  procedure_->refusal().message());
        return RetryLater(core);
      case DeleteProcedure::State::kReady: {
        proto::LogCommand command;
        command.set_new_epoch(core.ids().NextEpoch().value());
        command.mutable_reclaim_inode()->set_inode(inode_.value());
        const ApplyResult result = core.Apply(command);
        if (!result.ok()) {
          procedure_->Refuse();
          return RetryLater(core);
        }
        procedure_->Committed();
        return finish();
      }
    }
  }
  if (core.inodes().LockedByOther(inode_, id)) {  // recovered first
    core.inodes().Wait(inode_, id);
    return Progress::kWaiting;
  }
  if (!core.OthersAtMost(inode_, SessionId{}, LeaseMode::kNone, true, id)) return Progress::kWaiting;
  std::vector<ChunkId> chunks;
  for (const ChunkAt& at : ChunksOfInode(core.txn(), inode_, 0, SIZE_MAX)) {
    const auto chunk = ChunkRecordOf(core.txn(), at.chunk);
    if (chunk && BelongsTo(*chunk, inode_, at.index)) chunks.push_back(at.chunk);
  }
  for (ChunkId chunk : chunks) {
    if (!DeleteProcedure::MayStart(core, chunk) || ReconfigureOp::Running(core, chunk) != nullptr)
      return RetryLater(core);
  }
  if (chunks.empty()) {  // a directory, a symbolic link, an empty file: nothing that needs a quorum
    proto::LogCommand command;
    command.set_new_epoch(core.ids().NextEpoch().value());
    command.mutable_reclaim_inode()->set_inode(inode_.value());
    return core.Apply(command).ok() ? finish() : RetryLater(core);
  }
  core.inodes().Lock(inode_, id);
  procedure_ = DeleteProcedure::Start(core, chunks, core.options().write_timeout_ms * kNanosPerMilli, id);
  if (procedure_->state() != DeleteProcedure::State::kPreparing) core.Wake(id);
  return Progress::kWaiting;
}

}  // namespace cairn::master
