// Quorum arithmetic (DESIGN section 10). N replicas, write quorum W, read (recovery) quorum R = N - W + 1:
// every set of R members meets every set of W members, so whoever hears R of them hears of everything that W
// of them confirmed.
//
//   N  majority  R at majority      N  W  R
//   1     1         1               3  1  3   fast writes, recovery needs everybody
//   2     2         1               3  2  2
//   3     2         2               3  3  1   slow writes, recovery needs anybody
//   4     3         2
//   5     3         3
//
// Thread-safety: pure functions.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "common/replication/types.h"

namespace cairn::replication {

inline constexpr uint32_t kMaxReplicas = 64;

// floor(n / 2) + 1.
constexpr uint32_t Majority(uint32_t n) { return n / 2 + 1; }

// N - W + 1. Precondition: 1 <= write_quorum <= n.
constexpr uint32_t ReadQuorum(uint32_t n, uint32_t write_quorum) { return n - write_quorum + 1; }

// kInvalidArgument unless 1 <= N <= kMaxReplicas and 1 <= W <= N; the message names the numbers.
Status ValidatePolicy(uint32_t replicas, uint32_t write_quorum);

// ValidatePolicy for N and W, no member twice, none zero, epoch not 0, base below the epoch.
Status ValidateConfiguration(const Configuration& config);

inline uint32_t ReplicaCount(const Configuration& config) {
  return static_cast<uint32_t>(config.members.size());
}
inline uint32_t ReadQuorum(const Configuration& config) {
  return ReadQuorum(ReplicaCount(config), config.write_quorum);
}
bool IsMember(const Configuration& config, ServerId server);

// The highest value that at least `quorum` of `values` have reached: what is done when each member
// acknowledged up to its value. The type's default when there are fewer than `quorum` values. Precondition:
// quorum >= 1.
uint64_t ReachedByQuorum(std::vector<uint64_t> values, uint32_t quorum);
Stamp ReachedByQuorum(std::vector<Stamp> values, uint32_t quorum);

// "cs3 (timeout: no answer in 2.0 s), cs5 (no_space: disk full)"; for the error messages that name who did
// not confirm.
struct MemberProblem {
  ServerId server;
  Status status;
};
std::string DescribeProblems(std::span<const MemberProblem> problems);

}  // namespace cairn::replication
