// ClientNode: write-behind, seals and recalls of its files.
#include <algorithm>
#include <utility>

#include "client/session/convert.h"
#include "tests/sim/service/client_node.h"
#include "tests/sim/service/server_node.h"

namespace cairn::sim::service {

using client::LeaseKind;
using replication::ChunkWriter;
using replication::Mutation;

namespace {

constexpr int64_t kSilentMs = 600;      // a member that answers nothing for so long is left out
constexpr int64_t kSealGraceMs = 200;   // for the members beyond W
constexpr int64_t kSealAgainMs = 400;
constexpr int64_t kIdleMs = 1'200;      // then a chunk is sealed while the lease stays
constexpr int64_t kFlushMs = 4'000;     // then a recall is answered although not everything could be flushed
constexpr int64_t kRepeatMs = 2'000;
constexpr int64_t kRetryMs = 300;

bool EndsLease(StatusCode code) {
  return code == StatusCode::kLeaseLost || code == StatusCode::kStaleHandle || code == StatusCode::kNotFound ||
         code == StatusCode::kMayHaveCommitted;
}

}  // namespace

ClientNode::File& ClientNode::FileOf(InodeId inode) {
  auto& file = files_[inode];
  if (file == nullptr) {
    file = std::make_shared<File>();
    file->inode = inode;
  }
  return *file;
}

void ClientNode::Attach(File& file, uint64_t lease, const std::vector<client::ChunkPlace>& places) {
  if (file.lease != 0) history_.OnLeaseLost(file.inode, node_);
  DropWriting(file);
  world_.Trace(NodeName(node_) + " writes inode " + ToString(file.inode) + " under lease " + std::to_string(lease) +
               (places.empty() ? "" : " on " + ToString(places.front().config.base)));
  file.lease = lease;
  file.tenure = session_.cache().Lease(file.inode).tenure;
  file.last_write = world_.now();
  if (places.empty()) return;
  file.place = places.front();
  file.open = file.place->sealed == Stamp{};
}

void ClientNode::DropWriting(File& file) {
  file.lease = 0;
  file.place.reset();
  file.open = file.announcing = file.asking = false;
  file.writer.reset();
  file.buffered.clear();
  file.sent.clear();
  file.seals.clear();
  file.progress.clear();
  file.cached.reset();
}

void ClientNode::TickFile(File& file) {
  if (file.lease != 0) {
    const client::HeldLease held = session_.cache().Lease(file.inode);
    if (held.kind != LeaseKind::kWrite || held.number != file.lease) {
      history_.OnLeaseLost(file.inode, node_);
      DropWriting(file);
    }
  }
  if (file.lease != 0) {
    Submit(file);
    if (file.writer != nullptr) {
      DropSilent(file);
      Pump(file);
    }
    if (file.writer != nullptr) ReportTrouble(file);
  }
  if (file.recall) return TickRecall(file);
  if (file.lease == 0 || file.writer == nullptr || !file.buffered.empty()) return;
  if (world_.now() - file.last_write > kIdleMs && CloseChunk(file, false)) {
    world_.Mark("an idle chunk was sealed under its lease");
    if (world_.Chance(500)) SendSeals(file);
  }
}

void ClientNode::Submit(File& file) {
  if (file.buffered.empty() || file.announcing) return;
  if (!file.open) return Announce(file);
  if (file.writer == nullptr) {
    replication::WriterOptions options;
    options.config = file.place->config;
    options.window_count = 1 + static_cast<uint32_t>(world_.Random(4));
    options.laggard_count = 2 + static_cast<uint32_t>(world_.Random(4));
    options.pending_count = 8;
    options.rules = rules_;
    if (!ValidateConfiguration(options.config).ok()) return world_.Fail("the master gave out a bad configuration");
    file.writer = std::make_unique<ChunkWriter>(file.place->chunk, options);
    file.sent.clear();
    file.progress.clear();
    file.told = options.config.base.seq;
  }
  // Written behind: some at a time.
  while (!file.buffered.empty() && (file.recall || world_.Chance(400))) {
    const Result<uint64_t> seq = file.writer->Submit(100);
    if (!seq.ok()) break;
    file.sent[*seq] = file.buffered.front();
    file.buffered.pop_front();
  }
  Pump(file);
}

proto::InodeCommit ClientNode::CommitOf(File& file) const {
  proto::InodeCommit commit;
  commit.set_inode(file.inode.value());
  commit.set_lease(file.lease);
  uint64_t size = 0;
  if (file.writer != nullptr) {
    size = file.writer->last_seq();
  } else if (file.place) {
    size = file.open ? file.place->config.base.seq : file.place->sealed.seq;
  }
  commit.set_size(size);
  for (const proto::ChunkSeal& seal : file.seals) *commit.add_seals() = seal;
  return commit;
}

void ClientNode::SendSeals(File& file) {
  proto::Request request;
  proto::InodeCommit* commit = request.mutable_write_back()->add_commits();
  *commit = CommitOf(file);
  commit->set_keep(proto::LEASE_WRITE);
  file.seals.clear();
  session_.Call(std::move(request), nullptr);
}

// Opens the chunk (again): a master that knows of its seal gives it a fresh epoch.
void ClientNode::Announce(File& file) {
  file.announcing = true;
  if (!file.seals.empty()) SendSeals(file);
  proto::Request request;
  request.mutable_announce()->set_inode(file.inode.value());
  request.mutable_announce()->set_lease(file.lease);
  request.mutable_announce()->set_count(1);
  session_.Call(std::move(request), [this, inode = file.inode, lease = file.lease](const Status& status,
                                                                                    const proto::Reply& reply) {
    File& mine = FileOf(inode);
    if (mine.lease != lease) return;
    if (status.ok() && reply.layout().chunks_size() > 0) {
      mine.announcing = false;
      mine.place = client::FromProto(reply.layout().chunks(0));
      mine.open = mine.place->sealed == Stamp{};
      return;
    }
    if (EndsLease(status.code())) {
      history_.OnLeaseLost(inode, node_);
      DropWriting(mine);
      session_.cache().Remove(inode, lease);
      return;
    }
    world_.AfterOn(node_, kRetryMs, [this, inode, lease] {
      if (FileOf(inode).lease == lease) FileOf(inode).announcing = false;
    });
  });
}

// --- The chunk's writer ---

void ClientNode::Pump(File& file) {
  if (file.writer == nullptr) return;
  for (const ChunkWriter::Send& send : file.writer->TakeSends()) SendMutation(file, send);
  Tell(file);
}

void ClientNode::SendMutation(File& file, const ChunkWriter::Send& send) {
  Mutation mutation;
  mutation.chunk = file.place->chunk;
  mutation.epoch = send.epoch;
  mutation.seq = send.seq;
  mutation.begin = send.begin;
  mutation.offset = send.seq - 1;  // so that the length of the chunk is the count of its mutations
  mutation.length = 1;
  const uint64_t token = file.sent.at(send.seq);
  Server* server = servers_[send.server.value() - 1];
  const auto mine = [this, inode = file.inode, lease = file.lease]() -> File* {
    File& found = FileOf(inode);
    return found.lease == lease && found.writer != nullptr ? &found : nullptr;
  };
  world_.SendOrdered(
      node_, server->node(),
      [this, server, mutation, token, mine] {
        server->Mutate(node_, mutation, token, [this, server, mutation, mine](const Answer& answer) {
          world_.Send(server->node(), node_, [this, server, mutation, mine, answer] {
            File* found = mine();
            if (found == nullptr) return;
            found->writer->OnMutateReply(server->id(), mutation.epoch, mutation.seq, answer.status, answer.info);
            Pump(*found);
          });
        });
      },
      [this, server, mine] {
        File* found = mine();
        if (found == nullptr) return;
        found->writer->OnDisconnect(server->id());
        world_.AfterOn(node_, 1 + static_cast<int64_t>(world_.Random(100)), [this, server, mine] {
          File* again = mine();
          if (again == nullptr) return;
          again->writer->OnConnect(server->id());
          Pump(*again);
        });
      });
}

// Acknowledged: close would return now. Only while the lease is good: afterwards nobody is told anything.
void ClientNode::Tell(File& file) {
  while (file.told < file.writer->done_seq()) {
    ++file.told;
    const auto token = file.sent.find(file.told);
    if (token != file.sent.end() && session_.LeasesValid()) history_.OnAcknowledged(file.inode, token->second);
  }
}

void ClientNode::DropSilent(File& file) {
  ChunkWriter& writer = *file.writer;
  for (ServerId member : writer.config().members) {
    auto& [seen, since] = file.progress[member];
    const std::optional<uint64_t> acked = writer.acked_seq(member);
    if (since == 0 || acked != seen || acked.value_or(writer.config().base.seq) == writer.last_seq()) {
      seen = acked;
      since = world_.now();
    } else if (world_.now() - since > kSilentMs) {
      writer.OnError(member, Status(StatusCode::kTimeout, "no answer in 0.6 s"));
    }
  }
}

void ClientNode::ReportTrouble(File& file) {
  ChunkWriter& writer = *file.writer;
  const bool fresh = !writer.TakeDrops().empty();
  const bool stuck = writer.below_quorum() || writer.fenced_by_quorum();
  if (!stuck && (writer.dropped().empty() || (!fresh && world_.now() - file.trouble_told < kRepeatMs))) return;
  if (stuck && (file.asking || world_.now() - file.trouble_told < kRetryMs)) return;
  if (fresh) world_.Mark("a member was dropped");
  file.trouble_told = world_.now();
  proto::Request request;
  proto::ChunkTroubleOp* op = request.mutable_chunk_trouble();
  op->set_inode(file.inode.value());
  op->set_chunk(file.place->chunk.value());
  op->set_epoch(writer.config().epoch.value());
  op->set_need_replacement(stuck);
  for (const replication::MemberProblem& problem : writer.dropped()) {
    proto::MemberTrouble* member = op->add_members();
    member->set_server(problem.server.value());
    ToProto(problem.status, member->mutable_status());
  }
  file.asking = stuck;
  if (stuck) world_.Mark("a writer asked for a replacement");
  session_.Call(std::move(request), [this, inode = file.inode, lease = file.lease, stuck](const Status& status,
                                                                                          const proto::Reply& reply) {
    File& mine = FileOf(inode);
    if (mine.lease != lease || !stuck) return;
    mine.asking = false;
    if (status.ok() && reply.layout().chunks_size() > 0)
      return Replace(mine, client::FromProto(reply.layout().chunks(0)));
    if (!EndsLease(status.code())) return;
    world_.Mark("a writer learned that its lease is over");
    history_.OnLeaseLost(inode, node_);
    DropWriting(mine);
    session_.cache().Remove(inode, lease);
  });
}

void ClientNode::Replace(File& file, const client::ChunkPlace& place) {
  if (file.writer == nullptr || place.config.epoch <= file.writer->config().epoch) return;
  const Status status = file.writer->Reconfigure(place.config);
  world_.Trace(NodeName(node_) + " hears that chunk " + ToString(place.chunk) + " goes on at " +
               ToString(place.config.base) + " in epoch " + ToString(place.config.epoch));
  if (status.ok()) {
    world_.Mark("a writer went on in a new configuration");
    file.place = place;
    file.progress.clear();
    return Pump(file);
  }
  world_.Mark("a writer learned that acknowledged writes are lost");
  world_.Trace(NodeName(node_) + ": " + status.ToString());
  for (const auto& [seq, token] : file.sent) history_.OnToldLost(file.inode, token);
  for (uint64_t token : file.buffered) history_.OnToldLost(file.inode, token);
  DropWriting(file);
}

void ClientNode::OnReconfigured(const proto::Reconfigured& notice) {
  File& file = FileOf(InodeId(notice.inode()));
  if (file.lease == 0 || file.place->chunk.value() != notice.layout().chunk()) return;
  Replace(file, client::FromProto(notice.layout()));
}

// --- Closing ---

bool ClientNode::CloseChunk(File& file, bool giving_back) {
  if (!file.open) return !file.announcing;
  proto::ChunkSeal seal;
  seal.set_chunk(file.place->chunk.value());
  if (file.writer == nullptr || file.writer->never_begun()) {
    if (!giving_back) return false;
    seal.set_never_begun(true);
    file.seals.push_back(seal);
    file.open = false;
    file.writer.reset();
    return true;
  }
  ChunkWriter& writer = *file.writer;
  if (!writer.idle() || writer.fenced_by_quorum()) return false;
  if (!writer.sealing()) {
    if (!writer.StartSeal().ok()) return false;
    file.sealing_since = world_.now();
  }
  for (const ChunkWriter::SealSend& send : writer.TakeSealSends()) {
    Server* server = servers_[send.server.value() - 1];
    const auto mine = [this, inode = file.inode, lease = file.lease]() -> ChunkWriter* {
      File& found = FileOf(inode);
      return found.lease == lease ? found.writer.get() : nullptr;
    };
    world_.SendOrdered(
        node_, server->node(),
        [this, server, chunk = file.place->chunk, send, mine] {
          server->Seal(chunk, send.stamp, [this, server, send, mine](const Answer& answer) {
            world_.Send(server->node(), node_, [send, mine, answer] {
              if (ChunkWriter* found = mine()) found->OnSealReply(send.server, send.stamp, answer.status);
            });
          });
        },
        [server, mine] {
          ChunkWriter* found = mine();
          if (found == nullptr) return;
          found->OnDisconnect(server->id());
          found->OnConnect(server->id());
        });
  }
  if (!writer.sealed()) {
    // A seal whose answer was lost is sent again.
    if ((world_.now() - file.sealing_since) / kSealAgainMs > 0 && world_.Chance(100)) {
      for (ServerId member : writer.config().members) {
        writer.OnDisconnect(member);
        writer.OnConnect(member);
      }
    }
    return false;
  }
  if (!writer.seal_settled() && world_.now() - file.sealing_since < kSealGraceMs) return false;
  const Stamp stamp = writer.seal_stamp();
  ToProto(stamp, seal.mutable_stamp());
  seal.set_length(stamp.seq);
  for (ServerId carrier : writer.carriers()) seal.add_carriers(carrier.value());
  file.seals.push_back(seal);
  file.place->sealed = stamp;
  file.place->carriers = writer.carriers();
  file.open = false;
  file.writer.reset();
  return true;
}

// --- Leases that end ---

void ClientNode::OnRecall(const proto::RecallItem& item) {
  const InodeId inode(item.inode());
  const auto answered = answered_.find(inode);
  if (answered != answered_.end() && answered->second.number() == item.number() &&
      session_.cache().Lease(inode).number != item.number()) {
    return session_.SendRecallReply(answered->second);
  }
  session_.cache().MarkRecalled(inode, item.number());
  File& file = FileOf(inode);
  if (!file.recall || file.recall->number() != item.number()) file.recalled_at = world_.now();
  file.recall = item;
  world_.Mark("a lease was recalled");
}

void ClientNode::TickRecall(File& file) {
  if (hung_ || (quiet_ && !session_.ready())) return;
  if (file.lease == 0 || file.lease != file.recall->number()) return AnswerRecall(file, true);
  if (file.buffered.empty() && !file.announcing && CloseChunk(file, true)) return AnswerRecall(file, true);
  if (world_.now() - file.recalled_at < kFlushMs) {
    proto::RecallReply progress;
    progress.set_inode(file.inode.value());
    progress.set_number(file.lease);
    progress.set_dirty_bytes(file.buffered.size());
    if (world_.Chance(20)) session_.SendRecallReply(progress);
    return;
  }
  world_.Mark("a recall was answered although not everything was flushed");
  AnswerRecall(file, false);
}

void ClientNode::AnswerRecall(File& file, bool sealed) {
  const proto::RecallItem item = *file.recall;
  file.recall.reset();
  proto::RecallReply reply;
  reply.set_inode(item.inode());
  reply.set_number(item.number());
  reply.set_done(true);
  const bool writing = file.lease != 0 && file.lease == item.number();
  bool keep_read = item.keep() == proto::LEASE_READ;
  if (writing) {
    keep_read = keep_read && sealed;
    *reply.mutable_commit() = CommitOf(file);
    reply.mutable_commit()->set_keep(keep_read ? proto::LEASE_READ : proto::LEASE_NONE);
    if (!sealed) history_.OnLeaseLost(file.inode, node_);
    DropWriting(file);
  }
  if (keep_read && writing) {
    session_.cache().Lower(file.inode, item.number());
  } else if (!keep_read || session_.cache().Lease(file.inode).kind != LeaseKind::kRead) {
    session_.cache().Remove(file.inode, item.number());
  }
  // Lowered first and given back now: if the answer to the lowering did not arrive, its commit is needed here.
  const auto before = answered_.find(file.inode);
  if (!writing && before != answered_.end() && before->second.number() == item.number() &&
      before->second.has_commit()) {
    *reply.mutable_commit() = before->second.commit();
    reply.mutable_commit()->set_keep(item.keep());
  }
  world_.Trace(NodeName(node_) + " gives back lease " + std::to_string(item.number()) + " on inode " +
               ToString(file.inode) + (sealed ? "" : " although not everything is flushed"));
  answered_[file.inode] = reply;
  session_.SendRecallReply(reply);
}

void ClientNode::OnLeasesDropped() {
  for (const auto& [inode, file] : files_) {
    const client::HeldLease held = session_.cache().Lease(inode);
    if (file->lease == 0 || (held.kind == LeaseKind::kWrite && held.number == file->lease)) continue;
    history_.OnLeaseLost(inode, node_);
    DropWriting(*file);
  }
}

void ClientNode::OnSessionLost() {
  history_.OnClientLost(node_);
  for (const auto& [inode, file] : files_) {
    DropWriting(*file);
    file->recall.reset();
  }
  answered_.clear();
  hung_ = false;
}

bool ClientNode::GiveEverythingBack() {
  master::Core* core = master_.core();
  if (core != nullptr && core->leases().PendingRecalls(SessionId(session_.id())).empty()) hung_ = false;
  bool all = !op_ && session_.requests_open() == 0;
  // Also write leases whose application gave up waiting for them.
  for (const proto::LeaseClaim& claim : session_.cache().Claims(1000)) {
    File& file = FileOf(InodeId(claim.inode()));
    if (claim.mode() != proto::LEASE_WRITE || file.lease != 0) continue;
    all = false;
    if (file.recall) continue;
    file.recall.emplace();
    file.recall->set_inode(claim.inode());
    file.recall->set_number(claim.number());
    file.recalled_at = world_.now();
  }
  for (const auto& [inode, file] : files_) {
    if (file->lease == 0) continue;
    all = false;
    if (file->recall) continue;
    proto::RecallItem item;
    item.set_inode(inode.value());
    item.set_number(file->lease);
    file->recall = item;
    file->recalled_at = world_.now();
  }
  return all;
}

}  // namespace cairn::sim::service
