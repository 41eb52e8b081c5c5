// Which replica to ask for bytes, and what to do when it does not deliver.
//
// RankReplicas orders the carriers: same host, same zone, then least loaded; ties are broken by `spread` so
// that clients do not all choose the same one. ReplicaReader then walks one read through that order:
//
//   ReplicaReader read(RankReplicas(candidates, spread), options);
//   Poll(now) -> {ask cs2}                       // send the read
//   Poll(now + hedge) -> {ask cs1}               // cs2 is slower than usual: ask the next one too, keep
//   listening OnSuccess(cs1)                               // after the *shell* verified the checksums:
//   done() is cs1 OnFailure(cs2, Status(kCorrupt, ...))        // next one at once; remembered for the report
//   failed() -> Failure()                        // nobody is left: the verdict with the reason of each
//   member
//
// Only members that carry the wanted stamp may be candidates: the carriers of a sealed chunk, or for the
// writer's own read those that acknowledged the seq.
//
// Thread-safety: none; one owner.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "common/replication/quorum.h"
#include "common/replication/types.h"

namespace cairn::replication {

struct ReadCandidate {
  ServerId server;
  bool same_host = false;
  bool same_zone = false;
  bool alive = true;     // the master heard it lately; others are asked last
  uint32_t load = 0;     // 0..1000
  bool suspect = false;  // failed this reader recently: asked after those that did not
};

// Best first. `spread`: any number that differs between clients and chunks (loads within 100 of each other
// count as equal).
std::vector<ServerId> RankReplicas(std::vector<ReadCandidate> candidates, uint64_t spread);

struct ReaderOptions {
  int64_t hedge_after_ns = 0;  // without an answer, ask the next one as well; 0: never hedge
  int64_t timeout_ns = 0;  // an asked member without an answer counts as failed (kTimeout); 0: only OnFailure
  uint32_t max_hedges = 1;  // additional requests in flight at any time
};

class ReplicaReader {
 public:
  ReplicaReader(std::vector<ServerId> order, ReaderOptions options);

  // Whom to ask now (zero or more). Call after every event and at NextPollNanos().
  std::vector<ServerId> Poll(int64_t now_ns);
  // When Poll has something to decide without an event; nothing when only events matter.
  std::optional<int64_t> NextPollNanos() const;

  // Verified bytes at the wanted stamp arrived. The first success wins, later ones are ignored.
  void OnSuccess(ServerId server);
  // kStaleReplica, kUnknownChunk, kCorrupt (the shell's checksum check), kUnavailable, kTimeout, ...: the
  // next is asked.
  void OnFailure(ServerId server, Status status);

  std::optional<ServerId> done() const { return done_; }
  bool failed() const;
  // Those that must be reported to the master: stale, unknown or corrupt although listed as carriers.
  std::vector<MemberProblem> Reportable() const;
  const std::vector<MemberProblem>& problems() const { return problems_; }
  // Precondition: failed(). `what` names the read ("chunk 0x2a at 17.4"). kUnavailable when a member could
  // not be reached (later may work), else kCorrupt when one was corrupt, else kStaleReplica (ask for a new
  // layout).
  Status Failure(std::string_view what) const;

 private:
  struct Asked {
    ServerId server;
    int64_t at_ns = 0;
  };

  const std::vector<ServerId> order_;
  const ReaderOptions options_;
  size_t next_ = 0;  // into order_
  std::vector<Asked> in_flight_;
  std::vector<MemberProblem> problems_;
  std::optional<ServerId> done_;
};

}  // namespace cairn::replication
