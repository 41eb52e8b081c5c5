#include "common/replication/deletion.h"

#include <algorithm>
#include <utility>

#include "common/check.h"

namespace cairn::replication {

QuorumDelete::QuorumDelete(std::vector<DeleteTarget> targets, Epoch epoch, Rules rules)
    : epoch_(epoch), rules_(rules), chunks_below_quorum_(targets.size()) {
  std::sort(targets.begin(), targets.end(),
            [](const DeleteTarget& a, const DeleteTarget& b) { return a.chunk < b.chunk; });
  for (const DeleteTarget& target : targets) {
    const Status valid = ValidateConfiguration(target.config);
    CAIRN_CHECK(valid.ok(), valid.ToString());
    CAIRN_CHECK(epoch > target.config.epoch, "a delete needs a fresh epoch");
    CAIRN_CHECK(chunks_.empty() || chunks_.back().chunk != target.chunk, "a chunk is deleted once");
    Chunk chunk;
    chunk.chunk = target.chunk;
    chunk.write_quorum = target.config.write_quorum;
    for (ServerId server : target.config.members) {
      Member member;
      member.server = server;
      Send(chunk, member);
      chunk.members.push_back(std::move(member));
    }
    chunks_.push_back(std::move(chunk));
  }
}

std::vector<DeleteAction> QuorumDelete::TakeActions() { return std::exchange(actions_, {}); }

QuorumDelete::Member* QuorumDelete::Find(ChunkId chunk, ServerId server, Chunk** owner) {
  const auto found = std::lower_bound(chunks_.begin(), chunks_.end(), chunk,
                                      [](const Chunk& each, ChunkId id) { return each.chunk < id; });
  if (found == chunks_.end() || found->chunk != chunk) return nullptr;
  *owner = &*found;
  for (Member& member : found->members) {
    if (member.server == server) return &member;
  }
  return nullptr;
}

uint32_t QuorumDelete::Required(const Chunk& chunk) const {
  if (rules_.Hold(Rule::kDeleteAtQuorum)) return chunk.write_quorum;
  return std::max(1u, chunk.write_quorum - 1);
}

void QuorumDelete::Send(const Chunk& chunk, Member& member) {
  if (phase_ == Phase::kPreparing) {
    member.prepare = Answer::kSent;
    actions_.push_back(PrepareDelete{chunk.chunk, member.server, epoch_});
  } else if (phase_ == Phase::kAborting) {
    member.abort = Answer::kSent;
    actions_.push_back(AbortDelete{chunk.chunk, member.server, abort_epoch_});
  }
}

void QuorumDelete::OnPrepareReply(ChunkId chunk, ServerId server, const Status& status,
                                  const ReplicaInfo& info) {
  highest_promise_ = std::max(highest_promise_, info.promised);
  Chunk* owner = nullptr;
  Member* member = Find(chunk, server, &owner);
  if (member == nullptr || phase_ != Phase::kPreparing || member->prepare == Answer::kYes) return;
  if (!status.ok()) {
    fenced_ = fenced_ || status.code() == StatusCode::kFenced;
    member->prepare = Answer::kError;
    member->problem = status;
    return;
  }
  if (info.tombstone != epoch_) {
    member->prepare = Answer::kError;
    member->problem =
        Status(StatusCode::kFenced, "confirmed the delete in epoch " + ToString(epoch_) +
                                        " but has a tombstone of epoch " + ToString(info.tombstone));
    return;
  }
  member->prepare = Answer::kYes;
  member->problem = Status::Ok();
  if (++owner->tombstones == Required(*owner)) --chunks_below_quorum_;
}

void QuorumDelete::OnAbortReply(ChunkId chunk, ServerId server, const Status& status) {
  Chunk* owner = nullptr;
  Member* member = Find(chunk, server, &owner);
  if (member == nullptr || phase_ != Phase::kAborting || member->abort == Answer::kYes) return;
  // kFenced: a still higher promise was given, which took the tombstone back and fences the prepare just as
  // well.
  const bool taken = status.ok() || status.code() == StatusCode::kFenced;
  member->abort = taken ? Answer::kYes : Answer::kError;
  if (!taken) member->problem = status;
}

void QuorumDelete::OnMemberBack(ServerId server) {
  for (Chunk& chunk : chunks_) {
    for (Member& member : chunk.members) {
      if (member.server != server) continue;
      const Answer answer = phase_ == Phase::kPreparing ? member.prepare : member.abort;
      if (answer != Answer::kYes) Send(chunk, member);
    }
  }
}

void QuorumDelete::Retry() {
  for (Chunk& chunk : chunks_) {
    for (Member& member : chunk.members) {
      const Answer answer = phase_ == Phase::kPreparing ? member.prepare : member.abort;
      if (answer == Answer::kError) Send(chunk, member);
    }
  }
}

bool QuorumDelete::outstanding() const {
  for (const Chunk& chunk : chunks_) {
    for (const Member& member : chunk.members) {
      if ((phase_ == Phase::kPreparing ? member.prepare : member.abort) == Answer::kSent) return true;
    }
  }
  return false;
}

void QuorumDelete::OnCommitted() {
  CAIRN_CHECK(committable(), "a delete needs a write quorum of tombstones of every chunk");
  phase_ = Phase::kCommitted;
}

Status QuorumDelete::Refuse(Epoch abort_epoch) {
  CAIRN_CHECK(phase_ == Phase::kPreparing, "only a delete that is being prepared can be refused");
  CAIRN_CHECK(abort_epoch > epoch_, "an abort must fence the prepare that it takes back");
  std::string text = "delete refused, the file stays whole: " + std::to_string(chunks_below_quorum_) +
                     " of " + std::to_string(chunks_.size()) + " chunks lack confirmations";
  size_t named = 0;
  for (const Chunk& chunk : chunks_) {
    if (chunk.tombstones >= Required(chunk)) continue;
    if (++named > 3) {
      text += "; ...";
      break;
    }
    std::vector<MemberProblem> problems;
    for (const Member& member : chunk.members) {
      if (member.prepare == Answer::kYes) continue;
      problems.push_back({member.server, member.prepare == Answer::kError
                                             ? member.problem
                                             : Status(StatusCode::kTimeout, "has not answered")});
    }
    text += "; chunk " + ToString(chunk.chunk) + ": " + std::to_string(chunk.tombstones) + " of " +
            std::to_string(chunk.write_quorum) + " (" + DescribeProblems(problems) + ")";
  }
  phase_ = Phase::kAborting;
  abort_epoch_ = abort_epoch;
  actions_.clear();
  for (Chunk& chunk : chunks_) {
    for (Member& member : chunk.members) Send(chunk, member);
  }
  return {StatusCode::kNoQuorum, std::move(text)};
}

bool QuorumDelete::finished() const {
  if (phase_ == Phase::kCommitted) return true;
  return phase_ == Phase::kAborting && AbortPending().empty();
}

std::vector<ServerId> QuorumDelete::AbortPending() const {
  std::vector<ServerId> pending;
  if (phase_ != Phase::kAborting) return pending;
  for (const Chunk& chunk : chunks_) {
    for (const Member& member : chunk.members) {
      if (member.abort == Answer::kYes) continue;
      if (std::find(pending.begin(), pending.end(), member.server) == pending.end()) {
        pending.push_back(member.server);
      }
    }
  }
  return pending;
}

}  // namespace cairn::replication
