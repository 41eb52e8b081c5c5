// A MetaStore in memory, for tests and for the simulator. Checkpoint and SyncLog behave as on disk except
// that nothing survives the process: Checkpoint answers kNotSupported. Thread-safety: as MetaStore.
#pragma once

#include <memory>

#include "master/store/meta_store.h"

namespace cairn::master {

std::unique_ptr<MetaStore> NewMemoryStore(Uuid cluster);

}  // namespace cairn::master
