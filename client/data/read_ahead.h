// Decides how far to read ahead of an application, from the offsets it asks for.
//
// A few streams are told apart (several processes, or a kernel that sends neighbouring requests out of
// order). A stream is believed at its second request; what is read ahead then doubles up to the bound. Random
// reads never cause any. Thread-safety: none; the owner's lock protects it.
#pragma once

#include <array>
#include <cstdint>

namespace cairn::client {

class ReadAhead {
 public:
  explicit ReadAhead(uint64_t max_bytes) : max_bytes_(max_bytes) {}

  struct Range {
    uint64_t from = 0;
    uint64_t to = 0;
    bool empty() const { return from >= to; }
  };

  // The application reads [offset, offset + length). Returns what to fetch beyond it; empty when enough was
  // asked for before.
  Range OnRead(uint64_t offset, uint64_t length, uint64_t file_size);
  // Forgets all streams (the data changed).
  void Reset();

 private:
  struct Stream {
    uint64_t next = 0;     // where the application is expected to go on
    uint64_t fetched = 0;  // asked for up to here
    uint64_t window = 0;   // bytes to be ahead; 0: not believed yet
    uint64_t used = 0;     // of clock_; 0: free
  };
  Stream* Find(uint64_t offset);

  const uint64_t max_bytes_;
  std::array<Stream, 4> streams_;
  uint64_t clock_ = 0;
};

}  // namespace cairn::client
