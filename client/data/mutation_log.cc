#include "client/data/mutation_log.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "common/check.h"

namespace cairn::client {
namespace {

using replication::MutationKind;

// The range of the chunk that a mutation determines.
Gap RangeOf(const LoggedMutation& mutation) {
  if (mutation.kind == MutationKind::kTruncate) {
    return {mutation.offset, std::numeric_limits<uint64_t>::max() - mutation.offset};
  }
  return {mutation.offset, mutation.length};
}

// Calls fill(offset, length) for the parts of the gaps inside `range`; returns the gaps without them.
template <typename Fill>
std::vector<Gap> Subtract(std::vector<Gap> gaps, Gap range, Fill fill) {
  const uint64_t range_end = range.offset + range.length;
  std::vector<Gap> left;
  for (const Gap& gap : gaps) {
    const uint64_t gap_end = gap.offset + gap.length;
    const uint64_t from = std::max(gap.offset, range.offset);
    const uint64_t to = std::min(gap_end, range_end);
    if (from >= to) {
      left.push_back(gap);
      continue;
    }
    fill(from, to - from);
    if (gap.offset < from) left.push_back({gap.offset, from - gap.offset});
    if (to < gap_end) left.push_back({to, gap_end - to});
  }
  return left;
}

}  // namespace

void MutationLog::Push(LoggedMutation mutation) {
  undone_bytes_ += mutation.data.size();
  entries_.push_back(std::move(mutation));
}

void MutationLog::PushFront(LoggedMutation mutation) {
  CAIRN_CHECK(submitted_ == 0, "mutations leave in order");
  undone_bytes_ += mutation.data.size();
  // Flushes wait for numbers: who waits for the one behind it waits for this one.
  if (!entries_.empty()) mutation.number = entries_.front().number;
  entries_.push_front(std::move(mutation));
}

LoggedMutation* MutationLog::NextToSubmit() {
  return submitted_ < entries_.size() ? &entries_[submitted_] : nullptr;
}

void MutationLog::SetSeq(uint64_t seq) {
  CAIRN_CHECK(submitted_ < entries_.size(), "nothing to submit");
  CAIRN_CHECK(submitted_ == 0 || entries_[submitted_ - 1].seq + 1 == seq,
              "mutations are numbered without gaps");
  LoggedMutation& mutation = entries_[submitted_++];
  mutation.seq = seq;
  in_flight_bytes_ += mutation.data.size();
}

bool MutationLog::Keeps(uint64_t seq) const {
  return submitted_ != 0 && seq >= entries_.front().seq && seq - entries_.front().seq < submitted_;
}

const LoggedMutation& MutationLog::Submitted(uint64_t seq) const {
  CAIRN_CHECK(Keeps(seq), "the payload of a mutation in flight is kept");
  return entries_[seq - entries_.front().seq];
}

uint64_t MutationLog::AdvanceDone(uint64_t seq) {
  uint64_t bytes = 0;
  while (done_ < submitted_ && entries_[done_].seq <= seq) bytes += entries_[done_++].data.size();
  undone_bytes_ -= bytes;
  in_flight_bytes_ -= bytes;
  done_bytes_ += bytes;
  return bytes;
}

void MutationLog::Release(uint64_t seq) {
  while (done_ != 0 && entries_.front().seq <= seq) {
    done_bytes_ -= entries_.front().data.size();
    entries_.pop_front();
    --done_;
    --submitted_;
  }
}

uint64_t MutationLog::LengthAfter(uint64_t length) const {
  for (const LoggedMutation& mutation : entries_) {
    if (mutation.kind == MutationKind::kWrite) length = std::max(length, mutation.offset + mutation.length);
    if (mutation.kind == MutationKind::kTruncate) length = mutation.offset;
  }
  return length;
}

std::vector<Gap> MutationLog::Paint(uint64_t base, std::span<std::byte> out, std::vector<Gap> gaps) const {
  std::vector<Gap> staged;
  for (auto it = entries_.rbegin(); it != entries_.rend() && !gaps.empty(); ++it) {
    if (it->staged != nullptr) {  // hides what is older, like any other
      gaps = Subtract(std::move(gaps), RangeOf(*it),
                      [&](uint64_t offset, uint64_t length) { staged.push_back({offset, length}); });
      continue;
    }
    gaps = Subtract(std::move(gaps), RangeOf(*it), [&](uint64_t offset, uint64_t length) {
      std::byte* to = out.data() + (offset - base);
      if (it->kind == MutationKind::kWrite) {
        std::memcpy(to, it->data.data() + (offset - it->offset), length);
      } else {
        std::memset(to, 0, length);
      }
    });
  }
  if (staged.empty()) return gaps;
  gaps.insert(gaps.end(), staged.begin(), staged.end());
  std::sort(gaps.begin(), gaps.end(), [](const Gap& a, const Gap& b) { return a.offset < b.offset; });
  return gaps;
}

bool MutationLog::OverlapsStagedUndone(uint64_t offset, uint64_t length) const {
  return std::any_of(entries_.begin() + static_cast<ptrdiff_t>(done_), entries_.end(), [&](const LoggedMutation& mutation) {
    const Gap range = RangeOf(mutation);
    return mutation.staged != nullptr && range.offset < offset + length && offset < range.offset + range.length;
  });
}

bool MutationLog::Overlaps(uint64_t offset, uint64_t length) const {
  return std::any_of(entries_.begin(), entries_.end(), [&](const LoggedMutation& mutation) {
    const Gap range = RangeOf(mutation);
    return range.offset < offset + length && offset < range.offset + range.length;
  });
}

std::vector<Gap> PaintDirty(const DirtyExtents& dirty, uint64_t base, std::span<std::byte> out,
                            std::vector<Gap> gaps) {
  for (const Gap& range : dirty.Ranges(base, out.size())) {
    if (gaps.empty()) break;
    gaps = Subtract(std::move(gaps), range, [&](uint64_t offset, uint64_t length) {
      dirty.Overlay(offset, out.subspan(offset - base, length));
    });
  }
  return gaps;
}

}  // namespace cairn::client
