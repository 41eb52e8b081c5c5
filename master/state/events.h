// The read side of the event log.
// Thread-safety: as the reader given.
#pragma once

#include <cstdint>
#include <vector>

#include "master/store/meta_store.h"
#include "proto/cairn/state.pb.h"

namespace cairn::master {

inline constexpr uint64_t kMaxEvents = 10'000;

// Events [first, next) are kept.
struct EventRange {
  uint64_t first = 1;
  uint64_t next = 1;
};
EventRange EventRangeOf(const MetaReader& reader);

struct NumberedEvent {
  uint64_t number = 0;
  proto::EventRecord record;
};
// Events with a number above `after`, oldest first.
std::vector<NumberedEvent> EventsAfter(const MetaReader& reader, uint64_t after, size_t limit);

}  // namespace cairn::master
