// Which connections have to go because their peers do not read what is queued for them. One that reads slowly keeps its connection as
// long as there is room; one that reads nothing does not.
//
// Thread-safety: pure function.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace cairn::net {

struct SendQueueState {
  size_t queued_bytes = 0;
  int64_t waits_since_ns = 0;  // when the peer last took something, or the first byte was queued
};

struct SlowReaderLimits {
  int64_t stalled_ns = 60'000'000'000;       // nothing was taken for so long: always
  int64_t under_pressure_ns = 2'000'000'000;  // nothing was taken for so long while too much is queued
  size_t queued_bytes = 512u << 20;           // of all connections together
};

// Indexes into `queues`. Those with the most bytes go first, and no more of them than brings the rest below the limit.
std::vector<size_t> SlowReaders(std::span<const SendQueueState> queues, int64_t now_ns, const SlowReaderLimits& limits);

}  // namespace cairn::net
