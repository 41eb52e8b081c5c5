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

// Is there nothing left that the commit could be applied to?
bool IsOver(const Status& status) {
  return status.code() == StatusCode::kLeaseLost || status.code() == StatusCode::kStaleHandle ||
         status.code() == StatusCode::kNotFound || status.code() == StatusCode::kCancelled;
}

}  // namespace

void ClientImpl::TakeCommit(OpenFile& file, PendingCommit* commit) {
  {
    std::lock_guard lock(file.mu);
    file.written = false;  // before it is taken: a write after this is committed by the next round
  }
  *commit = file.data->TakeCommit();
  std::lock_guard lock(file.mu);
  if (commit->mtime && file.ignored_mtime == commit->mtime) commit->mtime.reset();
}

void ClientImpl::SendCommits(std::vector<CommitItem>& items) {
  proto::Request request;
  proto::WriteBackOp* op = request.mutable_write_back();
  for (CommitItem& item : items) {
    proto::InodeCommit* commit = op->add_commits();
    commit->set_inode(item.file->inode.value());
    commit->set_lease(item.lease);
    FillCommit(item.commit, commit);
    commit->set_keep(item.keep == LeaseKind::kWrite  ? proto::LEASE_WRITE
                     : item.keep == LeaseKind::kRead ? proto::LEASE_READ
                                                     : proto::LEASE_NONE);
    commit->set_still_open(item.still_open);
    cache_->SetWritten(item.file->inode, item.file->data->Size(), item.commit.mtime);
  }
  request.mutable_credentials()->set_groups_known(true);
  auto reply = session_->Call(std::move(request), {.timeout_ms = kCommitTimeoutMs, .raw = true});
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
}

Status ClientImpl::CommitFile(const FilePtr& file) {
  const Deadline deadline = steady_clock::now() + milliseconds(options_.request_timeout_ms);
  CAIRN_ASSIGN_OR_RETURN(const FileUse use, EnterIfWriting(file, deadline));
  if (!use) return Status::Ok();  // the commit went with the lease
  std::lock_guard order(file->order_mu);
  std::vector<CommitItem> items(1);
  items[0].file = file;
  {
    std::lock_guard lock(file->attach_mu);
    items[0].lease = file->attached.number;
  }
  TakeCommit(*file, &items[0].commit);
  if (items[0].commit.empty()) return Status::Ok();
  PendingCommit copy = items[0].commit;
  SendCommits(items);
  if (!items[0].result.ok()) {
    file->data->RestoreCommit(std::move(copy));
    MarkWritten(file);
  }
  return items[0].result;
}

void ClientImpl::WriteBackMain() {
  std::unique_lock lock(write_back_mu_);
  while (!write_back_stop_) {
    write_back_wake_.wait_for(lock, milliseconds(write_back_ms_),
                              [&] { return write_back_stop_ || fresh_written_ >= write_back_files_; });
    if (write_back_stop_) break;
    fresh_written_ = 0;
    lock.unlock();
    WriteBackRound(false);
    CloseHolds();
    lock.lock();
  }
}

void ClientImpl::WriteBackRound(bool everything) {
  static_assert(kOpenFileRounds > 0);
  std::vector<FilePtr> files;
  {
    std::lock_guard lock(write_back_mu_);
    files.reserve(written_.size());
    for (const auto& [inode, file] : written_) files.push_back(file);
  }
  const bool open_too = everything || ++write_back_rounds_ % kOpenFileRounds == 0;
  const int64_t now = clock_->NowNanos();
  std::vector<FilePtr> idle;
  std::vector<FilePtr> due;
  for (const FilePtr& file : files) {
    std::lock_guard lock(file->mu);
    if (file->handles == 0 && now - file->idle_since_ns >= idle_lease_ms_ * kNanosPerMilli) {
      idle.push_back(file);
    } else if (file->written && (file->handles == 0 || open_too)) {
      due.push_back(file);
    }
  }
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
      item.file->data->RestoreCommit(std::move(item.commit));
      MarkWritten(item.file);
    }
  }
  if (!everything) LowerIdle(std::move(idle), LeaseKind::kRead);
}

void ClientImpl::LowerIdle(std::vector<FilePtr> files, LeaseKind keep) {
  for (size_t at = 0; at < files.size(); at += write_back_files_) {
    std::vector<CommitItem> items;
    for (size_t i = at; i < std::min(files.size(), at + write_back_files_); ++i) {
      const FilePtr& file = files[i];
      if (!BeginTransition(*file, true, [] {})) continue;
      CommitItem item{.file = file, .keep = keep};
      {
        std::lock_guard lock(file->mu);
        item.still_open = file->handles > 0;
        if (item.still_open && keep != LeaseKind::kNone) {  // opened again just now
          file->transition = false;
          file->changed.notify_all();
          continue;
        }
      }
      // Created but never written files were never attached.
      HeldLease held = cache_->Lease(file->inode);
      {
        std::lock_guard lock(file->attach_mu);
        if (held.kind == LeaseKind::kWrite && file->attached.kind == LeaseKind::kNone) {
          file->data->AttachWrite(Epoch(held.number), 0, cache_->Layout(file->inode, held.number));
          file->attached = held;
        }
        held = file->attached;
      }
      item.lease = held.number;
      if (held.kind == LeaseKind::kWrite) {
        auto commit = file->data->FlushAndSeal([](uint64_t) {});
        if (commit.ok()) {
          item.commit = *std::move(commit);
        } else {
          // Replicas may be sealed already, so nothing more can be written under this lease: it is given back
          // with what could be sealed, and the master brings the rest to an end when enough members are
          // there.
          CAIRN_LOG(Warning, "inode {}: giving back a lease with unresolved writes: {}",
                    ToString(file->inode), commit.status().ToString());
          item.commit = file->data->TakeCommit();
          item.keep = LeaseKind::kNone;
        }
        std::lock_guard lock(file->mu);
        file->written = false;
        if (item.commit.mtime && file->ignored_mtime == item.commit.mtime) item.commit.mtime.reset();
        items.push_back(std::move(item));
        continue;
      } else {
        std::lock_guard lock(write_back_mu_);
        written_.erase(file->inode);
      }
      EndTransition(*file);
      DropIfUnused(file);
    }
    if (items.empty()) continue;
    SendCommits(items);
    for (CommitItem& item : items) {
      const FilePtr& file = item.file;
      if (item.result.ok() || !WorthAnotherTry(item.result)) {
        std::lock_guard lock(file->attach_mu);
        file->data->Detach();
        file->attached = {};
        if (item.result.ok() && item.keep == LeaseKind::kRead) {
          cache_->Lower(file->inode, item.lease);
        } else {
          cache_->Remove(file->inode, item.lease);
        }
      } else {
        file->data->RestoreCommit(std::move(item.commit));
        std::lock_guard lock(file->mu);
        file->written = true;
        file->idle_since_ns = clock_->NowNanos();
      }
      const bool done = item.result.ok() || !WorthAnotherTry(item.result);
      EndTransition(*file);
      if (!done) continue;
      {
        std::lock_guard lock(write_back_mu_);
        std::lock_guard file_lock(file->mu);
        if (!file->written) written_.erase(file->inode);
      }
      DropIfUnused(file);
    }
  }
}

void ClientImpl::SealAll() {
  std::vector<FilePtr> files;
  {
    std::lock_guard lock(write_back_mu_);
    for (const auto& [inode, file] : written_) files.push_back(file);
  }
  LowerIdle(std::move(files), LeaseKind::kNone);
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
