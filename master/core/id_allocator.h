// Hands out inode, chunk, epoch and session ids from ranges that were reserved durably before the first use,
// so that a master that loses the tail of its log never gives an id out twice. Pure; the core makes
// reservations durable.
//
// Thread-safety: none; owned by the core thread.
#pragma once

#include <algorithm>
#include <cstdint>

#include "common/check.h"
#include "common/ids.h"
#include "proto/cairn/log.pb.h"
#include "proto/cairn/state.pb.h"

namespace cairn::master {

class IdAllocator {
 public:
  struct Blocks {
    uint64_t inodes = 1 << 20;
    uint64_t chunks = 1 << 20;
    uint64_t epochs = 1 << 24;
    uint64_t sessions = 1 << 12;
  };

  IdAllocator(const proto::IdLimits& durable, const Blocks& blocks)
      : blocks_(blocks),
        inodes_{std::max<uint64_t>(durable.inodes_below(), kRootInode.value() + 1)},
        chunks_{std::max<uint64_t>(durable.chunks_below(), 1)},
        epochs_{std::max<uint64_t>(durable.epochs_below(), 1)},
        sessions_{std::max<uint64_t>(durable.sessions_below(), 1)} {}

  // Preconditions: !Exhausted().
  InodeId NextInode() { return InodeId(inodes_.Take()); }
  ChunkId NextChunk() { return ChunkId(chunks_.Take()); }
  Epoch NextEpoch() { return Epoch(epochs_.Take()); }
  SessionId NextSession() { return SessionId(sessions_.Take()); }
  // Below this every epoch may have been handed out.
  Epoch epochs_below() const { return Epoch(epochs_.next); }
  // Below this every chunk id may have been handed out.
  ChunkId chunks_next() const { return ChunkId(chunks_.next); }
  uint64_t chunks_reserved_below() const { return std::max(chunks_.limit, chunks_.asked); }

  // True when a range is half used and no reservation is under way.
  bool WantsReservation() const {
    return !pending_ && (Low(inodes_, blocks_.inodes) || Low(chunks_, blocks_.chunks) ||
                         Low(epochs_, blocks_.epochs) || Low(sessions_, blocks_.sessions));
  }
  // True when so little is left that the next round of work might not be served.
  bool Exhausted() const {
    return inodes_.left() < kSlack || chunks_.left() < kSlack || epochs_.left() < kSlack ||
           sessions_.left() < 64;
  }
  proto::ReserveIdsCmd Reserve() {
    pending_ = true;
    proto::ReserveIdsCmd command;
    command.set_inodes_below(inodes_.Extend(blocks_.inodes));
    command.set_chunks_below(chunks_.Extend(blocks_.chunks));
    command.set_epochs_below(epochs_.Extend(blocks_.epochs));
    command.set_sessions_below(sessions_.Extend(blocks_.sessions));
    return command;
  }
  // The reservation is on disk.
  void Reserved() {
    pending_ = false;
    for (Range* range : {&inodes_, &chunks_, &epochs_, &sessions_}) range->limit = range->asked;
  }
  bool pending() const { return pending_; }

 private:
  static constexpr uint64_t kSlack = 1 << 16;

  struct Range {
    explicit Range(uint64_t first) : next(first), limit(first), asked(first) {}
    uint64_t next;
    uint64_t limit;  // usable below
    uint64_t asked;  // reservation under way up to here
    uint64_t left() const { return limit - next; }
    uint64_t Extend(uint64_t block) {
      asked = next + block;
      return asked;
    }
    uint64_t Take() {
      CAIRN_CHECK(next < limit, "ids were handed out beyond the durable reservation");
      return next++;
    }
  };
  static bool Low(const Range& range, uint64_t block) { return range.left() < block / 2; }

  const Blocks blocks_;
  Range inodes_;
  Range chunks_;
  Range epochs_;
  Range sessions_;
  bool pending_ = false;
};

}  // namespace cairn::master
