// cairn-sim: runs the protocol simulator.
//
//   cairn-sim --seed 17                        one run with a readable trace
//   cairn-sim --seeds 1000 [--from 5000]       stops at the first broken promise; prints the rare paths
//   reached cairn-sim --days 24                        the soak: as many seeds as make so many simulated days
//   cairn-sim --canary no_gaps [--seeds 200]   with one rule broken: the first seed that catches it
//   cairn-sim --canaries                       every rule broken in turn: a table of who is caught where
//   cairn-sim --list                           the names of the rules, and within how many seeds each is caught
//
// With --service first, each of these runs the whole service with the production master instead of single chunks.
#include <algorithm>
#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <map>
#include <string>
#include <vector>

#include "common/log.h"
#include "tests/sim/canaries.h"
#include "tests/sim/service/simulation.h"
#include "tests/sim/simulation.h"

namespace {

using cairn::sim::Canary;
using cairn::sim::kCanaries;
using cairn::sim::SimulationResult;

// What is to be run: single chunks or the whole service.
struct SimulationOptions {
  bool service = false;
  uint64_t seed = 1;
  bool trace = false;
  std::string broken;  // rule
  cairn::sim::service::Focus focus = cairn::sim::service::Focus::kAny;
};

SimulationResult Simulate(const SimulationOptions& options) {
  if (!options.service) {
    return cairn::sim::Simulate({.seed = options.seed,
                                 .rules = {cairn::sim::RuleByName(options.broken)},
                                 .trace = options.trace});
  }
  cairn::sim::service::ServiceOptions service{.seed = options.seed, .trace = options.trace, .focus = options.focus};
  for (const auto& canary : cairn::sim::service::ServiceCanaries()) {
    if (options.broken != canary.name) continue;
    service.service_rules.broken = canary.rule;
    service.focus = canary.focus;
  }
  return cairn::sim::service::SimulateService(service);
}

std::vector<Canary> Canaries(bool service) {
  if (!service) return {std::begin(kCanaries), std::end(kCanaries)};
  std::vector<Canary> canaries;
  for (const auto& canary : cairn::sim::service::ServiceCanaries())
    canaries.push_back({canary.name, canary.within_seeds});
  return canaries;
}

constexpr double kDayMs = 24.0 * 3600 * 1000;

int Usage() {
  std::fprintf(stderr,
               "usage: cairn-sim [--service] [--seed S | --seeds N | --days D | --canaries | --list] [--from S] "
               "[--canary RULE] [--focus 0..4]\n");
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

// `count` seeds, or as many as make `days`.
int RunMany(SimulationOptions options, uint64_t from, uint64_t count, double days) {
  std::map<std::string, uint64_t> marks;
  std::map<std::string, uint64_t> faults;
  uint64_t events = 0;
  uint64_t operations = 0;
  double virtual_ms = 0;
  uint64_t seeds = 0;
  const auto start = std::chrono::steady_clock::now();
  for (; days > 0 ? virtual_ms < days * kDayMs : seeds < count; ++seeds) {
    options.seed = from + seeds;
    const SimulationResult result = Simulate(options);
    for (const auto& [mark, times] : result.marks) marks[mark] += times;
    for (const auto& [kind, times] : result.faults) faults[kind] += times;
    events += result.events;
    operations += result.operations;
    virtual_ms += static_cast<double>(result.virtual_ms);
    if (result.failure.empty()) continue;
    std::printf("seed %" PRIu64 " after %" PRId64 " virtual ms: %s\n", options.seed, result.virtual_ms,
                result.failure.c_str());
    return 1;
  }
  const double cpu = static_cast<double>(std::clock()) / CLOCKS_PER_SEC;
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  std::printf("rare paths reached:\n");
  for (const auto& [mark, times] : marks) std::printf("%10" PRIu64 "  %s\n", times, mark.c_str());
  std::printf("faults injected:\n");
  for (const auto& [kind, times] : faults) std::printf("%10" PRIu64 "  %s\n", times, kind.c_str());
  std::printf("%" PRIu64 " seeds, %" PRIu64 " events, %" PRIu64
              " operations, %.2f simulated days in %.0f s (%.1f s of CPU per 1,000 seeds): every promise kept\n",
              seeds, events, operations, virtual_ms / kDayMs, seconds,
              cpu * 1000 / static_cast<double>(std::max<uint64_t>(seeds, 1)));
  return 0;
}

// 0: caught.
int RunCanary(SimulationOptions options, const std::string& name, uint64_t from, uint64_t count) {
  options.broken = name;
  for (options.seed = from; options.seed < from + count; ++options.seed) {
    const SimulationResult result = Simulate(options);
    if (result.failure.empty()) continue;
    std::printf("%-28s seed %-5" PRIu64 " %s\n", name.c_str(), options.seed, result.failure.c_str());
    return 0;
  }
  std::printf("%-28s NOT CAUGHT within %" PRIu64 " seeds\n", name.c_str(), count);
  return 1;
}

int RunCanaries(const SimulationOptions& options) {
  int escaped = 0;
  if (options.service) {
    for (const auto& canary : cairn::sim::service::ServiceCanaries()) {
      const auto caught = cairn::sim::service::CatchCanary(canary);
      if (caught.seed == 0) {
        std::printf("%-28s NOT CAUGHT within %" PRIu64 " seeds\n", canary.name, canary.within_seeds);
        ++escaped;
      } else {
        std::printf("%-28s seed %-5" PRIu64 " %s\n", canary.name, caught.seed, caught.how.c_str());
      }
      std::fflush(stdout);
    }
    return escaped == 0 ? 0 : 1;
  }
  for (const Canary& canary : Canaries(options.service)) escaped += RunCanary(options, canary.rule, 1, canary.within_seeds);
  return escaped == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  cairn::SetLogLevel("error");  // the production master logs what it meets
  SimulationOptions options;
  uint64_t from = 1;
  uint64_t count = 0;
  double days = 0;
  std::string canary;
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    if (flag == "--service") {
      options.service = true;
      continue;
    }
    if (flag == "--canaries") return RunCanaries(options);
    if (flag == "--list") {
      for (const Canary& each : Canaries(options.service))
        std::printf("%-28s %5" PRIu64 " seeds\n", each.rule, each.within_seeds);
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
    } else if (flag == "--days") {
      days = std::strtod(value, nullptr);
    } else if (flag == "--focus") {
      options.focus = static_cast<cairn::sim::service::Focus>(std::min(4ul, std::strtoul(value, nullptr, 10)));
    } else if (flag == "--canary") {
      canary = value;
      const std::vector<Canary> known = Canaries(options.service);
      if (std::none_of(known.begin(), known.end(), [&canary](const Canary& each) { return canary == each.rule; })) {
        std::fprintf(stderr, "there is no rule \"%s\"; --list prints their names\n", value);
        return 2;
      }
    } else {
      return Usage();
    }
  }
  if (!canary.empty()) return RunCanary(options, canary, from, count == 0 ? 1000 : count);
  if (count == 0 && days <= 0) return RunOne(options);
  return RunMany(options, from, count, days);
}
