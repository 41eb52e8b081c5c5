// A simulated client: takes leases, writes with the production ChunkWriter, reads with the production
// ReplicaReader, and deletes. It behaves like applications and machines do: stops half way, is paused past
// the end of its lease, crashes.
//
// Thread-safety: none.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "common/replication/reader.h"
#include "common/replication/writer.h"
#include "tests/sim/checker.h"
#include "tests/sim/master.h"
#include "tests/sim/server.h"
#include "tests/sim/world.h"

namespace cairn::sim {

class Client {
 public:
  Client(World* world, Checker* checker, Master* master, std::vector<Server*> servers, NodeId node,
         replication::Rules rules);

  NodeId node() const { return node_; }
  void Boot();
  void Crash();
  // No new operations (what is under way is finished).
  void set_quiet(bool quiet) { quiet_ = quiet; }
  // Per mille of operations that delete.
  void set_delete_permille(int permille) { delete_permille_ = permille; }
  // Whether success of a write is told to the application only while the lease is valid by this client's
  // clock.
  void set_trusts_clock(bool trusts) { trusts_clock_ = trusts; }
  uint64_t finished_operations() const { return finished_operations_; }

  // From the master.
  void OnGrant(const Grant& grant);
  void OnRecall(ChunkId chunk, uint64_t nonce);
  void OnReconfigured(ChunkId chunk, uint64_t nonce, const replication::Configuration& config);
  void OnLeaseLost(uint64_t nonce);
  void OnSessionLost(uint64_t session);

 private:
  enum class Phase : uint8_t { kWaiting, kWriting, kFlushing, kClosing, kSealing, kReopening, kReading, kReleasing };
  struct Progress {
    std::optional<uint64_t> acked;
    int64_t since = 0;
  };
  struct Operation {
    ChunkId chunk;
    uint64_t nonce = 0;
    Wish wish = Wish::kRead;
    Phase phase = Phase::kWaiting;
    int64_t started = 0;
    int64_t phase_since = 0;
    // Writing.
    std::unique_ptr<replication::ChunkWriter> writer;
    std::map<uint64_t, uint64_t> tokens;  // by seq
    uint64_t told = 0;                    // acknowledged to the application up to this seq
    int steps_left = 0;
    bool wants_fsync = false;
    bool seals_early = false;  // right behind what is still on its way, as when a lease is recalled
    bool deaf = false;  // does not answer recalls
    bool recalled = false;
    std::map<ServerId, Progress> progress;
    // Reading.
    std::unique_ptr<replication::ReplicaReader> reader;
    Grant grant;
    Checker::ReadMark mark;
    int reads_left = 0;
    uint64_t read_number = 0;
    Release release;
  };

  bool LeaseValid() const { return world_.now() < lease_until_; }
  bool Is(uint64_t nonce) const { return op_ && op_->nonce == nonce; }
  Server& ServerOf(ServerId id) { return *servers_[id.value() - 1]; }
  void Enter(Phase phase);
  void RenewForever();
  void TickForever();
  void StartOperation();
  void Finish();
  // Walks away from the operation without telling anybody.
  void Abandon(const std::string& why);
  void ReleaseWith(Release release);
  void SendRelease(const Release& release);

  void WriteStep(uint64_t nonce);
  void Pump();
  void TellApplication();
  void TickWriter();
  void DropSilentMembers();
  void AskForHelp();
  void Flush();
  void Seal();
  void WriteAfterSeal();
  void Reopen();
  void StartWriting(const Grant& grant);
  void ReadOwn();

  void StartRead();
  void PollRead(uint64_t nonce);

  World& world_;
  Checker& checker_;
  Master& master_;
  const std::vector<Server*> servers_;
  const NodeId node_;
  const replication::Rules rules_;
  bool quiet_ = false;
  int delete_permille_ = 0;
  bool trusts_clock_ = true;

  uint64_t session_ = 0;
  uint64_t next_nonce_ = 1;
  uint64_t next_token_ = 1;
  uint64_t finished_operations_ = 0;
  int64_t lease_until_ = 0;  // by this client's clock, counted from sending the renewal
  std::unique_ptr<Operation> op_;
  std::set<uint64_t>
      refused_;  // leases that this client said it does not hold: a grant that comes later is not used
};

}  // namespace cairn::sim
