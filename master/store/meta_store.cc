#include "master/store/meta_store.h"

#include <array>

#include "common/check.h"

namespace cairn::master {

std::string_view FamilyName(Family family) {
  static constexpr std::array<std::string_view, kFamilyCount> kNames = {
      "meta",         "inodes",        "dentries",    "dir-index", "links",   "xattrs",       "chunks",
      "inode-chunks", "server-chunks", "chunk-lists", "sessions",  "results", "write-leases", "session-refs",
      "servers",      "policies",      "holds",       "orphans",   "events",  "trash"};
  const auto index = static_cast<size_t>(family);
  CAIRN_CHECK(index < kFamilyCount, "not a family of the metadata store");
  return kNames[index];
}

}  // namespace cairn::master
