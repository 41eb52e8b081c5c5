#include "tests/sim/service/client_node.h"

#include <algorithm>
#include <utility>

#include "client/session/convert.h"
#include "master/state/queries.h"
#include "tests/sim/service/server_node.h"

namespace cairn::sim::service {

using client::LeaseCache;
using client::LeaseKind;
using replication::ReplicaReader;

namespace {
constexpr uint64_t kRoot = 1;
constexpr const char* kNames[] = {"a", "b", "c", "d"};
constexpr int64_t kOperationMs = 15'000;
}  // namespace

ClientNode::ClientNode(World* world, Network* network, MasterNode* master, History* history, const Clock* clock,
                       NodeId node, std::vector<Server*> servers, replication::Rules rules, ServiceRules service_rules)
    : world_(*world),
      master_(*master),
      history_(*history),
      node_(node),
      servers_(std::move(servers)),
      rules_(rules),
      service_rules_(service_rules),
      session_(world, network, master, clock, node, service_rules, this) {}

void ClientNode::Boot() {
  world_.Start(node_);
  files_.clear();
  answered_.clear();
  op_.reset();
  hung_ = false;
  names_mostly_ = world_.Chance(300);
  session_.Boot();
  TickForever();
}

void ClientNode::Crash() {
  world_.Trace(NodeName(node_) + " crashes");
  history_.OnClientLost(node_);
  world_.Crash(node_);
}

// --- Operations ---

void ClientNode::TickForever() {
  for (const auto& [inode, file] : std::map(files_)) TickFile(*file);
  Peek();
  if (op_) {
    Step();
  } else if (!quiet_ && session_.id() != 0 && world_.Chance(250)) {
    StartOperation();
  }
  world_.AfterOn(node_, 15 + static_cast<int64_t>(world_.Random(30)), [this] { TickForever(); });
}

void ClientNode::StartOperation() {
  op_ = std::make_unique<Operation>();
  op_->number = next_operation_++;
  op_->started = world_.now();
  op_->name = kNames[world_.Random(std::size(kNames))];
  const uint64_t dice = world_.Random(100);
  op_->kind = names_mostly_ && world_.Chance(500) ? (world_.Chance(500) ? Kind::kCreate : Kind::kRemove)
              : dice < 10   ? Kind::kLookup
              : dice < 22 ? Kind::kCreate
              : dice < 52 ? Kind::kWrite
              : dice < 82 ? Kind::kRead
              : dice < 90 ? Kind::kFsync
              : dice < 95 ? Kind::kRelease
                          : Kind::kRemove;
  op_->writes_left = 1 + static_cast<int>(world_.Random(world_.Chance(100) ? 40 : 4));
  if (op_->kind == Kind::kCreate) return DoCreate();
  Resolve();
}

void ClientNode::Step() {
  if (world_.now() - op_->started > kOperationMs) {
    world_.Mark("an operation took too long for its application");
    session_.Abandon(op_->request);
    return Finish();
  }
  if (op_->phase == Phase::kAct) Act();
}

void ClientNode::Finish() {
  ++finished_;
  op_.reset();
}

void ClientNode::UseLease(InodeId inode, LeaseKind kind) {
  master::Core* core = master_.core();
  // Before the end of its log is back, a master does not know what it gave.
  if (core == nullptr || core->sessions().InGrace(core->now()) || core->tail().HasHeld()) return;
  for (const master::HeldLease& held : core->leases().Holders(inode)) {
    if (held.session.value() == session_.id()) continue;
    if (kind == LeaseKind::kRead && held.mode != master::LeaseMode::kWrite) continue;
    return world_.Fail("promise of leases: " + NodeName(node_) + " uses a lease on inode " + ToString(inode) +
                       " that the master has given to session " + ToString(held.session) + " meanwhile");
  }
}

// --- Other programs on the same machine, which find what is cached at any time ---

void ClientNode::Peek() {
  if (session_.id() == 0) return;
  for (const char* name : kNames) PeekName(name);
  PeekData();
  if (!quiet_ && world_.Chance(40) && session_.requests_open() < 4) Glance();
}

void ClientNode::PeekName(const std::string& name) {
  InodeId child;
  const LeaseCache::Name known = session_.cache().FindName(InodeId(kRoot), name, &child);
  if (known == LeaseCache::Name::kUnknown) return;
  UseLease(InodeId(kRoot), LeaseKind::kRead);
  const InodeId cached = known == LeaseCache::Name::kAbsent ? InodeId{} : child;
  history_.OnLookedUp(name, world_.now(), cached, NodeName(node_) + " (cached)");
  // Nothing of its own is under way, and nobody else may change the directory: it is as the master has it.
  master::Core* core = master_.core();
  if (core == nullptr || core->sessions().InGrace(core->now()) || core->tail().HasHeld()) return;
  if (session_.ChangesNames()) return;
  const master::HeldLease* held = core->leases().Find(InodeId(kRoot), SessionId(session_.id()));
  if (history_.MasterForgot() && (!session_.ready() || (held != nullptr && held->recalled))) return;
  proto::LookupOp op;
  op.set_parent(kRoot);
  op.set_name(name);
  proto::Credentials root;
  root.set_groups_known(true);
  const auto entry = master::Lookup(core->txn(), op, root);
  const InodeId real = entry.ok() ? InodeId(entry->attr().inode()) : InodeId{};
  if (real == cached) return;
  world_.Fail("promise of coherence: " + NodeName(node_) + " has inode " + ToString(cached) + " in its cache under name " +
              name + ", the master has " + ToString(real));
}

void ClientNode::PeekData() {
  if (files_.empty()) return;
  File& file = *std::next(files_.begin(), static_cast<std::ptrdiff_t>(world_.Random(files_.size())))->second;
  const client::HeldLease held = session_.cache().Lease(file.inode);
  if (held.kind == LeaseKind::kNone || !session_.LeasesValid() || file.recall || !file.cached) return;
  if (file.cached_tenure != held.tenure || !file.buffered.empty() || file.writer != nullptr) return;
  UseLease(file.inode, LeaseKind::kRead);
  history_.OnReadDone(history_.OnReadStart(file.inode), *file.cached, NodeName(node_) + " (cached)");
}

// Looks a name up beside whatever else is going on.
void ClientNode::Glance() {
  const std::string name = kNames[world_.Random(std::size(kNames))];
  proto::Request request;
  request.mutable_lookup()->set_parent(kRoot);
  request.mutable_lookup()->set_name(name);
  request.mutable_lookup()->set_want_lease(true);
  session_.Call(std::move(request), [this, start = world_.now(), name](const Status& status, const proto::Reply& reply) {
    const bool absent = status.code() == StatusCode::kNotFound;
    if (!status.ok() && !absent) return;
    history_.OnLookedUp(name, start, absent ? InodeId{} : InodeId(reply.entry().attr().inode()), NodeName(node_));
  });
}

// The name leads to an inode: from the cache under the directory's lease, or by a request.
void ClientNode::Resolve() {
  InodeId child;
  const LeaseCache::Name known = session_.cache().FindName(InodeId(kRoot), op_->name, &child);
  if (known != LeaseCache::Name::kUnknown) {
    UseLease(InodeId(kRoot), LeaseKind::kRead);
    world_.Mark("a name was answered from the cache");
    history_.OnLookedUp(op_->name, world_.now(), known == LeaseCache::Name::kAbsent ? InodeId{} : child,
                        NodeName(node_) + " (cached)");
    if (known == LeaseCache::Name::kAbsent) return Finish();
    op_->inode = child;
    op_->phase = Phase::kAct;
    return;
  }
  proto::Request request;
  request.mutable_lookup()->set_parent(kRoot);
  request.mutable_lookup()->set_name(op_->name);
  request.mutable_lookup()->set_want_lease(true);
  op_->phase = Phase::kWait;
  op_->request = session_.Call(
      std::move(request), [this, number = op_->number, start = world_.now(), name = op_->name](
                              const Status& status, const proto::Reply& reply) {
        if (!Is(number)) return;
        const bool absent = status.code() == StatusCode::kNotFound;
        if (!status.ok() && !absent) return Finish();
        const InodeId inode = absent ? InodeId{} : InodeId(reply.entry().attr().inode());
        history_.OnLookedUp(name, start, inode, NodeName(node_));
        if (absent) return Finish();
        op_->inode = inode;
        op_->phase = Phase::kAct;
      });
}

void ClientNode::Act() {
  switch (op_->kind) {
    case Kind::kWrite:
      return DoWrite();
    case Kind::kRead:
      return DoRead();
    case Kind::kFsync:
      return DoFsync();
    case Kind::kRemove:
      return DoRemove();
    case Kind::kRelease:
      return DoRelease();
    default:
      return Finish();
  }
}

void ClientNode::DoCreate() {
  proto::Request request;
  request.mutable_create()->set_parent(kRoot);
  request.mutable_create()->set_name(op_->name);
  request.mutable_create()->set_mode(0644);
  request.mutable_create()->set_exclusive(true);
  request.mutable_create()->set_want_write(world_.Chance(700));
  op_->phase = Phase::kWait;
  const size_t attempt = history_.OnCreateStart(op_->name);
  op_->request = session_.Call(
      std::move(request), [this, number = op_->number, attempt, name = op_->name](const Status& status,
                                                                                    const proto::Reply& reply) {
        if (status.ok()) {
          const InodeId inode(reply.entry().attr().inode());
          history_.OnCreated(name, attempt, inode);
          world_.Trace(NodeName(node_) + " created " + name + ", inode " + ToString(inode));
          const client::HeldLease held = session_.cache().Lease(inode);
          if (held.kind == LeaseKind::kWrite)
            Attach(FileOf(inode), held.number, client::FromProto(reply.entry().layout()));
        } else if (status.code() != StatusCode::kMayHaveCommitted) {
          history_.OnCreateFailed(name, attempt);
        }
        if (Is(number)) Finish();
      });
}

void ClientNode::DoRemove() {
  proto::Request request;
  request.mutable_unlink()->set_parent(kRoot);
  request.mutable_unlink()->set_name(op_->name);
  history_.OnRemoveStart(op_->name);
  op_->phase = Phase::kWait;
  op_->request = session_.Call(
      std::move(request), [this, number = op_->number, name = op_->name](const Status& status,
                                                                           const proto::Reply& reply) {
        if (status.ok()) {
          const InodeId inode(reply.remove().inode_attr().inode());
          history_.OnRemoved(name, inode);
          world_.Trace(NodeName(node_) + " removed " + name + ", inode " + ToString(inode));
          world_.Mark("a file was removed");
        } else if (status.code() == StatusCode::kNoQuorum) {
          world_.Mark("a remove was refused for want of a quorum");
        }
        if (status.code() != StatusCode::kMayHaveCommitted) history_.OnRemoveEnd(name);
        if (Is(number)) Finish();
      });
}

void ClientNode::DoWrite() {
  File& file = FileOf(op_->inode);
  if (file.recall) return;  // the lease is on its way back
  const client::HeldLease held = session_.cache().Lease(op_->inode);
  if (held.kind == LeaseKind::kWrite && file.lease == held.number) {
    if (!session_.LeasesValid()) return;
    WriteOnce(file);
    if (--op_->writes_left <= 0) Finish();
    return;
  }
  proto::Request request;
  request.mutable_lease()->set_inode(op_->inode.value());
  request.mutable_lease()->set_mode(proto::LEASE_WRITE);
  request.mutable_lease()->set_count(1);
  op_->phase = Phase::kWait;
  op_->request = session_.Call(
      std::move(request), [this, number = op_->number, inode = op_->inode](const Status& status,
                                                                             const proto::Reply& reply) {
        if (!status.ok()) {
          if (Is(number)) Finish();
          return;
        }
        const client::HeldLease got = session_.cache().Lease(inode);
        const bool granted = !reply.leases().empty() && reply.leases(0).number() == got.number;
        File& mine = FileOf(inode);
        if (granted && got.kind == LeaseKind::kWrite && mine.lease != got.number)
          Attach(mine, got.number, client::FromProto(reply.layout().chunks()));
        if (Is(number)) op_->phase = Phase::kAct;
      });
}

void ClientNode::WriteOnce(File& file) {
  UseLease(file.inode, LeaseKind::kWrite);
  const uint64_t token = static_cast<uint64_t>(node_) << 32 | next_token_++;
  file.buffered.push_back(token);
  file.last_write = world_.now();
  file.cached.reset();
  history_.OnWritten(file.inode, token, node_);
}

// --- Reading ---

void ClientNode::DoRead() {
  File& file = FileOf(op_->inode);
  if (file.recall) return;
  if (!op_->mark) op_->mark = history_.OnReadStart(op_->inode);
  const client::HeldLease held = session_.cache().Lease(op_->inode);
  const bool usable = held.kind != LeaseKind::kNone && session_.LeasesValid();
  if (usable && file.cached && file.cached_tenure == held.tenure && file.buffered.empty() && file.writer == nullptr) {
    UseLease(op_->inode, LeaseKind::kRead);
    world_.Mark("data was read from the cache");
    history_.OnReadDone(*op_->mark, *file.cached, NodeName(node_) + " (cached)");
    return Finish();
  }
  if (usable && file.lease != 0 && held.kind == LeaseKind::kWrite) {
    // What it wrote itself: from members that acknowledged it, with what is buffered behind it.
    if (file.announcing || !file.place) return;
    Content tail(file.buffered.begin(), file.buffered.end());
    if (file.writer != nullptr && !file.writer->never_begun()) {
      if (!file.writer->idle()) return;
      const Stamp want = file.writer->done_stamp();
      std::vector<ServerId> carriers;
      for (ServerId member : file.writer->config().members) {
        if (file.writer->Carries(member, want.seq)) carriers.push_back(member);
      }
      world_.Mark("a writer read its own data");
      return ReadReplicas(file.place->chunk, want, false, carriers, tail);
    }
    const Stamp base = file.open ? file.place->config.base : file.place->sealed;
    if (base == Stamp{}) return ReadFinished(tail);
    return ReadReplicas(file.place->chunk, base, true, file.open ? file.place->config.members : file.place->carriers, tail);
  }
  proto::Request request;
  request.mutable_lease()->set_inode(op_->inode.value());
  request.mutable_lease()->set_mode(proto::LEASE_READ);
  request.mutable_lease()->set_count(1);
  op_->phase = Phase::kWait;
  op_->request = session_.Call(
      std::move(request), [this, number = op_->number, inode = op_->inode](const Status& status,
                                                                             const proto::Reply& reply) {
        if (!Is(number)) return;
        if (!status.ok()) return Finish();
        const client::HeldLease got = session_.cache().Lease(inode);
        op_->phase = Phase::kAct;
        if (got.kind != LeaseKind::kRead || !session_.LeasesValid()) return;  // tries again
        if (reply.layout().chunks().empty()) return ReadFinished({});
        const client::ChunkPlace place = client::FromProto(reply.layout().chunks(0));
        if (place.sealed == Stamp{}) return Finish();  // damaged, or being written by somebody who vanished
        ReadReplicas(place.chunk, place.sealed, true, place.carriers, {});
      });
}

void ClientNode::ReadReplicas(ChunkId chunk, Stamp want, bool exact, std::vector<ServerId> carriers, Content tail) {
  if (carriers.empty()) return Finish();
  std::vector<replication::ReadCandidate> candidates;
  for (ServerId carrier : carriers) candidates.push_back({.server = carrier});
  op_->reader = std::make_unique<ReplicaReader>(
      RankReplicas(std::move(candidates), world_.Random(1000)),
      replication::ReaderOptions{.hedge_after_ns = 30, .timeout_ns = 400});  // milliseconds are this world's unit
  op_->phase = Phase::kWait;
  op_->chunk = chunk;
  PollRead(op_->number, want, exact, tail);
}

void ClientNode::PollRead(uint64_t operation, Stamp want, bool exact, const Content& tail) {
  if (!Is(operation) || op_->reader == nullptr) return;
  ReplicaReader* reader = op_->reader.get();
  const uint64_t tenure = session_.cache().Lease(op_->inode).tenure;
  for (ServerId carrier : reader->Poll(world_.now())) {
    Server* server = servers_[carrier.value() - 1];
    world_.Call(
        node_, server->node(), "",
        [server, id = op_->chunk, want, exact](const ReplyFn& reply) { server->Read(id, want, exact, reply); },
        [this, operation, carrier, reader, want, exact, tail, tenure](const Answer& answer) {
          if (!Is(operation) || op_->reader.get() != reader || reader->done()) return;
          if (!answer.status.ok()) return reader->OnFailure(carrier, answer.status);
          reader->OnSuccess(carrier);
          if (!reader->problems().empty()) world_.Mark("a read failed over");
          op_->reader.reset();
          const client::HeldLease held = session_.cache().Lease(op_->inode);
          // Only what arrived while the lease was still good counts.
          if (held.kind == LeaseKind::kNone || held.tenure != tenure || !session_.LeasesValid()) {
            world_.Mark("a lease ended while its holder was reading");
            op_->phase = Phase::kAct;
            return;
          }
          Content content = answer.content;
          if (!exact && content.size() > want.seq) content.resize(want.seq);  // what came later is in the tail
          content.insert(content.end(), tail.begin(), tail.end());
          ReadFinished(content);
        });
  }
  if (reader->failed()) {
    world_.Mark("a read failed");
    return Finish();
  }
  world_.AfterOn(node_, 10, [this, operation, want, exact, tail] { PollRead(operation, want, exact, tail); });
}

void ClientNode::ReadFinished(const Content& content) {
  File& file = FileOf(op_->inode);
  const client::HeldLease held = session_.cache().Lease(op_->inode);
  UseLease(op_->inode, held.kind);
  history_.OnReadDone(*op_->mark, content, NodeName(node_), held.kind == LeaseKind::kWrite);
  if (held.kind == LeaseKind::kRead) {
    file.cached = content;
    file.cached_tenure = held.tenure;
  }
  Finish();
}

// --- Making durable, giving back ---

void ClientNode::DoFsync() {
  File& file = FileOf(op_->inode);
  if (file.lease == 0 || file.recall) return Finish();  // nothing was written here lately
  if (!session_.LeasesValid() || op_->committing) return;
  if (!file.buffered.empty() || file.writer == nullptr || !file.writer->idle() || file.announcing) {
    if (file.writer == nullptr && file.buffered.empty()) Finish();
    return;
  }
  replication::ChunkWriter& writer = *file.writer;
  const uint64_t target = writer.last_seq();
  if (writer.never_begun()) return Finish();
  if (writer.durable_seq() < target) {
    for (ServerId member : writer.config().members) {
      if (!writer.is_live(member) || !world_.Chance(200)) continue;
      Server* server = servers_[member.value() - 1];
      world_.Call(
          node_, server->node(), "",
          [server, chunk = file.place->chunk](const ReplyFn& reply) { server->Flush(chunk, reply); },
          [this, inode = file.inode, member, epoch = writer.config().epoch](const Answer& answer) {
            File& mine = FileOf(inode);
            if (answer.status.ok() && mine.writer != nullptr && mine.writer->config().epoch == epoch)
              mine.writer->OnDurable(member, answer.info);
          });
    }
    return;
  }
  proto::Request request;
  request.mutable_write_back()->set_durable(true);
  proto::InodeCommit* commit = request.mutable_write_back()->add_commits();
  *commit = CommitOf(file);
  commit->set_keep(proto::LEASE_WRITE);
  proto::ChunkDurable* durable = commit->add_durable();
  durable->set_chunk(file.place->chunk.value());
  ToProto(Stamp{writer.config().epoch, target}, durable->mutable_stamp());
  file.seals.clear();
  op_->committing = true;
  for (const auto& [seq, token] : file.sent) {
    if (seq <= target) op_->flushed.push_back(token);
  }
  op_->request = session_.Call(std::move(request),
                               [this, number = op_->number, inode = file.inode](const Status& status,
                                                                                 const proto::Reply&) {
                                 if (!Is(number)) return;
                                 if (status.ok() && !session_.TakeLostCommands()) {
                                   world_.Mark("an fsync returned");
                                   for (uint64_t token : op_->flushed) history_.OnFsynced(inode, token);
                                 }
                                 Finish();
                               });
}

// As a cache that evicts: gives a read lease back unasked.
void ClientNode::DoRelease() {
  const InodeId inode = world_.Chance(500) ? InodeId(kRoot) : op_->inode;
  const client::HeldLease held = session_.cache().Lease(inode);
  File& file = FileOf(inode);
  if (held.kind != LeaseKind::kRead || file.recall) return Finish();
  world_.Mark("a lease was given back unasked");
  session_.cache().MarkRecalled(inode, held.number);
  session_.cache().Remove(inode, held.number);
  file.cached.reset();
  proto::Request request;
  proto::ReleaseItem* item = request.mutable_release()->add_items();
  item->set_inode(inode.value());
  item->set_number(held.number);
  session_.Call(std::move(request), nullptr);
  Finish();
}

}  // namespace cairn::sim::service
