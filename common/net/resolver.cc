#include "common/net/resolver.h"

#include <pthread.h>

#include <utility>

namespace cairn::net {

Resolver::~Resolver() {
  std::thread thread;
  {
    std::lock_guard lock(mu_);
    stopping_ = true;
    queue_.clear();
    thread.swap(thread_);
  }
  wake_.notify_all();
  if (thread.joinable()) thread.join();
}

void Resolver::Lookup(HostPort where, Callback done) {
  std::lock_guard lock(mu_);
  if (stopping_) return;
  queue_.emplace_back(std::move(where), std::move(done));
  if (!thread_.joinable()) thread_ = std::thread([this] { Run(); });
  wake_.notify_one();
}

void Resolver::Run() {
  pthread_setname_np(pthread_self(), "resolver");
  std::unique_lock lock(mu_);
  while (true) {
    wake_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
    if (stopping_) return;
    const auto [where, done] = std::move(queue_.front());
    queue_.pop_front();
    lock.unlock();
    done(Resolve(where));
    lock.lock();
  }
}

}  // namespace cairn::net
