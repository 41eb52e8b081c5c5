// One file under random writes, and a model of what each of its blocks may hold after everybody lost power.
//
// Each 4 KiB block names its file, its place and the number of the write that made it, and fills the rest
// from these, so that a read tells exactly which write it shows. Per block the model keeps the values that
// are allowed:
//
//   write 7 acknowledged            allowed {.., 7}
//   fsync acknowledged              allowed {7}         what fsync covered must be there
//   a write or fsync failed         nothing is ruled out until a later write and fsync succeed
//
// A hole, zeros and the space beyond the end are value 0. Thread-safety: none.
#pragma once

#include <cstdint>
#include <deque>
#include <random>
#include <string>
#include <vector>

namespace cairn::cluster_test {

// What must be there: what was synced (W or more machines lost power), or the last acknowledged value of all.
enum class Kept { kSynced, kAll };

struct LoadCounts {
  uint64_t operations = 0;
  uint64_t syncs = 0;
  uint64_t errors = 0;
  uint64_t longest_us = 0;  // of one operation
};

class BlockFile {
 public:
  BlockFile(std::string name, uint32_t id);
  ~BlockFile() { Close(); }
  BlockFile(const BlockFile&) = delete;
  BlockFile& operator=(const BlockFile&) = delete;

  int Open(int directory_fd);  // 0 or errno
  void Close();
  // One random operation; 0 or errno. After ENOTCONN and the like the mount is gone and the caller stops.
  int Step(std::mt19937_64& random, LoadCounts& counts);
  // Reads the file and compares; appends what is wrong. settle: then fsyncs, and goes on with what was seen.
  void Check(int directory_fd, Kept kept, bool settle, std::vector<std::string>& problems);

  static constexpr uint32_t kBlocks = 384;

 private:
  struct Block {
    std::vector<uint64_t> allowed{0};
    bool failed = false;  // a write or a sync of the last value failed
  };
  int Write(std::mt19937_64& random, bool sync);
  int Truncate(uint32_t blocks);
  int Sync();
  void Put(uint32_t block, uint64_t value, bool failed);
  static void Settle(Block& block);

  const std::string name_;
  const uint32_t id_;
  int fd_ = -1;
  int sync_fd_ = -1;
  struct Operation {
    std::string text;
    uint32_t first, end;  // blocks that it concerns
  };
  void Remember(const std::string& what, int error, uint32_t first = 0, uint32_t end = kBlocks);
  uint64_t last_value_ = 0;
  std::deque<Operation> journal_;  // the last operations, for the report of a problem
  std::vector<Block> blocks_;
};

bool MountIsGone(int error);

}  // namespace cairn::cluster_test
