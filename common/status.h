// Status and Result<T>: how every fallible function of Cairn answers.
//
// A code exists only where some caller acts differently on it. File-system codes map one to one to an errno
// at the FUSE and CLI edge (StatusCodeToErrno, the only such table); the others steer retries and recovery
// inside the system. The message is for a person: what failed, with the numbers, and what to do next.
//
// Thread-safety: values; use as any value type.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "common/check.h"

namespace cairn {

// Travels on the wire and in the session result table: do not change the values.
enum class StatusCode : uint16_t {
  kOk = 0,
  // File-system outcomes.
  kNotFound = 1,         // ENOENT
  kAlreadyExists = 2,    // EEXIST
  kNotDirectory = 3,     // ENOTDIR
  kIsDirectory = 4,      // EISDIR
  kNotEmpty = 5,         // ENOTEMPTY
  kAccessDenied = 6,     // EACCES
  kNotPermitted = 7,     // EPERM
  kInvalidArgument = 8,  // EINVAL
  kNameTooLong = 9,      // ENAMETOOLONG
  kFileTooLarge = 10,    // EFBIG
  kNoSpace = 11,         // ENOSPC
  kQuotaExceeded = 12,   // EDQUOT
  kTooManyLinks = 13,    // EMLINK
  kCrossDevice = 14,     // EXDEV
  kLoop = 15,            // ELOOP
  kNoAttribute = 16,     // ENODATA
  kBufferTooSmall = 17,  // ERANGE
  kArgumentTooBig = 18,  // E2BIG
  kNotSupported = 19,    // EOPNOTSUPP
  kReadOnly = 20,        // EROFS
  kBusy = 21,            // EBUSY
  kInterrupted = 22,     // EINTR
  kBadHandle = 23,       // EBADF
  kStaleHandle = 24,     // ESTALE: the inode is gone
  kWouldBlock = 25,      // EAGAIN
  kDeadlock = 26,        // EDEADLK
  kOverflow = 27,        // EOVERFLOW
  kNeedGroups =
      28,  // master: the decision depends on supplementary groups; ask again with them (never reaches users)
  kNoLocks = 30,  // ENOLCK: the bound on locks of one session
  // System outcomes.
  kIoError = 40,  // EIO: a disk or an internal failure; the message says which
  kCorrupt = 41,  // EIO: a checksum did not match
  kUnavailable =
      42,  // EIO when it reaches a user: the peer cannot be reached or is starting; retry elsewhere or later
  kTimeout = 43,   // EIO when it reaches a user: no answer in time; the outcome is unknown
  kNoQuorum = 44,  // EIO: fewer confirmations than the policy requires; the message names who did not confirm
  kStaleReplica = 45,        // the replica does not carry the stamp that was asked for
  kFenced = 46,              // the epoch is below the replica's promise: the caller's lease is over
  kSequenceGap = 47,         // the mutation is not the replica's next one
  kUnknownChunk = 48,        // no such chunk here
  kDeleted = 49,             // a tombstone is recorded here
  kLeaseLost = 50,           // the session or the lease ended; reopen
  kSessionUnknown = 51,      // the master does not know this session: start a new one
  kMayHaveCommitted = 52,    // the outcome of a mutation is unknown and cannot be asked for any more
  kWrongCluster = 53,        // cluster id, server id or disk id do not match
  kVersionMismatch = 54,     // wire or format version not supported
  kMalformed = 55,           // a message or record could not be decoded
  kResourceExhausted = 56,   // a bound was reached (queue, connections, memory): slow down and retry
  kCancelled = 57,           // shut down or withdrawn by the caller
  kDamaged = 58,             // EIO: the chunk waits for members that hold its data; see `cairn chunk explain`
  kFailedPrecondition = 59,  // the request does not fit the present state; the message says why
};

// Stable lower-case name of a code, for example "no_quorum".
std::string_view StatusCodeName(StatusCode code);
// The errno that applications see for a code. kOk gives 0.
int StatusCodeToErrno(StatusCode code);
// Whether a number received from a peer is one of the codes above.
bool IsKnownStatusCode(uint32_t value);

class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(StatusCode code, std::string message) : code_(code), message_(std::move(message)) {}
  static Status Ok() { return {}; }

  bool ok() const { return code_ == StatusCode::kOk; }
  StatusCode code() const { return code_; }
  const std::string& message() const { return message_; }
  // "no_quorum: write refused: ..." or "ok".
  std::string ToString() const;
  // The same status with `context + ": "` before its message.
  Status WithContext(std::string_view context) const;

 private:
  StatusCode code_ = StatusCode::kOk;
  std::string message_;
};

// A Status from errno: "open /data/x: No space left on device"; ENOSPC, ENOENT, EACCES, EEXIST, EPERM keep
// their code, everything else becomes kIoError.
Status ErrnoStatus(int error, std::string_view what);

template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::move(value)) {}        // NOLINT(google-explicit-constructor)
  Result(Status status) : state_(std::move(status)) {  // NOLINT(google-explicit-constructor)
    CAIRN_CHECK(!std::get<Status>(state_).ok(), "a Result made from a Status needs an error");
  }

  bool ok() const { return std::holds_alternative<T>(state_); }
  Status status() const { return ok() ? Status::Ok() : std::get<Status>(state_); }
  StatusCode code() const { return ok() ? StatusCode::kOk : std::get<Status>(state_).code(); }

  T& value() & {
    CAIRN_CHECK(ok(), status().ToString());
    return std::get<T>(state_);
  }
  const T& value() const& {
    CAIRN_CHECK(ok(), status().ToString());
    return std::get<T>(state_);
  }
  T&& value() && {
    CAIRN_CHECK(ok(), status().ToString());
    return std::get<T>(std::move(state_));
  }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

 private:
  std::variant<T, Status> state_;
};

}  // namespace cairn

#define CAIRN_CONCAT_INNER(a, b) a##b
#define CAIRN_CONCAT(a, b) CAIRN_CONCAT_INNER(a, b)
// Returns the error of a Status expression to the caller.
#define CAIRN_RETURN_IF_ERROR(expression)        \
  do {                                           \
    ::cairn::Status cairn_status = (expression); \
    if (!cairn_status.ok()) [[unlikely]]         \
      return cairn_status;                       \
  } while (false)
// CAIRN_ASSIGN_OR_RETURN(auto x, F()): assigns the value of a Result or returns its error.
#define CAIRN_ASSIGN_OR_RETURN(target, expression) \
  CAIRN_ASSIGN_OR_RETURN_IMPL(CAIRN_CONCAT(cairn_result_, __LINE__), target, expression)
#define CAIRN_ASSIGN_OR_RETURN_IMPL(result, target, expression) \
  auto result = (expression);                                   \
  if (!result.ok()) [[unlikely]]                                \
    return result.status();                                     \
  target = std::move(result).value()
