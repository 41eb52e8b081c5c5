// Between the messages of the control plane and the values of the protocol core. Messages only, no gRPC.
// Thread-safety: pure functions.
#pragma once

#include "chunkserver/disk_set.h"
#include "common/replication/types.h"
#include "proto/cairn/cluster.pb.h"

namespace cairn::chunkserver {

Stamp FromProto(const proto::Stamp& stamp);
void ToProto(Stamp stamp, proto::Stamp* to);
Status FromProto(const proto::StatusProto& status);
void ToProto(const Status& status, proto::StatusProto* to);
void ToProto(const replication::ReplicaInfo& info, proto::ReplicaInfoProto* to);
void ToProto(const DiskStatus& disk, proto::DiskInfo* to);

}  // namespace cairn::chunkserver
