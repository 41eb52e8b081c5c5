// One bidirectional gRPC stream as a channel of the core: messages read go to the inbox, messages sent are
// queued and written one after another. Included by the adapters only, because of gRPC's headers.
//
// The reactor lives until gRPC says OnDone and deletes itself; the channel may outlive it (the core holds it)
// and then drops what is sent. Reading stops while `window` messages wait for the core, so a peer cannot fill
// the inbox; a peer that does not read its answers loses the stream at a bound of bytes.
//
// Thread-safety: gRPC's threads and the core thread; everything is guarded by mu_.
#pragma once

#include <grpcpp/grpcpp.h>

#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <utility>

#include "common/status.h"

namespace cairn::master {

struct StreamLimits {
  size_t window = 256;                    // messages read and not yet handled
  size_t max_queued_bytes = 64ull << 20;  // of answers waiting to be written
};

inline grpc::Status ToGrpc(const Status& status) {
  if (status.ok()) return grpc::Status::OK;
  grpc::StatusCode code = grpc::StatusCode::UNKNOWN;
  switch (status.code()) {
    case StatusCode::kWrongCluster:
      code = grpc::StatusCode::UNAUTHENTICATED;
      break;
    case StatusCode::kVersionMismatch:
    case StatusCode::kFailedPrecondition:
      code = grpc::StatusCode::FAILED_PRECONDITION;
      break;
    case StatusCode::kAlreadyExists:
      code = grpc::StatusCode::ALREADY_EXISTS;
      break;
    case StatusCode::kInvalidArgument:
    case StatusCode::kMalformed:
      code = grpc::StatusCode::INVALID_ARGUMENT;
      break;
    case StatusCode::kResourceExhausted:
      code = grpc::StatusCode::RESOURCE_EXHAUSTED;
      break;
    case StatusCode::kSessionUnknown:
      code = grpc::StatusCode::NOT_FOUND;
      break;
    case StatusCode::kCancelled:
      code = grpc::StatusCode::CANCELLED;
      break;
    case StatusCode::kUnavailable:
      code = grpc::StatusCode::UNAVAILABLE;
      break;
    default:
      break;
  }
  return grpc::Status(code, status.ToString());
}

template <typename In, typename Out>
class BidiStream;

// Shared between the reactor and the core.
template <typename In, typename Out>
class StreamHandle {
 public:
  void Send(Out message) {
    std::lock_guard lock(mu_);
    if (stream_ != nullptr) stream_->SendLocked(std::move(message));
  }
  void Close(const Status& status) {
    std::lock_guard lock(mu_);
    if (stream_ != nullptr) stream_->CloseLocked(ToGrpc(status));
  }
  void Consumed() {
    std::lock_guard lock(mu_);
    if (stream_ != nullptr) stream_->ConsumedLocked();
  }

 private:
  friend class BidiStream<In, Out>;
  std::mutex mu_;
  BidiStream<In, Out>* stream_ = nullptr;  // guarded by mu_; null once gRPC is done with it
};

template <typename In, typename Out>
class BidiStream final : public grpc::ServerBidiReactor<In, Out> {
 public:
  struct Callbacks {
    std::function<void(std::shared_ptr<In>)> message;
    std::function<void()> closed;  // once, after the last message
  };

  // `count` is incremented by the caller, and decremented when the stream is done.
  static void Start(std::shared_ptr<StreamHandle<In, Out>> handle, const StreamLimits& limits,
                    Callbacks callbacks, BidiStream** reactor) {
    auto* stream = new BidiStream(handle, limits, std::move(callbacks));
    *reactor = stream;
    std::lock_guard lock(handle->mu_);
    handle->stream_ = stream;
    stream->StartReadLocked();
  }

  void OnReadDone(bool ok) override {
    std::shared_ptr<In> message;
    {
      std::lock_guard lock(handle_->mu_);
      reading_ = false;
      if (ok) {
        message = std::move(incoming_);
        ++unconsumed_;
        // Pushed under the lock, so that messages keep their order.
        callbacks_.message(std::move(message));
        if (unconsumed_ < limits_.window) StartReadLocked();
        return;
      }
      ReportClosedLocked();
      CloseLocked(grpc::Status::OK);
    }
  }

  void OnWriteDone(bool ok) override {
    std::lock_guard lock(handle_->mu_);
    writing_ = false;
    queued_bytes_ -= queue_.front().second;
    queue_.pop_front();
    if (!ok) {
      queue_.clear();
      queued_bytes_ = 0;
      ReportClosedLocked();
      CloseLocked(grpc::Status(grpc::StatusCode::UNAVAILABLE, "the stream broke"));
      return;
    }
    ContinueLocked();
  }

  void OnCancel() override {
    std::lock_guard lock(handle_->mu_);
    ReportClosedLocked();
    CloseLocked(grpc::Status::CANCELLED);
  }

  void OnDone() override {
    {
      std::lock_guard lock(handle_->mu_);
      ReportClosedLocked();
      handle_->stream_ = nullptr;
    }
    delete this;
  }

 private:
  friend class StreamHandle<In, Out>;

  BidiStream(std::shared_ptr<StreamHandle<In, Out>> handle, const StreamLimits& limits, Callbacks callbacks)
      : handle_(std::move(handle)), limits_(limits), callbacks_(std::move(callbacks)) {}

  void StartReadLocked() {
    if (finished_ || closing_ || reading_) return;
    reading_ = true;
    incoming_ = std::make_shared<In>();
    this->StartRead(incoming_.get());
  }

  void SendLocked(Out message) {
    if (closing_ || finished_) return;
    const size_t bytes = message.ByteSizeLong();
    if (queued_bytes_ + bytes > limits_.max_queued_bytes) {
      ReportClosedLocked();
      CloseLocked(grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, "the peer does not read its messages"));
      return;
    }
    queued_bytes_ += bytes;
    queue_.emplace_back(std::move(message), bytes);
    ContinueLocked();
  }

  void CloseLocked(grpc::Status status) {
    if (closing_ || finished_) return;
    closing_ = true;
    close_status_ = std::move(status);
    ContinueLocked();
  }

  void ConsumedLocked() {
    if (unconsumed_ > 0) --unconsumed_;
    if (unconsumed_ < limits_.window) StartReadLocked();
  }

  void ContinueLocked() {
    if (writing_ || finished_) return;
    if (!queue_.empty()) {
      writing_ = true;
      this->StartWrite(&queue_.front().first);
    } else if (closing_) {
      finished_ = true;
      this->Finish(close_status_);
    }
  }

  void ReportClosedLocked() {
    if (reported_closed_) return;
    reported_closed_ = true;
    callbacks_.closed();
  }

  const std::shared_ptr<StreamHandle<In, Out>> handle_;
  const StreamLimits limits_;
  const Callbacks callbacks_;
  // Guarded by handle_->mu_.
  std::shared_ptr<In> incoming_;
  std::deque<std::pair<Out, size_t>> queue_;  // the front is being written
  size_t queued_bytes_ = 0;
  size_t unconsumed_ = 0;
  bool reading_ = false;
  bool writing_ = false;
  bool closing_ = false;
  bool finished_ = false;
  bool reported_closed_ = false;
  grpc::Status close_status_;
};

}  // namespace cairn::master
