// What the master has to be told about written files, gathered over many of them: sizes, times and seals; and
// the end of write leases that nobody uses any more.
#include <algorithm>
#include <utility>

#include "client/impl/client_impl.h"
#include "common/log.h"

namespace cairn::client {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr int kOpenFileRounds = 10;  // files that stay open are committed every so many rounds
constexpr int64_t kCommitTimeoutMs = 10'000;
constexpr size_t kSealThreads = 8;
constexpr int64_t kSealAnswersMs = 50;

// Was the request not carried out for a reason that passes?
bool WorthAnotherTry(const Status& status) {
  switch (status.code()) {
    case StatusCode::kUnavailable:
    case StatusCode::kTimeout:
    case StatusCode::kResourceExhausted:
    case StatusCode::kInterrupted:
      return true;
    default:
      return false;
  }
}

// Calls work(0) .. work(count - 1) from this thread and some of the scheduler's, and waits for all of them.
// Never waits for a thread that is not there: this one does what nobody else has begun.
void InParallel(Scheduler& scheduler, size_t count, const std::function<void(size_t)>& work) {
  struct Shared {
    std::atomic<size_t> next{0};
    std::mutex mu;
    std::condition_variable changed;
    size_t done = 0;  // guarded by mu
  };
  auto shared = std::make_shared<Shared>();
  const auto run = [shared, count](const std::function<void(size_t)>* each) {
    for (size_t i = shared->next++; i < count; i = shared->next++) {
      (*each)(i);
      std::lock_guard lock(shared->mu);
      ++shared->done;
      shared->changed.notify_all();
    }
  };
  const auto* each =
      &work;  // a helper touches it only after it got an index, and then this function has not returned
  for (size_t i = 1; i < std::min<size_t>(count, kSealThreads); ++i) {
    scheduler.Run([run, each] { run(each); });
  }
  run(each);
  std::unique_lock lock(shared->mu);
  shared->changed.wait(lock, [&] { return shared->done == count; });
}

}  // namespace

void ClientImpl::TakeCommit(OpenFile& file, PendingCommit* commit) {
  {
    std::lock_guard lock(file.mu);
    file.written = false;  // before it is taken: a write after this is committed by the next round
  }
  *commit = file.data->TakeCommit();
  CompleteCommit(file, commit);
}

proto::Request ClientImpl::CommitRequest(const std::vector<CommitItem>& items) {
  proto::Request request;
  proto::WriteBackOp* op = request.mutable_write_back();
  for (const CommitItem& item : items) {
    proto::InodeCommit* commit = op->add_commits();
    commit->set_inode(item.file->inode.value());
    commit->set_lease(item.lease);
    FillCommit(item.commit, commit);
    commit->set_keep(item.keep == LeaseKind::kWrite  ? proto::LEASE_WRITE
                     : item.keep == LeaseKind::kRead ? proto::LEASE_READ
                                                     : proto::LEASE_NONE);
    commit->set_still_open(item.still_open);
    cache_->SetWritten(item.file->inode, item.file->data->Size(), item.commit.mtime, AllocatedChange(item.commit));
  }
  request.mutable_credentials()->set_groups_known(true);
  return request;
}

void ClientImpl::SendCommits(std::vector<CommitItem>& items) {
  CommitAnswered(session_->Call(CommitRequest(items), {.timeout_ms = kCommitTimeoutMs, .raw = true}), items);
}

void ClientImpl::CommitAnswered(const Result<proto::Reply>& reply, std::vector<CommitItem>& items) {
  if (!reply.ok()) {
    for (CommitItem& item : items) item.result = reply.status();
    return;
  }
  const Status status = FromProto(reply->status());
  const auto& failures = reply->write_back().failures();
  if (!status.ok() && failures.empty()) {
    for (CommitItem& item : items) item.result = status;
    return;
  }
  for (const proto::CommitFailure& failure : failures) {
    for (CommitItem& item : items) {
      if (item.file->inode.value() == failure.inode()) item.result = FromProto(failure.status());
    }
  }
  for (const CommitItem& item : items) {
    if (item.commit.times && item.result.ok()) cache_->HeldTold(item.file->inode);
  }
}

