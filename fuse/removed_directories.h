// The last attributes of directories that were removed through this mount while the kernel still knows them:
// a process may have one open, or as its working directory, and fstat(2) of it works on a local file system.
// Thread-safety: any thread.
#pragma once

#include <list>
#include <mutex>
#include <optional>

#include "client/types.h"

namespace cairn::fuse {

class RemovedDirectories {
 public:
  void Add(client::Attributes attr) {
    attr.nlink = 0;
    attr.size = 0;
    const std::lock_guard lock(mu_);
    removed_.push_front(std::move(attr));
    if (removed_.size() > kMost) removed_.pop_back();
  }
  std::optional<client::Attributes> Find(InodeId inode) const {
    const std::lock_guard lock(mu_);
    for (const client::Attributes& attr : removed_) {
      if (attr.inode == inode) return attr;
    }
    return std::nullopt;
  }

 private:
  static constexpr size_t kMost = 64;  // removed last; those before answer ESTALE
  mutable std::mutex mu_;
  std::list<client::Attributes> removed_;  // guarded by mu_
};

}  // namespace cairn::fuse
