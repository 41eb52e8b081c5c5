// Space that a store keeps of its file system as an allocated file. Giving space back takes space first (the index is written before
// anything is removed), and so does opening a store; on a disk that others have filled to the last block there would be none, and
// nothing but an operator could help. The file is given up then, and taken again once there is room.
//
// Nothing is ever written into it, so what a loss of power leaves of it does not matter.
//
// Thread-safety: any thread, after Init.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <string>

#include "common/status.h"

namespace cairn::chunkserver {

class SpareSpace {
 public:
  // bytes: how much is to be kept. Looks at what is there already.
  void Init(std::string path, uint64_t bytes);
  // Allocates what is missing (its size stays 0). kNoSpace: there is no room. A file system that cannot allocate (EOPNOTSUPP) is asked no more, and
  // nothing is missing on it.
  Status Take();
  // Gives the space to the file system; false: there is none to give.
  bool Give();
  // What is not held of what should be.
  uint64_t missing_bytes() const { return missing_bytes_.load(std::memory_order_relaxed); }

 private:
  std::mutex mu_;
  std::string path_;
  uint64_t bytes_ = 0;
  std::atomic<uint64_t> missing_bytes_{0};
};

}  // namespace cairn::chunkserver
