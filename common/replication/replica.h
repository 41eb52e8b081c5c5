// The acceptance rules of one replica of one chunk, as a pure function of its recorded state.
//
// The store asks a Check function, and if the verdict is kApply it performs the I/O and then installs the returned next
// state together with the data, in one atomic step. Nothing else in the chunkserver decides whether a change is accepted;
// the simulator drives the very same functions.
//
//   Verdict v = CheckMutation(state, mutation);
//   v.action == kApply:     append the data, then state = v.next
//   v.action == kDuplicate: answer success with the present stamps, change nothing
//   v.action == kRefuse:    answer v.status, change nothing
//
// Thread-safety: pure functions over values.
#pragma once

#include <optional>

#include "common/replication/types.h"

namespace cairn::replication {

// The protocol state of a replica. Persisted with the chunk (docs/formats.md).
struct ReplicaState {
  Epoch promised;
  Stamp accepted;
  uint64_t length = 0;  // bytes
  Epoch sealed;
  Epoch tombstone;
  // Set while a sync builds a shadow: mutations and begins that do not go beyond this stamp are refused.
  std::optional<Stamp> sync_base;
  bool operator==(const ReplicaState&) const = default;
};

enum class Action : uint8_t { kApply, kDuplicate, kRefuse };

struct Verdict {
  Action action = Action::kRefuse;
  ReplicaState next;  // valid for kApply
  Status status;      // not ok for kRefuse; says what was expected and what was found
};

// Opens epoch `epoch` if the accepted stamp equals `base` and `epoch` is not below the promise. On a replica that has
// nothing (default state) only base {0,0} matches. A begin of a higher epoch aborts a tombstone.
Verdict CheckBegin(const ReplicaState& state, Epoch epoch, Stamp base);

// A write, truncation or zeroing; evaluates its `begin` first when present. Refusals: kFenced (epoch below the promise or
// sealed), kStaleReplica (another epoch is open, begin needed or base differs), kSequenceGap, kDeleted.
Verdict CheckMutation(const ReplicaState& state, const Mutation& mutation);

// Promise not to accept anything below `epoch`. Moves no stamp. Refused (kFenced) below the present promise.
Verdict CheckFence(const ReplicaState& state, Epoch epoch);

// Close epoch `stamp.epoch` at exactly `stamp`: refused unless the accepted stamp equals it. Mutations of that epoch are
// refused afterwards.
Verdict CheckSeal(const ReplicaState& state, Stamp stamp);

// Record a tombstone in the fresh epoch `epoch`. Bytes stay, count and vote. Also valid on a replica that has nothing.
Verdict CheckPrepareDelete(const ReplicaState& state, Epoch epoch);
// A fence above the tombstone: takes the tombstone back.
Verdict CheckAbortDelete(const ReplicaState& state, Epoch epoch);
// Physical removal, ordered by the master under the epoch whose configuration excludes this server (or under the epoch
// of the committed delete). Refused when a higher promise was given.
Verdict CheckErase(const ReplicaState& state, Epoch epoch);

// Start of a sync to `base` under `epoch`: from now on older mutations are refused. Finish installs the shadow: accepted
// becomes `base`, length becomes `length`. Finish is refused when the pin is gone or changed (a newer sync took over).
Verdict CheckSyncStart(const ReplicaState& state, Epoch epoch, Stamp base);
Verdict CheckSyncFinish(const ReplicaState& state, Stamp base, uint64_t length);

// May a reader that wants `want` be answered? exact: accepted == want. Otherwise: same epoch and seq at least want.seq.
Status CheckRead(const ReplicaState& state, Stamp want, bool exact);

}  // namespace cairn::replication
