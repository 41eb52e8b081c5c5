// What Prometheus' own client libraries say of a process (process_*), and which program of which version it
// is. Thread-safety: as the registry's.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "common/metrics/metrics.h"

namespace cairn::metrics {

// program: "cairn-master". The values are read from /proc when somebody asks.
std::vector<std::unique_ptr<Registry::Handle>> AddProcess(Registry& registry, const std::string& program,
                                                          const std::string& version);

}  // namespace cairn::metrics
