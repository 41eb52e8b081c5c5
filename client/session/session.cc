#include "client/session/session.h"

#include <algorithm>
#include <utility>

#include "client/interrupt.h"
#include "client/session/convert.h"
#include "common/log.h"

namespace cairn::client {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

std::string OpName(const proto::Request& request) {
  const auto* field = proto::Request::descriptor()->FindFieldByNumber(request.op_case());
  return field == nullptr ? "unknown" : field->name();
}

constexpr auto kPoll = milliseconds(50);  // how soon an interruption is noticed

}  // namespace

Session::Session(SessionOptions options, MasterConnector* connector, SessionObserver* observer,
                 const Clock* clock)
    : options_(std::move(options)), connector_(connector), observer_(observer), clock_(clock) {}

Session::~Session() { Stop(false); }

Status Session::Start() {
  if (options_.masters.empty()) return Status(StatusCode::kInvalidArgument, "no master address was given");
  reader_ = std::thread([this] { ReaderMain(); });
  keeper_ = std::thread([this] { KeeperMain(); });
  const auto deadline = steady_clock::now() + milliseconds(options_.connect_timeout_ms);
  std::unique_lock lock(mu_);
  while (!ready_ && !final_error_ && steady_clock::now() < deadline) {
    changed_.wait_until(lock, std::min(deadline, steady_clock::now() + kPoll));
    if (ThreadInterrupted()) return Status(StatusCode::kInterrupted, "interrupted while connecting");
  }
  if (ready_) return Status::Ok();
  if (!last_error_.ok()) return last_error_;
  return Status(StatusCode::kUnavailable, "master " + options_.masters.front() + ": no answer after " +
                                              std::to_string(options_.connect_timeout_ms) + " ms");
}

void Session::Stop(bool goodbye) {
  std::unique_lock lock(mu_);
  if (goodbye && ready_ && !stopping_) {
    auto message = std::make_shared<proto::ClientMessage>();
    message->mutable_goodbye();
    queue_.push_back({std::move(message), nullptr});
    Drain(lock);
    // The master ends the stream when it has read the goodbye; a broken one is not worth waiting for.
    const auto stream = stream_;
    if (stream && !writing_) {
      stopping_ = true;
      writing_ = true;
      lock.unlock();
      stream->WritesDone();
      lock.lock();
      writing_ = false;
      changed_.wait_for(lock, milliseconds(500), [&] { return !ready_; });
    }
  }
  stopping_ = true;
  if (stream_) stream_->Cancel();
  for (auto& [number, call] : pending_) {
    if (call->done || call->applying) continue;
    call->failure = Status(StatusCode::kCancelled, "the client is shutting down");
    call->done = true;
    call->done_cv.notify_all();
  }
  changed_.notify_all();
  keeper_wake_.notify_all();
  lock.unlock();
  if (reader_.joinable()) reader_.join();
  if (keeper_.joinable()) keeper_.join();
}

Result<proto::Reply> Session::Call(proto::Request request, const CallOptions& options) {
  CAIRN_ASSIGN_OR_RETURN(const Ticket ticket, Begin(std::move(request), options));
  return Wait(ticket);
}

Result<proto::Reply> Session::Wait(const Ticket& ticket) {
  std::unique_lock lock(mu_);
  return Await(lock, ticket.call_, ticket.deadline_);
}

Result<Session::Ticket> Session::Begin(proto::Request request, const CallOptions& options) {
  const int64_t timeout_ms = options.timeout_ms > 0 ? options.timeout_ms : options_.request_timeout_ms;
  const SteadyTime deadline = steady_clock::now() + milliseconds(timeout_ms);
  auto call = std::make_shared<Pending>();
  call->on_reply = options.on_reply;
  call->raw = options.raw;
  call->message = std::make_shared<proto::ClientMessage>();
  call->message->mutable_request()->Swap(&request);

  std::unique_lock lock(mu_);
  while (pending_.size() >= options_.max_outstanding && !stopping_) {
    if (ThreadInterrupted()) return Status(StatusCode::kInterrupted, "interrupted");
    if (steady_clock::now() >= deadline) {
      return Status(StatusCode::kResourceExhausted,
                    std::to_string(options_.max_outstanding) + " requests to the master are unanswered");
    }
    changed_.wait_for(lock, kPoll);
  }
  if (stopping_) return Status(StatusCode::kCancelled, "the client is shutting down");
  requests_.fetch_add(1, std::memory_order_relaxed);
  const uint64_t number = next_number_++;
  // Nothing below the oldest unanswered request can be asked for again.
  const uint64_t acked = pending_.empty() ? number - 1 : pending_.begin()->first - 1;
  call->message->mutable_request()->set_number(number);
  call->message->mutable_request()->set_acked_through(acked);
  pending_.emplace(number, call);
  // The master logs the same numbers when it answers (master/core/request_op.cc).
  CAIRN_LOG(Debug, "session={} request={} op={}", session_, number, OpName(call->message->request()));
  if (ready_) {
    queue_.push_back({call->message, call});
    Drain(lock);
  }
  Ticket ticket;
  ticket.call_ = std::move(call);
  ticket.deadline_ = deadline;
  return ticket;
}

