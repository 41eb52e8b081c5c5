// The log of what the cluster did: numbered, bounded, as durable as the rest of the metadata.
#include "master/state/events.h"
#include "master/state/ops/ops.h"

namespace cairn::master {

Status ApplyRecordEvent(Context& c, const proto::RecordEventCmd& op) {
  EventRange range = EventRangeOf(c.txn());
  proto::EventRecord event = op.event();
  if (!event.has_when()) *event.mutable_when() = c.now();
  Save(&c.txn(), Family::kEvents, keys::Key(range.next), event);
  ++range.next;
  for (; range.next - range.first > kMaxEvents; ++range.first) {
    c.txn().Delete(Family::kEvents, keys::Key(range.first));
  }
  c.txn().Put(Family::kMeta, keys::kEventRange, keys::Key(range.first, range.next));
  return Status::Ok();
}

}  // namespace cairn::master
