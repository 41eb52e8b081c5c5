#include "chunkserver/scrubber.h"

#include <pthread.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "common/checksum.h"
#include "common/log.h"

namespace cairn::chunkserver {
namespace {

using replication::ReplicaInfo;

constexpr uint32_t kPieceBytes = 1u << 20;
// Chunks listed at a time: the list of a disk with millions is not copied whole.
constexpr size_t kChunksAtATime = 1024;

}  // namespace

Scrubber::Scrubber(DiskSet* disks, const Clock* clock, DamageSink damage, ScrubberOptions options)
    : disks_(disks),
      clock_(clock),
      damage_(std::move(damage)),
      options_(options),
      limiter_(options.rate_bytes_per_second, clock) {}

Scrubber::~Scrubber() { Stop(); }

void Scrubber::Start() {
  if (options_.rate_bytes_per_second == 0) return;
  thread_ = std::thread([this] {
    pthread_setname_np(pthread_self(), "scrub");
    Run();
  });
}

void Scrubber::Stop() {
  limiter_.Stop();
  if (thread_.joinable()) thread_.join();
}

void Scrubber::Run() {
  int64_t wait_ns = options_.first_pass_after_ms * kNanosPerMilli;
  while (limiter_.Sleep(wait_ns)) {
    const int64_t started = clock_->NowNanos();
    const ScrubResult result = ScrubOnce();
    const int64_t took = clock_->NowNanos() - started;
    if (limiter_.stopped()) return;
    CAIRN_LOG(Info, "scrubbed {} chunks, {} bytes in {} s: {} bad blocks", result.chunks, result.bytes,
              took / kNanosPerSecond, result.bad_blocks);
    wait_ns = std::max(options_.pass_interval_ms * kNanosPerMilli - took, kNanosPerSecond);
  }
}

ScrubResult Scrubber::ScrubOnce() {
  ScrubResult result;
  for (const auto& [path, store] : disks_->named_stores()) {
    ScrubResult disk;
    const bool went_on = ScrubDisk(path, store, &disk);
    result.chunks += disk.chunks;
    result.bytes += disk.bytes;
    result.bad_blocks += disk.bad_blocks;
    if (!went_on) break;
  }
  return result;
}

// False: the process ends.
bool Scrubber::ScrubDisk(const std::string& path, ChunkStore* store, ScrubResult* result) {
  ChunkId after;
  while (!store->failed()) {
    std::vector<ReplicaInfo> batch;
    const Status listed = store->ForEach([&](const ReplicaInfo& info) {
      if (info.chunk > after) batch.push_back(info);
      return batch.size() < kChunksAtATime;
    });
    if (!listed.ok()) {
      CAIRN_LOG(Warning, "scrubbing stopped: {}", listed.message());
      return true;
    }
    if (batch.empty()) {
      Note(path, *result, true);
      return true;
    }
    after = batch.back().chunk;
    for (const ReplicaInfo& info : batch) {
      if (!ScrubChunk(info, result)) return false;
      Note(path, *result, false);
    }
  }
  return true;
}

void Scrubber::Note(const std::string& path, const ScrubResult& disk, bool complete) {
  const std::lock_guard lock(mu_);
  ScrubProgress& progress = progress_[path];
  progress.path = path;
  progress.chunks_done = disk.chunks;
  progress.bytes_done = disk.bytes;
  progress.bad_blocks = disk.bad_blocks;
  if (complete) progress.last_complete_unix_ms = clock_->WallNanos() / kNanosPerMilli;
}

std::vector<ScrubProgress> Scrubber::Progress() const {
  const std::lock_guard lock(mu_);
  std::vector<ScrubProgress> all;
  for (const auto& [path, progress] : progress_) all.push_back(progress);
  return all;
}

bool Scrubber::ScrubChunk(const ReplicaInfo& info, ScrubResult* result) {
  ++result->chunks;
  for (uint64_t offset = 0; offset < info.length; offset += kPieceBytes) {
    const auto length = static_cast<uint32_t>(std::min<uint64_t>(kPieceBytes, info.length - offset));
    if (!limiter_.Take(length)) return false;
    const Result<ReadData> read =
        disks_->Read({info.chunk, info.accepted, /*exact=*/false, offset, length}, /*verify=*/true);
    if (read.ok()) {
      result->bytes += length;
    } else if (read.code() == StatusCode::kCorrupt) {
      FindBadBlocks(info, offset, length, result);
    } else {
      return true;  // erased or reopened meanwhile; what was written anew is checked in the next pass
    }
  }
  return true;
}

void Scrubber::FindBadBlocks(const ReplicaInfo& info, uint64_t offset, uint64_t length, ScrubResult* result) {
  for (uint64_t at = offset; at < offset + length; at += kBlockBytes) {
    const auto bytes = static_cast<uint32_t>(std::min<uint64_t>(kBlockBytes, offset + length - at));
    const Result<ReadData> read =
        disks_->Read({info.chunk, info.accepted, /*exact=*/false, at, bytes}, /*verify=*/true);
    if (read.ok() || read.code() != StatusCode::kCorrupt) continue;
    ++result->bad_blocks;
    CAIRN_LOG(Error, "chunk {}: the block at {} does not match its checksum", ToString(info.chunk), at);
    const Status marked = disks_->MarkCorrupt(info.chunk, at);
    if (!marked.ok()) CAIRN_LOG(Warning, "chunk {}: {}", ToString(info.chunk), marked.message());
    damage_(info.chunk, at, bytes, "found by scrubbing: " + read.status().message());
  }
}

}  // namespace cairn::chunkserver
