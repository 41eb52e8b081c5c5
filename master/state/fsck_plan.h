// From the problems that a check of everything found to the commands that repair them, in an order in which one repair does not hide
// what the next one needs to know.
//
//   plan.Add(page) for every page of one check -> plan.Take(snapshot) -> apply each command (RepairMetadataCmd)
//   -> check again, until nothing is repaired
//
// Thread-safety: one thread.
#pragma once

#include <cstddef>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "common/ids.h"
#include "master/store/meta_store.h"
#include "proto/cairn/admin.pb.h"
#include "proto/cairn/log.pb.h"

namespace cairn::master {

struct PlannedRepair {
  proto::FsckProblem problem;
  proto::RepairMetadataCmd command;  // without its operator
};

class RepairPlan {
 public:
  // What is found beyond so many problems waits for the next check.
  static constexpr size_t kMaxProblems = 100'000;

  void Add(const proto::FsckResponse& page);
  // `snapshot`: what was checked.
  std::vector<PlannedRepair> Take(const MetaReader& snapshot);

 private:
  bool Alone(const proto::FsckProblem& problem) const;

  std::vector<proto::FsckProblem> problems_;
  std::set<std::pair<std::string, std::string>> seen_;  // (kind, record): one repair is for all of a kind
  std::set<InodeId> named_;                             // inodes to which names lead that they do not know
  std::set<InodeId> with_chunks_;                       // inodes that do not exist, though chunks belong to them
  std::set<ChunkId> lost_;  // chunks that files list and that have no record
  bool complete_ = true;
};

}  // namespace cairn::master
