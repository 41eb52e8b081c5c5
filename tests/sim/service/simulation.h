// One run of the whole service: the production master over a disk that forgets, chunkservers with the production
// replica rules, clients with the production lease cache, lease term, quorum writer and reader; clocks of different
// speed; a hostile while, then peace, in which everything must become whole again.
//
// Where the simulation of single chunks (tests/sim/simulation.h) has a master of its own and many chunks' worth of
// histories per second, this one has the master that ships and is slower; they look for different flaws.
//
// Thread-safety: SimulateService may run on several threads at once; a run uses only its own state.
#pragma once

#include "common/service_rules.h"
#include "tests/sim/simulation.h"

namespace cairn::sim::service {

// Which faults have to meet in one moment; kAny: the seed chooses one of the others.
enum class Focus : uint8_t { kNone, kMasterPower, kPartition, kHungClient, kAny };

struct ServiceOptions {
  uint64_t seed = 1;
  replication::Rules rules;
  ServiceRules service_rules;
  bool trace = false;
  Focus focus = Focus::kAny;
  int64_t hostile_ms = 20'000;
  int64_t peace_ms = 90'000;  // at most; ends as soon as everything is whole
};

SimulationResult SimulateService(const ServiceOptions& options);

struct ServiceCanary {
  const char* name;
  ServiceRule rule;
  Focus focus;
  uint64_t within_seeds;
};
const std::vector<ServiceCanary>& ServiceCanaries();

// Runs seeds with the rule broken until one is caught, in a process of its own: a check of the program itself may be what catches it.
struct CanaryCatch {
  uint64_t seed = 0;  // 0: nobody noticed
  std::string how;
};
CanaryCatch CatchCanary(const ServiceCanary& canary);

}  // namespace cairn::sim::service
