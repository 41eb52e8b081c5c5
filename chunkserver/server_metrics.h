// Disks and registration of a chunkserver, for the metrics endpoint. Thread-safety: as the registry's.
#pragma once

#include <memory>
#include <vector>

#include "chunkserver/server.h"
#include "common/metrics/metrics.h"

namespace cairn::chunkserver {

// The server must live longer than the handles.
std::vector<std::unique_ptr<metrics::Registry::Handle>> AddServerMetrics(metrics::Registry& registry,
                                                                         ChunkServer& server);

}  // namespace cairn::chunkserver
