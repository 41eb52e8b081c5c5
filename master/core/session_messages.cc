#include <algorithm>
#include <map>

#include "common/log.h"
#include "common/wire/frame.h"
#include "master/core/file_locks.h"
#include "master/core/messages.h"
#include "master/core/request_op.h"
#include "master/state/chunk_queries.h"
#include "master/state/queries.h"

namespace cairn::master {
namespace {

constexpr size_t kMaxNameBytesOfClient = 255;

bool IsMutation(proto::Request::OpCase op) {
  switch (op) {
    case proto::Request::kCreate:
    case proto::Request::kMkdir:
    case proto::Request::kMknod:
    case proto::Request::kSymlink:
    case proto::Request::kLink:
    case proto::Request::kUnlink:
    case proto::Request::kRmdir:
    case proto::Request::kRename:
    case proto::Request::kSetAttr:
    case proto::Request::kSetXattr:
    case proto::Request::kRemoveXattr:
    case proto::Request::kAnnounce:
    case proto::Request::kWriteBack:
    case proto::Request::kCloseOrphans:
    case proto::Request::kSetPolicy:
    case proto::Request::kUndelete:
    case proto::Request::kTrashPurge:
    case proto::Request::kAccessed:
      return true;
    default:
      return false;
  }
}

// A stored reply as it is true now: leases that ended meanwhile must not be used again.
void KeepPresentLeases(Core& core, SessionId session, proto::Reply* reply) {
  proto::Reply kept;
  for (const proto::Lease& lease : reply->leases()) {
    const HeldLease* held = core.leases().Find(InodeId(lease.inode()), session);
    if (held != nullptr && held->number == Epoch(lease.number())) *kept.add_leases() = lease;
  }
  if (reply->has_entry()) {
    const InodeId inode(reply->entry().attr().inode());
    const HeldLease* held = core.leases().Find(inode, session);
    const bool told = std::any_of(kept.leases().begin(), kept.leases().end(),
                                  [&](const proto::Lease& lease) { return lease.inode() == inode.value(); });
    if (held != nullptr && !told) {
      proto::Lease* lease = kept.add_leases();
      lease->set_inode(inode.value());
      lease->set_mode(static_cast<proto::LeaseMode>(held->mode));
      lease->set_number(held->number.value());
    }
  }
  *reply->mutable_leases() = kept.leases();
}

// A client that gave a write lease back (or lowered it) to the master before, and whose answer was lost, holds it on record
// still. It must not be granted the same lease again: its epoch has mutations of the client's that the record knows nothing
// of, and new ones under the same numbers would be taken for repeats. The client repeats its answer when it is asked.
void RecallUnclaimed(Core& core, const Session& session, const proto::Hello& hello) {
  std::map<InodeId, LeaseMode> claimed;
  for (const proto::LeaseClaim& claim : hello.claims())
    claimed[InodeId(claim.inode())] = claim.mode() == proto::LEASE_WRITE ? LeaseMode::kWrite : LeaseMode::kRead;
  for (InodeId inode : core.leases().WriteLeases(session.id)) {
    const auto found = claimed.find(inode);
    const LeaseMode leave = found == claimed.end() ? LeaseMode::kNone : found->second;
    // Told with everything that is still to be given back, after the answer to the Hello.
    if (leave != LeaseMode::kWrite) (void)core.leases().RecallOne(inode, session.id, leave, false, core.now());
  }
}

// One host must not take the places of all others.
Status RoomForSession(Core& core, const std::string& host) {
  const size_t sessions = core.sessions().all().size();
  const CoreOptions& options = core.options();
  if (sessions >= options.max_sessions) {
    return Status(StatusCode::kResourceExhausted, "this master has " + std::to_string(options.max_sessions) +
                                                      " sessions, its limit (--max-sessions)");
  }
  if (sessions < options.max_sessions_per_host || host.empty() || core.sessions().OfHost(host) < options.max_sessions_per_host)
    return Status::Ok();
  return Status(StatusCode::kResourceExhausted, host + " has " + std::to_string(options.max_sessions_per_host) +
                                                    " sessions at this master, the limit of one host (--max-sessions-per-host)");
}

}  // namespace

std::unique_ptr<Operation> MakeOperation(Core& core, SessionId session, proto::Request request) {
  switch (request.op_case()) {
    case proto::Request::kLease:
      return std::make_unique<LeaseRequestOp>(session, std::move(request));
    case proto::Request::kRelease:
    case proto::Request::kWriteBack:
    case proto::Request::kCloseOrphans:
    case proto::Request::kSync:
    case proto::Request::kAccessed:
      return std::make_unique<WriterOp>(session, std::move(request));
    case proto::Request::kLock:
    case proto::Request::kTestLock:
    case proto::Request::kCancelLock:
    case proto::Request::kReturnLocks:
      return std::make_unique<FileLockOp>(session, std::move(request));
    case proto::Request::kChunkTrouble:
      return std::make_unique<ChunkTroubleRequestOp>(session, std::move(request));
    default:
      if (IsMutation(request.op_case())) return std::make_unique<MutationOp>(session, std::move(request));
      return std::make_unique<ReadOp>(session, std::move(request));
  }
}

void SessionMessages::Handle(Core& core, const std::shared_ptr<SessionChannel>& channel,
                             proto::ClientMessage& message) {
  if (message.has_hello()) {
    OnHello(core, channel, message.hello());
    return;
  }
  Session* session = core.sessions_.FindByChannel(channel.get());
  if (session == nullptr) {
    // Either no Hello came first, or the session ended or moved to another stream meanwhile.
    channel->Close(Status(StatusCode::kSessionUnknown, "no session on this stream; say Hello"));
    return;
  }
  switch (message.kind_case()) {
    case proto::ClientMessage::kRequest:
      OnRequest(core, *session, *message.mutable_request());
      break;
    case proto::ClientMessage::kRenew:
      OnRenew(core, *session, message.renew());
      break;
    case proto::ClientMessage::kRecallReply:
      OnRecallReply(core, *session, message.recall_reply());
      break;
    case proto::ClientMessage::kGoodbye:
      core.EndSession(*session, SessionEnd::kGoodbye, "it said goodbye");
      break;
    default:
      channel->Close(Status(StatusCode::kMalformed, "an empty message"));
  }
}

void SessionMessages::OnHello(Core& core, const std::shared_ptr<SessionChannel>& channel,
                              const proto::Hello& hello) {
  if (hello.wire_version() != wire::kWireVersion) {
    channel->Close(Status(StatusCode::kVersionMismatch,
                          "the client speaks wire version " + std::to_string(hello.wire_version()) +
                              ", this master " + std::to_string(wire::kWireVersion)));
    return;
  }
  if (!hello.cluster_id().empty() && hello.cluster_id() != core.cluster_id()) {
    channel->Close(Status(StatusCode::kWrongCluster, "the client wants cluster " + hello.cluster_id() +
                                                         ", this master serves cluster " +
                                                         core.cluster_id()));
    return;
  }
  if (const Session* own = core.sessions_.FindByChannel(channel.get()); own != nullptr && own->id.value() != hello.session()) {
    channel->Close(Status(StatusCode::kMalformed, "there is a session on this stream already: one stream has one"));
    return;
  }
  if (hello.session() != 0) {
    Session* session = core.sessions_.Find(SessionId(hello.session()));
    if (session != nullptr && core.tail().Hold(channel, hello)) {
      core.sessions_.MarkPresent(*session, core.now());  // answered when the others are here, too
      return;
    }
  }
  Answer(core, channel, hello, 0);
}

void SessionMessages::Resume(Core& core, const LogTail::Held& held) {
  Answer(core, held.channel, held.hello, held.lost_commands);
}

void SessionMessages::Answer(Core& core, const std::shared_ptr<SessionChannel>& channel,
                             const proto::Hello& hello, uint32_t lost_commands) {
  proto::MasterMessage message;
  proto::HelloReply* reply = message.mutable_hello_reply();
  reply->set_cluster_id(core.cluster_id());
  reply->set_lost_commands(lost_commands);
  reply->set_lease_ms(static_cast<uint32_t>(core.options().session_lease_ms));
  reply->set_incarnation(core.incarnation());
  reply->set_write_timeout_ms(static_cast<uint32_t>(core.options().write_timeout_ms));
  reply->set_squash_root(core.options().root_squash);
  auto send = [&] { core.session_outbox_.emplace_back(channel, std::move(message)); };

  Session* session = nullptr;
  bool after_restart = false;
  if (hello.session() == 0) {
    if (const Status room = RoomForSession(core, channel->host()); !room.ok()) {
      *reply->mutable_status() = ToProto(room);
      send();
      core.after_commit_.push_back([channel, room] { channel->Close(room); });
      return;
    }
    proto::LogCommand command;
    const SessionId id = core.ids().NextSession();
    auto* open = command.mutable_open_session();
    open->set_session(id.value());
    open->set_client_name(hello.client_name().substr(0, kMaxNameBytesOfClient));
    open->set_host_id(hello.host_id().substr(0, kMaxNameBytesOfClient));
    const ApplyResult result = core.Apply(command);
    if (!result.ok()) {
      *reply->mutable_status() = result.reply.status();
      send();
      return;
    }
    session = &core.sessions_.Add(id, open->client_name(), open->host_id(), core.now());
    CAIRN_LOG(Info, "session {} opened by {}", id.value(), open->client_name());
  } else {
    session = core.sessions_.Find(SessionId(hello.session()));
    if (session == nullptr || !session->doomed.empty()) {
      const std::string why = session == nullptr ? "is not known" : "has ended: " + session->doomed;
      *reply->mutable_status() =
          ToProto(Status(StatusCode::kSessionUnknown,
                         "session " + std::to_string(hello.session()) + " " + why + "; start a new one"));
      send();
      return;
    }
    after_restart = session->missing || session->returned;
    session->returned = false;
    if (session->channel != nullptr && session->channel != channel) {
      core.after_commit_.push_back([old = session->channel] {
        old->Close(Status(StatusCode::kCancelled, "the session continues on another stream"));
      });
    }
  }
  core.sessions_.Attach(*session, channel, core.now());
  session->host = channel->host();
  reply->set_session(session->id.value());
  reply->set_last_request(LastStoredRequest(core.txn(), session->id));
  for (proto::ServerAddress& address : core.servers().Addresses()) *reply->add_servers() = std::move(address);
  session->servers_version = core.servers().version();
  TakeClaims(core, *session, hello, after_restart, reply);
  core.file_locks().Claim(session->id, hello, after_restart, reply);
  const int64_t grace_left = core.sessions_.GraceLeft(core.now());
  reply->set_grace_left_ms(static_cast<uint32_t>(grace_left / kNanosPerMilli));
  if (grace_left == 0) core.WakeGraceWaiters();
  if (hello.session() == 0) {
    // On disk first: a master that forgot a session does not wait for it, nor for what only that client can bring back.
    core.WhenDurable(core.log_index(), [&core, channel, message = std::move(message)]() mutable {
      core.session_outbox_.emplace_back(channel, std::move(message));
    });
    return;
  }
  send();
  core.SendRecalls(core.leases().PendingRecalls(session->id));
  core.file_locks().Resumed(session->id);
}

void SessionMessages::TakeClaims(Core& core, Session& session, const proto::Hello& hello, bool after_restart,
                                 proto::HelloReply* reply) {
  std::vector<InodeId> claimed;
  for (const proto::LeaseClaim& claim : hello.claims()) {
    const InodeId inode(claim.inode());
    const Epoch number(claim.number());
    const LeaseMode mode = claim.mode() == proto::LEASE_WRITE ? LeaseMode::kWrite : LeaseMode::kRead;
    claimed.push_back(inode);
    const HeldLease* held = core.leases().Find(inode, session.id);
    if (held != nullptr && held->number == number && held->mode >= mode) continue;
    bool accepted = false;
    if (after_restart && held == nullptr && InodeExists(core.txn(), inode)) {
      // A claim that contradicts what another session holds under a higher number loses; one with a higher
      // number wins.
      for (const HeldLease& other : core.leases().Holders(inode)) {
        if (other.mode == LeaseMode::kRead && other.number < number && mode == LeaseMode::kWrite) {
          core.SendRecalls(
              core.leases().RecallOne(inode, other.session, LeaseMode::kNone, false, core.now()));
        }
      }
      const auto recorded = WriteLeaseOf(core.txn(), inode);
      const bool free = !recorded && core.leases().Compatible(inode, session.id, mode);
      if (!free && mode == LeaseMode::kRead) {
        // The write lease on record came back before this one was given out, and the log lost that. A refusal would not be waited for.
        core.leases().HoldForRecall(inode, session.id, number, core.now());
        accepted = true;
      } else if (free && mode == LeaseMode::kRead) {
        core.SendRecalls(core.leases().Grant(inode, session.id, mode, number, core.now()));
        accepted = true;
        // What was read may be forgotten with the end of the log. Recalled and not refused: its holder goes on until it hears.
        if (core.tail().MayHaveBeenLost() && core.options().rules.Hold(ServiceRule::kForgetfulMasterEndsReads))
          core.leases().RecallOne(inode, session.id, LeaseMode::kNone, false, core.now());  // sent by Answer
      } else if (free && number < core.ids().epochs_below()) {
        proto::LogCommand command;
        command.set_new_epoch(number.value());
        command.mutable_grant_write_lease()->set_inode(inode.value());
        command.mutable_grant_write_lease()->set_session(session.id.value());
        accepted = core.Apply(command).ok();
      }
    }
    if (!accepted) reply->add_rejected_claims(inode.value());
  }
  // Read leases that the client does not claim any more. Unclaimed write leases stay until their return: their grant may be
  // in a reply that is still to be repeated; a client that does not know one says so when it is recalled.
  if (after_restart) RecallUnclaimed(core, session, hello);
  std::sort(claimed.begin(), claimed.end());
  for (InodeId inode : core.leases().ReadLeases(session.id)) {
    if (std::binary_search(claimed.begin(), claimed.end(), inode)) continue;
    const HeldLease* held = core.leases().Find(inode, session.id);
    core.LeaseReturned(inode, session.id, held->number, LeaseMode::kNone);
  }
  proto::LogCommand command;
  command.mutable_hold_open()->set_session(session.id.value());
  for (uint64_t inode : hello.open_inodes()) {
    if (InodeExists(core.txn(), InodeId(inode))) command.mutable_hold_open()->add_inodes(inode);
  }
  if (command.hold_open().inodes_size() > 0) core.Apply(command);
}

void SessionMessages::OnRequest(Core& core, Session& session, proto::Request& request) {
  if (session.in_flight.contains(request.number())) return;  // sent again after a reconnect; it is under way
  auto refuse = [&](const Status& status) {
    proto::Reply reply;
    reply.set_number(request.number());
    *reply.mutable_status() = ToProto(status);
    core.Answer(session.id, std::move(reply));
  };
  if (session.in_flight.size() >= core.options().max_requests_per_session) {
    return refuse(Status(
        StatusCode::kResourceExhausted,
        "the session has " + std::to_string(session.in_flight.size()) + " requests outstanding, its limit"));
  }
  if (IsMutation(request.op_case())) {
    if (auto stored = StoredReply(core.txn(), session.id, request.number())) {
      KeepPresentLeases(core, session.id, &*stored);
      stored->set_number(request.number());
      if (stored->log_index() <= core.durable_index()) {
        core.Answer(session.id, *std::move(stored));
        return;
      }
      // The command itself was sent beside the first reply, perhaps into a broken stream.
      const uint64_t index = stored->log_index();
      core.WhenDurable(index, [&core, id = session.id, reply = *std::move(stored)]() mutable {
        core.Answer(id, std::move(reply));
      });
      return;
    }
  }
  if (core.options().root_squash && request.credentials().uid() == 0) {
    request.mutable_credentials()->set_uid(core.options().squash_uid);
    request.mutable_credentials()->set_gid(core.options().squash_gid);
    request.mutable_credentials()->clear_groups();
    request.mutable_credentials()->set_groups_known(true);
  }
  ++session.requests;
  core.CountRequest(static_cast<int>(request.op_case()));
  const uint64_t number = request.number();
  const OperationId id = core.StartOperation(MakeOperation(core, session.id, std::move(request)));
  session.in_flight[number] = id;
}

void SessionMessages::OnRenew(Core& core, Session& session, const proto::Renew& renew) {
  if (!session.doomed.empty() && core.options().rules.Hold(ServiceRule::kEvictedIsNotRenewed)) return;
  core.sessions_.Renew(session, core.now());
  proto::MasterMessage message;
  proto::RenewReply* reply = message.mutable_renew_reply();
  reply->set_number(renew.number());
  if (session.servers_version != core.servers().version()) {
    session.servers_version = core.servers().version();
    for (proto::ServerAddress& address : core.servers().Addresses())
      *reply->add_servers() = std::move(address);
  }
  core.Send(session.id, std::move(message));
}

void SessionMessages::OnRecallReply(Core& core, Session& session, const proto::RecallReply& reply) {
  const InodeId inode(reply.inode());
  const Epoch number(reply.number());
  const HeldLease* held = core.leases().Find(inode, session.id);
  if (held == nullptr || held->number != number) return;  // returned before; a later lease is not meant
  if (!reply.done()) {
    core.leases().Progress(inode, session.id, number, reply.dirty_bytes(), core.now());
    return;
  }
  LeaseMode keep = held->recalled ? held->recall_to : LeaseMode::kNone;
  if (reply.has_commit()) {
    const LeaseMode stated = reply.commit().keep() == proto::LEASE_READ ? LeaseMode::kRead : LeaseMode::kNone;
    keep = std::min(keep, stated);
  }
  if (keep == LeaseMode::kNone) NoteOpen(core, session.id, inode, reply.still_open());
  if (held->mode == LeaseMode::kWrite) {
    TakeBackWriteLease(core, inode, session.id, number, keep, reply.has_commit() ? &reply.commit() : nullptr);
  } else {
    core.LeaseReturned(inode, session.id, number, LeaseMode::kNone);
  }
}

}  // namespace cairn::master