void Session::Post(proto::Request request, bool elsewhere) {
  auto call = std::make_shared<Pending>();
  call->abandoned = true;
  call->message = std::make_shared<proto::ClientMessage>();
  call->message->mutable_request()->Swap(&request);
  std::unique_lock lock(mu_);
  if (stopping_) return;
  if (!call->message->request().has_accessed()) requests_.fetch_add(1, std::memory_order_relaxed);
  const uint64_t number = next_number_++;
  call->message->mutable_request()->set_number(number);
  call->message->mutable_request()->set_acked_through(pending_.empty() ? number - 1
                                                                       : pending_.begin()->first - 1);
  pending_.emplace(number, call);
  if (!ready_) return;
  queue_.push_back({call->message, call});
  if (elsewhere) {
    keeper_wake_.notify_all();
  } else {
    Drain(lock);
  }
}

Result<proto::Reply> Session::Await(std::unique_lock<std::mutex>& lock, const std::shared_ptr<Pending>& call,
                                    SteadyTime deadline) {
  while (!call->done) {
    const auto now = steady_clock::now();
    call->done_cv.wait_until(lock, now < deadline ? std::min(deadline, now + kPoll) : now + kPoll);
    if (call->done || call->applying) continue;
    const bool interrupted = ThreadInterrupted();
    if (!interrupted && steady_clock::now() < deadline) continue;
    call->abandoned = true;
    if (!call->written) {
      const uint64_t number = call->message->request().number();
      pending_.erase(number);
      std::erase_if(queue_, [&](const Outgoing& out) { return out.call == call; });
      changed_.notify_all();
    }
    if (interrupted) return Status(StatusCode::kInterrupted, "interrupted while waiting for the master");
    if (call->written) return Status(StatusCode::kTimeout, "the master did not answer in time");
    return last_error_.ok() ? Status(StatusCode::kUnavailable, "the master cannot be reached") : last_error_;
  }
  if (!call->failure.ok()) return call->failure;
  if (call->reply.status().code() != 0 && !call->raw) return FromProto(call->reply.status());
  return std::move(call->reply);
}

void Session::SendRecallReply(proto::RecallReply reply) {
  auto message = std::make_shared<proto::ClientMessage>();
  message->mutable_recall_reply()->Swap(&reply);
  std::unique_lock lock(mu_);
  if (stopping_ || !ready_) return;
  queue_.push_back({std::move(message), nullptr});
  Drain(lock);
}

void Session::Drain(std::unique_lock<std::mutex>& lock) {
  if (writing_) return;  // that thread takes what was just queued along
  writing_ = true;
  while (ready_ && !queue_.empty()) {
    Outgoing out = std::move(queue_.front());
    queue_.pop_front();
    if (out.call) {
      if (out.call->done) continue;
      out.call->written = true;
    }
    const std::shared_ptr<MasterStream> stream = stream_;
    lock.unlock();
    const bool written = stream->Write(*out.message);
    if (!written) stream->Cancel();
    lock.lock();
    // The reader notices the break and queues everything again; waiting for it here keeps this loop from
    // spinning.
    if (!written && stream == stream_) ready_ = false;
  }
  writing_ = false;
  changed_.notify_all();
}

Status Session::WaitLeasesValid(int64_t timeout_ms) {
  const SteadyTime deadline = steady_clock::now() + milliseconds(timeout_ms);
  std::unique_lock lock(mu_);
  while (!LeasesValid()) {
    if (stopping_) return Status(StatusCode::kCancelled, "the client is shutting down");
    if (ThreadInterrupted())
      return Status(StatusCode::kInterrupted, "interrupted while waiting for the master");
    if (steady_clock::now() >= deadline) {
      return last_error_.ok() ? Status(StatusCode::kUnavailable, "the master does not answer renewals")
                              : last_error_;
    }
    renew_now_ = true;
    keeper_wake_.notify_all();
    changed_.wait_for(lock, kPoll);
  }
  return Status::Ok();
}

std::string Session::cluster_id() const {
  std::lock_guard lock(mu_);
  return cluster_id_;
}

std::string Session::State() const {
  std::lock_guard lock(mu_);
  if (ready_) return "connected";
  if (!last_error_.ok()) return "reconnecting: " + last_error_.message();
  return "connecting";
}

void Session::BreakStream() {
  std::lock_guard lock(mu_);
  if (stream_) stream_->Cancel();
}

}  // namespace cairn::client
