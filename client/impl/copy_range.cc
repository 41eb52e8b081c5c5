// Copies from file to file: by the chunkservers as far as the source's bytes have an exact name (client/data/copy_part.h), otherwise
// through this client.
//
// The two files are never used at the same time. An operation inside one file's gate must not wait for the lease of another one: two
// mounts that copy in opposite directions would wait for each other. So the source is asked for names and left; since the names are
// exact, what somebody writes to it afterwards cannot get into the copy, it only makes the names void.
#include <algorithm>
#include <utility>
#include <vector>

#include "client/impl/client_impl.h"
#include "client/interrupt.h"

namespace cairn::client {
namespace {

constexpr int kAttempts = 4;
// Between two looks at the source; so long does a recall of the target wait at most.
constexpr uint64_t kPlanBytes = 32u << 20;
// Enough for one call: the kernel holds the target's lock meanwhile.
constexpr uint64_t kCallBytes = 128u << 20;
constexpr uint64_t kHereBytes = 1u << 20;

}  // namespace

Result<std::vector<CopyPart>> ClientImpl::PlanCopy(OpenHandle& from, uint64_t offset, uint64_t length, uint64_t max_bytes) {
  const FilePtr& file = from.file;
  Result<std::vector<CopyPart>> result = std::vector<CopyPart>();
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    BeforeAttempt(file, attempt);
    CAIRN_ASSIGN_OR_RETURN(const FileUse use, Enter(file, {.kind = LeaseKind::kRead, .offset = offset}, from.caller));
    CAIRN_RETURN_IF_ERROR(CheckLockKept(from));
    result = file->data->PlanCopy(offset, length, max_bytes);
    if (result.ok()) NoteRead(from, from.flags.no_atime);  // a copy reads, whoever moves the bytes
    if (result.code() != StatusCode::kLeaseLost) return result;
  }
  return result;
}

Result<uint64_t> ClientImpl::CopyParts(OpenHandle& to, uint64_t offset, std::span<const CopyPart> parts,
                                       FileData::CopyMode mode) {
  const FilePtr& file = to.file;
  Result<uint64_t> result = uint64_t{0};
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    BeforeAttempt(file, attempt);
    CAIRN_ASSIGN_OR_RETURN(const FileUse use, Enter(file, {.kind = LeaseKind::kWrite, .offset = offset}, to.caller));
    CAIRN_RETURN_IF_ERROR(CheckLockKept(to));
    std::shared_lock shared(file->write_mu);
    result = file->data->CopyParts(offset, parts, Now(), mode);
    shared.unlock();
    if (result.code() == StatusCode::kLeaseLost) continue;
    NoteWrite(*file, offset);
    MarkWritten(file);
    break;
  }
  return result;
}

Result<uint64_t> ClientImpl::CopyHere(OpenHandle& from, uint64_t from_offset, OpenHandle& to, uint64_t to_offset,
                                      uint64_t length) {
  std::vector<std::byte> buffer(std::min(length, kHereBytes));
  CAIRN_ASSIGN_OR_RETURN(const size_t got, ReadFile(from, from_offset, buffer, from.flags.no_atime));
  if (got == 0) return uint64_t{0};
  CAIRN_RETURN_IF_ERROR(WriteFile(to, &to_offset, std::span(buffer).first(got), false));
  copied_here_.fetch_add(got, std::memory_order_relaxed);
  return uint64_t{got};
}

Result<uint64_t> ClientImpl::CopyRange(Handle from, uint64_t from_offset, Handle to, uint64_t to_offset, uint64_t length) {
  const HandlePtr source = FindHandle(from);
  const HandlePtr target = FindHandle(to);
  if (!source || !source->flags.read || !target || !target->flags.write)
    return Status(StatusCode::kBadHandle, "the handles are not open for a copy");
  if (from_offset + length < from_offset || to_offset + length < to_offset)
    return Status(StatusCode::kOverflow, "the range to copy ends beyond the largest offset");
  const bool same = source->file == target->file;
  if (same && from_offset < to_offset + length && to_offset < from_offset + length)
    return Status(StatusCode::kInvalidArgument, "the ranges of a copy within one file overlap");
  CAIRN_RETURN_IF_ERROR(TakeError(*target));
  uint64_t done = 0;
  uint64_t moved = 0;  // without holes
  Status status;
  while (done < length && moved < kCallBytes) {
    if (ThreadInterrupted()) {
      status = Status(StatusCode::kInterrupted, "interrupted while copying");
      break;
    }
    const auto parts = PlanCopy(*source, from_offset + done, length - done, same ? kStageWindowBytes : kPlanBytes);
    status = parts.status();
    if (!status.ok() || parts->empty()) break;
    auto copied = CopyParts(*target, to_offset + done, *parts, {.at_once = same});
    if (copied.ok() && *copied == 0) {
      const uint64_t n = std::min(length - done, parts->front().length);
      copied = CopyHere(*source, from_offset + done, *target, to_offset + done, n);
      if (copied.ok() && *copied == 0) break;  // the source was shortened
    }
    status = copied.status();
    if (!status.ok()) break;
    uint64_t left = *copied;
    for (const CopyPart& part : *parts) {
      const uint64_t n = std::min(left, part.length);
      if (part.kind != CopyPart::kHole) moved += n;
      left -= n;
    }
    done += *copied;
  }
  // What was copied counts; the error of what follows is met by the next call, or by close.
  if (done != 0) status = Status::Ok();
  CAIRN_RETURN_IF_ERROR(AfterWrite(*target, status, {.direct = target->flags.direct, .sync = target->flags.sync}));
  return done;
}

}  // namespace cairn::client
