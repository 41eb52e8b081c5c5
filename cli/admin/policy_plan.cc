#include "cli/admin/policy_plan.h"

#include <algorithm>
#include <cmath>

namespace cairn::cli {
namespace {

constexpr double kHoursPerYear = 8766;
constexpr uint32_t kMostReplicas = 5;

double Choose(uint32_t n, uint32_t k) {
  double result = 1;
  for (uint32_t i = 0; i < k; ++i) result = result * (n - i) / (i + 1);
  return result;
}

}  // namespace

double AtLeast(uint32_t k, uint32_t n, double p) {
  double sum = 0;
  for (uint32_t i = k; i <= n; ++i) sum += Choose(n, i) * std::pow(p, i) * std::pow(1 - p, n - i);
  return sum;
}

double CopysetCount(uint32_t servers, uint32_t replicas, uint32_t scatter_width) {
  const double all = Choose(servers, replicas);
  if (scatter_width == 0 || replicas < 2 || servers < replicas) return all;
  const double orders = std::ceil(static_cast<double>(scatter_width) / (replicas - 1));
  return std::min(all, orders * std::ceil(static_cast<double>(servers) / replicas));
}

PlanLine PlanFor(uint32_t replicas, uint32_t write_quorum, const PlanAssumptions& a) {
  PlanLine line{.replicas = replicas, .write_quorum = write_quorum};
  const double down_share =
      (a.downs_per_server_year * a.down_hours + a.failures_per_server_year * a.repair_hours) / kHoursPerYear;
  const double p = 1 - std::min(1.0, down_share);
  line.write_availability = AtLeast(write_quorum, replicas, p);
  line.read_availability = AtLeast(replicas - write_quorum + 1, replicas, p);
  line.sets = CopysetCount(a.servers, replicas, a.scatter_width);
  line.loss_at_once = a.servers < replicas ? 1 : line.sets / Choose(a.servers, replicas);
  // N servers that fail at rate f each and are repaired in parallel within time r lose all copies at the rate
  // N f^N r^(N-1) (all orders in which the repairs overlap, r << 1/f). With many chunks placed at random
  // every set of N servers has chunks in common; with copysets only so many have. What a lost server had is then copied by the
  // servers that share chunks with it instead of by all.
  double repair_years = a.repair_hours / kHoursPerYear;
  if (a.scatter_width > 0 && a.servers > 1)
    repair_years *= std::max(1.0, static_cast<double>(a.servers - 1) / a.scatter_width);
  const double rate = line.sets * replicas *
                      std::pow(a.failures_per_server_year, replicas) * std::pow(repair_years, replicas - 1);
  line.loss_per_year = 1 - std::exp(-rate);
  line.survives = write_quorum - 1;
  return line;
}

std::vector<PlanLine> PlanAll(const PlanAssumptions& assumptions) {
  std::vector<PlanLine> lines;
  for (uint32_t replicas = 1; replicas <= std::min(kMostReplicas, assumptions.servers); ++replicas) {
    for (uint32_t quorum = 1; quorum <= replicas; ++quorum)
      lines.push_back(PlanFor(replicas, quorum, assumptions));
  }
  return lines;
}

}  // namespace cairn::cli
