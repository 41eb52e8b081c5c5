// Answers to administrators, computed on the core thread.
//
// Thread-safety: core thread only; `done` runs there, too.
#pragma once

#include <functional>

#include "master/core/core.h"
#include "master/state/events.h"
#include "proto/cairn/admin.pb.h"

namespace cairn::master {

void FillStatus(Core& core, proto::StatusResponse* response);
proto::Event ToProto(const NumberedEvent& event);
void FillSessions(Core& core, bool with_leases, proto::SessionsResponse* response);
// Servers. The check and the change run on the core thread, the impact is computed beside it
// (cluster/impact.h).
Status CheckServerChange(const Core& core, const proto::ChangeServerRequest& request);
Status ApplyServerChange(Core& core, const proto::ChangeServerRequest& request, const proto::Impact& impact,
                         std::string* outcome);
// Names and places of servers, disks that are drained or gone, log levels (admin_topology.cc).
proto::SetServerResponse SetServer(Core& core, const proto::SetServerRequest& request);
proto::ChangeDiskResponse ChangeDisk(Core& core, const proto::ChangeDiskRequest& request);
proto::LogLevelResponse ChangeLogLevel(Core& core, const proto::LogLevelRequest& request);
// Bytes per second that repair and moves copied while they ran; 0: nothing was copied yet.
uint64_t CopySpeed(Core& core);
// Why chunks are still on the server, a sample of them; then, with the number of chunks filled in, the
// progress.
void ExplainServerChunks(Core& core, const proto::ServerChunksRequest& request,
                         proto::ServerChunksResponse* response);
void FinishServerChunks(Core& core, ServerId id, proto::ServerChunksResponse* response);
// Asks every member what it has, then answers.
void ExplainChunk(Core& core, const proto::ExplainChunkRequest& request,
                  std::function<void(proto::ExplainChunkResponse)> done);
void AcceptLoss(Core& core, const proto::AcceptLossRequest& request,
                std::function<void(proto::AcceptLossResponse)> done);

// Attributes, policy and a page of a directory out of a snapshot; from any thread.
Status BrowseSnapshot(const MetaReader& reader, const proto::BrowseRequest& request, proto::BrowseResponse* response);

}  // namespace cairn::master
