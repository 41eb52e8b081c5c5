// The life of a session's streams: connecting, hello, reading, renewing. The requests are in session.cc.
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "client/session/convert.h"
#include "client/session/session.h"
#include "common/log.h"
#include "common/wire/frame.h"

namespace cairn::client {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr size_t kMaxKeptBytes = 16 << 20;

// A reply to these never changes anything and can be asked for in another session.
bool IsRead(const proto::Request& request) {
  switch (request.op_case()) {
    case proto::Request::kLookup:
    case proto::Request::kGetAttr:
    case proto::Request::kReadDir:
    case proto::Request::kReadLink:
    case proto::Request::kGetXattr:
    case proto::Request::kListXattr:
    case proto::Request::kStatFs:
    case proto::Request::kLayout:
    case proto::Request::kAccess:
    case proto::Request::kGetPolicy:
    case proto::Request::kSync:
    // File locks: a new session begins without any, and asks for them as the old one did.
    case proto::Request::kLock:
    case proto::Request::kTestLock:
    case proto::Request::kCancelLock:
    case proto::Request::kReturnLocks:
      return true;
    default:
      return false;
  }
}

// These name a lease of the session that was lost.
bool NeedsLease(const proto::Request& request) {
  switch (request.op_case()) {
    case proto::Request::kAnnounce:
    case proto::Request::kWriteBack:
    case proto::Request::kChunkTrouble:
    case proto::Request::kRelease:
    case proto::Request::kLease:
    case proto::Request::kCloseOrphans:
    case proto::Request::kAccessed:  // after what others did meanwhile it would come too late
      return true;
    default:
      return false;
  }
}

}  // namespace

void Session::ReaderMain() {
  size_t next_address = 0;
  int64_t backoff_ms = options_.backoff_min_ms;
  while (true) {
    {
      std::lock_guard lock(mu_);
      if (stopping_) return;
    }
    const std::string address = options_.masters[next_address];
    const Status status = RunStream(address);
    std::unique_lock lock(mu_);
    if (stopping_) return;
    if (status.ok()) {
      backoff_ms = options_.backoff_min_ms;
      continue;
    }
    const bool first_contact = session_ == 0 && incarnation_ == 0;
    if (status.code() == StatusCode::kWrongCluster || status.code() == StatusCode::kVersionMismatch) {
      final_error_ = first_contact;
    }
    last_error_ = status;
    changed_.notify_all();
    next_address = (next_address + 1) % options_.masters.size();
    // Every address gets its turn at once; only a full round is followed by a pause.
    if (next_address != 0) continue;
    changed_.wait_for(lock, milliseconds(backoff_ms), [&] { return stopping_; });
    backoff_ms = std::min(backoff_ms * 2, options_.backoff_max_ms);
  }
}

