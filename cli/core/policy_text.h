// Policies as people write and read them:
// "replicas=3,write_quorum=2,chunk_bytes=64MiB,failure_domain=rack,storage_class=ssd". Thread-safety: pure
// functions.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "client/types.h"
#include "common/status.h"

namespace cairn::cli {

// Fields that are not named keep their value in `base`; "inherit" or 0 as a value clears a field.
Result<client::Policy> ParsePolicy(const std::string& text, const client::Policy& base);
// "24h", "7d", "off": as ParsePolicy takes it.
std::string DurationText(uint64_t seconds);
// What is set, as keys and values of ParsePolicy.
std::vector<std::pair<std::string, std::string>> PolicyFields(const client::Policy& policy);
std::string PolicyText(const client::Policy& policy);

}  // namespace cairn::cli
