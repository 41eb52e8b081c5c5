#include "tests/client/fake_master.h"

#include <algorithm>
#include <chrono>

#include "client/session/convert.h"

namespace cairn::client::testing {

// One stream; messages are carried out in the writer's thread, as a single-threaded master would.
class FakeStream final : public MasterStream {
 public:
  FakeStream(FakeMaster* master, std::shared_ptr<FakeMaster::Channel> channel)
      : master_(master), channel_(std::move(channel)) {}
  bool Write(const proto::ClientMessage& message) override {
    {
      std::lock_guard lock(channel_->mu);
      if (channel_->broken) return false;
    }
    master_->Handle(channel_, message);
    return true;
  }
  void WritesDone() override { Cancel(); }
  bool Read(proto::MasterMessage* message) override {
    std::unique_lock lock(channel_->mu);
    channel_->changed.wait(lock, [&] { return channel_->broken || !channel_->outbox.empty(); });
    if (channel_->broken) return false;
    *message = std::move(channel_->outbox.front());
    channel_->outbox.pop_front();
    return true;
  }
  void Cancel() override {
    std::lock_guard lock(channel_->mu);
    channel_->broken = true;
    channel_->changed.notify_all();
  }
  Status Finish() override { return Status(StatusCode::kUnavailable, "the test broke the stream"); }

 private:
  FakeMaster* const master_;
  const std::shared_ptr<FakeMaster::Channel> channel_;
};

namespace {

class FakeConnector final : public MasterConnector {
 public:
  explicit FakeConnector(std::function<Result<std::unique_ptr<MasterStream>>()> open)
      : open_(std::move(open)) {}
  Result<std::unique_ptr<MasterStream>> Open(const std::string&, int64_t) override { return open_(); }

