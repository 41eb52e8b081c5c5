// Policies of directories.
#include <bit>
#include <string>

#include "master/state/ops/ops.h"
#include "master/state/permissions.h"
#include "master/state/queries.h"

namespace cairn::master {
namespace {

constexpr uint32_t kMaxScatterWidth = 1000;  // placing a chunk takes time in proportion to it

Status CheckPolicy(const proto::Policy& policy) {
  if (policy.replicas() > kMaxReplicas) {
    return {StatusCode::kInvalidArgument, "replicas is " + std::to_string(policy.replicas()) + ", at most " +
                                              std::to_string(kMaxReplicas) + " are possible"};
  }
  if (policy.replicas() != 0 && policy.write_quorum() > policy.replicas()) {
    return {StatusCode::kInvalidArgument, "a write quorum of " + std::to_string(policy.write_quorum()) +
                                              " does not fit " + std::to_string(policy.replicas()) +
                                              " replicas"};
  }
  const uint64_t bytes = policy.chunk_bytes();
  if (bytes != 0 && (!std::has_single_bit(bytes) || bytes < kMinChunkBytes || bytes > kMaxChunkBytes)) {
    return {StatusCode::kInvalidArgument, "chunk_bytes is " + std::to_string(bytes) +
                                              ": a power of two from " + std::to_string(kMinChunkBytes) +
                                              " to " + std::to_string(kMaxChunkBytes) + " is needed"};
  }
  if (policy.trash_seconds() > kMaxTrashSeconds) {
    return {StatusCode::kInvalidArgument,
            "deleted files are kept for at most " + std::to_string(kMaxTrashSeconds / 86400) + " days"};
  }
  if (policy.scatter_width() > kMaxScatterWidth) {
    return {StatusCode::kInvalidArgument, "scatter_width is " + std::to_string(policy.scatter_width()) +
                                              ", at most " + std::to_string(kMaxScatterWidth) + " is possible"};
  }
  const std::string& domain = policy.failure_domain();
  if (!domain.empty() && domain != "server" && domain != "rack" && domain != "zone") {
    return {StatusCode::kInvalidArgument, "failure domain '" + domain + "': server, rack or zone are known"};
  }
  return Status::Ok();
}

bool IsEmpty(const proto::Policy& policy) {
  return policy.replicas() == 0 && policy.write_quorum() == 0 && policy.chunk_bytes() == 0 &&
         policy.failure_domain().empty() && policy.storage_class().empty() && !policy.has_trash_seconds() && !policy.has_scatter_width();
}

}  // namespace

Status ApplySetPolicy(Context& c, const proto::SetPolicyOp& op) {
  const InodeId inode(op.inode());
  CAIRN_ASSIGN_OR_RETURN(proto::InodeRecord record, LoadDirectory(c.txn(), inode));
  if (!IsRoot(c.caller())) return {StatusCode::kNotPermitted, "only root sets policies"};
  CAIRN_RETURN_IF_ERROR(CheckPolicy(op.policy()));
  const std::string key = keys::Inode(inode);
  const bool had = c.txn().Get(Family::kPolicies, key).has_value();
  if (IsEmpty(op.policy())) {
    c.txn().Delete(Family::kPolicies, key);
    if (had) c.ChangeCounters(0, 0, 0, -1);
  } else {
    Save(&c.txn(), Family::kPolicies, key, op.policy());
    if (!had) c.ChangeCounters(0, 0, 0, +1);
  }
  // An own W without an own N has to fit the N inherited.
  CAIRN_ASSIGN_OR_RETURN(const proto::PolicyResult result, GetPolicy(c.txn(), inode));
  if (op.policy().write_quorum() > result.effective().replicas()) {
    return {StatusCode::kInvalidArgument,
            "a write quorum of " + std::to_string(op.policy().write_quorum()) + " does not fit the " +
                std::to_string(result.effective().replicas()) + " replicas inherited"};
  }
  c.Touch(&record);
  SaveInode(&c.txn(), inode, record);
  c.effects().inodes.push_back(inode);
  c.effects().policies_changed.push_back(inode);
  *c.reply().mutable_policy() = result;
  return Status::Ok();
}

}  // namespace cairn::master
