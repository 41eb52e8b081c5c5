// The canaries: each rule of the protocol, and within how many seeds the checkers notice that it is broken. A
// canary that is not caught within its seeds is a hole in the checkers or a rule that is not needed; either
// must be resolved, not the number raised without a reason.
#pragma once

#include <cstdint>

namespace cairn::sim {

struct Canary {
  const char* rule;
  uint64_t within_seeds;
};

inline constexpr Canary kCanaries[] = {
    {"epoch_fence", 150},          {"begin_checks_base", 50},      {"no_gaps", 50},
    {"sealed_is_closed", 50},      {"sync_pinned", 150},           {"tombstone_kept", 100},
    {"abort_fences", 1600},        {"erase_names_epoch", 150},     {"read_names_stamp", 100},
    {"duplicate_is_harmless", 20}, {"sync_goes_forward", 100},     {"ack_at_quorum", 20},
    {"laggard_stays_out", 50},     {"fsync_at_quorum", 150},       {"fence_quorum", 50},
    {"highest_stamp", 50},         {"amnesia_does_not_vote", 150}, {"never_below_record", 4000},
    {"old_config_governs", 300},   {"move_keeps_copies", 50},      {"activate_at_quorum", 50},
    {"delete_at_quorum", 150},
};

}  // namespace cairn::sim
