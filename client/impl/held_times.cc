// Times that the holder of a file's write lease sets alone: they travel with the next commit (or with the answer to a recall), so
// that what tar, cp -p and rsync set on each file that they made costs no round trip.
//
//   utimes -> OpenFile::times, and at once the cache, so that every stat here shows them
//   -> the next commit (write-back, fsync, the end of the lease); whoever else asks for the inode recalls the lease first
//
// Modes and owners are not held back: a program that forbids something and is told that it is done must find it done, also when
// this client is gone a moment later. A chown to the owner that the file has already only moves the ctime, and is held.
#include <sys/stat.h>

#include <algorithm>
#include <utility>

#include "client/impl/client_impl.h"
#include "common/log.h"

namespace cairn::client {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

bool ClientImpl::DecidesAlone(const NodeView& view, const Caller& caller, const SetAttributes& change) const {
  const Attributes& attr = view.attr;
  if (view.lease.kind != LeaseKind::kWrite || change.size || change.kill_priv) return false;
  // As the master: the owner or root, who may be somebody else there.
  if (caller.uid == 0 ? session_->squash_root() : caller.uid != attr.uid) return false;
  // The master takes the set-group-id bit away from who is not in the group.
  if (change.mode && (*change.mode != attr.mode || (attr.mode & S_ISGID) != 0)) return false;
  if (!change.uid && !change.gid) return true;
  // Also a chown that changes no owner takes the set-id bits and the capabilities away.
  const bool same = change.uid.value_or(attr.uid) == attr.uid && change.gid.value_or(attr.gid) == attr.gid;
  return same && (attr.mode & (S_ISUID | S_ISGID)) == 0 && !view.has_xattrs;
}

Result<std::optional<Entry>> ClientImpl::SetHeldTimes(const Caller& caller, const FilePtr& file,
                                                      const SetAttributes& change) {
  // Inside the gate no lease ends, and with the order no commit is on its way.
  CAIRN_ASSIGN_OR_RETURN(const FileUse use,
                         EnterIfWriting(file, steady_clock::now() + milliseconds(options_.request_timeout_ms)));
  if (!use || !session_->LeasesValid()) return std::optional<Entry>();
  std::lock_guard order(file->order_mu);
  const auto view = cache_->Find(file->inode);
  if (!view || !DecidesAlone(*view, caller, change)) return std::optional<Entry>();
  const TimeSpec now = Now();
  // It moves also when this clock is behind that of whoever changed the file before.
  TimeSpec later = view->attr.ctime;
  if (++later.nanos == 1'000'000'000) later = {later.seconds + 1, 0};
  HeldTimes times{.ctime = std::max(now, later)};
  times.atime = change.atime_now ? now : change.atime;
  times.mtime = change.mtime_now ? now : change.mtime;
  const TimeSpec buffered = file->data->Mtime();
  {
    std::lock_guard lock(file->mu);
    // Writes before this must not move the time again when they are committed.
    if (times.mtime && buffered != TimeSpec{}) file->ignored_mtime = buffered;
    if (!file->times) file->times.emplace();
    file->times->Merge(times);
  }
  cache_->SetHeld(file->inode, times);
  MarkWritten(file, /*unsynced=*/false);
  // The session may have been lost in between; the master then decides anew.
  const Entry entry = EntryOf(file->inode, nullptr);
  return entry.attr.inode == file->inode ? std::optional(entry) : std::nullopt;
}

Status ClientImpl::TellTimes(const FilePtr& file) {
  {
    std::lock_guard lock(file->mu);
    if (!file->times) return Status::Ok();
  }
  CAIRN_ASSIGN_OR_RETURN(const FileUse use,
                         EnterIfWriting(file, steady_clock::now() + milliseconds(options_.request_timeout_ms)));
  if (!use) return Status::Ok();  // they went with the lease
  std::lock_guard order(file->order_mu);
  std::vector<CommitItem> items(1);
  CommitItem& item = items.front();
  item.file = file;
  {
    std::lock_guard lock(file->attach_mu);
    item.lease = file->attached.number;
  }
  TakeCommit(*file, &item.commit);
  if (item.commit.empty()) return Status::Ok();
  SendCommits(items);
  if (IsOver(item.result)) return Status::Ok();  // they went with the lease
  if (!item.result.ok()) {
    RestoreCommit(*file, std::move(item.commit));
    MarkWritten(file);
  }
  return item.result;
}

void ClientImpl::CompleteCommit(OpenFile& file, PendingCommit* commit) {
  const auto view = cache_->Peek(file.inode);
  std::lock_guard lock(file.mu);
  if (commit->mtime && file.ignored_mtime == commit->mtime) commit->mtime.reset();
  commit->times = std::exchange(file.times, std::nullopt);
  // Read since: the master may have been told of that already.
  if (commit->times && commit->times->atime && view) commit->times->atime = std::max(*commit->times->atime, view->attr.atime);
}

void ClientImpl::RestoreCommit(OpenFile& file, PendingCommit commit) {
  if (commit.times) {
    HeldTimes times = *commit.times;
    std::lock_guard lock(file.mu);
    if (file.times) times.Merge(*file.times);  // set since
    file.times = times;
  }
  file.data->RestoreCommit(std::move(commit));
}

void ClientImpl::DropTimes(OpenFile& file) {
  std::lock_guard lock(file.mu);
  file.times.reset();
}

void ClientImpl::LoseTimes(OpenFile& file) {
  std::lock_guard lock(file.mu);
  if (!std::exchange(file.times, std::nullopt)) return;
  CAIRN_LOG(Warning, "inode {}: times that were set a moment ago are lost with its lease", ToString(file.inode));
}

}  // namespace cairn::client
