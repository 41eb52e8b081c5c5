#include "common/replication/writer.h"

#include <algorithm>
#include <utility>

#include "common/check.h"

namespace cairn::replication {

ChunkWriter::ChunkWriter(ChunkId chunk, WriterOptions options)
    : chunk_(chunk), options_(std::move(options)), begun_(!options_.begin_needed) {
  const Status valid = ValidateConfiguration(options_.config);
  CAIRN_CHECK(valid.ok(), valid.ToString());
  last_seq_ = done_seq_ = released_seq_ = options_.config.base.seq;
  StartEpoch();
}

void ChunkWriter::StartEpoch() {
  members_.clear();
  for (ServerId server : options_.config.members) {
    Member member;
    member.server = server;
    member.next_seq = options_.config.base.seq + 1;
    members_.push_back(std::move(member));
  }
  sealing_ = false;
  carriers_.clear();
}

ChunkWriter::Member* ChunkWriter::Find(ServerId server) {
  for (Member& member : members_) {
    if (member.server == server) return &member;
  }
  return nullptr;
}
const ChunkWriter::Member* ChunkWriter::Find(ServerId server) const {
  return const_cast<ChunkWriter*>(this)->Find(server);
}

uint64_t ChunkWriter::BytesThrough(uint64_t seq) const {
  if (seq <= released_seq_) return released_bytes_;
  return ends_[seq - released_seq_ - 1];
}

uint64_t ChunkWriter::AckedOrBase(const Member& member) const {
  return member.acked.value_or(options_.config.base.seq);
}

Result<uint64_t> ChunkWriter::Submit(uint64_t bytes) {
  if (sealing_) {
    return Status(StatusCode::kFailedPrecondition,
                  "the chunk is being sealed; its next write needs a new epoch");
  }
  const uint64_t pending_bytes = BytesThrough(last_seq_) - BytesThrough(done_seq_);
  const uint64_t pending_count = last_seq_ - done_seq_;
  if (pending_count > 0 &&
      (pending_bytes + bytes > options_.pending_bytes || pending_count >= options_.pending_count)) {
    return Status(StatusCode::kResourceExhausted, std::to_string(pending_count) + " mutations (" +
                                                      std::to_string(pending_bytes) +
                                                      " bytes) of the chunk wait for their write quorum");
  }
  ends_.push_back(BytesThrough(last_seq_) + bytes);
  return ++last_seq_;
}

bool ChunkWriter::FitsWindow(const Member& member) const {
  const uint64_t acked = AckedOrBase(member);
  const uint64_t in_flight = member.next_seq - acked - 1;
  if (in_flight == 0) return true;
  if (in_flight >= options_.window_count) return false;
  return BytesThrough(member.next_seq) - BytesThrough(acked) <= options_.window_bytes;
}

std::vector<ChunkWriter::Send> ChunkWriter::TakeSends() {
  std::vector<Send> sends;
  for (Member& member : members_) {
    if (!member.live || !member.connected) continue;
    while (member.next_seq <= last_seq_ && FitsWindow(member)) {
      Send send{member.server, options_.config.epoch, member.next_seq, std::nullopt};
      if (member.next_seq == options_.config.base.seq + 1) send.begin = options_.config.base;
      sends.push_back(std::move(send));
      ++member.next_seq;
      begun_ = true;
    }
  }
  return sends;
}

void ChunkWriter::OnMutateReply(ServerId server, Epoch epoch, uint64_t seq, const Status& status,
                                const ReplicaInfo& info) {
  Member* member = Find(server);
  if (member == nullptr || epoch != options_.config.epoch) return;
  if (!member->live) return OnAnswerOfDropped(*member, status);
  if (!status.ok()) {
    const bool may_have_sealed = sealing_ && member->seal_asked && status.code() == StatusCode::kFenced;
    if (!may_have_sealed) return Drop(*member, status);
    if (member->seal != SealState::kSent && member->seal != SealState::kConfirmed) member->seal = SealState::kAsk;
    return;
  }
  const Stamp confirmed{epoch, seq};
  // The answer is believed only as far as it fits what was sent and what the replica itself reports.
  if (seq > last_seq_ || info.accepted.epoch != epoch || info.accepted < confirmed) {
    return Drop(*member, Status(StatusCode::kStaleReplica, "confirmed " + ToString(confirmed) +
                                                               " but is at " + ToString(info.accepted)));
  }
  if (seq > AckedOrBase(*member)) {
    member->acked = seq;
    member->next_seq = std::max(member->next_seq, seq + 1);
  }
  OnDurable(server, info);
  Advance();
}

// What a dropped member missed is nowhere buffered any more, so nothing it answers can bring it back.
void ChunkWriter::OnAnswerOfDropped(Member& member, const Status& status) {
  if (options_.rules.Hold(Rule::kLaggardStaysOut) || !status.ok()) return;
  member.live = true;
  member.acked = last_seq_;
  member.next_seq = last_seq_ + 1;
  Advance();
}

void ChunkWriter::OnError(ServerId server, const Status& status) {
  if (Member* member = Find(server); member != nullptr && member->live) Drop(*member, status);
}

void ChunkWriter::OnDisconnect(ServerId server) {
  Member* member = Find(server);
  if (member == nullptr) return;
  member->connected = false;
  member->next_seq = AckedOrBase(*member) + 1;
  if (member->seal != SealState::kConfirmed) member->seal = SealState::kNone;
}

void ChunkWriter::OnConnect(ServerId server) {
  if (Member* member = Find(server)) member->connected = true;
}

void ChunkWriter::Drop(Member& member, Status problem) {
  member.live = false;
  member.problem = std::move(problem);
  Advance();
}

void ChunkWriter::Advance() {
  std::vector<uint64_t> acked;
  for (const Member& member : members_) {
    if (member.acked) acked.push_back(*member.acked);
  }
  uint32_t quorum = options_.config.write_quorum;
  if (!options_.rules.Hold(Rule::kAckAtQuorum)) quorum = std::max(1u, quorum - 1);
  done_seq_ = std::max(done_seq_, ReachedByQuorum(std::move(acked), quorum));
  DropLaggards();
  uint64_t released = done_seq_;
  for (const Member& member : members_) {
    if (member.live) released = std::min(released, AckedOrBase(member));
  }
  while (released_seq_ < released) {
    released_bytes_ = ends_.front();
    ends_.pop_front();
    ++released_seq_;
  }
}

void ChunkWriter::DropLaggards() {
  for (Member& member : members_) {
    if (!member.live) continue;
    const uint64_t acked = AckedOrBase(member);
    if (acked >= done_seq_) continue;
    // Never the reason for losing the quorum. It can only come to that after a configuration change that went
    // back (the members lost what they had not fsynced), when everybody starts behind done_seq_.
    if (live_members() <= options_.config.write_quorum) return;
    const uint64_t count = done_seq_ - acked;
    const uint64_t bytes = BytesThrough(done_seq_) - BytesThrough(acked);
    if (count <= options_.laggard_count && bytes <= options_.laggard_bytes) continue;
    member.live = false;
    member.problem =
        Status(StatusCode::kResourceExhausted, "too slow: " + std::to_string(count) + " mutations (" +
                                                   std::to_string(bytes) + " bytes) behind the write quorum");
  }
}

std::optional<uint64_t> ChunkWriter::acked_seq(ServerId server) const {
  const Member* member = Find(server);
  return member == nullptr ? std::nullopt : member->acked;
}

bool ChunkWriter::Carries(ServerId server, uint64_t seq) const {
  const Member* member = Find(server);
  return member != nullptr && member->live && member->acked && *member->acked >= seq;
}

bool ChunkWriter::is_live(ServerId server) const {
  const Member* member = Find(server);
  return member != nullptr && member->live;
}

uint32_t ChunkWriter::live_members() const {
  return static_cast<uint32_t>(
      std::count_if(members_.begin(), members_.end(), [](const Member& member) { return member.live; }));
}

bool ChunkWriter::fenced_by_quorum() const {
  const auto fenced = std::count_if(members_.begin(), members_.end(), [](const Member& member) {
    return !member.live &&
           (member.problem.code() == StatusCode::kFenced || member.problem.code() == StatusCode::kDeleted);
  });
  return static_cast<uint32_t>(fenced) >= ReadQuorum(options_.config);
}

std::vector<MemberProblem> ChunkWriter::dropped() const {
  std::vector<MemberProblem> problems;
  for (const Member& member : members_) {
    if (!member.live) problems.push_back({member.server, member.problem});
  }
  return problems;
}

std::vector<MemberProblem> ChunkWriter::TakeDrops() {
  std::vector<MemberProblem> problems;
  for (Member& member : members_) {
    if (member.live || std::exchange(member.drop_taken, true)) continue;
    problems.push_back({member.server, member.problem});
  }
  return problems;
}

Status ChunkWriter::QuorumError(std::string_view what) const {
  uint32_t confirmed = 0;
  std::vector<MemberProblem> problems;
  for (const Member& member : members_) {
    if (member.acked && *member.acked >= last_seq_) {
      ++confirmed;
    } else if (member.live) {
      problems.push_back({member.server, Status(StatusCode::kTimeout, "has not answered yet")});
    } else {
      problems.push_back({member.server, member.problem});
    }
  }
  return {StatusCode::kNoQuorum, std::string(what) + " refused: " + std::to_string(confirmed) + " of the " +
                                     std::to_string(options_.config.write_quorum) +
                                     " confirmations required for chunk " + ToString(chunk_) + " (" +
                                     DescribeProblems(problems) + ")"};
}

Status ChunkWriter::Reconfigure(Configuration config) {
  CAIRN_RETURN_IF_ERROR(ValidateConfiguration(config));
  if (config.epoch <= options_.config.epoch) {
    return {StatusCode::kFailedPrecondition, "configuration of epoch " + ToString(config.epoch) +
                                                 " is not newer than epoch " +
                                                 ToString(options_.config.epoch)};
  }
  if (config.base.seq > last_seq_) {
    return {StatusCode::kFailedPrecondition, "chunk " + ToString(chunk_) + " continues at " +
                                                 ToString(config.base) + " but this writer only reached " +
                                                 std::to_string(last_seq_) + ": somebody else wrote"};
  }
  // Mutations up to base.seq are taken for this writer's own. A base of an earlier epoch holds none of them.
  if (config.base.epoch < options_.config.epoch && config.base.seq > options_.config.base.seq) {
    return {StatusCode::kFailedPrecondition,
            "chunk " + ToString(chunk_) + " continues on " + ToString(config.base) +
                ", which is not a history of epoch " + ToString(options_.config.epoch)};
  }
  if (config.base.seq < released_seq_) {
    return {StatusCode::kIoError, "chunk " + ToString(chunk_) + " went back to " + ToString(config.base) +
                                      " but " + std::to_string(released_seq_) +
                                      " mutations were confirmed: replicas lost data that was not fsynced"};
  }
  options_.config = std::move(config);
  begun_ = true;
  StartEpoch();
  done_seq_ = std::max(done_seq_, options_.config.base.seq);
  // The configuration was activated with base on the disks of a write quorum.
  durable_seq_ = std::max(durable_seq_, options_.config.base.seq);
  Advance();
  return Status::Ok();
}

void ChunkWriter::OnDurable(ServerId server, const ReplicaInfo& info) {
  Member* member = Find(server);
  if (member == nullptr || info.durable.epoch != options_.config.epoch) return;
  member->durable = std::max(member->durable.value_or(0), std::min(info.durable.seq, last_seq_));
  std::vector<uint64_t> durable;
  for (const Member& each : members_) {
    if (each.durable) durable.push_back(*each.durable);
  }
  uint32_t quorum = options_.config.write_quorum;
  if (!options_.rules.Hold(Rule::kFsyncAtQuorum)) quorum = std::max(1u, quorum - 1);
  durable_seq_ = std::max(durable_seq_, ReachedByQuorum(std::move(durable), quorum));
}

Status ChunkWriter::StartSeal() {
  if (sealing_) return Status::Ok();
  if (never_begun()) {
    return {StatusCode::kFailedPrecondition,
            "chunk " + ToString(chunk_) + " was not begun in epoch " + ToString(options_.config.epoch)};
  }
  sealing_ = true;
  return Status::Ok();
}

std::vector<ChunkWriter::SealSend> ChunkWriter::TakeSealSends() {
  std::vector<SealSend> sends;
  if (!sealing_) return sends;
  for (Member& member : members_) {
    if (!member.live || !member.connected || member.next_seq <= last_seq_) continue;
    const bool has_everything = AckedOrBase(member) == last_seq_;
    const bool due = member.seal == SealState::kNone || member.seal == SealState::kAsk ||
                     (member.seal == SealState::kTooEarly && has_everything);
    if (!due) continue;
    member.seal = has_everything || member.seal == SealState::kAsk ? SealState::kSent : SealState::kEarly;
    member.seal_asked = true;
    sends.push_back({member.server, seal_stamp()});
  }
  return sends;
}

void ChunkWriter::OnSealReply(ServerId server, Stamp stamp, const Status& status) {
  Member* member = Find(server);
  if (member == nullptr || !sealing_ || stamp != seal_stamp() || member->seal == SealState::kConfirmed)
    return;
  if (!status.ok()) {
    // It overtook a mutation, or went down with one in a connection that broke: what becomes of the mutation decides.
    if (member->seal == SealState::kEarly) member->seal = SealState::kTooEarly;
    if (member->seal == SealState::kSent && member->live) Drop(*member, status);
    return;
  }
  member->seal = SealState::kConfirmed;
  carriers_.push_back(server);
  if (last_seq_ > AckedOrBase(*member)) {  // the replica compared the stamp with what it has
    member->acked = last_seq_;
    Advance();
  }
}

Status ChunkWriter::SealError() const {
  std::vector<MemberProblem> problems;
  for (const Member& member : members_) {
    if (member.seal == SealState::kConfirmed) continue;
    const std::string waiting =
        member.seal == SealState::kSent ? "has not confirmed the seal yet" : "has not answered the last writes yet";
    problems.push_back({member.server, member.live ? Status(StatusCode::kTimeout, waiting) : member.problem});
  }
  return {StatusCode::kNoQuorum, "seal refused: " + std::to_string(carriers_.size()) + " of the " +
                                     std::to_string(options_.config.write_quorum) +
                                     " confirmations required for chunk " + ToString(chunk_) + " (" +
                                     DescribeProblems(problems) + ")"};
}

std::vector<ServerId> ChunkWriter::seal_missing() const {
  std::vector<ServerId> missing;
  for (const Member& member : members_) {
    if (member.live && member.seal != SealState::kConfirmed) missing.push_back(member.server);
  }
  return missing;
}

}  // namespace cairn::replication
