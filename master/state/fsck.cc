#include "master/state/fsck.h"

#include <algorithm>

#include "master/state/chunk_queries.h"
#include "master/state/fsck_checker.h"
#include "master/state/keys.h"
#include "master/state/queries.h"

namespace cairn::master {
namespace {

// The families in the order in which they are checked; a cursor is the stage's number and the last key seen.
constexpr Family kStages[] = {
    Family::kInodes,      Family::kDentries,     Family::kDirIndex,   Family::kLinks,   Family::kChunks,
    Family::kInodeChunks, Family::kServerChunks, Family::kChunkLists, Family::kOrphans, Family::kHolds,
    Family::kTrash,       Family::kXattrs,       Family::kPolicies,   Family::kWriteLeases,
    Family::kSessionRefs, Family::kResults};
constexpr size_t kStageCount = std::size(kStages);

constexpr size_t kTotalsBytes = 6 * sizeof(uint64_t);

std::string Encode(const FsckTotals& totals) {
  return keys::Key(totals.inodes, totals.chunks, totals.deleting, totals.policies, totals.trash_inodes,
                   totals.trash_bytes);
}
FsckTotals DecodeTotals(std::string_view bytes) {
  return {keys::NumberAt(bytes, 0),  keys::NumberAt(bytes, 8),  keys::NumberAt(bytes, 16),
          keys::NumberAt(bytes, 24), keys::NumberAt(bytes, 32), keys::NumberAt(bytes, 40)};
}

}  // namespace

std::string FsckRecord(Family family, std::string_view key) {
  return std::string(1, static_cast<char>(family)) + std::string(key);
}

std::vector<proto::FsckProblem> CheckRecord(const MetaReader& reader, std::string_view record) {
  const Family family = FsckFamily(record);
  if (std::find(std::begin(kStages), std::end(kStages), family) == std::end(kStages)) return {};
  const std::string key(FsckKey(record));
  const std::optional<std::string> value = reader.Get(family, key);
  if (!value) return {};
  proto::FsckResponse response;
  FsckChecker(reader, kRootInode, {}, &response).Check(family, key, *value);
  return {response.problems().begin(), response.problems().end()};
}

Result<proto::FsckResponse> CheckPage(const MetaReader& reader, InodeId inode, const std::string& cursor,
                                      uint32_t max_items) {
  if (!InodeExists(reader, inode))
    return Status(StatusCode::kStaleHandle, "inode " + ToString(inode) + " does not exist");
  size_t stage = 0;
  std::string after;
  FsckTotals totals;
  if (!cursor.empty()) {
    stage = static_cast<unsigned char>(cursor[0]);
    if (stage >= kStageCount || cursor.size() < 1 + kTotalsBytes)
      return Status(StatusCode::kInvalidArgument, "this is not a cursor of a metadata check");
    totals = DecodeTotals(std::string_view(cursor).substr(1));
    after = cursor.substr(1 + kTotalsBytes);
  }
  proto::FsckResponse response;
  FsckChecker checker(reader, inode, totals, &response);
  uint32_t items = 0;
  const uint32_t limit = std::max<uint32_t>(1, max_items);
  for (; stage < kStageCount; ++stage, after.clear()) {
    // The first key above `after`: a zero byte is the smallest thing that can follow.
    const std::string lower = after.empty() ? std::string() : after + '\0';
    std::string last;
    for (auto it = reader.Scan(kStages[stage], lower, ""); it->Valid(); it->Next()) {
      if (items == limit) {
        response.set_cursor(std::string(1, static_cast<char>(stage)) + Encode(checker.totals()) +
                            (last.empty() ? after : last));
        CAIRN_RETURN_IF_ERROR(reader.status());
        return response;
      }
      last = std::string(it->key());
      checker.Check(kStages[stage], last, std::string(it->value()));
      ++items;
    }
  }
  checker.CheckCounters();
  CAIRN_RETURN_IF_ERROR(reader.status());
  return response;
}

}  // namespace cairn::master
