#include "common/status.h"

#include <cerrno>
#include <cstring>

namespace cairn {
namespace {

struct CodeRow {
  StatusCode code;
  std::string_view name;
  int error_number;
};

constexpr CodeRow kCodes[] = {
    {StatusCode::kOk, "ok", 0},
    {StatusCode::kNotFound, "not_found", ENOENT},
    {StatusCode::kAlreadyExists, "already_exists", EEXIST},
    {StatusCode::kNotDirectory, "not_directory", ENOTDIR},
    {StatusCode::kIsDirectory, "is_directory", EISDIR},
    {StatusCode::kNotEmpty, "not_empty", ENOTEMPTY},
    {StatusCode::kAccessDenied, "access_denied", EACCES},
    {StatusCode::kNotPermitted, "not_permitted", EPERM},
    {StatusCode::kInvalidArgument, "invalid_argument", EINVAL},
    {StatusCode::kNameTooLong, "name_too_long", ENAMETOOLONG},
    {StatusCode::kFileTooLarge, "file_too_large", EFBIG},
    {StatusCode::kNoSpace, "no_space", ENOSPC},
    {StatusCode::kQuotaExceeded, "quota_exceeded", EDQUOT},
    {StatusCode::kTooManyLinks, "too_many_links", EMLINK},
    {StatusCode::kCrossDevice, "cross_device", EXDEV},
    {StatusCode::kLoop, "loop", ELOOP},
    {StatusCode::kNoAttribute, "no_attribute", ENODATA},
    {StatusCode::kBufferTooSmall, "buffer_too_small", ERANGE},
    {StatusCode::kArgumentTooBig, "argument_too_big", E2BIG},
    {StatusCode::kNotSupported, "not_supported", EOPNOTSUPP},
    {StatusCode::kReadOnly, "read_only", EROFS},
    {StatusCode::kBusy, "busy", EBUSY},
    {StatusCode::kInterrupted, "interrupted", EINTR},
    {StatusCode::kBadHandle, "bad_handle", EBADF},
    {StatusCode::kStaleHandle, "stale_handle", ESTALE},
    {StatusCode::kWouldBlock, "would_block", EAGAIN},
    {StatusCode::kDeadlock, "deadlock", EDEADLK},
    {StatusCode::kOverflow, "overflow", EOVERFLOW},
    {StatusCode::kNeedGroups, "need_groups", EACCES},
    {StatusCode::kNoLocks, "no_locks", ENOLCK},
    {StatusCode::kIoError, "io_error", EIO},
    {StatusCode::kCorrupt, "corrupt", EIO},
    {StatusCode::kUnavailable, "unavailable", EIO},
    {StatusCode::kTimeout, "timeout", EIO},
    {StatusCode::kNoQuorum, "no_quorum", EIO},
    {StatusCode::kStaleReplica, "stale_replica", EIO},
    {StatusCode::kFenced, "fenced", EIO},
    {StatusCode::kSequenceGap, "sequence_gap", EIO},
    {StatusCode::kUnknownChunk, "unknown_chunk", EIO},
    {StatusCode::kDeleted, "deleted", EIO},
    {StatusCode::kLeaseLost, "lease_lost", EIO},
    {StatusCode::kSessionUnknown, "session_unknown", EIO},
    {StatusCode::kMayHaveCommitted, "may_have_committed", EIO},
    {StatusCode::kWrongCluster, "wrong_cluster", EIO},
    {StatusCode::kVersionMismatch, "version_mismatch", EPROTO},
    {StatusCode::kMalformed, "malformed", EBADMSG},
    {StatusCode::kResourceExhausted, "resource_exhausted", EAGAIN},
    {StatusCode::kCancelled, "cancelled", ECANCELED},
    {StatusCode::kDamaged, "damaged", EIO},
    {StatusCode::kFailedPrecondition, "failed_precondition", EINVAL},
};

const CodeRow* FindRow(uint32_t value) {
  for (const CodeRow& row : kCodes) {
    if (static_cast<uint32_t>(row.code) == value) return &row;
  }
  return nullptr;
}

}  // namespace

std::string_view StatusCodeName(StatusCode code) {
  const CodeRow* row = FindRow(static_cast<uint32_t>(code));
  return row != nullptr ? row->name : "unknown";
}

int StatusCodeToErrno(StatusCode code) {
  const CodeRow* row = FindRow(static_cast<uint32_t>(code));
  return row != nullptr ? row->error_number : EIO;
}

bool IsKnownStatusCode(uint32_t value) { return FindRow(value) != nullptr; }

std::string Status::ToString() const {
  if (ok()) return "ok";
  std::string text(StatusCodeName(code_));
  if (!message_.empty()) text.append(": ").append(message_);
  return text;
}

Status Status::WithContext(std::string_view context) const {
  if (ok()) return *this;
  return {code_, std::string(context) + ": " + message_};
}

Status ErrnoStatus(int error, std::string_view what) {
  StatusCode code = StatusCode::kIoError;
  switch (error) {
    case ENOSPC:
    case EDQUOT:
      code = StatusCode::kNoSpace;
      break;
    case ENOENT:
      code = StatusCode::kNotFound;
      break;
    case EACCES:
      code = StatusCode::kAccessDenied;
      break;
    case EPERM:
      code = StatusCode::kNotPermitted;
      break;
    case EEXIST:
      code = StatusCode::kAlreadyExists;
      break;
    default:
      break;
  }
  return {code, std::string(what) + ": " + std::strerror(error)};
}

}  // namespace cairn
