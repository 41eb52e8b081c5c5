#include "fuse/kernel_cache.h"

#define FUSE_USE_VERSION 314
#include <fuse3/fuse_lowlevel.h>
#include <linux/fuse.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <mutex>

#include "common/log.h"

namespace cairn::fuse {
namespace {

// enum fuse_notify_code of Linux 6.16; the headers of Debian 12 do not have it yet.
constexpr int kNotifyIncrementEpoch = 8;

}  // namespace

void KernelCache::Attach(fuse_session* session, InodeId root) {
  const std::unique_lock lock(mu_);
  session_ = session;
  root_ = root;
}

void KernelCache::Detach() {
  const std::unique_lock lock(mu_);
  session_ = nullptr;
}

bool KernelCache::RaiseEpoch() {
  fuse_out_header header{};
  header.len = sizeof header;
  header.error = kNotifyIncrementEpoch;  // unique = 0: a notification
  return write(fuse_session_fd(session_), &header, sizeof header) == static_cast<ssize_t>(sizeof header);
}

void KernelCache::ProbeEpochs() {
  const std::shared_lock lock(mu_);
  if (session_ == nullptr) return;
  const bool known = RaiseEpoch();
  name_timeouts_.store(known, std::memory_order_relaxed);
  CAIRN_LOG(Info, "the kernel {}",
            known ? "caches names under leases"
                  : "has no notification to drop all names: they are not cached in it (Linux 6.16 can)");
}

void KernelCache::InvalidateInode(InodeId inode, bool data) {
  const std::shared_lock lock(mu_);
  if (session_ == nullptr) return;
  invalidations_.fetch_add(1, std::memory_order_relaxed);
  const fuse_ino_t ino = inode == root_ ? FUSE_ROOT_ID : inode.value();
  // A negative offset means attributes only; length 0 means to the end of the file.
  const int error = fuse_lowlevel_notify_inval_inode(session_, ino, data ? 0 : -1, 0);
  if (error != 0 && error != -ENOENT && error != -ENODEV && error != -ENOTCONN) {
    CAIRN_LOG(Warning, "the kernel did not drop its cache of inode {}: errno {}", ToString(inode), -error);
  }
}

void KernelCache::InvalidateNames(InodeId) {
  const std::shared_lock lock(mu_);
  if (session_ == nullptr || !name_timeouts()) return;
  invalidations_.fetch_add(1, std::memory_order_relaxed);
  if (!RaiseEpoch() && errno != ENODEV && errno != ENOTCONN) {
    CAIRN_LOG(Warning, "the kernel did not drop its names: errno {}", errno);
  }
}

}  // namespace cairn::fuse
