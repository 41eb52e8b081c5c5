// The rules of the protocol by name, so that the simulator can break exactly one and prove that it is needed.
//
// Production never names this type: every core takes a `Rules` whose default is "all rules hold". A canary
// test passes `Rules{.broken = Rule::k...}` and the simulator's checkers must then see a promise broken
// (tests/sim/canary_test.cc). docs/protocol.md says for each rule which interleaving it closes.
//
// Thread-safety: values.
#pragma once

#include <cstdint>

namespace cairn::replication {

enum class Rule : uint8_t {
  kNone,
  // Replica (replica.h).
  kEpochFence,       // nothing below the promised epoch is accepted
  kBeginChecksBase,  // begin opens an epoch only on exactly its base
  kNoGaps,           // only the next mutation is applied
  kSealedIsClosed,   // a sealed epoch takes no more mutations
  kSyncPinned,       // a running sync refuses older mutations; it finishes only under its own pin
  kTombstoneKept,    // a confirmed prepare-delete is recorded
  kAbortFences,      // an abort fences prepare-deletes that arrive late
  kEraseNamesEpoch,  // a destructive command is refused by a replica with a higher promise
  kReadNamesStamp,   // a read is answered only from the stamp that was asked for
  kDuplicateIsHarmless,  // a mutation that was applied already is confirmed and changes nothing
  kSyncGoesForward,      // a sync never moves a replica back
  // Writer (writer.h).
  kAckAtQuorum,      // a mutation is done at W, not before
  kLaggardStaysOut,  // a dropped member does not come back into its epoch
  kFsyncAtQuorum,    // a mutation is durable with W durable stamps, not before
  // Recovery (recovery.h).
  kFenceQuorum,         // a base is chosen from at least R members of the old configuration
  kHighestStamp,        // the highest accepted stamp becomes the base
  kAmnesiaDoesNotVote,  // an amnesic answer does not count towards R
  kNeverBelowRecord,    // the base is never below the recorded durable stamp, and below the seal only after a
                        // loss at W
  kOldConfigGoverns,    // R is that of the last activated configuration, not of the one that shall come
  kMoveKeepsCopies,     // a move is activated when every copy that stays is there
  kActivateAtQuorum,    // a configuration is activated with at least W members at base
  // Deletion (deletion.h).
  kDeleteAtQuorum,  // a delete may be committed with W tombstones of every chunk, not before
};

struct Rules {
  Rule broken = Rule::kNone;
  constexpr bool Hold(Rule rule) const { return broken != rule; }
};

}  // namespace cairn::replication
