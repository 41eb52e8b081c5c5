#include "chunkserver/disk_drainer.h"

#include <pthread.h>

#include <map>
#include <string>

#include "common/log.h"

namespace cairn::chunkserver {
namespace {

constexpr size_t kChunksAtATime = 256;
constexpr int64_t kPauseNanos = kNanosPerSecond / 2;

}  // namespace

void DiskDrainer::Start() {
  thread_ = std::thread([this] {
    pthread_setname_np(pthread_self(), "disk-drain");
    while (limiter_.Sleep(kPauseNanos)) DrainOnce();
  });
}

void DiskDrainer::Stop() {
  limiter_.Stop();
  if (thread_.joinable()) thread_.join();
}

uint64_t DiskDrainer::DrainOnce() {
  uint64_t moved = 0;
  for (size_t disk = 0; disk < disks_->count(); ++disk) {
    if (!disks_->draining(disk)) continue;
    std::map<std::string, uint64_t> left;  // why, how many
    ChunkId after;
    bool full = false;
    while (!limiter_.stopped() && !full && disks_->draining(disk)) {
      const std::vector<ChunkId> page = disks_->ChunksOn(disk, kChunksAtATime, after);
      if (page.empty()) break;
      after = page.back();
      for (ChunkId chunk : page) {
        if (limiter_.stopped() || !disks_->draining(disk)) return moved;
        const Status status = disks_->Relocate(chunk, disk, &limiter_);
        if (status.ok()) {
          ++moved;
          continue;
        }
        if (status.code() == StatusCode::kUnknownChunk) continue;  // erased meanwhile
        ++left[status.message()];
        full = status.code() == StatusCode::kNoSpace;
        if (full) break;
      }
    }
    std::string note;
    for (const auto& [why, count] : left) {
      // The first one that found no room stands for all that come after it.
      note += (note.empty() ? "" : "; ") + (full && left.size() == 1 ? std::string() : std::to_string(count) + ": ") + why;
      if (note.size() > 400) break;
    }
    disks_->NoteDrain(disk, note);
  }
  if (moved > 0) CAIRN_LOG(Info, "{} chunks moved to other disks", moved);
  return moved;
}

}  // namespace cairn::chunkserver
