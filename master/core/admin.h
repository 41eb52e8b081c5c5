// Answers to administrators, computed on the core thread.
//
// Thread-safety: core thread only; `done` runs there, too.
#pragma once

#include <functional>

#include "master/core/core.h"
#include "proto/cairn/admin.pb.h"

namespace cairn::master {

void FillStatus(Core& core, proto::StatusResponse* response);
void FillSessions(Core& core, bool with_leases, proto::SessionsResponse* response);
// Asks every member what it has, then answers.
void ExplainChunk(Core& core, const proto::ExplainChunkRequest& request,
                  std::function<void(proto::ExplainChunkResponse)> done);
void AcceptLoss(Core& core, const proto::AcceptLossRequest& request,
                std::function<void(proto::AcceptLossResponse)> done);

}  // namespace cairn::master
