#include "cli/admin/admin_client.h"

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <utility>

#include "cli/core/config.h"
#include "common/admin_token.h"
#include "proto/cairn/admin.grpc.pb.h"

namespace cairn::cli {
namespace {

constexpr int64_t kCallTimeoutMs = 30'000;
constexpr int64_t kLongCallTimeoutMs = 3'600'000;  // backup of a large master

Status FromGrpc(const grpc::Status& status, const std::string& master) {
  const std::string who = "master " + master;
  switch (status.error_code()) {
    case grpc::StatusCode::OK:
      return Status::Ok();
    case grpc::StatusCode::UNAVAILABLE:
      return {StatusCode::kUnavailable, who + " cannot be reached (" + status.error_message() + ")"};
    case grpc::StatusCode::DEADLINE_EXCEEDED:
      return {StatusCode::kTimeout, who + " did not answer in time"};
    case grpc::StatusCode::UNIMPLEMENTED:
      return {StatusCode::kNotSupported,
              who + " does not offer this operation: it is of another version, or no master"};
    case grpc::StatusCode::PERMISSION_DENIED:
    case grpc::StatusCode::UNAUTHENTICATED:
      return {StatusCode::kNotPermitted, who + ": " + status.error_message()};
    default:
      return {StatusCode::kIoError, who + ": " + status.error_message()};
  }
}

Status FromProto(const proto::StatusProto& status) {
  if (status.code() == 0) return Status::Ok();
  const auto code =
      IsKnownStatusCode(status.code()) ? static_cast<StatusCode>(status.code()) : StatusCode::kIoError;
  return {code, status.message()};
}

}  // namespace

struct AdminClient::Impl {
  struct Master {
    std::string address;
    std::unique_ptr<proto::AdminService::Stub> stub;
  };
  std::vector<Master> masters;
  std::vector<std::string> addresses;
  const Context* context = nullptr;  // where the token is looked for; null: it is not

  // The first master that answers. Only unreachable ones are skipped: a change must not be made twice.
  template <typename Request, typename Response, typename Method>
  Result<Response> Call(Method method, const Request& request, int64_t timeout_ms) {
    Status last(StatusCode::kUnavailable, "no master address given");
    for (const Master& master : masters) {
      Response response;
      const auto ask = [&](const std::string& token) {
        grpc::ClientContext call;
        call.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(timeout_ms));
        if (!token.empty()) call.AddMetadata(kAdminTokenMetadata, token);
        return (master.stub.get()->*method)(&call, request, &response);
      };
      grpc::Status answer = ask("");
      // Refused before anything was done. The master knows what needs the token; a list here would have to follow it.
      if (answer.error_code() == grpc::StatusCode::UNAUTHENTICATED && context != nullptr) {
        const auto token = FindAdminToken(*context, addresses);
        if (!token.ok()) return Status(StatusCode::kNotPermitted, FromGrpc(answer, master.address).message() + "; " + token.status().message());
        answer = ask(*token);
      }
      last = FromGrpc(answer, master.address);
      if (last.ok()) return response;
      if (last.code() != StatusCode::kUnavailable) return last;
    }
    return last;
  }

  template <typename Request, typename Response, typename Method>
  Result<Response> CallChecked(Method method, const Request& request, int64_t timeout_ms = kCallTimeoutMs) {
    auto response = Call<Request, Response>(method, request, timeout_ms);
    if (!response.ok()) return response;
    CAIRN_RETURN_IF_ERROR(FromProto(response->status()));
    return response;
  }
};

AdminClient::AdminClient(const std::vector<std::string>& masters) : impl_(std::make_unique<Impl>()) {
  impl_->addresses = masters;
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(64 << 20);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);  // a proxy of the environment is never meant for a cluster
  for (const std::string& address : masters) {
    auto channel = grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
    impl_->masters.push_back({address, proto::AdminService::NewStub(channel)});
  }
}

AdminClient::AdminClient(const Context& context, const std::vector<std::string>& masters) : AdminClient(masters) {
  impl_->context = &context;
}

AdminClient::~AdminClient() = default;

Result<proto::StatusResponse> AdminClient::ClusterStatus(int64_t timeout_ms) {
  return impl_->Call<proto::StatusRequest, proto::StatusResponse>(&proto::AdminService::Stub::Status, {},
                                                                  timeout_ms);
}

