#include "tests/sim/client.h"

#include <algorithm>
#include <memory>
#include <utility>

namespace cairn::sim {

using replication::ChunkWriter;
using replication::Configuration;
using replication::Mutation;

Client::Client(World* world, Checker* checker, Master* master, std::vector<Server*> servers, NodeId node,
               replication::Rules rules)
    : world_(*world),
      checker_(*checker),
      master_(*master),
      servers_(std::move(servers)),
      node_(node),
      rules_(rules) {}

void Client::Boot() {
  world_.Start(node_);
  op_.reset();
  refused_.clear();
  lease_until_ = 0;
  ++session_;
  RenewForever();
  TickForever();
}

void Client::Crash() {
  world_.Trace(NodeName(node_) + " crashes");
  if (op_ && op_->writer) world_.Mark("a writer crashed");
  world_.Crash(node_);
}

void Client::Enter(Phase phase) {
  op_->phase = phase;
  op_->phase_since = world_.now();
}

void Client::RenewForever() {
  const int64_t sent = world_.now();
  const uint64_t session = session_;
  world_.Call(
      node_, kMaster, "", [this, session](const ReplyFn& reply) { master_.OnRenew(node_, session, reply); },
      [this, sent, session](const Answer&) {
        if (session == session_) lease_until_ = std::max(lease_until_, sent + kLeaseMs);
      });
  world_.AfterOn(node_, 400, [this] { RenewForever(); });
}

void Client::OnSessionLost(uint64_t session) {
  if (session != session_) return;
  Abandon("its session is over");
  ++session_;
  lease_until_ = 0;
}

void Client::TickForever() {
  if (!op_) {
    if (!quiet_ && LeaseValid() && world_.Chance(300)) StartOperation();
  } else if (op_->phase == Phase::kWaiting) {
    if (world_.now() - op_->started > 8000) {
      world_.Mark("a wish timed out");
      Release nothing;
      nothing.chunk = op_->chunk;
      nothing.nonce = op_->nonce;
      refused_.insert(op_->nonce);
      ReleaseWith(nothing);
    } else if (world_.Chance(500)) {
      const Operation& op = *op_;
      world_.Send(node_, kMaster,
                  [this, chunk = op.chunk, nonce = op.nonce, wish = op.wish, session = session_] {
                    master_.OnWish(node_, session, chunk, nonce, wish);
                  });
    }
  } else if (op_->phase == Phase::kReleasing) {
    SendRelease(op_->release);
    if (world_.now() - op_->phase_since > 6000) Abandon("the master does not take the lease back");
  } else if (op_->phase == Phase::kReopening) {
    Reopen();
  } else if (op_->writer) {
    TickWriter();
  }
  world_.AfterOn(node_, 40 + static_cast<int64_t>(world_.Random(40)), [this] { TickForever(); });
}

void Client::StartOperation() {
  std::vector<ChunkId> chunks = master_.chunks();
  std::erase_if(chunks, [this](ChunkId chunk) { return master_.deleted(chunk) && !world_.Chance(50); });
  if (chunks.empty()) return;
  op_ = std::make_unique<Operation>();
  op_->chunk = chunks[world_.Random(chunks.size())];
  op_->nonce = static_cast<uint64_t>(node_) << 32 | next_nonce_++;
  op_->started = world_.now();
  if (world_.Chance(delete_permille_)) {
    op_->wish = Wish::kDelete;
  } else {
    op_->wish = world_.Chance(550) ? Wish::kWrite : Wish::kRead;
  }
}

void Client::Finish() {
  ++finished_operations_;
  op_.reset();
}

void Client::Abandon(const std::string& why) {
  if (!op_) return;
  world_.Trace(NodeName(node_) + " abandons chunk " + std::to_string(op_->chunk.value()) + ": " + why);
  refused_.insert(op_->nonce);
  op_.reset();
}

void Client::SendRelease(const Release& release) {
  world_.Call(
      node_, kMaster, "release chunk " + std::to_string(release.chunk.value()),
      [this, release](const ReplyFn& reply) { master_.OnRelease(node_, release, reply); },
      [this, nonce = release.nonce](const Answer&) {
        if (Is(nonce) && op_->phase == Phase::kReleasing) Finish();
      });
}

void Client::ReleaseWith(Release release) {
  op_->release = std::move(release);
  Enter(Phase::kReleasing);
  SendRelease(op_->release);
}

void Client::OnGrant(const Grant& grant) {
  if (!Is(grant.nonce) || refused_.contains(grant.nonce)) return;
  if (op_->phase == Phase::kReopening) {
    const Stamp sealed = op_->release.stamp;
    if (grant.wish == Wish::kWrite && grant.config.epoch > sealed.epoch && grant.config.base == sealed)
      StartWriting(grant);
    return;
  }
  if (op_->phase != Phase::kWaiting) return;
  if (!grant.status.ok() || grant.wish == Wish::kDelete) return Finish();
  op_->grant = grant;
  if (grant.wish == Wish::kRead) {
    op_->reads_left = 1 + static_cast<int>(world_.Random(3));
    Enter(Phase::kReading);
    return StartRead();
  }
  op_->deaf = world_.Chance(100);
  StartWriting(grant);
}

void Client::StartWriting(const Grant& grant) {
  op_->grant = grant;
  op_->progress.clear();
  replication::WriterOptions options;
  options.config = grant.config;
  options.window_count = 1 + static_cast<uint32_t>(world_.Random(4));
  options.laggard_count = 2 + static_cast<uint32_t>(world_.Random(4));
  options.pending_count = 8;
  options.rules = rules_;
  op_->writer = std::make_unique<ChunkWriter>(grant.chunk, options);
  op_->told = grant.config.base.seq;
  op_->steps_left = static_cast<int>(world_.Random(world_.Chance(200) ? 80 : 8));
  op_->wants_fsync = world_.Chance(300);
  if (op_->deaf) op_->steps_left = 200;
  Enter(Phase::kWriting);
  WriteStep(op_->nonce);
}

void Client::OnRecall(ChunkId chunk, uint64_t nonce) {
  if (Is(nonce) && !refused_.contains(nonce)) {
    if (op_->deaf) return;
    op_->recalled = true;
    if (op_->phase == Phase::kWriting) op_->steps_left = 0;
    op_->reads_left = 0;
    return;
  }
  refused_.insert(nonce);
  Release nothing;
  nothing.chunk = chunk;
  nothing.nonce = nonce;
  SendRelease(nothing);
}

void Client::OnReconfigured(ChunkId, uint64_t nonce, const Configuration& config) {
  if (!Is(nonce) || !op_->writer || config.epoch <= op_->writer->config().epoch) return;
  if (op_->phase == Phase::kReopening) return;  // sealed: whoever writes next asks for its own epoch
  const Status status = op_->writer->Reconfigure(config);
  if (!status.ok()) {
    world_.Mark("a writer learned that acknowledged mutations are lost");
    return Abandon(status.ToString());
  }
  world_.Mark("a writer went on in a new configuration");
  op_->progress.clear();
  if (op_->phase == Phase::kSealing) Enter(Phase::kClosing);
  Pump();
}

void Client::OnLeaseLost(uint64_t nonce) {
  if (Is(nonce)) Abandon("its lease is over");
}

// --- Writing
// ----------------------------------------------------------------------------------------------------------

void Client::WriteStep(uint64_t nonce) {
  if (!Is(nonce) || op_->phase != Phase::kWriting) return;
  if (op_->steps_left <= 0) {
    op_->seals_early = world_.Chance(500);
    return Enter(op_->wants_fsync ? Phase::kFlushing : Phase::kClosing);
  }
  --op_->steps_left;
  for (uint64_t count = 1 + world_.Random(3); count > 0; --count) {
    const Result<uint64_t> seq = op_->writer->Submit(100);
    if (!seq.ok()) break;
    op_->tokens[*seq] = static_cast<uint64_t>(node_) << 32 | next_token_++;
  }
  Pump();
  if (world_.Chance(200)) ReadOwn();
  world_.AfterOn(node_, 1 + static_cast<int64_t>(world_.Random(60)), [this, nonce] { WriteStep(nonce); });
}

void Client::Pump() {
  if (!op_ || !op_->writer) return;
  const uint64_t nonce = op_->nonce;
  for (const ChunkWriter::Send& send : op_->writer->TakeSends()) {
    Mutation mutation;
    mutation.chunk = op_->chunk;
    mutation.epoch = send.epoch;
    mutation.seq = send.seq;
    mutation.begin = send.begin;
    mutation.offset = send.seq - 1;  // so that the length of the chunk is the count of its mutations
    mutation.length = 1;
    const uint64_t token = op_->tokens.at(send.seq);
    Server* server = &ServerOf(send.server);
    world_.SendOrdered(
        node_, server->node(),
        [this, server, mutation, token, nonce] {
          server->Mutate(node_, mutation, token, [this, server, mutation, nonce](const Answer& answer) {
            world_.Send(server->node(), node_, [this, server, mutation, nonce, answer] {
              if (!Is(nonce) || !op_->writer) return;
              op_->writer->OnMutateReply(server->id(), mutation.epoch, mutation.seq, answer.status,
                                         answer.info);
              TellApplication();
              Pump();
            });
          });
        },
        [this, server, nonce] {
          if (!Is(nonce) || !op_->writer) return;
          world_.Mark("a connection broke");
          op_->writer->OnDisconnect(server->id());
          world_.AfterOn(node_, 1 + static_cast<int64_t>(world_.Random(100)), [this, server, nonce] {
            if (!Is(nonce) || !op_->writer) return;
            op_->writer->OnConnect(server->id());
            Pump();
          });
        });
  }
  TellApplication();
}

void Client::TellApplication() {
  Operation& op = *op_;
  while (op.told < op.writer->done_seq()) {
    ++op.told;
    if (LeaseValid() || !trusts_clock_)
      checker_.OnAcknowledged(op.chunk, op.writer->config(), op.told, op.tokens.at(op.told));
  }
}

void Client::DropSilentMembers() {
  ChunkWriter& writer = *op_->writer;
  for (ServerId member : writer.config().members) {
    Progress& progress = op_->progress[member];
    const std::optional<uint64_t> acked = writer.acked_seq(member);
    if (progress.since == 0 || acked != progress.acked ||
        acked.value_or(writer.config().base.seq) == writer.last_seq()) {
      progress = {acked, world_.now()};
    } else if (world_.now() - progress.since > 600) {
      writer.OnError(member, Status(StatusCode::kTimeout, "no answer in 0.6 s"));
    }
  }
}

void Client::AskForHelp() {
  ChunkWriter& writer = *op_->writer;
  std::set<ServerId> dropped;
  for (const auto& problem : writer.dropped()) dropped.insert(problem.server);
  world_.Send(node_, kMaster,
              [this, chunk = op_->chunk, nonce = op_->nonce, epoch = writer.config().epoch, dropped] {
                master_.OnTrouble(node_, chunk, nonce, epoch, dropped);
              });
}

void Client::TickWriter() {
  DropSilentMembers();
  Pump();
  ChunkWriter& writer = *op_->writer;
  if (writer.fenced_by_quorum()) world_.Mark("a writer was fenced by a quorum");
  for (const auto& drop : writer.TakeDrops()) {
    world_.Trace(NodeName(node_) + " drops " + ToString(drop.server) + ": " + drop.status.ToString());
    world_.Mark(drop.status.code() == StatusCode::kResourceExhausted ? "a laggard was dropped"
                                                                     : "a member was dropped");
  }
  if (writer.below_quorum() && world_.Chance(500)) AskForHelp();
  const bool stuck = world_.now() - op_->phase_since > 6000;
  if (stuck || world_.Chance(3)) return Abandon(stuck ? "it got nowhere" : "the application was killed");
  switch (op_->phase) {
    case Phase::kFlushing:
      return Flush();
    case Phase::kClosing:
    case Phase::kSealing:
      return Seal();
    default:
      return;
  }
}

void Client::Flush() {
  ChunkWriter& writer = *op_->writer;
  if (!writer.idle()) return;
  const uint64_t nonce = op_->nonce;
  const uint64_t target = writer.last_seq();
  const Configuration config = writer.config();
  if (writer.never_begun() || target == config.base.seq) return Enter(Phase::kClosing);
  if (writer.durable_seq() < target) {
    for (ServerId member : config.members) {
      Server* server = &ServerOf(member);
      world_.Call(
          node_, server->node(), "flush",
          [server, chunk = op_->chunk](const ReplyFn& reply) { server->Flush(chunk, reply); },
          [this, nonce, member](const Answer& answer) {
            if (Is(nonce) && op_->writer && answer.status.ok()) op_->writer->OnDurable(member, answer.info);
          });
    }
    return;
  }
  world_.Call(
      node_, kMaster, "durable",
      [this, chunk = op_->chunk, nonce, stamp = Stamp{config.epoch, target}](const ReplyFn& reply) {
        master_.OnDurable(node_, chunk, nonce, stamp, reply);
      },
      [this, nonce, target, config](const Answer&) {
        if (!Is(nonce) || op_->phase != Phase::kFlushing || op_->writer->config().epoch != config.epoch)
          return;
        if (LeaseValid()) {
          world_.Mark("an fsync returned");
          checker_.OnAcknowledged(op_->chunk, config, target, op_->tokens.at(target));
          checker_.OnFsynced(op_->chunk, config, target);
        }
        Enter(Phase::kClosing);
      });
}

void Client::Seal() {
  ChunkWriter& writer = *op_->writer;
  Release release;
  release.chunk = op_->chunk;
  release.nonce = op_->nonce;
  release.held = true;
  if (writer.never_begun()) {
    world_.Mark("a lease was released without a begin");
    return ReleaseWith(release);
  }
  if (!writer.idle() && !op_->seals_early) return;
  if (!writer.sealing()) {
    if (!writer.idle()) world_.Mark("a seal was sent behind unconfirmed mutations");
    if (!writer.StartSeal().ok()) return;
    Enter(Phase::kSealing);
  }
  for (const ChunkWriter::SealSend& send : writer.TakeSealSends()) {
    Server* server = &ServerOf(send.server);
    world_.SendOrdered(
        node_, server->node(),
        [this, server, chunk = op_->chunk, send, nonce = op_->nonce] {
          server->Seal(chunk, send.stamp, [this, server, send, nonce](const Answer& answer) {
            world_.Send(server->node(), node_, [this, send, nonce, answer] {
              if (!Is(nonce) || !op_->writer) return;
              op_->writer->OnSealReply(send.server, send.stamp, answer.status);
              TellApplication();  // a confirmed seal confirms the mutations before it
            });
          });
        },
        [this, server, nonce = op_->nonce] {
          if (!Is(nonce) || !op_->writer) return;
          op_->writer->OnDisconnect(server->id());
          op_->writer->OnConnect(server->id());
        });
  }
  if (!writer.sealed()) {
    // A seal whose answer was lost is sent again; a member that does not answer at all is given up.
    if (world_.now() - op_->phase_since > 400) {
      for (ServerId member : writer.config().members) {
        writer.OnDisconnect(member);
        writer.OnConnect(member);
      }
    }
    return;
  }
  if (!writer.seal_settled() && world_.now() - op_->phase_since < 200) return;
  world_.Mark("a chunk was sealed by its writer");
  release.sealed = true;
  release.stamp = writer.seal_stamp();
  release.carriers = writer.carriers();
  if (world_.Chance(150)) WriteAfterSeal();
  if (op_->recalled || !world_.Chance(400)) return ReleaseWith(release);
  // Idle for a while, then written to again under the same lease.
  op_->release = release;
  Enter(Phase::kReopening);
}

void Client::Reopen() {
  if (op_->recalled || world_.now() - op_->phase_since > 3000) return ReleaseWith(op_->release);
  if (!world_.Chance(400)) return;
  world_.Send(node_, kMaster, [this, release = op_->release] { master_.OnReopen(node_, release); });
}

// A thread of the application that was late: its write goes out in the epoch that was just sealed. Replicas
// must refuse it, so that it never counts as acknowledged.
void Client::WriteAfterSeal() {
  ChunkWriter& writer = *op_->writer;
  world_.Mark("a write came after the seal");
  Mutation mutation;
  mutation.chunk = op_->chunk;
  mutation.epoch = writer.config().epoch;
  mutation.seq = writer.last_seq() + 1;
  mutation.offset = mutation.seq - 1;
  mutation.length = 1;
  const uint64_t token = static_cast<uint64_t>(node_) << 32 | next_token_++;
  const auto confirmed = std::make_shared<std::set<ServerId>>();
  for (ServerId carrier : writer.carriers()) {
    Server* server = &ServerOf(carrier);
    world_.Send(node_, server->node(), [this, server, mutation, token, confirmed, config = writer.config()] {
      server->Mutate(node_, mutation, token,
                     [this, server, mutation, token, confirmed, config](const Answer& answer) {
                       if (!answer.status.ok()) return;
                       world_.Send(server->node(), node_, [this, server, mutation, token, confirmed, config] {
                         confirmed->insert(server->id());
                         if (confirmed->size() != config.write_quorum || !LeaseValid()) return;
                         checker_.OnAcknowledged(mutation.chunk, config, mutation.seq, token);
                       });
                     });
    });
  }
}

// The writer reads what is done from a member that acknowledged it.
void Client::ReadOwn() {
  const ChunkWriter& writer = *op_->writer;
  const Stamp want = writer.done_stamp();
  if (want.seq == writer.config().base.seq || !LeaseValid()) return;
  // What it was told itself: a configuration change that it has not heard of may have kept more.
  Checker::ReadMark mark = checker_.OnReadStart(op_->chunk);
  if (mark.committed.size() > want.seq) mark.committed.resize(want.seq);
  for (ServerId member : writer.config().members) {
    if (!writer.Carries(member, want.seq)) continue;
    Server* server = &ServerOf(member);
    world_.Call(
        node_, server->node(), "own read",
        [server, chunk = op_->chunk, want](const ReplyFn& reply) { server->Read(chunk, want, false, reply); },
        [this, nonce = op_->nonce, chunk = op_->chunk, mark](const Answer& answer) {
          if (!Is(nonce) || !answer.status.ok() || !LeaseValid()) return;
          world_.Mark("a writer read its own data");
          checker_.OnReadDone(chunk, mark, answer.content, true);
        });
    return;
  }
}

// --- Reading
// ----------------------------------------------------------------------------------------------------------

void Client::StartRead() {
  Operation& op = *op_;
  Release release;
  release.chunk = op.chunk;
  release.nonce = op.nonce;
  release.held = true;
  if (op.reads_left-- <= 0 || !LeaseValid()) return ReleaseWith(release);
  op.mark = checker_.OnReadStart(op.chunk);
  ++op.read_number;
  if (op.grant.sealed == Stamp{}) {
    checker_.OnReadDone(op.chunk, op.mark, {}, false);
    return ReleaseWith(release);
  }
  std::vector<replication::ReadCandidate> candidates;
  for (ServerId carrier : op.grant.carriers) candidates.push_back({.server = carrier});
  op.reader = std::make_unique<replication::ReplicaReader>(
      RankReplicas(std::move(candidates), world_.Random(1000)),
      replication::ReaderOptions{.hedge_after_ns = 30,
                                 .timeout_ns = 300});  // milliseconds are this world's unit
  PollRead(op.nonce);
}

void Client::PollRead(uint64_t nonce) {
  if (!Is(nonce) || op_->phase != Phase::kReading) return;
  replication::ReplicaReader* reader = op_->reader.get();
  for (ServerId carrier : reader->Poll(world_.now())) {
    Server* server = &ServerOf(carrier);
    world_.Call(
        node_, server->node(),
        "read chunk " + std::to_string(op_->chunk.value()) + " at " + ToString(op_->grant.sealed),
        [server, chunk = op_->chunk, want = op_->grant.sealed](const ReplyFn& reply) {
          server->Read(chunk, want, true, reply);
        },
        [this, nonce, carrier, reader, number = op_->read_number](const Answer& answer) {
          if (!Is(nonce) || op_->phase != Phase::kReading || op_->read_number != number) return;
          if (!answer.status.ok()) return reader->OnFailure(carrier, answer.status);
          if (reader->done()) return;
          reader->OnSuccess(carrier);
          if (!LeaseValid()) return;
          world_.Mark("a read was served");
          if (!reader->problems().empty()) world_.Mark("a read failed over");
          checker_.OnReadDone(op_->chunk, op_->mark, answer.content, false);
        });
  }
  if (reader->failed()) {
    world_.Mark("a read failed");
    op_->reads_left = 0;
  }
  if (!reader->done() && !reader->failed())
    return world_.AfterOn(node_, 10, [this, nonce] { PollRead(nonce); });
  world_.AfterOn(node_, static_cast<int64_t>(world_.Random(300)), [this, nonce] {
    if (Is(nonce) && op_->phase == Phase::kReading) StartRead();
  });
}

}  // namespace cairn::sim
