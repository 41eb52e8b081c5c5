// What a client still has to write when it ends, or when its mount is taken away: everything is flushed, and
// the leases are given back.
//
// Whoever unmounts must get an end, also without servers. So all waits together last as long as there is
// progress (bytes that reached their quorum, files, batches of commits), and write_timeout_ms beyond the
// last. What could not be written then is named in the log. What chunkservers have and the master was not
// told, it recovers from them.
#include <algorithm>
#include <thread>
#include <utility>

#include "client/impl/client_impl.h"
#include "common/log.h"

namespace cairn::client {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr size_t kFlushThreads = 8;
constexpr auto kLook = milliseconds(50);
constexpr int64_t kAgainMs = 1'000;  // the servers did not answer a moment ago
constexpr size_t kFilesNamed = 20;
constexpr int64_t kReasonMs = 500;  // an error of the last write says who did not confirm: it comes first

}  // namespace

void ClientImpl::LimitWaits(int64_t give_up_ms) {
  if (give_up_ms > 0 && gave_up_before_) give_up_ms = std::min(give_up_ms, kAgainMs);
  give_up_ms_ = give_up_ms;
  if (give_up_ms > 0) {
    NoteProgress();
  } else {
    give_up_at_ = steady_clock::time_point::max();
  }
}

void ClientImpl::NoteProgress() {
  const int64_t give_up_ms = give_up_ms_;
  if (give_up_ms > 0) give_up_at_ = steady_clock::now() + milliseconds(give_up_ms);
}

std::vector<ClientImpl::FilePtr> ClientImpl::WrittenFiles() {
  std::vector<FilePtr> files;
  std::lock_guard lock(write_back_mu_);
  files.reserve(written_.size());
  for (const auto& [inode, file] : written_) files.push_back(file);
  return files;
}

void ClientImpl::SealAll() {
  if (!GaveUp()) LowerIdle(WrittenFiles(), LeaseKind::kNone);
}

// The results are in the order of the files.
void ClientImpl::FlushWritten(const std::vector<FilePtr>& files, std::vector<Status>* results) {
  results->assign(files.size(), Status::Ok());
  std::atomic<size_t> next{0};
  std::atomic<size_t> done{0};
  const auto flush = [&] {
    const InterruptScope scope([this] { return GaveUp(); });
    for (size_t i = next++; i < files.size(); i = next++) {
      auto use = EnterIfWriting(files[i], steady_clock::time_point::max());
      if (!use.ok()) {
        (*results)[i] = use.status();
      } else if (*use) {
        (*results)[i] = files[i]->data->FlushDurable();
      }
      if ((*results)[i].ok()) NoteProgress();
      ++done;
    }
  };
  std::vector<std::thread> threads;
  for (size_t i = 0; i < std::min(files.size(), kFlushThreads); ++i) threads.emplace_back(flush);
  // A large file makes progress before it is done.
  uint64_t least = UINT64_MAX;
  while (done < files.size() && !GaveUp()) {
    std::this_thread::sleep_for(kLook);
    uint64_t dirty = 0;
    for (const FilePtr& file : files) dirty += file->data->DirtyBytes();
    if (dirty < least && least != UINT64_MAX) NoteProgress();
    least = std::min(least, dirty);
  }
  for (std::thread& thread : threads) thread.join();
}

Status ClientImpl::SyncAll() {
  LimitWaits(options_.write_timeout_ms + kReasonMs);
  const std::vector<FilePtr> files = WrittenFiles();
  std::vector<Status> flushed;
  FlushWritten(files, &flushed);
  Status told;
  {
    const InterruptScope scope([this] { return GaveUp(); });
    WriteBackRound(true);
    PostAccessTimes();
    told = SyncMaster();
  }
  const bool gave_up = GaveUp();
  gave_up_before_ = gave_up;
  LimitWaits(0);

  Status first;
  size_t lost_files = 0;
  uint64_t lost_bytes = 0;
  for (size_t i = 0; i < files.size(); ++i) {
    if (flushed[i].ok()) continue;
    const uint64_t bytes = files[i]->data->DirtyBytes();
    if (first.ok()) first = flushed[i];
    lost_bytes += bytes;
    if (++lost_files > kFilesNamed) continue;
    CAIRN_LOG(Error, "inode {}: {} bytes written last did not reach the disks of a write quorum: {}",
              ToString(files[i]->inode), bytes, flushed[i].ToString());
  }
  if (lost_files > 0) {
    return Status(first.code(), std::to_string(lost_bytes) + " bytes of " + std::to_string(lost_files) +
                                    " files were not written back" +
                                    (gave_up ? " (given up " + std::to_string(options_.write_timeout_ms) +
                                                   " ms after the last progress)"
                                             : "") +
                                    ": " + first.message());
  }
  if (!told.ok()) {
    return told.WithContext(
        "all data is written back, but the master was not told of the last sizes and times; "
        "it asks the chunkservers when this session is over");
  }
  return Status::Ok();
}

}  // namespace cairn::client
