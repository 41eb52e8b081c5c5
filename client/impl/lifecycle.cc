// Construction and end of a client, what its session reports, and requests to the master.
#include <utility>

#include "client/impl/client_impl.h"
#include "client/interrupt.h"
#include "common/log.h"

namespace cairn::client {
namespace {

constexpr size_t kRecallThreads = 32;
constexpr size_t kInvalidationThreads = 16;
constexpr size_t kMaxClaims = 20'000;  // a Hello stays well below gRPC's limit of 4 MiB

}  // namespace

ClientImpl::ClientImpl(ClientParts parts)
    : keep_alive_(std::move(parts.keep_alive)),
      options_(std::move(parts.options)),
      listener_(parts.listener),
      clock_(parts.clock),
      servers_(parts.servers),
      counters_(parts.counters),
      write_back_ms_(parts.write_back_ms),
      write_back_files_(parts.write_back_files),
      idle_lease_ms_(parts.idle_lease_ms),
      idle_chunk_ms_(parts.idle_chunk_ms),
      burst_(parts.burst_us),
      burst_gap_(parts.burst_gap_us),
      gather_seals_(std::move(parts.gather_seals)),
      connector_(std::move(parts.connector)) {
  workers_ = std::make_unique<Scheduler>(kRecallThreads);
  invalidators_ = std::make_unique<Scheduler>(kInvalidationThreads);
  SessionOptions session{.masters = options_.masters,
                         .name = options_.name,
                         .host_id = parts.host_id,
                         .request_timeout_ms = options_.request_timeout_ms,
                         .connect_timeout_ms = options_.connect_timeout_ms};
  session_.reset(new Session(std::move(session), connector_.get(), this, clock_));
  locks_ = std::make_unique<LockClient>(
      session_.get(), options_.request_timeout_ms,
      [this](Handle handle) {
        if (const HandlePtr open = FindHandle(handle)) open->lock_lost = true;
      },
      [this](int64_t delay_ms, std::function<void()> work) { workers_->RunAfter(delay_ms, std::move(work)); },
      parts.lock_hold_back_ms);
  cache_ = std::make_unique<LeaseCache>(options_.max_leases, clock_,
                                        [this] { return session_->ValidUntilNanos(); });
}

Result<std::unique_ptr<ClientImpl>> ClientImpl::Start(ClientParts parts) {
  auto make_data_path = std::move(parts.make_data_path);
  std::unique_ptr<ClientImpl> client(new ClientImpl(std::move(parts)));
  CAIRN_RETURN_IF_ERROR(client->session_->Start());
  client->make_file_data_ =
      make_data_path(client->session_->cluster_id(), client.get(), client->session_->write_timeout_ms());
  client->write_back_ = std::thread([raw = client.get(), now = client->clock_->NowNanos()] { raw->WriteBackMain(now); });
  return client;
}

ClientImpl::~ClientImpl() {
  stopping_ = true;
  LimitWaits(options_.write_timeout_ms);
  const InterruptScope scope([this] { return GaveUp(); });
  AbandonLocks();
  {
    std::lock_guard lock(write_back_mu_);
    write_back_stop_ = true;
    write_back_wake_.notify_all();
  }
  if (write_back_.joinable()) {
    write_back_.join();
    // With everything sealed the master has nothing to recover when the session ends.
    SealAll();
    CloseHolds();
  }
  session_->Stop(true);
  workers_.reset();
  invalidators_.reset();
  {
    std::lock_guard lock(handles_mu_);
    handles_.clear();
  }
  std::unordered_map<InodeId, FilePtr> files;
  {
    std::lock_guard lock(files_mu_);
    files.swap(files_);
  }
  {
    std::lock_guard lock(write_back_mu_);
    written_.clear();
  }
}

ResumeClaims ClientImpl::Claims() {
  ResumeClaims claims;
  claims.leases = cache_->Claims(kMaxClaims);
  std::lock_guard lock(files_mu_);
  for (const auto& [inode, file] : files_) {
    std::lock_guard file_lock(file->mu);
    if (file->handles > 0 && (file->held_at_master || cache_->Lease(inode).kind == LeaseKind::kNone)) {
      claims.open_inodes.push_back(inode.value());
    }
  }
  return claims;
}

void ClientImpl::OnReply(const proto::Request& request, const proto::Reply& reply) {
  if (request.has_lock() || request.has_cancel_lock()) return locks_->OnReply(request, reply);
  cache_->ApplyReply(request, reply);
  NoteChanges(request, reply);
  if (request.has_get_attr() && reply.leases_size() > 0) {
    if (const FilePtr file = FindFile(InodeId(request.get_attr().inode()))) {
      std::lock_guard lock(file->mu);
      file->read_granted_ns = clock_->NowNanos();
    }
  }
  if (reply.leases_size() > 0 && cache_->OverBound() && !evicting_.exchange(true)) {
    workers_->Run([this] { Evict(); });
  }
}

void ClientImpl::OnReconfigured(const proto::Reconfigured& notice) {
  workers_->Run([this, inode = InodeId(notice.inode()), place = FromProto(notice.layout())]() mutable {
    if (const FilePtr file = FindFile(inode)) file->data->OnReconfigured(std::move(place));
  });
}

void ClientImpl::OnServers(const google::protobuf::RepeatedPtrField<proto::ServerAddress>& servers) {
  if (servers_ == nullptr) return;
  std::vector<ServerEntry> entries;
  entries.reserve(servers.size());
  for (const auto& server : servers) entries.push_back(FromProto(server));
  servers_->Update(entries);
}

Result<proto::Reply> ClientImpl::CallAs(const Caller& caller, proto::Request request, OnReplyFn on_reply) {
  proto::Credentials* credentials = request.mutable_credentials();
  credentials->set_uid(caller.uid);
  credentials->set_gid(caller.gid);
  credentials->set_umask(caller.umask);
  if (caller.pid == 0 || !caller.groups.empty()) {
    credentials->set_groups_known(true);
    for (const uint32_t group : caller.groups) credentials->add_groups(group);
    return session_->Call(std::move(request), {.on_reply = std::move(on_reply)});
  }
  proto::Request again = request;
  auto reply = session_->Call(std::move(request), {.on_reply = on_reply});
  if (reply.code() != StatusCode::kNeedGroups) return reply;
  credentials = again.mutable_credentials();
  credentials->set_groups_known(true);
  for (const uint32_t group : GroupsOf(caller)) credentials->add_groups(group);
  return session_->Call(std::move(again), {.on_reply = std::move(on_reply)});
}

Result<proto::Reply> ClientImpl::CallSystem(proto::Request request, OnReplyFn on_reply, int64_t timeout_ms) {
  request.mutable_credentials()->set_groups_known(true);
  return session_->Call(std::move(request), {.timeout_ms = timeout_ms, .on_reply = std::move(on_reply)});
}

Result<std::vector<ChunkPlace>> ClientImpl::Announce(InodeId inode, Epoch lease, uint64_t first,
                                                     uint32_t count, const std::vector<SealedChunk>& seals) {
  std::optional<Session::Ticket> told;
  if (!seals.empty()) {
    // Right before the announcement; sizes and times are left to the ordinary commits, which are in order
    // among themselves.
    proto::Request commits;
    proto::InodeCommit* commit = commits.mutable_write_back()->add_commits();
    commit->set_inode(inode.value());
    commit->set_lease(lease.value());
    commit->set_keep(proto::LEASE_WRITE);
    FillCommit({.seals = seals}, commit);
    commits.mutable_credentials()->set_groups_known(true);
    CAIRN_ASSIGN_OR_RETURN(told, session_->Begin(std::move(commits)));
  }
  proto::Request request;
  proto::AnnounceOp* op = request.mutable_announce();
  op->set_inode(inode.value());
  op->set_lease(lease.value());
  op->set_first(first);
  op->set_count(count);
  const Result<proto::Reply> reply = CallSystem(std::move(request));
  if (told) CAIRN_RETURN_IF_ERROR(session_->Wait(*told).status());
  if (!reply.ok()) return reply.status();
  return FromProto(reply->layout().chunks());
}

Result<std::vector<ChunkPlace>> ClientImpl::Layout(InodeId inode, uint64_t first, uint32_t count) {
  proto::Request request;
  proto::LayoutOp* op = request.mutable_layout();
  op->set_inode(inode.value());
  op->set_first(first);
  op->set_count(count);
  CAIRN_ASSIGN_OR_RETURN(const proto::Reply reply, CallSystem(std::move(request)));
  return FromProto(reply.layout().chunks());
}

Result<std::vector<ChunkPlace>> ClientImpl::ExistingChunks(InodeId inode, uint64_t first, uint32_t count) {
  proto::Request request;
  proto::LayoutOp* op = request.mutable_layout();
  op->set_inode(inode.value());
  op->set_first(first);
  op->set_count(count);
  op->set_existing(true);
  CAIRN_ASSIGN_OR_RETURN(const proto::Reply reply, CallSystem(std::move(request)));
  return FromProto(reply.layout().chunks());
}

Result<ChunkPlace> ClientImpl::ChunkTrouble(InodeId inode, ChunkId chunk, Epoch epoch,
                                            const std::vector<MemberFailure>& members,
                                            bool need_replacement) {
  proto::Request request;
  proto::ChunkTroubleOp* op = request.mutable_chunk_trouble();
  op->set_inode(inode.value());
  op->set_chunk(chunk.value());
  op->set_epoch(epoch.value());
  op->set_need_replacement(need_replacement);
  for (const MemberFailure& failure : members) {
    proto::MemberTrouble* member = op->add_members();
    member->set_server(failure.server.value());
    *member->mutable_status() = ToProto(failure.status);
  }
  CAIRN_ASSIGN_OR_RETURN(const proto::Reply reply, CallSystem(std::move(request)));
  for (const proto::ChunkLayout& layout : reply.layout().chunks()) {
    if (layout.chunk() == chunk.value()) return FromProto(layout);
  }
  if (need_replacement) {
    return Status(StatusCode::kIoError, "the master answered without the layout of chunk " + ToString(chunk));
  }
  ChunkPlace unchanged;
  unchanged.chunk = chunk;
  return unchanged;
}

ClientStats ClientImpl::Stats() {
  ClientStats stats;
  stats.master_requests = session_->requests();
  stats.lease_recalls = recalls_.load(std::memory_order_relaxed);
  stats.leases = cache_->leases();
  stats.locks_decided_here = locks_->decided_here();
  locks_->Count(&stats.locks_held, &stats.locks_waiting);
  if (servers_ != nullptr) {
    for (const ServerEntry& server : servers_->All()) {
      if (!server.alive) stats.servers_down.push_back(servers_->Describe(server.server));
    }
  }
  stats.state = session_->State();
  if (counters_ != nullptr) {
    stats.data_requests = counters_->requests.load(std::memory_order_relaxed);
    stats.bytes_read = counters_->bytes_read.load(std::memory_order_relaxed);
    stats.bytes_written = counters_->bytes_written.load(std::memory_order_relaxed);
    stats.bytes_copied = counters_->bytes_copied.load(std::memory_order_relaxed);
    stats.bytes_copied_here = counters_->bytes_copied_here.load(std::memory_order_relaxed);
  }
  stats.bytes_copied_here += copied_here_.load(std::memory_order_relaxed);
  std::lock_guard lock(files_mu_);
  for (const auto& [inode, file] : files_) stats.dirty_bytes += file->data->DirtyBytes();
  return stats;
}

}  // namespace cairn::client
