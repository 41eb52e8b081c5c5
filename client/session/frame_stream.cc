// The session's stream over frames (common/net/control_connection.h): one blocking socket. The caller's thread writes its
// request itself and the session's reader thread sits in recv, so that a round trip costs two wake-ups here and nothing else.
#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <vector>

#include "client/session/stream.h"
#include "common/checksum.h"
#include "common/clock.h"
#include "common/net/control_connection.h"
#include "common/net/socket.h"
#include "common/wire/frame.h"

namespace cairn::client {
namespace {

using net::ControlFrame;

constexpr size_t kReceiveBytes = 64u << 10;

class FrameStream final : public MasterStream {
 public:
  FrameStream(net::Socket socket, std::string address) : socket_(std::move(socket)), address_(std::move(address)) {
    received_.resize(kReceiveBytes);
  }

  bool Write(const proto::ClientMessage& message) override {
    outgoing_.resize(message.ByteSizeLong());
    if (!message.SerializeToArray(outgoing_.data(), static_cast<int>(outgoing_.size()))) return false;
    size_t at = 0;
    for (; outgoing_.size() - at > net::kControlPartBytes; at += net::kControlPartBytes) {
      if (!SendFrame(ControlFrame::kPart, std::span(outgoing_).subspan(at, net::kControlPartBytes))) return false;
    }
    return SendFrame(ControlFrame::kMessage, std::span(outgoing_).subspan(at));
  }

  void WritesDone() override { shutdown(socket_.fd(), SHUT_WR); }

  bool Read(proto::MasterMessage* message) override {
    parts_.clear();
    for (;;) {
      wire::FrameHeader header;
      if (!Receive(wire::kHeaderBytes)) return false;
      auto decoded = wire::DecodeHeader(Unparsed().first<wire::kHeaderBytes>());
      if (!decoded.ok()) {
        return Broken(decoded.code() == StatusCode::kVersionMismatch
                          ? decoded.status()
                          : Status(StatusCode::kUnavailable, "what answers there is no Cairn master"));
      }
      header = *decoded;
      begin_ += wire::kHeaderBytes;
      if (header.data_bytes != 0) return Broken(Status(StatusCode::kMalformed, "a message with foreign data"));
      if (!Receive(header.meta_bytes)) return false;
      const std::span<const std::byte> meta = Unparsed().first(header.meta_bytes);
      begin_ += header.meta_bytes;
      if (Crc32c(meta) != header.meta_crc) {
        return Broken(Status(StatusCode::kMalformed, "the checksum of a message does not match"));
      }
      switch (static_cast<ControlFrame>(header.type)) {
        case ControlFrame::kEnd:
          return Broken(net::DecodeControlEnd(meta));
        case ControlFrame::kPart:
          if (parts_.size() + meta.size() > net::kMaxMessageBytes) {
            return Broken(Status(StatusCode::kMalformed, "a message is too long"));
          }
          parts_.insert(parts_.end(), meta.begin(), meta.end());
          continue;
        case ControlFrame::kMessage:
          if (!parts_.empty()) parts_.insert(parts_.end(), meta.begin(), meta.end());
          break;
        default:
          return Broken(Status(StatusCode::kMalformed, "unknown type of message " + std::to_string(header.type)));
      }
      const std::span<const std::byte> whole = parts_.empty() ? meta : std::span<const std::byte>(parts_);
      if (message->ParseFromArray(whole.data(), static_cast<int>(whole.size()))) return true;
      return Broken(Status(StatusCode::kMalformed, "a message does not decode"));
    }
  }

  void Cancel() override { shutdown(socket_.fd(), SHUT_RDWR); }

  Status Finish() override {
    std::lock_guard lock(mu_);
    const std::string what = "master " + address_ + ": ";
    switch (end_.code()) {
      case StatusCode::kOk:
        return Status(StatusCode::kUnavailable, what + "ended the session's stream");
      case StatusCode::kWrongCluster:
      case StatusCode::kVersionMismatch:
        return Status(end_.code(), what + end_.message());
      default:
        return Status(StatusCode::kUnavailable, what + end_.message());
    }
  }

 private:
  std::span<const std::byte> Unparsed() const { return {received_.data() + begin_, end_of_received_ - begin_}; }

  // The first reason stays.
  bool Broken(Status why) {
    std::lock_guard lock(mu_);
    if (!ended_) end_ = std::move(why);
    ended_ = true;
    return false;
  }

  // Until `bytes` of them wait to be parsed.
  bool Receive(size_t bytes) {
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
      if (n < 0) return Broken(Status(StatusCode::kUnavailable, std::string("connection lost: ") + std::strerror(errno)));
      if (n == 0) return Broken(Status(StatusCode::kUnavailable, "the connection was closed"));
      end_of_received_ += static_cast<size_t>(n);
    }
    return true;
  }

  bool SendFrame(ControlFrame type, std::span<const std::byte> bytes) {
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

  const net::Socket socket_;
  const std::string address_;
  std::vector<std::byte> outgoing_;  // of the writer
  // Of the reader. Bytes [begin_, end_of_received_) are not parsed yet.
  std::vector<std::byte> received_;
  size_t begin_ = 0;
  size_t end_of_received_ = 0;
  std::vector<std::byte> parts_;

  std::mutex mu_;
  bool ended_ = false;  // guarded by mu_
  Status end_;          // guarded by mu_
};

// Waits for the connect under way. Empty: connected.
std::string AwaitConnect(const net::Socket& socket, int64_t deadline_ns) {
  for (;;) {
    const int64_t left_ns = deadline_ns - SystemClock::Get()->NowNanos();
    pollfd waiting{.fd = socket.fd(), .events = POLLOUT, .revents = 0};
    const int ready = poll(&waiting, 1, static_cast<int>(std::max<int64_t>(left_ns, 0) / kNanosPerMilli));
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) return "no connection in time";
    const int error = net::ConnectError(socket);
    return error == 0 ? "" : std::strerror(error);
  }
}

class FrameConnector final : public MasterConnector {
 public:
  Result<std::unique_ptr<MasterStream>> Open(const std::string& address, int64_t timeout_ms) override {
    const int64_t deadline_ns = SystemClock::Get()->NowNanos() + timeout_ms * kNanosPerMilli;
    const auto where = net::ParseHostPort(address);
    if (!where.ok()) return Unreachable(address, where.status().message());
    const auto addresses = net::Resolve(*where);
    if (!addresses.ok()) return Unreachable(address, addresses.status().message());
    std::string why;
    for (const net::SocketAddress& to : *addresses) {
      auto socket = net::StartConnect(to, /*buffer_bytes=*/0);
      if (!socket.ok()) {
        why = socket.status().message();
        continue;
      }
      why = AwaitConnect(*socket, deadline_ns);
      if (!why.empty()) continue;
      const Status blocking = net::MakeBlocking(*socket);
      if (!blocking.ok()) return blocking;
      return std::unique_ptr<MasterStream>(std::make_unique<FrameStream>(*std::move(socket), address));
    }
    return Unreachable(address, why);
  }

 private:
  static Status Unreachable(const std::string& address, const std::string& why) {
    return Status(StatusCode::kUnavailable, "master " + address + ": cannot connect: " + why);
  }
};

}  // namespace

std::unique_ptr<MasterConnector> MakeFrameConnector() { return std::make_unique<FrameConnector>(); }

}  // namespace cairn::client
