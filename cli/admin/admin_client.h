// AdminService as plain calls that return Result. The only file of the CLI that knows gRPC is
// admin_client.cc. Thread-safety: any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "common/status.h"
#include "proto/cairn/admin.pb.h"

namespace cairn::cli {

struct Context;

class AdminClient {
 public:
  // No connection is made before the first call. `masters` are tried in turn.
  explicit AdminClient(const std::vector<std::string>& masters);
  // For commands that change something. When the master asks for the administrator's token, it is looked for (cli/core/config.h) and
  // shown; what nobody asks for is shown to nobody. The context must live longer.
  AdminClient(const Context& context, const std::vector<std::string>& masters);
  ~AdminClient();
  AdminClient(const AdminClient&) = delete;
  AdminClient& operator=(const AdminClient&) = delete;

  // kUnavailable: nobody answers there; kTimeout: no answer within timeout_ms. Errors that the master puts
  // into the response's own status are returned as errors too.
  Result<proto::StatusResponse> ClusterStatus(int64_t timeout_ms = 5'000);
  Result<proto::ExplainChunkResponse> ExplainChunk(const proto::ExplainChunkRequest& request);
  Result<proto::FsckResponse> Fsck(const proto::FsckRequest& request);
  Result<proto::AcceptLossResponse> AcceptLoss(const proto::AcceptLossRequest& request);
  Result<proto::BackupResponse> Backup(const proto::BackupRequest& request);
  Result<proto::SessionsResponse> Sessions(const proto::SessionsRequest& request);
  Result<proto::LocksResponse> Locks(const proto::LocksRequest& request);
  Result<proto::BreakLocksResponse> BreakLocks(const proto::BreakLocksRequest& request);
  // A refusal is no error here: the response says why.
  Result<proto::ChangeServerResponse> ChangeServer(const proto::ChangeServerRequest& request);
  Result<proto::SetServerResponse> SetServer(const proto::SetServerRequest& request);
  // A refusal is no error here, either.
  Result<proto::ChangeDiskResponse> ChangeDisk(const proto::ChangeDiskRequest& request);
  Result<proto::LogLevelResponse> LogLevel(const proto::LogLevelRequest& request);
  Result<proto::ServerChunksResponse> ServerChunks(const proto::ServerChunksRequest& request);
  Result<proto::WhatIfResponse> WhatIf(const proto::WhatIfRequest& request);
  Result<proto::EventsResponse> Events(const proto::EventsRequest& request);
  Result<proto::RebalanceResponse> Rebalance(const proto::RebalanceRequest& request);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace cairn::cli
