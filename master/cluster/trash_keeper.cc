#include "master/cluster/trash_keeper.h"

#include <algorithm>

#include "master/cluster/event_log.h"
#include "master/core/core.h"
#include "master/state/queries.h"
#include "master/state/trash.h"

namespace cairn::master {
namespace {

constexpr int64_t kPeriodNanos = kNanosPerSecond;
// One step of an early purge; space comes back only after the erase and the store's reclaim, so the next
// waits for the effect.
constexpr int64_t kEarlyPeriodNanos = 5 * kNanosPerSecond;
constexpr size_t kPurgePage = 256;
constexpr size_t kMaxReclaims = 1024;  // deletes under way
constexpr size_t kEarlyFiles = 256;
constexpr uint64_t kEarlyBytes = 4ull << 30;
constexpr uint64_t kShortPercent = 5;
constexpr uint64_t kShortBytes = 20ull << 30;  // of large disks 5 % would be much

}  // namespace

void TrashKeeper::Tick() {
  if (core_.now() < next_ns_) return;
  next_ns_ = core_.now() + kPeriodNanos;
  if (TrashUseOf(core_.txn()).inodes == 0) return;
  PurgeExpired();
  PurgeForSpace();
}

void TrashKeeper::PurgeExpired() {
  while (core_.running().reclaims.size() < kMaxReclaims) {
    proto::LogCommand command;
    for (InodeId inode : ExpiredTrash(core_.txn(), core_.wall() / kNanosPerSecond, kPurgePage)) {
      command.mutable_trash_purge()->add_inodes(inode.value());
    }
    if (command.trash_purge().inodes_size() == 0 || !core_.Apply(command).ok()) return;
  }
}

std::string TrashKeeper::ShortOfSpace() const {
  for (const auto& [id, server] : core_.servers().all()) {
    if (!server.up || server.mode == proto::SERVER_REMOVED || server.disks.empty()) continue;
    uint64_t total = 0;
    for (const proto::DiskInfo& disk : server.disks) total += disk.failed() ? 0 : disk.total_bytes();
    const uint64_t free = server.free_bytes("");
    if (free < std::min(total / 100 * kShortPercent, kShortBytes)) {
      return ToString(id) + " has " + std::to_string(free >> 20) + " MiB left above its reserve";
    }
  }
  return {};
}

void TrashKeeper::PurgeForSpace() {
  // What was deleted before has to be erased first: nobody can say yet whether it was enough.
  if (core_.now() < next_early_ns_ || !core_.running().reclaims.empty() ||
      CountersOf(core_.txn()).deleting > 0)
    return;
  const std::string reason = ShortOfSpace();
  if (reason.empty()) return;
  next_early_ns_ = core_.now() + kEarlyPeriodNanos;
  proto::LogCommand command;
  uint64_t bytes = 0;
  for (InodeId inode : OldestTrash(core_.txn(), kEarlyFiles)) {
    if (bytes >= kEarlyBytes) break;
    if (const auto trash = TrashRecordOf(core_.txn(), inode)) bytes += trash->bytes();
    command.mutable_trash_purge()->add_inodes(inode.value());
  }
  if (command.trash_purge().inodes_size() == 0 || !core_.Apply(command).ok()) return;
  core_.events().Add(Severity::kWarning, "trash.purged-early",
                     std::to_string(command.trash_purge().inodes_size()) +
                         " of the oldest files in the trash (" + std::to_string(bytes >> 20) +
                         " MiB) are deleted before their time: " + reason);
}

}  // namespace cairn::master
