// The repairs of the metadata check, one function per kind of damage (fsck.h). Each looks at what is there now, and either puts it
// right and says what it did, or answers kDamaged with why it cannot be decided and what a person can do. None takes away what may be
// somebody's data. `key` is that of the record which shows the damage. Thread-safety: one thread per context.
#pragma once

#include <string>
#include <string_view>

#include "common/status.h"
#include "master/state/context.h"

namespace cairn::master {

struct RepairSubject {
  Family family;
  std::string_view key;
  bool alone;  // RepairMetadataCmd
};

using RepairFunction = Result<std::string> (*)(Context& c, const RepairSubject& subject);

inline Status NotRepairable(std::string why) { return {StatusCode::kDamaged, std::move(why)}; }

// repair_names.cc
Result<std::string> RepairMissingInode(Context& c, const RepairSubject& subject);
Result<std::string> RepairWrongParent(Context& c, const RepairSubject& subject);
Result<std::string> RepairWrongType(Context& c, const RepairSubject& subject);
Result<std::string> RepairMissingLink(Context& c, const RepairSubject& subject);
Result<std::string> RepairStrayLink(Context& c, const RepairSubject& subject);
Result<std::string> RepairMissingIndex(Context& c, const RepairSubject& subject);
Result<std::string> RepairStrayIndex(Context& c, const RepairSubject& subject);
Result<std::string> RepairStrayOrphan(Context& c, const RepairSubject& subject);
// repair_counts.cc
Result<std::string> RepairWrongNlink(Context& c, const RepairSubject& subject);
Result<std::string> RepairWrongEntryCount(Context& c, const RepairSubject& subject);
Result<std::string> RepairWrongXattrCount(Context& c, const RepairSubject& subject);
Result<std::string> RepairWrongAllocation(Context& c, const RepairSubject& subject);
Result<std::string> RepairChunkBeyondSize(Context& c, const RepairSubject& subject);
Result<std::string> RepairCounters(Context& c, const proto::RepairMetadataCmd& op);
// repair_chunks.cc
Result<std::string> RepairMissingChunk(Context& c, const RepairSubject& subject);
Result<std::string> RepairStrayChunk(Context& c, const RepairSubject& subject);
Result<std::string> RepairBadConfiguration(Context& c, const RepairSubject& subject);
Result<std::string> RepairServerEntry(Context& c, const RepairSubject& subject);
Result<std::string> RepairWrongList(Context& c, const RepairSubject& subject);
Result<std::string> RepairUnknownServer(Context& c, const RepairSubject& subject);
// repair_lists.cc
Result<std::string> RepairHold(Context& c, const RepairSubject& subject);
Result<std::string> RepairStrayTrash(Context& c, const RepairSubject& subject);
Result<std::string> RepairStrayXattr(Context& c, const RepairSubject& subject);
Result<std::string> RepairStrayPolicy(Context& c, const RepairSubject& subject);
Result<std::string> RepairLease(Context& c, const RepairSubject& subject);
Result<std::string> RepairStraySessionEntry(Context& c, const RepairSubject& subject);
Result<std::string> RepairStrayResult(Context& c, const RepairSubject& subject);

}  // namespace cairn::master
