// Takes cached names, attributes and pages away from the kernel when the client gives a lease back.
//
// Pages and attributes of an inode are invalidated one inode at a time. For a name the kernel offers the
// same, but that takes the directory's lock, which a request of this very mount may hold while it waits for
// another mount whose own invalidation waits for a request of its kind: a deadlock across two mounts. So
// names are invalidated by raising the mount's epoch (Linux 6.16), which takes no lock: every name is looked
// up again, from the client's own cache. Where the kernel cannot do that, names are not cached in the kernel
// at all (name_timeouts() is false). Thread-safety: any thread. Attach and Detach once each.
#pragma once

#include <atomic>
#include <shared_mutex>

#include "client/client.h"

struct fuse_session;

namespace cairn::fuse {

class KernelCache final : public client::CacheListener {
 public:
  // `root`: the inode that the kernel knows as the root of the mount.
  void Attach(fuse_session* session, InodeId root);
  void Detach();  // after it no call reaches the session
  // After INIT: asks the kernel whether it knows epochs.
  void ProbeEpochs();
  bool name_timeouts() const { return name_timeouts_.load(std::memory_order_relaxed); }
  uint64_t invalidations() const { return invalidations_.load(std::memory_order_relaxed); }

  void InvalidateInode(InodeId inode, bool data) override;
  void InvalidateNames(InodeId directory) override;

 private:
  bool RaiseEpoch();  // with mu_ held (shared)

  std::shared_mutex mu_;
  fuse_session* session_ = nullptr;  // guarded by mu_
  InodeId root_ = kRootInode;        // guarded by mu_
  std::atomic<bool> name_timeouts_{false};
  std::atomic<uint64_t> invalidations_{0};
};

}  // namespace cairn::fuse
