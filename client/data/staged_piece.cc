#include "client/data/staged_piece.h"

#include <algorithm>
#include <utility>

namespace cairn::client {

void StagedPiece::Answered(ServerId server, const Status& answer_status, uint64_t token, std::vector<uint32_t> answer) {
  Member& member = members[server];
  member.status = answer_status;
  member.token = token;
  member.checksums = std::move(answer);
  member.state = answer_status.ok() && token != 0 ? Member::kStaged : Member::kNeedsBytes;
  if (!agreed() && !failed) Settle();
  if (!agreed()) return;
  for (auto& [id, each] : members) {
    if (each.state == Member::kStaged && each.checksums != checksums) each.state = Member::kNeedsBytes;
  }
}

void StagedPiece::Settle() {
  size_t asked = 0;
  size_t best = 0;
  for (const auto& [id, candidate] : members) {
    if (candidate.state == Member::kAsked) ++asked;
    if (candidate.state != Member::kStaged) continue;
    const size_t votes = static_cast<size_t>(std::count_if(members.begin(), members.end(), [&](const auto& entry) {
      return entry.second.state == Member::kStaged && entry.second.checksums == candidate.checksums;
    }));
    best = std::max(best, votes);
    if (votes < quorum) continue;
    checksums = candidate.checksums;
    return;
  }
  failed = best + asked < quorum;
}

}  // namespace cairn::client
