// What was asked of rebalancing (proto/cairn/state.proto).
#include "master/state/ops/ops.h"

namespace cairn::master {

Status ApplySetRebalance(Context& c, const proto::SetRebalanceCmd& op) {
  Save(&c.txn(), Family::kMeta, keys::kRebalance, op.record());
  return Status::Ok();
}

}  // namespace cairn::master
