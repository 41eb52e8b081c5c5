#include "master/service/metadata_checks.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <utility>

#include "master/cluster/commander.h"
#include "master/core/core.h"
#include "master/core/repair_metadata_op.h"
#include "master/state/fsck.h"
#include "master/state/state_machine.h"

namespace cairn::master {
namespace {

constexpr uint32_t kMaxItems = 10'000;
constexpr uint32_t kDefaultItems = 1000;
constexpr size_t kMaxChecks = 4;
constexpr auto kExpiry = std::chrono::minutes(5);
// Repairs of one answer: they may wait for recalls, and the caller for them.
constexpr size_t kRepairsPerPage = 64;

}  // namespace

Status MetadataChecks::Find(const proto::FsckRequest& request, uint64_t* id, std::string* inner) {
  const auto now = std::chrono::steady_clock::now();
  std::erase_if(checks_, [&](const auto& entry) { return now - entry.second.used > kExpiry; });
  if (request.cursor().empty()) {
    if (checks_.size() >= kMaxChecks) return {StatusCode::kResourceExhausted, "other checks are running"};
    if (request.mode() != proto::FSCK_CHECK && request.inode() != 0 && InodeId(request.inode()) != kRootInode)
      return {StatusCode::kInvalidArgument, "only a check of everything can repair: what a part is missing may be elsewhere"};
    *id = next_++;
    Check& check = checks_[*id];
    check.reader = core_->store().Snapshot();
    check.mode = request.mode();
  } else if (request.cursor().size() >= sizeof(*id)) {
    std::memcpy(id, request.cursor().data(), sizeof(*id));
    *inner = request.cursor().substr(sizeof(*id));
  }
  const auto it = checks_.find(*id);
  if (it == checks_.end())
    return {StatusCode::kInvalidArgument, "this check of the metadata has ended; start it again"};
  if (it->second.mode != request.mode())
    return {StatusCode::kInvalidArgument, "a check goes on in the mode in which it was begun"};
  it->second.used = now;
  return Status::Ok();
}

Status MetadataChecks::CheckNext(Check& check, const proto::FsckRequest& request, const std::string& inner,
                                 proto::FsckResponse* response) {
  const InodeId inode(request.inode() == 0 ? kRootInode.value() : request.inode());
  const uint32_t items = request.max_items() == 0 ? kDefaultItems : std::min(request.max_items(), kMaxItems);
  CAIRN_ASSIGN_OR_RETURN(*response, CheckPage(*check.reader, inode, inner, items));
  if (check.mode == proto::FSCK_CHECK) return Status::Ok();
  check.plan.Add(*response);
  if (!response->cursor().empty()) return Status::Ok();
  check.planned = true;
  check.repairs = check.plan.Take(*check.reader);
  if (check.mode == proto::FSCK_PREVIEW) check.trial = std::make_unique<MetaTxn>(std::move(check.reader));
  return Status::Ok();
}

std::vector<PlannedRepair> MetadataChecks::NextRepairs(Check& check) {
  const size_t count = std::min(kRepairsPerPage, check.repairs.size() - check.next);
  const auto first = std::make_move_iterator(check.repairs.begin() + static_cast<int64_t>(check.next));
  check.next += count;
  return {first, first + static_cast<int64_t>(count)};
}

void MetadataChecks::Preview(Check& check, std::vector<PlannedRepair> repairs, proto::FsckResponse* response) {
  for (PlannedRepair& repair : repairs) {
    proto::LogCommand command;
    *command.mutable_repair_metadata() = std::move(repair.command);
    command.set_new_inode(UINT64_MAX - 1);
    command.set_new_epoch(UINT64_MAX - 1);
    SetOutcome(StateMachine().Apply(command, 0, check.trial.get()).reply, proto::FSCK_REPAIRABLE, &repair.problem);
    *response->add_repairs() = std::move(repair.problem);
  }
}

void MetadataChecks::GoOn(uint64_t id, bool done, const std::string& inner, proto::FsckResponse* response) {
  if (done) {
    checks_.erase(id);
    response->clear_cursor();
    return;
  }
  response->set_cursor(std::string(reinterpret_cast<const char*>(&id), sizeof(id)) + inner);
}

void MetadataChecks::Repair(uint64_t id, std::vector<PlannedRepair> repairs, const std::string& by, Answer answer) {
  auto shared = std::make_shared<std::vector<PlannedRepair>>(std::move(repairs));
  auto done = [this, id, answer](std::vector<proto::FsckProblem> problems) {
    proto::FsckResponse response;
    response.mutable_repairs()->Add(std::make_move_iterator(problems.begin()), std::make_move_iterator(problems.end()));
    {
      std::lock_guard lock(mu_);
      const auto it = checks_.find(id);
      GoOn(id, it == checks_.end() || it->second.next >= it->second.repairs.size(), "", &response);
    }
    answer(std::move(response));
  };
  const bool posted = core_->Post([shared, by, done](Core& core) {
    core.StartOperation(std::make_unique<RepairMetadataOp>(std::move(*shared), by, done));
  });
  if (posted) return;
  proto::FsckResponse response;
  *response.mutable_status() = ToProto(Status(StatusCode::kResourceExhausted, "too many calls wait; check again"));
  answer(std::move(response));
}

void MetadataChecks::Page(const proto::FsckRequest& request, Answer answer) {
  proto::FsckResponse response;
  std::vector<PlannedRepair> repairs;
  uint64_t id = 0;
  {
    std::lock_guard lock(mu_);
    std::string inner;
    Status status = Find(request, &id, &inner);
    if (status.ok()) {
      Check& check = checks_.at(id);
      if (!check.planned) {
        status = CheckNext(check, request, inner, &response);
        const std::string next = response.cursor();
        if (status.ok()) GoOn(id, next.empty() && check.next >= check.repairs.size(), next, &response);
      } else if (repairs = NextRepairs(check); check.mode == proto::FSCK_PREVIEW) {
        Preview(check, std::exchange(repairs, {}), &response);
        GoOn(id, check.next >= check.repairs.size(), "", &response);
      }
    }
    if (!status.ok()) {
      checks_.erase(id);
      response.Clear();
      *response.mutable_status() = ToProto(status);
    }
  }
  if (!repairs.empty()) return Repair(id, std::move(repairs), request.operator_(), std::move(answer));
  answer(std::move(response));
}

}  // namespace cairn::master
