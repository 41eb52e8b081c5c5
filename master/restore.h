// Puts a backup of the metadata (a RocksDB checkpoint made by `cairn master backup`) into an empty data
// directory.
#pragma once

#include <string>

#include "common/status.h"

namespace cairn::master {

// Copies `backup` to `store_directory`, which must be absent or empty, opens it once to verify it, and moves
// every id range far ahead: what was handed out between the backup and the loss must never be handed out
// again. Nothing is left behind on an error but what was copied. kFailedPrecondition: the target is not
// empty.
Status RestoreBackup(const std::string& backup, const std::string& store_directory);

}  // namespace cairn::master
