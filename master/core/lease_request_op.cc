#include "master/cluster/repair_manager.h"
#include "master/core/request_op.h"
#include "master/state/chunk_queries.h"
#include "master/state/queries.h"

namespace cairn::master {
namespace {

constexpr int64_t kReservedPollNanos = 20 * kNanosPerMilli;

LeaseMode ModeOf(proto::LeaseMode mode) {
  return mode == proto::LEASE_WRITE  ? LeaseMode::kWrite
         : mode == proto::LEASE_READ ? LeaseMode::kRead
                                     : LeaseMode::kNone;
}

}  // namespace

Progress LeaseRequestOp::Try(Core& core) {
  const proto::LeaseOp& op = request_.lease();
  const InodeId inode(op.inode());
  const LeaseMode mode = ModeOf(op.mode());
  if (mode == LeaseMode::kNone) {
    return Fail(core, Status(StatusCode::kInvalidArgument, "a lease is asked for with mode read or write"));
  }
  if (!InodeExists(core.txn(), inode)) {
    return Fail(core, Status(StatusCode::kStaleHandle, "inode " + ToString(inode) + " is gone"));
  }
  const HeldLease* held = core.leases().Find(inode, session);
  const bool has_it = held != nullptr && held->mode >= mode && !held->recalled;
  if (!has_it) {
    if (core.sessions().InGrace(core.now())) {
      core.WaitForGrace(id);
      return Progress::kWaiting;
    }
    Status failure;
    if (!Available(core, inode, &failure)) {
      return failure.ok() ? Progress::kWaiting : Fail(core, failure);
    }
    if (mode == LeaseMode::kWrite && core.repair().Reserved(inode)) {
      WakeAfter(core, kReservedPollNanos);
      return Progress::kWaiting;
    }
    if (core.inodes().HasOlderWaiter(inode, id)) {
      core.inodes().Wait(inode, id);
      return Progress::kWaiting;
    }
    const LeaseMode leave = mode == LeaseMode::kWrite ? LeaseMode::kNone : LeaseMode::kRead;
    if (!core.OthersAtMost(inode, session, leave, false, id)) return Progress::kWaiting;
    if (held != nullptr && held->mode == LeaseMode::kWrite && held->recalled) {
      // It is giving this very lease back; what it asks for now comes after that.
      core.inodes().Wait(inode, id);
      return Progress::kWaiting;
    }
  }
  if (mode == LeaseMode::kWrite) return GrantWrite(core, inode);
  if (!has_it) {
    core.SendRecalls(
        core.leases().Grant(inode, session, LeaseMode::kRead, core.ids().NextEpoch(), core.now()));
  }
  return Answer(core, inode);
}

Progress LeaseRequestOp::GrantWrite(Core& core, InodeId inode) {
  const proto::LeaseOp& op = request_.lease();
  const Status allowed = core.MutationsAllowed();
  if (!allowed.ok()) return Fail(core, allowed);
  proto::LogCommand truncate;
  const bool truncating = op.truncate_to_zero() && !truncated_;
  if (truncating) {
    truncate.set_session(session.value());
    *truncate.mutable_credentials() = request_.credentials();
    truncate.mutable_set_attr()->set_inode(inode.value());
    truncate.mutable_set_attr()->set_size(0);
    truncate.mutable_set_attr()->set_mtime_now(true);
    ApplyResult preview = core.Preview(truncate);  // permission first, so that a refusal grants nothing
    if (!preview.ok()) return Reply(core, std::move(preview.reply));
  }
  // The size changes under the write lease only, and what is announced is announced of the file as it is then.
  const HeldLease* held = core.leases().Find(inode, session);
  const bool has_it = held != nullptr && held->mode == LeaseMode::kWrite;
  if (!has_it) {
    const Status room = core.RoomForWriteLease(session);
    if (!room.ok()) return Fail(core, room);
    proto::LogCommand command;
    auto* grant = command.mutable_grant_write_lease();
    grant->set_inode(inode.value());
    grant->set_session(session.value());
    grant->set_first(op.first());
    grant->set_count(truncating ? 0 : op.count());
    if (const auto stopped = ApplyPlaced(core, inode, std::move(command))) return *stopped;
  }
  if (truncating) {
    truncate.set_new_epoch(core.ids().NextEpoch().value());
    ApplyResult result = core.Apply(truncate);
    if (!result.ok()) return Reply(core, std::move(result.reply));
    truncated_ = true;
  }
  // Who has the lease announces by itself: it knows what it has sealed meanwhile.
  if (truncating && op.count() > 0) {
    proto::LogCommand command;
    auto* announce = command.mutable_announce();
    announce->set_inode(inode.value());
    announce->set_lease(core.leases().Find(inode, session)->number.value());
    announce->set_first(op.first());
    announce->set_count(op.count());
    if (const auto stopped = ApplyPlaced(core, inode, std::move(command))) return *stopped;
  }
  return Answer(core, inode);
}

std::optional<Progress> LeaseRequestOp::ApplyPlaced(Core& core, InodeId inode, proto::LogCommand command) {
  command.set_session(session.value());
  *command.mutable_credentials() = request_.credentials();
  command.set_new_epoch(core.ids().NextEpoch().value());
  ApplyResult preview = core.Preview(command);
  if (command.has_grant_write_lease() && command.grant_write_lease().count() > 0) {
    // What is announced with a lease is to save a round trip. Where it cannot be done now (the chunk is damaged or being moved, too
    // few servers are up) the holder announces by itself, and waits or hears why then.
    if (preview.ok() && AddPlacements(core, preview.effects, inode, &command).ok()) {
      ApplyResult result = core.Apply(command);
      if (!result.ok()) return Reply(core, std::move(result.reply));
      return std::nullopt;
    }
    command.mutable_grant_write_lease()->set_count(0);
    command.clear_placements();
    preview = core.Preview(command);
  }
  if (WaitsForProcedure(core, preview.reply)) return Progress::kWaiting;
  if (!preview.ok()) return Reply(core, std::move(preview.reply));
  const Status placed = AddPlacements(core, preview.effects, inode, &command);
  if (!placed.ok()) return WaitsForServers(core, placed) ? Progress::kWaiting : Fail(core, placed);
  ApplyResult result = core.Apply(command);
  if (!result.ok()) return Reply(core, std::move(result.reply));
  return std::nullopt;
}

Progress LeaseRequestOp::Answer(Core& core, InodeId inode) {
  const proto::LeaseOp& op = request_.lease();
  proto::Reply reply;
  const HeldLease* held = core.leases().Find(inode, session);
  if (held != nullptr) {
    proto::Lease* lease = reply.add_leases();
    lease->set_inode(inode.value());
    lease->set_mode(static_cast<proto::LeaseMode>(held->mode));
    lease->set_number(held->number.value());
  }
  proto::LayoutOp wanted;
  wanted.set_inode(inode.value());
  wanted.set_first(op.first());
  wanted.set_count(op.count());
  auto layout = Layout(core.txn(), wanted);
  if (layout.ok()) {
    *reply.mutable_layout() = *std::move(layout);
  } else {  // a directory has attributes only
    auto attributes = Attributes(core.txn(), inode);
    if (!attributes.ok()) return Fail(core, attributes.status());
    *reply.mutable_layout()->mutable_attr() = *std::move(attributes);
  }
  reply.set_log_index(core.log_index());
  core.WakeInode(inode);
  return Reply(core, std::move(reply));
}

}  // namespace cairn::master
