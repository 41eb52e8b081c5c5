#include "common/replication/quorum.h"

#include <algorithm>
#include <functional>

#include "common/check.h"

namespace cairn::replication {
namespace {

template <typename T>
T ReachedBy(std::vector<T> values, uint32_t quorum) {
  CAIRN_CHECK(quorum >= 1, "a quorum of nobody confirms everything");
  if (values.size() < quorum) return T{};
  std::nth_element(values.begin(), values.begin() + (quorum - 1), values.end(), std::greater<T>());
  return values[quorum - 1];
}

}  // namespace

Status ValidatePolicy(uint32_t replicas, uint32_t write_quorum) {
  if (replicas < 1 || replicas > kMaxReplicas) {
    return {StatusCode::kInvalidArgument, "replicas must be between 1 and " + std::to_string(kMaxReplicas) +
                                              ", not " + std::to_string(replicas)};
  }
  if (write_quorum < 1 || write_quorum > replicas) {
    return {StatusCode::kInvalidArgument, "the write quorum must be between 1 and the number of replicas (" +
                                              std::to_string(replicas) + "), not " +
                                              std::to_string(write_quorum)};
  }
  return Status::Ok();
}

Status ValidateConfiguration(const Configuration& config) {
  CAIRN_RETURN_IF_ERROR(ValidatePolicy(ReplicaCount(config), config.write_quorum));
  if (config.epoch == Epoch{}) return {StatusCode::kInvalidArgument, "a configuration needs an epoch"};
  if (config.base.epoch >= config.epoch) {
    return {StatusCode::kInvalidArgument,
            "base " + ToString(config.base) + " is not below epoch " + ToString(config.epoch)};
  }
  std::vector<ServerId> members = config.members;
  std::sort(members.begin(), members.end());
  if (members.front() == ServerId{}) return {StatusCode::kInvalidArgument, "server 0 cannot be a member"};
  if (std::adjacent_find(members.begin(), members.end()) != members.end()) {
    return {StatusCode::kInvalidArgument, "a server is listed twice as a member"};
  }
  return Status::Ok();
}

bool IsMember(const Configuration& config, ServerId server) {
  return std::find(config.members.begin(), config.members.end(), server) != config.members.end();
}

uint64_t ReachedByQuorum(std::vector<uint64_t> values, uint32_t quorum) {
  return ReachedBy(std::move(values), quorum);
}
Stamp ReachedByQuorum(std::vector<Stamp> values, uint32_t quorum) {
  return ReachedBy(std::move(values), quorum);
}

std::string DescribeProblems(std::span<const MemberProblem> problems) {
  std::string text;
  for (const MemberProblem& problem : problems) {
    if (!text.empty()) text += ", ";
    text += ToString(problem.server) + " (" + problem.status.ToString() + ")";
  }
  return text;
}

}  // namespace cairn::replication
