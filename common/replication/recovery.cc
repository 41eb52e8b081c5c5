#include "common/replication/recovery.h"

#include <algorithm>
#include <utility>

#include "common/check.h"

namespace cairn::replication {
namespace {

bool Contains(const std::vector<ServerId>& servers, ServerId server) {
  return std::find(servers.begin(), servers.end(), server) != servers.end();
}

}  // namespace

Reconfiguration::Reconfiguration(ReconfigureInput input) : input_(std::move(input)) {
  Status valid = ValidateConfiguration(input_.old);
  CAIRN_CHECK(valid.ok(), valid.ToString());
  valid = ValidateConfiguration({input_.epoch, input_.members, input_.write_quorum, {}});
  CAIRN_CHECK(valid.ok(), valid.ToString());
  CAIRN_CHECK(input_.epoch > input_.old.epoch, "a configuration change needs a fresh epoch");
  for (ServerId server : input_.old.members) {
    Member member;
    member.server = server;
    member.in_old = true;
    member.in_new = Contains(input_.members, server);
    member.lost = Contains(input_.lost, server);
    members_.push_back(std::move(member));
  }
  for (ServerId server : input_.members) {
    if (Contains(input_.old.members, server)) continue;
    Member member;
    member.server = server;
    member.in_new = true;
    members_.push_back(std::move(member));
  }
  for (Member& member : members_) {
    if (member.in_old && !member.lost) SendFence(member);
  }
  TryToChooseBase();
}

Reconfiguration::Member* Reconfiguration::Find(ServerId server) {
  for (Member& member : members_) {
    if (member.server == server) return &member;
  }
  return nullptr;
}

std::vector<ReconfigureAction> Reconfiguration::TakeActions() { return std::exchange(actions_, {}); }

uint32_t Reconfiguration::Required() const {
  if (!input_.rules.Hold(Rule::kActivateAtQuorum)) return 1;
  if (!input_.rules.Hold(Rule::kMoveKeepsCopies)) return input_.write_quorum;
  const uint32_t most = static_cast<uint32_t>(input_.members.size());
  return std::min(most, std::max(input_.write_quorum, input_.min_carriers));
}

// --- Fencing and the choice of the base
// -------------------------------------------------------------------------------

void Reconfiguration::SendFence(Member& member) {
  member.fence = Ask::kSent;
  actions_.push_back(FenceMember{member.server, input_.epoch});
}

void Reconfiguration::OnFenceReply(ServerId server, const Status& status, const ReplicaInfo& info) {
  Member* member = Find(server);
  if (member == nullptr || !member->in_old) return;
  highest_promise_ = std::max(highest_promise_, info.promised);
  const bool late = phase_ == Phase::kInstalling && base_damaged_;
  if ((phase_ != Phase::kFencing && !late) || member->fence == Ask::kAnswered) return;
  if (status.code() == StatusCode::kFenced) {
    return Fail(status.WithContext("fence of " + ToString(server) + " in epoch " + ToString(input_.epoch)));
  }
  if (!status.ok()) {
    member->fence = Ask::kError;
    member->problem = status;
    return TryToChooseBase();
  }
  member->fence = Ask::kAnswered;
  member->info = info;
  member->problem = Status::Ok();
  if (!late) return TryToChooseBase();
  if (info.accepted == base_ && member->in_new && !info.corrupt) return SendBegin(*member);
  // Who has begun under e' is at the damaged base: a lower one needs another epoch, or stamps would repeat.
  Fail(Status(StatusCode::kUnavailable, ToString(server) + " answers now, at " + ToString(info.accepted) + ", and the base " +
                                            ToString(base_) + " has damaged blocks wherever it is"));
}

// Whether the answer tells all that was ever confirmed to a writer. See the header for the sealed case.
bool Reconfiguration::Votes(const Member& member) const {
  if (!member.info.amnesic || !input_.rules.Hold(Rule::kAmnesiaDoesNotVote)) return true;
  const bool sealed_and_closed = input_.sealed != Stamp{} && !input_.open;
  return sealed_and_closed && member.info.accepted >= input_.sealed;
}

void Reconfiguration::TryToChooseBase() {
  if (phase_ != Phase::kFencing) return;
  uint32_t answers = 0;
  uint32_t votes = 0;
  uint32_t unheard = 0;
  for (const Member& member : members_) {
    if (!member.in_old) continue;
    if (member.fence == Ask::kAnswered) {
      ++answers;
      if (Votes(member)) ++votes;
    } else if (!member.lost) {
      ++unheard;
    }
  }
  uint32_t read_quorum = ReadQuorum(input_.old);
  if (!input_.rules.Hold(Rule::kFenceQuorum)) read_quorum = 1;
  if (!input_.rules.Hold(Rule::kOldConfigGoverns))
    read_quorum = ReadQuorum({input_.epoch, input_.members, input_.write_quorum, {}});
  const bool quorum_voted = votes >= read_quorum;
  const bool everybody_answered = unheard == 0 && answers >= read_quorum;
  const bool operator_decides = input_.accept_loss && unheard == 0 && answers >= 1;
  if (!quorum_voted && !everybody_answered && !operator_decides) return;
  const Member* best = Best();
  if (IntactAt(best->info.accepted)) return ChooseBase(*best);
  // Only damaged members have it. A lower one will do if nothing above it can have been acknowledged; answers under way may
  // prove that, or bring an intact copy.
  if (const Member* lower = BestIntact(); lower != nullptr && NothingAcknowledgedAbove(lower->info.accepted))
    return ChooseBase(*lower);
  const auto under_way = [](const Member& member) { return member.in_old && member.fence == Ask::kSent; };
  if (std::any_of(members_.begin(), members_.end(), under_way)) return;
  ChooseBase(*best);
}

const Reconfiguration::Member* Reconfiguration::Best() const {
  const Member* best = nullptr;
  for (const Member& member : members_) {
    if (member.fence != Ask::kAnswered) continue;
    const bool better = best == nullptr ||
                        (input_.rules.Hold(Rule::kHighestStamp) ? member.info.accepted > best->info.accepted
                                                                : member.info.accepted < best->info.accepted);
    if (better) best = &member;
  }
  return best;
}

const Reconfiguration::Member* Reconfiguration::BestIntact() const {
  const Member* best = nullptr;
  for (const Member& member : members_) {
    if (member.fence != Ask::kAnswered || member.info.corrupt) continue;
    if (best == nullptr || member.info.accepted > best->info.accepted) best = &member;
  }
  return best;
}

bool Reconfiguration::IntactAt(Stamp stamp) const {
  return std::any_of(members_.begin(), members_.end(), [stamp](const Member& member) {
    return member.fence == Ask::kAnswered && member.info.accepted == stamp && !member.info.corrupt;
  });
}

// R members that never confirmed more leave at most W - 1 that may have.
bool Reconfiguration::NothingAcknowledgedAbove(Stamp stamp) const {
  const auto never_confirmed = [this, stamp](const Member& member) {
    return member.in_old && member.fence == Ask::kAnswered && Votes(member) && member.info.accepted <= stamp;
  };
  return std::count_if(members_.begin(), members_.end(), never_confirmed) >=
         static_cast<std::ptrdiff_t>(ReadQuorum(input_.old));
}

bool Reconfiguration::RecordAllows(Stamp base) {
  if (input_.accept_loss || !input_.rules.Hold(Rule::kNeverBelowRecord)) return true;
  if (base < input_.durable) {
    damage_ = "the best replica that answered is at " + ToString(base) + ", below the fsynced " +
              ToString(input_.durable);
    return false;
  }
  const Stamp floor = std::max(input_.sealed, input_.old.base);
  if (base >= floor) return true;
  uint32_t forgetful = 0;
  for (const Member& member : members_) {
    if (!member.in_old) continue;
    const bool amnesic = member.fence == Ask::kAnswered && member.info.amnesic;
    if (amnesic || (member.lost && member.fence != Ask::kAnswered)) ++forgetful;
  }
  if (forgetful >= input_.old.write_quorum) return true;
  damage_ = "the best replica that answered is at " + ToString(base) + ", below the recorded " +
            ToString(floor) + ", and only " + std::to_string(forgetful) +
            " members lost power or are declared lost (" + std::to_string(input_.old.write_quorum) +
            " would explain it)";
  return false;
}

void Reconfiguration::ChooseBase(const Member& best) {
  const Stamp base = best.info.accepted;
  damaged_ = !RecordAllows(base);
  if (damaged_) return;
  base_ = base;
  length_ = best.info.length;
  base_damaged_ = !IntactAt(base);
  // With a seal on record it was written and lost, which the record allowed: that becomes an empty chunk, not
  // no chunk.
  const bool recorded = input_.sealed != Stamp{} || input_.old.base != Stamp{};
  if (base == Stamp{} && !recorded && input_.purpose != ReconfigurePurpose::kLiveWriter) {
    phase_ = Phase::kNeverWritten;
    return;
  }
  phase_ = Phase::kInstalling;
  InstallAll();
}

// --- Bringing the new set to the base
// ---------------------------------------------------------------------------------

void Reconfiguration::InstallAll() {
  bool intact_source = false;
  for (const Member& member : members_) {
    intact_source |= member.in_new && member.fence == Ask::kAnswered && member.info.accepted == base_ &&
                     !member.info.corrupt;
  }
  for (Member& member : members_) {
    if (!member.in_new) continue;
    const bool known = member.fence == Ask::kAnswered;
    const bool stale = known && member.info.accepted != base_;
    const bool damaged = known && member.info.corrupt && intact_source;
    if (stale || damaged) {
      member.install = Install::kNeedsSync;
    } else {
      SendBegin(member);
    }
  }
  SendWaitingSyncs();
}

void Reconfiguration::SendBegin(Member& member) {
  member.install = Install::kBeginSent;
  actions_.push_back(BeginMember{member.server, input_.epoch, base_});
}

// The target of a sync is (e', base.seq), held by the new members that have begun. When the base is only on
// members that leave, the first of the new ones is brought to the base itself and begins then.
void Reconfiguration::SendWaitingSyncs() {
  std::vector<ServerId> sources = Carriers();
  const Stamp target = sources.empty() ? base_ : Target();
  if (sources.empty()) sources = LeavingHolders();
  if (sources.empty()) return;
  for (Member& member : members_) {
    if (member.install != Install::kNeedsSync) continue;
    member.install = Install::kSyncSent;
    actions_.push_back(SyncMember{member.server, input_.epoch, target, length_, sources});
  }
}

std::vector<ServerId> Reconfiguration::LeavingHolders() const {
  std::vector<ServerId> holders;
  for (bool corrupt : {false, true}) {
    for (const Member& member : members_) {
      if (member.in_new || member.fence != Ask::kAnswered || member.info.accepted != base_) continue;
      if (member.info.corrupt == corrupt) holders.push_back(member.server);
    }
  }
  return holders;
}

void Reconfiguration::OnBeginReply(ServerId server, const Status& status, const ReplicaInfo& info) {
  Member* member = Find(server);
  if (member == nullptr) return;
  highest_promise_ = std::max(highest_promise_, info.promised);
  if (member->install != Install::kBeginSent) return;
  if (status.ok() && info.accepted.epoch == input_.epoch && info.accepted >= Target()) {
    return OnInstalled(*member);
  }
  const bool stale =
      status.ok() || status.code() == StatusCode::kStaleReplica || status.code() == StatusCode::kUnknownChunk;
  if (!stale) return OnInstallError(*member, status, info);
  member->install = Install::kNeedsSync;
  member->problem = status;
  SendWaitingSyncs();
}

void Reconfiguration::OnSyncReply(ServerId server, const Status& status, const ReplicaInfo& info) {
  Member* member = Find(server);
  if (member == nullptr) return;
  highest_promise_ = std::max(highest_promise_, info.promised);
  if (member->install != Install::kSyncSent) return;
  if (!status.ok()) return OnInstallError(*member, status, info);
  if (info.accepted.epoch == input_.epoch && info.accepted >= Target()) return OnInstalled(*member);
  if (info.accepted == base_) return SendBegin(*member);
  OnInstallError(*member,
                 Status(StatusCode::kStaleReplica,
                        "synced to " + ToString(Target()) + " but is at " + ToString(info.accepted)),
                 info);
}

void Reconfiguration::OnInstalled(Member& member) {
  member.install = Install::kDone;
  member.problem = Status::Ok();
  if (phase_ == Phase::kActivating || phase_ == Phase::kActive) {
    // A live writer moves on at once: who is late now is a laggard of the new epoch.
    if (input_.purpose != ReconfigurePurpose::kLiveWriter) {
      actions_.push_back(AddCarrier{member.server, Target()});
      SendWaitingSyncs();
    }
    return;
  }
  TryToActivate();
  if (phase_ == Phase::kInstalling || input_.purpose != ReconfigurePurpose::kLiveWriter) SendWaitingSyncs();
}

void Reconfiguration::OnInstallError(Member& member, const Status& status, const ReplicaInfo& info) {
  member.install = Install::kError;
  member.problem = status;
  if (status.code() == StatusCode::kFenced && phase_ == Phase::kInstalling) {
    Fail(status.WithContext("begin at " + ToString(member.server) + " in epoch " + ToString(input_.epoch)));
  }
}

void Reconfiguration::TryToActivate() {
  const std::vector<ServerId> carriers = Carriers();
  if (phase_ != Phase::kInstalling || carriers.size() < Required()) return;
  phase_ = Phase::kActivating;
  Activate activate;
  activate.config = {input_.epoch, input_.members, input_.write_quorum, base_};
  activate.stamp = Target();
  activate.length = length_;
  activate.sealed = input_.purpose != ReconfigurePurpose::kLiveWriter;
  activate.carriers = carriers;
  actions_.push_back(std::move(activate));
}

void Reconfiguration::OnActivated() {
  CAIRN_CHECK(phase_ == Phase::kActivating, "only what was given out can be activated");
  phase_ = Phase::kActive;
}

void Reconfiguration::Fail(Status status) {
  phase_ = Phase::kFailed;
  failure_ = std::move(status);
  actions_.clear();
}

// --- Members that come back, and what is told about the wait
// ----------------------------------------------------------

void Reconfiguration::OnMemberBack(ServerId server) {
  Member* member = Find(server);
  if (member == nullptr) return;
  if (phase_ == Phase::kFencing && member->in_old && !member->lost && member->fence != Ask::kAnswered) {
    SendFence(*member);
  }
  if (phase_ == Phase::kFailed || phase_ == Phase::kNeverWritten) return;
  if (phase_ == Phase::kInstalling && base_damaged_ && member->in_old && !member->lost && member->fence != Ask::kAnswered)
    return SendFence(*member);
  if (phase_ == Phase::kFencing || !member->in_new || member->install == Install::kDone) return;
  // After an activation under a live writer the member is out of date by the time it would be done.
  if (phase_ != Phase::kInstalling && input_.purpose == ReconfigurePurpose::kLiveWriter) return;
  // Begin tells again where it stands; a begin on a replica that has begun is answered with its stamp.
  SendBegin(*member);
}

void Reconfiguration::Retry() {
  for (Member& member : members_) {
    if (member.fence == Ask::kError || member.install == Install::kError) OnMemberBack(member.server);
  }
}

void Reconfiguration::DeclareLost(ServerId server) {
  Member* member = Find(server);
  if (member == nullptr || !member->in_old || member->lost) return;
  member->lost = true;
  TryToChooseBase();
}

bool Reconfiguration::outstanding() const {
  return std::any_of(members_.begin(), members_.end(), [this](const Member& member) {
    if (phase_ == Phase::kFencing) return member.fence == Ask::kSent;
    return member.install == Install::kBeginSent || member.install == Install::kSyncSent;
  });
}

bool Reconfiguration::finished() const {
  if (phase_ == Phase::kFailed || phase_ == Phase::kNeverWritten) return true;
  if (phase_ != Phase::kActive) return false;
  return input_.purpose == ReconfigurePurpose::kLiveWriter || !outstanding();
}

std::vector<ServerId> Reconfiguration::Carriers() const {
  std::vector<ServerId> carriers;
  for (bool corrupt : {false, true}) {  // intact ones first: they are also the sources of syncs
    for (const Member& member : members_) {
      if (member.install == Install::kDone && member.info.corrupt == corrupt)
        carriers.push_back(member.server);
    }
  }
  return carriers;
}

std::string Reconfiguration::WaitReason() const {
  if (phase_ == Phase::kFailed || phase_ == Phase::kNeverWritten || phase_ == Phase::kActive) return {};
  if (phase_ == Phase::kActivating) return "the new configuration is being recorded";
  std::vector<MemberProblem> missing;
  uint32_t have = 0;
  for (const Member& member : members_) {
    const bool fencing = phase_ == Phase::kFencing;
    if (fencing ? !member.in_old : !member.in_new) continue;
    if (fencing ? member.fence == Ask::kAnswered : member.install == Install::kDone) {
      if (!fencing || Votes(member)) {
        ++have;
      } else {
        missing.push_back({member.server, Status(StatusCode::kDamaged, "answered, but lost power since")});
      }
    } else if (fencing && member.lost) {
      missing.push_back({member.server, Status(StatusCode::kUnavailable, "declared lost")});
    } else if (!member.problem.ok()) {
      missing.push_back({member.server, member.problem});
    } else {
      missing.push_back({member.server, Status(StatusCode::kTimeout, "has not answered yet")});
    }
  }
  if (phase_ == Phase::kFencing) {
    std::string reason = std::to_string(have) + " of the " + std::to_string(ReadQuorum(input_.old)) +
                         " answers required from the members of epoch " + ToString(input_.old.epoch);
    if (damaged_) reason = damage_ + "; " + reason;
    return missing.empty() ? reason : reason + "; waiting for " + DescribeProblems(missing);
  }
  return std::to_string(have) + " of the " + std::to_string(Required()) + " members required are at " +
         ToString(Target()) + "; waiting for " + DescribeProblems(missing);
}

}  // namespace cairn::replication
