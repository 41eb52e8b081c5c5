// getlk, setlk, flock: locks of the whole cluster.
//
// A request that has to wait keeps no thread: its fuse_req_t is answered when the client calls back. A signal
// reaches the process' request as an interruption (OnInterrupt): the wait is withdrawn at the master, which
// says whether it came in time; a process that is about to die does not wait for that.
//
// The kernel names the owner of a lock (lock_owner): the files of a process for POSIX locks, the open file
// for flock and for open-file-description locks. It does not say which of the two a record lock is; only the
// search for deadlocks has to know, and asks /proc what the process called.
#include <fcntl.h>
#include <sys/file.h>

#include <cerrno>
#include <chrono>
#include <fstream>
#include <string>

#include "fuse/file_system.h"
#include "fuse/interruption.h"

namespace cairn::fuse {
namespace {

// The thread sleeps in fcntl(2): /proc/TID/syscall shows "number fd command ...". Unreadable counts as a
// POSIX lock.
bool CalledOpenDescription(pid_t thread) {
  std::ifstream file("/proc/" + std::to_string(thread) + "/syscall");
  std::string number, descriptor, command;
  if (!(file >> number >> descriptor >> command)) return false;
  const unsigned long value = std::strtoul(command.c_str(), nullptr, 16);
  return value == F_OFD_SETLK || value == F_OFD_SETLKW;
}

void OnInterrupt(fuse_req_t req, void* data) {
  FileSystem& fs = FileSystemOf(req);
  const auto ticket = reinterpret_cast<uint64_t>(data);
  const pid_t thread = fuse_req_ctx(req)->pid;
  if (FatalSignalPending(thread)) {
    fs.client().CancelLock(ticket, client::Cancelling::kGiveUp);
  } else if (fs.client().CancelLock(ticket, client::Cancelling::kAsk)) {
    fs.interrupted_locks().Watch(ticket, thread);
  }
}

void Start(fuse_req_t req, fuse_ino_t ino, const client::LockRequest& request) {
  FileSystem& fs = FileSystemOf(req);
  const InodeId inode = fs.ToInode(ino);
  const uint64_t ticket = fs.client().BeginLock(
      request, [req, inode, &fs](const Status& status) { fs.ReplyStatus(req, "lock", inode, status); });
  fuse_req_interrupt_func(req, OnInterrupt, reinterpret_cast<void*>(ticket));
  // `req` may be gone once it runs.
  fs.shared_mappings().Before(inode, ino, fuse_req_ctx(req)->pid,
                              [&fs, ticket] { fs.client().RunLock(ticket); });
}

client::LockKind KindOf(short type) {
  return type == F_WRLCK   ? client::LockKind::kExclusive
         : type == F_RDLCK ? client::LockKind::kShared
                           : client::LockKind::kUnlock;
}

client::LockRequest RecordRequest(const fuse_file_info* file, const struct flock& lock) {
  client::LockRequest request;
  request.handle = static_cast<client::Handle>(file->fh);
  request.kind = KindOf(lock.l_type);
  request.owner = file->lock_owner;
  request.start = static_cast<uint64_t>(lock.l_start);
  if (lock.l_len > 0) request.end = request.start + static_cast<uint64_t>(lock.l_len) - 1;
  request.pid = lock.l_pid;
  return request;
}

void GetLock(fuse_req_t req, fuse_ino_t ino, fuse_file_info* file, struct flock* lock) {
  FileSystem& fs = FileSystemOf(req);
  const RequestScope scope(req);
  const auto holder = fs.client().TestLock(CallerOf(req), RecordRequest(file, *lock));
  if (!holder.ok()) return fs.ReplyError(req, "lock", fs.ToInode(ino), holder.status());
  struct flock answer {};
  answer.l_whence = SEEK_SET;
  answer.l_type = F_UNLCK;
  if (*holder) {
    answer.l_type = (*holder)->kind == client::LockKind::kExclusive ? F_WRLCK : F_RDLCK;
    answer.l_start = static_cast<off_t>((*holder)->start);
    answer.l_len =
        (*holder)->end == INT64_MAX ? 0 : static_cast<off_t>((*holder)->end - (*holder)->start + 1);
    answer.l_pid = (*holder)->pid;
  }
  fuse_reply_lock(req, &answer);
}

void SetLock(fuse_req_t req, fuse_ino_t ino, fuse_file_info* file, struct flock* lock, int sleep) {
  client::LockRequest request = RecordRequest(file, *lock);
  request.wait = sleep != 0;
  request.open_description = request.wait && CalledOpenDescription(fuse_req_ctx(req)->pid);
  Start(req, ino, request);
}

void Flock(fuse_req_t req, fuse_ino_t ino, fuse_file_info* file, int operation) {
  client::LockRequest request;
  request.handle = static_cast<client::Handle>(file->fh);
  request.flock = true;
  request.kind = (operation & LOCK_EX) != 0   ? client::LockKind::kExclusive
                 : (operation & LOCK_SH) != 0 ? client::LockKind::kShared
                                              : client::LockKind::kUnlock;
  request.owner = file->lock_owner;
  request.pid = fuse_req_ctx(req)->pid;
  request.wait = (operation & LOCK_NB) == 0 && request.kind != client::LockKind::kUnlock;
  Start(req, ino, request);
}

}  // namespace

void InterruptedLocks::Watch(uint64_t ticket, pid_t thread) {
  const std::lock_guard lock(mu_);
  watched_[ticket] = thread;
  if (!worker_.joinable()) worker_ = std::thread([this] { Main(); });
  changed_.notify_all();
}

void InterruptedLocks::Main() {
  std::unique_lock lock(mu_);
  while (!stopping_) {
    if (watched_.empty()) {
      changed_.wait(lock);
      continue;
    }
    changed_.wait_for(lock, std::chrono::milliseconds(50));
    const auto watched = watched_;
    lock.unlock();
    std::vector<uint64_t> over;
    for (const auto& [ticket, thread] : watched) {
      const auto how = FatalSignalPending(thread) ? client::Cancelling::kGiveUp : client::Cancelling::kAsk;
      if (!client_.CancelLock(ticket, how)) over.push_back(ticket);
    }
    lock.lock();
    for (const uint64_t ticket : over) watched_.erase(ticket);
  }
}

InterruptedLocks::~InterruptedLocks() {
  {
    const std::lock_guard lock(mu_);
    stopping_ = true;
    changed_.notify_all();
  }
  if (worker_.joinable()) worker_.join();
}

void AddLockOperations(fuse_lowlevel_ops& ops) {
  ops.getlk = GetLock;
  ops.setlk = SetLock;
  ops.flock = Flock;
}

}  // namespace cairn::fuse
