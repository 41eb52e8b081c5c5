// Checks the metadata against itself, a page at a time: names against inodes and their link counts,
// directories against their entry counts, chunks against inodes and sizes, the lists by server and by state
// against the chunk records, leases, holds and answers against sessions, the counters against all of it. Kinds of
// problems (FsckProblem.kind): "missing-inode", "wrong-parent",
// "wrong-type", "wrong-nlink", "wrong-entry-count", "missing-index", "stray-index", "missing-link",
// "stray-link", "missing-chunk", "stray-chunk", "chunk-beyond-size", "wrong-allocation", "bad-configuration",
// "missing-server-entry", "stray-server-entry", "wrong-list", "missing-hold", "stray-orphan",
// "wrong-xattr-count", "stray-trash", "stray-hold", "stray-xattr", "stray-policy", "stray-lease", "missing-lease-entry",
// "stray-session-entry", "stray-result", "unknown-server", "wrong-counter". Thread-safety: one thread at a time per reader. Use one snapshot for all pages of a
// check: what changes between pages would look like damage.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "common/ids.h"
#include "common/status.h"
#include "master/store/meta_store.h"
#include "proto/cairn/admin.pb.h"

namespace cairn::master {

// Checks about `max_items` records from `cursor` (empty: from the start) and sets the response's cursor
// (empty: done). `inode` is a directory whose subtree is checked (or a single file); the root checks
// everything, also what no name leads to. kInvalidArgument: not a cursor of this check. kStaleHandle: the
// inode is gone.
Result<proto::FsckResponse> CheckPage(const MetaReader& reader, InodeId inode, const std::string& cursor,
                                      uint32_t max_items);

// FsckProblem.record.
std::string FsckRecord(Family family, std::string_view key);
inline Family FsckFamily(std::string_view record) {
  return record.empty() ? Family::kMeta : static_cast<Family>(static_cast<unsigned char>(record[0]));
}
inline std::string_view FsckKey(std::string_view record) { return record.substr(std::min<size_t>(1, record.size())); }
// What is wrong with one record now; counters are not looked at. The key must be one that a check told.
std::vector<proto::FsckProblem> CheckRecord(const MetaReader& reader, std::string_view record);

}  // namespace cairn::master
