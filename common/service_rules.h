// The rules of sessions, leases and the master's log by name, so that the simulator of the whole service can break
// exactly one and prove that it is needed (tests/sim/service/). As replication/rules.h is for single chunks.
//
// Production never names this type: options carry a `ServiceRules` whose default is "all rules hold".
// docs/protocol.md says for each rule what happens without it.
//
// Thread-safety: values.
#pragma once

#include <cstdint>

namespace cairn {

enum class ServiceRule : uint8_t {
  kNone,
  // Client: how long leases may be used, and what a lease that ends takes along.
  kCountFromSending,       // a term is counted from sending the renewal, not from its answer (lease_term.h)
  kLeaseMargin,            // the client ends its term early, the master ends it late: clocks differ
  kRecallDropsCache,       // what was cached under a lease goes with it (lease_cache.cc)
  kReturnedStaysReturned,  // a lease that was given back does not come to life with a late reply (lease_cache.cc)
  kForgetfulMasterEndsReads,  // a master that forgot what it had answered ends what was cached (lease_cache.cc, session_messages.cc)
  // Master: to whom leases are given, and when.
  kRecallBeforeGrant,   // nobody gets what others hold before they gave it back (core_effects.cc)
  kTermRunsOut,         // a holder that does not answer keeps its leases until its term is over (core_effects.cc)
  kEvictedIsNotRenewed, // a holder that did not answer a recall is not renewed any more (session_messages.cc)
  kGracePeriod,         // a new master gives nothing away while sessions may still hold leases (session_registry.cc)
  // Master: what may be said before it is on disk.
  kIdsReservedDurably,       // ids and epochs come from ranges reserved on disk before their first use (core.cc)
  kTailKept,                 // clients keep what is not on the master's disk yet (log_tail.cc)
  kTailWaitsForAll,          // the log's end is applied in its order, when all clients brought it (core.cc)
  kEraseAfterDurableDelete,  // bytes go when their delete is on disk and its grace time is over (erasure.cc)
  kActivationDurable,        // a configuration is told to nobody before it is on disk (reconfigure_op.cc)
};

struct ServiceRules {
  ServiceRule broken = ServiceRule::kNone;
  constexpr bool Hold(ServiceRule rule) const { return broken != rule; }
};

}  // namespace cairn
