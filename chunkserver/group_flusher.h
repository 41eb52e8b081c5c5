// Data syncs of one disk with group commit: everybody who asks while a sync is running shares the next one,
// and nobody who asks is blocked.
//
// Thread-safety: Flush may be called from any thread.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "chunkserver/store/chunk_store.h"
#include "common/status.h"

namespace cairn::chunkserver {

class GroupFlusher {
 public:
  using Callback = std::function<void(const Status&)>;

  explicit GroupFlusher(ChunkStore* store);
  ~GroupFlusher();  // after the flushes that were asked for
  GroupFlusher(const GroupFlusher&) = delete;
  GroupFlusher& operator=(const GroupFlusher&) = delete;

  // `done` runs on the flusher's thread once everything applied before this call is on disk, or with the
  // disk's error. The callers bound how many they ask for.
  void Flush(Callback done);

 private:
  void Run();

  ChunkStore* const store_;
  std::mutex mu_;
  std::condition_variable wake_;
  std::vector<Callback> waiting_;  // guarded by mu_
  bool stopping_ = false;          // guarded by mu_
  std::thread thread_;
};

}  // namespace cairn::chunkserver
