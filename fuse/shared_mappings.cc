#include "fuse/shared_mappings.h"

#include <cstdio>
#include <fstream>
#include <sstream>
#include <utility>

namespace cairn::fuse {
namespace {

constexpr size_t kMaxThreads = 8;

}  // namespace

bool HasSharedWritableMapping(const std::string& maps, const std::string& device, uint64_t inode) {
  unsigned major = 0, minor = 0;
  if (std::sscanf(device.c_str(), "%u:%u", &major, &minor) != 2) return true;
  std::istringstream lines(maps);
  for (std::string line; std::getline(lines, line);) {
    char permissions[5] = "";
    unsigned line_major = 0, line_minor = 0;
    unsigned long long line_inode = 0;
    // "from-to rw-s offset major:minor inode path"
    if (std::sscanf(line.c_str(), "%*s %4s %*s %x:%x %llu", permissions, &line_major, &line_minor,
                    &line_inode) != 4)
      continue;
    if (permissions[1] == 'w' && permissions[3] == 's' && line_major == major && line_minor == minor &&
        line_inode == inode)
      return true;
  }
  return false;
}

void SharedMappings::SetDevice(const std::string& device) {
  const std::lock_guard lock(mu_);
  device_ = device;
}

void SharedMappings::Before(InodeId inode, uint64_t number_in_kernel, pid_t thread,
                            std::function<void()> then) {
  std::string device;
  {
    const std::lock_guard lock(mu_);
    device = device_;
  }
  std::ifstream file("/proc/" + std::to_string(thread) + "/maps");
  const std::string maps((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  if (!maps.empty() && !HasSharedWritableMapping(maps, device, number_in_kernel)) return then();
  const std::lock_guard lock(mu_);
  queue_.push_back({inode, std::move(then)});
  if (idle_ < queue_.size() && threads_.size() < kMaxThreads) threads_.emplace_back([this] { Main(); });
  changed_.notify_one();
}

void SharedMappings::Main() {
  std::unique_lock lock(mu_);
  for (;;) {
    ++idle_;
    changed_.wait(lock, [&] { return stopping_ || !queue_.empty(); });
    --idle_;
    if (queue_.empty()) return;
    const Work work = std::move(queue_.front());
    queue_.pop_front();
    lock.unlock();
    cache_.InvalidateInode(work.inode, true);
    work.then();
    lock.lock();
  }
}

SharedMappings::~SharedMappings() {
  {
    const std::lock_guard lock(mu_);
    stopping_ = true;
    changed_.notify_all();
  }
  for (std::thread& thread : threads_) thread.join();
}

}  // namespace cairn::fuse
