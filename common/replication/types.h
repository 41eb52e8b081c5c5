// Plain values of the replication protocol (docs/protocol.md). The data plane, the control plane and the
// simulator carry these between the same pure cores; nothing here does I/O. Thread-safety: values.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/ids.h"
#include "common/status.h"

namespace cairn::replication {

// Who carries a chunk under one epoch, and by which quorum. Recorded by the master; `base` is the stamp from
// which the members started that epoch.
struct Configuration {
  Epoch epoch;
  std::vector<ServerId> members;  // N of them, no duplicates
  uint32_t write_quorum = 0;      // W, 1 <= W <= N
  Stamp base;
  bool operator==(const Configuration&) const = default;
};

// On the wire and on disk: do not change the values.
enum class MutationKind : uint8_t {
  kWrite = 1,     // bytes at offset
  kTruncate = 2,  // chunk length becomes `offset`; a partial last block is zeroed beyond it. May also extend.
  kZero = 3,  // [offset, offset + length) reads as zeros afterwards (hole punching); never changes the length
};

// One numbered change of a chunk. `begin` present: open (epoch) on base first, then apply, in one step.
struct Mutation {
  ChunkId chunk;
  Epoch epoch;
  uint64_t seq = 0;  // the accepted seq after it was applied
  std::optional<Stamp> begin;
  MutationKind kind = MutationKind::kWrite;
  uint64_t offset = 0;  // bytes in the chunk
  uint64_t length = 0;  // bytes; 0 for kTruncate
};

// What a replica reports about itself. Travels in replies, reports and recovery.
struct ReplicaInfo {
  ChunkId chunk;
  Epoch promised;        // refuses anything below
  Stamp accepted;        // after the last applied begin or mutation
  Stamp durable;         // the newest accepted stamp known to be on disk
  uint64_t length = 0;   // bytes, belongs to `accepted`
  Epoch sealed;          // mutations of epochs <= sealed are refused; 0 = never sealed
  Epoch tombstone;       // prepare-delete was recorded in this epoch; 0 = none
  bool amnesic = false;  // its disk may have forgotten acknowledged mutations
  bool corrupt = false;  // holds at least one block that failed its checksum
  bool operator==(const ReplicaInfo&) const = default;
};

}  // namespace cairn::replication
