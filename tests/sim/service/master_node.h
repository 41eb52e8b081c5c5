// The production master (master/core/core.h with its state machine, leases, repair, deletes and log tail) as a
// simulated process: a clock of its own, connections, and a disk whose log forgets what was not synced.
//
// A crash of the process keeps what was committed; a loss of power keeps what was synced, and some of what followed.
//
// Thread-safety: none.
#pragma once

#include <memory>
#include <vector>

#include "master/core/core.h"
#include "master/store/memory_store.h"
#include "tests/sim/world.h"

namespace cairn::sim::service {

// A clock that runs `ppm` millionths faster than the world's, from an origin of its own.
class NodeClock final : public Clock {
 public:
  NodeClock(const World* world, int64_t origin_ns, int64_t ppm) : world_(*world), origin_ns_(origin_ns), ppm_(ppm) {}
  int64_t NowNanos() const override { return origin_ns_ + world_.now() * (1'000'000 + ppm_); }
  int64_t WallNanos() const override { return 1'700'000'000 * kNanosPerSecond + world_.now() * kNanosPerMilli; }

 private:
  const World& world_;
  const int64_t origin_ns_;
  const int64_t ppm_;
};

// MemoryStore with a disk below: commits are in memory until they are synced.
class ForgetfulStore final : public master::MetaStore {
 public:
  explicit ForgetfulStore(Uuid cluster)
      : live_(master::NewMemoryStore(cluster)), disk_(master::NewMemoryStore(cluster)) {}

  std::unique_ptr<master::MetaReader> Latest() const override { return live_->Latest(); }
  std::unique_ptr<master::MetaReader> Snapshot() const override { return live_->Snapshot(); }
  Status Commit(master::MetaTxn* txn) override;
  Status SyncLog() override;
  Status Checkpoint(const std::string& directory) override { return live_->Checkpoint(directory); }
  Uuid cluster() const override { return live_->cluster(); }
  uint64_t used_bytes() const override { return live_->used_bytes(); }
  uint64_t free_bytes() const override { return live_->free_bytes(); }

  // Commits so far; Sync(that) writes no later ones.
  size_t committed() const { return synced_ + unsynced_.size(); }
  void Sync(size_t commits);
  // Keeps what was synced and the next `more` commits.
  void LosePower(size_t more);
  size_t unsynced() const { return unsynced_.size(); }

 private:
  struct Change {
    master::Family family;
    std::string key;
    std::optional<std::string> value;
  };
  static void Write(const std::vector<Change>& changes, master::MetaStore* store);

  std::unique_ptr<master::MetaStore> live_;
  std::unique_ptr<master::MetaStore> disk_;
  std::deque<std::vector<Change>> unsynced_;
  size_t synced_ = 0;
};

class MasterNode {
 public:
  MasterNode(World* world, const Clock* clock, master::CoreOptions options);

  void Boot();
  void CrashProcess();
  // True: the end of the log went with it.
  bool LosePower();
  // The disk takes until then for a sync.
  void StallDisk(int64_t until) { stalled_until_ = until; }
  bool up() const { return core_ != nullptr; }
  // What arrives; null while the process is down.
  void Push(master::Event event);
  master::Core* core() { return core_.get(); }
  const master::CoreOptions& options() const { return options_; }

 private:
  void Round();
  void TickForever(uint64_t incarnation);
  void StartSync();

  World& world_;
  const Clock* const clock_;
  const master::CoreOptions options_;
  ForgetfulStore store_;
  std::unique_ptr<master::Core> core_;
  bool round_due_ = false;
  uint64_t boot_ = 1;  // of the machine
  bool syncing_ = false;
  bool sync_again_ = false;
  int64_t stalled_until_ = 0;
};

}  // namespace cairn::sim::service
