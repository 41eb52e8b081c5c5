// Leases that end: recalled by the master, evicted for space, or lost with the session. client_impl.h says
// why this cannot deadlock.
#include <algorithm>
#include <utility>

#include "client/impl/client_impl.h"
#include "common/log.h"

namespace cairn::client {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr int kInvalidatePasses = 3;
constexpr auto kPagesWait = milliseconds(2'000);  // for the kernel to drop pages
constexpr auto kPagesWaitContended =
    milliseconds(20);  // when an operation of this mount waits for the same lease
constexpr size_t kEvictBatch = 256;
constexpr size_t kAnswersKept = 4'096;
constexpr int64_t kProgressMs = 1'000;

// Work in the kernel that is waited for with a bound.
struct Invalidation {
  std::mutex mu;
  std::condition_variable changed;
  bool done = false;

  void Finish() {
    std::lock_guard lock(mu);
    done = true;
    changed.notify_all();
  }
  bool WaitFor(steady_clock::duration time) {
    std::unique_lock lock(mu);
    return changed.wait_for(lock, time, [&] { return done; });
  }
};

}  // namespace

bool ClientImpl::BeginRecall(const proto::RecallItem& item) {
  std::lock_guard lock(recalls_mu_);
  if (!running_recalls_.emplace(item.inode(), item.number(), item.keep()).second) return false;
  const auto it = answered_recalls_.find(item.inode());
  if (it == answered_recalls_.end() || it->second.answer.number() != item.number() ||
      it->second.keep != item.keep()) {
    return true;
  }
  running_recalls_.erase({item.inode(), item.number(), item.keep()});
  workers_->Run([this, answer = it->second.answer] { session_->SendRecallReply(answer); });
  return false;
}

void ClientImpl::FinishRecall(const proto::RecallItem& item, proto::RecallReply answer) {
  {
    std::lock_guard lock(recalls_mu_);
    running_recalls_.erase({item.inode(), item.number(), item.keep()});
    const auto [it, fresh] = answered_recalls_.try_emplace(item.inode());
    // Lowered first and given back now: if the answer to the lowering did not arrive, its commit is needed
    // here.
    if (!fresh && !answer.has_commit() && it->second.answer.number() == item.number() &&
        it->second.answer.has_commit()) {
      *answer.mutable_commit() = it->second.answer.commit();
      answer.mutable_commit()->set_keep(item.keep());
      answer.mutable_commit()->set_still_open(answer.still_open());
    }
    it->second = {item.keep(), answer};
    if (fresh) answered_order_.push_back(item.inode());
    if (answered_order_.size() > kAnswersKept) {
      answered_recalls_.erase(answered_order_.front());
      answered_order_.pop_front();
    }
  }
  session_->SendRecallReply(std::move(answer));
}

void ClientImpl::OnRecall(const proto::Recall& recall) {
  for (const proto::RecallItem& item : recall.items()) {
    if (!BeginRecall(item)) continue;
    recalls_.fetch_add(1, std::memory_order_relaxed);
    // At once: what is answered from the cache from now on must not outlive the recall in the kernel.
    cache_->MarkRecalled(InodeId(item.inode()), item.number());
    workers_->Run([this, item] { HandleRecall(item); });
  }
}

void ClientImpl::HandleRecall(proto::RecallItem item) {
  const InodeId inode(item.inode());
  proto::RecallReply answer;
  answer.set_inode(item.inode());
  answer.set_number(item.number());
  const FilePtr file = FindFile(inode);
  if (file) {
    ReturnLease(file, item, &answer);
  } else if (item.keep() == proto::LEASE_READ && cache_->Lease(inode).kind == LeaseKind::kRead) {
    cache_->Lower(inode, item.number());  // it is lowered already
  } else {
    // Also a write lease that nobody used (its caller gave up): the master has to recover what it announced.
    const Exposure exposure = DropLease(inode, item.number());
    InvalidateExposure(exposure);
    InvalidateInodeBounded(inode, nullptr);
  }
  answer.set_done(true);
  FinishRecall(item, std::move(answer));
  if (file) DropIfUnused(file);
}

// A lease that changed hands for every record of a burst would cost each of them a hand-over. So it stays for a moment after it was
// granted, while one operation closely follows the other. Who takes turns with another mount is not at it any more when the recall
// comes, and gives it back at once.
void ClientImpl::LetBurstGoOn(OpenFile& file) {
  std::unique_lock lock(file.mu);
  const auto end = file.granted + burst_;
  for (auto now = steady_clock::now(); now < end && !stopping_; now = steady_clock::now()) {
    const bool inside = file.users > 0;
    if (!inside && now - file.left >= burst_gap_) return;
    const steady_clock::duration pause = inside ? burst_gap_ : burst_gap_ - (now - file.left);
    lock.unlock();
    std::this_thread::sleep_for(std::min({pause, end - now, steady_clock::duration(milliseconds(10))}));
    lock.lock();
  }
}

void ClientImpl::ReturnLease(const FilePtr& file, const proto::RecallItem& item, proto::RecallReply* answer) {
  bool keep_read = item.keep() == proto::LEASE_READ;
  auto last_progress = steady_clock::now();
  const auto progress = [&](uint64_t dirty) {
    const auto now = steady_clock::now();
    if (now - last_progress < milliseconds(kProgressMs)) return;
    last_progress = now;
    proto::RecallReply partial;
    partial.set_inode(item.inode());
    partial.set_number(item.number());
    partial.set_dirty_bytes(dirty);
    session_->SendRecallReply(std::move(partial));
  };
  if (!item.deleting() && cache_->Lease(file->inode).kind == LeaseKind::kWrite) LetBurstGoOn(*file);
  // Pages go while operations still run under the lease: whoever has one locked can finish.
  uint64_t entered_before = 0;
  bool late = false;
  for (int pass = 0; !keep_read && pass < kInvalidatePasses; ++pass) {
    {
      std::lock_guard lock(file->mu);
      entered_before = file->entered;
    }
    InvalidateInodeBounded(file->inode, file);
    std::lock_guard lock(file->mu);
    if (file->users == 0 && file->entered == entered_before) break;
  }
  BeginTransition(*file, false, [&] { progress(file->data->DirtyBytes()); });
  bool still_open = false;
  {
    std::lock_guard lock(file->mu);
    late = file->entered != entered_before;
    still_open = file->handles > 0;
  }
  {
    std::lock_guard lock(file->attach_mu);
    const HeldLease held = cache_->Lease(file->inode);
    // Created and not written yet: the chunk announced with it is given back as never begun.
    if (file->attached.kind == LeaseKind::kNone && held.kind == LeaseKind::kWrite &&
        held.number <= item.number()) {
      const auto view = cache_->Peek(file->inode);
      file->data->AttachWrite(Epoch(held.number), view ? view->attr.size : 0,
                              cache_->Layout(file->inode, held.number));
      file->attached = held;
    }
    const bool covered = file->attached.kind != LeaseKind::kNone && file->attached.number <= item.number();
    if (covered && file->attached.kind == LeaseKind::kWrite) {
      PendingCommit commit;
      // Nobody can read any more what was not flushed yet. What was is sealed all the same: that is cheaper
      // than a recovery.
      if (item.deleting() && !still_open && file->data->DirtyBytes() > 0) file->data->Discard();
      auto sealed = file->data->FlushAndSeal(progress);
      if (sealed.ok()) {
        commit = *std::move(sealed);
      } else {
        // Given back all the same; the master recovers the chunks that stay unsealed, and handles hear of
        // what is lost.
        CAIRN_LOG(Warning, "inode {}: giving back a lease with unresolved writes: {}", ToString(file->inode),
                  sealed.status().ToString());
        commit = file->data->TakeCommit();
        keep_read = false;  // what is read after the recovery may be something else
      }
      CompleteCommit(*file, &commit);
      {
        std::lock_guard lock2(file->mu);
        file->written = false;
        if (std::exchange(file->taken_by_read, false)) file->reads_before_writes = false;
      }
      proto::InodeCommit* out = answer->mutable_commit();
      out->set_inode(item.inode());
      out->set_lease(file->attached.number);
      FillCommit(commit, out);
      out->set_keep(keep_read ? proto::LEASE_READ : proto::LEASE_NONE);
      out->set_still_open(still_open);
      cache_->SetWritten(file->inode, file->data->Size(), commit.mtime, AllocatedChange(commit));
    }
    if (covered) {
      file->data->Detach();
      file->attached = {};
    }
  }
  answer->set_still_open(still_open);
  if (still_open && !keep_read) {
    std::lock_guard lock(file->mu);
    file->held_at_master = true;
    file->orphan |= item.deleting();
  }
  if (keep_read) {
    cache_->Lower(file->inode, item.number());
  } else {
    (void)DropLease(file->inode, item.number());  // a file exposes no names
  }
  EndTransition(*file);
  const bool failed_to_keep = item.keep() == proto::LEASE_READ;
  // Operations that entered after the pages were dropped may have brought some back.
  if ((late || failed_to_keep) && !keep_read) InvalidateInodeBounded(file->inode, file);
}

void ClientImpl::InvalidateInodeBounded(InodeId inode, const FilePtr& file) {
  if (listener_ == nullptr) return;
  auto work = std::make_shared<Invalidation>();
  invalidators_->Run([this, inode, work] {
    listener_->InvalidateInode(inode, true);
    work->Finish();
  });
  const auto give_up = steady_clock::now() + kPagesWait;
  while (!work->WaitFor(kPagesWaitContended)) {
    if (steady_clock::now() >= give_up) {
      CAIRN_LOG(Warning, "the kernel has not dropped the pages of inode {} yet", ToString(inode));
      return;
    }
    if (!file) continue;
    // A write of this mount may hold the very page, and wait for the lease that this recall is to give away.
    std::lock_guard lock(file->mu);
    if (file->acquiring > 0) return;
  }
}

void ClientImpl::InvalidateExposure(const Exposure& exposure) {
  if (listener_ == nullptr || exposure.names_until_ns == 0) return;
  auto work = std::make_shared<Invalidation>();
  invalidators_->Run([this, exposure, work] {
    listener_->InvalidateNames(exposure.inode);
    work->Finish();
  });
  // At the latest when the names are invalid by themselves.
  const auto give_up = steady_clock::now() + std::chrono::nanoseconds(kNameExposureNanos);
  while (!work->WaitFor(kPagesWaitContended)) {
    if (clock_->NowNanos() >= exposure.names_until_ns || steady_clock::now() >= give_up) return;
  }
}

void ClientImpl::DropLost(std::vector<Exposure> exposures) {
  std::vector<FilePtr> files;
  {
    std::lock_guard lock(files_mu_);
    for (const auto& [inode, file] : files_) files.push_back(file);
  }
  for (const FilePtr& file : files) {
    BeginTransition(*file, false, [] {});
    {
      std::lock_guard lock(file->attach_mu);
      // Whatever was attached under a lease that is gone; one granted since then has another tenure.
      if (file->attached.kind != LeaseKind::kNone &&
          cache_->Lease(file->inode).tenure != file->attached.tenure) {
        file->data->Detach();
        file->attached = {};
        LoseTimes(*file);
      }
    }
    EndTransition(*file);
    DropIfUnused(file);
  }
  for (const Exposure& exposure : exposures) {
    InvalidateExposure(exposure);
    InvalidateInodeBounded(exposure.inode, nullptr);
  }
}

void ClientImpl::OnResumed(const proto::HelloReply& reply, bool restarted, bool lost_tail) {
  locks_->OnResumed(reply);
  if (!restarted && reply.rejected_claims_size() == 0) return;
  const std::unordered_set<uint64_t> rejected(reply.rejected_claims().begin(), reply.rejected_claims().end());
  // A master that forgot answered mutations may contradict anything cached; what is being written is told to
  // it again.
  const auto keep = lost_tail ? LeaseCache::Keep::kClaimedWrite : LeaseCache::Keep::kClaimed;
  auto dropped = cache_->DropExcept(keep, rejected);
  if (dropped.empty()) return;
  CAIRN_LOG(Info, "the master has restarted: {} leases were not kept", dropped.size());
  workers_->Run([this, dropped = std::move(dropped)] { DropLost(dropped); });
}

void ClientImpl::OnSessionLost() {
  locks_->OnSessionLost();
  auto dropped = cache_->DropExcept(LeaseCache::Keep::kNothing, {});
  CAIRN_LOG(Warning,
            "the session was lost, and {} leases with it; writes that no chunkserver confirmed are lost",
            dropped.size());
  workers_->Run([this, dropped = std::move(dropped)] { DropLost(dropped); });
}

void ClientImpl::Evict() {
  while (cache_->OverBound() && !stopping_) {
    std::unordered_set<InodeId> in_use;
    {
      std::lock_guard lock(files_mu_);
      for (const auto& [inode, file] : files_) in_use.insert(inode);
    }
    const auto cold = cache_->Coldest(kEvictBatch, [&](InodeId inode) { return in_use.contains(inode); });
    if (cold.empty()) break;  // everything is in use
    std::vector<Exposure> exposures;
    proto::Request request;
    for (const auto& [inode, number] : cold) {
      cache_->MarkRecalled(inode, number);
      exposures.push_back(DropLease(inode, number));
    }
    for (const Exposure& exposure : exposures) {
      InvalidateExposure(exposure);
      InvalidateInodeBounded(exposure.inode, nullptr);
    }
    for (const auto& [inode, number] : cold) {
      proto::ReleaseItem* item = request.mutable_release()->add_items();
      item->set_inode(inode.value());
      item->set_number(number);
      if (const FilePtr file = FindFile(inode)) {  // opened in the meantime
        std::lock_guard lock(file->mu);
        item->set_still_open(file->handles > 0);
        file->held_at_master |= file->handles > 0;
      }
    }
    const Status status = CallSystem(std::move(request)).status();
    if (!status.ok()) CAIRN_LOG(Debug, "releasing leases: {}", status.ToString());
  }
  evicting_ = false;
}

}  // namespace cairn::client
