#include "common/net/message_socket.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "common/checksum.h"
#include "common/clock.h"
#include "common/wire/frame.h"

namespace cairn::net {
namespace {

constexpr size_t kReceiveBytes = 64u << 10;
constexpr int64_t kPollMillis = 100;

// Waits for the connect under way. Empty: connected.
std::string AwaitConnect(const Socket& socket, int64_t deadline_ns, const std::function<bool()>& give_up) {
  for (;;) {
    const int64_t left_ms = (deadline_ns - SystemClock::Get()->NowNanos()) / kNanosPerMilli;
    if (left_ms <= 0) return "no connection in time";
    if (give_up && give_up()) return "given up";
    pollfd waiting{.fd = socket.fd(), .events = POLLOUT, .revents = 0};
    const int ready = poll(&waiting, 1, static_cast<int>(give_up ? std::min(left_ms, kPollMillis) : left_ms));
    if (ready == 0 || (ready < 0 && errno == EINTR)) continue;
    if (ready < 0) return std::strerror(errno);
    const int error = ConnectError(socket);
    return error == 0 ? "" : std::strerror(error);
  }
}

Status LimitSilence(const Socket& socket, int64_t silence_ms) {
  timeval limit{.tv_sec = silence_ms / 1000, .tv_usec = (silence_ms % 1000) * 1000};
  for (const int option : {SO_RCVTIMEO, SO_SNDTIMEO}) {
    if (setsockopt(socket.fd(), SOL_SOCKET, option, &limit, sizeof limit) != 0) {
      return Status(StatusCode::kIoError,
                    std::string("limit the time that a socket waits: ") + std::strerror(errno));
    }
  }
  return Status::Ok();
}

}  // namespace

MessageSocket::MessageSocket(Socket socket, int64_t silence_ms)
    : socket_(std::move(socket)), silence_ms_(silence_ms), received_(kReceiveBytes) {}

Result<std::unique_ptr<MessageSocket>> MessageSocket::Connect(const std::string& address,
                                                              const Options& options) {
  const int64_t deadline_ns = SystemClock::Get()->NowNanos() + options.connect_timeout_ms * kNanosPerMilli;
  const auto unreachable = [&](const std::string& why) {
    return Status(StatusCode::kUnavailable, "cannot connect: " + why);
  };
  const auto where = ParseHostPort(address);
  if (!where.ok()) return unreachable(where.status().message());
  const auto addresses = Resolve(*where);
  if (!addresses.ok()) return unreachable(addresses.status().message());
  std::string why;
  for (const SocketAddress& to : *addresses) {
    auto socket = StartConnect(to, /*buffer_bytes=*/0);
    if (!socket.ok()) {
      why = socket.status().message();
      continue;
    }
    why = AwaitConnect(*socket, deadline_ns, options.give_up);
    if (!why.empty()) continue;
    CAIRN_RETURN_IF_ERROR(MakeBlocking(*socket));
    if (options.silence_ms > 0) CAIRN_RETURN_IF_ERROR(LimitSilence(*socket, options.silence_ms));
    auto connected = std::make_unique<MessageSocket>(*std::move(socket), options.silence_ms);
    if (options.chunkserver) connected->SendFrame(ControlFrame::kChunkserver, {});
    return connected;
  }
  return unreachable(why);
}

bool MessageSocket::Write(std::span<const std::byte> message) {
  for (; message.size() > kControlPartBytes; message = message.subspan(kControlPartBytes)) {
    if (!SendFrame(ControlFrame::kPart, message.first(kControlPartBytes))) return false;
  }
  return SendFrame(ControlFrame::kMessage, message);
}

void MessageSocket::WritesDone() { shutdown(socket_.fd(), SHUT_WR); }

void MessageSocket::Cancel() { shutdown(socket_.fd(), SHUT_RDWR); }

Status MessageSocket::end() const {
  std::lock_guard lock(mu_);
  return end_;
}

void MessageSocket::Break(Status why) {
  std::lock_guard lock(mu_);
  if (!ended_) end_ = std::move(why);
  ended_ = true;
}

std::optional<std::span<const std::byte>> MessageSocket::Read() {
  parts_.clear();
  const auto broken = [&](Status why) {
    Break(std::move(why));
    return std::nullopt;
  };
  for (;;) {
    if (!Receive(wire::kHeaderBytes)) return std::nullopt;
    const auto header = wire::DecodeHeader(Unparsed().first<wire::kHeaderBytes>());
    if (!header.ok()) {
      return broken(header.code() == StatusCode::kVersionMismatch
                        ? header.status()
                        : Status(StatusCode::kUnavailable, "what answers there is no Cairn master"));
    }
    begin_ += wire::kHeaderBytes;
    if (header->data_bytes != 0) return broken(Status(StatusCode::kMalformed, "a message with foreign data"));
    if (!Receive(header->meta_bytes)) return std::nullopt;
    const std::span<const std::byte> meta = Unparsed().first(header->meta_bytes);
    begin_ += header->meta_bytes;
    if (Crc32c(meta) != header->meta_crc) {
      return broken(Status(StatusCode::kMalformed, "the checksum of a message does not match"));
    }
    switch (static_cast<ControlFrame>(header->type)) {
      case ControlFrame::kEnd:
        return broken(DecodeControlEnd(meta));
      case ControlFrame::kPart:
        if (parts_.size() + meta.size() > kMaxMessageBytes) {
          return broken(Status(StatusCode::kMalformed, "a message is too long"));
        }
        parts_.insert(parts_.end(), meta.begin(), meta.end());
        continue;
      case ControlFrame::kMessage:
        if (parts_.empty()) return meta;
        parts_.insert(parts_.end(), meta.begin(), meta.end());
        return parts_;
      default:
        return broken(
            Status(StatusCode::kMalformed, "unknown type of message " + std::to_string(header->type)));
    }
  }
}

bool MessageSocket::Receive(size_t bytes) {
  if (begin_ == end_of_received_) begin_ = end_of_received_ = 0;
  if (begin_ + bytes > received_.size()) {
    std::memmove(received_.data(), received_.data() + begin_, end_of_received_ - begin_);
    end_of_received_ -= begin_;
    begin_ = 0;
    if (bytes > received_.size()) received_.resize(bytes);
  }
  while (end_of_received_ - begin_ < bytes) {
    const ssize_t n =
        recv(socket_.fd(), received_.data() + end_of_received_, received_.size() - end_of_received_, 0);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      const bool silent = n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
      Break(Status(StatusCode::kUnavailable, n == 0 ? "the connection was closed"
                                             : silent
                                                 ? "it was silent for " + std::to_string(silence_ms_) + " ms"
                                                 : std::string("connection lost: ") + std::strerror(errno)));
      return false;
    }
    end_of_received_ += static_cast<size_t>(n);
  }
  return true;
}

