// Repairs by an administrator's order: what the metadata check finds, looked at again and put right in one command each.
#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <utility>

#include "master/state/fsck.h"
#include "master/state/ops/ops.h"
#include "master/state/ops/repair.h"
#include "master/state/records.h"

namespace cairn::master {
namespace {

constexpr std::array<std::pair<std::string_view, RepairFunction>, 29> kRepairs = {{
    {"missing-inode", &RepairMissingInode},
    {"wrong-parent", &RepairWrongParent},
    {"wrong-type", &RepairWrongType},
    {"wrong-nlink", &RepairWrongNlink},
    {"wrong-entry-count", &RepairWrongEntryCount},
    {"missing-index", &RepairMissingIndex},
    {"stray-index", &RepairStrayIndex},
    {"missing-link", &RepairMissingLink},
    {"stray-link", &RepairStrayLink},
    {"missing-chunk", &RepairMissingChunk},
    {"stray-chunk", &RepairStrayChunk},
    {"chunk-beyond-size", &RepairChunkBeyondSize},
    {"wrong-allocation", &RepairWrongAllocation},
    {"bad-configuration", &RepairBadConfiguration},
    {"missing-server-entry", &RepairServerEntry},
    {"stray-server-entry", &RepairServerEntry},
    {"wrong-list", &RepairWrongList},
    {"unknown-server", &RepairUnknownServer},
    {"missing-hold", &RepairHold},
    {"stray-hold", &RepairHold},
    {"stray-orphan", &RepairStrayOrphan},
    {"wrong-xattr-count", &RepairWrongXattrCount},
    {"stray-trash", &RepairStrayTrash},
    {"stray-xattr", &RepairStrayXattr},
    {"stray-policy", &RepairStrayPolicy},
    {"stray-lease", &RepairLease},
    {"missing-lease-entry", &RepairLease},
    {"stray-session-entry", &RepairStraySessionEntry},
    {"stray-result", &RepairStrayResult},
}};

Result<std::string> Repair(Context& c, const proto::RepairMetadataCmd& op) {
  if (op.kind() == "wrong-counter") return RepairCounters(c, op);
  const auto problems = CheckRecord(c.txn(), op.record());
  if (std::none_of(problems.begin(), problems.end(),
                   [&](const proto::FsckProblem& problem) { return problem.kind() == op.kind(); }))
    return Status(StatusCode::kNotFound, "it is not wrong any more");
  const auto repair =
      std::find_if(kRepairs.begin(), kRepairs.end(), [&](const auto& entry) { return entry.first == op.kind(); });
  if (repair == kRepairs.end())
    return Status(StatusCode::kInvalidArgument, "'" + op.kind() + "' is no kind of damage that this version repairs");
  return repair->second(c, {FsckFamily(op.record()), FsckKey(op.record()), op.alone()});
}

}  // namespace

Status ApplyRepairMetadata(Context& c, const proto::RepairMetadataCmd& op) {
  CAIRN_ASSIGN_OR_RETURN(std::string done, Repair(c, op));
  proto::Counters counters = LoadCounters(c.txn());
  counters.set_repairs(counters.repairs() + 1);
  Save(&c.txn(), Family::kMeta, keys::kCounters, counters);
  c.reply().mutable_status()->set_message(std::move(done));  // code 0
  return Status::Ok();
}

}  // namespace cairn::master
