// The acceptance rules of one replica of one chunk, as a pure function of its recorded state.
//
// The store asks a Check function, and if the verdict is kApply it performs the I/O and then installs the
// returned next state together with the data, in one atomic step. Nothing else in the chunkserver decides
// whether a change is accepted; the simulator drives the very same functions.
//
//   Verdict v = CheckMutation(state, mutation);
//   v.action == kApply:     append the data, then state = v.next
//   v.action == kDuplicate: answer success with the present stamps, change nothing
//   v.action == kRefuse:    answer v.status, change nothing
//
// A chunk of which the server holds nothing has the state `AbsentReplica(floor of the disk)`: the epoch floor
// of an amnesic disk binds absent replicas too, because what the disk forgot may be a promise. CheckBegin,
// CheckMutation (with begin), CheckFence, CheckPrepareDelete, CheckAbortDelete and CheckSyncStart are
// answered from that state, and when they say kApply the next state must be *recorded*, also if the replica
// then holds no bytes: a promise that is not recorded is not a promise. kUnknownChunk is the answer of Query
// and Read only.
//
// The `rules` parameter exists for the simulator's canaries; production leaves it out.
//
// Thread-safety: pure functions over values.
#pragma once

#include <optional>

#include "common/replication/rules.h"
#include "common/replication/types.h"

namespace cairn::replication {

// The protocol state of a replica. Persisted with the chunk (docs/formats.md).
struct ReplicaState {
  Epoch promised;
  Stamp accepted;
  uint64_t length = 0;  // bytes
  Epoch sealed;
  Epoch tombstone;
  // Set while a sync builds a shadow: mutations and begins that do not go beyond this stamp are refused. One
  // that does go beyond it, and any higher promise, takes the pin away: that sync must not finish.
  std::optional<Stamp> sync_base;
  bool operator==(const ReplicaState&) const = default;
};

enum class Action : uint8_t { kApply, kDuplicate, kRefuse };

struct Verdict {
  Action action = Action::kRefuse;
  ReplicaState next;  // valid for kApply
  Status status;      // not ok for kRefuse; says what was expected and what was found
};

// The state of a chunk of which this server holds nothing. `floor` is the epoch floor of the disk, 0 without
// one.
inline ReplicaState AbsentReplica(Epoch floor = Epoch{}) { return ReplicaState{.promised = floor}; }

// Opens epoch `epoch` if the accepted stamp equals `base` and `epoch` is not below the promise. On a replica
// that has nothing only base {0,0} matches. A begin of a higher epoch aborts a tombstone. kDuplicate when the
// epoch is already open here. Refusals: kFenced, kDeleted, kStaleReplica (the accepted stamp is not the base,
// or a sync is running), kInvalidArgument (epoch 0, or a base that is not below the epoch).
Verdict CheckBegin(const ReplicaState& state, Epoch epoch, Stamp base, const Rules& rules = {});

// A write, truncation or zeroing; evaluates its `begin` first when present. Refusals: kFenced (epoch below
// the promise or sealed), kStaleReplica (another epoch is open, begin needed or base differs, or a sync is
// running), kSequenceGap, kDeleted, kInvalidArgument (offset + length overflows).
Verdict CheckMutation(const ReplicaState& state, const Mutation& mutation, const Rules& rules = {});

// Promise not to accept anything below `epoch`. Moves no stamp; ends a running sync and takes back a
// tombstone of a lower epoch. kDuplicate at the present promise, refused (kFenced) below it.
Verdict CheckFence(const ReplicaState& state, Epoch epoch, const Rules& rules = {});

// Close epoch `stamp.epoch` at exactly `stamp`: refused unless the accepted stamp equals it (kStaleReplica),
// and once a higher epoch was promised (kFenced: recovery decides). Mutations of that epoch are refused
// afterwards.
Verdict CheckSeal(const ReplicaState& state, Stamp stamp, const Rules& rules = {});

// Record a tombstone in the fresh epoch `epoch`: above every epoch that this replica has promised or
// accepted, otherwise kFenced. Bytes stay, count and vote. Also valid on a replica that has nothing.
Verdict CheckPrepareDelete(const ReplicaState& state, Epoch epoch, const Rules& rules = {});
// A fence above the tombstone: takes the tombstone back, and fences the prepare if that arrives later.
Verdict CheckAbortDelete(const ReplicaState& state, Epoch epoch, const Rules& rules = {});
// Physical removal, ordered by the master under the epoch whose configuration excludes this server (or under
// the epoch of the committed delete). Refused (kFenced) when a higher promise was given. next is the absent
// state.
Verdict CheckErase(const ReplicaState& state, Epoch epoch, const Rules& rules = {});

// Start of a sync to `base` under `epoch` (at or above base.epoch): promises `epoch`, and from now on
// mutations and begins that do not go beyond `base` are refused. A sync never moves a replica back: refused
// with kStaleReplica when the accepted stamp is beyond `base`; base == accepted is allowed (it replaces
// damaged blocks). Starting again, also to another base, moves the pin. Takes back a tombstone of a lower
// epoch.
Verdict CheckSyncStart(const ReplicaState& state, Epoch epoch, Stamp base, const Rules& rules = {});
// Installs the shadow: accepted becomes `base`, length becomes `length`. Refused (kFailedPrecondition) when
// the pin is gone or changed: a newer sync, a mutation or a higher promise took over.
Verdict CheckSyncFinish(const ReplicaState& state, Stamp base, uint64_t length, const Rules& rules = {});

// May a reader that wants `want` be answered? exact: accepted == want. Otherwise: same epoch and seq at least
// want.seq. kStaleReplica when not.
Status CheckRead(const ReplicaState& state, Stamp want, bool exact, const Rules& rules = {});

}  // namespace cairn::replication
