// Files and names that a loss of power does not take away. A file that was synced is gone all the same if the directory that names it
// was not.
//
// Thread-safety: any thread.
#pragma once

#include <string>

#include "common/status.h"

namespace cairn {

// The names in a directory.
Status SyncDirectory(const std::string& directory);
// Makes a directory with those above that are missing, each of them durably.
Status MakeDirectoriesDurably(const std::string& directory);
// A directory with everything in it, and its name in the one above.
Status SyncTree(const std::string& directory);

}  // namespace cairn
