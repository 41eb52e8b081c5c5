// Carries out what a check of the metadata planned (state/fsck_plan.h), one command after the other: recalls what clients hold of the
// inodes concerned, waits for procedures on the chunks concerned, applies, and writes down who asked for it.
//
// Thread-safety: core thread only.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "master/core/operation.h"
#include "master/state/fsck_plan.h"
#include "master/state/state_machine.h"

namespace cairn::master {

// Fills in outcome and words of the problem by what the state machine answered. `done`: what an applied command means.
void SetOutcome(const proto::Reply& reply, proto::FsckOutcome done, proto::FsckProblem* problem);

class RepairMetadataOp final : public Operation {
 public:
  using Done = std::function<void(std::vector<proto::FsckProblem>)>;

  RepairMetadataOp(std::vector<PlannedRepair> repairs, std::string by, Done done)
      : repairs_(std::move(repairs)), by_(std::move(by)), done_(std::move(done)) {}
  Progress Step(Core& core) override;
  std::string WaitReason() const override { return "a repair of the metadata waits for recalls"; }

 private:
  // False: `this` waits for what stands against the change.
  bool Unimpeded(Core& core, const PlannedRepair& repair, const Effects& effects);
  void Apply(Core& core, PlannedRepair& repair, proto::LogCommand command);

  std::vector<PlannedRepair> repairs_;
  const std::string by_;
  const Done done_;
  size_t next_ = 0;
};

}  // namespace cairn::master
