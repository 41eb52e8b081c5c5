#include "fuse/error_log.h"

#include "common/log.h"

namespace cairn::fuse {

bool ErrorLog::IsOrdinary(StatusCode code) {
  // File-system outcomes end below kIoError; the rest is something that should not happen.
  return static_cast<uint16_t>(code) < static_cast<uint16_t>(StatusCode::kIoError) ||
         code == StatusCode::kCancelled;
}

void ErrorLog::Report(const char* operation, InodeId inode, const Status& status) {
  std::string message = std::string(operation) + ": " + status.ToString();
  uint64_t repeats = 0;
  {
    const std::lock_guard lock(mu_);
    const int64_t now = clock_->NowNanos();
    if (const auto it = by_inode_.find(inode); it != by_inode_.end()) {
      Record& record = *it->second;
      if (record.message == message && now - record.logged_ns < kRepeatNanos) {
        ++record.repeats;
        return;
      }
      repeats = record.message == message ? record.repeats : 0;
      records_.erase(it->second);
      by_inode_.erase(it);
    }
    if (records_.size() >= kMaxRecords) {
      by_inode_.erase(records_.back().inode);
      records_.pop_back();
    }
    records_.push_front({.inode = inode, .message = message, .logged_ns = now});
    by_inode_[inode] = records_.begin();
  }
  if (repeats > 0) {
    CAIRN_LOG(Error, "inode {}: {} ({} times more)", ToString(inode), message, repeats);
  } else {
    CAIRN_LOG(Error, "inode {}: {}", ToString(inode), message);
  }
}

void ErrorLog::Clear(InodeId inode) {
  const std::lock_guard lock(mu_);
  const auto it = by_inode_.find(inode);
  if (it == by_inode_.end()) return;
  records_.erase(it->second);
  by_inode_.erase(it);
}

std::optional<std::string> ErrorLog::LastError(InodeId inode) const {
  const std::lock_guard lock(mu_);
  const auto it = by_inode_.find(inode);
  if (it == by_inode_.end()) return std::nullopt;
  return it->second->message;
}

}  // namespace cairn::fuse
