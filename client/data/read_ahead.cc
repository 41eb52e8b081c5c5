#include "client/data/read_ahead.h"

#include <algorithm>

namespace cairn::client {
namespace {
constexpr uint64_t kFirstWindow = 1u << 20;
// Requests of one stream may overtake each other by about this much.
constexpr uint64_t kSlack = 1u << 20;
}  // namespace

ReadAhead::Stream* ReadAhead::Find(uint64_t offset) {
  for (Stream& stream : streams_) {
    if (stream.used == 0) continue;
    const uint64_t low = stream.window == 0 ? stream.next : stream.next - std::min(stream.next, kSlack);
    const uint64_t high = stream.window == 0 ? stream.next : stream.next + kSlack;
    if (offset >= low && offset <= high) return &stream;
  }
  return nullptr;
}

ReadAhead::Range ReadAhead::OnRead(uint64_t offset, uint64_t length, uint64_t file_size) {
  ++clock_;
  const uint64_t end = offset + length;
  Stream* stream = Find(offset);
  if (stream == nullptr) {
    stream = &*std::min_element(streams_.begin(), streams_.end(),
                                [](const Stream& a, const Stream& b) { return a.used < b.used; });
    *stream = {.next = end, .fetched = end, .window = 0, .used = clock_};
    return {};
  }
  stream->used = clock_;
  if (end <= stream->next) return {};
  stream->next = end;
  stream->fetched = std::max(stream->fetched, end);
  const uint64_t grown = stream->window == 0 ? std::max(kFirstWindow, 2 * length) : 2 * stream->window;
  // Refill in one go when half is used up: few large requests instead of one small one per read.
  if (stream->window != 0 && stream->fetched - end > stream->window / 2) return {};
  stream->window = std::min(grown, max_bytes_);
  const Range range{stream->fetched, std::min(file_size, end + stream->window)};
  if (range.empty()) return {};
  stream->fetched = range.to;
  return range;
}

void ReadAhead::Reset() { streams_ = {}; }

}  // namespace cairn::client
