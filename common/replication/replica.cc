#include "common/replication/replica.h"

#include <algorithm>
#include <limits>
#include <utility>

namespace cairn::replication {
namespace {

Verdict Apply(ReplicaState next) { return {Action::kApply, std::move(next), Status::Ok()}; }
Verdict Duplicate(const ReplicaState& state) { return {Action::kDuplicate, state, Status::Ok()}; }
Verdict Refuse(StatusCode code, std::string message) {
  return {Action::kRefuse, {}, Status(code, std::move(message))};
}

Verdict RefuseFenced(const ReplicaState& state, Epoch epoch) {
  return Refuse(StatusCode::kFenced, "epoch " + ToString(epoch) + " is below the promise of epoch " +
                                         ToString(state.promised) + " (accepted " + ToString(state.accepted) +
                                         ")");
}

// Raising the promise ends what was going on under the lower one: a sync whose source may no longer be right,
// and a delete that was aborted.
void RaisePromise(ReplicaState& state, Epoch epoch) {
  if (epoch <= state.promised) return;
  state.promised = epoch;
  state.sync_base.reset();
  if (state.tombstone < epoch) state.tombstone = Epoch{};
}

// What a begin or a mutation that leads to `result` meets when a sync is running. The replica's own stamps
// say nothing about what the shadow will contain, so anything the shadow may already contain is refused.
bool BlockedBySync(const ReplicaState& state, Stamp result, const Rules& rules) {
  return state.sync_base.has_value() && result <= *state.sync_base && rules.Hold(Rule::kSyncPinned);
}

Status CheckRange(const Mutation& mutation) {
  if (mutation.offset > std::numeric_limits<uint64_t>::max() - mutation.length) {
    return {StatusCode::kInvalidArgument, "range at " + std::to_string(mutation.offset) + " of " +
                                              std::to_string(mutation.length) + " bytes overflows"};
  }
  return Status::Ok();
}

uint64_t LengthAfter(uint64_t length, const Mutation& mutation) {
  switch (mutation.kind) {
    case MutationKind::kWrite:
      return mutation.length == 0 ? length : std::max(length, mutation.offset + mutation.length);
    case MutationKind::kTruncate:
      return mutation.offset;
    case MutationKind::kZero:
      return length;
  }
  return length;
}

// What every change of epoch `epoch` meets before its own rules: promise, seal, tombstone.
std::optional<Verdict> RefuseClosedEpoch(const ReplicaState& state, Epoch epoch, const Rules& rules) {
  if (epoch == Epoch{}) return Refuse(StatusCode::kInvalidArgument, "epoch 0 is not an epoch");
  if (state.tombstone && epoch <= state.tombstone) {
    return Refuse(StatusCode::kDeleted,
                  "a tombstone of epoch " + ToString(state.tombstone) + " refuses epoch " + ToString(epoch));
  }
  if (epoch < state.promised && rules.Hold(Rule::kEpochFence)) return RefuseFenced(state, epoch);
  if (epoch <= state.sealed && rules.Hold(Rule::kSealedIsClosed)) {
    return Refuse(StatusCode::kFenced, "epoch " + ToString(epoch) + " was sealed (sealed up to epoch " +
                                           ToString(state.sealed) + " at " + ToString(state.accepted) + ")");
  }
  return std::nullopt;
}

}  // namespace

Verdict CheckBegin(const ReplicaState& state, Epoch epoch, Stamp base, const Rules& rules) {
  if (auto refusal = RefuseClosedEpoch(state, epoch, rules)) return *refusal;
  if (base.epoch >= epoch) {
    return Refuse(StatusCode::kInvalidArgument,
                  "base " + ToString(base) + " is not below epoch " + ToString(epoch));
  }
  if (state.accepted.epoch == epoch && state.accepted.seq >= base.seq) return Duplicate(state);
  if (state.accepted != base && rules.Hold(Rule::kBeginChecksBase)) {
    return Refuse(StatusCode::kStaleReplica, "begin of epoch " + ToString(epoch) + " on " + ToString(base) +
                                                 " refused: this replica is at " + ToString(state.accepted));
  }
  const Stamp result{epoch, base.seq};
  if (BlockedBySync(state, result, rules)) {
    return Refuse(StatusCode::kStaleReplica, "begin at " + ToString(result) + " refused: a sync to " +
                                                 ToString(*state.sync_base) + " is running");
  }
  ReplicaState next = state;
  RaisePromise(next, epoch);
  next.accepted = result;
  next.sync_base.reset();
  return Apply(std::move(next));
}

Verdict CheckMutation(const ReplicaState& state, const Mutation& mutation, const Rules& rules) {
  if (Status range = CheckRange(mutation); !range.ok()) {
    return {Action::kRefuse, {}, std::move(range)};
  }
  if (mutation.begin && mutation.seq <= mutation.begin->seq) {
    return Refuse(StatusCode::kInvalidArgument, "mutation " + std::to_string(mutation.seq) +
                                                    " cannot begin on " + ToString(*mutation.begin));
  }
  if (auto refusal = RefuseClosedEpoch(state, mutation.epoch, rules)) return *refusal;
  ReplicaState next = state;
  if (mutation.begin && state.accepted.epoch != mutation.epoch) {
    Verdict begun = CheckBegin(state, mutation.epoch, *mutation.begin, rules);
    if (begun.action == Action::kRefuse) return begun;
    next = std::move(begun.next);
  }
  if (next.accepted.epoch != mutation.epoch) {
    return Refuse(StatusCode::kStaleReplica, "epoch " + ToString(mutation.epoch) +
                                                 " is not open here: this replica is at " +
                                                 ToString(next.accepted));
  }
  if (mutation.seq <= next.accepted.seq && rules.Hold(Rule::kDuplicateIsHarmless)) return Duplicate(state);
  if (mutation.seq > next.accepted.seq + 1 && rules.Hold(Rule::kNoGaps)) {
    return Refuse(StatusCode::kSequenceGap, "mutation " + std::to_string(mutation.seq) +
                                                " is not the next one after " + ToString(next.accepted));
  }
  const Stamp result{mutation.epoch, mutation.seq};
  if (BlockedBySync(next, result, rules)) {
    return Refuse(StatusCode::kStaleReplica, "mutation " + ToString(result) + " refused: a sync to " +
                                                 ToString(*next.sync_base) + " is running");
  }
  RaisePromise(next, mutation.epoch);
  next.accepted = result;
  if (rules.Hold(Rule::kSyncPinned)) next.sync_base.reset();
  next.length = LengthAfter(next.length, mutation);
  return Apply(std::move(next));
}

Verdict CheckFence(const ReplicaState& state, Epoch epoch, const Rules& rules) {
  if (epoch == Epoch{}) return Refuse(StatusCode::kInvalidArgument, "epoch 0 is not an epoch");
  if (epoch < state.promised && rules.Hold(Rule::kEpochFence)) return RefuseFenced(state, epoch);
  if (epoch <= state.promised) return Duplicate(state);
  ReplicaState next = state;
  RaisePromise(next, epoch);
  return Apply(std::move(next));
}

Verdict CheckSeal(const ReplicaState& state, Stamp stamp, const Rules& rules) {
  if (stamp.epoch == Epoch{}) return Refuse(StatusCode::kInvalidArgument, "epoch 0 is not an epoch");
  if (stamp.epoch < state.promised && rules.Hold(Rule::kEpochFence)) return RefuseFenced(state, stamp.epoch);
  if (state.accepted != stamp) {
    return Refuse(StatusCode::kStaleReplica,
                  "seal at " + ToString(stamp) + " refused: this replica is at " + ToString(state.accepted));
  }
  if (state.sealed >= stamp.epoch) return Duplicate(state);
  ReplicaState next = state;
  next.sealed = stamp.epoch;
  return Apply(std::move(next));
}

Verdict CheckPrepareDelete(const ReplicaState& state, Epoch epoch, const Rules& rules) {
  if (epoch == Epoch{}) return Refuse(StatusCode::kInvalidArgument, "epoch 0 is not an epoch");
  if (state.tombstone == epoch && epoch == state.promised) return Duplicate(state);
  // Equality is refused too: the epoch must be fresh, or a writer or an abort could share it.
  if (epoch <= state.promised && rules.Hold(Rule::kEpochFence)) return RefuseFenced(state, epoch);
  ReplicaState next = state;
  RaisePromise(next, epoch);
  if (rules.Hold(Rule::kTombstoneKept)) next.tombstone = epoch;
  return Apply(std::move(next));
}

Verdict CheckAbortDelete(const ReplicaState& state, Epoch epoch, const Rules& rules) {
  if (epoch == Epoch{}) return Refuse(StatusCode::kInvalidArgument, "epoch 0 is not an epoch");
  if (epoch < state.promised && rules.Hold(Rule::kEpochFence)) return RefuseFenced(state, epoch);
  if (state.tombstone && epoch <= state.tombstone) {
    return Refuse(StatusCode::kFenced, "abort in epoch " + ToString(epoch) +
                                           " is not above the tombstone of epoch " +
                                           ToString(state.tombstone));
  }
  if (epoch <= state.promised) return Duplicate(state);
  ReplicaState next = state;
  if (rules.Hold(Rule::kAbortFences)) {
    RaisePromise(next, epoch);
  } else {
    next.tombstone = Epoch{};
  }
  return Apply(std::move(next));
}

Verdict CheckErase(const ReplicaState& state, Epoch epoch, const Rules& rules) {
  if (epoch < state.promised && rules.Hold(Rule::kEraseNamesEpoch)) return RefuseFenced(state, epoch);
  return Apply(AbsentReplica());
}

Verdict CheckSyncStart(const ReplicaState& state, Epoch epoch, Stamp base, const Rules& rules) {
  if (epoch == Epoch{} || epoch < base.epoch) {
    return Refuse(StatusCode::kInvalidArgument,
                  "a sync to " + ToString(base) + " cannot run in epoch " + ToString(epoch));
  }
  if (state.tombstone && epoch <= state.tombstone) {
    return Refuse(StatusCode::kDeleted, "a tombstone of epoch " + ToString(state.tombstone) +
                                            " refuses a sync in epoch " + ToString(epoch));
  }
  if (epoch < state.promised && rules.Hold(Rule::kEpochFence)) return RefuseFenced(state, epoch);
  if (state.accepted > base && rules.Hold(Rule::kSyncGoesForward)) {
    return Refuse(
        StatusCode::kStaleReplica,
        "a sync to " + ToString(base) + " would move this replica back from " + ToString(state.accepted));
  }
  ReplicaState next = state;
  RaisePromise(next, epoch);
  next.sync_base = base;
  return Apply(std::move(next));
}

Verdict CheckSyncFinish(const ReplicaState& state, Stamp base, uint64_t length, const Rules& rules) {
  if (rules.Hold(Rule::kSyncPinned) && (!state.sync_base || *state.sync_base != base)) {
    return Refuse(
        StatusCode::kFailedPrecondition,
        "the sync to " + ToString(base) + " was overtaken: " +
            (state.sync_base ? "a sync to " + ToString(*state.sync_base) + " is running"
                             : "the replica is at " + ToString(state.accepted) + " without a sync"));
  }
  ReplicaState next = state;
  next.accepted = base;
  next.length = length;
  next.sync_base.reset();
  return Apply(std::move(next));
}

Status CheckRead(const ReplicaState& state, Stamp want, bool exact, const Rules& rules) {
  const bool matches =
      exact ? state.accepted == want : state.accepted.epoch == want.epoch && state.accepted.seq >= want.seq;
  if (matches || !rules.Hold(Rule::kReadNamesStamp)) return Status::Ok();
  return {StatusCode::kStaleReplica, "read at " + std::string(exact ? "exactly " : "or after ") +
                                         ToString(want) + " refused: this replica is at " +
                                         ToString(state.accepted)};
}

}  // namespace cairn::replication
