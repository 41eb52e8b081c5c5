// What can be set at the master (main.cc has the flags).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "common/service_rules.h"

namespace cairn::metrics {
class Registry;
}

namespace cairn::master {

struct CoreOptions {
  int64_t session_lease_ms = 10'000;
  int64_t write_timeout_ms = 10'000;    // below the quorum, before an error
  int64_t delete_grace_ms = 2'000;      // between a durable delete and its erasure
  int64_t command_timeout_ms = 10'000;  // for one command to a chunkserver (not a sync)
  int64_t sync_timeout_ms = 600'000;    // for one sync
  int64_t repair_grace_ms = 30'000;
  int64_t server_silence_ms = 5'000;
  int64_t lower_writer_after_ms = 5'000;  // an open chunk with a dropped member: recall of its write lease
  uint32_t heartbeat_ms = 1'000;
  int64_t metadata_sync_ms = 50;
  bool metadata_sync_always = false;
  bool root_squash = false;
  uint32_t squash_uid = 65534;
  uint32_t squash_gid = 65534;
  size_t max_sessions = 10'000;
  size_t max_sessions_per_host = 1'000;
  size_t max_write_leases_per_session = 100'000;
  size_t max_requests_per_session = 4'096;
  size_t max_read_leases_per_session = 100'000;
  size_t max_repairs_per_server = 4;
  size_t max_repairs = 16;
  size_t repair_queue_capacity = 100'000;
  uint64_t repair_bytes_per_second = 0;    // per sync; 0: no limit
  uint64_t min_free_bytes = 256ull << 20;  // of the master's disk: below this mutations get kNoSpace
  int64_t clock_skew_warning_ms = 2'000;
  ServiceRules rules;                    // the simulator breaks one at a time
  // Of the machine: while it is the same, the end of the log cannot have been lost. Empty: not known.
  std::string boot_id;
  std::string version;                   // of this program, for people
  metrics::Registry* metrics = nullptr;  // where requests are counted; none: they are not
};

}  // namespace cairn::master