bool MessageSocket::SendFrame(ControlFrame type, std::span<const std::byte> bytes) {
  wire::FrameHeader header;
  header.type = static_cast<uint8_t>(type);
  header.meta_bytes = static_cast<uint32_t>(bytes.size());
  header.meta_crc = Crc32c(bytes);
  auto head = wire::EncodeHeader(header);
  std::array<iovec, 2> parts{iovec{head.data(), head.size()},
                             iovec{const_cast<std::byte*>(bytes.data()), bytes.size()}};
  msghdr out{};
  out.msg_iov = parts.data();
  out.msg_iovlen = parts.size();
  size_t left = head.size() + bytes.size();
  while (left > 0) {
    ssize_t n = sendmsg(socket_.fd(), &out, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    left -= static_cast<size_t>(n);
    while (n > 0) {  // what is gone
      iovec& first = *out.msg_iov;
      const size_t take = std::min(first.iov_len, static_cast<size_t>(n));
      first.iov_base = static_cast<std::byte*>(first.iov_base) + take;
      first.iov_len -= take;
      n -= static_cast<ssize_t>(take);
      if (first.iov_len == 0 && out.msg_iovlen > 1) {
        ++out.msg_iov;
        --out.msg_iovlen;
      }
    }
  }
  return true;
}

}  // namespace cairn::net