Status Session::RunStream(const std::string& address) {
  auto opened = connector_->Open(address, std::min<int64_t>(options_.connect_timeout_ms, 3'000));
  if (!opened.ok()) return opened.status();
  const std::shared_ptr<MasterStream> stream = std::move(opened).value();
  {
    std::lock_guard lock(mu_);
    if (stopping_) return Status(StatusCode::kCancelled, "stopping");
    stream_ = stream;
    stream_since_ = steady_clock::now();
  }
  bool established = false;
  Status status = Handshake(stream, address, &established);
  if (established) {
    CAIRN_LOG(Debug, "session established at master {}", address);
    proto::MasterMessage message;
    while (stream->Read(&message)) {
      HandleMessage(message);
      message.Clear();
    }
  } else {
    // Either the master ended it (and Finish has its reason), or Handshake cancelled it.
    proto::MasterMessage ignored;
    while (stream->Read(&ignored)) {
    }
  }
  {
    // A writer may still be inside the stream that just ended.
    std::unique_lock lock(mu_);
    ready_ = false;
    queue_.clear();
    changed_.notify_all();
    changed_.wait(lock, [&] { return !writing_; });
    stream_ = nullptr;
  }
  const Status finish = stream->Finish();
  if (!established) {
    // A refusal in words is better than what gRPC says about a stream that this side cancelled.
    return status.code() == StatusCode::kCancelled ? finish : status;
  }
  std::lock_guard lock(mu_);
  if (!stopping_)
    CAIRN_LOG(Info, "connection to the master was lost, resuming the session: {}", finish.message());
  last_error_ = finish;
  return Status::Ok();
}

Status Session::Handshake(const std::shared_ptr<MasterStream>& stream, const std::string& address,
                          bool* established) {
  proto::ClientMessage message;
  proto::Hello* hello = message.mutable_hello();
  bool resuming = false;
  {
    std::lock_guard lock(mu_);
    hello->set_session(session_);
    hello->set_cluster_id(cluster_id_);
    resuming = session_ != 0;
  }
  hello->set_wire_version(wire::kWireVersion);
  hello->set_client_name(options_.name);
  hello->set_host_id(options_.host_id);
  if (resuming) {
    ResumeClaims claims = observer_->Claims();
    for (auto& claim : claims.leases) hello->add_claims()->Swap(&claim);
    for (const uint64_t inode : claims.open_inodes) hello->add_open_inodes(inode);
    observer_->AddLockClaims(hello);
    for (const proto::KeptCommand& kept : kept_) *hello->add_kept() = kept;
  }
  const int64_t sent_ns =
      clock_->NowNanos();  // before the write: the lease must not end later here than there
  proto::MasterMessage answer;
  if (!stream->Write(message) || !stream->Read(&answer)) {
    return Status(StatusCode::kCancelled, "the stream ended instead of an answer to hello");
  }
  if (!answer.has_hello_reply()) {
    stream->Cancel();
    return Status(StatusCode::kMalformed, "master " + address + ": answered hello with something else");
  }
  const proto::HelloReply& reply = answer.hello_reply();
  const Status status = FromProto(reply.status());
  if (status.code() == StatusCode::kSessionUnknown) {
    stream->Cancel();
    CAIRN_LOG(Warning, "the master does not know this session any more: {}", status.message());
    bool restarted = false;
    {
      std::lock_guard lock(mu_);
      restarted = incarnation_ != reply.incarnation();
    }
    if (restarted && !kept_.empty()) {
      CAIRN_LOG(Error, "{} changes were not on the master's disk and may be lost; the next sync fails", kept_.size());
      lost_commands_.fetch_add(static_cast<uint32_t>(kept_.size()));
      kept_.clear();
      kept_bytes_ = 0;
    }
    FailForLostSession();
    observer_->OnSessionLost();
    return Status::Ok();  // next attempt at once, with a new session
  }
  if (!status.ok()) {
    stream->Cancel();
    return status.WithContext("master " + address);
  }
  observer_->OnServers(reply.servers());
  bool restarted = false;
  {
    std::lock_guard lock(mu_);
    restarted = incarnation_ != 0 && incarnation_ != reply.incarnation();
  }
  const bool lost_tail = restarted && answer.durable_index() < newest_index_.load(std::memory_order_relaxed);
  if (restarted) {
    newest_index_.store(answer.durable_index(), std::memory_order_relaxed);
    durable_index_.store(answer.durable_index(), std::memory_order_relaxed);
    kept_.clear();  // in its log, and on disk
    kept_bytes_ = 0;
  }
  if (reply.lost_commands() > 0) {
    CAIRN_LOG(Error, "the master lost power, and {} changes of this client with it; the next sync fails",
              reply.lost_commands());
    lost_commands_.fetch_add(reply.lost_commands());
  }
  Keep(answer);
  squash_root_.store(reply.squash_root(), std::memory_order_relaxed);
  if (resuming) observer_->OnResumed(reply, restarted, lost_tail);
  Established(stream, reply, sent_ns);
  *established = true;
  return Status::Ok();
}

void Session::Established(const std::shared_ptr<MasterStream>& stream, const proto::HelloReply& reply,
                          int64_t sent_ns) {
  std::lock_guard lock(mu_);
  session_ = reply.session();
  incarnation_ = reply.incarnation();
  cluster_id_ = reply.cluster_id();
  if (reply.lease_ms() > 0) lease_ms_ = reply.lease_ms();
  if (reply.write_timeout_ms() > 0) write_timeout_ms_ = reply.write_timeout_ms();
  next_renewal_ = steady_clock::now() + milliseconds(lease_ms_ / 5);
  term_.Start(sent_ns, lease_ms_ * kNanosPerMilli);
  queue_.clear();
  for (const auto& [number, call] : pending_) {
    if (!call->done) queue_.push_back({call->message, call});
  }
  last_error_ = Status::Ok();
  ready_ = stream == stream_;
  changed_.notify_all();
  // The keeper writes what is queued: this thread must read, or both ends could wait for each other to read.
  keeper_wake_.notify_all();
}

void Session::FailForLostSession() {
  std::lock_guard lock(mu_);
  session_ = 0;
  term_.End();
  for (auto it = pending_.begin(); it != pending_.end();) {
    const auto& call = it->second;
    const proto::Request& request = call->message->request();
    const bool keep = !call->done && (IsRead(request) || (!call->written && !NeedsLease(request)));
    if (keep) {
      ++it;
      continue;
    }
    if (!call->done) {
      call->failure =
          NeedsLease(request)
              ? Status(StatusCode::kLeaseLost, "the session with the master was lost, and with it the lease")
              : Status(StatusCode::kMayHaveCommitted,
                       "the session with the master was lost before the operation was answered; it may have "
                       "been carried out");
      call->done = true;
      call->done_cv.notify_all();
    }
    it = pending_.erase(it);
  }
  changed_.notify_all();
}

void Session::Keep(proto::MasterMessage& message) {
  for (proto::KeptCommand& kept : *message.mutable_kept()) {
    kept_bytes_ += kept.command().size();
    kept_.push_back(std::move(kept));
  }
  while (!kept_.empty() && kept_.front().log_index() <= message.durable_index()) {
    kept_bytes_ -= kept_.front().command().size();
    kept_.pop_front();
  }
  if (kept_bytes_ <= kMaxKeptBytes) return;
  // The master's disk stands still. What is dropped here is lost only if its power fails, too.
  CAIRN_LOG(Warning, "the master's log is {} commands ahead of its disk; the oldest are not kept any more",
            kept_.size());
  for (; kept_bytes_ > kMaxKeptBytes / 2; kept_.pop_front()) kept_bytes_ -= kept_.front().command().size();
}

void Session::HandleMessage(proto::MasterMessage& message) {
  Keep(message);
  if (message.durable_index() > durable_index_.load(std::memory_order_relaxed)) {
    durable_index_.store(message.durable_index(), std::memory_order_relaxed);
  }
  switch (message.kind_case()) {
    case proto::MasterMessage::kReply:
      HandleReply(*message.mutable_reply());
      break;
    case proto::MasterMessage::kRenewReply:
      HandleRenewed(message.renew_reply());
      break;
    case proto::MasterMessage::kRecall:
      observer_->OnRecall(message.recall());
      break;
    case proto::MasterMessage::kNotice:
      if (message.notice().has_reconfigured()) observer_->OnReconfigured(message.notice().reconfigured());
      if (message.notice().has_accessed()) observer_->OnAccessed(message.notice().accessed());
      observer_->OnLockNotice(message.notice());
      if (message.notice().has_servers()) observer_->OnServers(message.notice().servers().servers());
      break;
    case proto::MasterMessage::kHelloReply:
    case proto::MasterMessage::KIND_NOT_SET:
      break;  // a newer master says something that this client does not know
  }
}

void Session::HandleReply(proto::Reply& reply) {
  std::shared_ptr<Pending> call;
  bool wanted = false;
  {
    std::lock_guard lock(mu_);
    const auto it = pending_.find(reply.number());
    if (it == pending_.end() || it->second->done) return;  // a repeat that was sent twice
    call = it->second;
    call->applying = true;
    wanted = !call->abandoned;
  }
  if (reply.log_index() > newest_index_.load(std::memory_order_relaxed)) {
    newest_index_.store(reply.log_index(), std::memory_order_relaxed);
  }
  observer_->OnReply(call->message->request(), reply);
  if (wanted && call->on_reply && reply.status().code() == 0) call->on_reply(reply);
  std::lock_guard lock(mu_);
  pending_.erase(reply.number());
  call->reply.Swap(&reply);
  call->done = true;
  call->done_cv.notify_all();
  if (pending_.size() + 1 == options_.max_outstanding) changed_.notify_all();
}

void Session::HandleRenewed(const proto::RenewReply& reply) {
  if (reply.servers_size() > 0) observer_->OnServers(reply.servers());
  std::lock_guard lock(mu_);
  if (!term_.Renewed(reply.number(), clock_->NowNanos())) return;
  oldest_renewal_ = steady_clock::now();
  changed_.notify_all();
}

void Session::EnqueueRenew(SteadyTime now) {
  auto message = std::make_shared<proto::ClientMessage>();
  if (!term_.waiting()) oldest_renewal_ = now;
  message->mutable_renew()->set_number(term_.Sent(clock_->NowNanos()));
  queue_.push_back({std::move(message), nullptr});
  next_renewal_ = now + milliseconds(lease_ms_ / 5);
  renew_now_ = false;
}

void Session::KeeperMain() {
  std::unique_lock lock(mu_);
  while (!stopping_) {
    const auto now = steady_clock::now();
    if (ready_) {
      if (now >= next_renewal_ || (renew_now_ && !term_.waiting())) EnqueueRenew(now);
      if (!queue_.empty()) Drain(lock);
      // A master that answers nothing for 40 % of a lease is given up while there is time to find another
      // one.
      if (ready_ && term_.waiting() && now - oldest_renewal_ > milliseconds(lease_ms_ * 2 / 5)) {
        last_error_ = Status(StatusCode::kUnavailable, "the master does not answer renewals");
        if (stream_) stream_->Cancel();
      }
    } else if (stream_ && now - stream_since_ > milliseconds(options_.connect_timeout_ms)) {
      stream_->Cancel();  // connected, but hello is not answered
    }
    if (stopping_) break;
    const auto next = ready_ ? std::min(next_renewal_, now + milliseconds(250)) : now + milliseconds(100);
    keeper_wake_.wait_until(lock, next);
  }
}

}  // namespace cairn::client
