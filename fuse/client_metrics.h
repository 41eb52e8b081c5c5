// What the client library counts, for the metrics endpoint. Thread-safety: as the registry's.
#pragma once

#include <memory>
#include <vector>

#include "client/client.h"
#include "common/metrics/metrics.h"

namespace cairn::fuse {

// The client must live longer than the handles.
std::vector<std::unique_ptr<metrics::Registry::Handle>> AddClientMetrics(metrics::Registry& registry,
                                                                         client::Client& client);

}  // namespace cairn::fuse
