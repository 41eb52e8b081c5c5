// A range of a source chunk that the members of a target chunk were asked to fetch by themselves (wire::StageRequest), for a
// mutation whose bytes this client does not have.
//
// The members' answers are compared: the checksums that a write quorum of them agrees on are those of the mutation. A member that
// answers otherwise, late, or lost what it had staged gets the bytes from here; they are fetched from the source, at the same exact
// stamp, when that happens.
//
// Thread-safety: constant after construction, or guarded by the lock of the target's FileCore, as marked.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "common/ids.h"
#include "common/net/shared_bytes.h"
#include "common/status.h"

namespace cairn::client {

struct StagedPiece {
  // Constant after construction.
  ChunkId source;
  Stamp stamp;
  uint64_t source_offset = 0;
  std::vector<ServerId> carriers;
  ChunkId chunk;  // of the target
  uint64_t offset = 0;
  uint32_t length = 0;
  uint32_t quorum = 0;

  // Guarded by FileCore::mu_.
  struct Member {
    enum : uint8_t { kAsked, kStaged, kNeedsBytes } state = kAsked;
    uint64_t token = 0;
    std::vector<uint32_t> checksums;
    Status status;
  };
  std::map<ServerId, Member> members;
  std::vector<uint32_t> checksums;  // agreed on by `quorum` members; empty: not yet
  bool failed = false;              // they will not be: nothing was written

  net::SharedBytes bytes;   // while somebody needs them
  bool fetching = false;
  size_t fetch_from = 0;    // index in carriers
  int64_t fetch_again_ns = 0;
  bool gone = true;         // every carrier asked in this round said that it has not got the stamp

  bool agreed() const { return !checksums.empty(); }
  // What a member answered. Settles the piece as soon as it can be.
  void Answered(ServerId server, const Status& status, uint64_t token, std::vector<uint32_t> answer);

 private:
  void Settle();
};

}  // namespace cairn::client
