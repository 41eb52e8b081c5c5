// The only file of the client that sees gRPC's headers.
#include <grpcpp/grpcpp.h>

#include <chrono>

#include "client/session/stream.h"
#include "proto/cairn/session.grpc.pb.h"

namespace cairn::client {
namespace {

class GrpcStream final : public MasterStream {
 public:
  GrpcStream(std::shared_ptr<grpc::Channel> channel, std::string address)
      : address_(std::move(address)), stub_(proto::SessionService::NewStub(std::move(channel))) {
    stream_ = stub_->Session(&context_);
  }

  bool Write(const proto::ClientMessage& message) override { return stream_->Write(message); }
  void WritesDone() override { stream_->WritesDone(); }
  bool Read(proto::MasterMessage* message) override { return stream_->Read(message); }
  void Cancel() override { context_.TryCancel(); }

  Status Finish() override {
    const grpc::Status status = stream_->Finish();
    const std::string what = "master " + address_ + ": ";
    switch (status.error_code()) {
      case grpc::StatusCode::OK:
        return Status(StatusCode::kUnavailable, what + "ended the session's stream");
      case grpc::StatusCode::UNAUTHENTICATED:
        return Status(StatusCode::kWrongCluster, what + status.error_message());
      case grpc::StatusCode::FAILED_PRECONDITION:
        return Status(StatusCode::kVersionMismatch, what + status.error_message());
      case grpc::StatusCode::UNIMPLEMENTED:
        return Status(StatusCode::kUnavailable, what + "speaks gRPC but is no Cairn master");
      default:
        return Status(StatusCode::kUnavailable, what + status.error_message());
    }
  }

 private:
  const std::string address_;
  grpc::ClientContext context_;
  std::unique_ptr<proto::SessionService::Stub> stub_;
  std::unique_ptr<grpc::ClientReaderWriter<proto::ClientMessage, proto::MasterMessage>> stream_;
};

class GrpcConnector final : public MasterConnector {
 public:
  Result<std::unique_ptr<MasterStream>> Open(const std::string& address, int64_t timeout_ms) override {
    grpc::ChannelArguments arguments;
    // A connection of its own: a session must not inherit the reconnect backoff of another one.
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    arguments.SetInt("grpc.http2.bdp_probe", 0);  // measured: the probe costs streams of small messages
    arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 10'000);
    arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 5'000);
    arguments.SetInt(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
    arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
    arguments.SetMaxReceiveMessageSize(64 << 20);
    arguments.SetMaxSendMessageSize(64 << 20);
    auto channel = grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
    const auto deadline = std::chrono::system_clock::now() + std::chrono::milliseconds(timeout_ms);
    // Waiting state by state: the first failed attempt is reported at once instead of being retried inside
    // gRPC.
    while (true) {
      const grpc_connectivity_state state = channel->GetState(true);
      if (state == GRPC_CHANNEL_READY) break;
      if (state == GRPC_CHANNEL_TRANSIENT_FAILURE || state == GRPC_CHANNEL_SHUTDOWN) {
        return Status(StatusCode::kUnavailable, "master " + address +
                                                    ": cannot connect (nothing listens there, or the name "
                                                    "is unknown)");
      }
      if (!channel->WaitForStateChange(state, deadline)) {
        return Status(StatusCode::kUnavailable,
                      "master " + address + ": no connection after " + std::to_string(timeout_ms) + " ms");
      }
    }
    return std::unique_ptr<MasterStream>(std::make_unique<GrpcStream>(std::move(channel), address));
  }
};

}  // namespace

std::unique_ptr<MasterConnector> MakeGrpcConnector() { return std::make_unique<GrpcConnector>(); }

}  // namespace cairn::client
