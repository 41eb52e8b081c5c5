#include "common/net/control_connection.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace cairn::net {
namespace {

constexpr int64_t kEndGraceNanos = 2 * kNanosPerSecond;

}  // namespace

std::vector<std::byte> EncodeControlEnd(const Status& status) {
  const auto code = static_cast<uint16_t>(status.code());
  std::vector<std::byte> bytes(2 + status.message().size());
  bytes[0] = static_cast<std::byte>(code & 0xff);
  bytes[1] = static_cast<std::byte>(code >> 8);
  std::memcpy(bytes.data() + 2, status.message().data(), status.message().size());
  return bytes;
}

Status DecodeControlEnd(std::span<const std::byte> bytes) {
  if (bytes.size() < 2) return Status(StatusCode::kMalformed, "the end of a stream without a reason");
  const uint32_t code = std::to_integer<uint32_t>(bytes[0]) | std::to_integer<uint32_t>(bytes[1]) << 8;
  if (code == 0) return Status::Ok();
  return Status(IsKnownStatusCode(code) ? static_cast<StatusCode>(code) : StatusCode::kIoError,
                std::string(reinterpret_cast<const char*>(bytes.data()) + 2, bytes.size() - 2));
}

ControlConnection::ControlConnection(EventLoop* loop, const Limits& limits, Handler handler,
                                     std::shared_ptr<void> slot)
    : loop_(loop),
      limits_(limits),
      handler_(std::move(handler)),
      slot_(std::move(slot)),
      opened_ns_(loop->clock()->NowNanos()) {}

std::shared_ptr<ControlConnection> ControlConnection::Start(EventLoop* loop, Socket socket, std::string peer,
                                                            BufferPool* pool, const Limits& limits,
                                                            Handler handler, std::shared_ptr<void> slot) {
  auto self = std::make_shared<ControlConnection>(loop, limits, std::move(handler), std::move(slot));
  self->connection_ =
      FrameConnection::Start(loop, std::move(socket), std::move(peer), {.max_data_bytes = 0}, pool, self);
  return self;
}

void ControlConnection::Send(std::vector<std::byte> message) {
  if (connection_ == nullptr || ending_) return;
  if (connection_->queued_bytes() + message.size() > limits_.max_queued_bytes) {
    return End(Status(StatusCode::kResourceExhausted, "the peer does not read its messages"));
  }
  const SharedBytes all = SharedBytes::Own(std::move(message));
  size_t at = 0;
  for (; all.size() - at > kControlPartBytes; at += kControlPartBytes) {
    connection_->Send(static_cast<uint8_t>(ControlFrame::kPart), 0,
                      {all.bytes.subspan(at, kControlPartBytes), all.owner}, {});
  }
  connection_->Send(static_cast<uint8_t>(ControlFrame::kMessage), 0, {all.bytes.subspan(at), all.owner}, {});
}

void ControlConnection::End(const Status& status) {
  if (connection_ == nullptr || std::exchange(ending_, true)) return;
  connection_->Send(static_cast<uint8_t>(ControlFrame::kEnd), 0, SharedBytes::Own(EncodeControlEnd(status)),
                    {});
  // Closing now would throw away what the peer has not read yet, as soon as it sends anything more.
  loop_->AddTimer(loop_->clock()->NowNanos() + kEndGraceNanos, [weak = weak_from_this(), status] {
    if (const auto self = weak.lock()) self->Close(status);
  });
}

void ControlConnection::Consumed() {
  if (!unconsumed_.empty()) {
    unconsumed_bytes_ -= unconsumed_.front();
    unconsumed_.pop_front();
  }
  if (connection_ != nullptr && connection_->reading_paused() && unconsumed_.size() <= limits_.window / 2 &&
      unconsumed_bytes_ <= limits_.window_bytes / 2) {
    connection_->ResumeReading();
  }
}

std::string ControlConnection::Overdue(int64_t now_ns) const {
  if (connection_ == nullptr || ending_) return {};
  // A long first message over a slow line goes on; one that stops, or never begins, keeps no place.
  const int64_t quiet_ns = now_ns - std::max(opened_ns_, connection_->last_received_ns());
  if (!heard_ && quiet_ns > limits_.first_message_timeout_ns) return "nothing was said";
  const bool half = !parts_.empty() || connection_->in_the_middle_of_a_frame();
  if (half && !connection_->reading_paused() && now_ns - connection_->last_received_ns() > limits_.half_message_timeout_ns)
    return "half a message came and nothing more";
  return {};
}

void ControlConnection::AddPart(std::span<const std::byte> part) {
  parts_.insert(parts_.end(), part.begin(), part.end());
  if (limits_.unfinished != nullptr) limits_.unfinished->used_bytes += part.size();
}

void ControlConnection::DropParts() {
  if (limits_.unfinished != nullptr) limits_.unfinished->used_bytes -= parts_.size();
  parts_.clear();
}

void ControlConnection::Close(const Status& why) {
  if (connection_ != nullptr) connection_->Close(why);
}

void ControlConnection::OnFrame(FrameConnection& connection, Frame frame) {
  if (ending_) return;
  const bool first = !std::exchange(started_, true);
  switch (static_cast<ControlFrame>(frame.header.type)) {
    case ControlFrame::kPart:
      if (parts_.size() + frame.meta.size() > limits_.max_message_bytes) {
        return End(Status(StatusCode::kResourceExhausted, "a message has more than the " +
                                                              std::to_string(limits_.max_message_bytes >> 20) + " MiB possible"));
      }
      if (limits_.unfinished != nullptr &&
          limits_.unfinished->used_bytes + frame.meta.size() > limits_.unfinished->limit_bytes) {
        return End(Status(StatusCode::kResourceExhausted, "connections of this host hold " +
                                                              std::to_string(limits_.unfinished->used_bytes >> 20) +
                                                              " MiB of messages without an end, which is the limit"));
      }
      return AddPart(frame.meta);
    case ControlFrame::kMessage: {
      heard_ = true;
      const size_t bytes = parts_.size() + frame.meta.size();
      unconsumed_.push_back(bytes);
      unconsumed_bytes_ += bytes;
      if (unconsumed_.size() >= limits_.window || unconsumed_bytes_ >= limits_.window_bytes) connection.PauseReading();
      if (parts_.empty()) return handler_.message(frame.meta);
      AddPart(frame.meta);
      const std::vector<std::byte> whole(parts_.begin(), parts_.end());
      DropParts();
      parts_.shrink_to_fit();
      return handler_.message(whole);
    }
    case ControlFrame::kChunkserver:
      if (!first || !handler_.chunkserver) {
        return End(Status(StatusCode::kMalformed, "no control stream of a chunkserver is expected here"));
      }
      return handler_.chunkserver(shared_from_this());
    case ControlFrame::kEnd:
      break;  // the peer wants nothing more
    default:
      return End(
          Status(StatusCode::kMalformed, "unknown type of message " + std::to_string(frame.header.type)));
  }
  End(Status::Ok());
}

void ControlConnection::OnClosed(FrameConnection&, const Status&) {
  const auto self = shared_from_this();
  connection_.reset();
  slot_.reset();
  DropParts();
  const Handler handler = std::exchange(handler_, {});
  if (handler.closed) handler.closed();
}

}  // namespace cairn::net
