#include "master/state/state_machine.h"

#include <algorithm>
#include <utility>

#include "master/state/chunk_queries.h"
#include "master/state/context.h"
#include "master/state/effects.h"
#include "master/state/ops/ops.h"

namespace cairn::master {
namespace {

// Results are forgotten in lots, so that most commands need not look for old ones.
constexpr uint64_t kPruneAfter = 64;

Status Dispatch(Context& c) {
  const proto::LogCommand& command = c.command();
  switch (command.op_case()) {
    case proto::LogCommand::kCreate:
      return ApplyCreate(c, command.create());
    case proto::LogCommand::kMkdir:
      return ApplyMkdir(c, command.mkdir());
    case proto::LogCommand::kMknod:
      return ApplyMknod(c, command.mknod());
    case proto::LogCommand::kSymlink:
      return ApplySymlink(c, command.symlink());
    case proto::LogCommand::kLink:
      return ApplyLink(c, command.link());
    case proto::LogCommand::kUnlink:
      return ApplyUnlink(c, command.unlink());
    case proto::LogCommand::kRmdir:
      return ApplyRmdir(c, command.rmdir());
    case proto::LogCommand::kRename:
      return ApplyRename(c, command.rename());
    case proto::LogCommand::kSetAttr:
      return ApplySetAttr(c, command.set_attr());
    case proto::LogCommand::kSetXattr:
      return ApplySetXattr(c, command.set_xattr());
    case proto::LogCommand::kRemoveXattr:
      return ApplyRemoveXattr(c, command.remove_xattr());
    case proto::LogCommand::kAnnounce:
      return ApplyAnnounce(c, command.announce());
    case proto::LogCommand::kWriteBack:
      return ApplyWriteBack(c, command.write_back());
    case proto::LogCommand::kCloseOrphans:
      return ApplyCloseOrphans(c, command.close_orphans());
    case proto::LogCommand::kSetPolicy:
      return ApplySetPolicy(c, command.set_policy());
    case proto::LogCommand::kGrantWriteLease:
      return ApplyGrantWriteLease(c, command.grant_write_lease());
    case proto::LogCommand::kEndWriteLease:
      return ApplyEndWriteLease(c, command.end_write_lease());
    case proto::LogCommand::kOpenSession:
      return ApplyOpenSession(c, command.open_session());
    case proto::LogCommand::kCloseSession:
      return ApplyCloseSession(c, command.close_session());
    case proto::LogCommand::kRegisterServer:
      return ApplyRegisterServer(c, command.register_server());
    case proto::LogCommand::kBeginReconfiguration:
      return ApplyBeginReconfiguration(c, command.begin_reconfiguration());
    case proto::LogCommand::kActivateConfiguration:
      return ApplyActivateConfiguration(c, command.activate_configuration());
    case proto::LogCommand::kChunkErased:
      return ApplyChunkErased(c, command.chunk_erased());
    case proto::LogCommand::kReserveIds:
      return ApplyReserveIds(c, command.reserve_ids());
    case proto::LogCommand::kAcceptLoss:
      return ApplyAcceptLoss(c, command.accept_loss());
    case proto::LogCommand::kReportCarriers:
      return ApplyReportCarriers(c, command.report_carriers());
    case proto::LogCommand::kHoldOpen:
      return ApplyHoldOpen(c, command.hold_open());
    case proto::LogCommand::kReclaimInode:
      return ApplyReclaimInode(c, command.reclaim_inode());
    case proto::LogCommand::kMarkDamaged:
      return ApplyMarkDamaged(c, command.mark_damaged());
    case proto::LogCommand::kSetServerMode:
      return ApplySetServerMode(c, command.set_server_mode());
    case proto::LogCommand::kRecordEvent:
      return ApplyRecordEvent(c, command.record_event());
    case proto::LogCommand::kUndelete:
      return ApplyUndelete(c, command.undelete());
    case proto::LogCommand::kTrashPurge:
      return ApplyTrashPurge(c, command.trash_purge());
    case proto::LogCommand::kSetRebalance:
      return ApplySetRebalance(c, command.set_rebalance());
    case proto::LogCommand::kAccessed:
      return ApplyAccessed(c, command.accessed());
    case proto::LogCommand::kSetServerLabels:
      return ApplySetServerLabels(c, command.set_server_labels());
    case proto::LogCommand::kSetServerDisks:
      return ApplySetServerDisks(c, command.set_server_disks());
    case proto::LogCommand::kRepairMetadata:
      return ApplyRepairMetadata(c, command.repair_metadata());
    case proto::LogCommand::OP_NOT_SET:
      break;
  }
  return {StatusCode::kMalformed, "a command of a kind that this version does not know"};
}

void SetStatus(const Status& status, proto::Reply* reply) {
  reply->mutable_status()->set_code(static_cast<uint32_t>(status.code()));
  reply->mutable_status()->set_message(status.message());
}

// Runs the operation; on an error nothing of it is left but the status.
void Run(const proto::LogCommand& command, bool preview, MetaTxn* txn, ApplyResult* result) {
  Context context(command, txn, result, preview);
  txn->SetSavepoint();
  const Status status = Dispatch(context);
  if (status.ok()) {
    txn->DropSavepoint();
    RemoveDuplicates(&result->effects);
    // A write-back sets the status of its first refused item itself.
    if (!result->reply.has_status()) SetStatus(status, &result->reply);
    return;
  }
  txn->RollbackToSavepoint();
  result->effects = {};
  result->reply.Clear();
  SetStatus(status, &result->reply);
}

// Answers from the stored results, or says why the command cannot run; nullopt: it is new.
std::optional<ApplyResult> FindRepeat(const proto::LogCommand& command, const proto::SessionRecord& session,
                                      const MetaReader& reader) {
  ApplyResult result;
  const uint64_t number = command.request_number();
  if (std::optional<proto::Reply> stored = StoredReply(reader, SessionId(command.session()), number)) {
    result.reply = *std::move(stored);
    result.repeated = true;
    return result;
  }
  if (number <= session.pruned_through()) {
    SetStatus({StatusCode::kMayHaveCommitted,
               "the result of request " + std::to_string(number) + " was acknowledged and forgotten"},
              &result.reply);
    return result;
  }
  if (number > std::max(session.pruned_through(), command.acked_through()) + kMaxOutstandingRequests) {
    SetStatus({StatusCode::kResourceExhausted, "more than " + std::to_string(kMaxOutstandingRequests) +
                                                   " requests without an acknowledgement of their replies"},
              &result.reply);
    return result;
  }
  return std::nullopt;
}

// Forgets results whose replies arrived.
void Prune(const proto::LogCommand& command, proto::SessionRecord session, MetaTxn* txn) {
  const uint64_t through = std::min(command.acked_through(), command.request_number() - 1);
  if (through < session.pruned_through() + kPruneAfter) return;
  const SessionId id(command.session());
  std::vector<std::string> gone;
  for (auto it = txn->Scan(Family::kResults, keys::StoredResult(id, session.pruned_through() + 1),
                           keys::StoredResult(id, through + 1));
       it->Valid(); it->Next()) {
    gone.emplace_back(it->key());
  }
  for (const std::string& key : gone) txn->Delete(Family::kResults, key);
  session.set_pruned_through(through);
  Save(txn, Family::kSessions, keys::Session(id), session);
}

// A preview works with a number that no inode has; callers see 0 for the inode that is not made yet.
void HidePlaceholder(Effects* effects) {
  const auto hide = [](InodeId* inode) {
    if (*inode == kPlaceholderInode) *inode = InodeId(0);
  };
  for (InodeChunk& needed : effects->placements_needed) hide(&needed.inode);
  for (LeaseChange& granted : effects->leases_granted) hide(&granted.inode);
}

}  // namespace

ApplyResult StateMachine::Apply(const proto::LogCommand& command, uint64_t log_index, MetaTxn* txn) const {
  ApplyResult result;
  if (command.session() == 0 || command.request_number() == 0) {
    Run(command, /*preview=*/false, txn, &result);
    result.reply.set_log_index(log_index);
    return result;
  }
  const std::optional<proto::SessionRecord> session = SessionRecordOf(*txn, SessionId(command.session()));
  if (!session) {
    SetStatus({StatusCode::kSessionUnknown, "session " + std::to_string(command.session()) + " has ended"},
              &result.reply);
    result.reply.set_number(command.request_number());
    return result;
  }
  if (std::optional<ApplyResult> repeat = FindRepeat(command, *session, *txn)) {
    repeat->reply.set_number(command.request_number());
    return *std::move(repeat);
  }
  Run(command, /*preview=*/false, txn, &result);
  result.reply.set_number(command.request_number());
  result.reply.set_log_index(log_index);
  Prune(command, *session, txn);
  if (result.reply.status().code() != static_cast<uint32_t>(StatusCode::kNeedGroups)) {
    Save(txn, Family::kResults, keys::StoredResult(SessionId(command.session()), command.request_number()),
         result.reply);
  }
  return result;
}

ApplyResult StateMachine::Preview(const proto::LogCommand& command, MetaTxn* txn) const {
  ApplyResult result;
  if (command.session() != 0 && command.request_number() != 0) {
    const std::optional<proto::SessionRecord> session = SessionRecordOf(*txn, SessionId(command.session()));
    if (!session) {
      SetStatus({StatusCode::kSessionUnknown, "session " + std::to_string(command.session()) + " has ended"},
                &result.reply);
      result.reply.set_number(command.request_number());
      return result;
    }
    if (std::optional<ApplyResult> repeat = FindRepeat(command, *session, *txn)) {
      repeat->reply.set_number(command.request_number());
      return *std::move(repeat);
    }
  }
  txn->SetSavepoint();
  Run(command, /*preview=*/true, txn, &result);
  txn->RollbackToSavepoint();
  HidePlaceholder(&result.effects);
  result.reply.set_number(command.request_number());
  return result;
}

proto::Policy DefaultPolicy() {
  proto::Policy policy;
  policy.set_replicas(3);
  policy.set_write_quorum(2);
  policy.set_chunk_bytes(64ull << 20);
  policy.set_failure_domain("server");
  return policy;
}

void Initialize(const proto::Time& now, MetaTxn* txn) {
  if (IsInitialized(*txn)) return;
  proto::InodeRecord root;
  root.set_type(proto::DIRECTORY);
  root.set_mode(0755);
  root.set_nlink(2);
  *root.mutable_atime() = now;
  *root.mutable_mtime() = now;
  *root.mutable_ctime() = now;
  *root.mutable_btime() = now;
  root.set_generation(1);
  root.set_parent(kRootInode.value());
  SaveInode(txn, kRootInode, root);
  Save(txn, Family::kPolicies, keys::Inode(kRootInode), DefaultPolicy());
  proto::Counters counters;
  counters.set_inodes(1);
  counters.set_policies(1);
  Save(txn, Family::kMeta, keys::kCounters, counters);
  proto::IdLimits limits;
  limits.set_inodes_below(kRootInode.value() + 1);
  Save(txn, Family::kMeta, keys::kIds, limits);
}

bool IsInitialized(const MetaReader& reader) {
  return reader.Get(Family::kInodes, keys::Inode(kRootInode)).has_value();
}

void SetAppliedIndex(uint64_t index, MetaTxn* txn) {
  txn->Put(Family::kMeta, keys::kAppliedIndex, keys::Key(index));
}

uint64_t AppliedIndex(const MetaReader& reader) {
  const std::optional<std::string> value = reader.Get(Family::kMeta, keys::kAppliedIndex);
  return value ? keys::NumberAt(*value, 0) : 0;
}

}  // namespace cairn::master
