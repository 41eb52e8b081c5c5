// The mutations of one chunk that its replicas have not all confirmed, in order, with their payloads: what to
// send (again), and what a read of the own file has to see on top of the replicas.
//
//   number  1   2   3   4   5   6        counts the mutations of the whole file; a flush waits for a number
//   seq     7   8   9  10   -   -        given when handed to the ChunkWriter
//           |done: W |in flight| waiting for room in the window
//           |kept for a slow replica
//
// Thread-safety: none; the owner's lock protects it.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <vector>

#include "client/data/dirty_extents.h"
#include "client/data/staged_piece.h"
#include "common/net/shared_bytes.h"
#include "common/replication/types.h"

namespace cairn::client {

struct LoggedMutation {
  replication::MutationKind kind = replication::MutationKind::kWrite;
  uint64_t offset = 0;
  uint64_t length = 0;
  net::SharedBytes data;            // kWrite, unless it is staged
  std::shared_ptr<StagedPiece> staged;  // the bytes are with the members, or with those of its source
  std::vector<uint32_t> checksums;  // of data; computed once, when the chunk's id is known
  uint64_t number = 0;
  uint64_t seq = 0;  // 0: not submitted
};

class MutationLog {
 public:
  void Push(LoggedMutation mutation);
  // In front of everything. Precondition: nothing is submitted.
  void PushFront(LoggedMutation mutation);

  // The oldest one that has no seq yet, or nullptr; SetSeq gives it one.
  LoggedMutation* NextToSubmit();
  void SetSeq(uint64_t seq);

  // Precondition: submitted and not released.
  const LoggedMutation& Submitted(uint64_t seq) const;
  bool Keeps(uint64_t seq) const;  // that precondition

  // Everything up to `seq` is on W replicas. Returns the payload bytes that became so.
  uint64_t AdvanceDone(uint64_t seq);
  // Everything up to `seq` is needed no more. Precondition: done.
  void Release(uint64_t seq);

  // The length of a chunk that had `length` bytes, after everything in the log.
  uint64_t LengthAfter(uint64_t length) const;

  bool empty() const { return entries_.empty(); }
  size_t size() const { return entries_.size(); }
  bool all_done() const { return done_ == entries_.size(); }
  size_t in_flight() const { return submitted_ - done_; }
  size_t not_submitted() const { return entries_.size() - submitted_; }
  uint64_t undone_bytes() const { return undone_bytes_; }
  uint64_t in_flight_bytes() const { return in_flight_bytes_; }  // submitted, not done
  uint64_t done_bytes() const { return done_bytes_; }            // done, not released
  // Number of the oldest mutation that is not done. Precondition: !all_done().
  uint64_t oldest_undone() const { return entries_[done_].number; }

  // Copies what the log knows about the gaps into `out` (whose first byte is at `base`), newest first, and
  // returns the gaps that are left for the replicas, in order: also those of staged mutations, which must be done.
  std::vector<Gap> Paint(uint64_t base, std::span<std::byte> out, std::vector<Gap> gaps) const;
  bool Overlaps(uint64_t offset, uint64_t length) const;
  // A staged mutation of the range is not done: nobody here can say what is there.
  bool OverlapsStagedUndone(uint64_t offset, uint64_t length) const;

 private:
  std::deque<LoggedMutation> entries_;
  size_t done_ = 0;       // so many at the front are on W replicas
  size_t submitted_ = 0;  // so many at the front have a seq; >= done_
  uint64_t undone_bytes_ = 0;
  uint64_t in_flight_bytes_ = 0;
  uint64_t done_bytes_ = 0;
};

// Fills the parts of `gaps` that `dirty` covers; returns what is left.
std::vector<Gap> PaintDirty(const DirtyExtents& dirty, uint64_t base, std::span<std::byte> out,
                            std::vector<Gap> gaps);

}  // namespace cairn::client
