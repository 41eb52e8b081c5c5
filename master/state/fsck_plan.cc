#include "master/state/fsck_plan.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "master/state/fsck.h"
#include "master/state/records.h"

namespace cairn::master {
namespace {

// Types before names, names before what is reconnected for want of one, that before counts, and the counters of the store last.
int RankOf(std::string_view kind) {
  static constexpr std::array<std::pair<std::string_view, int>, 12> kRanks = {{{"wrong-type", 0},
                                                                              {"missing-link", 1},
                                                                              {"missing-index", 1},
                                                                              {"stray-index", 2},
                                                                              {"stray-chunk", 2},
                                                                              {"missing-inode", 3},
                                                                              {"wrong-parent", 4},
                                                                              {"stray-orphan", 4},
                                                                              {"wrong-nlink", 6},
                                                                              {"wrong-entry-count", 6},
                                                                              {"wrong-allocation", 6},
                                                                              {"wrong-counter", 7}}};
  for (const auto& [name, rank] : kRanks) {
    if (name == kind) return rank;
  }
  return 5;
}

}  // namespace

void RepairPlan::Add(const proto::FsckResponse& page) {
  for (const proto::FsckProblem& problem : page.problems()) {
    if (problem.leads_to() != 0) named_.insert(InodeId(problem.leads_to()));
    if (problem.kind() == "stray-chunk") with_chunks_.insert(InodeId(problem.inode()));
    if (problem.kind() == "missing-chunk") lost_.insert(ChunkId(problem.chunk()));
    if (problems_.size() >= kMaxProblems) {
      complete_ = false;
      continue;
    }
    if (seen_.emplace(problem.kind(), problem.record()).second) problems_.push_back(problem);
  }
}

bool RepairPlan::Alone(const proto::FsckProblem& problem) const {
  if (!complete_) return false;
  if (problem.kind() == "missing-inode" && problem.leads_to() != 0)
    return !with_chunks_.contains(InodeId(problem.leads_to()));
  if (problem.kind() == "stray-server-entry") return !lost_.contains(ChunkId(problem.chunk()));
  return !named_.contains(InodeId(problem.inode()));
}

std::vector<PlannedRepair> RepairPlan::Take(const MetaReader& snapshot) {
  std::vector<PlannedRepair> repairs;
  repairs.reserve(problems_.size());
  const uint64_t before = LoadCounters(snapshot).repairs();
  for (proto::FsckProblem& problem : problems_) {
    PlannedRepair& repair = repairs.emplace_back();
    repair.command.set_kind(problem.kind());
    repair.command.set_record(problem.record());
    repair.command.set_alone(Alone(problem));
    if (problem.deltas_size() > 0) {
      *repair.command.mutable_deltas() = problem.deltas();
      repair.command.set_repairs(before);
    }
    repair.problem = std::move(problem);
  }
  *this = RepairPlan();
  std::stable_sort(repairs.begin(), repairs.end(), [](const PlannedRepair& a, const PlannedRepair& b) {
    return RankOf(a.problem.kind()) < RankOf(b.problem.kind());
  });
  return repairs;
}

}  // namespace cairn::master
