#include "master/state/context.h"

namespace cairn::master {
namespace {

uint64_t Moved(uint64_t value, int64_t by) {
  const uint64_t moved = value + static_cast<uint64_t>(by);
  CAIRN_CHECK(by >= 0 || moved <= value, "a counter of the metadata fell below zero");
  return moved;
}

}  // namespace

Result<InodeId> Context::NewInode() {
  if (command_.new_inode() == 0) {
    if (preview_) return kPlaceholderInode;
    return Status(StatusCode::kFailedPrecondition, "the command carries no inode number");
  }
  const InodeId inode(command_.new_inode());
  if (txn_->Get(Family::kInodes, keys::Inode(inode))) {
    return Status(StatusCode::kFailedPrecondition, "inode number " + ToString(inode) + " is in use");
  }
  return inode;
}

Epoch Context::NewEpoch() const {
  if (command_.new_epoch() == 0 && preview_) return Epoch(UINT64_MAX);
  return Epoch(command_.new_epoch());
}

const proto::Placement* Context::NextPlacement() {
  if (next_placement_ >= command_.placements_size()) return nullptr;
  return &command_.placements(next_placement_++);
}

void Context::Touch(proto::InodeRecord* record) const {
  *record->mutable_ctime() = now();
  record->set_generation(record->generation() + 1);
}

void Context::TouchEntries(proto::InodeRecord* directory) const {
  *directory->mutable_mtime() = now();
  Touch(directory);
}

void Context::ChangeCounters(int64_t inodes, int64_t chunks, int64_t deleting, int64_t policies) {
  proto::Counters counters = LoadCounters(*txn_);
  counters.set_inodes(Moved(counters.inodes(), inodes));
  counters.set_chunks(Moved(counters.chunks(), chunks));
  counters.set_deleting(Moved(counters.deleting(), deleting));
  counters.set_policies(Moved(counters.policies(), policies));
  Save(txn_, Family::kMeta, keys::kCounters, counters);
}

}  // namespace cairn::master
