// Ends what is in the trash: when its time is over, and, the oldest first, when servers run out of space.
//
// Thread-safety: none; owned by the core thread.
#pragma once

#include <cstdint>
#include <string>

namespace cairn::master {

class Core;

class TrashKeeper {
 public:
  explicit TrashKeeper(Core& core) : core_(core) {}
  void Tick();

 private:
  void PurgeExpired();
  void PurgeForSpace();
  // A server that is nearly full, in words; empty: none is.
  std::string ShortOfSpace() const;

  Core& core_;
  int64_t next_ns_ = 0;
  int64_t next_early_ns_ = 0;
};

}  // namespace cairn::master
