#include <algorithm>
#include <map>
#include <utility>

#include "common/log.h"
#include "master/core/recover_op.h"
#include "master/core/request_op.h"
#include "master/state/chunk_queries.h"
#include "master/state/records.h"

namespace cairn::master {

void NoteOpen(Core& core, SessionId session, InodeId inode, bool still_open) {
  const std::vector<SessionId> holders = HoldersOf(core.txn(), inode);
  const bool noted = std::find(holders.begin(), holders.end(), session) != holders.end();
  if (noted == still_open) return;
  proto::LogCommand command;
  if (still_open) {
    command.mutable_hold_open()->set_session(session.value());
    command.mutable_hold_open()->add_inodes(inode.value());
  } else {
    command.set_session(session.value());
    command.mutable_close_orphans()->add_inodes(inode.value());
  }
  core.Apply(command);
}

void TakeBackWriteLease(Core& core, InodeId inode, SessionId session, Epoch number, LeaseMode keep,
                        const proto::InodeCommit* commit) {
  if (commit != nullptr) {
    proto::LogCommand command;
    command.set_session(session.value());
    *command.mutable_write_back()->add_commits() = *commit;
    const ApplyResult result = core.Apply(command);
    if (!result.ok()) {
      CAIRN_LOG(Warning, "session {}, inode {}: last commit under lease {} refused: {}", session.value(),
                inode.value(), number.value(), result.reply.status().message());
    }
  }
  // Whatever the commit did not resolve is recovered; without one the lease just ends.
  auto recorded = WriteLeaseOf(core.txn(), inode);
  if (recorded && recorded->lease == number && !recorded->vanished) {
    proto::LogCommand command;
    command.set_session(session.value());
    command.mutable_end_write_lease()->set_inode(inode.value());
    command.mutable_end_write_lease()->set_lease(number.value());
    core.Apply(command);
  }
  core.LeaseReturned(inode, session, number, LeaseMode::kNone);
  recorded = WriteLeaseOf(core.txn(), inode);
  if (recorded && recorded->vanished) {
    RecoverOp::Ensure(core, inode);
    // The holder does not know the outcome of its own writes: it must ask again.
    return;
  }
  if (keep == LeaseMode::kRead && core.leases().Compatible(inode, session, LeaseMode::kRead)) {
    core.SendRecalls(core.leases().Grant(inode, session, LeaseMode::kRead, number, core.now()));
  }
}

Progress WriterOp::Try(Core& core) {
  switch (request_.op_case()) {
    case proto::Request::kRelease:
      return Release(core);
    case proto::Request::kWriteBack:
      return WriteBack(core);
    case proto::Request::kSync:
      return Sync(core);
    case proto::Request::kAccessed:
      return Accessed(core);
    case proto::Request::kCloseOrphans: {
      proto::LogCommand command = NewCommand();
      *command.mutable_close_orphans() = request_.close_orphans();
      return Reply(core, core.Apply(command).reply);
    }
    default:
      return Fail(core, Status(StatusCode::kNotSupported, "this master does not know the request"));
  }
}

Progress WriterOp::Release(Core& core) {
  for (const proto::ReleaseItem& item : request_.release().items()) {
    const InodeId inode(item.inode());
    const Epoch number(item.number());
    const HeldLease* held = core.leases().Find(inode, session);
    if (held == nullptr || held->number != number) continue;
    NoteOpen(core, session, inode, item.still_open());
    if (held->mode == LeaseMode::kWrite) {
      TakeBackWriteLease(core, inode, session, number, LeaseMode::kNone, nullptr);
    } else {
      core.LeaseReturned(inode, session, number, LeaseMode::kNone);
    }
  }
  proto::Reply reply;
  reply.set_log_index(core.log_index());
  return Reply(core, std::move(reply));
}

Progress WriterOp::WriteBack(Core& core) {
  if (written_back_) {
    if (core.durable_index() < wait_index_) return Progress::kWaiting;
    return Reply(core, *std::move(written_back_));
  }
  proto::LogCommand command = NewCommand();
  *command.mutable_write_back() = request_.write_back();
  // Holds are noted before the leases go, so that no delete slips in between.
  ApplyResult result = core.Apply(command);
  if (!result.repeated) {
    const auto& failures = result.reply.write_back().failures();
    for (const proto::InodeCommit& commit : request_.write_back().commits()) {
      if (commit.keep() == proto::LEASE_WRITE) continue;
      const InodeId inode(commit.inode());
      const Epoch number(commit.lease());
      const bool failed =
          std::any_of(failures.begin(), failures.end(),
                      [&](const proto::CommitFailure& failure) { return failure.inode() == commit.inode(); });
      if (failed) continue;
      // With a read lease kept, its return will say whether the file is still open.
      if (commit.keep() == proto::LEASE_NONE) NoteOpen(core, session, inode, commit.still_open());
      TakeBackWriteLease(core, inode, session, number,
                         commit.keep() == proto::LEASE_READ ? LeaseMode::kRead : LeaseMode::kNone, nullptr);
    }
  }
  if (request_.write_back().durable() && core.durable_index() < core.log_index()) {
    written_back_ = std::move(result.reply);
    wait_index_ = core.log_index();
    core.WhenDurable(wait_index_, [&core, me = id] { core.Wake(me); });
    return Progress::kWaiting;
  }
  return Reply(core, std::move(result.reply));
}

Progress WriterOp::Sync(Core& core) {
  if (wait_index_ == 0) {
    wait_index_ = std::max<uint64_t>(core.log_index(), 1);
    if (core.durable_index() < core.log_index()) {
      core.WhenDurable(wait_index_, [&core, me = id] { core.Wake(me); });
      return Progress::kWaiting;
    }
  }
  proto::Reply reply;
  reply.set_log_index(wait_index_);
  return Reply(core, std::move(reply));
}

Progress WriterOp::Accessed(Core& core) {
  if (const Status allowed = core.MutationsAllowed(); !allowed.ok()) return Fail(core, allowed);
  proto::LogCommand command = NewCommand();
  *command.mutable_accessed() = request_.accessed();
  ApplyResult result = core.Apply(command);
  // Whoever shows these inodes to its programs is told, instead of losing a lease for it.
  std::map<SessionId, proto::MasterMessage> notices;
  for (const InodeId inode : result.effects.accessed) {
    for (const HeldLease& held : core.leases().Holders(inode)) {
      if (held.session == session) continue;
      const Result<proto::InodeRecord> record = LoadInode(core.txn(), inode);
      if (!record.ok()) break;
      proto::AccessTime* file = notices[held.session].mutable_notice()->mutable_accessed()->add_files();
      file->set_inode(inode.value());
      *file->mutable_atime() = record->atime();
    }
  }
  for (auto& [other, message] : notices) core.Send(other, std::move(message));
  return Reply(core, std::move(result.reply));
}

}  // namespace cairn::master