 private:
  const std::function<Result<std::unique_ptr<MasterStream>>()> open_;
};

bool IsMutation(const proto::Request& request) { return request.op_case() >= proto::Request::kCreate; }

}  // namespace

FakeMaster::FakeMaster() {
  Inode& root = inodes_[1];
  root.attr.set_inode(1);
  root.attr.set_type(proto::DIRECTORY);
  root.attr.set_mode(0755);
  root.attr.set_nlink(2);
  root.attr.set_parent(1);
}

std::unique_ptr<MasterConnector> FakeMaster::Connector() {
  return std::make_unique<FakeConnector>([this]() -> Result<std::unique_ptr<MasterStream>> {
    std::lock_guard lock(mu_);
    if (refuse_) return Status(StatusCode::kUnavailable, "the test refuses connections");
    return std::unique_ptr<MasterStream>(std::make_unique<FakeStream>(this, std::make_shared<Channel>()));
  });
}

uint64_t FakeMaster::Add(uint64_t parent, const std::string& name, proto::FileType type, uint32_t mode,
                         uint32_t uid, uint32_t gid) {
  const uint64_t id = next_inode_++;
  Inode& inode = inodes_[id];
  inode.attr.set_inode(id);
  inode.attr.set_type(type);
  inode.attr.set_mode(mode);
  inode.attr.set_nlink(type == proto::DIRECTORY ? 2 : 1);
  inode.attr.set_uid(uid);
  inode.attr.set_gid(gid);
  inode.attr.set_chunk_bytes(64 << 20);
  if (type == proto::DIRECTORY) inode.attr.set_parent(parent);
  inodes_[parent].children[name] = id;
  return id;
}

uint64_t FakeMaster::AddDirectory(uint64_t parent, const std::string& name, uint32_t mode, uint32_t uid,
                                  uint32_t gid) {
  std::lock_guard lock(mu_);
  return Add(parent, name, proto::DIRECTORY, mode, uid, gid);
}

uint64_t FakeMaster::AddFile(uint64_t parent, const std::string& name, uint32_t mode, uint32_t uid,
                             uint32_t gid, uint64_t size) {
  std::lock_guard lock(mu_);
  const uint64_t id = Add(parent, name, proto::REGULAR, mode, uid, gid);
  inodes_[id].attr.set_size(size);
  return id;
}

proto::Attr FakeMaster::AttrOf(uint64_t inode) {
  std::lock_guard lock(mu_);
  return inodes_[inode].attr;
}
bool FakeMaster::Exists(uint64_t inode) {
  std::lock_guard lock(mu_);
  return inodes_.contains(inode);
}
bool FakeMaster::NameExists(uint64_t parent, const std::string& name) {
  std::lock_guard lock(mu_);
  return inodes_[parent].children.contains(name);
}

void FakeMaster::DropNextReplies(int count) {
  std::lock_guard lock(mu_);
  drop_replies_ = count;
}
void FakeMaster::RefuseConnections(bool refuse) {
  std::lock_guard lock(mu_);
  refuse_ = refuse;
}
void FakeMaster::HoldBackDurability(bool hold) {
  std::lock_guard lock(mu_);
  hold_durability_ = hold;
}

void FakeMaster::SilenceRenewals(bool silent) {
  std::lock_guard lock(mu_);
  silent_ = silent;
}
void FakeMaster::BreakStreams() {
  std::lock_guard lock(mu_);
  for (auto& [id, session] : sessions_) Break(session.channel);
}
void FakeMaster::ForgetSessions() {
  std::lock_guard lock(mu_);
  BreakStreams();
  sessions_.clear();
}
void FakeMaster::Restart() {
  std::lock_guard lock(mu_);
  BreakStreams();
  ++incarnation_;
  for (auto& [id, session] : sessions_) {
    session.missing = true;
    std::erase_if(session.leases, [](const auto& lease) { return lease.second.mode == proto::LEASE_READ; });
  }
}
void FakeMaster::Hold(proto::Request::OpCase op) {
  std::lock_guard lock(mu_);
  hold_ = op;
}
void FakeMaster::ReleaseHeld() {
  std::lock_guard lock(mu_);
  hold_ = proto::Request::OP_NOT_SET;
  auto held = std::exchange(held_, {});
  for (auto& [channel, request] : held) HandleRequest(channel, request);
}

bool FakeMaster::Recall(uint64_t inode, proto::LeaseMode keep, bool deleting) {
  std::lock_guard lock(mu_);
  bool any = false;
  for (auto& [id, session] : sessions_) {
    const auto it = session.leases.find(inode);
    if (it == session.leases.end()) continue;
    proto::MasterMessage message;
    proto::RecallItem* item = message.mutable_recall()->add_items();
    item->set_inode(inode);
    item->set_number(it->second.number);
    item->set_keep(keep);
    item->set_deleting(deleting);
    Send(session.channel, std::move(message));
    any = true;
  }
  return any;
}

void FakeMaster::Broadcast(const proto::MasterMessage& message) {
  std::lock_guard lock(mu_);
  for (auto& [id, session] : sessions_) Send(session.channel, message);
}

proto::RecallReply FakeMaster::AwaitRecallReply(uint64_t inode) {
  proto::RecallReply found;
  const bool arrived = WaitFor([&] {
    const auto it = std::find_if(recall_replies_.begin(), recall_replies_.end(),
                                 [&](const proto::RecallReply& reply) { return reply.inode() == inode; });
    if (it == recall_replies_.end()) return false;
    found = *it;
    recall_replies_.erase(it);
    return true;
  });
  if (!arrived) found.set_inode(0);
  return found;
}

std::vector<proto::RecallReply> FakeMaster::recall_progress() {
  std::lock_guard lock(mu_);
  return recall_progress_;
}
int FakeMaster::Count(proto::Request::OpCase op) {
  std::lock_guard lock(mu_);
  return counts_[op];
}
int FakeMaster::Total() {
  std::lock_guard lock(mu_);
  int total = 0;
  for (const auto& [op, count] : counts_) total += count;
  return total;
}
int FakeMaster::Repeats() {
  std::lock_guard lock(mu_);
  return repeats_;
}
void FakeMaster::ResetCounts() {
  std::lock_guard lock(mu_);
  counts_.clear();
}
std::vector<proto::Hello> FakeMaster::hellos() {
  std::lock_guard lock(mu_);
  return hellos_;
}
std::vector<proto::ReleaseItem> FakeMaster::released() {
  std::lock_guard lock(mu_);
  return released_;
}
std::vector<uint64_t> FakeMaster::closed_orphans() {
  std::lock_guard lock(mu_);
  return closed_orphans_;
}
void FakeMaster::SetChunkBytes(uint64_t inode, uint64_t bytes) {
  std::lock_guard lock(mu_);
  inodes_.at(inode).attr.set_chunk_bytes(bytes);
}

std::vector<proto::LeaseOp> FakeMaster::lease_requests() {
  std::lock_guard lock(mu_);
  return lease_requests_;
}

std::vector<proto::AccessTime> FakeMaster::accessed() {
  std::lock_guard lock(mu_);
  return accessed_;
}

void FakeMaster::SetTimes(uint64_t inode, int64_t atime_s, int64_t mtime_s) {
  std::lock_guard lock(mu_);
  proto::Attr& attr = inodes_[inode].attr;
  attr.mutable_atime()->set_seconds(atime_s);
  attr.mutable_mtime()->set_seconds(mtime_s);
  attr.mutable_ctime()->set_seconds(mtime_s);
}

std::vector<proto::InodeCommit> FakeMaster::commits() {
  std::lock_guard lock(mu_);
  return commits_;
}
bool FakeMaster::Holds(uint64_t inode) {
  std::lock_guard lock(mu_);
  return std::any_of(sessions_.begin(), sessions_.end(),
                     [&](const auto& session) { return session.second.leases.contains(inode); });
}

bool FakeMaster::WaitFor(const std::function<bool()>& condition) {
  std::unique_lock lock(mu_);
  return changed_.wait_for(lock, std::chrono::seconds(20), condition);
}

void FakeMaster::Send(const std::shared_ptr<Channel>& channel, proto::MasterMessage message) {
  if (!channel) return;
  if (!hold_durability_) durable_index_ = log_index_;
  message.set_durable_index(durable_index_);
  std::lock_guard lock(channel->mu);
  channel->outbox.push_back(std::move(message));
  channel->changed.notify_all();
}

void FakeMaster::Break(const std::shared_ptr<Channel>& channel) {
  if (!channel) return;
  std::lock_guard lock(channel->mu);
  channel->broken = true;
  channel->outbox.clear();
  channel->changed.notify_all();
}

void FakeMaster::Handle(const std::shared_ptr<Channel>& channel, const proto::ClientMessage& message) {
  std::lock_guard lock(mu_);
  if (message.has_hello()) HandleHello(channel, message.hello());
  if (message.has_request()) HandleRequest(channel, message.request());
  if (message.has_renew() && !silent_ && sessions_.contains(channel->session)) {
    proto::MasterMessage reply;
    reply.mutable_renew_reply()->set_number(message.renew().number());
    Send(channel, std::move(reply));
  }
  if (message.has_recall_reply()) {
    const proto::RecallReply& reply = message.recall_reply();
    if (reply.done()) {
      auto& leases = sessions_[channel->session].leases;
      const auto it = leases.find(reply.inode());
      if (it != leases.end() && it->second.number == reply.number()) {
        if (reply.has_commit() && reply.commit().keep() == proto::LEASE_READ) {
          it->second.mode = proto::LEASE_READ;
        } else {
          leases.erase(it);
        }
      }
      if (reply.commit().has_size()) {
        inodes_[reply.inode()].attr.set_size(
            std::max(inodes_[reply.inode()].attr.size(), reply.commit().size()));
      }
      recall_replies_.push_back(reply);
    } else {
      recall_progress_.push_back(reply);
    }
  }
  if (message.has_goodbye()) {
    sessions_.erase(channel->session);
    Break(channel);
  }
  changed_.notify_all();
}

void FakeMaster::HandleHello(const std::shared_ptr<Channel>& channel, const proto::Hello& hello) {
  hellos_.push_back(hello);
  proto::MasterMessage message;
  proto::HelloReply* reply = message.mutable_hello_reply();
  reply->set_cluster_id("0123456789abcdef0123456789abcdef");
  reply->set_lease_ms(10'000);
  reply->set_incarnation(incarnation_);
  uint64_t id = hello.session();
  if (id != 0 && !sessions_.contains(id)) {
    reply->mutable_status()->set_code(static_cast<uint32_t>(StatusCode::kSessionUnknown));
    Send(channel, std::move(message));
    return;
  }
  if (id == 0) id = next_session_++;
  SessionState& session = sessions_[id];
  session.channel = channel;
  channel->session = id;
  reply->set_session(id);
  if (std::exchange(session.missing, false)) {
    for (const proto::LeaseClaim& claim : hello.claims()) {
      session.leases[claim.inode()] = {claim.mode(), claim.number()};
    }
  }
  Send(channel, std::move(message));
}

void FakeMaster::HandleRequest(const std::shared_ptr<Channel>& channel, const proto::Request& request) {
  if (!sessions_.contains(channel->session)) return;
  if (request.op_case() == hold_) {
    held_.emplace_back(channel, request);
    return;
  }
  SessionState& session = sessions_[channel->session];
  ++counts_[request.op_case()];
  const auto stored = session.results.find(request.number());
  proto::Reply reply;
  if (stored != session.results.end()) {
    ++repeats_;
    reply = stored->second;
  } else {
    reply = Execute(session, request);
    if (IsMutation(request)) session.results[request.number()] = reply;
  }
  if (drop_replies_ > 0) {
    --drop_replies_;
    Break(channel);
    return;
  }
  proto::MasterMessage message;
  *message.mutable_reply() = std::move(reply);
  Send(session.channel, std::move(message));
}

void FakeMaster::Grant(SessionState& session, uint64_t inode, proto::LeaseMode mode, proto::Reply* reply) {
  Held& held = session.leases[inode];
  if (held.mode < mode) held = {mode, ++next_number_};
  proto::Lease* lease = reply->add_leases();
  lease->set_inode(inode);
  lease->set_mode(held.mode);
  lease->set_number(held.number);
}

Status FakeMaster::CheckSearch(uint64_t directory, const proto::Credentials& caller) {
  const proto::Attr& attr = inodes_[directory].attr;
  if (caller.uid() == 0) return Status::Ok();
  uint32_t bits = attr.mode() & 7;
  if (caller.uid() == attr.uid()) {
    bits = attr.mode() >> 6 & 7;
  } else if (caller.gid() == attr.gid()) {
    bits = attr.mode() >> 3 & 7;
  } else if ((attr.mode() >> 3 & 7) != (attr.mode() & 7)) {
    if (!caller.groups_known()) return Status(StatusCode::kNeedGroups, "groups decide");
    if (std::find(caller.groups().begin(), caller.groups().end(), attr.gid()) != caller.groups().end()) {
      bits = attr.mode() >> 3 & 7;
    }
  }
  return (bits & 1) != 0 ? Status::Ok() : Status(StatusCode::kAccessDenied, "no search permission");
}

proto::Reply FakeMaster::Execute(SessionState& session, const proto::Request& request) {
  proto::Reply reply;
  reply.set_number(request.number());
  Status status(StatusCode::kNotSupported, "");
  if (request.has_lock() || request.has_return_locks() || request.has_cancel_lock()) {
    // Every lock is granted, with the right to decide further ones.
    if (request.has_lock()) reply.mutable_lock()->set_delegated(request.lock().lock().type() != proto::LOCK_UNLOCK);
    return reply;
  }
  status = ExecuteNamespace(session, request, &reply);
  if (status.code() == StatusCode::kNotSupported) status = ExecuteFile(session, request, &reply);
  if (status.ok() && IsMutation(request)) reply.set_log_index(++log_index_);
  if (request.has_sync() || request.write_back().durable()) durable_index_ = log_index_;
  if (!status.ok()) *reply.mutable_status() = ToProto(status);
  return reply;
}

Status FakeMaster::ExecuteNamespace(SessionState& session, const proto::Request& request,
                                    proto::Reply* reply) {
  switch (request.op_case()) {
    case proto::Request::kLookup: {
      const auto& op = request.lookup();
      CAIRN_RETURN_IF_ERROR(CheckSearch(op.parent(), request.credentials()));
      Grant(session, op.parent(), proto::LEASE_READ, reply);
      const auto& children = inodes_[op.parent()].children;
      const auto it = children.find(op.name());
      if (it == children.end()) return Status(StatusCode::kNotFound, op.name());
      *reply->mutable_entry()->mutable_attr() = inodes_[it->second].attr;
      Grant(session, it->second, proto::LEASE_READ, reply);
      return Status::Ok();
    }
    case proto::Request::kGetAttr: {
      const uint64_t id = request.get_attr().inode();
      if (!inodes_.contains(id)) return Status(StatusCode::kStaleHandle, "gone");
      *reply->mutable_entry()->mutable_attr() = inodes_[id].attr;
      Grant(session, id, proto::LEASE_READ, reply);
      return Status::Ok();
    }
    case proto::Request::kReadDir: {
      const auto& op = request.read_dir();
      uint64_t at = 0;
      for (const auto& [name, id] : inodes_[op.inode()].children) {
        if (++at <= op.cursor()) continue;
        if (reply->read_dir().entries_size() == static_cast<int>(op.max_entries())) break;
        proto::DirEntry* entry = reply->mutable_read_dir()->add_entries();
        entry->set_name(name);
        entry->set_inode(id);
        entry->set_type(inodes_[id].attr.type());
        entry->set_cursor(at);
        if (op.with_attrs()) {
          *entry->mutable_attr() = inodes_[id].attr;
          Grant(session, id, proto::LEASE_READ, reply);
        }
      }
      reply->mutable_read_dir()->set_end(op.cursor() + reply->read_dir().entries_size() ==
                                         inodes_[op.inode()].children.size());
      Grant(session, op.inode(), proto::LEASE_READ, reply);
      return Status::Ok();
    }
    case proto::Request::kCreate: {
      const auto& op = request.create();
      if (inodes_[op.parent()].children.contains(op.name()))
        return Status(StatusCode::kAlreadyExists, op.name());
      const uint64_t id = Add(op.parent(), op.name(), proto::REGULAR, op.mode(), request.credentials().uid(),
                              request.credentials().gid());
      *reply->mutable_entry()->mutable_attr() = inodes_[id].attr;
      *reply->mutable_entry()->mutable_parent_attr() = inodes_[op.parent()].attr;
      Grant(session, id, op.want_write() ? proto::LEASE_WRITE : proto::LEASE_READ, reply);
      return Status::Ok();
    }
    case proto::Request::kMkdir: {
      const auto& op = request.mkdir();
      const uint64_t id =
          Add(op.parent(), op.name(), proto::DIRECTORY, op.mode(), request.credentials().uid(), 0);
      *reply->mutable_entry()->mutable_attr() = inodes_[id].attr;
      Grant(session, id, proto::LEASE_READ, reply);
      return Status::Ok();
    }
    case proto::Request::kUnlink: {
      const auto& op = request.unlink();
      auto& children = inodes_[op.parent()].children;
      const auto it = children.find(op.name());
      if (it == children.end()) return Status(StatusCode::kNotFound, op.name());
      Inode& inode = inodes_[it->second];
      inode.attr.set_nlink(inode.attr.nlink() - 1);
      *reply->mutable_remove()->mutable_inode_attr() = inode.attr;
      reply->mutable_remove()->set_orphaned(op.open_here());
      inode.orphan = op.open_here();
      if (inode.attr.nlink() == 0 && !op.open_here()) {
        session.leases.erase(it->second);
        inodes_.erase(it->second);
      }
      children.erase(it);
      return Status::Ok();
    }
    case proto::Request::kRename: {
      const auto& op = request.rename();
      auto& from = inodes_[op.parent()].children;
      if (!from.contains(op.name())) return Status(StatusCode::kNotFound, op.name());
      const uint64_t moved = from[op.name()];
      from.erase(op.name());
      uint64_t& to = inodes_[op.new_parent()].children[op.new_name()];
      if (to != 0) {
        Inode& replaced = inodes_[to];
        replaced.attr.set_nlink(0);
        *reply->mutable_remove()->mutable_replaced_attr() = replaced.attr;
        reply->mutable_remove()->set_orphaned(op.target_open_here());
      }
      to = moved;
      *reply->mutable_remove()->mutable_inode_attr() = inodes_[moved].attr;
      return Status::Ok();
    }
    default:
      return Status(StatusCode::kNotSupported, "");
  }
}

Status FakeMaster::ExecuteFile(SessionState& session, const proto::Request& request, proto::Reply* reply) {
  switch (request.op_case()) {
    case proto::Request::kLease: {
      const auto& op = request.lease();
      lease_requests_.push_back(op);
      if (!inodes_.contains(op.inode())) return Status(StatusCode::kStaleHandle, "gone");
      if (op.truncate_to_zero()) inodes_[op.inode()].attr.set_size(0);
      Grant(session, op.inode(), op.mode(), reply);
      *reply->mutable_layout()->mutable_attr() = inodes_[op.inode()].attr;
      return Status::Ok();
    }
    case proto::Request::kSetAttr: {
      const auto& op = request.set_attr();
      proto::Attr& attr = inodes_[op.inode()].attr;
      if (op.has_size()) attr.set_size(op.size());
      if (op.has_mode()) attr.set_mode(op.mode());
      if (op.has_mtime()) *attr.mutable_mtime() = op.mtime();
      if (op.has_atime()) *attr.mutable_atime() = op.atime();
      *reply->mutable_entry()->mutable_attr() = attr;
      return Status::Ok();
    }
    case proto::Request::kWriteBack:
      for (const proto::InodeCommit& commit : request.write_back().commits()) {
        commits_.push_back(commit);
        if (!inodes_.contains(commit.inode())) continue;
        proto::Attr& attr = inodes_[commit.inode()].attr;
        if (commit.has_size()) attr.set_size(std::max(attr.size(), commit.size()));
        if (commit.has_atime()) *attr.mutable_atime() = commit.atime();
        if (commit.has_mtime()) *attr.mutable_mtime() = commit.mtime();
        if (commit.has_ctime()) *attr.mutable_ctime() = commit.ctime();
        if (commit.keep() == proto::LEASE_READ) session.leases[commit.inode()].mode = proto::LEASE_READ;
        if (commit.keep() == proto::LEASE_NONE) session.leases.erase(commit.inode());
      }
      reply->mutable_write_back();
      return Status::Ok();
    case proto::Request::kRelease:
      for (const proto::ReleaseItem& item : request.release().items()) {
        released_.push_back(item);
        session.leases.erase(item.inode());
      }
      return Status::Ok();
    case proto::Request::kCloseOrphans:
      for (const uint64_t inode : request.close_orphans().inodes()) {
        closed_orphans_.push_back(inode);
        if (inodes_.contains(inode) && inodes_[inode].attr.nlink() == 0) inodes_.erase(inode);
      }
      return Status::Ok();
    case proto::Request::kAccessed:
      for (const proto::AccessTime& file : request.accessed().files()) {
        accessed_.push_back(file);
        if (inodes_.contains(file.inode())) *inodes_[file.inode()].attr.mutable_atime() = file.atime();
      }
      return Status::Ok();
    case proto::Request::kSync:
    case proto::Request::kAccess:
      return Status::Ok();
    default:
      return Status(StatusCode::kIoError, "the fake master does not know this request");
  }
}

}  // namespace cairn::client::testing
