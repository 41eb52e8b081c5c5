// Working under a file's lease: entering, acquiring, transitions (open_file.h explains the gate).
#include <algorithm>
#include <utility>

#include "client/impl/client_impl.h"
#include "client/interrupt.h"

namespace cairn::client {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr auto kPoll = milliseconds(50);
constexpr uint32_t kLayoutChunks = 16;  // asked for with a lease
// A write that comes so soon after the read for which a lease was asked belongs to it.
constexpr int64_t kReadBeforeWriteNanos = 20 * kNanosPerMilli;

bool Grants(const proto::Reply& reply, InodeId inode, LeaseKind kind) {
  return std::any_of(reply.leases().begin(), reply.leases().end(), [&](const proto::Lease& lease) {
    if (lease.inode() != inode.value()) return false;
    return lease.mode() == proto::LEASE_WRITE ||
           (kind == LeaseKind::kRead && lease.mode() == proto::LEASE_READ);
  });
}

}  // namespace

Status ClientImpl::WaitGate(std::unique_lock<std::mutex>& lock, OpenFile& file, Deadline deadline) {
  while (file.transition) {
    file.changed.wait_for(lock, kPoll);
    if (!file.transition) break;
    if (ThreadInterrupted())
      return Status(StatusCode::kInterrupted, "interrupted while a lease is given back");
    if (steady_clock::now() >= deadline) {
      return Status(StatusCode::kTimeout,
                    "inode " + ToString(file.inode) + ": its lease is still being given back");
    }
  }
  return Status::Ok();
}

Result<FileUse> ClientImpl::Enter(const FilePtr& file, const LeaseNeed& need, const Caller& caller) {
  const Deadline deadline = steady_clock::now() + milliseconds(options_.request_timeout_ms);
  bool must_ask = need.truncate_to_zero;
  while (true) {
    if (!session_->LeasesValid()) {
      const auto left = std::chrono::duration_cast<milliseconds>(deadline - steady_clock::now()).count();
      CAIRN_RETURN_IF_ERROR(session_->WaitLeasesValid(left));
    }
    if (!must_ask) {
      {
        std::unique_lock lock(file->mu);
        CAIRN_RETURN_IF_ERROR(WaitGate(lock, *file, deadline));
        ++file->users;
        ++file->entered;
      }
      FileUse use(file);
      const HeldLease held = cache_->Lease(file->inode);
      if (held.kind >= need.kind && cache_->Peek(file->inode) && session_->LeasesValid()) {
        AttachEntered(*file, held);
        return use;
      }
    }
    if (steady_clock::now() >= deadline) {
      return Status(StatusCode::kTimeout, "no lease on inode " + ToString(file->inode) + " after " +
                                              std::to_string(options_.request_timeout_ms) +
                                              " ms: others keep using it");
    }
    Status acquired = Acquire(file, need, caller);
    if (!acquired.ok() && need.ask > need.kind && acquired.code() != StatusCode::kInterrupted) {
      // More was asked for than is needed (the master's disk may be too full for writers).
      acquired = Acquire(file, {.kind = need.kind, .offset = need.offset}, caller);
    }
    CAIRN_RETURN_IF_ERROR(acquired);
    must_ask = false;
    FileUse use(file);  // entered by the reader thread
    const HeldLease held = cache_->Lease(file->inode);
    if (held.kind >= need.kind && cache_->Peek(file->inode)) {
      AttachEntered(*file, held);
      return use;
    }
  }
}

void ClientImpl::NoteGrant(OpenFile& file, const LeaseNeed& need, LeaseKind held_before) {
  const int64_t now = clock_->NowNanos();
  std::lock_guard lock(file.mu);
  const bool write = need.kind == LeaseKind::kWrite;
  if (!write) file.read_granted_ns = now;
  file.taken_by_read = !write && need.ask == LeaseKind::kWrite;
  if (write && held_before == LeaseKind::kRead && now - file.read_granted_ns < kReadBeforeWriteNanos)
    file.reads_before_writes = true;
}

