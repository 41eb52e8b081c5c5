#include "chunkserver/data_session.h"

#include <string>
#include <utility>

#include "common/log.h"

namespace cairn::chunkserver {
namespace {

using net::Frame;
using net::FrameConnection;
using net::SharedBytes;
using wire::MessageType;

constexpr int64_t kSlowNanos = kNanosPerSecond;

}  // namespace

DataSession::DataSession(net::EventLoop* loop, const RequestHandler* handler, WorkerPool* readers, Stager* stager,
                         std::shared_ptr<StagingBudget> staging, SessionLimits limits, std::shared_ptr<void> slot,
                         std::function<void(FrameConnection&)> closed)
    : loop_(loop),
      handler_(handler),
      readers_(readers),
      stager_(stager),
      limits_(limits),
      started_ns_(loop->clock()->NowNanos()),
      slot_(std::move(slot)),
      closed_(std::move(closed)),
      staged_(std::move(staging), limits.staging) {}

DataSession::~DataSession() = default;

void DataSession::OnFrame(FrameConnection& connection, Frame frame) {
  frame_began_ns_ = loop_->clock()->NowNanos();
  const Status status = Handle(connection, frame);
  if (!status.ok()) {
    connection.Close(status);
    return;
  }
  UpdateReading(connection);
}

Status DataSession::Handle(FrameConnection& connection, const Frame& frame) {
  const auto type = static_cast<MessageType>(frame.header.type);
  if (!greeted_ && type != MessageType::kHello) {
    return Status(StatusCode::kMalformed, "the first message is not a greeting");
  }
  if (type != MessageType::kMutate && !frame.data.empty()) {
    return Status(StatusCode::kMalformed, "data came with a message that takes none");
  }
  switch (type) {
    case MessageType::kHello:
      return Greet(connection, frame);
    case MessageType::kMutate: {
      CAIRN_ASSIGN_OR_RETURN(const wire::MutateRequest request, wire::DecodeMutateRequest(frame.meta));
      const wire::MutateReply reply = handler_->Mutate(request, frame.data.bytes);
      LogMutation(request, frame.header.request_id, reply);
      Send(connection, frame, wire::Encode(reply));
      return Status::Ok();
    }
    case MessageType::kSeal: {
      CAIRN_ASSIGN_OR_RETURN(const wire::SealRequest request, wire::DecodeSealRequest(frame.meta));
      Send(connection, frame, wire::Encode(handler_->Seal(request)));
      return Status::Ok();
    }
    case MessageType::kBegin: {
      CAIRN_ASSIGN_OR_RETURN(const wire::BeginRequest request, wire::DecodeBeginRequest(frame.meta));
      Send(connection, frame, wire::Encode(handler_->Begin(request)));
      return Status::Ok();
    }
    case MessageType::kQuery: {
      CAIRN_ASSIGN_OR_RETURN(const wire::QueryRequest request, wire::DecodeQueryRequest(frame.meta));
      Send(connection, frame, wire::Encode(handler_->Query(request)));
      return Status::Ok();
    }
    case MessageType::kRead:
      return Read(connection, frame);
    case MessageType::kExtents:
      return Extents(connection, frame);
    case MessageType::kDigests:
      return Digests(connection, frame);
    case MessageType::kFlush:
      return Flush(connection, frame);
    case MessageType::kStage:
      return Stage(connection, frame);
    case MessageType::kMutateStaged:
      return MutateStaged(connection, frame);
  }
  return Status(StatusCode::kMalformed, "unknown type of message " + std::to_string(frame.header.type));
}

Status DataSession::Greet(FrameConnection& connection, const Frame& frame) {
  CAIRN_ASSIGN_OR_RETURN(const wire::HelloRequest request, wire::DecodeHelloRequest(frame.meta));
  const wire::HelloReply reply = handler_->Hello(request);
  Send(connection, frame, wire::Encode(reply));
  name_ = request.name;
  // The refusal is sent before the connection ends.
  if (!reply.status.ok()) return reply.status;
  greeted_ = true;
  connection.SetLimits(wire::kMaxMetaBytes, wire::kMaxDataBytes);
  CAIRN_LOG(Debug, "data plane: {} connected from {}", name_, connection.peer());
  return Status::Ok();
}

Status DataSession::Read(FrameConnection& connection, const Frame& frame) {
  CAIRN_ASSIGN_OR_RETURN(const wire::ReadRequest request, wire::DecodeReadRequest(frame.meta));
  // What is in memory takes less time than handing it over to another thread and back.
  auto started = handler_->StartRead(request);
  if (auto* answer = std::get_if<ReadAnswer>(&started)) {
    Count(frame.header.type, frame.header.request_id, frame_began_ns_, answer->data.size());
    connection.Send(frame.header.type | wire::kReplyBit, frame.header.request_id,
                    SharedBytes::Own(wire::Encode(answer->reply)), std::move(answer->data));
    return Status::Ok();
  }
  RunInPool(
      connection, frame, request.length + 2 * kBlockBytes,
      [rest = std::get<1>(std::move(started))]() -> Reply {
        ReadAnswer answer = rest();
        return {wire::Encode(answer.reply), std::move(answer.data)};
      },
      [](const Status& status) -> Reply {
        return {wire::Encode(wire::ReadReply{.status = status}), {}};
      });
  return Status::Ok();
}

Status DataSession::Digests(FrameConnection& connection, const Frame& frame) {
  CAIRN_ASSIGN_OR_RETURN(const wire::DigestsRequest request, wire::DecodeDigestsRequest(frame.meta));
  RunInPool(
      connection, frame, request.length / wire::kDigestRangeBytes * sizeof(wire::Digest),
      [handler = handler_, request]() -> Reply {
        return {wire::Encode(handler->Digests(request)), {}};
      },
      [](const Status& status) -> Reply {
        return {wire::Encode(wire::DigestsReply{.status = status}), {}};
      });
  return Status::Ok();
}

Status DataSession::Extents(FrameConnection& connection, const Frame& frame) {
  CAIRN_ASSIGN_OR_RETURN(const wire::ExtentsRequest request, wire::DecodeExtentsRequest(frame.meta));
  RunInPool(
      connection, frame, wire::kMaxExtents * sizeof(wire::DataRange),
      [handler = handler_, request]() -> Reply {
        return {wire::Encode(handler->Extents(request)), {}};
      },
      [](const Status& status) -> Reply {
        return {wire::Encode(wire::ExtentsReply{.status = status}), {}};
      });
  return Status::Ok();
}

Status DataSession::Flush(FrameConnection& connection, const Frame& frame) {
  CAIRN_ASSIGN_OR_RETURN(wire::FlushRequest request, wire::DecodeFlushRequest(frame.meta));
  const size_t answer_bytes = request.chunks.size() * 128;
  ++in_work_;
  answer_bytes_ += answer_bytes;
  handler_->Flush(std::move(request), [self = shared_from_this(), link = connection.shared_from_this(),
                                       type = frame.header.type, id = frame.header.request_id, answer_bytes,
                                       began = frame_began_ns_](const wire::BatchReply& reply) {
    self->loop_->Post([self, link, type, id, answer_bytes, began, meta = wire::Encode(reply)]() mutable {
      self->Finished(*link, type, id, answer_bytes, began, {std::move(meta), {}});
    });
  });
  return Status::Ok();
}

Status DataSession::Stage(FrameConnection& connection, const Frame& frame) {
  CAIRN_ASSIGN_OR_RETURN(wire::StageRequest request, wire::DecodeStageRequest(frame.meta));
  if (const Status room = staged_.Reserve(request.length); !room.ok()) {
    Send(connection, frame, wire::Encode(wire::StageReply{.status = room}));
    return Status::Ok();
  }
  constexpr size_t kAnswerBytes = wire::kMaxTransferBytes / kBlockBytes * sizeof(uint32_t) + 64;
  ++in_work_;
  answer_bytes_ += kAnswerBytes;
  stager_->Stage(request, [self = shared_from_this(), link = connection.shared_from_this(), request,
                           type = frame.header.type, id = frame.header.request_id, began = frame_began_ns_,
                           kAnswerBytes](StagedBytes staged) {
    self->loop_->Post([self, link, request, type, id, began, kAnswerBytes, staged = std::move(staged)]() mutable {
      wire::StageReply reply{.status = std::move(staged.status), .checksums = std::move(staged.checksums)};
      if (reply.status.ok()) {
        reply.token = self->staged_.Keep(request, std::move(staged.data), self->loop_->clock()->NowNanos());
      } else {
        self->staged_.Release(request.length);
      }
      self->Finished(*link, type, id, kAnswerBytes, began, {wire::Encode(reply), {}});
    });
  });
  return Status::Ok();
}

Status DataSession::MutateStaged(FrameConnection& connection, const Frame& frame) {
  CAIRN_ASSIGN_OR_RETURN(const wire::MutateStagedRequest request, wire::DecodeMutateStagedRequest(frame.meta));
  const std::optional<SharedBytes> bytes = staged_.Find(request.token, request.mutate.mutation);
  wire::MutateReply reply;
  if (bytes) {
    reply = handler_->Mutate(request.mutate, bytes->bytes);
    // A writer that has to send something before it again comes back for it.
    if (reply.status.code() != StatusCode::kSequenceGap) staged_.Drop(request.token);
  } else {
    reply.info.chunk = request.mutate.mutation.chunk;
    reply.status = Status(StatusCode::kNotFound, "nothing is staged under token " + std::to_string(request.token) +
                                                     " for this write to chunk " + ToString(reply.info.chunk));
  }
  LogMutation(request.mutate, frame.header.request_id, reply);
  Count(frame.header.type, frame.header.request_id, frame_began_ns_, reply.status.ok() ? bytes->size() : 0);
  connection.Send(frame.header.type | wire::kReplyBit, frame.header.request_id, SharedBytes::Own(wire::Encode(reply)), {});
  return Status::Ok();
}

void DataSession::RunInPool(FrameConnection& connection, const Frame& frame, size_t answer_bytes,
                            std::function<Reply()> work, std::function<Reply(const Status&)> refuse) {
  ++in_work_;
  answer_bytes_ += answer_bytes;
  const uint8_t type = frame.header.type;
  const uint64_t id = frame.header.request_id;
  const bool taken =
      readers_->TrySubmit([self = shared_from_this(), link = connection.shared_from_this(), type, id,
                           answer_bytes, began = frame_began_ns_, work = std::move(work)] {
        auto reply = std::make_shared<Reply>(work());
        self->loop_->Post([self, link, type, id, answer_bytes, began, reply] {
          self->Finished(*link, type, id, answer_bytes, began, std::move(*reply));
        });
      });
  if (!taken) {
    Finished(connection, type, id, answer_bytes, frame_began_ns_,
             refuse(Status(StatusCode::kResourceExhausted, "too many reads are queued at this chunkserver")));
  }
}

void DataSession::Finished(FrameConnection& connection, uint8_t type, uint64_t request_id,
                           size_t answer_bytes, int64_t began_ns, Reply reply) {
  --in_work_;
  answer_bytes_ -= answer_bytes;
  Count(type, request_id, began_ns, reply.data.size());
  if (connection.closed()) return;
  connection.Send(type | wire::kReplyBit, request_id, SharedBytes::Own(std::move(reply.meta)),
                  std::move(reply.data));
  UpdateReading(connection);
}

void DataSession::Count(uint8_t type, uint64_t request_id, int64_t began_ns, uint64_t bytes) const {
  const int64_t took_ns = loop_->clock()->NowNanos() - began_ns;
  const bool named_better = type == static_cast<uint8_t>(MessageType::kMutate) ||
                            type == static_cast<uint8_t>(MessageType::kMutateStaged);  // by LogMutation
  if (took_ns >= kSlowNanos && !named_better) {
    CAIRN_LOG(Info, "slow: client={} id={} type={} bytes={} took_ms={}", name_, request_id, type, bytes,
              took_ns / kNanosPerMilli);
  }
  if (limits_.metrics != nullptr) limits_.metrics->Served(static_cast<MessageType>(type), took_ns, bytes);
}

void DataSession::LogMutation(const wire::MutateRequest& request, uint64_t request_id,
                              const wire::MutateReply& reply) const {
  const int64_t took_ns = loop_->clock()->NowNanos() - frame_began_ns_;
  const bool slow = took_ns >= kSlowNanos;
  if (!slow && !LogEnabled(LogLevel::kDebug)) return;
  // The client that sent it logs the same chunk, epoch and seq (client/data/send_path.cc).
  LogLine(slow ? LogLevel::kInfo : LogLevel::kDebug,
          fmt::format("{}client={} id={} chunk={} epoch={} seq={} mutate offset={} length={} took_ms={} {}",
                      slow ? "slow: " : "", name_, request_id, request.mutation.chunk.value(),
                      request.mutation.epoch.value(), request.mutation.seq, request.mutation.offset,
                      request.mutation.length, took_ns / kNanosPerMilli, reply.status.ToString()));
}

void DataSession::Send(FrameConnection& connection, const Frame& frame, wire::Bytes meta) {
  Count(frame.header.type, frame.header.request_id, frame_began_ns_, frame.data.bytes.size());
  connection.Send(frame.header.type | wire::kReplyBit, frame.header.request_id,
                  SharedBytes::Own(std::move(meta)), {});
}

void DataSession::UpdateReading(FrameConnection& connection) {
  if (connection.closed()) return;
  const size_t bytes = answer_bytes_ + connection.queued_bytes();
  if (!connection.reading_paused()) {
    if (in_work_ >= limits_.max_requests_in_work || bytes >= limits_.max_answer_bytes)
      connection.PauseReading();
  } else if (in_work_ <= limits_.max_requests_in_work / 2 && bytes <= limits_.max_answer_bytes / 2) {
    connection.ResumeReading();
  }
}

void DataSession::OnSendQueueShort(FrameConnection& connection) { UpdateReading(connection); }

void DataSession::OnClosed(FrameConnection& connection, const Status& why) {
  const bool nonsense = why.code() == StatusCode::kMalformed || why.code() == StatusCode::kVersionMismatch ||
                        why.code() == StatusCode::kResourceExhausted ||
                        why.code() == StatusCode::kWrongCluster;
  const std::string who = name_.empty() ? connection.peer() : name_ + " (" + connection.peer() + ")";
  if (nonsense) {
    CAIRN_LOG(Warning, "data plane: disconnected {}: {}", who, why.message());
  } else {
    CAIRN_LOG(Debug, "data plane: connection of {} ended: {}", who, why.message());
  }
  slot_.reset();
  staged_.Close();
  const auto closed = std::move(closed_);
  closed_ = nullptr;
  if (closed) closed(connection);
}

}  // namespace cairn::chunkserver