Result<proto::ExplainChunkResponse> AdminClient::ExplainChunk(const proto::ExplainChunkRequest& request) {
  return impl_->CallChecked<proto::ExplainChunkRequest, proto::ExplainChunkResponse>(
      &proto::AdminService::Stub::ExplainChunk, request);
}

Result<proto::FsckResponse> AdminClient::Fsck(const proto::FsckRequest& request) {
  return impl_->CallChecked<proto::FsckRequest, proto::FsckResponse>(&proto::AdminService::Stub::Fsck,
                                                                     request);
}

Result<proto::AcceptLossResponse> AdminClient::AcceptLoss(const proto::AcceptLossRequest& request) {
  return impl_->CallChecked<proto::AcceptLossRequest, proto::AcceptLossResponse>(
      &proto::AdminService::Stub::AcceptLoss, request);
}

Result<proto::BackupResponse> AdminClient::Backup(const proto::BackupRequest& request) {
  return impl_->CallChecked<proto::BackupRequest, proto::BackupResponse>(&proto::AdminService::Stub::Backup,
                                                                         request, kLongCallTimeoutMs);
}

Result<proto::ChangeServerResponse> AdminClient::ChangeServer(const proto::ChangeServerRequest& request) {
  auto response = impl_->Call<proto::ChangeServerRequest, proto::ChangeServerResponse>(
      &proto::AdminService::Stub::ChangeServer, request, kCallTimeoutMs);
  if (!response.ok() || response->refusals_size() > 0) return response;
  CAIRN_RETURN_IF_ERROR(FromProto(response->status()));
  return response;
}

Result<proto::SetServerResponse> AdminClient::SetServer(const proto::SetServerRequest& request) {
  return impl_->CallChecked<proto::SetServerRequest, proto::SetServerResponse>(
      &proto::AdminService::Stub::SetServer, request);
}

Result<proto::ChangeDiskResponse> AdminClient::ChangeDisk(const proto::ChangeDiskRequest& request) {
  auto response = impl_->Call<proto::ChangeDiskRequest, proto::ChangeDiskResponse>(
      &proto::AdminService::Stub::ChangeDisk, request, kCallTimeoutMs);
  if (!response.ok() || response->refusals_size() > 0) return response;
  CAIRN_RETURN_IF_ERROR(FromProto(response->status()));
  return response;
}

Result<proto::LogLevelResponse> AdminClient::LogLevel(const proto::LogLevelRequest& request) {
  return impl_->CallChecked<proto::LogLevelRequest, proto::LogLevelResponse>(&proto::AdminService::Stub::LogLevel,
                                                                             request);
}

Result<proto::ServerChunksResponse> AdminClient::ServerChunks(const proto::ServerChunksRequest& request) {
  return impl_->CallChecked<proto::ServerChunksRequest, proto::ServerChunksResponse>(
      &proto::AdminService::Stub::ServerChunks, request);
}

Result<proto::WhatIfResponse> AdminClient::WhatIf(const proto::WhatIfRequest& request) {
  return impl_->CallChecked<proto::WhatIfRequest, proto::WhatIfResponse>(&proto::AdminService::Stub::WhatIf,
                                                                         request);
}

Result<proto::EventsResponse> AdminClient::Events(const proto::EventsRequest& request) {
  return impl_->CallChecked<proto::EventsRequest, proto::EventsResponse>(&proto::AdminService::Stub::Events,
                                                                         request);
}

Result<proto::RebalanceResponse> AdminClient::Rebalance(const proto::RebalanceRequest& request) {
  return impl_->CallChecked<proto::RebalanceRequest, proto::RebalanceResponse>(
      &proto::AdminService::Stub::Rebalance, request);
}

Result<proto::SessionsResponse> AdminClient::Sessions(const proto::SessionsRequest& request) {
  return impl_->Call<proto::SessionsRequest, proto::SessionsResponse>(&proto::AdminService::Stub::Sessions,
                                                                      request, kCallTimeoutMs);
}

Result<proto::LocksResponse> AdminClient::Locks(const proto::LocksRequest& request) {
  return impl_->Call<proto::LocksRequest, proto::LocksResponse>(&proto::AdminService::Stub::Locks, request,
                                                                kCallTimeoutMs);
}

Result<proto::BreakLocksResponse> AdminClient::BreakLocks(const proto::BreakLocksRequest& request) {
  return impl_->CallChecked<proto::BreakLocksRequest, proto::BreakLocksResponse>(
      &proto::AdminService::Stub::BreakLocks, request);
}

}  // namespace cairn::cli
