// The arithmetic of replicas and quorums (DESIGN section 10): availability and the chance of loss of each N
// and W, from assumptions that are printed with the result. Thread-safety: pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace cairn::cli {

struct PlanAssumptions {
  uint32_t servers = 3;
  double failures_per_server_year = 1;  // that lose its data
  double downs_per_server_year = 12;    // that only make it unreachable
  double down_hours = 0.5;
  double repair_hours = 1;  // until everything a lost server had is copied elsewhere
  uint32_t scatter_width = 0;  // copysets: each server shares chunks with so many others; 0: with all
};

struct PlanLine {
  uint32_t replicas = 0;
  uint32_t write_quorum = 0;
  double write_availability = 0;  // at least W of N reachable
  double read_availability = 0;   // recovery: at least R = N - W + 1 reachable
  double loss_per_year = 0;       // chance that some chunk loses all its copies within a year
  uint32_t survives = 0;          // losses at the same moment that never lose acknowledged data: W - 1
  double sets = 0;                // different sets of N servers that hold all copies of some chunk
  double loss_at_once = 0;        // chance that N servers lost at the same moment are such a set
};

// At least k of n independent ones, each available with probability p.
double AtLeast(uint32_t k, uint32_t n, double p);
// How many different sets of N servers hold all copies of some chunk: all of them when chunks are placed at random (and are many),
// otherwise each of the P = ceil(scatter width / (N - 1)) orders of the servers is cut into n/N sets (master/cluster/copysets.h).
double CopysetCount(uint32_t servers, uint32_t replicas, uint32_t scatter_width);
PlanLine PlanFor(uint32_t replicas, uint32_t write_quorum, const PlanAssumptions& assumptions);
std::vector<PlanLine> PlanAll(const PlanAssumptions& assumptions);

}  // namespace cairn::cli
