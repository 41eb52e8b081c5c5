// cairn-sim: runs the protocol simulator.
//
//   cairn-sim --seed 17              one run with a readable trace
//   cairn-sim --seeds 1000           seeds 1..1000, stops at the first broken promise; prints which rare
//   paths were reached cairn-sim --seeds 1000 --from 5000 cairn-sim --canary no_gaps [--seeds 200]    with
//   one rule broken: the first seed that catches it cairn-sim --list                 the names of the rules
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>

#include "tests/sim/simulation.h"

namespace {

using cairn::sim::Simulate;
using cairn::sim::SimulationOptions;
using cairn::sim::SimulationResult;

int Usage() {
  std::fprintf(stderr, "usage: cairn-sim [--seed S | --seeds N] [--from S] [--canary RULE] [--list]\n");
  return 2;
}

int RunOne(SimulationOptions options) {
  options.trace = true;
  const SimulationResult result = Simulate(options);
  for (const std::string& line : result.trace) std::printf("%s\n", line.c_str());
  std::printf("seed %" PRIu64 ": %" PRIu64 " events, %" PRIu64 " operations, %" PRId64 " virtual ms: %s\n",
              options.seed, result.events, result.operations, result.virtual_ms,
              result.failure.empty() ? "every promise kept" : result.failure.c_str());
  return result.failure.empty() ? 0 : 1;
}

int RunMany(SimulationOptions options, uint64_t from, uint64_t count, bool canary) {
  std::map<std::string, uint64_t> marks;
  uint64_t events = 0;
  uint64_t operations = 0;
  for (uint64_t seed = from; seed < from + count; ++seed) {
    options.seed = seed;
    const SimulationResult result = Simulate(options);
    for (const auto& [mark, times] : result.marks) marks[mark] += times;
    events += result.events;
    operations += result.operations;
    if (result.failure.empty()) continue;
    std::printf("seed %" PRIu64 " after %" PRId64 " virtual ms: %s\n", seed, result.virtual_ms,
                result.failure.c_str());
    return canary ? 0 : 1;
  }
  for (const auto& [mark, times] : marks) std::printf("%10" PRIu64 "  %s\n", times, mark.c_str());
  std::printf("%" PRIu64 " seeds, %" PRIu64 " events, %" PRIu64 " operations: every promise kept\n", count,
              events, operations);
  return canary ? 1 : 0;
}

}  // namespace

int main(int argc, char** argv) {
  SimulationOptions options;
  uint64_t from = 1;
  uint64_t count = 0;
  bool canary = false;
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    if (flag == "--list") {
      for (const auto& [name, rule] : cairn::sim::RuleNames()) std::printf("%s\n", name.c_str());
      return 0;
    }
    if (i + 1 >= argc) return Usage();
    const char* value = argv[++i];
    if (flag == "--seed") {
      options.seed = std::strtoull(value, nullptr, 10);
    } else if (flag == "--seeds") {
      count = std::strtoull(value, nullptr, 10);
    } else if (flag == "--from") {
      from = std::strtoull(value, nullptr, 10);
    } else if (flag == "--canary") {
      options.rules.broken = cairn::sim::RuleByName(value);
      canary = true;
      if (options.rules.broken == cairn::replication::Rule::kNone) {
        std::fprintf(stderr, "there is no rule \"%s\"; --list prints their names\n", value);
        return 2;
      }
    } else {
      return Usage();
    }
  }
  if (count == 0) return RunOne(options);
  return RunMany(options, from, count, canary);
}
