// A part of a file as chunkservers can copy it by themselves: a hole, or a range of one chunk at one exact stamp. FileData::PlanCopy
// makes them of the source, FileData::CopyParts carries them out on the target.
// Thread-safety: plain values.
#pragma once

#include <cstdint>
#include <vector>

#include "common/ids.h"

namespace cairn::client {

struct CopyPart {
  enum Kind : uint8_t {
    kHole,
    kReplicas,  // what `carriers` hold of `chunk` at exactly `stamp`, from `offset` on
    kBytes,     // has no exact name now: only a client can copy it
  } kind = kBytes;
  uint64_t length = 0;
  ChunkId chunk;
  Stamp stamp;
  uint64_t offset = 0;
  std::vector<ServerId> carriers;
};

}  // namespace cairn::client
