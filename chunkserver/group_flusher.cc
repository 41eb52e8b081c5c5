#include "chunkserver/group_flusher.h"

#include <pthread.h>

#include <utility>

namespace cairn::chunkserver {

GroupFlusher::GroupFlusher(ChunkStore* store) : store_(store) {
  thread_ = std::thread([this] { Run(); });
}

GroupFlusher::~GroupFlusher() {
  {
    std::lock_guard lock(mu_);
    stopping_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

void GroupFlusher::Flush(Callback done) {
  {
    std::lock_guard lock(mu_);
    waiting_.push_back(std::move(done));
  }
  wake_.notify_one();
}

void GroupFlusher::Run() {
  pthread_setname_np(pthread_self(), "flush");
  std::unique_lock lock(mu_);
  while (true) {
    wake_.wait(lock, [this] { return stopping_ || !waiting_.empty(); });
    if (waiting_.empty()) return;
    std::vector<Callback> group;
    group.swap(waiting_);
    lock.unlock();
    const Status status = store_->Flush();
    for (const Callback& done : group) done(status);
    group.clear();
    lock.lock();
  }
}

}  // namespace cairn::chunkserver
