// The session's stream over frames: protobuf messages on a blocking socket (common/net/message_socket.h).
#include <vector>

#include "client/session/stream.h"
#include "common/net/message_socket.h"

namespace cairn::client {
namespace {

class FrameStream final : public MasterStream {
 public:
  FrameStream(std::unique_ptr<net::MessageSocket> socket, std::string address)
      : socket_(std::move(socket)), address_(std::move(address)) {}

  bool Write(const proto::ClientMessage& message) override {
    outgoing_.resize(message.ByteSizeLong());
    return message.SerializeToArray(outgoing_.data(), static_cast<int>(outgoing_.size())) &&
           socket_->Write(outgoing_);
  }
  void WritesDone() override { socket_->WritesDone(); }
  bool Read(proto::MasterMessage* message) override {
    const auto bytes = socket_->Read();
    if (!bytes) return false;
    if (message->ParseFromArray(bytes->data(), static_cast<int>(bytes->size()))) return true;
    socket_->Break(Status(StatusCode::kMalformed, "a message does not decode"));
    return false;
  }
  void Cancel() override { socket_->Cancel(); }

  Status Finish() override {
    const Status end = socket_->end();
    const std::string what = "master " + address_ + ": ";
    switch (end.code()) {
      case StatusCode::kOk:
        return Status(StatusCode::kUnavailable, what + "ended the session's stream");
      case StatusCode::kWrongCluster:
      case StatusCode::kVersionMismatch:
        return Status(end.code(), what + end.message());
      default:
        return Status(StatusCode::kUnavailable, what + end.message());
    }
  }

 private:
  const std::unique_ptr<net::MessageSocket> socket_;
  const std::string address_;
  std::vector<std::byte> outgoing_;  // of the writer
};

class FrameConnector final : public MasterConnector {
 public:
  Result<std::unique_ptr<MasterStream>> Open(const std::string& address, int64_t timeout_ms) override {
    auto socket = net::MessageSocket::Connect(address, {.connect_timeout_ms = timeout_ms});
    if (!socket.ok()) return socket.status().WithContext("master " + address);
    return std::unique_ptr<MasterStream>(std::make_unique<FrameStream>(*std::move(socket), address));
  }
};

}  // namespace

std::unique_ptr<MasterConnector> MakeFrameConnector() { return std::make_unique<FrameConnector>(); }

}  // namespace cairn::client
