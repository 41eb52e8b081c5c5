// Evens out how full the servers are, by a plan that an administrator applied or by itself when they drift apart.
//
// What is recorded is the goal (a threshold and a rate), not a list of moves: after a restart of the master the moves are found
// anew from what is there. A round works on the use that the servers reported when it began plus what it moved since, because
// the space of a copy that moved away comes back only later.
//
// Thread-safety: none; owned by the core thread.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "common/ids.h"
#include "common/status.h"
#include "master/cluster/rebalance_planner.h"
#include "master/cluster/rebalance_scope.h"
#include "master/cluster/server_registry.h"
#include "master/store/meta_store.h"
#include "proto/cairn/admin.pb.h"
#include "proto/cairn/state.pb.h"

namespace cairn::master {

class Core;

inline constexpr double kAutomaticThresholdPercent = 10;
inline constexpr double kPlanThresholdPercent = 1;
inline constexpr uint64_t kDefaultMoveRate = 32ull << 20;

class Rebalancer {
 public:
  explicit Rebalancer(Core& core) : core_(core) {}

  void Tick();
  // Apply, pause, resume, cancel, set. `planned_bytes`: of the preview, for the progress.
  Status Change(const proto::RebalanceRequest& request, uint64_t planned_bytes);
  void FillStatus(proto::RebalanceStatus* status);

 private:
  proto::RebalanceRecord& Record();
  void Save();
  void Start(bool by_hand, const proto::RebalanceScope& scope, double threshold, uint64_t planned_bytes,
             const std::string& by);
  BalanceScope Scope() { return BalanceScope(Record().scope()); }
  void Finish(const std::string& how);
  void ConsiderAutomatic();
  void Run();
  // Starts one move off the fullest server; false when nothing could be started now.
  bool StartOne();
  std::string Hindered();

  Core& core_;
  std::optional<proto::RebalanceRecord> record_;
  std::optional<BalanceModel> model_;
  MoveGovernor governor_;
  std::map<ServerId, ChunkId> cursors_;
  uint64_t effective_rate_ = 0;
  std::string yielding_;
  size_t running_ = 0;
  uint64_t round_ = 0;  // answers of moves of an earlier round are only counted down
  int64_t next_ns_ = 0;
  int64_t next_automatic_ns_ = 0;
  int64_t next_save_ns_ = 0;
  bool dirty_ = false;
};

// "22:00-06:00"; kInvalidArgument with what is expected.
Status CheckWindow(const std::string& window);
// Whether `minute` of the day (0..1439) is inside; an empty window is always.
bool InWindow(const std::string& window, int minute);
// What apply would do, over a view of the metadata; beside the core.
proto::RebalancePlan PlanRebalance(const MetaReader& reader, const ServerRegistry& servers, const BalanceScope& scope,
                                   double threshold_percent, uint64_t bytes_per_second,
                                   uint64_t measured_bytes_per_second);

}  // namespace cairn::master