void ClientImpl::WriteBackMain(int64_t started_ns) {
  const InterruptScope scope([this] { return GaveUp(); });
  int64_t access_times_due_ns = started_ns + options_.access_times_ms * kNanosPerMilli;
  std::unique_lock lock(write_back_mu_);
  while (!write_back_stop_) {
    // Answers to seals come within milliseconds; then the leases can go.
    const int64_t wait_ms = seals_under_way_ ? std::min(write_back_ms_, kSealAnswersMs) : write_back_ms_;
    write_back_wake_.wait_for(lock, milliseconds(wait_ms), [&] { return write_back_stop_; });
    if (write_back_stop_) break;
    lock.unlock();
    WriteBackRound(false);
    CloseHolds();
    locks_->Expire();
    if (clock_->NowNanos() >= access_times_due_ns) {
      access_times_due_ns = clock_->NowNanos() + options_.access_times_ms * kNanosPerMilli;
      PostAccessTimes();
    }
    lock.lock();
  }
}

void ClientImpl::WriteBackRound(bool everything) {
  std::vector<FilePtr> files;
  {
    std::lock_guard lock(write_back_mu_);
    files.reserve(written_.size());
    for (const auto& [inode, file] : written_) files.push_back(file);
  }
  Due due_now;
  const auto find = [&] { due_now = FindDue(files, everything); };
  if (gather_seals_) {
    gather_seals_(find);
  } else {
    find();
  }
  seals_under_way_ = due_now.sealing;
  std::vector<FilePtr>& due = due_now.commit;
  struct Taken {
    FileUse use;
    std::unique_lock<std::mutex> order;
  };
  for (size_t at = 0; at < due.size(); at += write_back_files_) {
    std::vector<CommitItem> items;
    std::vector<Taken> taken;
    for (size_t i = at; i < std::min(due.size(), at + write_back_files_); ++i) {
      const FilePtr& file = due[i];
      // Never waits for a file here: one that is busy has its turn in the next round (or the recall commits
      // it).
      std::unique_lock<std::mutex> order(file->order_mu, std::try_to_lock);
      if (!order.owns_lock() && !everything) continue;
      if (!order.owns_lock()) order.lock();
      auto use = EnterIfWriting(file, steady_clock::now());
      if (!use.ok()) continue;
      CommitItem item{.file = file};
      {
        std::lock_guard lock(file->attach_mu);
        item.lease = file->attached.number;
      }
      if (!*use) {
        // Its lease is gone; unless it comes back there is nothing to say.
        std::lock_guard lock(file->mu);
        file->written = false;
        continue;
      }
      TakeCommit(*file, &item.commit);
      if (item.commit.empty()) continue;
      items.push_back(std::move(item));
      taken.push_back({*std::move(use), std::move(order)});
    }
    if (items.empty()) continue;
    SendCommits(items);
    for (CommitItem& item : items) {
      if (item.result.ok() || IsOver(item.result)) continue;
      RestoreCommit(*item.file, std::move(item.commit));
      MarkWritten(item.file);
    }
  }
  if (!everything) LowerIdle(std::move(due_now.lower), LeaseKind::kRead);
}

ClientImpl::Due ClientImpl::FindDue(const std::vector<FilePtr>& files, bool everything) {
  static_assert(kOpenFileRounds > 0);
  const bool open_too = everything || ++write_back_rounds_ % kOpenFileRounds == 0;
  const int64_t now = clock_->NowNanos();
  Due due;
  for (const FilePtr& file : files) {
    bool closed = false;
    bool written = false;
    {
      std::lock_guard lock(file->mu);
      closed = file->handles == 0;
      written = file->written;
      // Closed a moment ago: soon it is sealed and told to the master in one go.
      if (!everything && closed && now - file->idle_since_ns < idle_lease_ms_ * kNanosPerMilli) continue;
    }
    const FileData::IdleSeals seals = file->data->SealIdle(closed ? 0 : idle_chunk_ms_);
    if (closed && seals.closed && !everything) {
      due.lower.push_back(file);
      continue;
    }
    due.sealing |= closed;
    if (seals.to_tell || (written && (open_too || closed))) due.commit.push_back(file);
  }
  return due;
}

void ClientImpl::SealForCommit(CommitItem& item) {
  const FilePtr& file = item.file;
  auto commit = file->data->FlushAndSeal([](uint64_t) {});
  if (commit.ok()) {
    item.commit = *std::move(commit);
  } else {
    // Replicas may be sealed already, so nothing more can be written under this lease: it is given back with
    // what could be sealed, and the master brings the rest to an end when enough members are there.
    CAIRN_LOG(Warning, "inode {}: giving back a lease with unresolved writes: {}", ToString(file->inode),
              commit.status().ToString());
    item.commit = file->data->TakeCommit();
    item.keep = LeaseKind::kNone;
  }
  CompleteCommit(*file, &item.commit);
  std::lock_guard lock(file->mu);
  file->written = false;
}

