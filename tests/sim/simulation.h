// One run: a small cluster, a hostile while, then peace, in which everything must become whole again.
//
//   Result result = Simulate({.seed = 17});
//   result.failure  // empty, or the promise that was broken and how
//
// The same options give the same run, event by event.
//
// Thread-safety: Simulate may run on several threads at once; a run uses only its own state.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "common/replication/rules.h"

namespace cairn::sim {

struct SimulationOptions {
  uint64_t seed = 1;
  replication::Rules rules;
  bool trace = false;
  int64_t hostile_ms = 15'000;
  int64_t peace_ms = 60'000;  // at most; ends as soon as everything is whole
};

struct SimulationResult {
  std::string failure;  // empty: every promise was kept
  std::vector<std::string> trace;
  std::map<std::string, uint64_t> marks;  // rare paths reached, by name
  std::map<std::string, uint64_t> faults;  // injected, by kind
  uint64_t events = 0;
  uint64_t operations = 0;  // finished by clients
  int64_t virtual_ms = 0;
};

SimulationResult Simulate(const SimulationOptions& options);

// A rule by the name that the command line uses, for example "ack_at_quorum"; kNone when there is none of
// that name.
replication::Rule RuleByName(const std::string& name);
const std::vector<std::pair<std::string, replication::Rule>>& RuleNames();

}  // namespace cairn::sim