Status ClientImpl::Acquire(const FilePtr& file, const LeaseNeed& need, const Caller& caller) {
  const LeaseKind kind = std::max(need.kind, need.ask);
  const LeaseKind held_before = cache_->Lease(file->inode).kind;
  {
    std::lock_guard lock(file->mu);
    ++file->acquiring;
  }
  bool entered = false;
  const auto on_reply = [&](const proto::Reply& reply) {
    if (!Grants(reply, file->inode, kind)) return;
    // A transition under way ends a lease that came before this one, and waits for nobody who enters now: it
    // has counted the users already, or will wait for this one, too, which is short.
    std::lock_guard lock(file->mu);
    ++file->users;
    ++file->entered;
    file->granted = steady_clock::now();
    entered = true;
  };
  const auto make = [&] {
    proto::Request request;
    proto::LeaseOp* op = request.mutable_lease();
    op->set_inode(file->inode.value());
    op->set_mode(kind == LeaseKind::kWrite ? proto::LEASE_WRITE : proto::LEASE_READ);
    // The chunk that will be written is announced with the lease: one round trip. Every chunk that is announced in vain has to be
    // given back.
    op->set_count(kind == LeaseKind::kRead ? kLayoutChunks : need.truncate_to_zero || need.offset ? 1 : 0);
    if (need.offset && file->chunk_bytes != 0) op->set_first(*need.offset / file->chunk_bytes);
    op->set_truncate_to_zero(need.truncate_to_zero);
    return request;
  };
  auto reply = CallAs(caller, make(), on_reply);
  // Permission was checked when the file was opened, and stays with the descriptor.
  if (reply.code() == StatusCode::kAccessDenied) reply = CallSystem(make(), on_reply);
  {
    std::lock_guard lock(file->mu);
    --file->acquiring;
  }
  if (!reply.ok()) return reply.status();
  if (!entered) {
    return Status(StatusCode::kUnavailable, "the master granted no lease on inode " + ToString(file->inode));
  }
  NoteGrant(*file, need, held_before);
  return Status::Ok();
}

void ClientImpl::AttachEntered(OpenFile& file, const HeldLease& held) {
  std::lock_guard lock(file.attach_mu);
  HeldLease& attached = file.attached;
  if (attached.kind == held.kind && attached.number == held.number && attached.tenure == held.tenure) return;
  const bool continuous = attached.kind != LeaseKind::kNone && attached.tenure == held.tenure;
  // What was buffered or read under a lease that was lost in between is not to be believed.
  if (attached.kind != LeaseKind::kNone && !continuous) {
    file.data->Detach();
    LoseTimes(file);
  }
  const auto view = cache_->Peek(file.inode);
  uint64_t size = view ? view->attr.size : 0;
  if (continuous && attached.kind == LeaseKind::kWrite) size = std::max(size, file.data->Size());
  std::vector<ChunkPlace> known = cache_->Layout(file.inode, held.number);
  if (held.kind == LeaseKind::kWrite) {
    file.data->AttachWrite(Epoch(held.number), size, std::move(known));
  } else {
    file.data->AttachRead(size, std::move(known));
  }
  attached = held;
  file.access_noted_until_ns.store(0, std::memory_order_relaxed);
  cache_->NoteData(file.inode);
}

Result<FileUse> ClientImpl::EnterIfWriting(const FilePtr& file, Deadline deadline) {
  {
    std::unique_lock lock(file->mu);
    CAIRN_RETURN_IF_ERROR(WaitGate(lock, *file, deadline));
    ++file->users;
    ++file->entered;
  }
  FileUse use(file);
  {
    std::lock_guard lock(file->attach_mu);
    if (file->attached.kind == LeaseKind::kWrite) return use;
  }
  return FileUse();
}

bool ClientImpl::BeginTransition(OpenFile& file, bool only_if_idle, const std::function<void()>& waiting) {
  std::unique_lock lock(file.mu);
  if (only_if_idle && (file.transition || file.users > 0)) return false;
  const auto wait = [&] {
    if (file.changed.wait_for(lock, std::chrono::seconds(1)) == std::cv_status::no_timeout) return;
    lock.unlock();
    waiting();
    lock.lock();
  };
  while (file.transition) wait();
  file.transition = true;
  while (file.users > 0) wait();
  return true;
}

void ClientImpl::EndTransition(OpenFile& file) {
  std::lock_guard lock(file.mu);
  file.transition = false;
  file.changed.notify_all();
}

}  // namespace cairn::client