bool ClientImpl::BeginLowering(const FilePtr& file, LeaseKind keep, CommitItem* item) {
  if (!BeginTransition(*file, true, [] {})) return false;
  item->file = file;
  item->keep = keep;
  {
    std::unique_lock lock(file->mu);
    item->still_open = file->handles > 0;
    if (item->still_open && keep != LeaseKind::kNone) {  // opened again just now
      lock.unlock();
      EndTransition(*file);
      return false;
    }
  }
  HeldLease held = cache_->Lease(file->inode);
  {
    std::lock_guard lock(file->attach_mu);
    if (held.kind == LeaseKind::kWrite && file->attached.kind == LeaseKind::kNone) {
      // Created and never written: the chunk announced with it is given back as never begun.
      const auto view = cache_->Peek(file->inode);
      file->data->AttachWrite(Epoch(held.number), view ? view->attr.size : 0,
                              cache_->Layout(file->inode, held.number));
      file->attached = held;
    }
    held = file->attached;
  }
  item->lease = held.number;
  if (held.kind == LeaseKind::kWrite) return true;
  {
    std::lock_guard lock(write_back_mu_);
    written_.erase(file->inode);
  }
  EndTransition(*file);
  DropIfUnused(file);
  return false;
}

void ClientImpl::LowerIdle(std::vector<FilePtr> files, LeaseKind keep) {
  for (size_t at = 0; at < files.size(); at += write_back_files_) {
    std::vector<CommitItem> items;
    for (size_t i = at; i < std::min(files.size(), at + write_back_files_); ++i) {
      CommitItem item;
      if (BeginLowering(files[i], keep, &item)) items.push_back(std::move(item));
    }
    if (items.empty()) continue;
    for (const CommitItem& item : items) {
      if (item.keep == LeaseKind::kNone) PostAccess(item.file->inode, cache_->TakeAccess(item.file->inode));
    }
    InParallel(*workers_, items.size(), [&](size_t i) {
      const InterruptScope scope([this] { return GaveUp(); });
      SealForCommit(items[i]);
    });
    SendCommits(items);
    bool unreachable = false;
    for (CommitItem& item : items) {
      const FilePtr& file = item.file;
      bool dropped = false;
      unreachable |= WorthAnotherTry(item.result);
      if (item.result.ok() || !WorthAnotherTry(item.result)) {
        std::lock_guard lock(file->attach_mu);
        file->data->Detach();
        file->attached = {};
        if (item.result.ok() && item.keep == LeaseKind::kRead) {
          cache_->Lower(file->inode, item.lease);
        } else {
          (void)DropLease(file->inode, item.lease);  // a file exposes no names
          dropped = true;
        }
      } else {
        RestoreCommit(*file, std::move(item.commit));
        std::lock_guard lock(file->mu);
        file->written = true;
        file->idle_since_ns = clock_->NowNanos();
      }
      const bool done = item.result.ok() || !WorthAnotherTry(item.result);
      // The kernel may hold pages of writes that were refused, and would show them under the next lease: before
      // anybody enters again, and once more for a reader that had one locked meanwhile.
      if (dropped && !stopping_) InvalidateInodeBounded(file->inode, file);
      EndTransition(*file);
      if (dropped && !stopping_) InvalidateInodeBounded(file->inode, file);
      if (!done) continue;
      {
        std::lock_guard lock(write_back_mu_);
        std::lock_guard file_lock(file->mu);
        if (!file->written) written_.erase(file->inode);
      }
      DropIfUnused(file);
    }
    // A client that ends does not wait once per batch for a master that is not there: it recovers what stays.
    if (unreachable && stopping_) return;
    NoteProgress();
  }
}

void ClientImpl::CloseHolds() {
  std::vector<InodeId> holds;
  {
    std::lock_guard lock(write_back_mu_);
    holds.swap(holds_to_close_);
  }
  if (holds.empty()) return;
  proto::Request request;
  for (const InodeId inode : holds) {
    if (const FilePtr file = FindFile(inode)) {
      std::lock_guard lock(file->mu);
      if (file->handles > 0) {  // open again: the hold serves that one
        file->held_at_master = true;
        continue;
      }
    }
    request.mutable_close_orphans()->add_inodes(inode.value());
  }
  if (request.close_orphans().inodes_size() == 0) return;
  const Status status = CallSystem(std::move(request)).status();
  if (status.ok() || !WorthAnotherTry(status)) return;
  std::lock_guard lock(write_back_mu_);
  holds_to_close_.insert(holds_to_close_.end(), holds.begin(), holds.end());
}

}  // namespace cairn::client
